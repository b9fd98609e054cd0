"""The ledger of the paper's claims: differences and numbers of Table 1,
sentences that can be tested, our verdicts.

A claim is data: which method, greater than, less than or similar to which other, in which score,
on which data set.
"""

import itertools
import math
from dataclasses import dataclass

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS
from s2l_core.profiles import DATASETS, REAL
from s2l_paper.statistics import ALPHA, MIN_IMAGES, MIN_REPETITIONS, compare
from s2l_paper.table1 import TABLE1_SCORES, against_s2l, paper_value, table1

REPRODUCED, CONTRADICTED, CANNOT_TELL = "reproduced", "contradicted", "cannot tell"
NOT_COMPARABLE = "not comparable"
VERDICTS = (REPRODUCED, CONTRADICTED, CANNOT_TELL, NOT_COMPARABLE)
SIMILAR = 0.005  # our reading of "similar"; the paper's example are differences of .0001 and .0005
STANDARD_ERRORS = 2
NO_DIFFERENCE = 0.001  # smaller differences of the paper's are read as none
GREATER, LESS, ALIKE = 1, -1, 0
FULL, SINGLE = "s2l-r1-r4", ("s2l-r1", "s2l-r4")
SCORES = TABLE1_SCORES | {
    "aji": "AJI",
    "false_positives": "false positives per image",
    "missed_share": "share of nuclei missed",
    "merged_share": "share of nuclei merged",
    "lost": "IoU lost from best to last weights",
}
RULES = {
    "order": (
        f"images and repetitions have to agree: p < {ALPHA:g} in a paired permutation test on"
        f" images, after Holm's correction, and a difference above {STANDARD_ERRORS} standard"
        " errors over at least 2 folds, seeds or annotators, since one training cannot tell a"
        f" method from luck; with fewer than {MIN_IMAGES} images there is no test: all of at least"
        f" {MIN_REPETITIONS} folds, seeds and annotators have to agree in sign"
    ),
    "similar": (
        f"the 95 % interval over images, of 2 or more repetitions, lies within ± {SIMILAR:g} or"
        " wholly outside"
    ),
    "number": "the paper's number lies in our 95 % interval over images",
    NOT_COMPARABLE: (
        "a number from another recipe: shorter training from scratch, and scribbles of our own"
    ),
}


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as comparisons (method, GREATER | LESS | ALIKE, other, score),
    all of which must hold.
    """

    source: str
    text: str
    dataset: str
    parts: tuple[tuple[str, int, str, str], ...]


def _beats(method: str, *others: str, scores=tuple(TABLE1_SCORES), sign=GREATER) -> tuple:
    return tuple((method, sign, other, score) for other in others for score in scores)


def _sentences() -> list[Claim]:
    """Sec. 3.3 and the conclusion (Sec. 4). What Fig.
    2 shows on one image is asked of all test images.
    """
    text, figure, end = "Sec. 3.3", "Sec. 3.3, Fig. 2", "Sec. 4"
    both = (
        "multiscale contrastive regularization outperformed S2L and single-scale contrastive"
        " regularization"
    )
    overfit = (
        "the contrastive regularization avoids overfitting: less IoU is lost towards the last"
        " weights"
    )
    claims = [
        Claim(text, both, name, _beats(FULL, "s2l", *SINGLE)) for name in ("dsb-bf", "dsb-fluo")
    ]
    second = _beats("s2l-r4", "s2l", "s2l-r1") + _beats(FULL, "s2l-r4")
    best = _beats("s2l-r4", "s2l", "s2l-r1", FULL, scores=("mdice_official",))
    alone = "{} improves S2L (a single-scale regularizer can boost the results)"
    claims += [
        Claim(
            text,
            "R4x4 has the second highest performance of the scribble methods",
            "dsb-bf",
            second,
        ),
        Claim(text, "R1x1 outperformed R4x4", "dsb-fluo", _beats("s2l-r1", "s2l-r4")),
        Claim(
            text, "R1x1 is similar to R1x1 + R4x4", "dsb-fluo", _beats("s2l-r1", FULL, sign=ALIKE)
        ),
        Claim(text, "R4x4 performed best of the scribble methods (in mDice)", "monuseg", best),
        Claim(
            end,
            "two regularizers at different scales are superior to S2L",
            "dsb-bf",
            _beats(FULL, "s2l"),
        ),
        Claim(
            end,
            "two regularizers at different scales are superior to S2L",
            "dsb-fluo",
            _beats(FULL, "s2l"),
        ),
        *(Claim(end, alone.format(METHODS[m].label), "monuseg", _beats(m, "s2l")) for m in SINGLE),
        *(
            Claim(end, overfit, name, _beats(FULL, "s2l", scores=("lost",), sign=LESS))
            for name in REAL
        ),
    ]
    shape = "R1x1 + R4x4 finds cell shapes and boundaries that the other approaches do not"
    claims.append(Claim(figure, shape, "dsb-fluo", _beats(FULL, "s2l", *SINGLE, scores=("aji",))))
    for dataset, score, sentence in (
        ("dsb-bf", "false_positives", "{} tells apart what is no nucleus and S2L takes for one"),
        ("dsb-fluo", "missed_share", "{} detects cells that S2L misses"),
        ("monuseg", "merged_share", "{} separates nearby cells that S2L does not"),
    ):
        for method in (*SINGLE, FULL):
            parts = _beats(method, "s2l", scores=(score,), sign=LESS)
            claims.append(Claim(figure, sentence.format(METHODS[method].label), dataset, parts))
    return claims


def _differences() -> list[Claim]:
    """Every difference between two methods in Table 1, with the paper's sign."""
    claims, words = [], {GREATER: "is above", LESS: "is below", ALIKE: "equals"}
    pairs = itertools.combinations(TABLE1_METHODS, 2)
    for dataset, (other, method), score in itertools.product(REAL, pairs, TABLE1_SCORES):
        gap = paper_value(method, dataset, score) - paper_value(other, dataset, score)
        sign = ALIKE if abs(gap) < NO_DIFFERENCE else GREATER if gap > 0 else LESS
        text = f"{METHODS[method].label} {words[sign]} {METHODS[other].label} in {SCORES[score]}"
        claims.append(Claim("Table 1", text, dataset, ((method, sign, other, score),)))
    return claims


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows that Table 1 shows, with the rates that sentences speak of, per image;
    nan without nuclei.
    """
    keys, nuclei = ["run_id", "image"], runs.n_nuclei.where(runs.n_nuclei > 0)
    runs = runs.assign(missed_share=runs.missed / nuclei, merged_share=runs.merged / nuclei)
    last = runs[runs.checkpoint == "last"].set_index(keys).iou
    shown = runs[runs.shown].set_index(keys)
    return shown.assign(lost=shown.iou - last).reset_index()


def judge(test: pd.Series, sign: int) -> str:
    """Verdict on one comparison by `RULES`; `test` is a row of `statistics.compare`,
    in the claim's direction.
    """
    if test.images >= MIN_IMAGES and test.repetitions < 2:
        return CANNOT_TELL
    if sign == ALIKE:
        if test.low > SIMILAR or test.high < -SIMILAR:
            return CONTRADICTED
        return REPRODUCED if test.low > -SIMILAR and test.high < SIMILAR else CANNOT_TELL
    decided = max(test.above, test.below) == test.repetitions >= MIN_REPETITIONS
    if test.images >= MIN_IMAGES:
        error = test.spread / math.sqrt(test.repetitions)
        decided = test.p_holm < ALPHA and abs(test.difference) > STANDARD_ERRORS * error
    if not decided:
        return CANNOT_TELL
    return REPRODUCED if test.difference * sign > 0 else CONTRADICTED


def ledger(runs: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Every claim with the paper's figure, ours, the rule and the verdict;
    what was not run cannot be judged.

    Args:
        runs: as given by `results.load_runs`, without variants.
        profile: whose runs they are; only the paper's own recipes make its numbers comparable.
    """
    labels = {name: label for name, (label, _) in DATASETS.items()} | dict(
        zip(runs.dataset, runs.data, strict=True)
    )
    claims = _sentences() + _differences()
    tests = _tests(runs, claims)
    rows = [_judged(claim, tests, labels[claim.dataset]) for claim in claims]
    return pd.DataFrame(rows + _numbers(runs, labels, profile.startswith("paper")))


