"""Sentences about the recipe follow from its trials."""

import pandas as pd

from s2l_paper.texts import recipe_texts


def trial(experiment, choice, method, seed, iou):
    return {
        "experiment": experiment,
        "choice": choice,
        "dataset": "dsb-bf",
        "method": method,
        "seed": seed,
        "validation_iou": iou,
    }


def test_a_difference_is_told_with_its_interval_and_the_methods_name():
    kept = pd.DataFrame(
        trial("pretraining", f"{start}: s2l", "s2l", seed, iou + 0.01 * seed)
        for start, iou in (("pretrained", 0.7), ("from scratch", 0.6))
        for seed in range(3)
    )
    told = recipe_texts.texts(kept)
    assert set(told) == {"recipe-answers"}
    assert (
        "| pretrained: S2L | from scratch: S2L | 3 | +.100 | +.100\u00a0to\u00a0+.100 |"
        in (told["recipe-answers"])
    )


def test_ways_below_s2l_are_counted():
    means = {"lambda 1, 30%": 0.68, "lambda 0.3, 30%": 0.72, "without (S2L), 30%": 0.7}
    kept = pd.DataFrame(
        trial("coarse term", choice, "s2l-r1-r4", seed, iou + 0.001 * seed)
        for choice, iou in means.items()
        for seed in range(3)
    )
    told = recipe_texts.texts(kept)["recipe-coarse"]
    assert "1 of 2 means are below S2L (differences from -.020 to +.020)" in told
    assert "intervals of 2 leave 0 out" in told


def test_noise_needs_both_methods():
    kept = pd.DataFrame(trial("noise", "s2l", "s2l", seed, 0.7 + 0.01 * seed) for seed in (0, 2))
    assert "recipe-noise" not in recipe_texts.texts(kept)
    alone = pd.DataFrame(trial("noise", "scribble-only", "scribble-only", k, 0.7) for k in (0, 2))
    assert recipe_texts.texts(pd.concat([kept, alone]))["recipe-noise"] == (
        "With 2 seeds the standard deviation of validation IoU is .014 for S2L and .000 for "
        "scribbles alone."
    )
