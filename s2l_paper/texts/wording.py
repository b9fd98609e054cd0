"""What the pages' texts share: how a score is written, and which rows of a table they speak of."""

from collections.abc import Iterable

import pandas as pd

from s2l_core.config import FULL, METHODS


def share(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A score without the 0 before its point, such as .614 or -.007."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def joined(parts: Iterable[str]) -> str:
    """Parts of a sentence: a, b and c."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def usual(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of the usual recipe with the weights that Table 1 shows, by data set and method."""
    rows = scores[scores.shown & scores.variant.isna()]
    return rows.set_index(["data", "method"])


def with_all(rows: pd.DataFrame, *methods: str) -> list[str]:
    """The data sets on which all these methods were run."""
    every = rows.index.unique("data")
    return [data for data in every if all((data, method) in rows.index for method in methods)]


def both_terms(compared: pd.DataFrame) -> pd.DataFrame:
    """The full method against S2L, by data set and score."""
    pair = (compared.method == METHODS[FULL].label) & (compared.against == METHODS["s2l"].label)
    return compared[pair].set_index(["data", "score"])


def strokes_by_annotator(trials: pd.DataFrame) -> pd.Series:
    """Validation IoU by annotator, budget and method: a list with the value of each training."""
    rows = trials[trials.experiment == "annotator and budget"]
    return rows.groupby(["annotator", "budget", "method"]).validation_iou.apply(list)
