"""Methods compared over their runs: differences with their tests, and the two terms' factorial.

Tests that are asked together are corrected together, for each data set on its own: a *family*.
Where a data set has several kinds of imaging, how many of them agree stands beside.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from s2l_core.config import METHODS, S2LError
from s2l_paper.comparing.statistics import (
    Sample,
    detectable,
    equivalence,
    groups_of,
    holm,
    interval,
    p_value,
)
from s2l_paper.comparing.training_noise import REPETITION, Noise, run_noise

# Scores in which differences are held against the smallest effect of interest.
MEASURED_BY_IT = ("iou", "mdice_official", "aji", "lost", "missed_share", "merged_share")

TESTS = [
    "difference",
    "low",
    "high",
    "p",
    "p_error",
    "p_equal",
    "p_equal_error",
    "error",
    "df",
    "images",
    "groups",
    "repetitions",
    "noise",
    "above",
    "below",
    "kinds",
    "kinds_above",
    "p_kinds",
    "run_ids",
]


def contrast(
    runs: pd.DataFrame, weights: Mapping[str, float], score: str, noise: Noise | None = None
) -> dict | None:
    """A weighted sum of methods over what all of them were run on, with its tests.

    Each image is first averaged over the repetitions that tested it, so that an image counts once.

    Args:
        runs: rows of one data set and checkpoint, unique in method, repetition and image.
        weights: method -> weight; they add up to 0.
        score: the column.
        noise: of the runs, where it is known already.

    Returns:
        `TESTS`, or None where no repetition has all the methods. `difference` is the sum; `error`
        and `df` are its standard error by groups and trainings; `low` and `high` a 95 % interval;
        `p` and `p_equal` the tests, with `p_error` and `p_equal_error`, their errors. `noise` is
        the standard deviation of one training's difference, `above` and `below` count repetitions.
        `kinds` of imaging, of which so many are above 0, and `p_kinds`, where signs are exchanged
        by kind.
    """
    if not set(weights) <= set(runs.method):
        return None
    chosen = runs[runs.method.isin(weights)]
    wide = chosen.pivot(index=[*REPETITION, "image"], columns="method", values=score)
    values = sum(weight * wide[method] for method, weight in weights.items()).dropna()
    if values.empty:
        return None
    images = values.groupby("image").mean()
    repetitions = values.groupby(REPETITION).mean().round(9)

    # A rotation's trainings say something about its own images only.
    noise = run_noise(runs, score) if noise is None else noise
    spread = noise.sd * math.hypot(*weights.values())
    tested = values.reset_index().groupby("rotation").image.nunique() / len(images)
    trained = repetitions.groupby("rotation").size()
    error = spread * math.sqrt((tested**2 / trained).sum())
    dataset = runs.dataset.iloc[0]
    sample = Sample.of(images, groups_of(dataset), error, noise.df)

    used = chosen.set_index([*REPETITION, "image"]).loc[values.index]
    row = _tests(sample, score, map(str, (dataset, *sorted(weights.items()), score)))
    row |= {
        "images": len(images),
        "groups": len(sample.parts),
        "repetitions": len(repetitions),
        "noise": spread,
        "above": int((repetitions > 0).sum()),
        "below": int((repetitions < 0).sum()),
        "run_ids": " ".join(sorted(set(used.run_id))),
    }

    # The same question by kind of imaging; a data set without kinds counts as one.
    kinds = groups_of(dataset, "kinds")
    if not kinds:
        return row | {"kinds": 1, "kinds_above": int(sample.mean > 0), "p_kinds": math.nan}
    return row | _by_kind(Sample.of(images, kinds, error, noise.df))


def _tests(sample: Sample, score: str, names: Iterable[str]) -> dict:
    """A difference with its interval, its tests and its error; see `contrast`.

    Args:
        sample: the differences.
        score: the column.
        names: what is asked, which seeds the draws of the interval.
    """
    low, high = interval(sample, *names)
    p, p_error = p_value(sample)
    p_equal, p_equal_error = math.nan, math.nan
    if score in MEASURED_BY_IT:
        p_equal, p_equal_error = equivalence(sample)
    error, df = sample.total_error() if sample.enough else (math.nan, math.nan)
    return {
        "difference": sample.mean,
        "low": low,
        "high": high,
        "p": p,
        "p_error": p_error,
        "p_equal": p_equal,
        "p_equal_error": p_equal_error,
        "error": error,
        "df": df,
    }


def _by_kind(sample: Sample) -> dict:
    """In how many kinds of imaging a difference is above 0, and its test by kinds."""
    return {
        "kinds": len(sample.parts),
        "kinds_above": int((sample.parts > 0).sum()),
        "p_kinds": p_value(sample)[0],
    }


def compare(
    runs: pd.DataFrame, pairs: Iterable[tuple[str, str, str, str]], family: str
) -> pd.DataFrame:
    """Differences between methods over what both were run on.

    Args:
        runs: rows of one checkpoint and recipe.
        pairs: (dataset, method, other, score); those without a common run are left out.
        family: names what is asked. On each data set its tests are corrected together.

    Returns:
        Indexed by the pair: see `contrast`, and `corrected`.

    Raises:
        S2LError: runs of several recipes, or two of the same.
    """
    asked = {
        pair: (pair[0], {pair[1]: 1.0, pair[2]: -1.0}, pair[3]) for pair in dict.fromkeys(pairs)
    }
    return _tested(runs, asked, ["dataset", "method", "other", "score"], family)


FACTORIAL = ("s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4")
EFFECTS = {  # weights of neither term, R1x1, R4x4, and both
    "R1x1": (-0.5, 0.5, -0.5, 0.5),
    "R4x4": (-0.5, -0.5, 0.5, 0.5),
    "R1x1 and R4x4 together": (1.0, -1.0, -1.0, 1.0),
}


def factorial(runs: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """The two terms as a 2 x 2 factorial: what each gives on average, and what both give beyond.

    Args:
        runs: rows of one checkpoint and recipe.
        scores: the columns.

    Returns:
        Indexed by data set, effect and score: see `contrast`, and `corrected`. An effect of one
        term is its mean over runs without and with the other; the interaction is what both terms
        give beyond the sum of what each gives alone.
    """
    asked = {}
    for dataset in runs.dataset.unique():
        for effect, weights in EFFECTS.items():
            for score in scores:
                signed = dict(zip(FACTORIAL, weights, strict=True))
                asked[dataset, effect, score] = dataset, signed, score
    return _tested(runs, asked, ["dataset", "effect", "score"], "factorial")


def repeated(runs: pd.DataFrame, method: str, other: str, score: str) -> pd.Series:
    """Difference of two methods in each repetition that both have: means over its test images.

    Args:
        runs: rows of one data set and checkpoint.
        method: name of the method.
        other: name of the one that is taken off.
        score: the column.
    """
    means = runs.groupby(["method", *REPETITION])[score].mean().unstack("method")
    if not {method, other} <= set(means):
        return pd.Series(dtype=float)
    return (means[method] - means[other]).dropna()


def _tested(runs: pd.DataFrame, asked: Mapping, names: list[str], family: str) -> pd.DataFrame:
    """The contrasts asked for, as a table with their corrections."""
    refuse_mixed(runs)
    tables = dict(list(runs.groupby("dataset")))
    noises, rows = {}, {}
    for key, (dataset, weights, score) in asked.items():
        if dataset not in tables:
            continue
        if (dataset, score) not in noises:
            noises[dataset, score] = run_noise(tables[dataset], score)
        row = contrast(tables[dataset], weights, score, noises[dataset, score])
        if row is not None:
            rows[key] = row
    index = pd.MultiIndex.from_tuples(list(rows), names=names)
    return corrected(pd.DataFrame(list(rows.values()), index, TESTS), family)


def corrected(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Adds what follows from asking several questions of one data set.

    Returns:
        The table with `family` and its number of `tests`; `p_holm` and `p_equal_holm`, Holm's
        corrections; and `detectable`, the smallest difference that such a test finds four times
        in five.
        Where exchanges were drawn, p counts with twice its error, so that no verdict hangs on the
        draws.
    """
    table = table.assign(family=family, tests=0, p_holm=np.nan, p_equal_holm=np.nan)
    table["detectable"] = np.nan
    for dataset, part in table.groupby(level="dataset", sort=False):
        rows = table.index.get_level_values("dataset") == dataset
        tests = max(int(part.p.count()), 1)
        table.loc[rows, "tests"] = int(part.p.count())
        table.loc[rows, "p_holm"] = holm(part.p + 2 * part.p_error)
        table.loc[rows, "p_equal_holm"] = holm(part.p_equal + 2 * part.p_equal_error)
        pairs = zip(part.error, part.df, strict=True)
        table.loc[rows, "detectable"] = [detectable(error, df, tests) for error, df in pairs]
    return table


