"""Averaged predictions against a direct loop, both starts (D8), thresholds, saving."""

import io

import numpy as np
import pytest
import torch

from s2l_core.config import IGNORE, S2LError
from s2l_core.pseudo_labels import PseudoLabels, threshold


def predictions(count, shape=(3, 4)):
    return np.random.default_rng(0).random((count, *shape), dtype=np.float32)


def always(value, updates, **options):
    pseudo = PseudoLabels(**options)
    for _ in range(updates):
        pseudo.update("a", torch.full((2, 2), value))
    return pseudo


@pytest.mark.parametrize("start", ["corrected", "zero"])
@pytest.mark.parametrize("averaging", [0.1, 0.2, 1.0])
def test_average_is_the_direct_loop(start, averaging):
    pseudo, average = PseudoLabels(averaging, start), np.zeros((3, 4))
    for n, new in enumerate(predictions(7), 1):
        pseudo.update("a", new if n % 2 else torch.from_numpy(new))  # NumPy or tensor
        average = averaging * new + (1 - averaging) * average
        expected = average / (1 - (1 - averaging) ** n) if start == "corrected" else average
        found = pseudo.average("a")
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_first_corrected_average_is_the_first_prediction():
    pseudo = PseudoLabels(0.2)
    pseudo.update("a", predictions(1)[0])
    np.testing.assert_allclose(pseudo.average("a"), predictions(1)[0], rtol=1e-6)


def test_a_start_at_zero_needs_29_updates_where_the_corrected_one_needs_one():
    """D8: with 0.95 and 0.1 a pixel always predicted 1 passes at epoch 145,
    updates being 5 epochs apart.
    """
    needed = {}
    for start in ("corrected", "zero"):
        labels = (
            always(1.0, n, averaging=0.1, start=start).labels("a", 0.05, 0.95) for n in range(1, 40)
        )
        needed[start] = next(n for n, label in enumerate(labels, 1) if (label == 1).all())
    assert needed == {"corrected": 1, "zero": 29} and 5 * needed["zero"] == 145


def test_early_maps_from_zero_are_all_background():
    assert (always(1.0, 1, start="zero").average("a") == 0.2).all()
    assert (always(0.9, 1, start="zero").labels("a", 0.2, 0.8) == 0).all()
    assert (always(0.9, 1, start="corrected").labels("a", 0.2, 0.8) == 1).all()


def test_averaging_changes_how_fast_the_average_follows():
    averages = []
    for averaging in (0.1, 0.2):
        pseudo = always(0.0, 3, averaging=averaging)
        pseudo.update("a", torch.ones(2, 2))
        averages.append(float(pseudo.average("a")[0, 0]))
    assert averages == pytest.approx([0.1 / (1 - 0.9**4), 0.2 / (1 - 0.8**4)])


def test_images_are_averaged_apart():
    pseudo = PseudoLabels()
    first, second = predictions(2)
    pseudo.update("a", first)
    pseudo.update("b", second[:2])
    assert "a" in pseudo and "c" not in pseudo
    np.testing.assert_allclose(pseudo.average("a"), first, rtol=1e-6)
    np.testing.assert_allclose(pseudo.average("b"), second[:2], rtol=1e-6)


def test_an_image_never_predicted_has_no_label():
    pseudo = PseudoLabels()
    assert "new" not in pseudo and pseudo.count("new") == 0
    with pytest.raises(S2LError, match=" new: "):
        pseudo.average("new")


@pytest.mark.parametrize("as_tensor", [False, True])
def test_thresholds_are_strict(as_tensor):
    averaged = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)
    labels = threshold(torch.from_numpy(averaged) if as_tensor else averaged, 0.25, 0.75)
    assert isinstance(labels, torch.Tensor if as_tensor else np.ndarray)
    assert labels.dtype == (torch.uint8 if as_tensor else np.uint8)
    assert labels.tolist() == [[0, IGNORE, IGNORE, IGNORE, 1]]


def test_what_is_handed_out_is_not_the_average_itself():
    for start in ("corrected", "zero"):
        pseudo = always(0.9, 2, start=start)
        before = pseudo.average("a").clone()
        pseudo.average("a").zero_()
        assert torch.equal(pseudo.average("a"), before)


def test_a_prediction_passed_in_is_not_kept():
    pseudo, new = PseudoLabels(1.0), torch.ones(2, 2)
    pseudo.update("a", new)
    new.zero_()
    assert (pseudo.average("a") == 1).all()


@pytest.mark.parametrize("start", ["corrected", "zero"])
def test_saved_and_loaded_averages_go_on_bit_for_bit(start):
    pseudo, file = PseudoLabels(0.2, start), io.BytesIO()
    for new in predictions(5):
        pseudo.update("a", new)
    torch.save(pseudo.state_dict(), file)
    file.seek(0)
    loaded = PseudoLabels(0.2, start)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for each in (pseudo, loaded):
        each.update("a", predictions(6)[-1])
    assert torch.equal(pseudo.average("a"), loaded.average("a"))


def test_a_loaded_state_is_a_copy_that_any_start_can_read():
    pseudo, fork = always(0.9, 3, start="zero"), PseudoLabels(start="corrected")
    fork.load_state_dict(pseudo.state_dict())
    fork.update("a", torch.zeros(2, 2))
    assert torch.equal(pseudo.average("a"), always(0.9, 3, start="zero").average("a"))
    assert fork.average("a")[0, 0] == pytest.approx(0.8 * 0.9 * (1 - 0.8**3) / (1 - 0.8**4))


def test_a_map_is_one_float32_an_image():
    state = always(0.9, 3).state_dict()
    assert [(m.dtype, m.untyped_storage().nbytes()) for m in state["sums"].values()] == [
        (torch.float32, 16)
    ]


def test_errors_name_what_is_wrong():
    with pytest.raises(S2LError, match="averaging = 0.0"):
        PseudoLabels(0.0)
    with pytest.raises(S2LError, match="average_start = 'one'.*corrected, zero"):
        PseudoLabels(start="one")
    pseudo = always(0.9, 1)
    with pytest.raises(S2LError, match=r" a .*\(2, 3\).*\(2, 2\)"):
        pseudo.update("a", torch.ones(2, 3))
    with pytest.raises(S2LError, match="averaging = 0.1, .*0.2"):
        PseudoLabels(0.1).load_state_dict(pseudo.state_dict())
