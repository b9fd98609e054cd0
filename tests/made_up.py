"""Run folders with made-up scores, for the tests of tables, claims and verification."""

import numpy as np

from s2l_core.config import RunConfig, seed_for
from s2l_paper.running import results


def write_run(
    method,
    dataset="dsb-bf",
    *,
    images=3,
    first=0,
    iou=0.6,
    noise=0.0,
    lost=0.02,
    counts=(1, 2, 3),
    false_area=None,
    **fields,
):
    """A finished run: `iou` with `noise` on every image, `lost` of it with the last weights, and
    error counts.

    `counts` are false positives, missed and merged nuclei of an image, of 10 nuclei. Images are
    numbered from `first`, so that all runs have the same ones unless they are told otherwise.
    """
    config = RunConfig(dataset, method, **{"profile": "scratch"} | fields)
    rng = np.random.default_rng(
        seed_for("made up", method, config.fold, config.seed, config.annotator, first)
    )
    scores = iou + 0.02 * (np.arange(images) % 5) + noise * rng.standard_normal(images)
    keys = {
        "run_id": results.run_id(config),
        "dataset": dataset,
        "method": method,
        "fold": config.fold,
    }
    keys |= {
        "seed": config.seed,
        "annotator": config.annotator,
        "budget": config.budget,
        "n_nuclei": 10,
    }
    keys |= dict(zip(("false_positives", "missed", "merged"), counts, strict=True))
    if false_area is not None:
        keys["false_area"] = false_area
    rows = []
    for checkpoint, less in (("best", 0), ("last", lost)):
        for number, value in enumerate(scores - less, first):
            here = dict.fromkeys(("iou", "mdice", "aji", "f1"), value) | {
                "mdice_official": value + 0.01
            }
            rows.append(keys | here | {"checkpoint": checkpoint, "image": f"image{number}"})
    results.write_run(
        config, rows, [{"step": 1, "loss": 0.5}], {}, seconds=60.0, warmup_seconds=30.0
    )
    return config
