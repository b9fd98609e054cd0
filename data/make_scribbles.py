"""Draws the strokes of data/scribbles anew from their seeds (needs the real data, S2L_DATA).

`python data/make_scribbles.py --check` draws all of them, and says which shipped strokes or hashes
differ; without `--check` it writes them (each takes ten minutes). What is on disk and says the same
is left as it is, for a run's hash covers the bytes.

For every image that is in no test set: three simulated annotators, blind and attentive, and S2L's
skeleton rule. The files are described in `s2l_paper/scribbles/shipped.py`. `hashes.json`
pins the strokes of all budgets: for each data set, annotator and budget a hash of what is drawn on
the first images (`make test` draws these again) and on all of them.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from s2l_core.batches import CellImage
from s2l_core.config import digest
from s2l_core.profiles import REAL
from s2l_images.strokes import Stroke, read_strokes, write_strokes
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset
from s2l_paper.scribbles.annotators import strokes_of
from s2l_paper.scribbles.shipped import blind_of, read_table, shipped_strokes, within, write_table

BUDGET = 0.3
BUDGETS = (0.1, 0.3, 0.5, 1.0)
ANNOTATORS = (0, 1, 2, "skeleton")
ATTENTIVE = ("attentive-0", "attentive-1", "attentive-2")
FIRST = 3  # images of a data set, in order of their ids, that `make test` draws on
HASHES = paths.scribble_file("", "").with_name("hashes.json")
LICENCES = {"dsb-bf": "CC0-1.0", "dsb-fluo": "CC0-1.0", "monuseg": "CC-BY-NC-SA-4.0"}


def draw(
    instances: np.ndarray,
    image_id: str,
    annotator: int | str,
    budget: float = BUDGET,
    image: np.ndarray | None = None,
) -> list[Stroke]:
    """Strokes of one image by one annotator or by the skeleton rule; some need the image."""
    return strokes_of(annotator, budget, image_id, image, instances)


def images_of(dataset: str) -> list[CellImage]:
    """Its images that are in no test set, in order of their ids."""
    test = set(json.loads(paths.split_file(dataset).read_text())["test"])
    images = load_dataset("monuseg-train" if dataset == "monuseg" else dataset)
    return sorted((image for image in images if image.id not in test), key=lambda image: image.id)


def stroke_hash(image_id: str, strokes: list[Stroke]) -> str:
    """Hash of the strokes of one image."""
    return digest(
        [image_id, *([s.label, s.width, *np.ravel(s.points).tolist()] for s in strokes)], 16
    )


def drawn_anew(dataset: str) -> dict[int | str, dict[float, dict[str, list[Stroke]]]]:
    """annotator -> budget -> image -> strokes of a whole data set.

    They are drawn on all nuclei, and those of smaller budgets cut out: that drawing these gives the
    same is tested on the first images, and the hashes of all date from strokes that were drawn.
    """
    images, drawn = images_of(dataset), {}
    for annotator in (*ANNOTATORS, *ATTENTIVE):
        with ProcessPoolExecutor() as pool:
            found = pool.map(partial(_on_all_nuclei, annotator), images, chunksize=4)
            everything = dict(zip((image.id for image in images), found, strict=True))
        drawn[annotator] = {}
        for budget in BUDGETS:
            drawn[annotator][budget] = {
                image: within(strokes, budget, annotator) for image, strokes in everything.items()
            }
        print(f"{dataset}, {annotator}: drawn on {len(images)} images", flush=True)
    return drawn


def _on_all_nuclei(annotator: int | str, image: CellImage) -> list[Stroke]:
    return draw(image.instances, image.id, annotator, max(BUDGETS), image.image)


def hashes_of(dataset: str, drawn: dict) -> dict[str, dict[str, str]]:
    """Hashes of the strokes of a data set, on its `first` images and on `all`."""
    hashes = defaultdict(dict)
    for annotator, sets in drawn.items():
        for budget, strokes in sets.items():
            found = [stroke_hash(*pair) for pair in strokes.items()]
            hashes["first"][f"{dataset} {annotator} {budget}"] = digest(found[:FIRST])
            hashes["all"][f"{dataset} {annotator} {budget}"] = digest(found)
    return hashes


def differing(dataset: str, drawn: dict, hashes: dict) -> list[str]:
    """Names of shipped strokes and committed hashes that are not what was drawn anew."""
    committed, faults = json.loads(HASHES.read_text()), []
    for annotator, sets in drawn.items():
        for budget, strokes in sets.items():
            name = f"{dataset} {annotator} {budget}"
            if shipped_strokes(dataset, annotator, budget) != strokes:
                faults.append(f"{name}: other strokes are shipped")
            if any(committed[kind].get(name) != hashes[kind][name] for kind in hashes):
                faults.append(f"{name}: another hash is committed")
    return faults


def write(dataset: str, drawn: dict) -> None:
    """Writes the files of a data set."""
    for annotator in ANNOTATORS:
        few, everything = drawn[annotator][BUDGET], drawn[annotator][max(BUDGETS)]
        meta = {
            "dataset": dataset,
            "annotator": annotator,
            "budget": BUDGET,
            "licence": LICENCES[dataset],
        }
        file = paths.scribble_file(dataset, annotator)
        _write_new(file, few, read_strokes, lambda new, meta=meta: write_strokes(*new, meta))

        rest = {image: _without(everything[image], few[image]) for image in everything}
        meta = meta | {"budget": max(BUDGETS), "without": file.name}
        file = paths.rest_file(dataset, annotator)
        _write_new(
            file,
            rest,
            lambda file: read_table(file)[0],
            lambda new, meta=meta: write_table(*new, meta),
        )

    for annotator in ATTENTIVE:
        blind = blind_of(annotator)
        changed, turns = {}, {}
        for image, strokes in drawn[annotator][max(BUDGETS)].items():
            pairs = enumerate(zip(strokes, drawn[blind][max(BUDGETS)][image], strict=True))
            turns[image] = [turn for turn, (mine, theirs) in pairs if mine != theirs]
            changed[image] = [strokes[turn] for turn in turns[image]]

        # The hash of a run covers this file: with the hashes in it, also those that it builds on.
        below = [paths.scribble_file(dataset, blind), paths.rest_file(dataset, blind)]
        meta = {
            "dataset": dataset,
            "annotator": annotator,
            "budget": max(BUDGETS),
            "licence": LICENCES[dataset],
            "differs from": {file.name: digest(file, 16) for file in below},
        }
        _write_new(
            paths.scribble_file(dataset, annotator),
            (changed, turns),
            read_table,
            lambda new, meta=meta: write_table(new[0], new[1][0], meta, new[1][1]),
        )


def _without(everything: list[Stroke], few: list[Stroke]) -> list[Stroke]:
    """The strokes of a list besides those of a smaller budget, the first of each class."""
    rest = []
    for label in (1, 0):
        smaller = [stroke for stroke in few if stroke.label == label]
        larger = [stroke for stroke in everything if stroke.label == label]
        if larger[: len(smaller)] != smaller:
            raise ValueError("the strokes of budgets are not nested")
        rest += larger[len(smaller) :]
    return sorted(rest, key=everything.index)


def _write_new(file: Path, content, read: Callable, write: Callable) -> None:
    """Writes a file unless what it holds is the same."""
    if not file.exists() or read(file) != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        write((file, content))
        print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB", flush=True)


def main() -> None:
    """Writes or checks the strokes of all data sets, and the hashes of all budgets."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 if any differ"
    )
    check, faults, hashes = parser.parse_args().check, [], defaultdict(dict)
    for dataset in REAL:
        drawn = drawn_anew(dataset)
        found = hashes_of(dataset, drawn)
        if check:
            faults += differing(dataset, drawn, found)
        else:
            write(dataset, drawn)
        for kind, values in found.items():
            hashes[kind] |= values
    if check:
        print("\n".join(faults) or f"{len(hashes['all'])} sets of strokes are as shipped")
        sys.exit(bool(faults))
    HASHES.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
