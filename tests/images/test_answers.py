"""Which answer is exported: strokes that are held out, what they say, and what is absurd."""

import math

import numpy as np
import pytest

from s2l_core.config import IGNORE, S2LError
from s2l_images.learning.answers import (
    absurd,
    agreement,
    best_threshold,
    choose,
    hold_out,
    one_stroke,
)

SHAPE = (64, 96)


def scribbled(foreground, background, shape=SHAPE):
    """Label map (H, W) with so many short strokes of each class, which do not touch."""
    labels = np.full(shape, IGNORE, np.uint8)
    for number in range(foreground):
        row, left = 2 + 4 * (number // 8), 3 + 12 * (number % 8)
        labels[row, left : left + 6] = 1
    for number in range(background):
        row, left = 40 + 4 * (number // 8), 3 + 12 * (number % 8)
        labels[row, left : left + 6] = 0
    return labels


def strokes(maps, label):
    """Number of strokes: each is 6 pixels long."""
    return sum(int((labels == label).sum()) for labels in maps.values()) // 6


@pytest.mark.parametrize(
    ("drawn", "held"), [(0, 0), (1, 0), (2, 1), (3, 1), (5, 1), (10, 2), (24, 5)]
)
def test_a_fifth_is_held_out_and_at_least_one_stays(drawn, held):
    parts = hold_out({"a": scribbled(drawn, 10)})
    assert strokes(parts.held, 1) == held and strokes(parts.kept, 1) == drawn - held
    assert strokes(parts.held, 0) == 2, "classes do not share their fifth"


def test_strokes_are_held_out_whole_and_are_in_one_part_only():
    scribbles = {"a": scribbled(12, 9), "b": scribbled(3, 5), "undrawn": scribbled(0, 0)}
    parts = hold_out(scribbles)
    assert list(parts.kept) == ["a", "b", "undrawn"] and "undrawn" not in parts.held
    for name, labels in scribbles.items():
        held = parts.held.get(name, np.full(SHAPE, IGNORE))
        assert not ((held != IGNORE) & (parts.kept[name] != IGNORE)).any()
        assert np.array_equal(np.where(held == IGNORE, parts.kept[name], held), labels)
        for row in range(0, SHAPE[0]):
            assert (held[row] != IGNORE).sum() % 6 == 0, "no stroke is cut in two"


def test_the_same_strokes_are_held_out_each_time_whatever_the_order_of_images():
    scribbles = {"a": scribbled(12, 9), "b": scribbled(8, 5)}
    first, again = hold_out(scribbles), hold_out(dict(reversed(scribbles.items())))
    for name in scribbles:
        assert np.array_equal(first.kept[name], again.kept[name])
    untouched = scribbled(12, 9)
    assert np.array_equal(scribbles["a"], untouched), "what was handed in stays as it was"


def test_nothing_drawn_holds_nothing_out_and_an_impossible_share_is_refused():
    assert hold_out({}).held == {}
    assert hold_out({"a": scribbled(10, 10)}, share=0).held == {}
    with pytest.raises(S2LError, match="share = 1"):
        hold_out({}, share=1)


def test_agreement_counts_both_classes_alike():
    held = {"a": scribbled(1, 4)}
    nothing, all_of_it = np.zeros(SHAPE), np.ones(SHAPE)
    assert agreement({"a": nothing}, held) == agreement({"a": all_of_it}, held) == 0.5
    right = (held["a"] == 1).astype(np.float32)
    assert agreement({"a": right}, held) == 1 and agreement({"a": 1 - right}, held) == 0

    # Three of four background strokes right, and the one of the foreground: (3/4 + 1) / 2.
    right[40, :12] = 1
    assert agreement({"a": right}, held) == pytest.approx(0.875)


def test_agreement_of_one_class_or_none_and_of_several_images():
    assert agreement({"a": np.zeros(SHAPE)}, {"a": scribbled(0, 2)}) == 1
    assert math.isnan(agreement({}, {})) and math.isnan(agreement({"a": np.zeros(SHAPE)}, {}))
    held = {"a": scribbled(1, 0), "b": scribbled(3, 0)}
    assert agreement({"a": np.ones(SHAPE), "b": np.zeros(SHAPE)}, held) == 0.25


def test_agreement_depends_on_the_threshold_strictly():
    held, half = {"a": scribbled(2, 0)}, {"a": np.full(SHAPE, 0.5)}
    assert agreement(half, held) == 0 and agreement(half, held, threshold=0.49) == 1


@pytest.mark.parametrize(
    ("probability", "found"), [({}, "missing"), ({"a": np.zeros((3, 4))}, r"\(3, 4\)")]
)
def test_a_probability_that_lacks_is_named(probability, found):
    with pytest.raises(S2LError, match=rf" a .*{found}.*\(64, 96\)"):
        agreement(probability, {"a": scribbled(1, 1)})


@pytest.mark.parametrize(
    ("foreground", "background", "expected"),
    [(0.4, 0.1, 0.35), (0.9, 0.7, 0.7), (0.9, 0.1, 0.5), (0.1, 0.9, 0.5)],
)
def test_the_best_threshold_parts_the_classes_and_is_near_one_half(
    foreground, background, expected
):
    held = {"a": scribbled(3, 3)}
    probability = np.where(held["a"] == 1, foreground, background)
    assert best_threshold({"a": probability}, held) == pytest.approx(expected)


def test_without_held_out_strokes_the_threshold_is_one_half():
    assert best_threshold({}, {}) == 0.5


def disc(radius, shape=SHAPE):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - 32) ** 2 + (columns - 48) ** 2 <= radius**2).astype(np.float32)


