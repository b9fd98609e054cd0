"""The ledger: claims agree with the paper's own numbers, and verdicts follow the rules on made-up
runs.
"""

import itertools

import pandas as pd
import pytest
from made_up import write_run

from s2l_core.config import TABLE1_METHODS
from s2l_core.profiles import REAL
from s2l_paper.running import results
from s2l_paper.tables import claims, ledger_text, paper_claims
from s2l_paper.tables.claims import (
    CANNOT_TELL,
    CONTRADICTED,
    NO_DIFFERENCE,
    NOT_RUN,
    NUMBER,
    REPRODUCED,
    judge,
    judge_all,
)
from s2l_paper.tables.paper_claims import ALIKE, DIFFERENCE, GREATER, LESS, SENTENCE, THESIS
from s2l_paper.tables.table1 import PAPER_TABLE1, TABLE1_SCORES, paper_value

IMAGES = 14
SINGLE_TEXT = "R1x1 outperformed R4x4"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))


def ledger():
    return claims.ledger(results.load_runs("scratch"), "scratch")


def as_text(table):
    runs = results.load_runs("scratch")
    return ledger_text.claims_markdown(table, claims.differences(runs, claims.all_tests(runs)))


def row(table, text, data=None):
    (found,) = [r for _, r in table.iterrows() if text in r.claim and data in (None, r.data)]
    return found


def repeated(method, iou, dataset="dsb-fluo", folds=2, images=IMAGES, noise=0.002, **fields):
    for fold in range(folds):
        write_run(method, dataset, iou=iou, noise=noise, images=images, fold=fold, **fields)


def test_sentences_agree_with_the_papers_table():
    """A claim whose sign the paper's own numbers do not have would be a misreading."""
    gaps = 0
    for claim in paper_claims.sentences():
        for method, sign, other, score in claim.parts:
            gap = paper_value(method, claim.dataset, score)
            gap -= paper_value(other, claim.dataset, score)
            if gap == gap:
                gaps += 1
                agrees = abs(gap) < paper_claims.NONE_IN_PAPER if sign == ALIKE else gap * sign > 0
                assert agrees, claim
    assert gaps >= 30


def test_the_thesis_is_asked_of_each_data_set():
    thesis = [claim for claim in paper_claims.sentences() if claim.text == THESIS]
    assert [claim.dataset for claim in thesis] == list(REAL)


def test_every_difference_of_table_1_is_there_once():
    found = paper_claims.table1_differences()
    assert len(found) == 3 * 10 * 2 == len({(c.dataset, c.parts[0]) for c in found})
    signs = {(c.dataset, *c.parts[0][::2], c.parts[0][3]): c.parts[0][1] for c in found}
    assert signs["dsb-bf", "s2l-r1", "s2l", "iou"] == GREATER
    assert signs["dsb-fluo", "supervised", "s2l", "mdice_official"] == LESS  # .8204 against .8235
    assert signs["dsb-fluo", "s2l-r4", "s2l", "mdice_official"] == ALIKE  # .8234 against .8235
    assert {(c.dataset, frozenset(c.parts[0][::2])) for c in found} == {
        (dataset, frozenset(pair))
        for dataset in REAL
        for pair in itertools.combinations(TABLE1_METHODS, 2)
    }


TEST = {"difference": 0.02, "low": 0.012, "high": 0.03, "p_holm": 0.01, "p_equal_holm": 0.9}
NONE = {"difference": 0.001, "low": -0.005, "high": 0.006, "p_holm": 0.7, "p_equal_holm": 0.01}
NO_TEST = dict.fromkeys(("low", "high", "p_holm", "p_equal_holm"), float("nan"))


@pytest.mark.parametrize(
    ("change", "sign", "verdict"),
    [
        ({}, GREATER, REPRODUCED),
        ({}, LESS, CONTRADICTED),
        ({"p_holm": 0.06}, GREATER, CANNOT_TELL),
        (NO_TEST, GREATER, CANNOT_TELL),
        (NO_TEST, ALIKE, CANNOT_TELL),
        (NONE, GREATER, NO_DIFFERENCE),
        (NONE, LESS, NO_DIFFERENCE),
        (NONE, ALIKE, REPRODUCED),
        (NONE | {"p_holm": 0.01}, GREATER, REPRODUCED),  # small, but surely there
        ({}, ALIKE, CONTRADICTED),
        ({"difference": -0.02, "low": -0.03, "high": -0.012}, ALIKE, CONTRADICTED),
        ({"p_holm": 0.06}, ALIKE, CANNOT_TELL),
        ({"low": 0.005}, ALIKE, CANNOT_TELL),  # perhaps smaller than what is of interest
    ],
)
def test_verdicts_follow_the_rules(change, sign, verdict):
    assert judge(pd.Series(TEST | change), sign) == verdict


