"""The wrapped U-Net against a plain one, heads that depend on their block alone, weight files."""

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
    ("name", "make", "named"),
    [
        ("gone.pth", lambda path: None, ""),
        ("cut.pth", lambda path: cut(path, torch.save), ""),
        ("cut.safetensors", lambda path: cut(path, save_file), ""),
        ("empty.pth", lambda path: path.touch(), ""),
        ("text.pth", lambda path: path.write_text("weights"), ""),
        ("list.pth", lambda path: torch.save([1.0], path), "list"),
        (
            "code.pth",
            lambda path: torch.save(torch.nn.ReLU(), path),
            "",
        ),  # weights_only
        (
            "fewer.pth",
            lambda path: torch.save(dict(list(encoder_state().items())[3:]), path),
            "conv1",
        ),
        (
            "more.pth",
            lambda path: torch.save(encoder_state() | {"x.y": torch.ones(1)}, path),
            "x.y",
        ),
        (
            "other.pth",
            lambda path: torch.save(ScribbleUNet("resnet34").unet.encoder.state_dict(), path),
            "layer1.2.conv1.weight",
        ),
        (
            "shape.pth",
            lambda path: torch.save(
                encoder_state() | {"conv1.weight": torch.ones(8, 3, 7, 7)}, path
            ),
            "conv1.weight",
        ),
        (
            "values.pth",
            lambda path: torch.save(encoder_state() | {"conv1.weight": 3}, path),
            "resnet18",
        ),
    ],
)
def test_unfit_encoder_weights_are_named(tmp_path, name, make, named):
    make(tmp_path / name)
    with pytest.raises(S2LError, match=f"encoder_weights = .*{name}.*{named}"):
        unet(encoder_weights=tmp_path / name)


def test_imagenet_without_a_network_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(S2LError, match=r"imagenet.*\.safetensors .*HF_HOME"):
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
    with pytest.raises(S2LError, match="encoder = 'resnet35' .*resnet34"):
        ScribbleUNet("resnet35")


LITE = "efficientnet-lite0"


@pytest.mark.parametrize(
    "encoder", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
)
def test_lite_encoders_feed_the_same_decoder_and_heads(encoder):
    model = ScribbleUNet(encoder, BLOCKS).eval()
    features = []
    for block in model.unet.decoder.blocks:
        block.register_forward_hook(lambda module, inputs, output: features.append(output))
    with torch.no_grad():
        logits, embeddings = model(images())

    assert logits.shape == (2, 64, 64)
    sides = [64 // scale.factor for scale in BLOCKS]
    assert sides == [4, 8, 16, 32, 64]
    shapes = [tuple(feature.shape) for feature in features]
    assert shapes == [(2, c, s, s) for c, s in zip(DECODER_CHANNELS, sides, strict=True)]
    assert [tuple(e.shape) for e in embeddings] == [(2, 32, s, s) for s in sides]


@pytest.mark.parametrize(("encoder", "millions"), [(LITE, 5.2), ("resnet34", 24.4)])
def test_number_of_parameters(encoder, millions):
    count = sum(parameter.numel() for parameter in ScribbleUNet(encoder).parameters())
    assert round(count / 1e6, 1) == millions


def test_a_lite_network_draws_nothing_of_its_own_while_it_trains():
    """Blocks dropped at random would hang on the global generator: a resumed run would differ."""
    first, second = ScribbleUNet(LITE, (R4,), seed=3), ScribbleUNet(LITE, (R4,), seed=3)
    assert same(first.state_dict(), second.state_dict())
    assert not same(first.state_dict(), ScribbleUNet(LITE, (R4,), seed=4).state_dict())

    before = torch.get_rng_state()
    logits, embeddings = first(images())
    again, embeddings_again = second(images())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(logits, again)
    assert torch.equal(embeddings[0], embeddings_again[0])


def test_every_parameter_of_a_lite_network_learns():
    model = ScribbleUNet(LITE, (R1, R4))
    logits, embeddings = model(images(side=96))
    (logits.square().mean() + sum(e[:, :, 0, 0].square().mean() for e in embeddings)).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_normalisation_belongs_to_the_encoder_and_is_saved_with_it():
    lite, resnet = ScribbleUNet(LITE), unet()
    assert lite.mean.flatten().tolist() == lite.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert torch.equal(resnet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert torch.equal(resnet.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))

    # what an older version saved keeps the values that it was trained with
    lite.load_state_dict(lite.state_dict() | {"mean": resnet.mean, "std": resnet.std})
    assert torch.equal(lite.mean, resnet.mean) and torch.equal(lite.std, resnet.std)


def batch_norms(module):
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("encoder", [ENCODER, LITE])
def test_frozen_statistics_stay_while_everything_else_trains(encoder):
    model = ScribbleUNet(encoder, (R1,), frozen_statistics=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits, embeddings = model(images())
    (logits.square().mean() + embeddings[0][:, :, 0, 0].square().mean()).backward()

    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved and not any(name.startswith("unet.encoder.") for name in moved)
    for part in (model.unet.decoder, model.heads):
        assert batch_norms(part) and all(layer.training for layer in batch_norms(part))
    learned = [layer.weight.grad for layer in batch_norms(model.unet.encoder)]
    assert learned and all(gradient is not None for gradient in learned)


def test_frozen_statistics_outlast_changes_of_mode_and_are_off_unless_asked_for():
    frozen, usual = unet(frozen_statistics=True), unet()
    for model in (frozen, usual):
        assert model.eval() is model and not any(layer.training for layer in batch_norms(model))
        assert model.train() is model and model.unet.encoder.training
    assert not any(layer.training for layer in batch_norms(frozen.unet.encoder))
    assert all(layer.training for layer in batch_norms(usual.unet.encoder))
    assert same(frozen.state_dict(), usual.state_dict())


@pytest.mark.parametrize("encoder", [ENCODER, LITE])
def test_heads_on_a_detached_trunk_learn_alone(encoder):
    model = ScribbleUNet(encoder, (R1, R4))
    logits, embeddings = model(images(), detach=True)
    sum(e[:, :, 0, 0].square().mean() for e in embeddings).backward()
    assert all(p.grad is None for p in model.unet.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.heads.parameters())

    # the segmentation loss still reaches the whole trunk
    logits.square().mean().backward()
    assert all(p.grad is not None for p in model.unet.parameters())


def test_detaching_changes_no_value():
    first, second = unet((R1, R4)), unet((R1, R4))
    logits, embeddings = first(images())
    detached_logits, detached = second(images(), detach=True)
    assert torch.equal(logits, detached_logits)
    assert all(torch.equal(a, b) for a, b in zip(embeddings, detached, strict=True))
    assert same(first.state_dict(), second.state_dict())