def mean_interval(
    runs: pd.DataFrame, score: str, noise: Noise | None = None
) -> tuple[float, float, float]:
    """Mean of one method's score over images, and its 95 % interval by groups and trainings.

    Each image is first averaged over the repetitions that tested it.

    Args:
        runs: rows of one data set, method and checkpoint.
        score: the column.
        noise: unpaired, of all methods, where there are several.

    Returns:
        Mean, lower and upper end; the ends are nan where there are too few groups or trainings.
    """
    images = runs.groupby("image")[score].mean().dropna()
    noise = run_noise(runs, score, paired=False) if noise is None else noise
    tested = runs.groupby("rotation").image.nunique() / max(runs.image.nunique(), 1)
    trained = runs.groupby("rotation").run_id.nunique()
    error = noise.sd * math.sqrt((tested**2 / trained).sum())
    dataset, method = runs.dataset.iloc[0], runs.method.iloc[0]
    sample = Sample.of(images, groups_of(dataset), error, noise.df)
    return sample.mean, *interval(sample, dataset, method, score)


def gains(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Each method against S2L, image by image.

    Args:
        runs: as given by `results.load_runs`.
        score: a column of it.

    Returns:
        By method: the `mean` difference, the `share better`, and how many `images` were compared,
        each once for every fold, seed and annotator.
    """
    same = ["data", "image", "fold", "seed", "annotator"]
    shown = runs[runs.shown].pivot_table(index=same, columns="method", values=score)
    gain = shown.sub(shown["s2l"], axis=0).drop(columns="s2l")
    both = gain.notna()
    better = (gain > 0).sum() / both.sum()
    columns = {"mean": gain.mean(), "share better": better, "images": both.sum()}
    return pd.DataFrame(columns).round(3)


def spreads(runs: pd.DataFrame, scores: Mapping[str, str]) -> pd.DataFrame:
    """How far scores move from annotator to annotator and from fold to fold: standard deviations.

    Args:
        runs: as given by `results.load_runs`.
        scores: column -> title.

    Returns:
        A row for each data set and method; nan where there is one annotator or fold only.
    """
    columns, shown = {}, runs[runs.shown]
    for score, title in scores.items():
        for over, fixed in (("annotator", ["fold", "seed"]), ("fold", ["annotator", "seed"])):
            groups = ["data", "method", "rotation", *fixed]
            means = shown.groupby([*groups, over])[score].mean().groupby(groups)
            several = means.std()[means.size() > 1]
            columns[title, f"{over}s"] = several.groupby(["data", "method"]).mean()
    return pd.DataFrame(columns).reindex(list(METHODS), level="method").round(3)


def refuse_mixed(runs: pd.DataFrame) -> None:
    """Raises an S2LError where runs of several recipes, or a run twice, would be averaged."""
    if "variant" in runs:
        for dataset, variants in runs.groupby("dataset").variant:
            found = sorted(set(variants))
            if len(found) > 1:
                raise S2LError(
                    f"{dataset}: runs of {len(found)} recipes ({'; '.join(found)!r:.200}) cannot "
                    "be averaged. Pass the runs of one recipe: results.load_runs without variants."
                )
    twice = runs.duplicated(["dataset", "method", *REPETITION, "image"])
    if twice.any():
        row = runs[twice].iloc[0]
        raise S2LError(
            f"{row.run_id}, image {row.image}: two rows of one repetition; expected one. Pass the "
            "rows of one checkpoint, and delete one of two runs that are the same."
        )