def test_what_was_not_run_is_not_judged():
    assert judge(None, GREATER) == NOT_RUN


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, CANNOT_TELL], CANNOT_TELL),
        ([REPRODUCED, NOT_RUN], NOT_RUN),
        ([NO_DIFFERENCE, CANNOT_TELL], NO_DIFFERENCE),
        ([REPRODUCED, CONTRADICTED, NOT_RUN], CONTRADICTED),
    ],
)
def test_all_comparisons_of_a_sentence_have_to_hold(verdicts, expected):
    assert judge_all(verdicts) == expected


def test_a_claim_is_reproduced_contradicted_or_open():
    for method, iou in (("s2l", 0.5), ("s2l-r1", 0.6), ("s2l-r4", 0.55), ("s2l-r1-r4", 0.45)):
        repeated(method, iou)
    table = ledger()
    found = row(table, SINGLE_TEXT)
    assert found.verdict == REPRODUCED and found.kind == SENTENCE
    assert "IoU, R1x1 against R4x4: +0.05" in found.ours and "+0.0060" in found.paper
    assert len(found.run_ids.split()) == 4
    assert row(table, THESIS, "DSB-Fluo").verdict == CONTRADICTED
    assert row(table, "R1x1 is similar to R1x1 + R4x4").verdict == CONTRADICTED
    found = row(table, "S2L + R1x1 is above S2L in IoU", "DSB-Fluo")
    assert found.verdict == REPRODUCED and found.kind == DIFFERENCE


def test_differences_stand_beside_the_papers_each_once():
    for method, iou in (("s2l", 0.5), ("s2l-r1", 0.55), ("s2l-r1-r4", 0.53)):
        repeated(method, iou)
    runs = results.load_runs("scratch")
    table = claims.differences(runs, claims.all_tests(runs))
    keys = ["data", "method", "against", "score"]
    assert not table.duplicated(keys).any()
    rows = table.set_index(keys)
    found = rows.loc[("DSB-Fluo", "S2L + R1x1 + R4x4", "S2L", "IoU")]
    assert found.ours == pytest.approx(0.03, abs=0.002) and found.low < 0.03 < found.high
    paper = [paper_value(method, "dsb-fluo", "iou") for method in ("s2l-r1-r4", "s2l")]
    assert found.paper == pytest.approx(paper[0] - paper[1]) and found.images == IMAGES
    assert pd.isna(rows.loc[("DSB-Fluo", "S2L + R1x1", "S2L + R4x4", "IoU")].ours)
    assert "+0.030" in as_text(ledger())


def test_no_difference_is_a_verdict_of_its_own():
    for method in ("s2l", "s2l-r1-r4"):
        repeated(method, 0.5, noise=0.001, folds=4)
    found = row(ledger(), THESIS, "DSB-Fluo")
    assert found.verdict == NO_DIFFERENCE == "no difference larger than .01"


def test_what_cannot_be_told_says_what_could_have_been_detected():
    for method, iou in (("s2l", 0.5), ("s2l-r1-r4", 0.51)):
        repeated(method, iou, noise=0.05)
    found = row(ledger(), THESIS, "DSB-Fluo")
    assert found.verdict == CANNOT_TELL and found.detectable > 0.02
    (line,) = [part for part in as_text(ledger()).splitlines() if THESIS in part and "Fluo" in part]
    assert line.split("|")[-3:-1] == [" **cannot tell** ", f" {found.detectable:.3f} "]


def test_what_is_missing_is_named_with_its_minutes():
    repeated("s2l", 0.5)
    table = ledger()
    found = row(table, THESIS, "DSB-Fluo")
    assert found.verdict == NOT_RUN and found.run_ids == ""
    assert "not run" in found.ours
    assert (
        found.missing.startswith("2 runs, about ") and "s2l-r1-r4 fold 0, seed 0" in found.missing
    )
    assert row(table, THESIS, "DSB-BF").missing.startswith("16 runs, about ")
    assert row(table, THESIS, "MoNuSeg").missing == ""  # not in this profile


def test_nothing_is_reproduced_on_three_images():
    for method, iou in (("s2l", 0.5), ("s2l-r1-r4", 0.6)):
        for annotator in (0, 1):
            repeated(method, iou, "dsb-bf", folds=4, images=3, annotator=annotator)
    found = row(ledger(), THESIS, "DSB-BF")
    assert found.verdict == CANNOT_TELL and "8 runs, 3 images" in found.ours


def test_out_of_fold_all_images_are_tested_together():
    """Each rotation has three images: too few alone, enough together."""
    for method, iou in (("s2l", 0.5), ("s2l-r1-r4", 0.6)):
        for rotation, seed in itertools.product(range(5), range(2)):
            first = 3 * rotation
            write_run(
                method, iou=iou, noise=0.002, first=first, rotation=rotation, seed=seed
            )  # fmt: skip
    found = row(ledger(), THESIS, "DSB-BF")
    assert found.verdict == REPRODUCED and "10 runs, 15 images" in found.ours


