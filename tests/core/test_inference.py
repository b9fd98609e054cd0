"""Tiled prediction: every pixel once, whatever the size, and the same as untiled; folders:
every image once.
"""

import json
import signal

import numpy as np
import pytest
import torch
from torture import load

from s2l_core.config import IGNORE, RunConfig, S2LError
from s2l_core.inference import _spans, pick_device, predict, uncertainty
from s2l_core.model import ScribbleUNet
from s2l_images import rounds
from s2l_images.proposals import where_to_draw


@pytest.fixture(scope="module")
def model():
    return ScribbleUNet("resnet18", ())


class Local(torch.nn.Module):
    """A stand-in that sees 9 pixels: tiles with enough overlap must give exactly the untiled
    answer.
    """

    intensity = "imagenet"

    def __init__(self):
        super().__init__()
        self.blur = torch.nn.Conv2d(3, 1, 9, padding=4, bias=False)
        torch.nn.init.constant_(self.blur.weight, 0.01)

    def logits(self, image):
        return self.blur(image)[:, 0]


@pytest.mark.parametrize("length", [1, 31, 64, 65, 200, 1000])
def test_spans_keep_every_pixel_once(length):
    pixels, places = list(range(length)), []
    for tile, kept, kept_of_tile in _spans(length, 64, 8):
        start, stop, first, last = tile.start, tile.stop, kept.start, kept.stop
        assert 0 <= start <= first < last <= stop <= length
        assert start == 0 or first - start >= 8
        assert last == length or stop - last >= 8
        assert pixels[tile][kept_of_tile] == pixels[kept]
        places += pixels[kept]
    assert places == pixels


def test_tiles_agree_with_the_whole():
    image = np.random.default_rng(0).integers(0, 255, (200, 333, 3), np.uint8)
    whole = predict(Local(), image, tile=1024)
    tiled = predict(Local(), image, tile=96, overlap=16)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (1, 1), (7, 200), (130, 70)])
def test_any_size(model, shape):
    image = np.random.default_rng(1).integers(0, 255, (*shape, 3), np.uint8)
    probability = predict(model, image, tile=64, overlap=8)
    assert probability.shape == shape and probability.dtype == np.float32
    assert (probability >= 0).all() and (probability <= 1).all()


def test_training_mode_is_restored_and_nothing_is_learned(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, np.zeros((40, 40, 3), np.uint8))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)]
)
def test_other_arrays_are_refused(model, image):
    with pytest.raises(S2LError, match="expected uint8"):
        predict(model, image)


@pytest.mark.parametrize(("tile", "overlap"), [(100, 8), (64, 32), (64, -1)])
def test_impossible_tiles_are_refused(model, tile, overlap):
    with pytest.raises(S2LError, match="multiple of 32"):
        predict(model, np.zeros((8, 8, 3), np.uint8), tile=tile, overlap=overlap)


@pytest.mark.parametrize(
    ("cuda", "mps", "first"), [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]
)
def test_the_first_device_there_is(cuda, mps, first, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(cuda))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: bool(mps))
    assert [pick_device(name).type for name in (None, "auto", "cpu")] == [first, first, "cpu"]


def test_uncertainty_is_largest_at_one_half():
    assert uncertainty(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == [0, 0.5, 1, 0.5, 0]


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


def test_a_folder_is_predicted_once_though_it_is_killed(tmp_path):
    """The same as `make torture` does with many more images: SIGKILL in the middle,
    and the very same files.
    """
    folder, calm, cut = tmp_path / "folder", tmp_path / "calm", tmp_path / "cut"
    load.make(folder, 60)
    assert load.predicted(folder, calm, 10, []) == [0]
    assert load.predicted(folder, cut, 10, [23]) == [-signal.SIGKILL, 0]
    assert load.once(calm, 60) and load.once(cut, 60) and load.left(calm) == load.left(cut)
    assert len({*load.left(calm).values()}) > 60, "the images look alike"


@pytest.fixture
def small(tmp_path):
    return tmp_path / "folder", load.make(tmp_path / "folder", 5)


def test_what_was_predicted_is_not_predicted_again(small, monkeypatch):
    folder, file = small
    seen, look = [], rounds.read_image
    monkeypatch.setattr(
        rounds, "read_image", lambda path, *more: seen.append(path.stem) or look(path, *more)
    )
    target = rounds.predict_folder(file, folder)
    rounds.predict_folder(file, folder)
    assert seen == [f"{k:05d}" for k in range(5)]
    (target / "00001.csv").unlink()
    (folder / "images" / "00003.png").write_bytes((folder / "images" / "00004.png").read_bytes())
    rounds.predict_folder(file, folder)
    assert seen[5:] == ["00001", "00003"], "what is missing, or has changed"
    rounds.predict_folder(file, folder, min_size=32)
    assert len(seen) == 12


def test_a_line_cut_short_counts_as_none_and_nonsense_is_named(small):
    folder, file = small
    journal = rounds.predict_folder(file, folder) / "predicted.jsonl"
    whole = journal.read_text()
    journal.write_text(whole[:-7])
    rounds.predict_folder(file, folder)
    assert journal.read_text() == whole
    journal.write_text("3\n")
    with pytest.raises(S2LError, match="predicted.jsonl: not what was noted here.*Delete it"):
        rounds.predict_folder(file, folder)


def test_one_bad_image_does_not_stop_the_others_and_two_processes_do_not_meet(small):
    folder, file = small
    (folder / "images" / "00002.png").write_bytes(b"")
    with pytest.raises(S2LError, match="1 of 5 images were left out: .*00002.png: holds 0 bytes"):
        rounds.predict_folder(file, folder, folder / "out")
    assert len(list((folder / "out").glob("*.csv"))) == 4
    with (
        rounds._journal(folder / "out" / "predicted.jsonl"),
        pytest.raises(S2LError, match="another process predicts"),
    ):
        rounds.predict_folder(file, folder, folder / "out")


@pytest.mark.parametrize(
    "encoder", ["tu-hf_hub:somebody/model", "tu-local-dir:/tmp", "../resnet18"]
)
def test_a_model_file_names_no_address(small, encoder):
    from safetensors.torch import save_file

    _, file = small
    config = json.dumps(
        RunConfig("synthetic-fluo", "s2l", profile="smoke").to_dict() | {"encoder": encoder}
    )
    save_file({"a": torch.zeros(1)}, file, {"config": config})
    with pytest.raises(S2LError, match="no model that was saved here .encoder = "):
        rounds.load_model(file)
