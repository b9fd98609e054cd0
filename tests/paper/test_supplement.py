"""The supplementary page shows one input beside all methods: the images that the scores name,
around the worst error, and nothing that was chosen by hand.
"""

import numpy as np
import pytest

from s2l_core.config import RunConfig, S2LError
from s2l_core.metrics import score
from s2l_paper import paths
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import plotting, supplement
from s2l_paper.running import results

PROFILE, DATA = "smoke", "synthetic-fluo"


@pytest.fixture(scope="module")
def cells():
    config = RunConfig(DATA, "s2l", profile=PROFILE)
    return images_of(config, split_of(config).test)


@pytest.fixture
def runs(tmp_path, monkeypatch, cells):
    """Two methods whose predictions are right but for a growing share of rows; their names."""
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
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
        kept = set(supplement.extremes({row["image"]: row["iou"] for row in rows}).values())
        results.write_run(config, rows, [], {name: maps[name] for name in kept}, seconds=1)
    return ("s2l", "supervised")


def test_best_median_and_worst_are_told_by_score_then_id():
    assert supplement.extremes({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.5}) == {
        "best": "b",
        "median": "d",
        "worst": "c",
    }
    assert supplement.extremes({"a": 0.5}) == dict.fromkeys(("best", "median", "worst"), "a")
    assert supplement.extremes({}) == {}


def test_one_input_stands_beside_all_methods(runs, cells):
    figure = supplement.worst_errors(PROFILE, DATA)
    mean = supplement._mean_iou(supplement._finished(PROFILE, DATA))
    kept = set.intersection(*map(kept_by, runs))
    chosen = supplement.extremes(dict(mean[list(kept)]))
    images = dict.fromkeys(chosen.values())

    # Each image once, with its name and rank, then every method with the image's own scores.
    headings = [text.get_text() for text in figure.texts if " of those kept" in text.get_text()]
    panels = 3 + len(runs)
    assert len(figure.axes) == panels * len(images) and len(headings) == len(images)
    for block, image in enumerate(images):
        rank = sorted(mean, reverse=True).index(mean[image]) + 1
        assert f": {image[:23]}, " in headings[block]
        assert headings[block].endswith(f"rank {rank} of {len(cells)} test images")
        whole, *_, s2l, supervised = figure.axes[panels * block : panels * (block + 1)]
        cell = next(cell for cell in cells if cell.id == image)
        np.testing.assert_array_equal(whole.images[0].get_array(), plotting.display(cell.image))
        assert (s2l.get_title(), supervised.get_title()) == ("S2L", "Supervised")
        iou = results.read_run(folder_of("s2l"))[0].set_index("image").iou[image]
        assert f"IoU {iou:.2f}" in s2l.texts[0].get_text()
        assert "window: IoU" in s2l.texts[0].get_text()
    assert len(figure.scores) == len(runs) * len(images)
    assert "hence not shown: S2L + R1x1," in figure.texts[-1].get_text()


def folder_of(method):
    return paths.run_folder(PROFILE, results.run_id(RunConfig(DATA, method, profile=PROFILE)))


def kept_by(method):
    return {file.stem for file in folder_of(method).glob("masks/*.png")}


def test_the_window_lies_around_the_worst_error():
    truth, wrong = np.zeros((300, 300), int), np.zeros((300, 300), bool)
    truth[250:260, 250:260] = 1
    wrong[20:60, 200:240] = 1  # a false object far from the nucleus, which is missed
    rows, columns = supplement._worst_window(truth, [wrong, wrong])
    assert rows.start <= 20 and rows.stop >= 60
    assert columns.start <= 200 and columns.stop >= 240
    assert rows.stop - rows.start == supplement.SIDE


def test_a_window_holds_nuclei_where_an_image_has_enough_of_them():
    truth, wrong = np.zeros((400, 400), int), np.zeros((400, 400), bool)
    for label in range(supplement.NUCLEI):
        truth[300:310, 220 + 20 * label : 230 + 20 * label] = label + 1
    wrong[:150, :150] = 1
    rows, columns = supplement._worst_window(truth, [wrong])
    assert len(np.unique(truth[rows, columns])) == 1 + supplement.NUCLEI


def test_a_prediction_that_one_run_did_not_keep_is_said_to_be_missing(runs, cells):
    """Three runs, of which the third kept nothing: two of three are enough to show an image."""
    config = RunConfig(DATA, "otsu", profile=PROFILE)
    rows = results.read_run(folder_of("s2l"))[0].assign(run_id=results.run_id(config))
    rows = rows.assign(method="otsu", checkpoint="last").to_dict("records")
    results.write_run(config, rows, [], {}, seconds=1)
    figure = supplement.worst_errors(PROFILE, DATA)
    otsu = [ax for ax in figure.axes if ax.get_title() == "Otsu"]
    for ax in otsu:
        missing, scores = (text.get_text() for text in ax.texts)
        assert missing == "prediction not kept" and "window" not in scores


def test_runs_that_kept_no_picture_of_the_same_image_are_refused(runs):
    for file in folder_of("s2l").glob("masks/*.png"):
        file.unlink()
    with pytest.raises(S2LError, match=f"{DATA}: "):
        supplement.worst_errors(PROFILE, DATA)


def test_without_runs_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    with pytest.raises(S2LError, match=f"make reproduce PROFILE={PROFILE} DATASETS={DATA}"):
        supplement.worst_errors(PROFILE, DATA)
