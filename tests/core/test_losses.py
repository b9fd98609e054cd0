"""Eq. 1, 3, 4 and 5 against slow, plain references; edge cases; what each switch changes;
memory.
"""

import itertools
import math
from threading import get_ident

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from s2l_core import pair_sums
from s2l_core.config import IGNORE, S2LError
from s2l_core.losses import (
    contrastive_loss,
    contrastive_term,
    partial_bce,
    region_labels,
    sample_regions,
)

SWITCHES = list(itertools.product(("same", "and", "or"), ("mean", "balanced")))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def embeddings(foreground, background, channels=8, dtype=torch.float32, seed=0):
    """Shuffled (N, C) embeddings of any length and their classes."""
    count = foreground + background
    z = torch.randn(count, channels, generator=seeded(seed), dtype=torch.float64) * 3 + 0.5
    y = (torch.arange(count) < foreground)[torch.randperm(count, generator=seeded(seed + 1))]
    return z.to(dtype), y


# Eq. 1 and 3


def plain_bce(logits, labels, mean):
    images = []
    for one, marks in zip(logits, labels, strict=True):
        images.append(
            [
                F.softplus(-t) if s == 1 else F.softplus(t)
                for t, s in zip(one.view(-1), marks.view(-1), strict=True)
                if s != IGNORE
            ]
        )
    if mean == "batch":
        return torch.stack(sum(images, [])).mean()
    return torch.stack([torch.stack(losses).mean() for losses in images if losses]).mean()


def scribbled():
    labels = torch.full((3, 4, 6), IGNORE, dtype=torch.uint8)
    labels[0, 1, :5] = 1
    labels[0, 3, 2] = 0
    labels[2, 2, 1:3] = 0  # the second image has no label
    return torch.randn(3, 4, 6, generator=seeded(), dtype=torch.float64).float() * 3, labels


@pytest.mark.parametrize("mean", ["batch", "image"])
def test_partial_bce_is_the_mean_over_labelled_pixels(mean):
    logits, labels = scribbled()
    torch.testing.assert_close(partial_bce(logits, labels, mean), plain_bce(logits, labels, mean))


def test_label_mean_changes_the_weight_of_an_image():
    logits, labels = scribbled()
    assert abs(partial_bce(logits, labels, "batch") - partial_bce(logits, labels, "image")) > 1e-3


@pytest.mark.parametrize("mean", ["batch", "image"])
def test_gradient_is_exactly_zero_off_the_labels_and_nowhere_else(mean):
    logits, labels = scribbled()
    logits[1, 0, 0] = math.inf  # even where the network went wild
    partial_bce(logits.requires_grad_(), labels, mean).backward()
    assert torch.equal(logits.grad != 0, labels != IGNORE)


@pytest.mark.parametrize("mean", ["batch", "image"])
def test_partial_bce_without_labels_is_zero_and_differentiable(mean):
    logits = torch.randn(2, 4, 4, generator=seeded(), requires_grad=True)
    loss = partial_bce(logits, torch.full((2, 4, 4), IGNORE, dtype=torch.uint8), mean)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_partial_bce_of_half_precision_and_extreme_logits_is_finite():
    logits = torch.tensor([[[60000.0, -60000.0]]], dtype=torch.float16, requires_grad=True)
    loss = partial_bce(logits, torch.tensor([[[0, 1]]], dtype=torch.uint8))
    loss.backward()
    assert loss.item() == pytest.approx(60000, rel=1e-3) and logits.grad.isfinite().all()


# Eq. 5