def _tests(runs: pd.DataFrame, claims: list[Claim]) -> dict[tuple, pd.Series]:
    """Comparisons in both directions; those of Table 1 against S2L are corrected apart from what
    else is asked.
    """
    tests, rest = _both_ways(against_s2l(runs)), {}
    for claim in claims:
        for method, _, other, score in claim.parts:
            pair, reverse = (
                (claim.dataset, method, other, score),
                (claim.dataset, other, method, score),
            )
            if pair not in tests and reverse not in rest:
                rest[pair] = None
    return tests | _both_ways(compare(measured(runs), rest))


def _both_ways(table: pd.DataFrame) -> dict[tuple, pd.Series]:
    tests = {}
    for (dataset, method, other, score), test in table.iterrows():
        turned = {"difference": -test.difference, "low": -test.high, "high": -test.low}
        turned |= {"above": test.below, "below": test.above}
        tests[dataset, method, other, score] = test
        tests[dataset, other, method, score] = pd.Series({**test, **turned})
    return tests


def _judged(claim: Claim, tests: dict, data: str) -> dict:
    paper, ours, verdicts, ids = [], [], [], set()
    for method, sign, other, score in claim.parts:
        name = f"{SCORES[score]}, {_short(method)} against {_short(other)}: "
        gap = paper_value(method, claim.dataset, score) - paper_value(other, claim.dataset, score)
        paper += [f"{name}{gap:+.4f}"] if gap == gap else []
        test = tests.get((claim.dataset, method, other, score))
        ours.append(name + ("not run" if test is None else _figure(test)))
        verdicts.append(CANNOT_TELL if test is None else judge(test, sign))
        ids |= set() if test is None else set(test.run_ids.split())
    verdict = REPRODUCED if set(verdicts) == {REPRODUCED} else CANNOT_TELL
    verdict = CONTRADICTED if CONTRADICTED in verdicts else verdict
    rule = RULES["similar" if claim.parts[0][1] == ALIKE else "order"]
    row = {
        "source": claim.source,
        "claim": claim.text,
        "data": data,
        "paper": "; ".join(paper) or "no number",
    }
    return row | {
        "ours": "; ".join(ours),
        "rule": rule,
        "verdict": verdict,
        "run_ids": " ".join(sorted(ids)),
    }


