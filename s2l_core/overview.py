"""Fig. 1 of Oh et al. 2022, the overview of the method, drawn to scale from the code's own parts and numbers."""

import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch, Rectangle
from scipy import ndimage

from s2l_core.config import IGNORE, R1, R4, RunConfig, ScaleTerm, seed_for
from s2l_core.drawing import BACKGROUND, BLUE, FOREGROUND, GREEN, GREY, ORANGE, RED, UNKNOWN, Picture, display, rgb, styled
from s2l_core.losses import region_labels
from s2l_core.pseudo_labels import threshold
from s2l_core.rivals import fit_random_forest, predict_random_forest
from s2l_core.scribbles import SimulatedAnnotator
from s2l_core.synthetic import render

SIZE = 96  # side of the example image in pixels
ENCODER, DECODER = ((64, 2), (64, 4), (128, 8), (256, 16), (512, 32)), (256, 128, 64, 32, 16)  # channels, 1/resolution


@styled
def figure1() -> Picture:
    """The method in two stages, after the paper's Fig. 1.

    Image, scribbles, pseudo-labels and region labels are a real example: a rendered image and a simulated annotator.
    Its predictions are those of random forests fitted to these scribbles, as no network is trained to draw a figure.
    """
    figure = Picture(figsize=(10, 6.9))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 100), ylim=(0, 69), aspect="equal")
    ax.set_axis_off()
    example = _example()
    for y, height, colour, text in ((47, 21, "#F2F2F2", "Warm-up stage"), (1, 45, "#EAF3FA", "Main stage")):
        ax.add_patch(FancyBboxPatch((1, y), 98, height, "round,pad=0,rounding_size=1", fc=colour, ec="none", zorder=0))
        ax.text(2.2, y + height - 1, text, fontsize=11, weight="bold", va="top")
    _warm_up(ax, example)
    blocks = _main_stage(ax, example)
    for place, (scale, name) in enumerate(((R1, "1"), (R4, "4"))):
        _contrast(ax, example, scale, blocks[scale.block], name, 11.5 - 9.5 * place)
    #_region_example(ax, example)
    return figure


def _example() -> dict[str, np.ndarray]:
    """Image, scribbles, predictions and labels (SIZE, SIZE) that the figure shows."""
    image, truth = render("fluo", SIZE, seed_for(0, "figure 1"))
    scribbles = SimulatedAnnotator(0, 0.6).draw(truth)
    forests = [fit_random_forest([image], [scribbles], seed=seed, trees=16) for seed in range(4)]
    maps = [predict_random_forest(forest, image) for forest in forests]
    confidence = RunConfig("dsb-fluo", "s2l", profile="paper").confidence
    averaged = np.mean(maps, axis=0)
    pseudo = threshold(averaged, 1 - confidence, confidence)
    pseudo[scribbles != IGNORE] = IGNORE
    drawn = display(image)
    drawn[scribbles == 0], drawn[scribbles == 1] = rgb(BACKGROUND), rgb(FOREGROUND)
    return {"image": drawn, "scribbles": scribbles, "prediction": maps[0], "averaged": averaged, "pseudo": pseudo}


