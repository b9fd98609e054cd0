"""The findings that README tells, sentences made from committed tables, and every block by name.

Words claim no more than a verdict of the ledger or a number beside another; where a table is
missing, so is its text.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from s2l_core.config import FULL, METHODS, TABLE1_METHODS
from s2l_paper import paths
from s2l_paper.comparing import apart, recipe_plan
from s2l_paper.figures import separation
from s2l_paper.tables import apart_texts
from s2l_paper.tables.claims import VERDICTS
from s2l_paper.tables.paper_claims import SENTENCE, THESIS
from s2l_paper.tables.table1 import TABLE1_SCORES, from_to, markdown
from s2l_paper.texts import results_page
from s2l_paper.texts.wording import (
    both_terms,
    joined,
    share,
    strokes_by_annotator,
    usual,
    with_all,
)

NOT_YET = "This has not been run."
IN_WORDS = {  # how many of a verdict
    "reproduced": "{} reproduced",
    "contradicted": "{} contradicted",
    "no difference larger than .01": "{} without a difference larger than .01",
    "cannot tell": "{} that cannot be decided",
    "not run": "{} not run",
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
        "ledger": (["claims.csv"], results_page.ledger),
        "terms": (["claims.csv", "differences.csv"], _terms),
        "thesis": (["claims.csv", "differences.csv"], results_page.thesis),
        "labels": (["scores.csv"], _labels),
        "rival": (["scores.csv"], _rival),
        "methods": (["scores.csv"], results_page.methods),
        "errors": (["scores.csv"], results_page.errors),
        "apart": (["scores.csv"], apart_texts.text),
        "budget": (["budget.csv"], results_page.budget),
        "readings": (["readings.csv"], results_page.readings),
    }
    found = {}
    for name, (files, make) in makers.items():
        if all((folder / file).exists() for file in files):
            found[name] = make(*(pd.read_csv(folder / file) for file in files))

    file = recipe_plan.table_file("pretrained")
    if file.exists():
        trials = pd.read_csv(file, dtype={"annotator": str})
        found |= {"strokes": _strokes(trials), "strokes-table": results_page.strokes_table(trials)}
    found["apart-settings"] = apart_texts.settings_text(apart.tried())
    told_apart = apart.measured(profile)
    if len(told_apart):
        found["apart-worse"] = apart_texts.worse_text(told_apart)
    measured = separation.shown()
    if len(measured):
        found["separation"] = results_page.separation_table(measured)
        found["separation-pairs"] = results_page.separation_pairs(measured)
    return found


def _answer(claims: pd.DataFrame) -> str:
    """One sentence: what the runs say of the paper's thesis."""
    thesis = claims[claims.claim == THESIS]
    said = []
    for verdict, data in thesis.groupby("verdict").data:
        said.append(f"{verdict} on {joined(data)}")
    return f"**Do the two contrastive terms together improve S2L? Our verdict: {'; '.join(said)}.**"


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
        trainings = f"each by {from_to(rows.trainings)} trainings of each method"
        if rows.trainings.max() == 1:
            trainings = "each by one training of each method"
        parts.append(f"{rows.images.max():.0f} test images of {data} ({trainings})")
    return f"on {joined(parts)}"


def _terms(claims: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The paper's sentences counted, and what the runs could have seen of the terms' gain."""
    sentences = claims[claims.kind == SENTENCE]
    counts = sentences.verdict.value_counts()
    verdicts = [
        IN_WORDS[verdict].format(counts[verdict]) for verdict in VERDICTS if verdict in counts
    ]
    text = (
        f"We judged {len(sentences)} pairs of a statement and a data set that it speaks of: "
        f"{joined(verdicts)}."
    )

    # The gain that the paper reports, beside the smallest one that would have been noticed.
    thesis = claims[(claims.claim == THESIS) & claims.detectable.notna()]
    if thesis.empty:
        return text
    gains = both_terms(compared).paper.groupby("data").max()[thesis.data]
    seen = [f"{share(row.detectable, 2)} on {row.data}" for row in thesis.itertuples()]
    text += (
        f" For both terms against S2L these runs could have detected {joined(seen)}; the paper's "
        f"largest gains there are {joined(share(gain) for gain in gains)}"
    )
    if (gains.to_numpy() < thesis.detectable.to_numpy()).all():
        text += ", so we would often have missed them even if they are real"
    return f"{text}."


def _labels(scores: pd.DataFrame) -> str:
    """S2L beside the same network on scribbles alone."""
    rows = usual(scores)
    pairs = []
    for data in with_all(rows, "s2l", "scribble-only"):
        s2l, alone = (rows.iou[data, method] for method in ("s2l", "scribble-only"))
        pairs.append(f"{share(s2l)} with and {share(alone)} without them on {data}")
    return f"The IoU of S2L is {joined(pairs)}." if pairs else NOT_YET


def _rival(scores: pd.DataFrame) -> str:
    """The forest beside the full method and full masks."""
    rows = usual(scores)
    compared = ("random-forest", FULL, "supervised")
    parts = []
    for data in with_all(rows, *compared):
        forest, full, masks = (rows.iou[data, method] for method in compared)
        parts.append(f"{share(forest)} / {share(full)} / {share(masks)} on {data}")
    if not parts:
        return NOT_YET
    return f"IoU of the forest / S2L with both terms / full masks: {joined(parts)}."


def _each(values: Iterable[float]) -> str:
    """The value of each training, as part of a sentence."""
    return joined(share(value) for value in values)


def _strokes(trials: pd.DataFrame) -> str:
    """What strokes are worth with ImageNet's weights."""
    rows = strokes_by_annotator(trials)
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