def test_an_object_over_a_fifth_of_the_image_is_absurd_in_every_form():
    large, small = disc(21), disc(19)  # .224 and .184 of the image
    for answer in (large, large > 0, (large > 0).astype(np.int32), (3 * large).astype(np.uint8)):
        assert "One object covers 22% of the image, and 20% is the most" in absurd(answer)
    assert absurd(small) is None and absurd(large, largest=0.3) is None
    apart = (np.indices(SHAPE).sum(0) % 4 < 1) * np.arange(1, SHAPE[1] + 1)
    assert absurd(apart.astype(np.int32)) is None, "many small ones may cover it together"


def test_the_threshold_says_what_belongs_to_an_object():
    assert absurd(0.4 * disc(21)) is None
    assert absurd(0.4 * disc(21), threshold=0.3) is not None


def test_answers_against_most_strokes_are_absurd():
    labels = scribbled(4, 4)
    right = (labels == 1).astype(np.float32)
    assert absurd(right, labels) is None
    wrong = right + (labels == 0)
    assert absurd(wrong, labels) == "100% of what was drawn as background is taken for nuclei."
    nothing = np.zeros(SHAPE)
    assert absurd(nothing, labels) == "Nothing is found on 100% of what was drawn as foreground."
    assert absurd(nothing, scribbled(0, 4)) is None and absurd(nothing) is None

    half = right.copy()
    half[2, :24] = 0  # two of four strokes are missed: not most of them
    assert absurd(half, labels) is None


HELD = {"a": scribbled(2, 2)}
RIGHT = {"a": (HELD["a"] == 1).astype(np.float32)}
BLIND = {"a": np.zeros(SHAPE, np.float32)}


@pytest.mark.parametrize(
    ("forest", "network", "answer", "chosen"),
    [
        (RIGHT, BLIND, "auto", "forest"),
        (BLIND, RIGHT, "auto", "network"),
        (RIGHT, RIGHT, "auto", "forest"),
        (RIGHT, None, "auto", "forest"),
        (RIGHT, BLIND, "network", "network"),
        (BLIND, RIGHT, "forest", "forest"),
    ],
)
def test_the_better_answer_goes_out_unless_the_user_overrules(forest, network, answer, chosen):
    choice = choose(forest, network, HELD, answer)
    assert choice.answer == chosen
    assert choice.forest == agreement(forest, HELD)
    if network is not None:
        assert choice.network == agreement(network, HELD)
        assert f"{choice.network:.1%}" in str(choice)
    assert f"forest {choice.forest:.1%}" in str(choice)


@pytest.mark.parametrize(("missed", "chosen"), [(1, "forest"), (2, "network")])
def test_less_than_one_stroke_does_not_speak_for_the_network(missed, chosen):
    held = {"a": scribbled(8, 12)}
    right = {"a": (held["a"] == 1).astype(np.float32)}
    forest = {"a": right["a"].copy()}
    forest["a"][2, : 12 * missed] = 0  # so many of the eight
    assert one_stroke(held) == 1 / 16, "of the class with fewer strokes"
    choice = choose(forest, right, held)
    assert choice.answer == chosen and choice.network - choice.forest == missed / 16
    assert ("no more than one stroke (6.2%)" in choice.reason) == (chosen == "forest")


def test_who_is_unsure_of_held_out_strokes_and_tells_them_apart_is_not_worse():
    unsure = {"a": 0.3 * RIGHT["a"] + 0.1}
    choice = choose(unsure, RIGHT, HELD)
    assert choice.answer == "forest" and choice.forest == 1 > agreement(unsure, HELD)


def test_what_one_stroke_weighs():
    assert one_stroke({}) == 0
    assert one_stroke({"a": scribbled(4, 0)}) == 1 / 4
    assert one_stroke({"a": scribbled(4, 2), "b": scribbled(0, 3)}) == 1 / 8


def test_the_threshold_is_the_chosen_one_s():
    faint = {"a": 0.3 * RIGHT["a"]}
    assert choose(RIGHT, faint, HELD).threshold == 0.5
    assert choose(RIGHT, faint, HELD, "network").threshold == pytest.approx(0.25)
    assert choose(faint, RIGHT, HELD, "forest").threshold == 0.5, "the one judged is less sure"


def test_without_held_out_strokes_the_forest_goes_out_and_it_is_said():
    choice = choose(RIGHT, BLIND, {})
    assert choice.answer == "forest" and "no stroke could be held out" in str(choice)


def test_impossible_wishes_are_refused():
    with pytest.raises(S2LError, match="answer = 'netwrok'.*'network'"):
        choose(RIGHT, BLIND, HELD, "netwrok")
    with pytest.raises(S2LError, match="answer = 'network': "):
        choose(RIGHT, None, HELD, "network")
