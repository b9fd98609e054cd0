"""Table 1: ours with intervals and tests, the paper's and the difference, as a tidy table,
Markdown and HTML.
"""

import html
import math
import sys

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS, S2LError
from s2l_paper import paths
from s2l_paper.results import SCORES, load_runs
from s2l_paper.statistics import ALPHA, MIN_IMAGES, REPETITION, compare, interval

PAPER_TABLE1 = {  # (method, dataset) -> mDice, IoU; Table 1 of the paper
    ("s2l", "dsb-bf"): (0.6980, 0.8108), ("s2l", "dsb-fluo"): (0.8235, 0.8419),
    ("s2l", "monuseg"): (0.7098, 0.6586),
    ("s2l-r1", "dsb-bf"): (0.7068, 0.8153), ("s2l-r1", "dsb-fluo"): (0.8267, 0.8565),
    ("s2l-r1", "monuseg"): (0.7165, 0.6715), ("s2l-r4", "dsb-bf"): (0.7078, 0.8292),
    ("s2l-r4", "dsb-fluo"): (0.8234, 0.8505), ("s2l-r4", "monuseg"): (0.7205, 0.6603),
    ("s2l-r1-r4", "dsb-bf"): (0.7199, 0.8368), ("s2l-r1-r4", "dsb-fluo"): (0.8268, 0.8570),
    ("s2l-r1-r4", "monuseg"): (0.7128, 0.6639), ("supervised", "dsb-bf"): (0.7305, 0.8665),
    ("supervised", "dsb-fluo"): (0.8204, 0.8790), ("supervised", "monuseg"): (0.7646, 0.6867),
}  # fmt: skip


TABLE1_SCORES = {"mdice_official": "mDice", "iou": "IoU"}  # column -> name, in the paper's order


def paper_value(method: str, dataset: str, score: str) -> float:
    """A number of the paper's Table 1; nan for what it does not report."""
    values = PAPER_TABLE1.get((method, dataset), ())
    return dict(zip(TABLE1_SCORES, values, strict=False)).get(score, math.nan)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over repetitions, spread and n for every score, method, data set,
    variant and checkpoint.

    A repetition is a fold, seed and annotator; its value is the mean over its images, of which
    those without nuclei have no mDice and are left out of its mean.
    """
    keys = ["data", "dataset", "method", "variant", "checkpoint", "shown"]
    repetitions = runs.groupby([*keys, *REPETITION], as_index=False)[SCORES].mean()
    table = repetitions.groupby(keys, as_index=False).agg(
        runs=("fold", "size"),
        **{s: (s, "mean") for s in SCORES},
        **{f"{s}_spread": (s, "std") for s in SCORES[1:]},
    )
    images = runs.groupby(keys).image.nunique().rename("images").reset_index()
    ids = (
        runs.groupby(keys)
        .run_id.agg(lambda values: " ".join(sorted(set(values))))
        .rename("run_ids")
        .reset_index()
    )
    table = table.merge(images, on=keys).merge(ids, on=keys)
    table["method"] = pd.Categorical(table.method, list(METHODS))
    return table.sort_values(["data", "method", "variant", "checkpoint"]).reset_index(drop=True)


def against_s2l(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1's tests: every other method's difference to S2L, both scores,
    on every data set, corrected together.
    """
    shown, others = runs[runs.shown], [name for name in TABLE1_METHODS if name != "s2l"]
    return compare(
        shown,
        [(d, m, "s2l", s) for d in shown.dataset.unique() for m in others for s in TABLE1_SCORES],
    )


