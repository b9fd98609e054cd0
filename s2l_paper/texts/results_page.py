"""The tables of docs/results.md, made from committed tables."""

import pandas as pd

from s2l_core.config import FULL, METHODS, TABLE1_METHODS
from s2l_paper.figures import separation
from s2l_paper.tables.claims import NUMBER
from s2l_paper.tables.paper_claims import DIFFERENCE, SENTENCE, THESIS
from s2l_paper.tables.table1 import TO, markdown
from s2l_paper.texts.wording import (
    both_terms,
    joined,
    share,
    strokes_by_annotator,
    usual,
    with_all,
)

RIVALS = ("scribble-only", "random-forest", "otsu")
INSIDE = "paper's value in the interval"
KINDS_COUNTED = {
    DIFFERENCE: "differences of Table 1",
    NUMBER: "numbers of Table 1",
    SENTENCE: "sentences",
}


def ledger(claims: pd.DataFrame) -> str:
    """Counts of verdicts, a row for each kind of claim."""
    counts = claims.pivot_table(index="kind", columns="verdict", aggfunc="size", fill_value=0)
    counts = counts.rename(index=KINDS_COUNTED).rename_axis(columns=None)
    return markdown(counts.reset_index(names="of the paper's"))


def thesis(claims: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Both terms against S2L on each data set: the paper, ours, the verdict."""
    pairs = both_terms(compared)
    lines, detectable = [], []
    for claim in claims[claims.claim == THESIS].itertuples():
        if pd.notna(claim.detectable):
            detectable.append(f"{share(claim.detectable, 2)} on {claim.data}")
        for score in ("mDice", "IoU"):
            row = pairs.loc[(claim.data, score)]
            line = {"data": claim.data, "score": score, "paper": share(row.paper, signed=True)}
            line |= {"ours": "not\u00a0run", "95 % interval": "", INSIDE: ""}
            line["images"] = ""
            if pd.notna(row.ours):
                line |= {"ours": share(row.ours, signed=True), "images": f"{row.images:.0f}"}
            if pd.notna(row.low):
                low, high = share(row.low, signed=True), share(row.high, signed=True)
                line["95 % interval"] = f"{low}{TO}{high}"
                line[INSIDE] = "yes" if row.low <= row.paper <= row.high else "no"
            lines.append(line | {"verdict": claim.verdict})
    text = markdown(pd.DataFrame(lines))
    if detectable:
        text += (
            "\nThe smallest difference that these runs could have detected is "
            f"{joined(detectable)}."
        )
        outside = [f"{line['data']} ({line['score']})" for line in lines if line[INSIDE] == "no"]
        if outside:
            text += f" The paper's value lies outside our interval on {joined(outside)}."
        text += "\n"
    return text


def methods(scores: pd.DataFrame) -> str:
    """IoU and mDice of every method and rival."""
    rows = usual(scores)
    lines = []
    for method in (*TABLE1_METHODS, *RIVALS):
        line = {"method": METHODS[method].label}
        for data in with_all(rows, method):
            line[f"{data} IoU"] = share(rows.iou[data, method])
            line[f"{data} mDice"] = share(rows.mdice_official[data, method])
        lines.append(line)
    return markdown(pd.DataFrame(lines).fillna("not run"))


def errors(scores: pd.DataFrame) -> str:
    """Objects an image that are false, missed or merged."""
    rows = usual(scores)
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


def budget(table: pd.DataFrame) -> str:
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


def readings(table: pd.DataFrame) -> str:
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


def strokes_table(trials: pd.DataFrame) -> str:
    """Validation IoU of each training, a row for each annotator, budget and method."""
    lines = []
    for (annotator, budget, method), values in strokes_by_annotator(trials).items():
        line = {"annotator": "blind" if annotator == "0" else "attentive"}
        line |= {"nuclei with a stroke": f"{budget:.0%}", "method": METHODS[method].label}
        line |= {"validation IoU of each training": " ".join(map(share, values))}
        lines.append(line)
    return markdown(pd.DataFrame(lines))


def separation_table(measured: pd.DataFrame) -> str:
    """Mean silhouette by method and layer; a dash where a method has no head."""
    table = separation.summary(measured).reset_index(names="method").astype(object)
    for layer in table.columns[2:]:
        table[layer] = [share(value) if pd.notna(value) else "-" for value in table[layer]]
    return markdown(table)


def separation_pairs(measured: pd.DataFrame) -> str:
    """In how many pairs of trainings a term raises the silhouette at its own scale."""
    repetition = ["fold", "rotation", "seed", "annotator"]
    parts = []
    for method, block in (("s2l-r4", 3), ("s2l-r1", 5)):
        rows = measured[measured.layer == f"features, block {block}"]
        wide = rows.pivot(index=repetition, columns="method", values="silhouette")
        if not {method, "s2l"} <= set(wide):
            continue
        gains = (wide[method] - wide["s2l"]).dropna()
        term = METHODS[method].label.removeprefix("S2L + ")
        parts.append(
            f"{term} raises the silhouette of block {block} in {(gains > 0).sum()} of {len(gains)} "
            f"pairs, on average by {share(gains.mean())}"
        )
    return f"{'; '.join(parts)}." if parts else ""
