"""What a difference between two methods is worth: intervals and tests over images,
agreement over repetitions.
"""

import functools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from s2l_core.config import seed_for

REPETITION = [
    "fold",
    "seed",
    "annotator",
]  # all repetitions on a data set are scored on the same test images
ALPHA = 0.05
# the least p of n images is 2 / 2**n: from 10 on it survives Holm over 24 tests (4 methods,
# 3 data sets, 2 scores)
MIN_IMAGES = 10
MIN_REPETITIONS = 6  # the least n of which a unanimous sign is rarer than ALPHA by chance, 2 / 2**n
RESAMPLES = 2**14  # tests are exact up to 14 images, MoNuSeg's


def interval(values: pd.Series, *purpose: str) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over images.

    Args:
        values: one number an image, (n,); nan is left out.
        purpose: names what is resampled, and so seeds it.

    Returns:
        Lower and upper end; nan and nan for fewer than `MIN_IMAGES` images,
        which are too few to stand for others.
    """
    return _interval(tuple(values.dropna()), purpose)


def p_value(differences: pd.Series, *purpose: str) -> float:
    """Two-sided p of a paired permutation test: the signs of the differences, one an image,
    are exchanged.

    Exact where there are at most `RESAMPLES` ways to do so; nan for fewer than `MIN_IMAGES` images.
    """
    return _p_value(tuple(differences.dropna()), purpose)


@functools.cache
def _interval(values: tuple[float, ...], purpose: tuple[str, ...]) -> tuple[float, float]:
    if len(values) < MIN_IMAGES:
        return np.nan, np.nan
    rng = np.random.default_rng(seed_for(0, "bootstrap", *purpose))
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
    return tuple(map(float, found.confidence_interval))


@functools.cache
def _p_value(differences: tuple[float, ...], purpose: tuple[str, ...]) -> float:
    if len(differences) < MIN_IMAGES:
        return np.nan
    rng = np.random.default_rng(seed_for(0, "permutation", *purpose))
    signs = {
        "permutation_type": "samples",
        "n_resamples": RESAMPLES,
        "vectorized": True,
        "rng": rng,
    }
    return float(stats.permutation_test((differences,), np.mean, **signs).pvalue)


def holm(p: pd.Series) -> pd.Series:
    """p values corrected for their number by Holm's method; nan, no test, counts for nothing."""
    ordered = p.dropna().sort_values()
    steps = np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)).clip(upper=1)
    return steps.reindex(p.index)


def compare(runs: pd.DataFrame, pairs: Iterable[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Differences between methods over what both were run on;
    the pairs of one call are corrected together.

    Args:
        runs: rows of one checkpoint, unique in data set, method, repetition and image.
        pairs: (dataset, method, other, score); those without a common run are left out.

    Returns:
        Indexed by the pair: `difference` of method and other, its `low`, `high`, `p` and `p_holm`
        over images, each first averaged over its repetitions; and over `repetitions`, averaged over
        images, the `spread` (standard deviation) and how many are `above` and `below` 0;
        `images`, and the `run_ids`.
    """
    wide = runs.pivot(index=["dataset", *REPETITION, "image"], columns="method")
    sets, methods, rows = set(runs.dataset), set(runs.method), {}
    for pair in dict.fromkeys(pairs):
        dataset, method, other, score = pair
        if dataset not in sets or not {method, other} <= methods:
            continue
        here = wide.loc[dataset]
        gain = (here[score, method] - here[score, other]).dropna()
        if gain.empty:
            continue
        images, repetitions = gain.groupby("image").mean(), gain.groupby(REPETITION).mean().round(9)
        low, high = interval(images, *pair)
        rows[pair] = {
            "difference": images.mean(),
            "low": low,
            "high": high,
            "p": p_value(images, *pair),
        }
        rows[pair] |= {
            "images": len(images),
            "repetitions": len(repetitions),
            "spread": repetitions.std(),
        }
        rows[pair] |= {"above": (repetitions > 0).sum(), "below": (repetitions < 0).sum()}
        ids = here.loc[gain.index, [("run_id", method), ("run_id", other)]]
        rows[pair]["run_ids"] = " ".join(np.unique(ids.to_numpy().astype(str)))
    columns = "difference low high p images repetitions spread above below run_ids".split()
    index = pd.MultiIndex.from_tuples(list(rows), names=["dataset", "method", "other", "score"])
    table = pd.DataFrame(list(rows.values()), index, columns)
    return table.assign(p_holm=holm(table.p))
