"""Table 1: ours with intervals and tests, and the paper's; as a tidy table, Markdown and HTML."""

import functools
import html
import itertools
import math

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS, S2LError
from s2l_core.profiles import REAL
from s2l_paper import paths
from s2l_paper.comparing.comparisons import compare, mean_interval
from s2l_paper.comparing.missing import missing_runs, shortage
from s2l_paper.comparing.statistics import ALPHA, MIN_GROUPS
from s2l_paper.comparing.training_noise import REPETITION, run_noise, spread
from s2l_paper.running.results import SCORES, load_runs

PAPER_TABLE1 = {  # (method, dataset) -> mDice, IoU; Table 1 of the paper
    ("s2l", "dsb-bf"): (0.6980, 0.8108),
    ("s2l", "dsb-fluo"): (0.8235, 0.8419),
    ("s2l", "monuseg"): (0.7098, 0.6586),
    ("s2l-r1", "dsb-bf"): (0.7068, 0.8153),
    ("s2l-r1", "dsb-fluo"): (0.8267, 0.8565),
    ("s2l-r1", "monuseg"): (0.7165, 0.6715),
    ("s2l-r4", "dsb-bf"): (0.7078, 0.8292),
    ("s2l-r4", "dsb-fluo"): (0.8234, 0.8505),
    ("s2l-r4", "monuseg"): (0.7205, 0.6603),
    ("s2l-r1-r4", "dsb-bf"): (0.7199, 0.8368),
    ("s2l-r1-r4", "dsb-fluo"): (0.8268, 0.8570),
    ("s2l-r1-r4", "monuseg"): (0.7128, 0.6639),
    ("supervised", "dsb-bf"): (0.7305, 0.8665),
    ("supervised", "dsb-fluo"): (0.8204, 0.8790),
    ("supervised", "monuseg"): (0.7646, 0.6867),
}
TABLE1_SCORES = {"mdice_official": "mDice", "iou": "IoU"}  # column -> name, in the paper's order


def paper_value(method: str, dataset: str, score: str) -> float:
    """A number of the paper's Table 1; nan for what it does not report."""
    values = PAPER_TABLE1.get((method, dataset), ())
    return dict(zip(TABLE1_SCORES, values, strict=False)).get(score, math.nan)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and n of every score, for each method, data set, variant and checkpoint.

    The mean is over images, each averaged over the runs that tested it: where some test images
    were tested by more runs than others, they do not weigh more. The spread is the standard
    deviation of runs that tested the same images. Images without nuclei have no mDice and are left
    out of its mean.
    """
    keys = ["data", "dataset", "method", "variant", "checkpoint", "shown"]
    groups = runs.groupby(keys)
    counts = groups.run_id.nunique().rename("runs").reset_index()
    means = runs.groupby([*keys, "image"])[SCORES].mean().groupby(keys).mean()

    # Pooled over rotations, each of which has test images of its own.
    repetitions = runs.groupby([*keys, *REPETITION])[SCORES[1:]].mean()
    alike = repetitions.groupby([*keys, "rotation"])
    free = alike.count() - 1
    squares = (alike.var() * free).groupby(keys).sum(min_count=1)
    free = free.groupby(keys).sum()
    spreads = (squares / free.where(free > 0)) ** 0.5
    table = counts.merge(means.join(spreads.add_suffix("_spread")).reset_index(), on=keys)

    images = groups.image.nunique().rename("images").reset_index()
    ids = groups.run_id.agg(lambda names: " ".join(sorted(set(names)))).rename("run_ids")
    table = table.merge(images, on=keys).merge(ids.reset_index(), on=keys)
    table["method"] = pd.Categorical(table.method, list(METHODS))
    return table.sort_values(["data", "method", "variant", "checkpoint"]).reset_index(drop=True)


def against_s2l(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1's tests: every other method's difference from S2L, in both scores, on every data set.

    All p values of a data set are corrected together.
    """
    shown = runs[runs.shown]
    others = [name for name in TABLE1_METHODS if name != "s2l"]
    pairs = itertools.product(shown.dataset.unique(), others, TABLE1_SCORES)
    pairs = [(dataset, method, "s2l", score) for dataset, method, score in pairs]
    return compare(shown, pairs, "against S2L")


