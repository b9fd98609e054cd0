"""The wrapped U-Net against a plain one, heads that depend on nothing but their block, encoder weights from files."""

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from s2l_core.config import R1, R4, S2LError, ScaleTerm
from s2l_core.model import DECODER_CHANNELS, ScribbleUNet

ENCODER = "resnet18"
BLOCKS = tuple(ScaleTerm(block, 1.0, 0.1) for block in range(1, 6))


def unet(scales=(), **options):
    return ScribbleUNet(ENCODER, scales, **options)


def images(count=2, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def encoder_state(seed=1):
    """Random weights under torchvision's names, classifier included."""
    state = {
        name: value.clone() for name, value in unet(seed=seed).unet.encoder.state_dict().items()
    }
    return state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("scales", [(), (R1,), (R4,), (R1, R4), (R4, R1), BLOCKS])
@pytest.mark.parametrize("training", [False, True])
def test_shapes_on_every_block(scales, training):
    logits, embeddings = unet(scales).train(training)(images())
    assert logits.shape == (2, 64, 64)
    assert [e.shape for e in embeddings] == [
        (2, 32, 64 // s.factor, 64 // s.factor) for s in scales
    ]


def test_heads_have_the_paper_widths():
    model = unet(BLOCKS)
    widths = {
        b: [m.weight.shape[0] for m in h if isinstance(m, torch.nn.Conv2d)]
        for b, h in model.heads.items()
    }
    assert widths == {"1": [128, 32], "2": [64, 32], "3": [32, 32], "4": [16, 32], "5": [16, 32]}
    assert not any(
        m.bias is not None
        for h in model.heads.values()
        for m in h
        if isinstance(m, torch.nn.Conv2d)
    )


@pytest.mark.parametrize("scales", [(), BLOCKS])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_a_plain_unet(scales, training):
    model = unet(scales)
    plain = smp.Unet(
        ENCODER, encoder_weights=None, classes=1
    )  # its defaults are the paper's decoder
    plain.load_state_dict(model.unet.state_dict())
    model.train(training)
    plain.train(training)
    normalised = (images() - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    expected = plain(normalised).squeeze(1)
    assert torch.equal(model(images())[0], expected)
    if not training:
        assert torch.equal(model.logits(images()), expected)
        assert same(model.unet.state_dict(), plain.state_dict())


def test_embeddings_are_the_heads_on_the_blocks_own_features():
    model, features = unet(BLOCKS).eval(), []
    for block in model.unet.decoder.blocks:
        block.register_forward_hook(lambda module, inputs, output: features.append(output))
    _, embeddings = model(images())
    assert [f.shape[1] for f in features] == list(DECODER_CHANNELS)
    for scale, feature, embedding in zip(BLOCKS, features, embeddings, strict=True):
        assert torch.equal(model.heads[str(scale.block)](feature), embedding)


def test_no_hook_outlives_a_call_even_a_failing_one():
    model = unet((R1,))
    model(images())
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 4, 64, 64))
    assert not any(block._forward_hooks for block in model.unet.decoder.blocks)


def test_heads_in_the_constructor_or_later_are_bit_identical():
    early, late = unet((R1, R4), seed=3), unet(seed=3)
    assert not late.heads and late.eval()(images())[1] == []
    late.add_heads((R1, R4), seed=3)
    assert same(early.state_dict(), late.state_dict()) and early.scales == late.scales


def test_a_head_depends_on_its_block_and_the_seed_only():
    both, alone, other = unet((R1, R4)), unet((R4,)), unet((R4,), seed=1)
    assert same(both.heads["3"].state_dict(), alone.heads["3"].state_dict())
    assert same(both.unet.state_dict(), alone.unet.state_dict())
    assert not torch.equal(alone.heads["3"][0].weight, other.heads["3"][0].weight)
    assert not torch.equal(alone.unet.encoder.conv1.weight, other.unet.encoder.conv1.weight)


def test_scales_on_one_block_share_its_head():
    sharp, soft = ScaleTerm(3, 1.0, 0.1), ScaleTerm(3, 1.0, 0.5)
    model = unet((sharp, R1, soft))
    _, (first, full, last) = model(images())
    assert list(model.heads) == ["3", "5"] and torch.equal(first, last) and full.shape[-1] == 64


def test_building_leaves_global_generators_alone():
    before = torch.get_rng_state()
    unet((R1,)).add_heads((R4,))
    assert torch.equal(before, torch.get_rng_state())


def test_parameter_groups_cover_every_parameter_once():
    model = unet((R1, R4))
    groups = model.parameter_groups()
    assert list(groups) == ["encoder", "decoder", "heads"]
    found = [id(p) for group in groups.values() for p in group]
    assert len(found) == len(set(found)) and set(found) == {id(p) for p in model.parameters()}
    assert {id(p) for p in model.unet.segmentation_head.parameters()} <= {
        id(p) for p in groups["decoder"]
    }
    assert {id(p) for p in model.heads.parameters()} == {id(p) for p in groups["heads"]}


def test_saved_weights_carry_the_normalisation_and_the_model_its_intensity():
    model = unet((R1,), intensity="stretch")
    assert {"mean", "std"} <= model.state_dict().keys() and model.intensity == "stretch"
    assert unet().intensity == "imagenet"


def test_every_head_and_block_learns():
    model = unet((R1, R4))
    logits, embeddings = model(images())
    (logits.square().mean() + sum(e[:, :, 0, 0].square().mean() for e in embeddings)).backward()
    assert all(
        p.grad is not None and p.grad.any() for h in model.heads.values() for p in h.parameters()
    )
    assert model.unet.encoder.conv1.weight.grad.any()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("classifier", [False, True])
def test_encoder_weights_from_a_file(tmp_path, suffix, classifier):
    path, state = tmp_path / f"weights{suffix}", encoder_state()
    if not classifier:
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    model, random = unet(encoder_weights=path), unet()
    loaded = model.unet.encoder.state_dict()
    assert same(loaded, {name: state[name] for name in loaded})
    assert not same(loaded, random.unet.encoder.state_dict())
    assert same(model.unet.decoder.state_dict(), random.unet.decoder.state_dict())


def cut(path, save):
    save(encoder_state(), path)
    path.write_bytes(path.read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("gone.pth", lambda path: None, "no such file"),
        ("cut.pth", lambda path: cut(path, torch.save), "cannot be read"),
        ("cut.safetensors", lambda path: cut(path, save_file), "cannot be read"),
        ("empty.pth", lambda path: path.touch(), "cannot be read"),
        ("text.pth", lambda path: path.write_text("weights"), "cannot be read"),
        ("list.pth", lambda path: torch.save([1.0], path), "holds a list"),
        (
            "code.pth",
            lambda path: torch.save(torch.nn.ReLU(), path),
            "cannot be read",
        ),  # weights_only
        (
            "fewer.pth",
            lambda path: torch.save(dict(list(encoder_state().items())[3:]), path),
            "Missing key.*conv1",
        ),
        (
            "more.pth",
            lambda path: torch.save(encoder_state() | {"x.y": torch.ones(1)}, path),
            "Unexpected key.*x.y",
        ),
        (
            "other.pth",
            lambda path: torch.save(ScribbleUNet("resnet34").unet.encoder.state_dict(), path),
            "Unexpected key",
        ),
        (
            "shape.pth",
            lambda path: torch.save(
                encoder_state() | {"conv1.weight": torch.ones(8, 3, 7, 7)}, path
            ),
            "size mismatch for conv1.weight",
        ),
        (
            "values.pth",
            lambda path: torch.save(encoder_state() | {"conv1.weight": 3}, path),
            "do not fit",
        ),
    ],
)
def test_unfit_encoder_weights_are_named(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(S2LError, match=message) as error:
        unet(encoder_weights=tmp_path / name)
    assert name in str(error.value) and "encoder_weights" in str(error.value)


def test_imagenet_without_a_network_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(S2LError, match=r"local \.safetensors or \.pth file.*machine with network"):
        unet(encoder_weights="imagenet")


def test_imagenet_takes_the_hubs_weights(tmp_path, monkeypatch):
    state = encoder_state()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(
        smp.encoders, "hf_hub_download", lambda repo, filename, revision: tmp_path / filename
    )
    model = unet(encoder_weights="imagenet")
    assert torch.equal(model.unet.encoder.conv1.weight, state["conv1.weight"])
    assert same(model.unet.decoder.state_dict(), unet().unet.decoder.state_dict())


def test_an_unknown_encoder_is_named():
    with pytest.raises(S2LError, match="encoder = 'resnet35' is not known.*resnet34"):
        ScribbleUNet("resnet35")
