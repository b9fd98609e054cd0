"""The losses of Oh et al. (ISBI 2022), Eq. 1 and 3 to 5, in the paper's order.

They know nothing of models: logits, embeddings and labels go in, scalars come out.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Barrier

import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.config import IGNORE, S2LError

TILE = 1024  # pairs are compared in squares of this side, 4 MiB; of four times it on an accelerator


def partial_bce(logits: Tensor, labels: Tensor, mean: str = "batch") -> Tensor:
    """Binary cross-entropy over the labelled pixels only: L_s of Eq. 1 and L_p of Eq. 3.

    Args:
        logits: (B, H, W) one foreground logit a pixel (D6).
        labels: (B, H, W) uint8: 0 background, 1 foreground, IGNORE elsewhere.
        mean: "batch": over all labelled pixels; "image": over each image's, then over the images
            that have any (D19).

    Returns:
        A scalar. Nothing labelled: 0, differentiable. The gradient is exactly zero off the labels.
    """
    _check_choice("label_mean", mean, ("batch", "image"))
    labelled = labels != IGNORE

    # Logits off the labels are masked before the loss, so that nothing there can make it NaN.
    # An index would do too, but an accelerator would have to be waited for.
    logits = logits.float().masked_fill(~labelled, 0.0)
    targets = (labels == 1).float()
    losses = F.binary_cross_entropy_with_logits(
        logits, targets, weight=labelled.float(), reduction="none"
    )  # (B, H, W), zero off the labels

    # The mean of each group of pixels (the batch, or each image), then of the groups with labels.
    axes = (0, 1, 2) if mean == "batch" else (1, 2)
    counts = labelled.sum(axes)  # () or (B,)
    means = losses.sum(axes) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1)


def region_labels(
    labels: Tensor,
    scribbles: Tensor,
    factor: int,
    *,
    nu_low: float = 0.0,
    nu_high: float = 1.0,
    rule: str = "scribble",
) -> Tensor:
    """Labels of the regions of factor x factor pixels that one embedding stands for: Eq. 5.

    With f and b the shares of foreground and background among a region's pixels (IGNORE counts for
    neither), it is background if b >= 1 - nu_low, else foreground if f >= nu_high, else IGNORE.

    Args:
        labels: (B, H, W) uint8 pseudo-labels; all IGNORE to learn from scribbles alone (D5).
        scribbles: (B, H, W) uint8 scribbles.
        factor: delta, pixels per region side: 1, 2, 4, ...
        nu_low: nu_1 of Eq. 5.
        nu_high: nu_2 of Eq. 5.
        rule: "scribble": a scribble decides its region, scribbles of both classes make it IGNORE;
            "unanimous": scribbles only overwrite the labels of their own pixels before the shares
            are taken (D4).

    Returns:
        (B, H / factor, W / factor) uint8.

    Raises:
        S2LError: factor is no power of two or does not divide H and W, or nu_low > nu_high.
    """
    _check_choice("region_rule", rule, ("scribble", "unanimous"))
    if not nu_low <= nu_high:
        raise S2LError(
            f"nu_low = {nu_low} and nu_high = {nu_high}: expected nu_low <= nu_high. "
            "Change one of them."
        )
    height, width = labels.shape[-2:]
    power_of_two = factor >= 1 and factor & (factor - 1) == 0
    if not power_of_two or height % factor or width % factor:
        raise S2LError(
            f"factor = {factor} for labels of {(height, width)} pixels: expected a power of two "
            "that divides both sides. Choose another block, or crops whose sides are multiples "
            "of 32."
        )

    # Eq. 5 on the shares of the two classes; background is asked first.
    if rule == "unanimous":
        labels = torch.where(scribbles == IGNORE, labels, scribbles)
    background = _shares(labels, 0, factor) >= 1 - nu_low  # (B, H/d, W/d)
    foreground = (_shares(labels, 1, factor) >= nu_high) & ~background
    ignored = ~(background | foreground)

    # A scribble overrules what the shares say of its region; two that disagree leave it unlabelled.
    if rule == "scribble":
        drawn_background = _shares(scribbles, 0, factor) > 0
        drawn_foreground = _shares(scribbles, 1, factor) > 0
        drawn = drawn_background | drawn_foreground
        foreground = torch.where(drawn, drawn_foreground, foreground)
        ignored = torch.where(drawn, drawn_background & drawn_foreground, ignored)

    return foreground.to(torch.uint8).masked_fill(ignored, IGNORE)


def _shares(labels: Tensor, label: int, factor: int) -> Tensor:
    """Share of a label among the pixels of each region: (B, H, W) -> (B, H/d, W/d).

    Shares are exact, as d * d is a power of two. Pooling single pixels would only be slow.
    """
    same = (labels == label).float()
    return F.avg_pool2d(same, factor) if factor > 1 else same


def sample_regions(
    features: Tensor,
    labels: Tensor,
    max_per_class: int,
    *,
    equalise: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws at most `max_per_class` labelled regions of each class, without replacement (D3).

    Drawing happens on the CPU, so that any device sees the same regions; with `labels` there
    nothing waits for the accelerator. Only the drawn columns of `features` are copied.

    Args:
        features: (B, C, h, w) embeddings, on any device.
        labels: (B, h, w) uint8 region labels.
        max_per_class: limit for each class.
        equalise: draw as many of one class as of the other, as the authors' code does (D3).
        generator: CPU generator of the draw.

    Returns:
        z (N, C) on the features' device and y (N,) bool on the CPU, foreground first. N = 0 where
        nothing is labelled.
    """
    batch, _, height, width = features.shape
    if labels.shape != (batch, height, width):
        found, expected = tuple(labels.shape), (batch, height, width)
        raise S2LError(
            f"Region labels are {found}, embeddings {expected}: use region_labels with the block's "
            "factor."
        )

    # The numbers of the labelled regions of each class, counted through the batch.
    flat = labels.cpu().flatten()  # (B * h * w,)
    foreground = (flat == 1).nonzero().squeeze(1)
    background = (flat == 0).nonzero().squeeze(1)
    limit = max_per_class
    if equalise:
        limit = min(limit, len(foreground), len(background))

    # Foreground is drawn first; whoever changes this order changes every run.
    drawn_foreground = _draw(foreground, limit, generator)
    drawn_background = _draw(background, limit, generator)
    y = torch.zeros(len(drawn_foreground) + len(drawn_background), dtype=torch.bool)
    y[: len(drawn_foreground)] = True

    # A region's number tells its image, and its place in it.
    drawn = torch.cat([drawn_foreground, drawn_background])
    drawn = drawn.to(features.device, non_blocking=True)
    image, place = drawn // (height * width), drawn % (height * width)
    z = features.flatten(2)[image, :, place]  # (B, C, h * w) -> (N, C)
    return z, y


