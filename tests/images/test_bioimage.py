"""`s2l export --bioimageio`: the graph answers as ours does, and the package says what it has to."""

import hashlib
import io
import warnings
import zipfile

import numpy as np
import pytest
import tiny
import torch
import yaml
from PIL import Image

from s2l_core.config import RunConfig
from s2l_core.images import intensity_range
from s2l_core.inference import predict
from s2l_core.model import ScribbleUNet
from s2l_images.commands import COMMANDS
from s2l_images.commands.command_line import main
from s2l_images.exporting import bioimage, bioimage_texts
from s2l_images.exporting.bioimage_example import Example
from s2l_images.learning.kept_models import keep_model, load_model, model_in_use

SHAPES = [(150, 203), (20, 45), (192, 224)]  # two that are padded, one of them by more than it has


def s2l(*words):
    """The commands about one's own images; the exit code."""
    return main("s2l", "Title.", {"Your own images:": COMMANDS}, [str(word) for word in words])


def picture(shape=(150, 203), *, colour=False):
    """Noise (H, W, 3) that covers a part of the range; grey, unless it is to have colours."""
    rng = np.random.default_rng(0)
    image = rng.integers(30, 140, (*shape, 3)).astype(np.uint8)
    return image if colour else np.repeat(image[..., :1], 3, axis=2)


def with_model(folder, intensity="stretch", *, colour=False, bias=0.0):
    """A folder of one's own with one image, and a model that is in use."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(colour=colour)).save(folder / "images" / "a.png")
    model = ScribbleUNet(tiny.ENCODER, intensity=intensity)
    model.unet.segmentation_head[0].bias.data.fill_(bias)
    config = tiny.config("s2l", intensity=intensity)
    keep_model(folder, model.state_dict(), config, score=0.9, steps=8)
    return folder


def parts(package):
    """The files of a package."""
    with zipfile.ZipFile(package) as files:
        return {name: files.read(name) for name in files.namelist()}


def graph_of(files):
    """The graph of a package, as a program reads it that has none of our code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(io.BytesIO(files["weights.pt"]))


def prepared(image, intensity, channels):
    """What the description asks for: (1, channels, H, W) float32."""
    values = torch.from_numpy(image.transpose(2, 0, 1)[None, :channels].astype(np.float32))
    if intensity == "imagenet":
        return values
    low, high = intensity_range(image, intensity)
    return (values - low) / (high - low)


@pytest.mark.parametrize("intensity", ["imagenet", "stretch"])
@pytest.mark.parametrize("colour", [False, True])
def test_the_exported_graph_answers_as_ours(tmp_path, intensity, colour):
    folder = with_model(tmp_path / "own", intensity, colour=colour)
    bioimage.pack(folder, tmp_path / "model.zip")
    graph = graph_of(parts(tmp_path / "model.zip"))
    model, _ = load_model(model_in_use(folder))

    for shape in SHAPES:
        image = picture(shape, colour=colour)
        with torch.inference_mode():
            found = graph(prepared(image, intensity, 3 if colour else 1)).numpy()
        assert found.shape == (1, 1, *shape)
        np.testing.assert_allclose(found[0, 0], predict(model, image), atol=1e-5)
    assert np.ptp(found) > 0.01


def test_a_package_says_what_a_program_and_a_person_need(tmp_path, capsys):
    folder, target = with_model(tmp_path / "my cells, 2"), tmp_path / "new" / "model.zip"
    words = ["--licence", "CC-BY-4.0", "--author", "A. Name"]
    assert s2l("export", folder, "--bioimageio", target, *words) == 0
    assert "licence CC-BY-4.0, with a piece of the image 'a'" in capsys.readouterr().out

    files = parts(target)
    about = yaml.safe_load(files["rdf.yaml"])
    assert (about["name"], about["license"]) == ("Nuclei of my cells_ 2", "CC-BY-4.0")
    assert about["authors"] == [{"name": "A. Name"}]
    assert about["cite"][0]["doi"].endswith("2306.14136")
    weights, given = about["weights"]["torchscript"], about["inputs"][0]
    for file in (weights, given["test_tensor"], about["outputs"][0]["test_tensor"]):
        assert file["sha256"] == hashlib.sha256(files[file["source"]]).hexdigest()
    assert {about["documentation"], *about["covers"]} <= set(files)

    # The example is a piece of the image, and its answer that of the graph.
    example, answer = (np.load(io.BytesIO(files[f"test_{way}put.npy"])) for way in ("in", "out"))
    assert example.shape == (1, 1, 192, 203) == answer.shape  # one side was too short
    image = np.repeat(example[0].transpose(1, 2, 0), 3, axis=2).astype(np.uint8)
    with torch.inference_mode():
        found = graph_of(files)(prepared(image, "stretch", 1)).numpy()
    np.testing.assert_allclose(found, answer, atol=1e-5)

    # Nothing in it names this machine.
    with zipfile.ZipFile(io.BytesIO(files["weights.pt"])) as inner:
        held = b"".join(inner.read(name) for name in inner.namelist())
    assert b"site-packages" not in held and str(tmp_path).encode() not in held + files["rdf.yaml"]


