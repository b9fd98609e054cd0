"""Who draws the scribbles (D16): simulated annotators, blind or attentive, or S2L's rule."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

from s2l_core.config import IGNORE, RunConfig, S2LError, seed_for
from s2l_images.strokes import Stroke, render
from s2l_paper.scribbles.brush import (
    at,
    checked,
    distance,
    fit,
    grow,
    long_axis,
    longest,
    on_grid,
    smooth,
    walk,
)
from s2l_paper.scribbles.look_alikes import lines_through, look_alikes
from s2l_paper.scribbles.shipped import share_of, shipped_strokes
from s2l_paper.scribbles.skeletons import skeleton_strokes

CLEAR = 2.0  # distance of a background stroke's pixels from nuclear ones: a free pixel or more

# The kinds of background strokes in turn. An attentive annotator draws every second arc, and the
# stroke that wanders, mostly over empty glass, through a look-alike instead.
TURNS = ("border", "arc", "gap", "arc", "wander", "arc", "gap", "arc")
LOOK_ALIKE_TURNS = (1, 4, 5)


@dataclass(frozen=True)
class _View:
    """What an annotator has before their eyes: an image's nuclei, and the room between them."""

    instances: np.ndarray  # (H, W), 0 = background
    clear: np.ndarray  # (H, W), distance from the nearest nucleus
    boxes: list  # of label 1, 2, ...; that of the whole image where there are no nuclei
    width: float  # of the brush that suits the nuclei's size, in pixels

    def box(self, label: int) -> tuple[slice, slice]:
        """Rows and columns of a nucleus."""
        return self.boxes[label - 1]