def _draw(regions: Tensor, limit: int, generator: torch.Generator | None) -> Tensor:
    """At most `limit` of the regions, in random order."""
    return regions[torch.randperm(len(regions), generator=generator)[:limit]]


def contrastive_loss(
    z: Tensor, y: Tensor, temperature: float, *, target: str = "same", reduction: str = "mean"
) -> Tensor:
    """Mean over pairs of BCE(target, sigmoid(cosine / temperature)): Eq. 4.

    With the embeddings sorted by class, pairs form three blocks, in each of which the target is
    the same all over. Since BCE(1, sigmoid(s)) = -log sigmoid(s) and BCE(0, sigmoid(s)) =
    -log sigmoid(-s), nothing but a sign is left of the target.

    Args:
        z: (N, C) embeddings, normalised here; computed in float32 at least. A zero vector stays
            zero.
        y: (N,) bool or 0/1, foreground or not; on the CPU nothing waits for the accelerator.
        temperature: tau > 0.
        target: 1 where the classes are the "same" (Sec. 1), or y_i "and" y_j, or y_i "or" y_j (D1).
        reduction: "mean": over all N^2 ordered pairs, the diagonal included; "balanced": the means
            over fg-fg, bg-bg (both without the diagonal) and fg-bg pairs, added; a part without
            pairs adds nothing (D2).

    Returns:
        A scalar. N = 0: 0, differentiable. It can be differentiated once.
    """
    _check_choice("pair_target", target, ("same", "and", "or"))
    _check_choice("pair_reduction", reduction, ("mean", "balanced"))
    if not temperature > 0:
        raise S2LError(
            f"temperature = {temperature}: expected a number above 0. "
            "Change the scale's temperature."
        )
    threads = torch.get_num_threads() if z.device.type == "cpu" else 1

    def loss(z: Tensor) -> Tensor:
        return _mean_over_pairs(z, y.bool(), temperature, target, reduction, threads)

    return loss(z) if threads == 1 else _InOneThread.apply(z, loss)