def test_percentiles_are_asked_for_where_they_are_used(tmp_path):
    for intensity, steps in (("stretch", ["scale_range", "clip"]), ("imagenet", [])):
        folder = with_model(tmp_path / intensity, intensity)
        bioimage.pack(folder, tmp_path / f"{intensity}.zip")
        files = parts(tmp_path / f"{intensity}.zip")
        given = yaml.safe_load(files["rdf.yaml"])["inputs"][0]
        assert [step["id"] for step in given["preprocessing"]] == steps
        assert (b"0.5 and 99.5 percentiles" in files["README.md"]) == bool(steps)


@pytest.mark.parametrize(
    ("dataset", "encoder", "licence"),
    [
        ("dsb-fluo", "resnet18", "MIT"),
        ("dsb-fluo", "efficientnet-lite0", "Apache-2.0"),
        ("monuseg", "efficientnet-lite0", "CC-BY-NC-SA-4.0"),
    ],
)
def test_the_licence_follows_from_what_the_weights_derive_from(dataset, encoder, licence):
    config = RunConfig(dataset, "s2l", profile="scratch", encoder=encoder)
    assert bioimage_texts.usual_licence(config) == licence
    example = Example(np.zeros((1, 3, 192, 192)), np.zeros((1, 1, 192, 192)), "a")
    text = bioimage_texts.readme("Nuclei", config, example)
    assert ("Apache License" in text) == (encoder == "efficientnet-lite0")


def test_a_package_that_is_there_is_replaced_with_force_only(tmp_path, capsys):
    folder, target = with_model(tmp_path / "own"), tmp_path / "model.zip"
    target.write_bytes(b"precious")
    assert s2l("export", folder, "--bioimageio", target) == 1
    assert "exists already. Name another file, or replace it: --force." in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert s2l("export", folder, "--bioimageio", target, "--force") == 0
    assert zipfile.is_zipfile(target)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--bioimageio", "model.pt"], 1, "a BioImage.IO package is a .zip"),
        (["--bioimageio", "m.zip", "--model", "no.safetensors"], 1, "there is no model. Train one"),
        (["--bioimageio", "m.zip", "--licence", "my own"], 1, "expected an SPDX name"),
        (["--bioimageio", "m.zip", "--author", "A/B"], 1, "no slash in a name"),
        (["--to", "out", "--licence", "MIT"], 2, "--licence is for --bioimageio FILE"),
    ],
)
def test_what_cannot_be_packed_is_a_sentence(tmp_path, monkeypatch, capsys, words, code, said):
    with_model(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert s2l("export", "own", *words) == code
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_model_that_finds_nothing_makes_no_package(tmp_path, capsys):
    folder, target = with_model(tmp_path / "own", bias=-30.0), tmp_path / "new" / "model.zip"
    assert s2l("export", folder, "--bioimageio", target) == 1
    assert "finds nothing in the middle of its first 1 images" in capsys.readouterr().err
    assert not target.parent.exists()


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("intensity", ["imagenet", "stretch"])
def test_bioimageio_core_accepts_it_and_answers_as_we_do(tmp_path, capsys, intensity, colour):
    """Its own test runs while a package is written; here its prediction is compared, too."""
    core = pytest.importorskip(
        "bioimageio.core",
        reason="bioimageio.core is not installed: its own test of a package did not run "
        "(pip install 's2l-core[bioimageio]' in an environment of its own)",
    )
    from bioimageio.core.digest_spec import create_sample_for_model

    folder, target = with_model(tmp_path / "own", intensity, colour=colour), tmp_path / "m.zip"
    assert s2l("export", folder, "--bioimageio", target) == 0
    said = capsys.readouterr().out
    assert "has tested it: passed" in said and "passed: Reproduce test outputs" in said

    image = picture((201, 230), colour=colour)
    described = core.load_description(target)
    values = image.transpose(2, 0, 1)[None, : 3 if colour else 1].astype(np.float32)
    sample = create_sample_for_model(described, inputs={"image": values})
    with core.create_prediction_pipeline(described, devices=["cpu"]) as pipeline:
        answer = pipeline.predict_sample_without_blocking(
            sample, skip_input_padding=True, skip_output_cropping=True
        )
    found = answer.members["probability"].data.to_numpy()[0, 0]
    model, _ = load_model(model_in_use(folder))
    np.testing.assert_allclose(found, predict(model, image), atol=1e-4)
