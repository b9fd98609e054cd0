"""What the paper says, as data that can be tested: its sentences, and the differences in Table 1.

A claim says which method is greater than, less than or similar to which other, in which score, on
which data set.
"""

import functools
import itertools
from dataclasses import dataclass

from s2l_core.config import FULL, METHODS, TABLE1_METHODS
from s2l_core.profiles import REAL
from s2l_paper.tables.table1 import TABLE1_SCORES, paper_value

DIFFERENCE, SENTENCE = "difference", "sentence"  # kinds of claims
THESIS = "the multiscale contrastive loss (both terms) improves S2L"
NONE_IN_PAPER = 0.001  # smaller differences between the paper's numbers are read as none
GREATER, LESS, ALIKE = 1, -1, 0
SINGLE = ("s2l-r1", "s2l-r4")  # with one contrastive term
SCORE_TITLES = TABLE1_SCORES | {
    "aji": "AJI",
    "false_positives": "false positives per image",
    "false_area": "false area, share of the image",
    "missed_share": "share of nuclei missed",
    "merged_share": "share of nuclei merged",
    "lost": "IoU lost from best to last weights",
}


@dataclass(frozen=True)
class Claim:
    """What the paper says, as comparisons (method, GREATER | LESS | ALIKE, other, score).

    All of them must hold.
    """

    kind: str
    source: str
    text: str
    dataset: str
    parts: tuple[tuple[str, int, str, str], ...]


def _beats(method: str, *others: str, scores=tuple(TABLE1_SCORES), sign=GREATER) -> tuple:
    """A method against each of the others in each of the scores."""
    return tuple((method, sign, other, score) for other in others for score in scores)


def sentences() -> list[Claim]:
    """The abstract, Sec. 3.3 and the conclusion (Sec. 4).

    What Fig. 2 shows on one image is asked of all test images.
    """
    sentence = functools.partial(Claim, SENTENCE)
    claims = []

    # The thesis, for each data set.
    for name in REAL:
        source = "Abstract" if name == "monuseg" else "Abstract, Sec. 4"
        claims.append(sentence(source, THESIS, name, _beats(FULL, "s2l")))

    text = "multiscale contrastive regularization outperformed S2L and single-scale regularization"
    for name in ("dsb-bf", "dsb-fluo"):
        claims.append(sentence("Sec. 3.3", text, name, _beats(FULL, "s2l", *SINGLE)))
    text = "R4x4 has the second highest performance of the scribble methods"
    second = _beats("s2l-r4", "s2l", "s2l-r1") + _beats(FULL, "s2l-r4")
    claims.append(sentence("Sec. 3.3", text, "dsb-bf", second))
    text = "R1x1 outperformed R4x4"
    claims.append(sentence("Sec. 3.3", text, "dsb-fluo", _beats("s2l-r1", "s2l-r4")))
    text = "R1x1 is similar to R1x1 + R4x4"
    claims.append(sentence("Sec. 3.3", text, "dsb-fluo", _beats("s2l-r1", FULL, sign=ALIKE)))
    text = "R4x4 performed best of the scribble methods (in mDice)"
    best = _beats("s2l-r4", "s2l", "s2l-r1", FULL, scores=("mdice_official",))
    claims.append(sentence("Sec. 3.3", text, "monuseg", best))

    for method in SINGLE:
        text = f"{METHODS[method].label} improves S2L (a single scale can also boost the results)"
        claims.append(sentence("Sec. 4", text, "monuseg", _beats(method, "s2l")))
    text = "regularization avoids overfitting: less IoU is lost towards the last weights"
    for name in REAL:
        parts = _beats(FULL, "s2l", scores=("lost",), sign=LESS)
        claims.append(sentence("Sec. 4", text, name, parts))

    text = "R1x1 + R4x4 finds cell shapes and boundaries that the other approaches do not"
    parts = _beats(FULL, "s2l", *SINGLE, scores=("aji",))
    claims.append(sentence("Sec. 3.3, Fig. 2", text, "dsb-fluo", parts))
    for dataset, scores, text in (
        ("dsb-bf", ("false_positives", "false_area"), "reports fewer false nuclei than S2L"),
        ("dsb-fluo", ("missed_share",), "detects cells that S2L misses"),
        ("monuseg", ("merged_share",), "separates nearby cells that S2L does not"),
    ):
        for method in (*SINGLE, FULL):
            parts = _beats(method, "s2l", scores=scores, sign=LESS)
            words = f"{METHODS[method].label} {text}"
            claims.append(sentence("Sec. 3.3, Fig. 2", words, dataset, parts))
    return claims


def table1_differences() -> list[Claim]:
    """Every difference between two methods in Table 1, with the paper's sign."""
    claims, words = [], {GREATER: "is above", LESS: "is below", ALIKE: "equals"}
    pairs = itertools.combinations(TABLE1_METHODS, 2)
    for dataset, (other, method), score in itertools.product(REAL, pairs, TABLE1_SCORES):
        gap = paper_value(method, dataset, score) - paper_value(other, dataset, score)
        sign = ALIKE
        if abs(gap) >= NONE_IN_PAPER:
            sign = GREATER if gap > 0 else LESS
        text = (
            f"{METHODS[method].label} {words[sign]} {METHODS[other].label} in {SCORE_TITLES[score]}"
        )
        parts = ((method, sign, other, score),)
        claims.append(Claim(DIFFERENCE, "Table 1", text, dataset, parts))
    return claims