class SimulatedAnnotator:
    """Draws as a person would: strokes in chosen nuclei, and as many in the background (D16).

    Nuclei are put into a random order that depends on seed and image alone; `budget` takes the
    first ceil(budget * nuclei), at least one, so that budgets are nested. The k-th nucleus brings a
    foreground stroke (along its long axis, until 1-2 px from its outline; a dot where there is no
    room) and the k-th background stroke: the first comes in from the image border; then in turn an
    arc along the nucleus's outline, a stroke in the gap to a neighbour, another arc, a long one
    (every second from the border). Where a kind has no room the next is tried; where none fits, the
    background stroke is passed over. An image without nuclei gets one background stroke.

    A blind annotator (the default) places background strokes by the mask alone. An `attentive` one
    looks at the image: as many strokes, and the same ones but for three of eight in the background
    (`LOOK_ALIKE_TURNS`), which run through what could be mistaken for a nucleus, largest areas
    first. Where an image has no more of these the blind stroke stays.

    No pixel of a foreground stroke leaves its nucleus; those of background strokes are at least
    2 px (centre to centre) from every nucleus. Each seed is another person: brush, shakiness and
    reach differ.

    Args:
        seed: which person.
        budget: share of nuclei that get a stroke, above 0 and at most 1.
        attentive: whether the person looks at the image.

    Raises:
        S2LError: a budget outside its range.
    """

    def __init__(self, seed: int, budget: float = 0.3, attentive: bool = False):
        if not 0 < budget <= 1:
            raise S2LError(
                f"budget = {budget!r}: expected a share of nuclei above 0, at most 1. "
                "Change budget."
            )
        self.seed, self.budget, self.attentive = int(seed), budget, attentive
        self.brush, self.shake, self.tip = self._rng("style").uniform(
            (0.09, 0.3, 0.8), (0.13, 0.6, 1.4)
        )

    def _rng(self, *purpose) -> np.random.Generator:
        return np.random.default_rng(seed_for(self.seed, "scribbles", *purpose))

    def draw(
        self, instances: np.ndarray, key: str = "", image: np.ndarray | None = None
    ) -> np.ndarray:
        """`strokes` rendered to `(H, W)` uint8 of 0, 1 and IGNORE."""
        return render(self.strokes(instances, key, image), instances.shape)

    def strokes(
        self, instances: np.ndarray, key: str = "", image: np.ndarray | None = None
    ) -> list[Stroke]:
        """Strokes of one image in order of drawing.

        Args:
            instances: (H, W) integer, 0 = background.
            key: names the image; another name, another draw.
            image: (H, W, 3) uint8, which only an attentive annotator looks at.

        Raises:
            S2LError: instances of another kind, or an attentive annotator without an image.
        """
        areas = np.bincount(checked(instances).ravel(), minlength=1)
        if self.attentive:
            _check_image(image, instances)
        labels = np.flatnonzero(areas[1:]) + 1
        view = self._view(instances, areas[labels])

        # Those chosen at a smaller budget come first, and are the same at a larger one.
        chosen = self._rng(key, "order").permutation(labels)[: share_of(self.budget, len(labels))]
        if not len(chosen):
            stroke = self._wander(view, 1, view.width, self._rng(key, 0, 0), border=True)
            return [stroke] if stroke else []

        noticed, strokes = self._noticed(image, view, key), []
        for k, label in enumerate(chosen):
            strokes.append(self._inside(view, label, self._rng(key, k, 1)))
            outside = self._outside(k, view, label, self._rng(key, k, 0))

            # An attentive annotator draws neither more nor fewer strokes than a blind one.
            if outside and k % len(TURNS) in LOOK_ALIKE_TURNS:
                outside = next(noticed, outside)
            if outside:
                strokes.append(outside)
        return strokes

    def _view(self, instances: np.ndarray, areas: np.ndarray) -> _View:
        """The image before drawing, with a brush that suits the size of its nuclei."""
        whole = tuple(slice(0, side) for side in instances.shape)
        size = math.sqrt(np.median(areas)) if len(areas) else 20
        return _View(
            instances,
            clear=distance(instances == 0),
            boxes=ndimage.find_objects(instances) or [whole],
            width=min(max(round(2 * self.brush * size) / 2, 1.0), 3.0),
        )

    def _inside(self, view: _View, label: int, rng) -> Stroke:
        """A stroke through the nucleus along its long axis, thinner or a dot in small ones."""
        crop, corner = grow(view.box(label), 1, view.instances.shape)
        depth = distance(view.instances[crop] == label)
        tip = self.tip + rng.uniform(0, 0.8)
        for brush, limit in ((view.width, tip), (1.0, tip), (1.0, 1.0)):
            sway = self.shake * max(depth.max() - brush / 2 - limit, 0)
            path = long_axis(depth, rng, sway)
            if stroke := fit(1, brush, path, depth, limit, corner=corner):
                return stroke
        deepest = np.unravel_index(depth.argmax(), depth.shape)
        return on_grid(1, 1.0, [deepest], corner)

    def _outside(self, k: int, view: _View, label: int, rng) -> Stroke | None:
        """The k-th background stroke: of the kind whose turn it is, or of one that has room."""
        kinds = {
            "arc": self._arc,
            "gap": self._gap,
            "border": partial(self._wander, border=True),
            "wander": partial(self._wander, border=False),
        }
        turn = TURNS[k % len(TURNS)]
        last = "border" if turn == "border" else "wander"
        for kind in (turn, "arc", last):
            for brush in (view.width, 1.0):
                if stroke := kinds[kind](view, label, brush, rng):
                    return stroke
        return None

    def _arc(self, view: _View, label: int, width: float, rng) -> Stroke | None:
        """A stroke along part of the nucleus's outline, about 1.5-3 px outside it."""
        crop, corner = grow(view.box(label), 8, view.instances.shape)
        own = distance(view.instances[crop] != label)
        level = CLEAR + width / 2 + rng.uniform(0.2, 1.2)

        # Contours at one distance from all nuclei; of each the part that is next to this one.
        contours = find_contours(view.clear[crop], level)
        lines = [longest(line, at(own, line) < level + 1) for line in contours]
        line = max(lines, key=len, default=())
        if len(line) < 5:
            return None

        count = int(len(line) * rng.uniform(0.4, 0.9))
        first = rng.integers(len(line) - count + 1)
        line = ndimage.gaussian_filter1d(line, 1.5, axis=0, mode="nearest")[first : first + count]
        path = line + 0.5 * self.shake * smooth(rng, (count, 2), 5) + corner
        return fit(0, width, path, view.clear, CLEAR, shortest=6)

    def _gap(self, view: _View, label: int, width: float, rng) -> Stroke | None:
        """A short stroke between the nucleus and its nearest neighbour with room between.

        None where there is no such neighbour within 20 px.
        """
        box = view.box(label)
        crop, corner = grow(box, 20, view.instances.shape)
        instances = view.instances[crop]
        own, nearest = ndimage.distance_transform_edt(instances != label, return_indices=True)
        far = np.where((instances > 0) & (own >= 2 * CLEAR + width), own, np.inf)
        there = np.unravel_index(far.argmin(), far.shape)
        if far[there] > 20:
            return None

        # Across the line from the nucleus to its neighbour, through the middle of it.
        here = nearest[:, *there]
        length = rng.uniform(0.25, 0.5) * np.hypot(*(side.stop - side.start for side in box))
        across = (here - there)[::-1] * (1, -1)
        along = np.linspace(-length, length, 32)[:, None] / far[there] * across  # (32, 2)
        path = (here + np.array(there)) / 2 + along + self.shake * smooth(rng, (32, 2), 8)
        return fit(0, width, path + corner, view.clear, CLEAR, shortest=4)

    def _wander(self, view: _View, label: int, width: float, rng, border: bool) -> Stroke | None:
        """A long stroke: from the image border towards the nucleus, or from beside it away."""
        clear, box = view.clear, view.box(label)
        crop, corner = grow(box, max(clear.shape) if border else 24, clear.shape)
        room, field = width / 2 + CLEAR + 0.5, clear[crop].copy()
        if border:
            field[1:-1, 1:-1] = 0
        starts = np.argwhere(field >= room) + corner
        if not len(starts):
            return None

        middle = np.array([(side.start + side.stop) / 2 for side in box])
        for start in starts[rng.integers(len(starts), size=8)]:
            towards = middle - start
            heading = math.atan2(towards[1], towards[0]) + rng.uniform(-0.6, 0.6)
            if not border:
                heading += math.pi
            reach = rng.uniform(0.1, 0.3) * sum(clear.shape)
            path = walk(clear, start, heading, room, reach, rng)
            if stroke := fit(0, width, path, clear, CLEAR, shortest=10, anchored=border):
                return stroke
        return None

    def _noticed(self, image: np.ndarray | None, view: _View, key: str) -> Iterator[Stroke]:
        """Strokes through what could be mistaken for a nucleus, those through most of it first.

        A blind annotator notices none.
        """
        if not self.attentive:
            return
        room = view.clear >= CLEAR + view.width / 2 + 0.5
        there = look_alikes(image, view.instances)
        for number, line in enumerate(lines_through(there & room)):
            # A hand follows the middle of a dark fold, not each turn of its skeleton.
            path = ndimage.gaussian_filter1d(line.astype(float), 3, axis=0, mode="nearest")
            path += self.shake * smooth(self._rng(key, "look-alike", number), path.shape, 5)
            if stroke := fit(0, view.width, path, view.clear, CLEAR, shortest=6):
                yield stroke