def _mean_over_pairs(
    z: Tensor, y: Tensor, temperature: float, target: str, reduction: str, threads: int
) -> Tensor:
    """`contrastive_loss` of checked arguments, with its tiles shared among so many threads."""
    with torch.autocast(z.device.type, enabled=False):
        z = _normalise(z if z.dtype == torch.float64 else z.float())
        foreground = z[y.nonzero().squeeze(1).to(z.device, non_blocking=True)]  # (n, C)
        background = z[(~y).nonzero().squeeze(1).to(z.device, non_blocking=True)]  # (m, C)
        blocks = [  # and whether the target is 1 there
            (foreground, foreground, True),
            (background, background, target == "same"),
            (foreground, background, target == "or"),
        ]

        loss = 0.0 * z.sum()  # differentiable even where no pair is left
        for a, b, positive in blocks:
            own = a is b
            scale = 1 / temperature if positive else -1 / temperature
            total = _PairSum.apply(a, None if own else b, scale, threads)

            # What a block's sum is divided by. Pairs fg-bg stand for bg-fg too: they count twice.
            if reduction == "mean":
                pairs = len(z) ** 2 if own else len(z) ** 2 / 2
            elif own:
                pairs = len(a) * (len(a) - 1)
                diagonal = F.logsigmoid(scale * a.square().sum(1))  # (n,)
                total = total + diagonal.sum()
            else:
                pairs = len(a) * len(b)
            if pairs:
                loss = loss + total / pairs
    return loss


def contrastive_term(
    embedding: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    max_regions: int,
    equalise: bool = False,
    target: str = "same",
    reduction: str = "mean",
    pairs: str = "batch",
    generator: torch.Generator | None = None,
) -> Tensor:
    """One term of Eq. 6 without its weight: samples regions, then compares them.

    Args:
        embedding: (B, C, h, w) of one scale.
        labels: (B, h, w) uint8 from `region_labels`.
        temperature, target, reduction: see `contrastive_loss`.
        max_regions, equalise, generator: see `sample_regions`.
        pairs: "batch": regions of all images are drawn and compared together; "image": each image
            by itself, then the mean over the images that have labelled regions (D18).

    Returns:
        A scalar; 0, differentiable, where no region is labelled.
    """
    _check_choice("pairs", pairs, ("batch", "image"))
    size = len(embedding) if pairs == "batch" else 1
    losses = []
    # Split, not indexed: its gradient is one concatenation instead of a full-size map an image.
    for features, regions in zip(embedding.split(size), labels.cpu().split(size), strict=True):
        z, y = sample_regions(
            features, regions, max_regions, equalise=equalise, generator=generator
        )
        if len(y):
            losses.append(contrastive_loss(z, y, temperature, target=target, reduction=reduction))
    return torch.stack(losses).mean() if losses else 0.0 * embedding.float().sum()