def table1(runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1, tidy: a row for each number of the paper's that we have a run for.

    Data sets that the paper does not have get rows as well.

    Args:
        runs: as given by `results.load_runs`, without variants.

    Returns:
        `score` is mDice (`mdice_official`, the paper's) or IoU. `ours` is the mean over images,
        each averaged over the runs that tested it; every image was tested by so many `trainings`
        or more. `low` and `high` are its 95 % interval over groups of alike images and trainings,
        `p_holm` is of the difference from S2L. Both are empty for fewer than `MIN_GROUPS` groups,
        where the `spread` over runs on the same images has to do. `rank` is 1 or 2 for the best and
        second best scribble method of ours, of those that were tested on all images. `true_mask` is
        what the true masks of the same images score; empty for images that are not real ones.

    Raises:
        S2LError: no run of a method of Table 1.
    """
    wide = summary(runs)
    wide = wide[wide.shown & wide.method.isin(TABLE1_METHODS)]
    if wide.empty:
        needed = ", ".join(TABLE1_METHODS)
        raise S2LError(f"No finished run of a method of Table 1 ({needed}). Run one of them.")

    shown, p_holm = runs[runs.shown], against_s2l(runs).p_holm
    rows = []
    for _, row in wide.iterrows():
        here = shown[shown.data == row.data]
        own = here[here.method == row.method]
        masks = _true_masks(row.dataset).reindex(own.image.unique())
        for column, score in TABLE1_SCORES.items():
            ours, low, high = mean_interval(own, column, run_noise(here, column, paired=False))
            paper = paper_value(row.method, row.dataset, column)
            test = (row.dataset, row.method, "s2l", column)
            rows.append(
                {
                    "data": row.data,
                    "method": row.method,
                    "score": score,
                    "ours": ours,
                    "spread": spread(own, column),
                    "runs": row.runs,
                    "trainings": own.groupby("image").run_id.nunique().min(),
                    "low": low,
                    "high": high,
                    "images": row.images,
                    "p_holm": p_holm.get(test, math.nan),
                    "paper": paper,
                    "difference": ours - paper,
                    "true_mask": masks[column].mean(),
                    "run_ids": row.run_ids,
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(rank=_ranks(table)).round(4)


def _ranks(table: pd.DataFrame) -> pd.Series:
    """1 or 2 for the best and second best scribble method of each data set and score."""
    # As in the paper, marks compare what learns from scribbles; full masks stand apart. A method
    # that was tested on fewer images than others may have had the easier ones.
    scribbles = [method for method in TABLE1_METHODS if not METHODS[method].masks]
    most = table.groupby("data").images.transform("max")
    ours = table.ours.where(table.method.isin(scribbles) & (table.images == most))
    rank = ours.groupby([table["data"], table["score"]]).rank(ascending=False, method="min")
    return rank.where(rank <= 2)


@functools.cache
def _true_masks(dataset: str) -> pd.DataFrame:
    """What the true mask of each image scores, by image id."""
    table = pd.read_csv(paths.true_mask_file())
    return table[table.dataset == dataset].set_index("image")


MARKS = {  # rank -> Markdown before and after, CSS
    1: ("**", "**", "color:#c1121f;font-weight:bold"),
    2: ("<u>", "</u>", "color:#1d4ed8;text-decoration:underline"),
}


TRUE_MASK = "True mask"
TO = "\u00a0to\u00a0"  # keeps an interval on one line
LEGEND = (
    "Each number is the mean over the test images, and each image is first averaged over the runs "
    "that tested it. The 95 % interval covers the choice of images, of which alike ones count as "
    "one group, and what a training changes by chance; with fewer than "
    f"{MIN_GROUPS} groups there is neither an interval nor a test. † marks a difference from S2L "
    f"with p < {ALPHA:g} after Holm's correction: signs are exchanged by group, and the run noise "
    "of all methods is added. The best scribble method is bold, the second best underlined. "
    "Weights were chosen by IoU on fully labelled validation images. mDice is that of the released "
    "code: an object that covers no nucleus costs nothing, and one object may serve several "
    "nuclei. The last row is what the scores give a perfect mask, which does not tell touching "
    "nuclei apart."
)


def markdown(table: pd.DataFrame) -> str:
    """Any table as Markdown, its cells as they are: no number is formatted anew."""
    return table.astype(str).to_markdown(index=False, disable_numparse=True, stralign=None) + "\n"


def for_a_page(table: pd.DataFrame) -> pd.DataFrame:
    """A table as narrow as a page needs it: headings of words, between which they wrap, and in its
    rows the paper's names of the scores.
    """
    shown = table.rename(columns=lambda name: name.replace("_", " "))
    if "score" in shown.index.names:
        shown = shown.rename(index=TABLE1_SCORES, level="score")
    return shown


def every_score(wide: pd.DataFrame) -> pd.DataFrame:
    """What `summary` gives, as a page shows it: best and last weights of every method."""
    headings = {"iou": "IoU", "mdice_official": "mDice", "mdice": "clean mDice", "aji": "AJI"}
    headings |= {"f1": "F1", "false_positives": "false", "missed": "missed", "merged": "merged"}
    rows = wide.rename(columns=headings | {"checkpoint": "weights"})
    return rows.set_index(["data", "method", "weights"])[list(headings.values())]


def _columns(table: pd.DataFrame) -> pd.Series:
    """Heading of each row's column: data set, score and number of test images."""
    images = table.data.map({data: from_to(rows.images) for data, rows in table.groupby("data")})
    return table.data + " " + table.score + " (n = " + images + ")"


def from_to(numbers: pd.Series) -> str:
    """The least and the largest of some whole numbers, or the one that all are."""
    least, most = numbers.min(), numbers.max()
    return f"{most:.0f}" if least == most else f"{least:.0f} to {most:.0f}"


def _figure(row: pd.Series) -> str:
    """One number of ours as Markdown: marked by its rank, with a dagger where it differs."""
    before, after = MARKS[row["rank"]][:2] if row["rank"] in MARKS else ("", "")
    return f"{before}{row.ours:.3f}{after}{_dagger(row)}"


def _dagger(row: pd.Series) -> str:
    return "†" if row.p_holm < ALPHA else ""


def _cell(row: pd.Series) -> str:
    """One number of ours as HTML, marked by its rank, with all that is known about it."""
    ours = f"{row.ours:.3f}"
    if row["rank"] in MARKS:
        ours = f'<span style="{MARKS[row["rank"]][2]}">{ours}</span>'
    lines = [f"{ours}{_dagger(row)}"]
    if pd.notna(row.spread):
        lines[0] += f" ± {row.spread:.3f}"
    if pd.notna(row.low):
        lines.append(f"[{row.low:.3f}, {row.high:.3f}]")
    if pd.notna(row.paper):
        lines.append(f"paper {row.paper:.3f}")
    return "<br>".join(lines)


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as HTML: a row for each method, a column for each data set and score."""
    labelled = table.assign(text=table.apply(_cell, axis=1), column=_columns(table))
    order = list(dict.fromkeys(labelled.column))
    cells = labelled.pivot(index="method", columns="column", values="text")
    cells = cells.reindex(index=[m for m in METHODS if m in cells.index], columns=order)
    cells = cells.rename(index=lambda method: METHODS[method].label).fillna("not run")

    # The last row says how far a mask gets in mDice that has every pixel right.
    perfect = labelled.groupby("column").true_mask.first().reindex(order)
    if perfect.notna().any():
        cells.loc[TRUE_MASK] = ["" if pd.isna(value) else f"{value:.3f}" for value in perfect]
    return cells


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as a Markdown table for each data set, the legend below them.

    A row gives each score of ours, its interval, and the paper's value beside it; the best is bold,
    the second best underlined. Spreads are in the HTML, and with the differences in `table1.csv`.
    """
    parts = []
    for data, rows in table.groupby("data", sort=False):
        images = f"{from_to(rows.images)} test images"
        if rows.images.nunique() > 1:
            images += " (methods with fewer are not ranked)"
        runs = "1 run" if rows.runs.max() == 1 else f"{from_to(rows.runs)} runs"
        few = "" if rows.low.notna().any() else "; too few images for intervals"
        parts.append(f"**{data}**: {images}, {runs} of each method{few}\n\n{_of_data(rows)}")
    return "\n".join(parts) + f"\n{LEGEND}\n"


def _of_data(rows: pd.DataFrame) -> str:
    """Table 1 of one data set."""
    header, lines = ["Method"], []
    known = rows.low.notna().any()
    for score in rows.score.unique():
        header += [score, "95 % interval", "paper"] if known else [score, "paper"]
    for method in (name for name in METHODS if name in set(rows.method)):
        line = [METHODS[method].label]
        for _, row in rows[rows.method == method].iterrows():
            line.append(_figure(row))
            if known:
                line.append(f"{row.low:.3f}{TO}{row.high:.3f}" if pd.notna(row.low) else "")
            line.append(f"{row.paper:.3f}" if pd.notna(row.paper) else "")
        lines.append(line)

    # The last row says how far a mask gets in mDice that has every pixel right.
    perfect = rows.groupby("score", sort=False).true_mask.first()
    if perfect.notna().any():
        line = [TRUE_MASK]
        for value in perfect:
            line += ["" if pd.isna(value) else f"{value:.3f}"] + [""] * (1 + known)
        lines.append(line)
    return markdown(pd.DataFrame(lines, columns=header))


def table1_html(table: pd.DataFrame) -> str:
    """Table 1 as HTML: best red and bold, second best blue and underlined, as in the paper."""
    told = (
        "mDice and IoU. In each cell: ours, ± the standard deviation of runs on the same images, "
        "where there are several; its 95 % interval; the paper's value."
    )
    styler = _cells(table).rename_axis(index=None, columns=None).style
    look = [{"selector": "td", "props": "white-space: nowrap; font-size: 92%"}]
    styler = styler.set_table_styles(look)
    return styler.set_uuid("table1").set_caption(html.escape(f"{told} {LEGEND}")).to_html()


def image_scores(row: pd.Series) -> str:
    """Scores of one test image as Fig. 2 prints them."""
    return f"IoU {row.iou:.2f}   mDice {row.mdice_official:.2f}"


def told(profile: str) -> str:
    """Table 1 of a profile as a terminal shows it, and where its files are.

    Without a run of a method of Table 1 these are the means of what has run, and what is missing.

    Raises:
        S2LError: no finished run.
    """
    runs, folder = load_runs(profile), paths.results(profile)
    if not runs.method.isin(TABLE1_METHODS).any():
        return _without_table1(runs, profile)
    figure = paths.figures(profile) / "figure2.png"
    lacking = _lacking(runs, profile)
    lines = [
        f"\n{table1_markdown(table1(runs))}",
        f"tables    {folder}/table1.*, claims.*, scores.csv",
        f"figure    {figure}",
        f"notebooks {paths.executed(profile)}/",
    ]
    if not figure.exists():
        lines[2] = "figure    not made: Fig. 2 needs runs of seed 0 and the profile's annotator"
    return "\n".join(lines + lacking)


def _lacking(runs: pd.DataFrame, profile: str) -> list[str]:
    """A line for each real data set that a test of Table 1 lacks runs of; synthetic ones are no
    evidence about the paper.
    """
    lines = []
    for dataset in (name for name in REAL if name in set(runs.dataset)):
        here = runs[runs.dataset == dataset]
        methods = [name for name in TABLE1_METHODS if name in set(here.method)]
        words = shortage(missing_runs(runs, profile, dataset, methods))
        if words:
            lines.append(f"missing   for a test on {here.data.iloc[0]}: {words}")
    return lines


def _without_table1(runs: pd.DataFrame, profile: str) -> str:
    """The means of baselines alone."""
    wide = summary(runs)
    wide = wide[wide.shown]
    rows = {"data": wide.data, "method": [METHODS[name].label for name in wide.method]}
    rows |= {title: wide[score].map("{:.3f}".format) for score, title in TABLE1_SCORES.items()}
    needed = ", ".join(TABLE1_METHODS)
    return (
        f"\n{markdown(pd.DataFrame(rows))}\n"
        f"Table 1, its claims and Fig. 2 were not made: they need a run of one of {needed},\n"
        f"such as  make reproduce PROFILE={profile} METHODS=s2l\n"
        f"runs      {paths.results(profile)}/runs/"
    )
