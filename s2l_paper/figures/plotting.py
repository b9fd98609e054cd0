"""Building blocks of all pictures: matplotlib Figures without pyplot's state,
in the colours of Okabe and Ito.
"""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.segmentation import expand_labels, find_boundaries

from s2l_core.config import S2LError, digest
from s2l_core.images import intensity_range
from s2l_images.board import layers
from s2l_images.files import write_atomically

ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7".split()
)
GREY = "#767676"  # readable on white and on black
MARK = "#00C389"  # outlines, arrows and circles: no tint and no nucleus has this colour
# Strokes and label maps, in the colours of the board.
FOREGROUND = f"#{bytes(layers.FOREGROUND).hex().upper()}"
BACKGROUND = f"#{bytes(layers.BACKGROUND).hex().upper()}"
UNKNOWN = "#D9D9D9"
TINTS = {
    "right": "#FFFFFF",
    "false positive": ORANGE,
    "missed": BACKGROUND,
    "touching nuclei joined": PINK,
}
MONUSEG_NOTE = (
    "MoNuSeg images: Kumar et al., IEEE TMI 2017 and 2020, monuseg.grand-challenge.org, CC BY-NC-SA"
    " 4.0;\ncropped, stretched and drawn upon; this picture carries the same licence."
)
_STYLE = {"font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False}


class Picture(Figure):
    """A Figure on white that Jupyter shows without pyplot,
    and that knows the runs it was made from.
    """

    run_ids: tuple[str, ...] = ()

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def styled(draw):
    """Decorator: draws in the project's style, whatever the reader's own settings are."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.style.context(["default", _STYLE | {"legend.frameon": False}]):
            return draw(*args, **kwargs)

    return drawn


def panels(
    rows: int,
    columns: int,
    side: float,
    *,
    below: float = 0.05,
    left: float = 0.05,
    bottom: float = 0.05,
) -> tuple[Picture, np.ndarray]:
    """A figure of square panels without axes, and its axes (rows, columns); all lengths in inches.

    `below` is the space under each panel, `left` and `bottom` the margins of the figure.
    """
    width = left + columns * (side + 0.05)
    height = 0.25 + rows * (side + below) + bottom
    figure = Picture(figsize=(width, height))
    grid = {
        "left": left / width,
        "right": 1 - 0.05 / width,
        "top": 1 - 0.25 / height,
        "bottom": (bottom + below) / height,
        "wspace": 0.05 / side,
        "hspace": below / side,
    }
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def write(ax: Axes, x: float, y: float, text: str, **look) -> None:
    """Writes a text around a place, given in parts of the panel's width and height."""
    ax.text(x, y, text, ha="center", va="center", transform=ax.transAxes, **look)


def write_below(ax: Axes, text: str) -> None:
    """Small print under a panel."""
    ax.text(0.5, -0.02, text, ha="center", va="top", transform=ax.transAxes, fontsize=7)


def rgb(colour: str) -> np.ndarray:
    """`#RRGGBB` as (3,) uint8."""
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)


