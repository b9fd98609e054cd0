"""What runs score once touching nuclei are told apart, beside their official scores.

Official scores stay on connected components.
"""

import pandas as pd

from s2l_core.config import METHODS
from s2l_core.profiles import DATASETS
from s2l_paper.comparing.apart import BOTH_WAYS, TOGETHER, TRIED_KEYS, chosen
from s2l_paper.tables.table1 import markdown

GROUP = ["data", "dataset", "method", "variant", "checkpoint"]


def with_columns(wide: pd.DataFrame, runs: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The wide table with AJI and F1 of the same objects, left together and told apart.

    Older runs kept the masks of a few test images only, so that these columns may rest on fewer
    images and runs than the others: `images_apart` and `runs_apart` count them.

    Args:
        wide: as given by `table1.summary`.
        runs: as given by `results.load_runs`.
        found: as given by `apart.measured`; where it is empty there is nothing to add.
    """
    if found.empty:
        return wide
    shown = runs.loc[runs.shown, ["run_id", *GROUP]].drop_duplicates()
    rows = found.merge(shown, on="run_id")

    # As in the wide table, an image is first averaged over the runs that were measured on it.
    by_image = rows.groupby([*GROUP, "image"], as_index=False)[BOTH_WAYS].mean()
    means = by_image.groupby(GROUP)[BOTH_WAYS].mean()
    means.insert(0, "images_apart", by_image.groupby(GROUP).size())
    means.insert(1, "runs_apart", rows.groupby(GROUP).run_id.nunique())
    return wide.merge(means.reset_index(), on=GROUP, how="left")


def text(scores: pd.DataFrame) -> str:
    """The new columns as Markdown, for every method that was measured.

    Args:
        scores: `scores.csv`, with the columns of `with_columns`.
    """
    if "images_apart" not in scores:
        return ""
    own = scores.variant.isna() | (scores.variant == "")
    rows = scores[scores.images_apart.notna() & own]
    lines = []
    for row in rows.itertuples():
        line = {"data": row.data, "method": METHODS[row.method].label}
        line["images"] = f"{row.images_apart:.0f} of {row.images}"
        line["runs"] = f"{row.runs_apart:.0f} of {row.runs}"
        for score, together, apart in (
            ("AJI", row.aji_together, row.aji_apart),
            ("F1", row.f1_together, row.f1_apart),
        ):
            line |= {f"{score} of components": _short(together), f"{score} apart": _short(apart)}
        lines.append(line)
    return markdown(pd.DataFrame(lines)) if lines else ""


def worse_text(found: pd.DataFrame) -> str:
    """On how many images F1 falls where touching nuclei are told apart, and where most.

    Args:
        found: as given by `apart.measured`, not empty.
    """
    changed = found.f1_apart - found.f1_together
    worst = found.loc[changed.idxmin()]
    dataset, method = worst.run_id.split("_")[:2]
    text = (
        f"F1 rises on {(changed > 0).sum()} and falls on {(changed < 0).sum()} of {len(found)} "
        "pairs of a run and a test image."
    )
    if changed.min() < 0:
        text += (
            f" It falls most on {worst.image[:8]} of {DATASETS[dataset][0]} "
            f"({METHODS[method].label}): from {_short(worst.f1_together)} to "
            f"{_short(worst.f1_apart)}."
        )
    if count := int(found.refused.sum()):
        text += (
            f" In {count} of these pairs the watershed would have cut objects into too many "
            "pieces; it was refused there, and they were left as they were."
        )
    return text


def settings_text(table: pd.DataFrame) -> str:
    """The chosen settings as Markdown.

    Args:
        table: as given by `apart.tried`.
    """
    lines = []
    for (dataset, rotation, family), rows in table.groupby(TRIED_KEYS, sort=False):
        best, before = chosen(rows), rows[rows.spacing == TOGETHER].iloc[0]
        alone = best.spacing == TOGETHER
        lines.append(
            {
                "data": DATASETS[dataset][0],
                "test part": rotation,
                "of": METHODS[family].label if family in METHODS else family,
                "validation images": f"{best.images:.0f}",
                "spacing": "left together" if alone else f"{best.spacing:g}",
                "smoothing": "" if alone else f"{best.smoothing:g}",
                "AJI": f"{_short(before.aji)} to {_short(best.aji)}",
                "F1": f"{_short(before.f1)} to {_short(best.f1)}",
            }
        )
    return markdown(pd.DataFrame(lines)) if lines else ""


def _short(value: float) -> str:
    """A share without the 0 before its point."""
    return f"{value:.3f}".removeprefix("0")