def table1(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1, tidy: a row for each of the paper's numbers we have a run for (and for data sets it
    does not have).

    Args:
        runs: as given by `results.load_runs`, without variants.

    Returns:
        `score` is mDice (`mdice_official`, the paper's) or IoU; `low` and `high` are the 95 %
        interval over images, `p_holm` is of the difference to S2L; both are empty for fewer than
        `MIN_IMAGES` images, where the `spread` over `runs` has to do.
        `rank` is 1 or 2 for the best and second best of ours.

    Raises:
        S2LError: no run of a method of Table 1.
    """
    wide = summary(runs)
    wide = wide[wide.shown & wide.method.isin(TABLE1_METHODS)]
    if wide.empty:
        raise S2LError(
            f"No finished run of a method of Table 1 ({', '.join(TABLE1_METHODS)}). Run at least"
            " one."
        )
    p, rows = against_s2l(runs).p_holm, []
    for _, row in wide.iterrows():
        mine = runs[runs.shown & (runs.method == row.method) & (runs.data == row.data)].groupby(
            "image"
        )
        for column, score in TABLE1_SCORES.items():
            low, high = interval(mine[column].mean(), row.dataset, row.method, column)
            paper = paper_value(row.method, row.dataset, column)
            rows.append(
                {"data": row.data, "method": row.method, "score": score, "ours": row[column]}
                | {
                    "spread": row[f"{column}_spread"],
                    "runs": row.runs,
                    "low": low,
                    "high": high,
                    "images": row.images,
                }
                | {"p_holm": p.get((row.dataset, row.method, "s2l", column), math.nan)}
                | {"paper": paper, "difference": row[column] - paper, "run_ids": row.run_ids}
            )
    table = pd.DataFrame(rows)
    rank = table.groupby(["data", "score"]).ours.rank(ascending=False, method="min")
    return table.assign(rank=rank.where(rank <= 2)).round(4)


MARKS = {  # rank -> Markdown before and after, CSS
    1: ("**", "**", "color:#c1121f;font-weight:bold"),
    2: ("<u>", "</u>", "color:#1d4ed8;text-decoration:underline"),
}


LEGEND = (
    "Mean over folds, seeds and annotators, ± standard deviation where there are several [95 %"
    " interval over the n test images]. † differs from S2L: paired permutation test on images, p <"
    f" {ALPHA:g} after Holm's correction. Fewer than {MIN_IMAGES} test images: neither interval nor"
    " test."
)


def _columns(table: pd.DataFrame) -> pd.Series:
    return (
        table.data
        + " "
        + table.score
        + " (n = "
        + table.groupby("data").images.transform("max").astype(str)
        + ")"
    )


def _cells(table: pd.DataFrame, *, marked: bool) -> pd.DataFrame:
    """Table 1 as text: a row for each method, a column for each data set and score;
    `marked` for Markdown.
    """

    def text(row) -> str:
        before, after, _ = MARKS.get(row["rank"], ("", "", ""))
        value = f"{before}{row.ours:.3f}{after}" if marked else f"{row.ours:.3f}"
        value += "†" if row.p_holm < ALPHA else ""
        value += f" ± {row.spread:.3f}" if row.spread == row.spread else ""
        value += f" [{row.low:.3f}, {row.high:.3f}]" if row.low == row.low else ""
        return value + (
            f" (paper {row.paper:.3f}, {row.difference:+.3f})" if row.paper == row.paper else ""
        )

    labelled = table.assign(text=table.apply(text, axis=1), column=_columns(table))
    order = list(dict.fromkeys(labelled.column))
    cells = labelled.pivot(index="method", columns="column", values="text")
    cells = cells.reindex(index=[m for m in METHODS if m in cells.index], columns=order)
    return cells.rename(index=lambda method: METHODS[method].label).fillna("not run")


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as a Markdown table: best in bold, second best underlined; the legend below it."""
    cells = _cells(table, marked=True)
    lines = [
        "| Method | " + " | ".join(cells.columns) + " |",
        "|---" * (len(cells.columns) + 1) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(row) + " |"
        for name, row in zip(cells.index, cells.to_numpy(), strict=True)
    ]
    return "\n".join([*lines, "", LEGEND]) + "\n"


def table1_html(table: pd.DataFrame) -> str:
    """Table 1 as HTML: best red and bold, second best blue and underlined, as in the paper."""
    caption = f"mDice and IoU: ours, the paper's, and the difference. {LEGEND}"
    cells = _cells(table, marked=False)
    ranks = table.assign(column=_columns(table)).pivot(
        index="method", columns="column", values="rank"
    )
    ranks = ranks.rename(index=lambda method: METHODS[method].label).reindex(
        index=cells.index, columns=cells.columns
    )
    styles = ranks.map(lambda rank: MARKS[rank][2] if rank in MARKS else "")
    styler = cells.rename_axis(index=None, columns=None).style.apply(lambda _: styles, axis=None)
    return styler.set_uuid("table1").set_caption(html.escape(caption)).to_html()


def image_scores(row: pd.Series) -> str:
    """Scores of one test image as Fig. 2 prints them."""
    return f"IoU {row.iou:.2f}   mDice {row.mdice_official:.2f}"


def main(profile: str) -> None:
    """Prints Table 1 of a profile and where its files are."""
    folder = paths.results(profile)
    try:
        print(f"\n{table1_markdown(table1(load_runs(profile)))}")
    except S2LError as error:
        sys.exit(f"error: {error}")
    print(
        f"best **bold**, second best <u>underlined</u>\ntables   {folder}/table1.*, claims.*,"
        " scores.csv"
    )
    print(f"figure   {paths.figures(profile)}/figure2.png\nnotebooks {paths.executed(profile)}/")


if __name__ == "__main__":
    main(sys.argv[1])
