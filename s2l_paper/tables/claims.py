"""The ledger of the paper's claims: what our runs say of each, and the verdict.

What the paper says stands in `paper_claims`; the numbers of Table 1 are judged here too.
"""

import functools
import itertools

import pandas as pd

from s2l_core.config import METHODS, TABLE1_METHODS
from s2l_core.profiles import DATASETS, PROFILES, REAL
from s2l_paper.comparing.comparisons import compare
from s2l_paper.comparing.missing import MIN_REPETITIONS, missing_runs, shortage
from s2l_paper.comparing.statistics import (
    ALPHA,
    DRAWS,
    EXACT_GROUPS,
    MIN_GROUPS,
    POWER,
    SMALLEST_EFFECT,
)
from s2l_paper.tables.paper_claims import (
    ALIKE,
    DIFFERENCE,
    SCORE_TITLES,
    SENTENCE,
    Claim,
    sentences,
    table1_differences,
)
from s2l_paper.tables.table1 import TABLE1_SCORES, against_s2l, paper_value, table1

NUMBER = "number"
KINDS = {
    DIFFERENCE: "a difference between two rows of Table 1",
    NUMBER: "a number of Table 1",
    SENTENCE: "a sentence of the text",
}
REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
NO_DIFFERENCE = f"no difference larger than {SMALLEST_EFFECT:g}".replace("0.", ".")
CANNOT_TELL, NOT_RUN = "cannot tell", "not run"
VERDICTS = (REPRODUCED, CONTRADICTED, NO_DIFFERENCE, CANNOT_TELL, NOT_RUN)