def display(image: np.ndarray) -> np.ndarray:
    """Image (H, W, 3) uint8 with its 0.5-99.5 percentiles stretched to 0-255:
    dark fluorescence becomes visible.
    """
    low, high = intensity_range(image, "stretch")
    return (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def paint(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gives the pixels of labels (H, W) 0 and 1 their colours in a picture (H, W, 3),
    in place; IGNORE stays bare.
    """
    picture[labels == 0], picture[labels == 1] = rgb(BACKGROUND), rgb(FOREGROUND)
    return picture


def colour_instances(instances: np.ndarray) -> np.ndarray:
    """Label map (H, W) -> (H, W, 3) uint8 on black; nuclei that touch, or nearly do, differ."""
    palette = np.stack([rgb(colour) for colour in (ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK)])
    neighbours = _neighbours(instances)

    # Each nucleus takes the colour that the fewest of its neighbours have; among those that are
    # equally rare the next one in turn, so that all colours are used.
    colours: dict[int, int] = {}
    table = np.zeros((int(instances.max(initial=0)) + 1, 3), np.uint8)  # (labels, 3)
    for turn, label in enumerate(neighbours):
        taken = [colours[other] for other in neighbours[label] if other in colours]
        order = sorted(range(len(palette)), key=lambda c, turn=turn: (c - turn) % len(palette))
        colours[label] = min(order, key=taken.count)
        table[label] = palette[colours[label]]
    return table[instances]


def _neighbours(instances: np.ndarray) -> dict[int, set[int]]:
    """Label -> the labels that it touches once all nuclei have grown by two pixels."""
    grown = expand_labels(instances, 2)
    found: dict[int, set[int]] = {int(label): set() for label in np.unique(instances) if label}
    for a, b in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        touching = (a != b) & (a > 0) & (b > 0)
        pairs = np.unique(np.stack([a, b])[:, touching], axis=1)  # (2, n)
        for one, other in pairs.T.tolist():
            found[one].add(other)
            found[other].add(one)
    return found


def error_map(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Where a prediction is right, false, missing, or joins nuclei that touch: (H, W, 3)
    uint8 on black, see `TINTS`.

    Args:
        truth: (H, W) instances.
        probability: (H, W) foreground probability, above 0.5 in the foreground, as in all scores;
            or its mask, bool.
    """
    there, found = truth > 0, probability > 0.5
    right, false, missed, joined = map(rgb, TINTS.values())
    picture = np.zeros((*truth.shape, 3), np.uint8)
    picture[there & found] = right
    picture[found & ~there] = false
    picture[there & ~found] = missed

    # Two pixels side by side of different nuclei that are both called nucleus.
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        both = there[a] & there[b] & found[a] & found[b]
        between = both & (truth[a] != truth[b])
        picture[a][between] = picture[b][between] = joined
    return picture


@styled
def overlay(image: np.ndarray, scribbles=None, instances=None, probability=None, ax=None) -> Figure:
    """One image, stretched for display, with whatever is known about it.

    Args:
        image: (H, W, 3) uint8.
        scribbles: (H, W) uint8 of 0 (blue), 1 (orange) and IGNORE.
        instances: (H, W) labels, outlined in green.
        probability: (H, W), drawn as a veil from transparent (0) to yellow (1).
        ax: where to draw; None makes a figure.
    """
    if ax is None:  # the picture alone, whatever the page's colour
        ax = Picture(figsize=(3.2, 3.2 * image.shape[0] / image.shape[1])).add_axes((0, 0, 1, 1))
    picture = display(image)
    if probability is not None:
        share = 0.75 * np.clip(probability, 0, 1)[..., None]
        picture = (picture * (1 - share) + rgb(YELLOW) * share).astype(np.uint8)
    if instances is not None:  # wider in large images, which are shown smaller
        picture[
            find_boundaries(instances, mode="thick" if max(instances.shape) > 512 else "inner")
        ] = rgb(MARK)
    if scribbles is not None:
        paint(picture, scribbles)
    ax.imshow(picture)
    ax.set_axis_off()
    return ax.figure


@styled
def gallery(cells: Sequence, titles: Sequence[str] | None = None, columns: int = 4) -> Figure:
    """CellImages side by side, each with its outlines and strokes if it has them;
    titles default to the ids.
    """
    if not cells:
        raise S2LError("gallery: no image to show. Choose at least one.")
    columns = min(columns, len(cells))
    monuseg = any(cell.id.startswith("TCGA-") for cell in cells)
    figure, axes = panels(
        -(-len(cells) // columns), columns, 2.2, below=0.22, bottom=0.3 if monuseg else 0
    )
    for ax, cell, title in zip(
        axes.flat, cells, titles or [cell.id[:24] for cell in cells], strict=False
    ):
        overlay(cell.image, cell.scribbles, cell.instances, ax=ax)
        ax.set_title(title)
    foot(figure, MONUSEG_NOTE if monuseg else "")
    return figure


def legend(figure: Figure, inches: float) -> None:
    """Says what the tints of `error_map` mean, `inches` above the lower edge."""
    patches = [
        Patch(facecolor=colour, edgecolor=GREY, label=name) for name, colour in TINTS.items()
    ]
    place = (0.5, inches / figure.get_figheight())
    figure.legend(
        handles=patches, loc="center", bbox_to_anchor=place, ncols=len(patches), borderpad=0
    )


def foot(figure: Figure, text: str) -> None:
    """Small print along the lower edge."""
    figure.text(
        0.5,
        0.05 / figure.get_figheight(),
        text,
        fontsize=6.5,
        color="#555555",
        ha="center",
        va="bottom",
    )


def drawn(figure: Figure) -> str:
    """Hash of the points and words of a chart; it says whether another one shows the same."""
    shown = []
    for ax in figure.axes:
        for line in ax.lines:
            points = np.asarray(line.get_xydata(), float).round(4) + 0.0  # no -0.0
            shown.append(points.tolist())
        words = [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
        words += [text.get_text() for text in ax.texts]
        for axis in (ax.xaxis, ax.yaxis):  # labels that were given, not those of a scale
            words += getattr(axis.get_major_formatter(), "seq", ())
        shown.append(words + ax.get_legend_handles_labels()[1])
    return digest(shown)


def save(
    figure: Figure, path: Path, run_ids: Sequence[str] | None = None, *, dpi: int = 150
) -> Path:
    """Writes a PNG whose metadata names the runs it shows, each id with the run's hash,
    the scores it prints, and a hash of its points and words.

    Args:
        figure: a `Picture`.
        path: the file.
        run_ids: None takes what the figure itself knows.
        dpi: pixels per inch.
    """
    ids = sorted(getattr(figure, "run_ids", ()) if run_ids is None else run_ids)
    metadata = {"Software": "s2l_core", "RunIds": " ".join(ids), "Hash": digest(ids)}
    metadata["Drawn"] = drawn(figure)
    scores = getattr(figure, "scores", None)
    if scores:
        metadata["Scores"] = json.dumps(scores)
    if any(name.startswith("monuseg") for name in ids):
        metadata["Copyright"] = MONUSEG_NOTE
    draw = functools.partial(figure.savefig, format="png", dpi=dpi, metadata=metadata)
    write_atomically(Path(path), draw)
    return path
