"""A folder is predicted: every image once, though the process is killed or an image is bad."""

import json
import signal

import pytest
import torch
from torture import load

from s2l_core.config import RunConfig, S2LError
from s2l_images.learning.kept_models import load_model
from s2l_images.nuclei import prediction
from s2l_images.nuclei.journal import open_journal, predictions


def test_a_folder_is_predicted_once_though_it_is_killed(tmp_path):
    """The same as `make torture` does with many more images: SIGKILL in the middle,
    and the very same files.
    """
    folder, calm, cut = tmp_path / "folder", tmp_path / "calm", tmp_path / "cut"
    load.make(folder, 20)
    assert load.predicted(folder, calm, 10, []) == [0]
    assert load.predicted(folder, cut, 10, [7]) == [-signal.SIGKILL, 0]
    assert load.once(calm, 20) and load.once(cut, 20) and load.left(calm) == load.left(cut)
    assert len({*load.left(calm).values()}) > 20, "the images look alike"


@pytest.fixture
def small(tmp_path):
    return tmp_path / "folder", load.make(tmp_path / "folder", 5)


def test_what_was_predicted_is_not_predicted_again(small, monkeypatch):
    folder, file = small
    seen, look = [], prediction.read_image
    monkeypatch.setattr(
        prediction, "read_image", lambda path, *more: seen.append(path.stem) or look(path, *more)
    )
    target = prediction.predict_folder(file, folder)
    prediction.predict_folder(file, folder)
    assert seen == [f"{k:05d}" for k in range(5)]
    (target / "00001.csv").unlink()
    (folder / "images" / "00003.png").write_bytes((folder / "images" / "00004.png").read_bytes())
    prediction.predict_folder(file, folder)
    assert seen[5:] == ["00001", "00003"], "what is missing, or has changed"
    prediction.predict_folder(file, folder, min_size=32)
    assert len(seen) == 12


def test_a_line_cut_short_counts_as_none_and_nonsense_is_named(small):
    folder, file = small
    journal = prediction.predict_folder(file, folder) / "predicted.jsonl"
    whole = journal.read_text()
    journal.write_text(whole[:-7])
    prediction.predict_folder(file, folder)
    assert json.loads(journal.read_text().splitlines()[-1]) == json.loads(whole.splitlines()[-1])
    assert len(predictions(journal.parent)) == 5
    journal.write_text("3\n")
    with pytest.raises(S2LError, match="predicted.jsonl: "):
        prediction.predict_folder(file, folder)


def test_one_bad_image_does_not_stop_the_others_and_two_processes_do_not_meet(small):
    folder, file = small
    (folder / "images" / "00002.png").write_bytes(b"")
    with pytest.raises(S2LError, match="1 of 5 images .*00002.png: "):
        prediction.predict_folder(file, folder, folder / "out")
    assert len(list((folder / "out").glob("*.csv"))) == 4
    with (
        open_journal(folder / "out" / "predicted.jsonl"),
        pytest.raises(S2LError, match="predicted.jsonl: "),
    ):
        prediction.predict_folder(file, folder, folder / "out")


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
    with pytest.raises(S2LError, match="encoder = "):
        load_model(file)
