"""The losses of Oh et al. (ISBI 2022), Eq. 1 and 3 to 5, in the paper's order. They know nothing of
models.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.config import IGNORE, S2LError

TILE = 1024  # side of the squares in which pairs are compared: 4 MiB, and 16 times that on a GPU


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
    # masked, not indexed: no wait for the accelerator; before the loss, so that off the labels
    # nothing can be NaN
    logits = logits.float().masked_fill(~labelled, 0.0)
    losses = F.binary_cross_entropy_with_logits(
        logits, (labels == 1).float(), labelled.float(), reduction="none"
    )
    over = (0, 1, 2) if mean == "batch" else (1, 2)
    count = labelled.sum(over)
    per_group = losses.sum(over) / count.clamp(min=1)
    return per_group.sum() / (count > 0).sum().clamp(min=1)


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
    if factor < 1 or factor & (factor - 1) or any(side % factor for side in labels.shape[-2:]):
        raise S2LError(
            f"factor = {factor} for labels of {tuple(labels.shape[-2:])} pixels: expected a power "
            "of two that divides "
            "both sides. Choose another block, or crops whose sides are multiples of 32."
        )
    if not nu_low <= nu_high:
        raise S2LError(
            f"nu_low = {nu_low} and nu_high = {nu_high}: expected nu_low <= nu_high. Change one "
            "of them."
        )

    def share(of: Tensor, label: int) -> Tensor:
        """(B, H, W) -> (B, H / factor, W / factor); exact, as factor^2 is a power of two."""
        same = (of == label).float()
        return F.avg_pool2d(same, factor) if factor > 1 else same  # pooling single pixels is slow

    # The shares decide first ...
    if rule == "unanimous":
        labels = torch.where(scribbles == IGNORE, labels, scribbles)
    background = share(labels, 0) >= 1 - nu_low
    foreground = (share(labels, 1) >= nu_high) & ~background
    ignored = ~(background | foreground)

    # ... and then a scribble, where there is one.
    if rule == "scribble":
        drawn_background = share(scribbles, 0) > 0
        drawn_foreground = share(scribbles, 1) > 0
        drawn = drawn_background | drawn_foreground
        foreground = torch.where(drawn, drawn_foreground, foreground)
        ignored = torch.where(drawn, drawn_background & drawn_foreground, ignored)
    return foreground.to(torch.uint8).masked_fill(ignored, IGNORE)


def sample_regions(
    features: Tensor,
    labels: Tensor,
    max_per_class: int,
    *,
    equalise: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws at most `max_per_class` labelled regions of each class, without replacement (Sec. 3.2,
    D3).

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
            f"Region labels are {found}, embeddings {expected}: use region_labels with the "
            "block's factor."
        )
    # The places of each class, foreground first, and as many of them as may be drawn.
    flat = labels.cpu().flatten()  # (B * h * w,)
    classes = [(flat == label).nonzero().squeeze(1) for label in (1, 0)]
    most = max_per_class
    if equalise:
        most = min(max_per_class, *map(len, classes))

    drawn = []
    for regions in classes:
        order = torch.randperm(len(regions), generator=generator)
        drawn.append(regions[order[:most]])
    y = torch.zeros(sum(map(len, drawn)), dtype=torch.bool)  # (N,)
    y[: len(drawn[0])] = True

    # Only what was drawn is copied from the feature maps.
    chosen = torch.cat(drawn).to(features.device, non_blocking=True)  # (N,)
    image, position = chosen // (height * width), chosen % (height * width)
    return features.flatten(2)[image, :, position], y  # (B, C, h * w) -> (N, C)


def contrastive_loss(
    z: Tensor, y: Tensor, temperature: float, *, target: str = "same", reduction: str = "mean"
) -> Tensor:
    """Mean over pairs of BCE(target, sigmoid(cosine / temperature)): Eq. 4.

    With the embeddings sorted by class, the target is constant in each of the three blocks of
    pairs, and BCE(1, sigmoid(s)) = -log sigmoid(s), BCE(0, sigmoid(s)) = -log sigmoid(-s): only a
    sign is left of it.

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
            f"temperature = {temperature}: expected a number above 0. Change the scale's "
            "temperature."
        )
    y = y.bool()
    with torch.autocast(z.device.type, enabled=False):
        z = _normalise(z if z.dtype == torch.float64 else z.float())  # (N, C)
        foreground = z[y.nonzero().squeeze(1).to(z.device, non_blocking=True)]
        background = z[(~y).nonzero().squeeze(1).to(z.device, non_blocking=True)]
        blocks = (
            (foreground, foreground, True),
            (background, background, target == "same"),
            (foreground, background, target == "or"),
        )

        loss = 0.0 * z.sum()
        for a, b, positive in blocks:
            scale = (1 if positive else -1) / temperature
            total = _PairSum.apply(a, None if a is b else b, scale)
            if reduction == "mean":
                pairs = len(z) ** 2 / (1 if a is b else 2)  # fg-bg pairs count twice, as bg-fg
            elif a is b:
                # without the diagonal, whose cosine is 1
                pairs = len(a) * (len(a) - 1)
                total = total + F.logsigmoid(scale * a.square().sum(1)).sum()
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
    # split, not indexed: its gradient is one concatenation instead of a full-size map an image
    for features, regions in zip(embedding.split(size), labels.cpu().split(size), strict=True):
        z, y = sample_regions(
            features, regions, max_regions, equalise=equalise, generator=generator
        )
        if len(y):
            losses.append(contrastive_loss(z, y, temperature, target=target, reduction=reduction))
    return torch.stack(losses).mean() if losses else 0.0 * embedding.float().sum()


