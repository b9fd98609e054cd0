"""The findings in README and docs/results.md: sentences and tables made from committed tables.

Words claim no more than a verdict of the ledger or a number beside another; where a table is
missing, so is its text.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from s2l_core.config import FULL, METHODS, TABLE1_METHODS
from s2l_paper import paths
from s2l_paper.comparing import apart
from s2l_paper.figures import separation
from s2l_paper.tables import apart_texts
from s2l_paper.tables.claims import NUMBER, VERDICTS
from s2l_paper.tables.paper_claims import DIFFERENCE, SENTENCE
from s2l_paper.tables.table1 import TABLE1_SCORES, TO, markdown

NOT_YET = "This has not been run."
RIVALS = ("scribble-only", "random-forest", "otsu")
INSIDE = "paper's value in the interval"
THESIS = "the multiscale contrastive loss (both terms) improves S2L"
IN_WORDS = {  # how many of a verdict
    "reproduced": "{} reproduced",
    "contradicted": "{} contradicted",
    "no difference larger than .01": "{} without a difference larger than .01",
    "cannot tell": "{} that cannot be decided",
    "not run": "{} not run",
}
KINDS_COUNTED = {
    DIFFERENCE: "differences of Table 1",
    NUMBER: "numbers of Table 1",
    SENTENCE: "sentences",
}


def texts(profile: str) -> dict[str, str]:
    """Name of a block -> what stands in it, for a profile with committed tables.

    Args:
        profile: whose Table 1 and ledger are told; trials of the recipe are those of `pretrained`.
    """
    folder = paths.results(profile)
    makers: dict[str, tuple[Sequence[str], Callable]] = {
        "answer": (["claims.csv"], _answer),
        "table1-short": (["table1.csv"], _short_table),
        "tested": (["table1.csv"], _tested),
        "ledger": (["claims.csv"], _ledger),
        "terms": (["claims.csv", "differences.csv"], _terms),
        "thesis": (["claims.csv", "differences.csv"], _thesis),
        "labels": (["scores.csv"], _labels),
        "rival": (["scores.csv"], _rival),
        "methods": (["scores.csv"], _methods),
        "errors": (["scores.csv"], _errors),
        "apart": (["scores.csv"], apart_texts.text),
        "budget": (["budget.csv"], _budget),
        "readings": (["readings.csv"], _readings),
    }
    found = {}
    for name, (files, make) in makers.items():
        if all((folder / file).exists() for file in files):
            found[name] = make(*(pd.read_csv(folder / file) for file in files))

    file = paths.results("pretrained") / "recipe.csv"
    if file.exists():
        trials = pd.read_csv(file, dtype={"annotator": str})
        found |= {"strokes": _strokes(trials), "strokes-table": _strokes_table(trials)}
    found["apart-settings"] = apart_texts.settings_text(apart.tried())
    told_apart = apart.measured(profile)
    if len(told_apart):
        found["apart-worse"] = apart_texts.worse_text(told_apart)
    measured = separation.measured(separation.SHOWN)
    if len(measured):
        found["separation"] = _separation(measured)
    return found


def share(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A score without the 0 before its point, such as .614 or -.007."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def listed(parts: Iterable[str]) -> str:
    """Parts of a sentence: a, b and c."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _verdicts(claims: pd.DataFrame) -> pd.DataFrame:
    """How often each verdict was given, by kind of claim."""
    return claims.pivot_table(index="kind", columns="verdict", aggfunc="size", fill_value=0)


def _answer(claims: pd.DataFrame) -> str:
    """One sentence: what the runs say of the paper's thesis."""
    thesis = claims[claims.claim == THESIS]
    said = []
    for verdict, data in thesis.groupby("verdict").data:
        said.append(f"{verdict} on {listed(data)}")
    return f"**Do the two contrastive terms together improve S2L? Our verdict: {'; '.join(said)}.**"


def _ledger(claims: pd.DataFrame) -> str:
    """Counts of verdicts, a row for each kind of claim."""
    counts = _verdicts(claims).rename(index=KINDS_COUNTED).rename_axis(columns=None)
    return markdown(counts.reset_index(names="of the paper's"))


