"""Fig. 1 of Oh et al. 2022, the overview of the method,
drawn to scale from the code's own parts and numbers.
"""

import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch, Rectangle

from s2l_core.config import IGNORE, RunConfig, ScaleTerm
from s2l_core.losses import region_labels
from s2l_core.model import DECODER_CHANNELS
from s2l_core.pseudo_labels import threshold
from s2l_images.learning.forest import fit_random_forest, predict_random_forest
from s2l_paper.data.synthetic import render
from s2l_paper.figures import plotting
from s2l_paper.figures.plotting import BLUE, GREEN, GREY, PINK, RED, UNKNOWN, Picture, styled
from s2l_paper.scribbles.annotators import SimulatedAnnotator

# Every number in the figure is one of its fields.
PAPER_RUN = RunConfig("dsb-fluo", "s2l-r1-r4", profile="paper")
NOTE = (
    "Rendered image, simulated scribbles; predictions of random forests fitted to them: no network"
    " is trained here."
)
SIZE = 128  # side of the example image in pixels
# Channels and 1/resolution of a ResNet-34.
ENCODER_STAGES = ((64, 2), (64, 4), (128, 8), (256, 16), (512, 32))


@styled
def figure1() -> Picture:
    """The method in two stages, after the paper's Fig. 1.

    Image, scribbles, pseudo-labels and region labels are a real example: a rendered image and a
    simulated annotator. Its predictions are those of random forests fitted to these scribbles,
    as no network is trained to draw a figure.
    """
    figure = Picture(figsize=(10, 6.9))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(0, 69), aspect="equal")
    ax.set_axis_off()
    example = _example()
    terms = [r"\mathcal{L}_s", rf"{PAPER_RUN.pseudo_weight}\,\mathcal{{L}}_p"]
    terms += [rf"{scale.weight:g}\,{_term(scale)}" for scale in PAPER_RUN.scales]
    bands = (47, 21, "#F2F2F2", "Warm-up stage", terms[:1]), (1, 45, "#EAF3FA", "Main stage", terms)
    for y, height, colour, text, minimised in bands:
        ax.add_patch(
            FancyBboxPatch(
                (1, y), 98, height, "round,pad=0,rounding_size=1", fc=colour, ec="none", zorder=0
            )
        )
        ax.text(2.2, y + height - 1, text, fontsize=11, weight="bold", va="top")
        ax.text(
            17.5, y + height - 1, f"minimises  ${' + '.join(minimised)}$", fontsize=10, va="top"
        )
    _warm_up(ax, example)
    blocks = _main_stage(ax, example)
    for scale, y in zip(PAPER_RUN.scales, (12.5, 2.5), strict=True):
        _contrast(ax, example, scale, blocks[scale.block], y)
    _region_example(ax, example)
    ax.text(4, 1.5, NOTE, fontsize=6.5, color=GREY)
    return figure


def _example() -> dict[str, np.ndarray]:
    """Image, scribbles, predictions and labels (SIZE, SIZE) that the figure shows."""
    image, truth = render("fluo", SIZE, 15)
    scribbles = SimulatedAnnotator(0, 0.6).draw(truth)
    forests = [fit_random_forest([image], [scribbles], seed=seed, trees=16) for seed in range(4)]
    maps = [predict_random_forest(forest, image) for forest in forests]
    averaged = np.mean(maps, axis=0)
    pseudo = threshold(averaged, 1 - PAPER_RUN.confidence, PAPER_RUN.confidence)
    pseudo[scribbles != IGNORE] = IGNORE
    drawn = plotting.paint(plotting.display(image), scribbles)
    return {
        "image": drawn,
        "scribbles": scribbles,
        "prediction": maps[0],
        "averaged": averaged,
        "pseudo": pseudo,
    }