class _PairSum(torch.autograd.Function):
    """Sum of -log sigmoid(u_ij), u_ij = scale * x_i . y_j, over all i and j, in tiles; y = None
    stands for x itself.

    d/du of -log sigmoid(u) is sigmoid(u) - 1: the one sigmoid of a pair serves the value and, while
    its tile is at hand, the gradient, so that no pair is kept for the backward pass. Logarithms,
    the dearest step, are taken of products of `fold` sigmoids, few enough that none underflows: |u|
    <= |scale| for unit vectors. Pairs of x with itself are symmetric: tiles below the diagonal are
    not computed. Memory: one tile and the gradients.
    """

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor | None, scale: float) -> Tensor:
        """x (N, C), y (M, C) or None -> a scalar."""
        own = y is None
        y = x if own else y  # (M, C)
        grad_x = torch.zeros_like(x)  # (N, C)
        grad_y = grad_x if own else torch.zeros_like(y)  # (M, C)

        # One logarithm serves a product of several sigmoids, as many as cannot underflow together.
        # Below u = -80 a float32 sigmoid is 0 and its logarithm infinite: then none are multiplied.
        fold = next((k for k in (8, 4, 2, 1) if k * abs(scale) <= 80), 0)
        side = TILE if x.device.type == "cpu" else 4 * TILE
        memory = x.new_empty(side * side)  # for one tile, used again and again
        scaled, value = scale * x, x.new_zeros(())

        for i in range(0, len(x), side):
            a = x[i : i + side]  # (n, C)
            for j in range(i if own else 0, len(y), side):
                b = y[j : j + side]  # (m, C)
                # A tile above the diagonal stands for its mirror image below it as well.
                mirrored = own and j > i
                times = 2 if mirrored else 1

                # The tile: u_ij, and then its sigmoid, in the same memory.
                tile = memory[: len(a) * len(b)].view(len(a), len(b))  # (n, m)
                torch.mm(scaled[i : i + side], b.T, out=tile)
                if not fold:
                    value -= times * F.logsigmoid(tile).sum()
                tile.sigmoid_()

                # The value: the sum of logarithms, taken of products.
                if fold:
                    factors = math.gcd(fold, tile.numel())
                    products = tile.view(factors, -1).prod(0)  # (n * m / factors,)
                    value -= times * products.log_().sum()

                # The gradient: sigmoid(u_ij) - 1 for each pair, times the other vector of it.
                tile.sub_(1)
                grad_x[i : i + side].addmm_(tile, b)
                if mirrored or not own:
                    grad_y[j : j + side].addmm_(tile.T, a)

        grad_x.mul_(2 * scale if own else scale)
        ctx.save_for_backward(grad_x, None if own else grad_y.mul_(scale))
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        """The gradients of x, of y and of the scale, which has none."""
        # once_differentiable would miss a second derivative with a constant `grad`
        if torch.is_grad_enabled():
            raise RuntimeError(
                "contrastive_loss can be differentiated once: do not ask for create_graph=True."
            )
        grad_x, grad_y = ctx.saved_tensors
        return grad * grad_x, None if grad_y is None else grad * grad_y, None


def _normalise(z: Tensor) -> Tensor:
    """(N, C) -> rows of length 1; a zero row stays zero with a finite gradient, unlike 0 / eps."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / torch.where(length > 1e-12, length, 1.0)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise S2LError(f"{name} = {value!r} is not known. Choose one of: {', '.join(choices)}.")
