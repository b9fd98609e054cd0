"""What a difference between methods is worth: run noise, groups of alike images, tests, intervals.

Two things could have come out otherwise: which images are tested, and each training. A difference
is an average over both, and so is its error:

* Fields of one microscope image count as one (`groups_of`). Exchanging the signs of whole groups
  says how large a difference would be by chance.
* What a training adds by chance is estimated once for all methods of a data set (`run_noise`), and
  enters each test and interval beside the images.

Tests that are asked together are corrected together, for each data set on its own: a *family*. What
is found holds for further images in the same mix of kinds of imaging; where a data set has several
kinds, how many of them agree stands beside.
"""

import functools
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from s2l_core.config import METHODS, RunConfig, S2LError, seed_for
from s2l_core.profiles import DATASETS, ROTATING
from s2l_paper import costs, paths
from s2l_paper.datasets import split_of

# What tells one training of a method from another; a rotation has test images of its own.
REPETITION = ["rotation", "fold", "seed", "annotator"]

ALPHA = 0.05
POWER = 0.8  # with which a difference is said to be seen
SMALLEST_EFFECT = 0.01  # of interest, in the scores below; set before any run was held against it
MEASURED_BY_IT = ("iou", "mdice_official", "aji", "lost", "missed_share", "merged_share")

# 2 / 2^10, the least p of ten groups, survives Holm's correction in every family that is used.
MIN_GROUPS = 10
MIN_REPETITIONS = 2  # fewer say nothing about how trainings differ
EXACT_GROUPS = 17  # up to here all 2^k exchanges of signs are made
DRAWS = 10**5  # beyond, so many are drawn
RESAMPLES = 10**4  # of the bootstrap

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


@dataclass(frozen=True)
class Noise:
    """What a training adds by chance to a method's mean score over the test images.

    Attributes:
        sd: its standard deviation; nan where no training was repeated.
        df: degrees of freedom of that estimate; 0 where no training was repeated.
    """

    sd: float
    df: int


@functools.cache
def groups_of(dataset: str, level: str = "groups") -> Mapping[str, int]:
    """Image id -> number of its group, from the committed file; an image that is in no file is a
    group of its own.

    Args:
        dataset: name of the data set.
        level: "groups", the fields of one microscope image, or "kinds", a kind of imaging.

    Raises:
        S2LError: a file that cannot be read.
    """
    file = paths.group_file(dataset)
    if not file.exists():
        return {}
    try:
        groups = json.loads(file.read_text()).get(level, [])
        return {image: number for number, group in enumerate(groups) for image in group}
    except (ValueError, KeyError, TypeError) as error:
        again = f"Restore it: git checkout {file}"
        raise S2LError(f"{file} cannot be read ({error}). {again}") from error


