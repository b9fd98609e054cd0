"""The supplementary page shows the images that the scores name,
and nothing that was chosen by hand.
"""

import numpy as np
import pytest

from s2l_core.config import RunConfig, S2LError
from s2l_core.metrics import score
from s2l_paper import paths, plotting, results, supplement
from s2l_paper.datasets import images_of, split_of

PROFILE, DATA = "smoke", "synthetic-fluo"


@pytest.fixture(scope="module")
def cells():
    config = RunConfig(DATA, "s2l", profile=PROFILE)
    return images_of(config, split_of(config).test)


@pytest.fixture
def runs(tmp_path, monkeypatch, cells):
    """Two methods whose predictions are right but for a growing share of rows;
    returns method -> worst image's id.
    """
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    worst = {}
    for method, order in {"s2l": cells, "supervised": cells[::-1]}.items():
        config, rows, maps = RunConfig(DATA, method, profile=PROFILE), [], {}
        for place, cell in enumerate(order):
            probability = (cell.instances > 0).astype(float)
            probability[: place * len(probability) // len(order)] = 0
            maps[cell.id] = probability
            keys = {
                "run_id": results.run_id(config),
                "dataset": DATA,
                "method": method,
                "fold": 0,
                "seed": 0,
            }
            keys |= {"annotator": 0, "budget": 0.3, "checkpoint": "best", "image": cell.id}
            rows.append(keys | score(cell.instances, probability))
        kept = set(results.extremes({row["image"]: row["iou"] for row in rows}).values())
        results.write_run(config, rows, [], {name: maps[name] for name in kept}, seconds=1)
        worst[method] = order[-1].id
    return worst


def test_best_median_and_worst_are_told_by_score_then_id():
    assert results.extremes({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.5}) == {
        "best": "b",
        "median": "d",
        "worst": "c",
    }
    assert results.extremes({"a": 0.5}) == dict.fromkeys(("best", "median", "worst"), "a")
    assert results.extremes({}) == {}


def test_a_row_for_each_method_with_its_own_images(runs, cells):
    figure = supplement.extreme_images(PROFILE, DATA)
    assert len(figure.axes) == 6 * len(runs)
    for row, (method, worst) in enumerate(runs.items()):
        assert figure.axes[6 * row].texts[0].get_text() == drawing_label(method)
        assert figure.axes[6 * row + 4].get_title() == f"worst: {worst[:10]}"
        cell = next(cell for cell in cells if cell.id == worst)
        run = RunConfig(DATA, method, profile=PROFILE)
        iou = (
            results.read_run(paths.run_folder(PROFILE, results.run_id(run)))[0]
            .set_index("image")
            .iou[worst]
        )
        assert f"IoU {iou:.2f}" in figure.axes[6 * row + 5].get_title()
        shown = figure.axes[6 * row + 4].images[0].get_array()
        np.testing.assert_array_equal(shown, plotting.display(cell.image))
    assert len(figure.scores) >= len(runs)


def drawing_label(method):
    return {"s2l": "S2L", "supervised": "Supervised"}[method]


def test_a_picture_that_was_not_kept_is_named(runs):
    folder = (
        paths.run_folder(PROFILE, results.run_id(RunConfig(DATA, "s2l", profile=PROFILE)))
        / "probability"
    )
    (folder / f"{runs['s2l']}.png").unlink()
    with pytest.raises(S2LError, match=rf"{runs['s2l']}\.png: "):
        supplement.extreme_images(PROFILE, DATA)


def test_without_runs_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    with pytest.raises(S2LError, match=f"make reproduce PROFILE={PROFILE} DATASETS={DATA}"):
        supplement.extreme_images(PROFILE, DATA)