class _PairSum(torch.autograd.Function):
    """Sum of -log sigmoid(u_ij) over all i and j, u_ij = scale * x_i . y_j, tile by tile.

    d/du of -log sigmoid(u) is sigmoid(u) - 1: the one sigmoid of a pair serves the value and, while
    its tile is at hand, the gradient, so that no pair is kept for the backward pass. Where y is x
    itself (other = None), pairs are symmetric: no tile below the diagonal is computed. Memory: a
    tile for each thread, and the gradients.
    """

    @staticmethod
    def forward(ctx, x: Tensor, other: Tensor | None, scale: float, threads: int) -> Tensor:
        # Gradients grow tile by tile, in memory for one tile a thread that is used over and over.
        own = other is None
        y = x if other is None else other  # (m, C)
        grad_x = torch.zeros_like(x)  # (n, C)
        grad_y = grad_x if own else torch.zeros_like(y)  # (m, C)
        side = TILE if x.device.type == "cpu" else 4 * TILE
        spare = [x.new_empty(side * side) for _ in range(threads)]

        @torch.inference_mode()  # which threads do not take over from each other
        def add(i: int, j: int, earlier: Sequence[Future]) -> Tensor:
            """Adds a tile to the gradients, once earlier ones have been added; returns its sum."""
            rows, columns = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
            a, b, memory = x[rows], y[columns], spare.pop()
            tile = memory[: len(a) * len(b)].view(len(a), len(b))  # (side, side), fewer at the end
            torch.mm(scale * a, b.T, out=tile)
            total = _sum_of_log_sigmoids_(tile, scale)
            tile.sub_(1)

            for each in earlier:
                each.result()
            grad_x[rows].addmm_(tile, b)
            mirrored = own and j > i  # stands for its mirror image below the diagonal too
            if mirrored or not own:
                grad_y[columns].addmm_(tile.T, a)
            spare.append(memory)
            return 2 * total if mirrored else total

        # Rows of a gradient get their tiles in the order of a loop over i and j, however many
        # threads there are, and so the same roundings. Begun along diagonals, tiles wait least.
        run = _run if threads == 1 else _workers(threads, os.getpid()).submit
        rows, columns = math.ceil(len(x) / side), math.ceil(len(y) / side)
        places = [(i, j) for i in range(rows) for j in range(i if own else 0, columns)]
        tiles: dict[tuple[int, int], Future] = {}
        for i, j in sorted(places, key=sum):
            earlier = [tiles[place] for place in ((i - 1, j), (i, j - 1)) if place in tiles]
            tiles[i, j] = run(add, i, j, earlier)

        value = x.new_zeros(())
        for place in places:
            value -= tiles[place].result()

        # u = scale * x . y, and on both sides of it stands x where y does not.
        grad_x.mul_(2 * scale if own else scale)
        ctx.save_for_backward(grad_x, None if own else grad_y.mul_(scale))
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        _refuse_second_derivative()
        grad_x, grad_y = ctx.saved_tensors
        return grad * grad_x, None if grad_y is None else grad * grad_y, None, None


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
    """A loss of z whose operations, of value and gradient, take one thread each.

    Threads that share an operation wait for each other at its end. Where other processes keep the
    cores busy, that takes longer than all that is computed between two of the waits.
    """

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
    """Threads whose operations take one thread each; a process that was forked has its own."""
    started = Barrier(count)

    def start(_: int) -> None:
        started.wait()  # so that every thread gets one of these calls
        torch.get_num_threads()  # takes over the process's number now, not after the next line
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count, thread_name_prefix="pairs")
    list(pool.map(start, range(count)))
    return pool


def _run(function: Callable, *arguments) -> Future:
    """Calls the function at once: `submit` where there is one thread."""
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


def _normalise(z: Tensor) -> Tensor:
    """(N, C) -> rows of length 1; a zero row stays zero with a finite gradient, unlike 0 / eps."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)  # (N, 1)
    return z / torch.where(length > 1e-12, length, 1.0)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise S2LError(f"{name} = {value!r} is not known. Choose one of: {', '.join(choices)}.")
