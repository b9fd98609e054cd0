"""The losses of Oh et al. (ISBI 2022), Eq. 1 and 3 to 5, in the paper's order.

They know nothing of models: logits, embeddings and labels go in, scalars come out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from s2l_core.config import IGNORE, S2LError, check_choice
from s2l_core.pair_sums import in_one_thread, pair_sum


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
    check_choice("label_mean", mean, ("batch", "image"))
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
    check_choice("region_rule", rule, ("scribble", "unanimous"))
    _check_regions(labels, factor, nu_low, nu_high)

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


def _check_regions(labels: Tensor, factor: int, nu_low: float, nu_high: float) -> None:
    """Raises an S2LError unless regions of this size fit the labels, and both limits each other."""
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
    check_choice("pair_target", target, ("same", "and", "or"))
    check_choice("pair_reduction", reduction, ("mean", "balanced"))
    if not temperature > 0:
        raise S2LError(
            f"temperature = {temperature}: expected a number above 0. "
            "Change the scale's temperature."
        )
    threads = torch.get_num_threads() if z.device.type == "cpu" else 1

    def loss(z: Tensor) -> Tensor:
        return _mean_over_pairs(z, y.bool(), temperature, target, reduction, threads)

    return loss(z) if threads == 1 else in_one_thread(loss, z)


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
            total = pair_sum(a, None if own else b, scale, threads)

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
    check_choice("pairs", pairs, ("batch", "image"))
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


def _normalise(z: Tensor) -> Tensor:
    """(N, C) -> rows of length 1; a zero row stays zero with a finite gradient, unlike 0 / eps."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)  # (N, 1)
    return z / torch.where(length > 1e-12, length, 1.0)
