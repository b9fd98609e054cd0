"""The ledger: claims agree with the paper's own numbers,
and verdicts follow the rules on made-up runs.
"""

import itertools

import pandas as pd
import pytest
from made_up import write_run

from s2l_core.config import TABLE1_METHODS
from s2l_core.profiles import REAL
from s2l_paper import claims, results
from s2l_paper.claims import (
    ALIKE,
    CANNOT_TELL,
    CONTRADICTED,
    GREATER,
    LESS,
    NOT_COMPARABLE,
    REPRODUCED,
    judge,
)
from s2l_paper.statistics import MIN_IMAGES, MIN_REPETITIONS
from s2l_paper.table1 import PAPER_TABLE1, TABLE1_SCORES, paper_value

SINGLE_TEXT, DOUBLE_TEXT = (
    "R1x1 outperformed R4x4",
    "two regularizers at different scales are superior to S2L",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))


def ledger(profile="cpu"):
    return claims.ledger(results.load_runs("cpu"), profile)


def row(table, text, data=None):
    (found,) = [r for _, r in table.iterrows() if text in r.claim and data in (None, r.data)]
    return found


def repeated(method, iou, dataset="dsb-fluo", folds=2, images=MIN_IMAGES, **fields):
    for fold in range(folds):
        write_run(method, dataset, iou=iou, noise=0.002, images=images, fold=fold, **fields)


def test_sentences_agree_with_the_papers_table():
    """A claim whose sign the paper's own numbers do not have would be a misreading."""
    gaps = 0
    for claim in claims._sentences():
        for method, sign, other, score in claim.parts:
            gap = paper_value(method, claim.dataset, score) - paper_value(
                other, claim.dataset, score
            )
            if gap == gap:
                gaps += 1
                assert abs(gap) < claims.NO_DIFFERENCE if sign == ALIKE else gap * sign > 0, claim
    assert gaps >= 30


def test_every_difference_of_table_1_is_there_once():
    found = claims._differences()
    assert len(found) == 3 * 10 * 2 == len({(c.dataset, c.parts[0]) for c in found})
    signs = {(c.dataset, *c.parts[0][::2], c.parts[0][3]): c.parts[0][1] for c in found}
    assert signs["dsb-bf", "s2l-r1", "s2l", "iou"] == GREATER
    assert signs["dsb-fluo", "supervised", "s2l", "mdice_official"] == LESS  # .8204 against .8235
    assert signs["dsb-fluo", "s2l-r4", "s2l", "mdice_official"] == ALIKE  # .8234 against .8235
    assert {(c.dataset, frozenset(c.parts[0][::2])) for c in found} == {
        (d, frozenset(p)) for d in REAL for p in itertools.combinations(TABLE1_METHODS, 2)
    }


TEST = {
    "difference": 0.02,
    "low": 0.01,
    "high": 0.03,
    "p_holm": 0.01,
    "spread": 0.005,
    "images": 40,
}
TEST |= {"repetitions": 4, "above": 4, "below": 0}
FEW = {"images": 3, "p_holm": float("nan"), "low": float("nan"), "high": float("nan")}


@pytest.mark.parametrize(
    ("change", "sign", "verdict"),
    [
        ({}, GREATER, REPRODUCED),
        ({}, LESS, CONTRADICTED),
        ({"p_holm": 0.06}, GREATER, CANNOT_TELL),
        ({"spread": 0.021}, GREATER, CANNOT_TELL),  # two standard errors are .021
        ({"spread": 0.019}, GREATER, REPRODUCED),
        ({"repetitions": 1, "above": 1, "spread": float("nan")}, GREATER, CANNOT_TELL),
        (FEW, GREATER, CANNOT_TELL),
        (FEW | {"repetitions": MIN_REPETITIONS, "above": MIN_REPETITIONS}, GREATER, REPRODUCED),
        (FEW | {"repetitions": MIN_REPETITIONS, "above": MIN_REPETITIONS}, LESS, CONTRADICTED),
        (
            FEW | {"repetitions": MIN_REPETITIONS, "above": MIN_REPETITIONS - 1, "below": 1},
            GREATER,
            CANNOT_TELL,
        ),
        (FEW | {"repetitions": MIN_REPETITIONS, "above": MIN_REPETITIONS}, ALIKE, CANNOT_TELL),
        ({}, ALIKE, CONTRADICTED),
        ({"low": -0.03, "high": -0.02}, ALIKE, CONTRADICTED),
        ({"low": -0.004, "high": 0.004}, ALIKE, REPRODUCED),
        ({"low": -0.004, "high": 0.006}, ALIKE, CANNOT_TELL),
        ({"low": -0.004, "high": 0.004, "repetitions": 1}, ALIKE, CANNOT_TELL),
    ],
)
def test_verdicts_follow_the_rules(change, sign, verdict):
    assert judge(pd.Series(TEST | change), sign) == verdict