def _terms(claims: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The paper's sentences counted, and what the runs could have seen of the terms' gain."""
    sentences = claims[claims.kind == SENTENCE]
    counts = sentences.verdict.value_counts()
    verdicts = [
        IN_WORDS[verdict].format(counts[verdict]) for verdict in VERDICTS if verdict in counts
    ]
    text = (
        f"We judged {len(sentences)} pairs of a statement and a data set that it speaks of: "
        f"{listed(verdicts)}."
    )

    # The gain that the paper reports, beside the smallest one that would have been noticed.
    thesis = claims[(claims.claim == THESIS) & claims.detectable.notna()]
    if thesis.empty:
        return text
    gains = _both_terms(compared).paper.groupby("data").max()[thesis.data]
    seen = [f"{share(row.detectable, 2)} on {row.data}" for row in thesis.itertuples()]
    text += (
        f" For both terms against S2L these runs could have detected {listed(seen)}; the paper's "
        f"largest gains there are {listed(share(gain) for gain in gains)}"
    )
    if (gains.to_numpy() < thesis.detectable.to_numpy()).all():
        text += ", so we would often have missed them even if they are real"
    return f"{text}."


def _both_terms(compared: pd.DataFrame) -> pd.DataFrame:
    """The full method against S2L, by data set and score."""
    pair = (compared.method == METHODS[FULL].label) & (compared.against == METHODS["s2l"].label)
    return compared[pair].set_index(["data", "score"])


def _thesis(claims: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Both terms against S2L on each data set: the paper, ours, the verdict."""
    pairs = _both_terms(compared)
    lines, detectable = [], []
    for claim in claims[claims.claim == THESIS].itertuples():
        if claim.detectable == claim.detectable:
            detectable.append(f"{share(claim.detectable, 2)} on {claim.data}")
        for score in ("mDice", "IoU"):
            row = pairs.loc[(claim.data, score)]
            line = {"data": claim.data, "score": score, "paper": share(row.paper, signed=True)}
            line |= {"ours": "not\u00a0run", "95 % interval": "", INSIDE: ""}
            line["images"] = ""
            if row.ours == row.ours:
                line |= {"ours": share(row.ours, signed=True), "images": f"{row.images:.0f}"}
            if row.low == row.low:
                low, high = share(row.low, signed=True), share(row.high, signed=True)
                line["95 % interval"] = f"{low}{TO}{high}"
                line[INSIDE] = "yes" if row.low <= row.paper <= row.high else "no"
            lines.append(line | {"verdict": claim.verdict})
    text = markdown(pd.DataFrame(lines))
    if detectable:
        text += (
            "\nThe smallest difference that these runs could have detected is "
            f"{listed(detectable)}."
        )
        outside = [f"{line['data']} ({line['score']})" for line in lines if line[INSIDE] == "no"]
        if outside:
            text += f" The paper's value lies outside our interval on {listed(outside)}."
        text += "\n"
    return text


def _short_table(table: pd.DataFrame) -> str:
    """Table 1 with one figure of ours and the paper's in a cell; bold: the best with scribbles."""
    wide = table.set_index(["method", "data", "score"])
    scribbles = [method for method in TABLE1_METHODS if not METHODS[method].masks]
    best = table[table.method.isin(scribbles)].groupby(["data", "score"]).ours.max()
    lines = []
    for method in TABLE1_METHODS:
        line = {"ours / paper": METHODS[method].label}
        for data, score in itertools.product(table.data.unique(), sorted(TABLE1_SCORES.values())):
            line[f"{data} {score}"] = "not run"
            if (method, data, score) not in wide.index:
                continue
            row = wide.loc[(method, data, score)]
            ours = share(row.ours)
            if method in scribbles and ours == share(best[data, score]):
                ours = f"**{ours}**"
            line[f"{data} {score}"] = f"{ours}\u00a0/\u00a0{share(row.paper)}"  # kept on one line
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def _tested(table: pd.DataFrame) -> str:
    """How many test images and trainings each number of Table 1 rests on, by data set."""
    parts = []
    for data, rows in table.groupby("data", sort=False):
        fewest, most = rows.trainings.min(), rows.trainings.max()
        count = f"{most}" if fewest == most else f"{fewest} to {most}"
        trainings = f"each by {count} trainings of each method"
        if most == 1:
            trainings = "each by one training of each method"
        parts.append(f"{rows.images.max():.0f} test images of {data} ({trainings})")
    return f"on {listed(parts)}"


def _usual(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of the usual recipe with the weights that Table 1 shows, by data set and method."""
    rows = scores[scores.shown & scores.variant.isna()]
    return rows.set_index(["data", "method"])


def _with_all(rows: pd.DataFrame, *methods: str) -> list[str]:
    """The data sets on which all these methods were run."""
    every = rows.index.unique("data")
    return [data for data in every if all((data, method) in rows.index for method in methods)]


def _labels(scores: pd.DataFrame) -> str:
    """S2L beside the same network on scribbles alone."""
    rows = _usual(scores)
    pairs = []
    for data in _with_all(rows, "s2l", "scribble-only"):
        s2l, alone = (rows.iou[data, method] for method in ("s2l", "scribble-only"))
        pairs.append(f"{share(s2l)} with and {share(alone)} without them on {data}")
    return f"The IoU of S2L is {listed(pairs)}." if pairs else NOT_YET


def _rival(scores: pd.DataFrame) -> str:
    """The forest beside the full method and full masks."""
    rows = _usual(scores)
    compared = ("random-forest", FULL, "supervised")
    parts = []
    for data in _with_all(rows, *compared):
        forest, full, masks = (rows.iou[data, method] for method in compared)
        parts.append(f"{share(forest)} / {share(full)} / {share(masks)} on {data}")
    if not parts:
        return NOT_YET
    return f"IoU of the forest / S2L with both terms / full masks: {listed(parts)}."


def _methods(scores: pd.DataFrame) -> str:
    """IoU and mDice of every method and rival."""
    rows = _usual(scores)
    lines = []
    for method in (*TABLE1_METHODS, *RIVALS):
        line = {"method": METHODS[method].label}
        for data in _with_all(rows, method):
            line[f"{data} IoU"] = share(rows.iou[data, method])
            line[f"{data} mDice"] = share(rows.mdice_official[data, method])
        lines.append(line)
    return markdown(pd.DataFrame(lines).fillna("not run"))


def _errors(scores: pd.DataFrame) -> str:
    """Objects an image that are false, missed or merged."""
    rows = _usual(scores)
    lines = []
    for data in rows.index.unique("data"):
        for method in ("s2l", FULL, "supervised", "scribble-only", "random-forest"):
            if (data, method) not in rows.index:
                continue
            row = rows.loc[(data, method)]
            line = {"data": data, "method": METHODS[method].label, "nuclei": row.n_nuclei}
            line |= {"false": row.false_positives, "missed": row.missed, "merged": row.merged}
            lines.append(line)
    return markdown(pd.DataFrame(lines).round(1))


def _budget(table: pd.DataFrame) -> str:
    """IoU by share of the nuclei that carry a stroke."""
    wide = table[table.score == "IoU"].pivot(index="method", columns="budget", values="mean")
    wide = wide.rename(index=lambda name: METHODS[name].label if name in METHODS else name)
    wide = (
        wide.map(share)
        .replace("nan", "")
        .rename(columns="{:.0%} of nuclei".format)
        .rename_axis(columns=None)
    )
    return markdown(wide.reset_index())


def _readings(table: pd.DataFrame) -> str:
    """Readings of the paper by what they move in IoU, the largest first."""
    rows = table[(table.score == "IoU") & table.difference.notna()]
    rows = rows.sort_values("difference", key=abs, ascending=False)
    shown = pd.DataFrame(
        {
            "reading": rows.reading,
            "IoU": rows["mean"].map(share),
            "difference": [share(value, signed=True) for value in rows.difference],
            "runs": rows.repetitions,
        }
    )
    noise = share(rows.noise.iloc[0])
    return f"{markdown(shown)}\nBy chance two trainings differ by {noise} (standard deviation).\n"


def _strokes_rows(trials: pd.DataFrame) -> pd.Series:
    """Validation IoU by annotator, budget and method: a list with the value of each training."""
    rows = trials[trials.experiment == "annotator and budget"]
    return rows.groupby(["annotator", "budget", "method"]).validation_iou.apply(list)


def _each(values: Iterable[float]) -> str:
    """The value of each training, as part of a sentence."""
    return listed(share(value) for value in values)


def _strokes(trials: pd.DataFrame) -> str:
    """What strokes are worth with ImageNet's weights."""
    rows = _strokes_rows(trials)
    asked = [("0", 0.3, "s2l"), ("attentive-0", 1.0, "s2l")]
    if not all(choice in rows.index for choice in asked):
        return NOT_YET
    few, many = (rows[choice] for choice in asked)
    masks = trials[trials.experiment == "output bias"]
    masks = masks[masks.choice == "of the labels: supervised"].validation_iou
    return (
        f"Starting from ImageNet's weights, {len(few)} trainings of S2L have a validation IoU on "
        f"DSB-BF of {_each(few)} with a blind annotator's strokes in 30 % of the nuclei, and of "
        f"{_each(many)} with an attentive annotator's strokes in all of them; full masks give "
        f"{_each(masks)}."
    )


def _strokes_table(trials: pd.DataFrame) -> str:
    """The same for each method, with the number of trainings."""
    lines = []
    for (annotator, budget, method), values in _strokes_rows(trials).items():
        line = {"annotator": "blind" if annotator == "0" else "attentive"}
        line |= {"nuclei with a stroke": f"{budget:.0%}", "method": METHODS[method].label}
        line |= {"validation IoU of each training": " ".join(map(share, values))}
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def _separation(measured: pd.DataFrame) -> str:
    """Mean silhouette by method and layer; a dash where a method has no head."""
    table = separation.summary(measured).reset_index(names="method").astype(object)
    for layer in table.columns[2:]:
        table[layer] = [share(value) if value == value else "-" for value in table[layer]]
    return markdown(table)
