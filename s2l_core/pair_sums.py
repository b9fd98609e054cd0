"""Sums over all pairs of embeddings, and their gradients, without the matrix of all pairs.

What is computed. For x (n, C), y (m, C) and a number `scale`, with u_ij = scale * x_i . y_j::

    value           -sum over all i and j of log sigmoid(u_ij)      ()
    gradient of x   scale * G y,    G_ij = sigmoid(u_ij) - 1        (n, m) (m, C) -> (n, C)
    gradient of y   scale * G^T x                                   (m, n) (n, C) -> (m, C)

Where y is x itself, u and G are symmetric, and the gradient of x is twice the one above.

Why in tiles. Eq. 4 compares up to 6000 regions of each class: 12000 x 12000 pairs are 550 MiB, of
which autograd would keep several copies until the backward pass. So u is cut into squares of
`TILE` pairs a side. The value and both gradients need the same sigmoid of a pair and are taken
from a tile while it is at hand; then the next tile takes its memory. In all there is one tile for
each thread, beside the gradients. Of symmetric pairs the tiles below the diagonal are left out.

In which order. Threads compute tiles at the same time, but what these add to the same rows of a
gradient is added in the order of a loop over i and j. Sums are rounded the same way, then, however
many threads there are, and the result is the same to the last bit.

Why each operation takes one thread. Threads that share an operation wait for each other at its
end. Where other processes keep the cores busy, that takes longer than all that is computed between
two of the waits. A thread with a tile of its own waits once a tile.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.threads import on_one_core_each

TILE = 1024  # pairs are compared in squares of this side, 4 MiB; of four times it on an accelerator


def pair_sum(x: Tensor, y: Tensor | None, scale: float, threads: int) -> Tensor:
    """Sum of -log sigmoid(scale * x_i . y_j) over all i and j.

    Args:
        x: (n, C), whose products x_i . y_j lie between -1 and 1.
        y: (m, C); None: x itself, of which half the tiles are computed.
        scale: what the products are multiplied by.
        threads: how many share the tiles.

    Returns:
        A scalar, 0 where there are no pairs. It can be differentiated once.
    """
    return _PairSum.apply(x, y, scale, threads)


def in_one_thread(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """`loss(z)`, a scalar; each operation of its value and of its gradient takes one thread.

    It can be differentiated once.
    """
    return _InOneThread.apply(z, loss)


class _PairSum(torch.autograd.Function):
    """See `pair_sum`. The gradient is computed with the value; no pair is kept for later."""

    @staticmethod
    def forward(ctx, x: Tensor, other: Tensor | None, scale: float, threads: int) -> Tensor:
        tiles = _Tiles(x, other, scale, threads)
        value = tiles.add_all(threads)

        # So far the gradients are G y and G^T x; u has a `scale`, and x on both sides if y is x.
        own = other is None
        grad_x = tiles.grad_x.mul_(2 * scale if own else scale)  # (n, C)
        grad_y = None if own else tiles.grad_y.mul_(scale)  # (m, C)
        ctx.save_for_backward(grad_x, grad_y)
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        _refuse_second_derivative()
        grad_x, grad_y = ctx.saved_tensors
        return grad * grad_x, None if grad_y is None else grad * grad_y, None, None


class _Tiles:
    """All pairs of x and y in tiles, and the gradients that grow tile by tile.

    Attributes:
        grad_x: (n, C), G y of the tiles that were added.
        grad_y: (m, C), G^T x of these; the same tensor as `grad_x` where y is x.
    """

    def __init__(self, x: Tensor, other: Tensor | None, scale: float, threads: int):
        self.own = other is None
        self.x, self.y = x, x if other is None else other  # (n, C), (m, C)
        self.scale = scale
        self.grad_x = torch.zeros_like(self.x)
        self.grad_y = self.grad_x if self.own else torch.zeros_like(self.y)

        # Memory for one tile a thread, used over and over.
        self.side = TILE if x.device.type == "cpu" else 4 * TILE
        self.spare = [x.new_empty(self.side * self.side) for _ in range(threads)]

    def add_all(self, threads: int) -> Tensor:
        """Adds all tiles to the gradients; returns the sum over all pairs, a scalar."""
        rows = math.ceil(len(self.x) / self.side)
        columns = math.ceil(len(self.y) / self.side)
        places = [(i, j) for i in range(rows) for j in range(i if self.own else 0, columns)]

        # A tile waits for the one above it and the one to its left. That orders all that is added
        # to the same rows of a gradient. Begun along diagonals, tiles wait least.
        run = _run if threads == 1 else _workers(threads, os.getpid()).submit
        tiles: dict[tuple[int, int], Future] = {}
        for i, j in sorted(places, key=sum):
            earlier = [tiles[place] for place in ((i - 1, j), (i, j - 1)) if place in tiles]
            tiles[i, j] = run(self.add, i, j, earlier)

        # The sums of the tiles are added in the order of the loop, too.
        value = self.x.new_zeros(())
        for place in places:
            value -= tiles[place].result()
        return value

    @torch.inference_mode()  # which threads do not take over from each other
    def add(self, i: int, j: int, earlier: Sequence[Future]) -> Tensor:
        """Adds tile (i, j) to the gradients, once earlier tiles have been added.

        Returns:
            The sum of log sigmoid(u) over its pairs, and over those of its mirror image where that
            is left out: a scalar.
        """
        # One matrix product gives the tile, in memory of an earlier one: `side` pairs a side, and
        # fewer at the end.
        rows = slice(i * self.side, (i + 1) * self.side)
        columns = slice(j * self.side, (j + 1) * self.side)
        a, b = self.x[rows], self.y[columns]  # (p, C), (q, C)
        memory = self.spare.pop()
        tile = memory[: len(a) * len(b)].view(len(a), len(b))  # (p, q)
        torch.mm(self.scale * a, b.T, out=tile)

        # From u the tile becomes sigmoid(u), and then what the gradients need.
        total = _sum_of_log_sigmoids_(tile, self.scale)
        tile.sub_(1)

        # A tile above the diagonal stands for its mirror image below, which adds to the same rows.
        mirrored = self.own and j > i
        for each in earlier:
            each.result()
        self.grad_x[rows].addmm_(tile, b)  # (p, q) (q, C)
        if mirrored or not self.own:
            self.grad_y[columns].addmm_(tile.T, a)  # (q, p) (p, C)

        self.spare.append(memory)
        return 2 * total if mirrored else total


def _sum_of_log_sigmoids_(tile: Tensor, scale: float) -> Tensor:
    """Sum of log sigmoid(u) over a tile of u, |u| <= |scale|, of which sigmoid(u) is left.

    Logarithms are the dearest step: where no product of k sigmoids can underflow (of unit vectors,
    k * |scale| <= 80), k of them share one. Below u = -80 a float32 sigmoid is 0 and its logarithm
    infinite: there softplus is taken, pair by pair.
    """
    factors = next((k for k in (8, 4, 2, 1) if k * abs(scale) <= 80), 0)
    if factors == 0:
        value = F.logsigmoid(tile).sum()
        tile.sigmoid_()
        return value
    tile.sigmoid_()
    folded = tile.view(math.gcd(factors, tile.numel()), -1)  # (n, m) -> (k, n * m / k)
    return folded.prod(0).log_().sum()


class _InOneThread(torch.autograd.Function):
    """See `in_one_thread`. The graph of the loss is kept, and its gradient computed when asked."""

    @staticmethod
    def forward(ctx, z: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        with _threads(1), torch.enable_grad():
            ctx.z = z.detach().requires_grad_()
            ctx.loss = loss(ctx.z)
        return ctx.loss.detach()

    @staticmethod
    def backward(ctx, grad: Tensor):
        _refuse_second_derivative()
        with _threads(1):
            (grad_z,) = torch.autograd.grad(ctx.loss, ctx.z, grad, retain_graph=True)
        return grad_z, None


def _refuse_second_derivative() -> None:
    """`once_differentiable` would miss one where the incoming gradient is a constant."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "contrastive_loss can be differentiated once: do not ask for create_graph=True."
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for each operation of the calling thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _workers(count: int, process: int) -> ThreadPoolExecutor:
    """The threads that tiles are computed in; a process that was forked has its own."""
    return on_one_core_each(count)


def _run(function: Callable, *arguments) -> Future:
    """Calls the function at once: `submit` where there is one thread."""
    future: Future = Future()
    future.set_result(function(*arguments))
    return future