@dataclass(frozen=True)
class Sample:
    """Values of images, gathered by group.

    Attributes:
        parts: (k,) what each group adds to the mean over images.
        shares: (k,) the share of the images that each group has.
        error: standard error of the mean that the trainings add.
        df: its degrees of freedom; 0 where it is not known.
    """

    parts: np.ndarray
    shares: np.ndarray
    error: float = 0.0
    df: int = 0

    @classmethod
    def of(
        cls, values: pd.Series, numbers: Mapping[str, int], error: float = 0.0, df: int = 0
    ) -> "Sample":
        """From one value per image, (n,), indexed by image id, and the number of each image's
        group; nan is left out.
        """
        values = values.dropna()
        labels = [numbers.get(image, image) for image in values.index]
        sums = values.groupby(labels, sort=False).agg(["sum", "size"]) / max(len(values), 1)
        return cls(sums["sum"].to_numpy(), sums["size"].to_numpy(), error, df)

    @property
    def enough(self) -> bool:
        """True where there are groups enough for a test, and trainings that were repeated."""
        return len(self.parts) >= MIN_GROUPS and self.df > 0

    @functools.cached_property
    def exchanged(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Sums of the parts and of the shares under every exchange of signs, and whether these are
        all that there are.
        """
        signs, exact = _signs(len(self.parts))
        both = np.stack([self.parts, self.shares], axis=1)  # (k, 2)
        blocks = [block @ both for block in np.array_split(signs, 1 + len(signs) // 10**4)]
        sums = np.concatenate(blocks)  # (2^k, 2) or (DRAWS / 2, 2)
        if not exact:
            # Each draw with its opposite; and what was observed is one of those that are possible.
            sums = np.concatenate([sums, -sums, both.sum(axis=0, keepdims=True)])
        return sums[:, 0], sums[:, 1], exact

    @property
    def mean(self) -> float:
        """Mean over images."""
        return float(self.parts.sum())

    def variance(self) -> float:
        """Of the mean over images, by how the groups differ."""
        k = len(self.parts)
        deviations = self.parts - self.mean * self.shares
        return float(k / (k - 1) * (deviations**2).sum()) if k > 1 else math.nan

    def total_error(self) -> tuple[float, float]:
        """Standard error by groups and trainings, and Satterthwaite's degrees of freedom of it."""
        groups, trainings = self.variance(), self.error**2
        both = groups + trainings
        if not both > 0:
            return math.sqrt(both), math.inf
        weights = groups**2 / (len(self.parts) - 1) + trainings**2 / max(self.df, 1)
        return math.sqrt(both), both**2 / weights


def p_value(sample: Sample, null: float = 0.0, side: str = "both") -> tuple[float, float]:
    """p of a mean over images against `null`, and the standard error of that p.

    The signs of the groups' deviations from `null` are exchanged in all 2^k ways, or in `DRAWS`
    drawn ones for more than `EXACT_GROUPS` groups. To each outcome the error of the trainings is
    added, Student's t with its degrees of freedom, so that the difference has to stand out from
    groups and trainings together. What the trainings have probably added to all groups alike, their
    share of the deviation by variance, is taken away before, or it would count twice.

    Args:
        sample: the groups.
        null: the mean that is held against the data.
        side: "both"; or "above" or "below", for the alternative that the mean lies there.

    Returns:
        p and its standard error, which is 0 where all exchanges were made; nan and nan where there
        are fewer than `MIN_GROUPS` groups or no training was repeated.
    """
    if not sample.enough:
        return math.nan, math.nan
    parts, shares, exact = sample.exchanged
    distance = sample.mean - null
    both = sample.variance() + sample.error**2
    by_trainings = distance * sample.error**2 / both if both > 0 else 0.0
    outcomes = parts - (null + by_trainings) * shares  # with each its opposite
    if side == "both":
        distance = abs(distance)
    elif side == "below":
        distance = -distance

    if sample.error > 0:
        beyond = special.stdtr(sample.df, (outcomes - distance) / sample.error)
    else:
        beyond = (outcomes >= distance - 1e-12).astype(float)
    sides = 2 if side == "both" else 1
    p_error = 0.0 if exact else sides * beyond.std() / math.sqrt(DRAWS / 2)
    return min(float(sides * beyond.mean()), 1.0), float(p_error)


@functools.lru_cache(maxsize=8)
def _signs(k: int) -> tuple[np.ndarray, bool]:
    """Rows of k signs, int8, and whether they are all that there are."""
    if k <= EXACT_GROUPS:
        bits = np.arange(2**k)[:, None] >> np.arange(k) & 1
        return (2 * bits - 1).astype(np.int8), True
    rng = np.random.default_rng(seed_for(0, "signs", k))
    return 2 * rng.integers(0, 2, size=(DRAWS // 2, k), dtype=np.int8) - 1, False


def interval(sample: Sample, *purpose: Hashable, level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean over images by a bootstrap of groups and trainings.

    Groups are drawn again, and to each mean an error of the trainings is added, Student's t with
    its degrees of freedom. Percentiles of few groups are too narrow; they are widened as Hesterberg
    (2015, Sec. 5.3) says, by sqrt(k / (k - 1)) and by the quantiles of t with k - 1 degrees.

    Args:
        sample: the groups.
        purpose: names what is resampled, and so seeds it.
        level: of confidence.

    Returns:
        Lower and upper end; nan and nan where there are fewer than `MIN_GROUPS` groups or no
        training was repeated.
    """
    if not sample.enough:
        return math.nan, math.nan
    k = len(sample.parts)
    rng = np.random.default_rng(seed_for(0, "bootstrap", *purpose))

    # Groups are drawn with replacement; those of many images weigh as much as their images.
    drawn = rng.integers(0, k, size=(RESAMPLES, k))
    means = sample.parts[drawn].sum(axis=1) / sample.shares[drawn].sum(axis=1)  # (RESAMPLES,)
    tail = (1 - level) / 2
    widened = math.sqrt(k / (k - 1)) * stats.t.isf(tail, k - 1) / stats.norm.isf(tail)
    deviations = widened * (means - sample.mean)

    low, high = (_with_error(deviations, sample, share) for share in (tail, 1 - tail))
    return sample.mean + low, sample.mean + high


def _with_error(deviations: np.ndarray, sample: Sample, share: float) -> float:
    """Quantile of deviations (n,) to which the error of the trainings is added.

    It is found on the distribution of the sum. Drawn errors of few degrees of freedom are now and
    then so large that the ends of an interval, and verdicts with them, would hang on the draws.
    """
    if not sample.error > 0:
        return float(np.quantile(deviations, share))
    points = np.quantile(deviations, (np.arange(1000) + 0.5) / 1000)
    reach = 1.01 * sample.error * stats.t.isf(min(share, 1 - share), sample.df)

    def above(value: float) -> float:
        return special.stdtr(sample.df, (value - points) / sample.error).mean() - share

    return float(optimize.brentq(above, points[0] - reach, points[-1] + reach, xtol=1e-6))


def equivalence(sample: Sample, margin: float = SMALLEST_EFFECT) -> tuple[float, float]:
    """p of two one-sided tests (TOST), small where the mean surely lies within ± `margin`; and its
    error.
    """
    return max(p_value(sample, -margin, "above"), p_value(sample, margin, "below"))


def detectable(error: float, df: float, tests: int = 1) -> float:
    """The smallest difference that is found with probability `POWER`, one of so many tests."""
    if not error >= 0:
        return math.nan
    return float((stats.t.isf(ALPHA / 2 / tests, df) + stats.t.isf(1 - POWER, df)) * error)


def holm(p: pd.Series) -> pd.Series:
    """p values corrected for their number by Holm's method; nan, no test, counts for nothing."""
    ordered = p.dropna().sort_values()
    steps = np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)).clip(upper=1)
    return steps.reindex(p.index)


def run_noise(runs: pd.DataFrame, score: str, *, paired: bool = True) -> Noise:
    """What a training of a network adds by chance, pooled over the methods of one data set.

    A run is its mean over the test images. Within each rotation, which has the same test images,
    it is taken for method + repetition (additive); the noise is what is left. Where no repetition
    is left within a rotation, rotations are taken for repetitions: then the noise holds what other
    test images do to the difference of two methods too.

    Args:
        runs: rows of one data set and checkpoint.
        score: the column.
        paired: for differences, from which what a repetition does to all methods is gone; else it
            belongs to the noise.
    """
    networks = [name for name in runs.method.unique() if not METHODS[name].baseline]
    rows = runs[runs.method.isin(networks)]
    means = rows.groupby(["method", *REPETITION])[score].mean().unstack("method")
    means = means.dropna(how="all")
    if means.empty:
        return Noise(math.nan, 0)

    tables = [table.to_numpy() for _, table in means.groupby("rotation")]
    if not sum(_after_both(table)[1] for table in tables):
        tables = [means.to_numpy()]
    return pooled_noise(tables, paired=paired)


def pooled_noise(tables: Sequence[np.ndarray], *, paired: bool = True) -> Noise:
    """Noise of single values in tables (repetitions, methods); nan is no observation.

    Args:
        tables: each with rows and columns of its own.
        paired: for differences within a row; else what a row does to all its values is noise too.
    """
    squares, df = np.sum([_after_both(table) for table in tables], axis=0)
    if paired:
        return Noise(math.sqrt(squares / df), int(df)) if df else Noise(math.nan, 0)

    # About the columns alone: a part that methods share, of as many degrees of freedom as there
    # are repetitions, and their own. Satterthwaite's degrees of freedom are those of the sum.
    alone, repeated = np.sum([_after_methods(table) for table in tables], axis=0)
    if not repeated:
        return Noise(math.nan, 0)
    total = alone / repeated
    own = squares / df * (1 - 1 / tables[0].shape[1]) if df else 0.0
    shared = max(total - own, 0.0)
    shared_df = max(1, sum(len(table) - 1 for table in tables))
    weights = shared**2 / shared_df + (own**2 / df if df else 0.0)
    return Noise(math.sqrt(total), max(1, int(total**2 / weights)) if weights else shared_df)


def _after_both(table: np.ndarray) -> tuple[float, int]:
    """Sum of squares of a table (repetitions, methods) about row + column, and its degrees of
    freedom; nan is no observation.
    """
    seen = ~np.isnan(table)
    rows, columns = np.nonzero(seen)
    design = np.concatenate([np.eye(table.shape[0])[rows], np.eye(table.shape[1])[columns]], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(design, table[seen], rcond=None)
    residuals = table[seen] - design @ fitted
    return float((residuals**2).sum()), int(seen.sum() - rank)


def _after_methods(table: np.ndarray) -> tuple[float, int]:
    """Sum of squares of a table (repetitions, methods) about its columns, and how many values are
    free in it; nan is no observation.
    """
    seen = (~np.isnan(table)).sum(axis=0)
    repeated = table[:, seen > 1]
    squares = (seen[seen > 1] - 1) * np.nanvar(repeated, axis=0, ddof=1) if repeated.size else 0.0
    return float(np.sum(squares)), int((seen[seen > 1] - 1).sum())


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
    kinds = groups_of(dataset, "kinds")
    by_kind = Sample.of(images, kinds, error, noise.df) if kinds else None

    names = (dataset, *sorted(weights.items()), score)
    low, high = interval(sample, *map(str, names))
    p, p_error = p_value(sample)
    bounded = score in MEASURED_BY_IT
    total, df = sample.total_error() if sample.enough else (math.nan, math.nan)
    used = chosen.set_index([*REPETITION, "image"]).loc[values.index]
    found = [sample.mean, low, high, p, p_error]
    found += equivalence(sample) if bounded else (math.nan, math.nan)
    found += [total, df, len(images), len(sample.parts), len(repetitions), spread]
    found += [int((repetitions > 0).sum()), int((repetitions < 0).sum())]
    if by_kind is None:
        found += [1, int(sample.mean > 0), math.nan]
    else:
        above = int((by_kind.parts > 0).sum())
        found += [len(by_kind.parts), above, p_value(by_kind)[0]]
    return dict(zip(TESTS, [*found, " ".join(sorted(set(used.run_id)))], strict=True))


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
        corrections; and `seen`, the smallest difference that such a test finds four times in five.
        Where exchanges were drawn, p counts with twice its error, so that no verdict hangs on the
        draws.
    """
    table = table.assign(family=family, tests=0, p_holm=np.nan, p_equal_holm=np.nan, seen=np.nan)
    for dataset, part in table.groupby(level="dataset", sort=False):
        rows = table.index.get_level_values("dataset") == dataset
        tests = max(int(part.p.count()), 1)
        table.loc[rows, "tests"] = int(part.p.count())
        table.loc[rows, "p_holm"] = holm(part.p + 2 * part.p_error)
        table.loc[rows, "p_equal_holm"] = holm(part.p_equal + 2 * part.p_equal_error)
        seen = [detectable(error, df, tests) for error, df in zip(part.error, part.df, strict=True)]
        table.loc[rows, "seen"] = seen
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


def spread(runs: pd.DataFrame, score: str) -> float:
    """Standard deviation of one method's repetitions that tested the same images; nan for one."""
    means = runs.groupby(REPETITION)[score].mean()
    tables = [table.to_numpy()[:, None] for _, table in means.groupby("rotation")]
    squares, free = np.sum([_after_methods(table) for table in tables], axis=0)
    return math.sqrt(squares / free) if free else math.nan


def refuse_mixed(runs: pd.DataFrame) -> None:
    """Raises an S2LError where runs of several recipes, or a run twice, would be averaged."""
    if "variant" in runs:
        for dataset, variants in runs.groupby("dataset").variant:
            found = sorted(set(variants))
            if len(found) > 1:
                raise S2LError(
                    f"{dataset}: runs of {len(found)} recipes ({'; '.join(found)!r:.200}) cannot "
                    "be averaged. Take those of one: results.load_runs without variants."
                )
    twice = runs.duplicated(["dataset", "method", *REPETITION, "image"])
    if twice.any():
        row = runs[twice].iloc[0]
        raise S2LError(
            f"{row.run_id}, image {row.image}: two rows of one repetition. Pass the rows of one "
            "checkpoint, and delete one of two runs that are the same."
        )


def missing_runs(
    runs: pd.DataFrame, profile: str, dataset: str, methods: Iterable[str]
) -> list[RunConfig]:
    """The runs that a test of these methods lacks: repetitions that other methods have, further
    test parts where one has fewer than `MIN_GROUPS` groups, and `MIN_REPETITIONS` of each.

    Args:
        runs: finished runs of the profile, of any data set.
        profile: whose settings the missing runs have.
        dataset: name of the data set.
        methods: names of the methods that are compared.
    """
    here = runs[runs.dataset == dataset]
    baselines = [name for name, method in METHODS.items() if method.baseline]
    networks = here[~here.method.isin(baselines)]
    done = here[["method", *REPETITION]].drop_duplicates()
    wanted = [tuple(row) for row in networks[REPETITION].drop_duplicates().to_numpy().tolist()]
    usual = RunConfig(dataset, "s2l", profile=profile)
    wanted = wanted or [(0, 0, 0, str(usual.annotator))]
    _, fold, _, annotator = min(wanted)
    for rotation in _further_parts(usual, {row[0] for row in wanted}):
        wanted.append((rotation, fold, 0, annotator))

    # Where a test part has too few trainings, further seeds of the first are the cheapest.
    for rotation in {row[0] for row in wanted}:
        own = [row for row in wanted if row[0] == rotation]
        seeds = max(row[2] for row in own)
        for more in range(1, 1 + MIN_REPETITIONS - len(own)):
            wanted.append((rotation, own[0][1], seeds + more, own[0][3]))

    have = set(map(tuple, done.to_numpy().tolist()))
    lacking = []
    for method in methods:
        for rotation, fold, seed, annotator in sorted(wanted):
            if (method, rotation, fold, seed, annotator) not in have:
                number = int(annotator) if str(annotator).isdigit() else annotator
                lacking.append(
                    RunConfig(
                        dataset,
                        method,
                        profile=profile,
                        rotation=int(rotation),
                        fold=int(fold),
                        seed=int(seed),
                        annotator=number,
                    )
                )
    return lacking


def _further_parts(config: RunConfig, rotations: set[int]) -> list[int]:
    """Which parts of a data set have to be tested as well, for `MIN_GROUPS` groups of images."""
    if config.dataset not in ROTATING:
        return []
    numbers, groups, further = groups_of(config.dataset), set(), []
    parts = DATASETS[config.dataset][1] + 1  # those of the folds, and the one that is tested

    # Parts that were tested already come first; others are added until there are enough.
    for rotation in [*sorted(rotations), *sorted(set(range(parts)) - rotations)]:
        if rotation not in rotations:
            if len(groups) >= MIN_GROUPS:
                break
            further.append(rotation)
        test = split_of(replace(config, rotation=int(rotation))).test
        groups |= {numbers.get(image, image) for image in test}
    return further


def shortage(lacking: Sequence[RunConfig]) -> str:
    """Which runs are missing and how long they take, in words; empty where none is."""
    if not lacking:
        return ""
    names = []
    for config in lacking:
        annotator = f", annotator {config.annotator}" if config.annotator else ""
        rotation = f", rotation {config.rotation}" if config.rotation else ""
        names.append(f"{config.method} fold {config.fold}, seed {config.seed}{rotation}{annotator}")
    seconds = sum(costs.estimate_seconds(config) for config in lacking)

    # The methods of a repetition share a warm-up, if it is not there already.
    forks = [config for config in lacking if METHODS[config.method].forks]
    warmups = {(run.rotation, run.fold, run.seed, run.annotator): run for run in forks}
    seconds += sum(costs.estimate_seconds(run, warmup=True) for run in warmups.values())
    listed = "; ".join(names[:4]) + (f"; and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{len(names)} runs, about {max(1, round(seconds / 60))} minutes on one core: {listed}"
