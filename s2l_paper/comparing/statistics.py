"""Tests and intervals of a mean over images, where images of a group are alike and every training
adds an error of its own.

Two things could have come out otherwise: which images are tested, and each training. A difference
is an average over both, and so is its error:

* Fields of one microscope image count as one (`groups_of`). Exchanging the signs of whole groups
  says how large a difference would be by chance.
* What a training adds by chance is estimated once for all methods of a data set
  (`training_noise.run_noise`), and enters each test and interval beside the images.

What is found holds for further images in the same mix of kinds of imaging.
"""

import functools
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from s2l_core.config import S2LError, seed_for
from s2l_paper import paths

ALPHA = 0.05
POWER = 0.8  # with which a difference is said to be seen
SMALLEST_EFFECT = 0.01  # of interest, in IoU and mDice; set before any run was held against it

# 2 / 2^10, the least p of ten groups, survives Holm's correction in every family that is used.
MIN_GROUPS = 10
EXACT_GROUPS = 17  # up to here all 2^k exchanges of signs are made
DRAWS = 10**5  # beyond, so many are drawn
RESAMPLES = 10**4  # of the bootstrap


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
    """The smallest difference that a t test finds with probability `POWER`, one of so many tests.

    Args:
        error: standard error of the difference, taken for the true one; with few degrees of freedom
            it is known badly, and so is what is returned.
        df: its degrees of freedom.
        tests: over how many tests p is corrected.
    """
    if not error > 0:
        return 0.0 if error == 0 else math.nan
    df = min(df, 10**6)
    critical = stats.t.isf(ALPHA / 2 / tests, df)

    def lacking(errors: float) -> float:
        return stats.nct.sf(critical, df, errors) - POWER

    surely_found = 3 * critical + 5
    return float(optimize.brentq(lacking, 0, surely_found, xtol=1e-6)) * error


def holm(p: pd.Series) -> pd.Series:
    """p values corrected for their number by Holm's method; nan, no test, counts for nothing."""
    ordered = p.dropna().sort_values()
    steps = np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)).clip(upper=1)
    return steps.reindex(p.index)