def test_a_claim_is_reproduced_contradicted_or_open():
    for method, iou in (("s2l", 0.5), ("s2l-r1", 0.6), ("s2l-r4", 0.55), ("s2l-r1-r4", 0.45)):
        repeated(method, iou)
    table = ledger()
    found = row(table, SINGLE_TEXT)
    assert (
        found.verdict == REPRODUCED
        and "IoU, R1x1 against R4x4: +0.05" in found.ours
        and "+0.0060" in found.paper
    )
    assert len(found.run_ids.split()) == 4
    assert row(table, DOUBLE_TEXT, "DSB-Fluo").verdict == CONTRADICTED
    assert row(table, DOUBLE_TEXT, "DSB-BF")[["verdict", "run_ids"]].to_list() == [CANNOT_TELL, ""]
    assert "not run" in row(table, DOUBLE_TEXT, "DSB-BF").ours
    assert row(table, "R1x1 is similar to R1x1 + R4x4").verdict == CONTRADICTED
    assert row(table, "S2L + R1x1 is above S2L in IoU", "DSB-Fluo").verdict == REPRODUCED
    assert row(table, "Supervised is above S2L in IoU", "DSB-Fluo").verdict == CANNOT_TELL


def test_all_parts_of_a_sentence_have_to_hold():
    for method, iou in (("s2l", 0.5), ("s2l-r1", 0.6), ("s2l-r4", 0.55)):
        repeated(method, iou)
    repeated("s2l-r1-r4", 0.6002)
    assert row(ledger(), "outperformed S2L and single-scale", "DSB-Fluo").verdict == CANNOT_TELL


def test_rates_are_measured_per_nucleus_and_image():
    for method, counts, lost in (
        ("s2l", (4, 5, 6), 0.05),
        ("s2l-r1", (1, 2, 3), 0.01),
        ("s2l-r1-r4", (9, 9, 9), 0.09),
    ):
        for dataset, images in (("dsb-bf", 3), ("dsb-fluo", MIN_IMAGES), ("monuseg", 14)):
            repeated(method, 0.6, dataset, images=images, counts=counts, lost=lost)
    table = ledger()
    found = row(table, "S2L + R1x1 detects cells")
    assert found.verdict == REPRODUCED and "nuclei missed, R1x1 against S2L: -0.3000" in found.ours
    assert found.paper == "no number"
    assert row(table, "S2L + R1x1 + R4x4 separates nearby").verdict == CONTRADICTED
    assert "merged, R1x1 against S2L: -0.3000" in row(table, "S2L + R1x1 separates nearby").ours
    few = row(table, "S2L + R1x1 tells apart")
    assert (
        few.verdict == CANNOT_TELL
        and "-3.0000 ± 0.0000 over 2 runs, 0 above 0, 3 images" in few.ours
    )
    assert row(table, "avoids overfitting", "DSB-Fluo").verdict == CONTRADICTED
    measured = claims.measured(results.load_runs("cpu"))
    assert measured.groupby("method").lost.mean().round(6).to_dict() == {
        "s2l": 0.05,
        "s2l-r1": 0.01,
        "s2l-r1-r4": 0.09,
    }


def test_three_images_need_six_agreeing_repetitions():
    for method, iou in (("s2l", 0.5), ("s2l-r1-r4", 0.6)):
        repeated(method, iou, "dsb-bf", folds=4, images=3)
    assert row(ledger(), DOUBLE_TEXT, "DSB-BF").verdict == CANNOT_TELL
    for method, iou in (("s2l", 0.5), ("s2l-r1-r4", 0.6)):
        repeated(method, iou, "dsb-bf", folds=2, images=3, annotator=1)
    found = row(ledger(), DOUBLE_TEXT, "DSB-BF")
    assert found.verdict == REPRODUCED and "6 above 0, 3 images" in found.ours


def test_numbers_of_another_recipe_are_listed_and_not_compared():
    mdice, iou = PAPER_TABLE1["supervised", "dsb-fluo"]
    repeated("supervised", iou - 0.04)  # the made-up images add .04 on average
    numbers = ledger()[-30:]
    assert set(numbers.verdict) == {NOT_COMPARABLE} and (numbers.ours != "not run").sum() == 2
    numbers = ledger("paper")[-30:]
    assert numbers.verdict.value_counts().to_dict() == {
        CANNOT_TELL: 28,
        REPRODUCED: 1,
        CONTRADICTED: 1,
    }
    assert row(numbers, f"Supervised has IoU {iou:.4f}").verdict == REPRODUCED
    assert row(numbers, f"Supervised has mDice {mdice:.4f}").verdict == CONTRADICTED


def test_tests_against_s2l_are_a_family_of_their_own():
    for method, iou in zip(TABLE1_METHODS, (0.5, 0.52, 0.54, 0.56, 0.58), strict=True):
        repeated(method, iou)
    table = ledger()
    least = 2 / 2**MIN_IMAGES
    assert f"p = {8 * least:.4f}" in row(table, "S2L + R1x1 is above S2L in IoU", "DSB-Fluo").ours
    others = (
        6 * 2 + 1 + 3 + 3
    )  # pairs without S2L, then overfitting, missed nuclei, and shapes, on this data set
    assert (
        f"p = {others * least:.4f}"
        in row(table, "Supervised is above S2L + R1x1 in IoU", "DSB-Fluo").ours
    )


def test_ledger_as_text_counts_every_claim():
    repeated("s2l", 0.5)
    table = ledger()
    lines = claims.claims_markdown(table).splitlines()
    counts = [list(map(int, line.strip("| ").split(" | ")[1:])) for line in lines[2:5]]
    assert [sum(kind) for kind in counts] == [60, 30, len(table) - 90]
    assert sum(sum(kind) for kind in counts) == len(table)
    assert sum("(Sec." in line for line in lines) == len(table) - 90
    assert set(table.verdict) <= set(claims.VERDICTS) and set(TABLE1_SCORES.values()) == {
        "mDice",
        "IoU",
    }
