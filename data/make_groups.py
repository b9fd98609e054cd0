"""Writes data/groups anew: `python data/make_groups.py` (needs the real data, S2L_DATA).

Test images that are alike do not count as independent (`s2l_paper.comparing.statistics`). Each
file has

* `groups`: fields of one microscope image. Two fields belong together if they touch, which shows
  where the last line of one goes on in the first of the other.
* `kinds`, of DSB-Fluo: kinds of imaging. Images of equal size are of one kind if background,
  brightness, grain and size of structures are nearer to each other than `LOOKS_APART`.

A difference is judged over groups: what is found holds for further microscope images in the same
mix of kinds. Beside it stands whether the kinds agree, which is what other kinds can be told from.

DSB-BF has two looks. The bright one is a single strip of touching fields, and so one group; among
the grey fields no edge goes on in another. Images of MoNuSeg come from a patient each; two of them
that train touch all the same.
"""

import itertools
import json
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage
from scipy.cluster.hierarchy import DisjointSet
from skimage.filters import threshold_otsu
from sklearn.cluster import AgglomerativeClustering

from s2l_core.batches import CellImage
from s2l_core.profiles import REAL
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset

CONTINUES = 0.95  # correlation of two lines that touch; lines that do not are hardly ever above .9
STEP = 2.0  # a step across the edge, in steps between neighbouring lines of the same image
SHIFT = {"dsb-bf": 16}  # pixels that neighbours may be displaced along their edge
SKIPPED = {"dsb-bf": (0, 2)}  # lines that an edge may lack: some fields begin with a black one
LOOKS_APART = 0.6  # mean distance of two kinds of images in the features of `look`
WITH_KINDS = ("dsb-fluo",)
# A nucleus and a trail of debris go on from one to the other; the shading of the left one hides it
# from the rule.
SEEN_TO_TOUCH = {
    "dsb-bf": [
        (
            "4e07a653352b30bb95b60ebc6c57afbc7215716224af731c51ff8d430788cd40",
            "76a372bfd3fad3ea30cb163b560e52607a8281f5b042484c3a0fc6d0aa5a7450",
        )
    ]
}


def line(image: np.ndarray, side: str, depth: int) -> np.ndarray:
    """Grey values (n,) along one side of an image (H, W), so many lines inside it."""
    lines = {"top": image[depth], "bottom": image[-1 - depth]}
    lines |= {"left": image[:, depth], "right": image[:, -1 - depth]}
    return lines[side]


def overlap(first: np.ndarray, second: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of two lines that meet where the second is displaced by so many pixels."""
    length = len(first)
    return (
        first[max(0, shift) : length + min(0, shift)],
        second[max(0, -shift) : length + min(0, -shift)],
    )


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two lines; 0 where one of them is constant."""
    spread = first.std() * second.std()
    return (
        float(np.mean((first - first.mean()) * (second - second.mean())) / spread)
        if spread
        else 0.0
    )


def touch(one: np.ndarray, other: np.ndarray, sides: tuple[str, str], name: str) -> bool:
    """True where a side of one image (H, W) continues in the opposite side of another."""
    reach = SHIFT.get(name, 0)
    for depth, deeper in itertools.product(SKIPPED.get(name, (0,)), repeat=2):
        first, second = line(one, sides[0], depth), line(other, sides[1], deeper)
        for shift in range(-reach, reach + 1):
            here, there = overlap(first, second, shift)
            if correlation(here, there) > CONTINUES:
                # Dark, empty edges correlate by chance; only touching ones have like values too.
                steps = np.abs(first - line(one, sides[0], depth + 1)).mean()
                steps += np.abs(second - line(other, sides[1], deeper + 1)).mean()
                if reach or np.abs(here - there).mean() < STEP * max(steps / 2, 0.05):
                    return True
    return False


def touching(cells: Sequence[CellImage], name: str) -> Iterable[tuple[str, str]]:
    """Pairs of ids of images that touch."""
    grey = {cell.id: cell.image.mean(axis=-1) for cell in cells}  # (H, W)
    for one, other in itertools.permutations(grey, 2):
        for sides in (("right", "left"), ("bottom", "top")):
            if grey[one].shape == grey[other].shape and touch(grey[one], grey[other], sides, name):
                yield one, other


def look(image: np.ndarray) -> list[float]:
    """How a fluorescence image (H, W) was taken: five numbers, each a logarithm.

    Level and spread of the background, brightness of the nuclei, size of structures (the distance
    at which the autocorrelation falls to one half), and grain of the background.
    """
    bright = np.log1p(image) > threshold_otsu(np.log1p(image))
    background = image[~bright]
    grain = (image - ndimage.gaussian_filter(image, 1))[~bright].std()

    centred = image - image.mean()
    power = np.abs(np.fft.fft2(centred)) ** 2
    autocorrelation = np.fft.ifft2(power).real / power.mean()
    falls = [(autocorrelation[0, k] + autocorrelation[k, 0]) / 2 < 0.5 for k in range(1, 60)]
    size = falls.index(True) + 1 if True in falls else 60

    values = [1 + np.median(background), 1 + background.std(), 1 + np.median(image[bright])]
    return np.log([*values, size, grain + 0.1]).tolist()


def looking_alike(cells: Sequence[CellImage]) -> Iterable[tuple[str, str]]:
    """Pairs of ids that tie together the images of one kind."""
    shapes = sorted({cell.image.shape for cell in cells})
    for shape in shapes:
        ids = [cell.id for cell in cells if cell.image.shape == shape]
        looks = [look(cell.image[..., 0].astype(float)) for cell in cells if cell.id in ids]
        if len(ids) == 1:
            continue
        kinds = AgglomerativeClustering(
            n_clusters=None, distance_threshold=LOOKS_APART, linkage="average"
        ).fit_predict(np.array(looks))
        for kind in range(kinds.max() + 1):
            members = [image_id for image_id, own in zip(ids, kinds, strict=True) if own == kind]
            yield from itertools.pairwise(members)


def joined(ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """What pairs tie together, the largest first; ids in each are sorted."""
    groups = DisjointSet(ids)
    for pair in pairs:
        groups.merge(*pair)
    return sorted(map(sorted, groups.subsets()), key=lambda group: (-len(group), group))


def make(name: str, cells: Sequence[CellImage]) -> dict:
    """The groups of a data set, and its kinds where it has several."""
    ids = [cell.id for cell in cells]
    pairs = {*touching(cells, name), *SEEN_TO_TOUCH.get(name, ())}
    made = {"name": name, "touching_pairs": len(pairs), "groups": joined(ids, pairs)}
    if name in WITH_KINDS:
        made["kinds"] = joined(ids, [*pairs, *looking_alike(cells)])
    return made


def main() -> None:
    """Writes the three files."""
    for name in REAL:
        made = make(name, load_dataset(name))
        file = paths.group_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made, indent=1) + "\n")
        kinds = len(made.get("kinds", []))
        print(f"{file.name}: {len(made['groups'])} groups, {kinds or 'no'} kinds")


if __name__ == "__main__":
    main()
