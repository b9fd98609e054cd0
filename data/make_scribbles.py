"""Writes data/scribbles anew from the seeds: `python data/make_scribbles.py` (needs the real data,
S2L_DATA).

Strokes of every image that is not in a test set, at the default budget, by three simulated
annotators and by S2L's skeleton rule. The same strokes come from
`SimulatedAnnotator(annotator).strokes(instances, key=id)` and `skeleton_strokes(instances,
budget, seed_for(0, "skeleton", id))`.

Strokes of the other budgets are drawn when a run asks for them; `hashes.json` pins those of all
budgets: for each data set, annotator and budget a hash of what is drawn on the first images (`make
test` draws these again) and on all of them (`make torture` does).
"""

import json
from collections import defaultdict

import numpy as np

from s2l_core.config import digest, seed_for
from s2l_core.profiles import REAL
from s2l_images.strokes import write_strokes
from s2l_paper import paths
from s2l_paper.annotators import SimulatedAnnotator, skeleton_strokes
from s2l_paper.datasets import load_dataset

BUDGET = 0.3
BUDGETS = (0.1, 0.3, 0.5, 1.0)
ANNOTATORS = (0, 1, 2, "skeleton")
FIRST = 3  # images of a data set, in order of their ids, that `make test` draws on
HASHES = paths.scribble_file("", "").with_name("hashes.json")
LICENCES = {"dsb-bf": "CC0-1.0", "dsb-fluo": "CC0-1.0", "monuseg": "CC-BY-NC-SA-4.0"}


def draw(instances, image_id: str, annotator: int | str, budget: float = BUDGET) -> list:
    """Strokes of one image by one annotator, or by the skeleton rule."""
    if annotator == "skeleton":
        return skeleton_strokes(instances, budget, seed_for(0, "skeleton", image_id))
    return SimulatedAnnotator(annotator, budget).strokes(instances, key=image_id)


def images_of(dataset: str) -> list:
    """Its images that are in no test set, in order of their ids."""
    test = set(json.loads(paths.split_file(dataset).read_text())["test"])
    images = load_dataset("monuseg-train" if dataset == "monuseg" else dataset)
    return sorted((image for image in images if image.id not in test), key=lambda image: image.id)


def stroke_hash(image_id: str, strokes: list) -> str:
    """Hash of the strokes of one image."""
    return digest(
        [image_id, *([s.label, s.width, *np.ravel(s.points).tolist()] for s in strokes)], 16
    )


def main() -> None:
    """Writes one file for each data set and annotator, and the hashes of all budgets."""
    hashes = defaultdict(dict)
    for dataset in REAL:
        images = images_of(dataset)
        for annotator in ANNOTATORS:
            for budget in BUDGETS:
                strokes = {
                    image.id: draw(image.instances, image.id, annotator, budget) for image in images
                }
                found, name = (
                    [stroke_hash(*pair) for pair in strokes.items()],
                    f"{dataset} {annotator} {budget}",
                )
                hashes["first"][name], hashes["all"][name] = digest(found[:FIRST]), digest(found)
                if budget == BUDGET:
                    file = paths.scribble_file(dataset, annotator)
                    meta = {
                        "dataset": dataset,
                        "annotator": annotator,
                        "budget": BUDGET,
                        "licence": LICENCES[dataset],
                    }
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_strokes(file, strokes, meta)
                    print(
                        f"{file.name}: {len(images)} images, {file.stat().st_size / 1e6:.2f} MB",
                        flush=True,
                    )
    HASHES.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