def _check_image(image: np.ndarray | None, instances: np.ndarray) -> None:
    """Raises S2LError unless there is an image (H, W, 3) uint8 of the size of the instances."""
    expected = (*instances.shape, 3)
    if image is None:
        raise S2LError(
            "image: none is given, but an attentive annotator has to see it. "
            f"Pass uint8 {expected}."
        )
    if image.shape != expected or image.dtype != np.uint8:
        raise S2LError(
            f"image: {image.dtype} {image.shape}; expected uint8 {expected}. Pass the whole image."
        )


def strokes_of(
    annotator: int | str,
    budget: float,
    key: str,
    image: np.ndarray | None,
    instances: np.ndarray,
) -> list[Stroke]:
    """Strokes of one image by an annotator as configurations name them.

    Args:
        annotator: a number, `attentive-1` and the like, or `skeleton`.
        budget: share of nuclei that get a stroke.
        key: names the image.
        image: (H, W, 3) uint8; only attentive annotators need it.
        instances: (H, W) integer, 0 = background.
    """
    if annotator == "skeleton":  # another seed of training draws no other strokes
        return skeleton_strokes(instances, budget, seed_for(0, "skeleton", key))
    if isinstance(annotator, int):
        return SimulatedAnnotator(annotator, budget).strokes(instances, key)
    number = int(annotator.removeprefix("attentive-"))
    return SimulatedAnnotator(number, budget, attentive=True).strokes(instances, key, image)


def scribbles_of(config: RunConfig, images: Sequence) -> dict[str, np.ndarray]:
    """Scribbles of every image: its own, the shipped strokes, or simulated ones.

    Args:
        config: dataset, annotator and budget count.
        images: CellImages; those that bring `scribbles` keep them.

    Returns:
        id -> (H, W) uint8 of 0, 1 and IGNORE.

    Raises:
        S2LError: an image has no scribble at all, or neither scribbles nor masks to simulate them
            from.
    """
    shipped = shipped_strokes(config.dataset, config.annotator, config.budget)
    drawn = {}
    for image in images:
        if image.scribbles is not None:
            drawn[image.id] = image.scribbles
        elif image.instances is None:
            raise S2LError(
                f"{image.id}: neither scribbles nor masks to draw them from. "
                "Draw some, or leave it out."
            )
        elif image.id in shipped:
            drawn[image.id] = render(shipped[image.id], image.image.shape[:2])
        else:
            strokes = strokes_of(
                config.annotator, config.budget, image.id, image.image, image.instances
            )
            drawn[image.id] = render(strokes, image.instances.shape)

        if (drawn[image.id] == IGNORE).all():
            raise S2LError(
                f"{image.id}: no pixel carries a scribble. Draw at least one stroke, "
                "or leave it out."
            )
    return drawn