def _labels_rgb(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) of 0, 1 and IGNORE -> (H, W, 3) uint8."""
    return plotting.paint(np.full((*labels.shape, 3), plotting.rgb(UNKNOWN), np.uint8), labels)


def _regions(example: dict, factor: int, rule: str = "scribble") -> np.ndarray:
    pseudo, scribbles = (torch.from_numpy(example[name])[None] for name in ("pseudo", "scribbles"))
    return region_labels(pseudo, scribbles, factor, rule=rule)[0].numpy()


def _thumb(ax, x: float, y: float, side: float, picture: np.ndarray, text: str = "") -> None:
    ax.imshow(picture, extent=(x, x + side, y, y + side), cmap="gray", vmin=0, vmax=1, zorder=2)
    ax.add_patch(Rectangle((x, y), side, side, fill=False, ec="#444444", lw=0.6, zorder=3))
    ax.text(x + side / 2, y + side + 0.5, text, ha="center", va="bottom")
    ax.set(xlim=(0, 100), ylim=(0, 69))  # imshow moves them


def _arrow(
    ax,
    start,
    end,
    text: str = "",
    *,
    bend: str = "arc3",
    colour: str = "#333333",
    above: float = 0.5,
) -> None:
    props = {
        "arrowstyle": "-|>,head_width=0.2,head_length=0.4",
        "color": colour,
        "lw": 1,
        "connectionstyle": bend,
    }
    ax.annotate("", end, start, arrowprops=props | {"shrinkA": 0, "shrinkB": 0}, zorder=4)
    ax.text(
        (start[0] + end[0]) / 2,
        (start[1] + end[1]) / 2 + above,
        text,
        ha="center",
        va="bottom",
        fontsize=7.5,
    )


def _box(
    ax, x: float, y: float, width: float, height: float, text: str, colour: str, size: float = 10
) -> None:
    style = "round,pad=0,rounding_size=0.6"
    ax.add_patch(
        FancyBboxPatch((x, y), width, height, style, fc="white", ec=colour, lw=1.5, zorder=3)
    )
    ax.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=colour,
        zorder=4,
    )


def _unet(ax, x: float, y: float, height: float, channels: float) -> dict[int, tuple[float, float]]:
    """The network around the line `y`: box heights show resolution (`height`: full),
    widths channels per unit.

    Returns:
        Decoder block -> (middle, lower edge) of its box.
    """
    blocks = [(width, 1 / down, "#B8B8B8", 0) for width, down in ENCODER_STAGES]
    blocks += [(width, 2.0 ** (k - 5), BLUE, k) for k, width in enumerate(DECODER_CHANNELS, 1)]
    places, skips = {}, {}
    for width, share, colour, block in blocks:
        w, h = width / channels, share * height
        ax.add_patch(Rectangle((x, y - h / 2), w, h, fc=colour, ec="white", lw=0.3, zorder=3))
        if block:
            places[block] = (x + w / 2, y - h / 2)
        if not block or share > 1:
            skips[share] = (x + w / 2, y + h / 2)
        elif share in skips:
            ends = skips[share], (x + w / 2, y + h / 2)
            style = {
                "arrowstyle": "-",
                "color": GREY,
                "lw": 0.7,
                "ls": ":",
                "connectionstyle": "arc3,rad=-0.35",
            }
            ax.annotate(
                "", ends[1], ends[0], arrowprops=style | {"shrinkA": 1, "shrinkB": 1}, zorder=2
            )
        x += w + height / 16
    return places


def _warm_up(ax, example: dict) -> None:
    y, side = 51.5, 11
    _thumb(ax, 3, y, side, example["image"], "image $x$, scribbles $s$")
    _unet(ax, 17.5, y + side / 2, 9, 120)
    _thumb(ax, 40.5, y, side, example["prediction"], "prediction $t$")
    _thumb(ax, 63, y, side, example["averaged"], "averaged prediction")
    _thumb(ax, 86, y, side, _labels_rgb(example["pseudo"]), r"pseudo-labels $\hat{y}$")
    _arrow(ax, (14, y + 5.5), (17, y + 5.5))
    _arrow(ax, (36.5, y + 5.5), (40.3, y + 5.5))
    _arrow(
        ax,
        (51.7, y + 5.5),
        (62.8, y + 5.5),
        f"averaged over time:\n{PAPER_RUN.averaging} of the newest",
    )
    high = f"> {PAPER_RUN.confidence}: nucleus\n< {1 - PAPER_RUN.confidence:.1f}: background"
    _arrow(ax, (74.2, y + 5.5), (85.8, y + 5.5), high)
    _box(ax, 24.5, 48, 5, 3, r"$\mathcal{L}_s$", GREEN)
    _arrow(ax, (8.5, y - 0.2), (24.3, 49.5), bend="angle,angleA=-90,angleB=180,rad=3", colour=GREEN)
    _arrow(ax, (46, y - 0.2), (29.7, 49.5), bend="angle,angleA=-90,angleB=0,rad=3", colour=GREEN)


def _main_stage(ax, example: dict) -> dict[int, tuple[float, float]]:
    y, side = 28.5, 11
    _thumb(ax, 3, y, side, example["image"], "image $x$, scribbles $s$")
    places = _unet(ax, 17.5, y + side / 2, 14, 56)
    for block, (x, _) in places.items():
        ax.text(x - 0.2, y - 2.2, block, ha="right", va="top", color=BLUE, fontsize=7.5)
    ax.text(
        17.5,
        y - 2.2,
        "encoder (height: resolution,\nwidth: channels)",
        va="top",
        color=GREY,
        fontsize=7.5,
    )
    ax.text(
        places[1][0] - 1.5, y - 2.2, "decoder block", ha="right", va="top", color=BLUE, fontsize=7.5
    )
    _thumb(ax, 58, y, side, example["prediction"], "prediction $t$")
    _thumb(ax, 86, y, side, _labels_rgb(example["pseudo"]), r"pseudo-labels $\hat{y}$")
    _arrow(ax, (14, y + 5.5), (17, y + 5.5))
    _arrow(ax, (53.5, y + 5.5), (57.8, y + 5.5))
    for dy, name, source, x in ((8, "s", "$s$", 82.5), (3, "p", "", 85.8)):
        _box(ax, 74, y + dy - 1.5, 5, 3, rf"$\mathcal{{L}}_{name}$", GREEN)
        _arrow(ax, (69.2, y + dy), (73.8, y + dy), colour=GREEN)
        _arrow(ax, (x, y + dy), (79.2, y + dy), colour=GREEN)
        ax.text(x + 0.4, y + dy, source, va="center", fontsize=10)
    _arrow(ax, (91.5, 51.3), (91.5, 42))
    _arrow(ax, (63.5, 42), (66.5, 51.3))
    ax.text(65.8, 44.3, "averaging goes on")
    return places


def _contrast(ax, example: dict, scale: ScaleTerm, tap: tuple[float, float], y: float) -> None:
    """One row: tap of a decoder block -> projection head -> embeddings -> contrastive term <-
    region labels.
    """
    middle, colour, d = y + 4, PINK if scale.factor == 1 else RED, scale.factor
    _arrow(ax, tap, (56.8, middle), bend="angle,angleA=-90,angleB=180,rad=3", colour=colour)
    _box(ax, 57, middle - 1.8, 6.5, 3.6, r"head $f_\phi$", colour, 8.5)
    _arrow(ax, (63.5, middle), (65.3, middle), colour=colour)
    for back in (1.0, 0.5, 0):
        corner = (65.5 + back, middle - 2.2 + back)
        ax.add_patch(Rectangle(corner, 4.4, 4.4, fc="white", ec=colour, lw=1, zorder=4 - back))
    ax.text(
        67.7, middle, rf"$z^{{{scale.block}}}$", ha="center", va="center", color=colour, zorder=5
    )
    _arrow(ax, (71, middle), (73.8, middle), colour=colour)
    _box(ax, 74, middle - 1.8, 6.5, 3.6, f"${_term(scale)}$", colour)
    ax.text(
        77.2, middle - 2.2, rf"$\tau$ = {scale.temperature}", ha="center", va="top", fontsize=7.5
    )
    _arrow(ax, (85.8, middle), (80.7, middle), colour=colour)
    _thumb(ax, 86, y, 8, _labels_rgb(_regions(example, d)))
    ax.text(94.4, middle, rf"$\hat{{y}}^{{{d}}}$", va="center")
    if d == 1:
        _arrow(ax, (90, 28.3), (90, y + 8.2))
        ax.text(90.6, 24, "Eq. 5", va="center", fontsize=7.5)
    else:
        _arrow(ax, (96.8, 28.3), (94.2, y + 1), bend="angle,angleA=-90,angleB=180,rad=3")


def _term(scale: ScaleTerm) -> str:
    return rf"R^{{{scale.factor}\times{scale.factor}}}"


def _region_example(ax, example: dict) -> None:
    """Pseudo-labels and scribbles of 4 x 4 regions, and what Eq. 5 makes of them,
    from the example itself.
    """
    regions, side, y = _regions(example, 4), 12.5, 3.5
    windows = np.lib.stride_tricks.sliding_window_view(regions, (4, 4))
    decided = np.lib.stride_tricks.sliding_window_view(
        regions != _regions(example, 4, "unanimous"), (4, 4)
    ).sum((2, 3))
    rarest = np.min([(windows == label).sum((2, 3)) for label in (0, 1, IGNORE)], axis=0)
    row, column = np.unravel_index(np.minimum(rarest, decided).argmax(), rarest.shape)  # all kinds
    pixels = np.s_[4 * row : 4 * row + 16, 4 * column : 4 * column + 16]
    scribbles = example["scribbles"][pixels]
    merged = np.where(scribbles == IGNORE, example["pseudo"][pixels], scribbles)
    _thumb(ax, 4, y, side, _labels_rgb(merged), "pseudo-labels, scribbles ($\\times$)")
    _thumb(
        ax,
        24,
        y,
        side,
        _labels_rgb(regions[row : row + 4, column : column + 4]),
        r"region labels $\hat{y}^4$",
    )
    _arrow(ax, (17, y + side / 2), (23.5, y + side / 2), "Eq. 5")
    for x in (4, 24):
        ticks = np.linspace(0, side, 5)
        ax.hlines(y + ticks, x, x + side, color="white", lw=0.8, zorder=3)
        ax.vlines(x + ticks, y, y + side, color="white", lw=0.8, zorder=3)
    rows, columns = np.nonzero(scribbles != IGNORE)
    pixel = side / 16
    ax.plot(
        4 + (columns + 0.5) * pixel,
        y + side - (rows + 0.5) * pixel,
        "kx",
        ms=2.5,
        mew=0.7,
        zorder=4,
    )
    kinds = (plotting.FOREGROUND, "nucleus"), (plotting.BACKGROUND, "background"), (UNKNOWN, "none")
    for place, (colour, name) in enumerate(kinds):
        ax.add_patch(Rectangle((38, y + 9 - 3 * place), 1.6, 1.6, fc=colour, ec="#444444", lw=0.5))
        ax.text(40.2, y + 9.8 - 3 * place, name, va="center", fontsize=7.5)
    rule = (
        f"a scribble decides, else all pixels must agree ($\\nu_1$ = {PAPER_RUN.nu_low:g}, "
        f"$\\nu_2$ = {PAPER_RUN.nu_high:g})"
    )
    ax.text(4, y + side + 2.8, rf"$\bf{{Eq.\ 5,}}$ {rule}", va="bottom")
