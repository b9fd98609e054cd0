"""Writes data/scribbles anew from the seeds: `python data/make_scribbles.py` (needs the real data, S2L_DATA).

Strokes of every image that is not in a test set, at the default budget, by three simulated annotators and by S2L's
skeleton rule. The same strokes come from `SimulatedAnnotator(annotator).strokes(instances, key=id)` and
`skeleton_strokes(instances, budget, seed_for(0, "skeleton", id))`.
"""

import json

from s2l_core import paths
from s2l_core.config import REAL, seed_for
from s2l_core.datasets import load_dataset
from s2l_core.scribbles import SimulatedAnnotator, skeleton_strokes, write_strokes

BUDGET = 0.3
ANNOTATORS = (0, 1, 2, "skeleton")
LICENCES = {"dsb-bf": "CC0-1.0", "dsb-fluo": "CC0-1.0", "monuseg": "CC-BY-NC-SA-4.0"}


def draw(instances, image_id: str, annotator: int | str, budget: float = BUDGET) -> list:
    """Strokes of one image by one annotator, or by the skeleton rule."""
    if annotator == "skeleton":
        return skeleton_strokes(instances, budget, seed_for(0, "skeleton", image_id))
    return SimulatedAnnotator(annotator, budget).strokes(instances, key=image_id)


def main() -> None:
    """Writes one file for each data set and annotator."""
    for dataset in REAL:
        test = set(json.loads(paths.split_file(dataset).read_text())["test"])
        images = load_dataset("monuseg-train" if dataset == "monuseg" else dataset)
        images = sorted((image for image in images if image.id not in test), key=lambda image: image.id)
        for annotator in ANNOTATORS:
            file = paths.scribble_file(dataset, annotator)
            meta = {"dataset": dataset, "annotator": annotator, "budget": BUDGET, "licence": LICENCES[dataset]}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_strokes(file, {image.id: draw(image.instances, image.id, annotator) for image in images}, meta)
            print(f"{file.name}: {len(images)} images, {file.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