WIDEST = 0.05  # half of the widest interval that can be said to reproduce a number
BESIDE = ("scribble-only", "random-forest")  # what scribbles give without pseudo-labels, or a net
RULES = {
    "an order": f"reproduced or contradicted where p < {ALPHA:g} after Holm's correction. The test "
    "exchanges signs by group of alike images and adds the run noise of all methods, so that a "
    "difference has to exceed what other images and other trainings change together. With up to "
    f"{EXACT_GROUPS} groups it makes all exchanges; with more it draws {DRAWS:,} of them, and p "
    "counts with twice its error. All comparisons of a sentence have to hold",
    "families": "on each data set three families of tests are corrected separately: Table 1's "
    "methods against S2L in mDice and IoU, its other pairs, and what else sentences ask, such as "
    "errors and AJI",
    NO_DIFFERENCE: f"two one-sided tests find the difference within ± {SMALLEST_EFFECT:g}, with "
    f"p < {ALPHA:g} after Holm's correction. The same tests show that two methods are similar. "
    "Only scores that are shares get this verdict",
    CANNOT_TELL: "no other verdict follows, or there are fewer than "
    f"{MIN_GROUPS} groups of test images or {MIN_REPETITIONS} trainings. The table of sentences "
    "then gives the smallest difference that these runs could have detected (with probability "
    f"{POWER:g}), or says which runs are missing",
    "a number": "reproduced where the paper's number lies in our 95 % interval, if that is no "
    f"wider than ± {WIDEST:g}; contradicted where it lies outside: this recipe, these scribbles "
    "and these runs give another number, which says nothing of the paper's experiment. A wide "
    "interval is passed more easily: reproduced means no more than that ours does not exclude it",
}


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows that Table 1 shows, with the rates that sentences speak of.

    Rates are per image, and nan in an image without nuclei. Scores that earlier runs did not
    record are nan as well.
    """
    keys, nuclei = ["run_id", "image"], runs.n_nuclei.where(runs.n_nuclei > 0)
    runs = runs.assign(missed_share=runs.missed / nuclei, merged_share=runs.merged / nuclei)
    last = runs[runs.checkpoint == "last"].set_index(keys).iou
    shown = runs[runs.shown].set_index(keys)
    shown = shown.assign(lost=shown.iou - last).reset_index()
    return shown if "false_area" in shown else shown.assign(false_area=float("nan"))


def judge(test: pd.Series | None, sign: int) -> str:
    """Verdict on one comparison by `RULES`.

    Args:
        test: a row of `comparisons.compare`, in the claim's direction; None where it was not run.
        sign: GREATER, LESS or ALIKE.
    """
    if test is None:
        return NOT_RUN
    within = test.p_equal_holm < ALPHA
    if sign == ALIKE:
        outside = test.low > SMALLEST_EFFECT or test.high < -SMALLEST_EFFECT
        if within:
            return REPRODUCED
        return CONTRADICTED if outside and test.p_holm < ALPHA else CANNOT_TELL
    if test.p_holm < ALPHA:
        return REPRODUCED if test.difference * sign > 0 else CONTRADICTED
    return NO_DIFFERENCE if within else CANNOT_TELL


def judge_all(verdicts: list[str]) -> str:
    """Verdict on a claim whose comparisons all have to hold.

    One that is contradicted, or in which there is no difference, is enough to say so.
    """
    for verdict in (CONTRADICTED, NO_DIFFERENCE, NOT_RUN, CANNOT_TELL):
        if verdict in verdicts:
            return verdict
    return REPRODUCED


def ledger(
    runs: pd.DataFrame, profile: str, tests: dict[tuple, pd.Series] | None = None
) -> pd.DataFrame:
    """Every claim with the paper's figure, ours and the verdict.

    Args:
        runs: as given by `results.load_runs`, without variants.
        profile: whose runs they are.
        tests: what `all_tests` gives, where it has been computed already.

    Returns:
        A row for each claim: its `kind`, `source`, text and `data` set; the figures of the `paper`
        and `ours`; for a number, whether it lies `inside` our interval; the `verdict`; where that
        is "cannot tell", the smallest difference that the runs could have detected (`detectable`);
        which runs are `missing`; what lies `beside`; `run_ids`.
    """
    labels = _labels(runs)
    claims = sentences() + table1_differences()
    tests = all_tests(runs) if tests is None else tests
    rates = measured(runs)

    @functools.cache
    def missing(dataset: str, methods: tuple[str, ...]) -> str:
        planned = {*PROFILES[profile].datasets, *runs.dataset}
        if dataset not in planned:
            return ""
        return shortage(missing_runs(runs, profile, dataset, methods))

    rows = []
    for claim in claims:
        row = _judged(claim, tests, rates)
        methods = dict.fromkeys(name for part in claim.parts for name in (part[0], part[2]))
        row["missing"] = missing(claim.dataset, tuple(methods))
        rows.append(row | {"data": labels[claim.dataset]})
    for row, dataset, method in _numbers(runs, labels):
        rows.append(row | {"missing": missing(dataset, (method,))})
    columns = ["kind", "source", "claim", "data", "paper", "ours", "inside", "verdict"]
    columns += ["detectable", "missing", "beside", "run_ids"]
    return pd.DataFrame(rows, columns=columns)


def _labels(runs: pd.DataFrame) -> dict[str, str]:
    """Names of data sets as tables show them."""
    labels = {name: label for name, (label, _) in DATASETS.items()}
    return labels | dict(zip(runs.dataset, runs.data, strict=True))


def all_tests(runs: pd.DataFrame) -> dict[tuple, pd.Series]:
    """Comparisons in both directions, in three families: Table 1 against S2L, the other pairs of
    Table 1, and what else sentences ask for. The key is (data set, method, other, score).
    """
    against = _both_ways(against_s2l(runs))
    others, further = {}, {}
    for claim in sentences() + table1_differences():
        for method, _, other, score in claim.parts:
            pair = (claim.dataset, method, other, score)
            turned = (claim.dataset, other, method, score)
            family = others if score in TABLE1_SCORES else further
            if pair not in against and turned not in family:
                family[pair] = None
    rates = measured(runs)
    found = against | _both_ways(compare(rates, others, "among the others"))
    return found | _both_ways(compare(rates, further, "what sentences ask"))


def _both_ways(table: pd.DataFrame) -> dict[tuple, pd.Series]:
    """Each comparison as it was asked, and with its methods exchanged."""
    tests = {}
    for (dataset, method, other, score), test in table.iterrows():
        turned = {"difference": -test.difference, "low": -test.high, "high": -test.low}
        turned |= {"above": test.below, "below": test.above}
        turned |= {"kinds_above": test.kinds - test.kinds_above}
        tests[dataset, method, other, score] = test
        tests[dataset, other, method, score] = pd.Series({**test, **turned})
    return tests


def differences(runs: pd.DataFrame, tests: dict[tuple, pd.Series]) -> pd.DataFrame:
    """What the sentences compare: the paper's difference and ours, each comparison once.

    Args:
        runs: as given by `results.load_runs`, without variants.
        tests: what `all_tests` gives for them.

    Returns:
        A row for each comparison: `data`, `method`, `against`, `score`, the `paper`'s difference
        (nan where it gives none), `ours`, from `low` to `high`, corrected `p`, and the numbers of
        `runs`, `images` and `groups` of alike images, with the kinds of imaging.
    """
    labels, found = _labels(runs), {}
    for dataset, claim in itertools.product(REAL, sentences()):
        for method, _, other, score in claim.parts:
            key, turned = (dataset, method, other, score), (dataset, other, method, score)
            if claim.dataset != dataset or turned in found:
                continue
            gap = paper_value(method, dataset, score) - paper_value(other, dataset, score)
            row = {"data": labels[dataset], "method": METHODS[method].label}
            row |= {"against": METHODS[other].label, "score": SCORE_TITLES[score], "paper": gap}
            if key in tests:
                test = tests[key]
                row |= {"ours": test.difference, "low": test.low, "high": test.high}
                row |= {"p": test.p_holm, "runs": test.repetitions}
                row |= {name: test[name] for name in ("images", "groups", "kinds_above", "kinds")}
            found[key] = row
    columns = ["data", "method", "against", "score", "paper", "ours", "low", "high", "p", "runs"]
    columns += ["images", "groups", "kinds_above", "kinds"]
    table = pd.DataFrame(list(found.values()), columns=columns).round(4)
    counts = ["runs", "images", "groups", "kinds_above", "kinds"]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _judged(claim: Claim, tests: dict, rates: pd.DataFrame) -> dict:
    """A row of the ledger for a claim that compares methods."""
    parts = [part for part in claim.parts if part[3] != "false_area" or _has_area(claim, tests)]
    paper, ours, verdicts, smallest, ids = [], [], [], [], set()
    for method, sign, other, score in parts:
        name = f"{SCORE_TITLES[score]}, {_short(method)} against {_short(other)}: "
        gap = paper_value(method, claim.dataset, score) - paper_value(other, claim.dataset, score)
        if pd.notna(gap):
            paper.append(f"{name}{gap:+.4f}")
        test = tests.get((claim.dataset, method, other, score))
        ours.append(name + (NOT_RUN if test is None else _figure(test)))
        verdicts.append(judge(test, sign))
        if test is not None:
            ids |= set(test.run_ids.split())
            smallest += [test.detectable] if verdicts[-1] == CANNOT_TELL else []

    verdict = judge_all(verdicts)
    largest = max((value for value in smallest if pd.notna(value)), default=None)
    return {
        "kind": claim.kind,
        "source": claim.source,
        "claim": claim.text,
        "paper": "; ".join(paper) or "no number",
        "ours": "; ".join(ours),
        "verdict": verdict,
        "detectable": round(largest, 4) if largest and verdict == CANNOT_TELL else None,
        "beside": _beside(claim, rates),
        "run_ids": " ".join(sorted(ids)),
    }


def _has_area(claim: Claim, tests: dict) -> bool:
    """True where the runs of a claim have measured the area of false positives."""
    (method, _, other, _), *_ = claim.parts
    return (claim.dataset, method, other, "false_area") in tests


def _beside(claim: Claim, rates: pd.DataFrame) -> str:
    """Mean rates of what a sentence on errors compares, with those of the simplest methods."""
    score = claim.parts[0][3]
    if score not in ("false_positives", "missed_share", "merged_share"):
        return ""
    here = rates[rates.dataset == claim.dataset]
    means = here.groupby(["method", "image"])[score].mean().groupby("method").mean()
    names = dict.fromkeys(["s2l", claim.parts[0][0], *BESIDE])
    found = [f"{METHODS[name].label} {means[name]:.3g}" for name in names if name in means]
    return f"{SCORE_TITLES[score]}: {', '.join(found)}" if found else ""


def _short(method: str) -> str:
    return METHODS[method].label.removeprefix("S2L + ")


def _figure(test: pd.Series) -> str:
    """A difference of ours in words."""
    runs = "1 run" if test.repetitions == 1 else f"{test.repetitions} runs"
    images = f"{test.images} images"
    if test.groups < test.images:
        images += f" in {test.groups} groups"
    text = f"{test.difference:+.4f}"
    if pd.notna(test.low):
        p_value = f"p = {test.p_holm:.4f}" if test.p_holm >= 5e-5 else "p < 0.0001"
        text += f" [{test.low:+.4f}, {test.high:+.4f}], {p_value}"
        if 0 < test.p_holm < 1 and test.p_error > 0:
            error = test.p_error * test.p_holm / (test.p + 2 * test.p_error)
            text += f" ± {error:.4f}" if error >= 5e-5 else ""
    if test.kinds > 1:
        images += f", above 0 in {test.kinds_above} of {test.kinds} kinds"
    return f"{text}, {runs}, {images}"


def _numbers(runs: pd.DataFrame, labels: dict[str, str]) -> list[tuple[dict, str, str]]:
    """The thirty numbers of Table 1, with data set and method."""
    ours = table1(runs).set_index(["data", "method", "score"])
    scores = TABLE1_SCORES.items()
    rows = []
    for dataset, method, (column, score) in itertools.product(REAL, TABLE1_METHODS, scores):
        paper = paper_value(method, dataset, column)
        row = {
            "kind": NUMBER,
            "source": "Table 1",
            "claim": f"{METHODS[method].label} has {score} {paper:.4f}",
            "data": labels[dataset],
            "paper": f"{paper:.4f}",
            "ours": NOT_RUN,
            "inside": "",
            "verdict": NOT_RUN,
            "beside": "",
            "run_ids": "",
        }
        key = (labels[dataset], method, score)
        if key in ours.index:
            own = ours.loc[key]
            row |= {"ours": f"{own.ours:.4f}", "run_ids": own.run_ids, "verdict": CANNOT_TELL}
            if pd.notna(own.low):
                row |= _placed(own, paper)
        rows.append((row, dataset, method))
    return rows


def _placed(own: pd.Series, paper: float) -> dict:
    """Whether the paper's number lies in our interval."""
    inside = own.low <= paper <= own.high
    verdict = REPRODUCED if inside else CONTRADICTED
    if inside and own.high - own.low > 2 * WIDEST:
        verdict = CANNOT_TELL
    text = f"{own.ours:.4f} [{own.low:.4f}, {own.high:.4f}]"
    return {"ours": text, "inside": "yes" if inside else "no", "verdict": verdict}
