"""Writes the committed splits anew from sorted image ids and a fixed seed:
`python data/splits/make_splits.py`.

Needs the real data (S2L_DATA) for the image sizes of dsb-fluo.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from s2l_core.config import seed_for
from s2l_core.profiles import DATASETS
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset

SUBSET = {"train": 80, "validation": 20, "test": 40}
SOURCES = {
    "dsb": "BBBC038v1 stage1_train, https://bbbc.broadinstitute.org/BBBC038 (CC0 1.0)",
    "monuseg": (
        "MoNuSeg 2018, https://monuseg.grand-challenge.org/Data/ (CC BY-NC-SA 4.0): the challenge's"
        " 30 + 14 ids"
    ),
}
NOTES = {
    "dsb-bf": (
        "Five parts; the last is always the test set, fold k validates on part k and trains on the"
        " other three."
    ),
    "dsb-fluo": (
        "As dsb-bf. Ids are shuffled within each image size and dealt to the parts in turn, so that"
        " all parts have the same mix of sizes (BBBC038's experiments differ in size). The subset"
        " is drawn in the same way from each fold's own training and validation ids and from the"
        " test ids; it is not the paper's protocol."
    ),
    "monuseg": (
        "Fold k validates on part k of the 30 training ids and trains on the rest; the test set is"
        " the 14 images of the challenge's own test archive."
    ),
}


def ordered(name: str, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Ids sorted by image size, shuffled within each size."""
    ids = sorted(sizes)
    rank = dict(
        zip(
            ids,
            np.random.default_rng(seed_for(0, "splits", name)).permutation(len(ids)),
            strict=True,
        )
    )
    return sorted(ids, key=lambda i: (sizes[i], rank[i]))


def spread(ids: Sequence[str], count: int) -> list[str]:
    """`count` ids at even distances: every image size keeps its share, to within one image."""
    return [ids[int((k + 0.5) * len(ids) / count)] for k in range(count)]


def make(name: str, sizes: Mapping[str, tuple[int, int]], test: Sequence[str] = ()) -> dict:
    """The split of the images `sizes` (id -> height, width);
    `test` names a test set that is given from outside.
    """
    ids, folds = ordered(name, sizes), DATASETS[name][1]
    parts = [ids[k::5] for k in range(5)]
    split = {"name": name, "note": NOTES[name], "source": SOURCES[name.split("-")[0]]}
    split |= {"test": sorted(test or parts[4]), "parts": [sorted(part) for part in parts[:folds]]}
    if name == "dsb-fluo":
        chosen = []
        for k in range(folds):
            train = [i for i in ids if i not in parts[k] and i not in parts[4]]
            drawn = {
                "train": spread(train, SUBSET["train"]),
                "validation": spread(parts[k], SUBSET["validation"]),
            }
            chosen.append({role: sorted(drawn[role]) for role in drawn})
        split["subset"] = {"test": sorted(spread(parts[4], SUBSET["test"])), "folds": chosen}
    return split


def text(split: dict) -> str:
    """One id a line."""
    return json.dumps(split, indent=1) + "\n"


def main() -> None:
    """Writes the three files."""
    for name in ("dsb-bf", "dsb-fluo"):
        sizes = {cell.id: cell.image.shape[:2] for cell in load_dataset(name)}
        paths.split_file(name).write_text(text(make(name, sizes)))
    listed = json.loads(paths.split_file("monuseg").read_text())
    ids = sum(listed["parts"], [])
    paths.split_file("monuseg").write_text(
        text(make("monuseg", dict.fromkeys(ids, (1000, 1000)), listed["test"]))
    )


if __name__ == "__main__":
    main()
