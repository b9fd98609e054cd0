"""What a training adds by chance to a score: the spread between repetitions of one method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from s2l_core.config import METHODS

# What tells one training of a method from another; a rotation has test images of its own.
REPETITION = ["rotation", "fold", "seed", "annotator"]

# A first pair of runs on the same images says less about the noise than all rotations together.
LEAST_DF = 5


@dataclass(frozen=True)
class Noise:
    """What a training adds by chance to a method's mean score over the test images.

    Attributes:
        sd: its standard deviation; nan where no training was repeated.
        df: degrees of freedom of that estimate; 0 where no training was repeated.
    """

    sd: float
    df: int


def run_noise(runs: pd.DataFrame, score: str, *, paired: bool = True) -> Noise:
    """What a training of a network adds by chance, pooled over the methods of one data set.

    A run is its mean over the test images. Within each rotation, which has the same test images,
    it is taken for method + repetition (additive); the noise is what is left. Where that leaves
    fewer than `LEAST_DF` degrees of freedom, rotations are taken for repetitions as well: then the
    noise holds what other test images do to the difference of two methods too.

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
    if sum(_after_both(table)[1] for table in tables) < LEAST_DF:
        tables = [means.to_numpy()]
    return pooled_noise(tables, paired=paired)


def pooled_noise(tables: Sequence[np.ndarray], *, paired: bool = True) -> Noise:
    """Noise of single values in tables (repetitions, methods); nan is no observation.

    Args:
        tables: each with rows and columns of its own.
        paired: for differences within a row; else what a row does to all its values is noise too.
    """
    own_squares, own_df = np.sum([_after_both(table) for table in tables], axis=0)
    if paired:
        if not own_df:
            return Noise(math.nan, 0)
        return Noise(math.sqrt(own_squares / own_df), int(own_df))

    # Unpaired, what a repetition does to all methods alike is noise as well. The variance about the
    # columns alone holds both: the part that methods share, and each one's own.
    squares, df = np.sum([_after_methods(table) for table in tables], axis=0)
    if not df:
        return Noise(math.nan, 0)
    variance = squares / df

    # It is the mean square of the rows over the number of columns, and the rest of the residual
    # mean square. These two are independent, so their degrees of freedom can be combined.
    columns = tables[0].shape[1]
    own = own_squares / own_df * (1 - 1 / columns) if own_df else 0.0
    shared = max(variance - own, 0.0)
    shared_df = max(1, sum(len(table) - 1 for table in tables))

    # Satterthwaite's degrees of freedom of the sum of both.
    denominator = shared**2 / shared_df
    if own_df:
        denominator += own**2 / own_df
    if not denominator:
        return Noise(math.sqrt(variance), shared_df)
    return Noise(math.sqrt(variance), max(1, int(variance**2 / denominator)))


def spread(runs: pd.DataFrame, score: str) -> float:
    """Standard deviation of one method's repetitions that tested the same images; nan for one."""
    means = runs.groupby(REPETITION)[score].mean()
    tables = [table.to_numpy()[:, None] for _, table in means.groupby("rotation")]
    squares, free = np.sum([_after_methods(table) for table in tables], axis=0)
    return math.sqrt(squares / free) if free else math.nan


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