def _short(method: str) -> str:
    return METHODS[method].label.removeprefix("S2L + ")


def _figure(test: pd.Series) -> str:
    repeated = f" ± {test.spread:.4f} over {test.repetitions} runs" if test.repetitions > 1 else ""
    end = f", {test.images} images{'' if repeated else ', 1 run'}"
    if test.images < MIN_IMAGES:
        return f"{test.difference:+.4f}{repeated}, {test.above} above 0{end}"
    return (
        f"{test.difference:+.4f}{repeated} [{test.low:+.4f}, {test.high:+.4f}], p ="
        f" {test.p_holm:.4f}{end}"
    )


def _numbers(runs: pd.DataFrame, labels: dict[str, str], comparable: bool) -> list[dict]:
    """The thirty numbers of Table 1."""
    ours, rows = table1(runs).set_index(["data", "method", "score"]), []
    for dataset, method, (column, score) in itertools.product(
        REAL, TABLE1_METHODS, TABLE1_SCORES.items()
    ):
        paper, key = paper_value(method, dataset, column), (labels[dataset], method, score)
        row = {
            "source": "Table 1",
            "claim": f"{METHODS[method].label} has {score} {paper:.4f}",
            "data": key[0],
        }
        row |= {
            "paper": f"{paper:.4f}",
            "ours": "not run",
            "rule": RULES["number" if comparable else NOT_COMPARABLE],
        }
        row |= {"verdict": CANNOT_TELL if comparable else NOT_COMPARABLE, "run_ids": ""}
        if key in ours.index:
            own = ours.loc[key]
            ends = f" [{own.low:.4f}, {own.high:.4f}]" if own.low == own.low else ""
            row |= {"ours": f"{own.ours:.4f}{ends}", "run_ids": own.run_ids}
            if comparable and ends:
                row["verdict"] = REPRODUCED if own.low <= paper <= own.high else CONTRADICTED
        rows.append(row)
    return rows


def claims_markdown(table: pd.DataFrame) -> str:
    """The ledger to be read: how many of each verdict, every sentence, and the rules;
    the rest is in `claims.csv`.
    """
    kinds = table.source.where(table.source != "Table 1", "a number of Table 1")
    kinds = kinds.mask(
        table.source.eq("Table 1") & table.paper.str.contains(":"), "a difference in Table 1"
    )
    kinds = kinds.where(kinds.str.contains("Table 1"), "a sentence of Sec. 3.3 or 4")
    counts = pd.crosstab(kinds, table.verdict).reindex(columns=list(VERDICTS), fill_value=0)
    sentences = table[table.source != "Table 1"]
    lines = [
        f"| the paper's claim is | {' | '.join(VERDICTS)} |",
        "|---" * (len(VERDICTS) + 1) + "|",
    ]
    lines += [f"| {' | '.join(map(str, row))} |" for row in counts.itertuples()]
    lines += ["", "| claim | data | paper | ours | verdict |", "|---" * 5 + "|"]
    for _, row in sentences.iterrows():
        paper, ours = (text.replace("; ", "<br>") for text in (row.paper, row.ours))
        lines.append(
            f"| {row.claim} ({row.source}) | {row.data} | {paper} | {ours} | **{row.verdict}** |"
        )
    lines += ["", f"The rule for an order: {RULES['order']}. For `similar`: {RULES['similar']}."]
    return "\n".join(lines) + "\n"