def plain_regions(labels, scribbles, factor, nu_low, nu_high, rule):
    batch, height, width = labels.shape
    out = torch.full((batch, height // factor, width // factor), IGNORE, dtype=torch.uint8)
    for b, row, column in itertools.product(*map(range, out.shape)):
        window = (
            b,
            slice(row * factor, (row + 1) * factor),
            slice(column * factor, (column + 1) * factor),
        )
        pixels, drawn = labels[window].flatten().tolist(), scribbles[window].flatten().tolist()
        if rule == "unanimous":
            pixels = [p if s == IGNORE else s for p, s in zip(pixels, drawn, strict=True)]
        elif 0 in drawn or 1 in drawn:
            out[b, row, column] = IGNORE if 0 in drawn and 1 in drawn else int(1 in drawn)
            continue
        if pixels.count(0) / factor**2 >= 1 - nu_low:
            out[b, row, column] = 0
        elif pixels.count(1) / factor**2 >= nu_high:
            out[b, row, column] = 1
    return out


def blotches(seed, share_drawn=0.05, size=16):
    """Pseudo-labels in 4 x 4 patches with some noise, and a few scribbled pixels."""
    g = seeded(seed)
    labels = torch.tensor([0, 1, IGNORE], dtype=torch.uint8)[
        torch.randint(3, (2, size // 4, size // 4), generator=g)
    ]
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    noise = torch.rand(labels.shape, generator=g) < 0.05
    labels[noise] = torch.randint(2, (int(noise.sum()),), generator=g, dtype=torch.uint8)
    scribbles = torch.randint(2, labels.shape, generator=g, dtype=torch.uint8)
    scribbles[torch.rand(labels.shape, generator=g) >= share_drawn] = IGNORE
    return labels, scribbles


@given(
    seed=st.integers(0, 10**6),
    factor=st.sampled_from([1, 2, 4, 8, 16]),
    nu=st.sampled_from([(0.0, 1.0), (0.1, 0.9), (0.25, 0.5), (0.5, 0.5), (0.0, 0.1)]),
    rule=st.sampled_from(["scribble", "unanimous"]),
)
def test_region_labels_follow_eq_5(seed, factor, nu, rule):
    labels, scribbles = blotches(seed)
    found = region_labels(labels, scribbles, factor, nu_low=nu[0], nu_high=nu[1], rule=rule)
    assert found.dtype == torch.uint8
    assert torch.equal(found, plain_regions(labels, scribbles, factor, *nu, rule))


def test_a_scribble_decides_its_region_and_two_classes_ignore_it():
    labels = torch.tensor(
        [[[0, 0, 1, 1, 1, 1, 1, IGNORE], [0, 0, 1, 1, 1, 1, 1, 1]]], dtype=torch.uint8
    )
    scribbles = torch.full_like(labels, IGNORE)
    scribbles[0, 0, 0] = 1
    scribbles[0, 0, 2], scribbles[0, 1, 2] = 0, 1
    assert region_labels(labels, scribbles, 2).tolist() == [[[1, IGNORE, 1, IGNORE]]]
    assert region_labels(labels, scribbles, 2, rule="unanimous").tolist() == [
        [[IGNORE, IGNORE, 1, IGNORE]]
    ]
    assert region_labels(labels, scribbles, 2, nu_high=0.75).tolist() == [[[1, IGNORE, 1, 1]]]
    labels[0, 0, 0] = (
        # one foreground pixel of four: background where nu_low allows a quarter to be something
        # else
        1
    )
    nothing = torch.full_like(labels, IGNORE)
    assert region_labels(labels, nothing, 2, nu_low=0.25)[0, 0, 0] == 0
    assert region_labels(labels, nothing, 2)[0, 0, 0] == IGNORE


@pytest.mark.parametrize(
    ("size", "arguments", "message"),
    [
        ((16, 16), {"factor": 3}, "factor = 3 "),
        ((16, 16), {"factor": 0}, "factor = 0 "),
        ((16, 18), {"factor": 4}, r"factor = 4 for labels of \(16, 18\)"),
        ((16, 16), {"factor": 2, "nu_low": 0.8, "nu_high": 0.6}, "nu_low = 0.8 and nu_high = 0.6"),
        ((16, 16), {"factor": 2, "rule": "majority"}, "region_rule = 'majority'"),
    ],
)
def test_region_labels_name_what_is_wrong(size, arguments, message):
    labels = torch.zeros(1, *size, dtype=torch.uint8)
    with pytest.raises(S2LError, match=message):
        region_labels(labels, labels, **arguments)


# sampling


def numbered(batch=2, side=8):
    """Features whose first channel is the region's own number, and labels with 40 foreground,
    60 background.
    """
    count = batch * side * side
    features = torch.zeros(batch, 3, side, side)
    features[:, 0] = torch.arange(count).view(batch, side, side)
    features[:, 2] = -features[:, 0]
    labels = torch.full((count,), IGNORE, dtype=torch.uint8)
    order = torch.randperm(count, generator=seeded())
    labels[order[:40]], labels[order[40:100]] = 1, 0
    return features, labels.view(batch, side, side)


@pytest.mark.parametrize(
    ("limit", "equalise", "counts"),
    [
        (1000, False, (40, 60)),
        (50, False, (40, 50)),
        (10, False, (10, 10)),
        (1000, True, (40, 40)),
        (10, True, (10, 10)),
    ],
)
def test_sampling_draws_labelled_regions_once_each(limit, equalise, counts):
    features, labels = numbered()
    z, y = sample_regions(features, labels, limit, equalise=equalise, generator=seeded())
    assert (int(y.sum()), int((~y).sum())) == counts and y.dtype == torch.bool
    assert torch.equal(z[:, 2], -z[:, 0]) and not z[:, 1].any()
    regions = z[:, 0].long()
    assert len(regions.unique()) == len(regions)
    assert torch.equal(labels.flatten()[regions], y.to(torch.uint8))


def test_sampling_depends_on_its_generator_alone():
    features, labels = numbered()
    before = torch.get_rng_state()
    first, again, other = (
        sample_regions(features, labels, 10, generator=seeded(s))[0] for s in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_sampling_reaches_every_region():
    features, labels = numbered()
    drawn = torch.cat(
        [sample_regions(features, labels, 10, generator=seeded(s))[0][:, 0] for s in range(60)]
    )
    assert len(drawn.unique()) == 100


def test_sampling_is_differentiable_at_the_drawn_regions_only():
    features, labels = numbered()
    z, _ = sample_regions(features.requires_grad_(), labels, 10, generator=seeded())
    z.sum().backward()
    touched = features.grad[:, 0].flatten().nonzero().squeeze(1)
    assert torch.equal(touched, z[:, 0].long().sort().values)


@pytest.mark.parametrize("equalise", [False, True])
def test_sampling_of_nothing_is_empty_and_one_class_gives_what_there_is(equalise):
    features, labels = numbered()
    z, y = sample_regions(features, torch.full_like(labels, IGNORE), 10, equalise=equalise)
    assert z.shape == (0, 3) and y.shape == (0,)
    z, y = sample_regions(features, labels.masked_fill(labels == 1, IGNORE), 10, equalise=equalise)
    assert len(y) == (0 if equalise else 10) and not y.any()


def test_sampling_refuses_labels_of_another_resolution():
    features, labels = numbered()
    with pytest.raises(S2LError, match=r"\(2, 4, 4\).*\(2, 8, 8\)"):
        sample_regions(features, labels[:, ::2, ::2], 10)


# Eq. 4


def plain_contrast(z, y, temperature, target, reduction):
    """Eq. 4 as it is written: the matrix of all pairs."""
    s = F.normalize(z) @ F.normalize(z).T / temperature
    a, b = y[:, None], y[None, :]
    truth = {"same": a == b, "and": a & b, "or": a | b}[target]
    pairs = F.binary_cross_entropy_with_logits(s, truth.to(s.dtype), reduction="none")
    if reduction == "mean":
        return pairs.mean()
    off = ~torch.eye(len(z), dtype=torch.bool)
    parts = [pairs[part] for part in (a & b & off, ~a & ~b & off, a & ~b)]
    return sum(part.mean() for part in parts if len(part))


def value_and_gradient(loss, z, *arguments, **options):
    z = z.clone().requires_grad_()
    value = loss(z, *arguments, **options)
    value.backward()
    return value.detach(), z.grad


@pytest.mark.parametrize(("target", "reduction"), SWITCHES)
@pytest.mark.parametrize(
    "counts", [(60, 90), (1, 40), (2, 1), (30, 0), (0, 30), (1, 1), (1, 0), (0, 1)]
)
@pytest.mark.parametrize("temperature", [0.1, 0.3, 2.0])
def test_contrastive_loss_equals_the_matrix_of_all_pairs(target, reduction, counts, temperature):
    z, y = embeddings(*counts)
    ours = value_and_gradient(
        contrastive_loss, z, y, temperature, target=target, reduction=reduction
    )
    if sum(counts) == 1 and reduction == "balanced":
        assert ours[0] == 0 and not ours[1].any()  # a single region has no pair but itself
        return
    plain = value_and_gradient(plain_contrast, z.double(), y, temperature, target, reduction)
    torch.testing.assert_close(ours[0].double(), plain[0], rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(ours[1].double(), plain[1], rtol=1e-4, atol=1e-6 / sum(counts))


@pytest.mark.parametrize("counts", [(16, 17), (17, 1), (15, 16), (33, 50)])
@pytest.mark.parametrize("temperature", [0.1, 0.01])
@pytest.mark.parametrize("reduction", ["mean", "balanced"])
def test_contrastive_loss_across_the_borders_of_tiles(counts, temperature, reduction, monkeypatch):
    monkeypatch.setattr(pair_sums, "TILE", 16)
    z, y = embeddings(*counts, dtype=torch.float64)
    ours = value_and_gradient(contrastive_loss, z, y, temperature, reduction=reduction)
    plain = value_and_gradient(plain_contrast, z, y, temperature, "same", reduction)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-14)


def test_the_gradient_keeps_its_digits_when_the_classes_are_far_apart():
    z, y = embeddings(300, 300)
    z = (
        torch.where(y[:, None], 1.0, -1.0) + 0.01 * z
    )  # all pairs but solved: gradients are sums of tiny numbers
    _, ours = value_and_gradient(contrastive_loss, z, y, 0.1)
    _, plain = value_and_gradient(plain_contrast, z.double(), y, 0.1, "same", "mean")
    assert (ours - plain).norm() < 1e-3 * plain.norm()


@pytest.mark.parametrize(("target", "reduction"), SWITCHES)
def test_gradient_by_finite_differences(target, reduction):
    z, y = embeddings(4, 5, channels=3, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda z: contrastive_loss(z, y, 0.5, target=target, reduction=reduction),
        z.requires_grad_(),
    )


def test_gradient_by_finite_differences_where_pairs_are_too_far_for_the_sigmoid():
    z, y = embeddings(3, 4, channels=3, dtype=torch.float64)
    torch.autograd.gradcheck(lambda z: contrastive_loss(z, y, 0.01), z.requires_grad_())


def test_known_angles():
    z = torch.tensor([[2.0, 0.0], [0.0, 0.5], [-3.0, 0.0]])  # at 0, 90 and 180 degrees
    y = torch.tensor([True, True, False])
    near, right, far = (
        math.log1p(math.exp(-c / 0.5)) for c in (1, 0, -1)
    )  # BCE(1, .) at cosine 1, 0 and -1
    expected = (
        3 * near + 2 * right + 2 * near + 2 * right
    ) / 9  # BCE(0, .) at -1 is BCE(1, .) at 1
    assert contrastive_loss(z, y, 0.5).item() == pytest.approx(expected, rel=1e-6)
    assert contrastive_loss(z, y, 0.5, reduction="balanced").item() == pytest.approx(
        right + (near + right) / 2, rel=1e-6
    )
    expected = (
        2 * near + 2 * right + far + 2 * near + 2 * right
    ) / 9  # "and": bg with itself at 0 degrees is a 0
    assert contrastive_loss(z, y, 0.5, target="and").item() == pytest.approx(expected, rel=1e-6)
    expected = (
        2 * near + 2 * right + far + 2 * far + 2 * right
    ) / 9  # "or": fg-bg is a 1, bg-bg a 0
    assert contrastive_loss(z, y, 0.5, target="or").item() == pytest.approx(expected, rel=1e-6)


def test_every_switch_changes_the_value():
    z, y = embeddings(20, 50)
    values = [
        contrastive_loss(z, y, t, target=a, reduction=b).item()
        for a, b in SWITCHES
        for t in (0.1, 0.3)
    ]
    assert min(abs(a - b) for a, b in itertools.combinations(values, 2)) > 1e-4


def test_no_region_at_all_is_zero_and_differentiable():
    z = torch.zeros(0, 8, requires_grad=True)
    for target, reduction in SWITCHES:
        loss = contrastive_loss(
            z, torch.zeros(0, dtype=torch.bool), 0.1, target=target, reduction=reduction
        )
        loss.backward()
        assert loss.item() == 0 and z.grad.shape == (0, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_single(dtype, autocast):
    z, y = embeddings(30, 40, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value, gradient = value_and_gradient(contrastive_loss, z, y, 0.1)
    exact, exact_gradient = value_and_gradient(contrastive_loss, z.float(), y, 0.1)
    assert value.dtype == torch.float32 and torch.equal(value, exact)
    assert gradient.dtype == dtype and torch.equal(gradient, exact_gradient.to(dtype))


@pytest.mark.parametrize("temperature", [1 / 5, 1 / 80, 1 / 81, 1e-3, 1e-6])
@pytest.mark.parametrize(("target", "reduction"), SWITCHES)
def test_extreme_cosines_and_tiny_temperatures_stay_finite_and_right(
    temperature, target, reduction
):
    direction = torch.tensor([[1.0, 2.0, -1.0]])
    z = torch.cat(
        [direction, -direction, 1e6 * direction, torch.tensor([[2.0, -1.0, 0.0]])]
    ).repeat(40, 1)
    y = torch.arange(160) % 8 < 4
    value, gradient = value_and_gradient(
        contrastive_loss, z, y, temperature, target=target, reduction=reduction
    )
    plain = plain_contrast(z.double(), y, temperature, target, reduction)
    torch.testing.assert_close(value.double(), plain, rtol=1e-5, atol=1e-6)
    assert gradient.isfinite().all()


def test_zero_vectors_count_as_cosine_zero_and_get_a_finite_gradient():
    z, y = embeddings(6, 6)
    z[3] = 0
    value, gradient = value_and_gradient(contrastive_loss, z, y, 0.1)
    torch.testing.assert_close(value, plain_contrast(z, y, 0.1, "same", "mean"))
    assert gradient.isfinite().all() and gradient.abs().max() < 10
    balanced = value_and_gradient(contrastive_loss, z, y, 0.1, reduction="balanced")
    torch.testing.assert_close(balanced[0], plain_contrast(z, y, 0.1, "same", "balanced"))


def test_the_order_and_the_length_of_embeddings_do_not_matter():
    z, y = embeddings(50, 70, dtype=torch.float64)
    order = torch.randperm(120, generator=seeded(5))
    torch.testing.assert_close(
        contrastive_loss(z, y, 0.1), contrastive_loss(7 * z[order], y[order], 0.1)
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_second_derivative_is_refused(count, threads):
    threads(count)
    z, y = embeddings(5, 5)
    z.requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(contrastive_loss(z, y, 0.1), z, create_graph=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"temperature": 0.1, "target": "xor"}, "pair_target = 'xor' .*same, and, or"),
        ({"temperature": 0.1, "reduction": "sum"}, "pair_reduction = 'sum' .*mean, balanced"),
    ],
)
def test_contrastive_loss_names_what_is_wrong(arguments, message):
    with pytest.raises(S2LError, match=message):
        contrastive_loss(*embeddings(2, 2), **arguments)


@pytest.fixture
def threads():
    """Sets how many threads an operation takes, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("reduction", ["mean", "balanced"])
@pytest.mark.parametrize("counts", [(70, 90), (100, 5), (0, 60), (9, 7)])
def test_threads_share_the_tiles_and_change_no_bit(counts, reduction, threads, monkeypatch):
    monkeypatch.setattr(pair_sums, "TILE", 16)
    z, y = embeddings(*counts)
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append(value_and_gradient(contrastive_loss, z, y, 0.1, reduction=reduction))
        assert torch.get_num_threads() == count, "what comes after has its threads back"
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0]) and torch.equal(gradient, found[0][1])


def test_where_threads_share_the_tiles_each_operation_takes_one(threads, monkeypatch):
    counts, fold = [], pair_sums._sum_of_log_sigmoids_
    monkeypatch.setattr(pair_sums, "TILE", 16)
    monkeypatch.setattr(
        pair_sums,
        "_sum_of_log_sigmoids_",
        lambda *given: counts.append((get_ident(), torch.get_num_threads())) or fold(*given),
    )
    z, y = embeddings(100, 100)
    z.requires_grad_().register_hook(lambda gradient: counts.append((None, 1)))
    threads(3)
    loss = contrastive_loss(z, y, 0.1)
    assert {count for _, count in counts} == {1} and get_ident() not in dict(counts)
    tiles = len(counts)
    loss.backward(retain_graph=True)
    once = z.grad.clone()
    loss.backward()
    assert len(counts) == tiles + 2, "the gradient is at hand"
    assert torch.equal(z.grad, 2 * once)


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_a_tile_is_raised_and_waited_for_by_none(count, threads, monkeypatch):
    def fail(tile, scale):
        raise MemoryError("no room for a tile")

    monkeypatch.setattr(pair_sums, "TILE", 16)
    threads(count)
    with monkeypatch.context() as broken, pytest.raises(MemoryError, match="no room"):
        broken.setattr(pair_sums, "_sum_of_log_sigmoids_", fail)
        contrastive_loss(*embeddings(60, 60), 0.1)
    assert torch.get_num_threads() == count
    assert contrastive_loss(*embeddings(60, 60), 0.1) > 0, "the threads go on"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_threads_share_the_tiles_where_no_gradient_is_wanted(mode, threads, monkeypatch):
    monkeypatch.setattr(pair_sums, "TILE", 16)
    z, y = embeddings(40, 40)
    expected = contrastive_loss(z, y, 0.1)
    threads(2)
    with mode():
        assert torch.equal(contrastive_loss(z, y, 0.1), expected)


class Largest(TorchDispatchMode):
    """Elements of the largest storage that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(
                    self.elements, tensor.untyped_storage().nbytes() // tensor.element_size()
                )
        return out


@pytest.mark.parametrize(("target", "reduction"), [("same", "mean"), ("or", "balanced")])
def test_no_matrix_of_all_pairs_exists_at_any_time(target, reduction, monkeypatch, one_thread):
    monkeypatch.setattr(pair_sums, "TILE", 64)
    z, y = embeddings(300, 300)
    with Largest() as ours:
        value_and_gradient(contrastive_loss, z, y, 0.1, target=target, reduction=reduction)
    assert ours.elements == max(64**2, z.numel())
    with Largest() as plain:
        value_and_gradient(plain_contrast, z, y, 0.1, target, reduction)
    assert plain.elements >= 600**2  # the measure sees what it should


# one term of Eq. 6


def scene():
    features = torch.randn(3, 8, 8, 8, generator=seeded())
    labels = torch.randint(2, (3, 8, 8), generator=seeded(1), dtype=torch.uint8)
    labels[0, :, 4:] = IGNORE
    labels[1] = IGNORE  # an image without labelled regions
    return features, labels


def test_term_over_the_batch_is_the_loss_of_the_sample():
    features, labels = scene()
    z, y = sample_regions(features, labels, 20, generator=seeded(3))
    term = contrastive_term(features, labels, 0.1, max_regions=20, generator=seeded(3))
    assert torch.equal(term, contrastive_loss(z, y, 0.1))


def test_term_by_image_is_the_mean_over_images_with_regions():
    features, labels = scene()
    generator, losses_of_images = seeded(3), []
    for one in (0, 2):
        z, y = sample_regions(
            features[one : one + 1], labels[one : one + 1], 20, generator=generator
        )
        assert len(y) <= 40
        losses_of_images.append(contrastive_loss(z, y, 0.1))
    term = contrastive_term(
        features, labels, 0.1, max_regions=20, pairs="image", generator=seeded(3)
    )
    torch.testing.assert_close(term, torch.stack(losses_of_images).mean())
    over_batch = contrastive_term(features, labels, 0.1, max_regions=20, generator=seeded(3))
    assert abs(term - over_batch) > 1e-4


def test_term_passes_every_option_on():
    features, labels = scene()
    labels[2] = 0  # unequal classes, so that equalise matters
    options = [
        {},
        {"equalise": True},
        {"target": "or"},
        {"reduction": "balanced"},
        {"pairs": "image"},
    ]
    values = [
        contrastive_term(features, labels, 0.1, max_regions=30, generator=seeded(), **o).item()
        for o in options
    ]
    assert min(abs(a - b) for a, b in itertools.combinations(values, 2)) > 1e-5


@pytest.mark.parametrize("pairs", ["batch", "image"])
def test_term_without_regions_is_zero_and_differentiable(pairs):
    features, labels = scene()
    term = contrastive_term(
        features.requires_grad_(), torch.full_like(labels, IGNORE), 0.1, max_regions=20, pairs=pairs
    )
    term.backward()
    assert term.item() == 0 and not features.grad.any()


def test_term_refuses_unknown_pairs():
    with pytest.raises(S2LError, match="pairs = 'fold'"):
        contrastive_term(*scene(), 0.1, max_regions=20, pairs="fold")


@pytest.mark.gpu
@pytest.mark.parametrize("pairs", ["batch", "image"])
def test_term_on_a_gpu_equals_the_cpu_without_waiting_for_it(pairs):
    features, labels = scene()
    cpu = value_and_gradient(
        contrastive_term, features, labels, 0.1, max_regions=20, pairs=pairs, generator=seeded()
    )
    on_gpu = features.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu = value_and_gradient(
            contrastive_term, on_gpu, labels, 0.1, max_regions=20, pairs=pairs, generator=seeded()
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close([t.cpu() for t in gpu], list(cpu), rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
def test_several_tiles_on_a_gpu_give_the_value_and_gradient_of_the_cpu():
    z, y = (
        torch.randn(10_000, 32, generator=seeded()),
        torch.rand(10_000, generator=seeded()) < 0.45,
    )
    cpu, gpu = (value_and_gradient(contrastive_loss, each, y, 0.1) for each in (z, z.cuda()))
    torch.testing.assert_close([t.cpu() for t in gpu], list(cpu), rtol=1e-3, atol=1e-7)
