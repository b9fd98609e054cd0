"""Table 1: ours, the paper's and the difference, as a tidy table, Markdown and HTML."""

import html
import math
import sys

import pandas as pd

from s2l_core import paths
from s2l_core.config import METHODS, TABLE1_METHODS, S2LError
from s2l_core.results import SCORES, load_runs

PAPER_TABLE1 = {  # (method, dataset) -> mDice, IoU; Table 1 of the paper
    ("s2l", "dsb-bf"): (0.6980, 0.8108), ("s2l", "dsb-fluo"): (0.8235, 0.8419), ("s2l", "monuseg"): (0.7098, 0.6586),
    ("s2l-r1", "dsb-bf"): (0.7068, 0.8153), ("s2l-r1", "dsb-fluo"): (0.8267, 0.8565),
    ("s2l-r1", "monuseg"): (0.7165, 0.6715), ("s2l-r4", "dsb-bf"): (0.7078, 0.8292),
    ("s2l-r4", "dsb-fluo"): (0.8234, 0.8505), ("s2l-r4", "monuseg"): (0.7205, 0.6603),
    ("s2l-r1-r4", "dsb-bf"): (0.7199, 0.8368), ("s2l-r1-r4", "dsb-fluo"): (0.8268, 0.8570),
    ("s2l-r1-r4", "monuseg"): (0.7128, 0.6639), ("supervised", "dsb-bf"): (0.7305, 0.8665),
    ("supervised", "dsb-fluo"): (0.8204, 0.8790), ("supervised", "monuseg"): (0.7646, 0.6867),
}  # fmt: skip


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds and seeds, spread and n for every score, method, data set and checkpoint.

    A fold's value is the mean over its images; images without nuclei have no mDice and are left out of its mean.
    """
    keys = ["data", "dataset", "method", "checkpoint", "shown"]
    folds = runs.groupby([*keys, "fold", "seed", "annotator"], as_index=False)[SCORES].mean()
    table = folds.groupby(keys, as_index=False).agg(
        runs=("fold", "size"), **{s: (s, "mean") for s in SCORES}, **{f"{s}_spread": (s, "std") for s in SCORES[1:-1]}
    )
    images = runs.groupby(keys).image.nunique().rename("images").reset_index()
    ids = runs.groupby(keys).run_id.agg(lambda values: " ".join(sorted(set(values)))).rename("run_ids").reset_index()
    table = table.merge(images, on=keys).merge(ids, on=keys)
    table["method"] = pd.Categorical(table.method, list(METHODS))
    return table.sort_values(["data", "method", "checkpoint"]).reset_index(drop=True)


def table1(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1, tidy: a row for each of the paper's numbers we have a run for (and for data sets it does not have).

    `score` is mDice (`mdice_official`, the paper's) or IoU; `rank` is 1 or 2 for the best and second best of ours.
    """
    wide = summary(runs)
    wide = wide[wide.shown & wide.method.isin(TABLE1_METHODS)]
    rows = []
    for _, row in wide.iterrows():
        for place, (score, column) in enumerate((("mDice", "mdice_official"), ("IoU", "iou"))):
            paper = PAPER_TABLE1.get((row.method, row.dataset), (math.nan, math.nan))[place]
            rows.append(
                {"data": row.data, "method": row.method, "score": score, "ours": row[column]}
                | {"spread": row[f"{column}_spread"], "runs": row.runs, "images": row.images, "paper": paper}
                | {"difference": row[column] - paper, "run_ids": row.run_ids}
            )
    if not rows:
        raise S2LError(f"No finished run of a method of Table 1 ({', '.join(TABLE1_METHODS)}). Run at least one.")
    table = pd.DataFrame(rows)
    rank = table.groupby(["data", "score"]).ours.rank(ascending=False, method="min")
    return table.assign(rank=rank.where(rank <= 2)).round(4)


MARKS = {  # rank -> Markdown before and after, CSS
    1: ("**", "**", "color:#c1121f;font-weight:bold"),
    2: ("<u>", "</u>", "color:#1d4ed8;text-decoration:underline"),
}


def _cells(table: pd.DataFrame, left: str = "", right: str = "") -> pd.DataFrame:
    """Table 1 as text: a row for each method, a column for each data set and score."""

    def text(row) -> str:
        before, after, _ = MARKS.get(row["rank"], ("", "", ""))
        value = f"{before if left else ''}{row.ours:.3f}{after if left else ''}"
        value += f" ± {row.spread:.3f}" if row.spread == row.spread else ""
        return value + (f" (paper {row.paper:.3f}, {row.difference:+.3f})" if row.paper == row.paper else "")

    labelled = table.assign(text=table.apply(text, axis=1), column=table.data + " " + table.score)
    order = list(dict.fromkeys(labelled.column))
    cells = labelled.pivot(index="method", columns="column", values="text")
    cells = cells.reindex(index=[m for m in METHODS if m in cells.index], columns=order)
    return cells.rename(index=lambda method: METHODS[method].label).fillna("not run")


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as a Markdown table: best in bold, second best underlined."""
    cells = _cells(table, left="mark")
    lines = ["| Method | " + " | ".join(cells.columns) + " |", "|---" * (len(cells.columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(cells.index, cells.to_numpy(), strict=True)]
    return "\n".join(lines) + "\n"


def table1_html(table: pd.DataFrame) -> str:
    """Table 1 as HTML: best red and bold, second best blue and underlined, as in the paper."""
    caption = "mDice and IoU: ours (mean ± spread over folds), the paper's, and the difference"
    cells = _cells(table)
    ranks = table.assign(column=table.data + " " + table.score).pivot(index="method", columns="column", values="rank")
    ranks = ranks.rename(index=lambda method: METHODS[method].label).reindex(index=cells.index, columns=cells.columns)
    styles = ranks.map(lambda rank: MARKS[rank][2] if rank in MARKS else "")
    styler = cells.rename_axis(index=None, columns=None).style.apply(lambda _: styles, axis=None)
    return styler.set_uuid("table1").set_caption(html.escape(caption)).to_html()


def main(profile: str) -> None:
    """Prints Table 1 of a profile and where its files are."""
    folder = paths.results(profile)
    try:
        print(f"\n{table1_markdown(table1(load_runs(profile)))}")
    except S2LError as error:
        sys.exit(f"error: {error}")
    print(f"best **bold**, second best <u>underlined</u>\ntables   {folder}/table1.md, .csv, .html, scores.csv")
    print(f"figure   {paths.figures(profile)}/figure2.png\nnotebooks {paths.executed(profile)}/")


if __name__ == "__main__":
    main(sys.argv[1])