def test_rates_are_measured_per_nucleus_and_image():
    for method, counts, lost in (
        ("s2l", (4, 5, 6), 0.05),
        ("s2l-r1", (1, 2, 3), 0.01),
        ("s2l-r1-r4", (9, 9, 9), 0.09),
        ("scribble-only", (2, 3, 4), 0.0),
        ("random-forest", (3, 4, 5), 0.0),
    ):
        for dataset in REAL:
            repeated(method, 0.6, dataset, counts=counts, lost=lost)
    table = ledger()
    found = row(table, "S2L + R1x1 detects cells")
    assert found.verdict == REPRODUCED and "nuclei missed, R1x1 against S2L: -0.3000" in found.ours
    assert found.paper == "no number"
    beside = "S2L 0.5, S2L + R1x1 0.2, Scribbles only 0.3, Random forest 0.4"
    assert found.beside == f"share of nuclei missed: {beside}"
    assert f"for comparison: {found.beside}" in as_text(table)

    assert row(table, "S2L + R1x1 + R4x4 separates nearby").verdict == CONTRADICTED
    assert "merged, R1x1 against S2L: -0.3000" in row(table, "S2L + R1x1 separates nearby").ours
    assert row(table, "avoids overfitting", "DSB-Fluo").verdict == CONTRADICTED
    measured = claims.measured(results.load_runs("scratch"))
    lost = measured.groupby("method").lost.mean().round(6).to_dict()
    assert lost["s2l"] == 0.05 and lost["s2l-r1-r4"] == 0.09


def test_false_positives_count_as_objects_and_where_it_was_measured_as_area():
    for method, count, area in (("s2l", 5, 0.002), ("s2l-r1", 2, 0.004), ("s2l-r4", 2, 0.001)):
        repeated(method, 0.6, "dsb-bf", counts=(count, 0, 0), false_area=area)
    repeated("s2l-r1-r4", 0.6, "dsb-bf", counts=(2, 0, 0))
    table = ledger()
    fewer_but_larger = row(table, "S2L + R1x1 reports fewer")
    assert "false area, share of the image, R1x1 against S2L: +0.0020" in fewer_but_larger.ours
    assert fewer_but_larger.verdict == CONTRADICTED
    assert row(table, "S2L + R4x4 reports fewer").verdict == REPRODUCED
    unmeasured = row(table, "S2L + R1x1 + R4x4 reports fewer")
    assert unmeasured.verdict == REPRODUCED and "area" not in unmeasured.ours


def test_numbers_are_inside_our_interval_or_not():
    mdice, iou = PAPER_TABLE1["supervised", "dsb-fluo"]
    for method in TABLE1_METHODS:
        repeated(method, iou - 0.04, folds=4)  # the made-up images add .04 on average
    table = ledger()
    numbers = table[table.kind == NUMBER]
    assert len(numbers) == 30 and (numbers.ours != NOT_RUN).sum() == 10
    found = row(numbers, f"Supervised has IoU {iou:.4f}")
    assert (found.inside, found.verdict) == ("yes", REPRODUCED)
    found = row(numbers, f"Supervised has mDice {mdice:.4f}")
    assert (found.inside, found.verdict) == ("no", CONTRADICTED)
    assert (numbers.verdict == NOT_RUN).sum() == 20


def test_a_wide_interval_reproduces_no_number():
    own = pd.Series({"ours": 0.7, "low": 0.6, "high": 0.75})
    assert claims._placed(own, 0.72)["verdict"] == CANNOT_TELL
    assert claims._placed(own, 0.76)["verdict"] == CONTRADICTED
    own.low = 0.66
    assert claims._placed(own, 0.72) == {
        "ours": "0.7000 [0.6600, 0.7500]",
        "inside": "yes",
        "verdict": REPRODUCED,
    }


def test_ledger_as_text_counts_every_claim():
    repeated("s2l", 0.5)
    table = ledger()
    counts = ledger_text.counted(table).set_index("kind")
    assert counts.sum(axis=1).to_dict() == {
        DIFFERENCE: 60,
        NUMBER: 30,
        SENTENCE: len(paper_claims.sentences()),
    }
    assert list(counts) == list(claims.VERDICTS) and set(table.verdict) <= set(claims.VERDICTS)
    lines = as_text(table).splitlines()
    assert [name.strip() for name in lines[0].strip("| ").split("|")] == ["kind", *claims.VERDICTS]
    sources = {claim.source for claim in paper_claims.sentences()}
    sentences = [line for line in lines if any(f"({source})" in line for source in sources)]
    assert len(sentences) == len(paper_claims.sentences())
    assert set(TABLE1_SCORES.values()) == {"mDice", "IoU"}
