"""Where to draw next: the places where a prediction is least sure, off what is drawn already."""

import numpy as np

from s2l_core.config import IGNORE
from s2l_images.nuclei.proposals import spread, uncertainty, where_to_draw


def blob(shape, row, column, width):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return 0.5 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))


def test_where_to_draw_finds_the_unsure_places_in_their_order():
    probability = np.maximum(blob((200, 200), 50, 60, 12), 0.8 * blob((200, 200), 140, 150, 12))
    places = where_to_draw(probability, radius=10)
    assert [(abs(row - r) <= 1, abs(column - c) <= 1) for (row, column, _), (r, c) in
            zip(places[:2], [(50, 60), (140, 150)], strict=True)] == [(True, True)] * 2  # fmt: skip
    assert all(radius == 10 for *_, radius in places)
    assert where_to_draw(probability, radius=10, count=1) == places[:1]
    apart = np.hypot(*np.subtract(places[0][:2], places[1][:2]))
    assert apart > 20


def test_where_to_draw_keeps_off_what_is_drawn():
    probability = np.maximum(blob((200, 200), 50, 60, 12), 0.8 * blob((200, 200), 140, 150, 12))
    scribbles = np.full((200, 200), IGNORE, np.uint8)
    assert where_to_draw(probability, scribbles, radius=10) == where_to_draw(probability, radius=10)
    scribbles[45:56, 40:81] = 1
    first = where_to_draw(probability, scribbles, radius=10)[0]
    assert np.hypot(first[0] - 140, first[1] - 150) <= 2
    for row, column, radius in where_to_draw(probability, scribbles, radius=10, count=20):
        rows, columns = np.ogrid[:200, :200]
        assert (
            scribbles[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2 - 1] == IGNORE
        ).all()


def test_places_to_draw_lie_whole_in_the_image():
    """Networks are least sure along the border, where half a circle would show nothing."""
    probability = np.zeros((120, 90))
    probability[:2] = probability[:, :2] = probability[-2:] = probability[:, -2:] = 0.5
    places = where_to_draw(probability, radius=10, count=9, least=0)
    assert len(places) == 9 and all(
        10 <= row < 110 and 10 <= column < 80 for row, column, _ in places
    )
    assert where_to_draw(np.full((8, 30), 0.5), radius=16)[0][0] in (3, 4), (
        "a circle larger than the image"
    )


def test_nowhere_to_draw_where_all_is_sure():
    assert where_to_draw(np.zeros((64, 64))) == [] and where_to_draw(np.ones((64, 64))) == []
    assert where_to_draw(np.full((64, 64), 0.5), np.zeros((64, 64), np.uint8)) == []


def test_uncertainty_is_largest_at_one_half():
    assert uncertainty(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == [0, 0.5, 1, 0.5, 0]


def test_places_are_spread_over_images_before_one_has_many():
    places = {
        "a": [(1, 1, 9.0), (2, 2, 9.0), (3, 3, 9.0)],
        "b": [],
        "c": [(4, 4, 9.0), (5, 5, 9.0)],
    }
    kept = spread(places, 4)
    assert kept == {"a": places["a"][:2], "b": [], "c": places["c"]}
    assert spread(places, 99) == places and spread({}, 3) == {}


def discs(centres, radius, shape=(200, 200)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for row, column in centres:
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return mask


def test_nuclei_that_touch_are_worth_a_stroke_where_they_meet():
    """Both are sure to be foreground; whether they are one, only a person can tell."""
    sure = discs([(60, 80), (60, 112), (140, 60)], 18).astype(np.float32)
    assert where_to_draw(sure) == []
    ((row, column, _),) = where_to_draw(sure, diameter=36)
    assert abs(row - 60) <= 3 and abs(column - 96) <= 3


def test_answers_that_disagree_are_worth_a_stroke():
    forest = discs([(60, 60), (140, 140)], 12).astype(np.float32)
    network = discs([(60, 60)], 12).astype(np.float32)
    ((row, column, _),) = where_to_draw(forest, other=network)
    assert np.hypot(row - 140, column - 140) <= 3
    assert where_to_draw(forest, other=forest) == []


def test_no_stroke_is_asked_for_over_empty_background():
    """Both corners are equally unsure; over one of them there is nothing to see."""
    nucleus, look_alike = discs([(100, 100)], 14), discs([(45, 45)], 14)
    image = np.where(nucleus | look_alike, 180, 20).astype(np.uint8)
    image = np.repeat(image[..., None], 3, axis=2)  # (200, 200, 3)
    unsure = discs([(45, 45), (155, 155)], 14)
    probability = np.where(nucleus, 1.0, np.where(unsure, 0.5, 0.0))

    everywhere = where_to_draw(probability)
    assert {(row > 100, column > 100) for row, column, _ in everywhere} == {
        (False, False),
        (True, True),
    }
    places = where_to_draw(probability, image=image)
    assert places and all(row < 100 and column < 100 for row, column, _ in places)