def _labels_rgb(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) of 0, 1 and IGNORE -> (H, W, 3) uint8."""
    picture = np.full((*labels.shape, 3), rgb(UNKNOWN), np.uint8)
    picture[labels == 0], picture[labels == 1] = rgb(BACKGROUND), rgb(FOREGROUND)
    return picture


def _regions(example: dict, factor: int) -> np.ndarray:
    pseudo, scribbles = (torch.from_numpy(example[name])[None] for name in ("pseudo", "scribbles"))
    return region_labels(pseudo, scribbles, factor)[0].numpy()


def _thumb(ax, x: float, y: float, side: float, picture: np.ndarray, text: str = "") -> None:
    ax.imshow(picture, extent=(x, x + side, y, y + side), cmap="gray", vmin=0, vmax=1, zorder=2)
    ax.add_patch(Rectangle((x, y), side, side, fill=False, ec="#444444", lw=0.6, zorder=3))
    ax.text(x + side / 2, y + side + 0.5, text, ha="center", va="bottom")
    ax.set(xlim=(0, 100), ylim=(0, 69))  # imshow moves them


def _arrow(ax, start, end, text: str = "", *, bend: str = "arc3", colour: str = "#333333", above: float = 0.5) -> None:
    props = {"arrowstyle": "-|>,head_width=0.2,head_length=0.4", "color": colour, "lw": 1, "connectionstyle": bend}
    ax.annotate("", end, start, arrowprops=props | {"shrinkA": 0, "shrinkB": 0}, zorder=4)
    ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above, text, ha="center", va="bottom", fontsize=7.5)


def _box(ax, x: float, y: float, width: float, height: float, text: str, colour: str, size: float = 10) -> None:
    style = "round,pad=0,rounding_size=0.6"
    ax.add_patch(FancyBboxPatch((x, y), width, height, style, fc="white", ec=colour, lw=1.5, zorder=3))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, color=colour, zorder=4)


def _unet(ax, x: float, y: float, height: float, channels: float) -> dict[int, tuple[float, float]]:
    """The network around the line `y`: box heights show resolution (`height`: full), widths channels per unit.

    Returns:
        Decoder block -> (middle, lower edge) of its box.
    """
    blocks = [(width, 1 / down, "#B8B8B8", 0) for width, down in ENCODER]
    blocks += [(width, 2.0 ** (k - 5), BLUE, k) for k, width in enumerate(DECODER, 1)]
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
            style = {"arrowstyle": "-", "color": GREY, "lw": 0.7, "ls": ":", "connectionstyle": "arc3,rad=-0.35"}
            ax.annotate("", ends[1], ends[0], arrowprops=style | {"shrinkA": 1, "shrinkB": 1}, zorder=2)
        x += w + height / 16
    return places


def _warm_up(ax, example: dict) -> None:
    config = RunConfig("dsb-fluo", "s2l", profile="paper")
    y, side = 51.5, 11
    _thumb(ax, 3, y, side, example["image"], "image $x$, scribbles $s$")
    _unet(ax, 17.5, y + side / 2, 9, 80)
    _thumb(ax, 40.5, y, side, example["prediction"], "prediction $t$")
    _thumb(ax, 63, y, side, example["averaged"], "averaged prediction")
    _thumb(ax, 86, y, side, _labels_rgb(example["pseudo"]), r"pseudo-labels $\hat{y}$")
    _arrow(ax, (14, y + 5.5), (17, y + 5.5))
    _arrow(ax, (36.5, y + 5.5), (40.3, y + 5.5))
    every = config.average_every // (config.warmup_steps // 100)
    _arrow(ax, (51.7, y + 5.5), (62.8, y + 5.5), f"every {every} epochs:\n{config.averaging} of the newest")
    high = f"> {config.confidence}: nucleus\n< {1 - config.confidence:.1f}: background"
    _arrow(ax, (74.2, y + 5.5), (85.8, y + 5.5), high)
    _box(ax, 24.5, 48, 5, 3, r"$\mathcal{L}_s$", GREEN)
    _arrow(ax, (8.5, y - 0.2), (24.3, 49.5), bend="angle,angleA=-90,angleB=180,rad=3", colour=GREEN)
    _arrow(ax, (46, y - 0.2), (29.7, 49.5), bend="angle,angleA=-90,angleB=0,rad=3", colour=GREEN)


def _main_stage(ax, example: dict) -> dict[int, tuple[float, float]]:
    config, y, side = RunConfig("dsb-fluo", "s2l-r1-r4", profile="paper"), 28.5, 11
    terms = [r"\mathcal{L}_s", rf"{config.pseudo_weight}\,\mathcal{{L}}_p"]
    terms += [rf"{scale.weight:g}\,R^{{{scale.factor}\times{scale.factor}}}" for scale in config.scales]
    ax.text(16, 44.9, f"minimises  ${' + '.join(terms)}$", fontsize=10, va="top")
    _thumb(ax, 3, y, side, example["image"], "image $x$, scribbles $s$")
    places = _unet(ax, 17.5, y + side / 2, 13, 60)
    for block, (x, _) in places.items():
        ax.text(x, y - 2.2, block, ha="center", va="top", color=BLUE, fontsize=7.5)
    ax.text(27, y - 2.2, "encoder", ha="center", va="top", color=GREY)
    ax.text(39.5, y - 2.2, "decoder block", ha="right", va="top", color=BLUE, fontsize=7.5)
    _thumb(ax, 58, y, side, example["prediction"], "prediction $t$")
    _thumb(ax, 86, y, side, _labels_rgb(example["pseudo"]), r"pseudo-labels $\hat{y}$")
    _arrow(ax, (14, y + 5.5), (17, y + 5.5))
    _arrow(ax, (53.5, y + 5.5), (57.8, y + 5.5))
    for dy, name, source in ((8, "s", "scribbles $s$"), (3, "p", "")):
        _box(ax, 74, y + dy - 1.5, 5, 3, rf"$\mathcal{{L}}_{name}$", GREEN)
        _arrow(ax, (69.2, y + dy), (73.8, y + dy), colour=GREEN)
        _arrow(ax, (85.8, y + dy), (79.2, y + dy), source, colour=GREEN)
    _arrow(ax, (26, 51.8), (26, 43), "")
    return places


def _contrast(ax, example: dict, scale: ScaleTerm, tap: tuple[float, float], name: str, y: float) -> None:
    """One row: tap of a decoder block -> projection head -> embedding -> contrastive term <- region labels."""
    middle = y + 4
    colour = ORANGE if scale.factor == 1 else RED
    ax.annotate("", (56.8, middle), tap, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1})
    _box(ax, 57, middle - 2, 7, 4, r"head $f_\phi$", colour, 8.5)
