"""The rendered data set: exact truth, one seed one image, and the three groups of BBBC038."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from s2l_core.config import S2LError, seed_for
from s2l_paper.data import synthetic
from s2l_paper.data.synthetic import MODALITIES, generate, render

each_modality = pytest.mark.parametrize("modality", MODALITIES)


@each_modality
@pytest.mark.parametrize("size", [64, 256, (96, 150)])
def test_truth_is_exact(modality, size):
    image, instances = render(modality, size, 3)
    shape = (size, size) if isinstance(size, int) else size
    assert image.shape == (*shape, 3) and image.dtype == np.uint8
    assert instances.shape == shape and instances.dtype == np.int32
    count = instances.max()
    assert count >= 2 and set(np.unique(instances)) == set(range(count + 1))
    for label in range(1, count + 1):
        assert ndimage.label(instances == label)[1] == 1, f"nucleus {label} is in pieces"


@each_modality
def test_same_seed_same_image(modality):
    for first, second in zip(render(modality, 96, 5), render(modality, 96, 5), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (render(modality, 96, 5)[0] != render(modality, 96, 6)[0]).any()


def test_an_image_does_not_depend_on_the_number_of_images():
    short, long = generate("fluo", 1, size=64, seed=2), generate("fluo", 3, size=64, seed=2)
    assert [name for name, *_ in long] == [
        "synthetic-fluo-000",
        "synthetic-fluo-001",
        "synthetic-fluo-002",
    ]
    np.testing.assert_array_equal(short[0][1], long[0][1])
    np.testing.assert_array_equal(
        long[2][1], render("fluo", 64, seed_for(2, "synthetic", "fluo", 2))[0]
    )
    assert (generate("fluo", 1, size=64, seed=3)[0][1] != short[0][1]).any()
    assert generate("fluo", 0) == []


@each_modality
def test_nuclei_touch_and_scale_with_the_area(modality):
    touching, small, large = 0, 0, 0
    for seed in range(4):
        instances = render(modality, 256, seed)[1]
        for a, b in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
            touching += ((a != b) & (a > 0) & (b > 0)).any()
        large += instances.max()
        small += render(modality, 128, seed)[1].max()
        radii = np.sqrt(np.bincount(instances.ravel())[1:] / np.pi)
        assert 7 < np.median(radii) < 17
    assert touching >= 3
    assert 2.2 < large / small < 6


@each_modality
def test_debris_has_the_intensity_of_nuclei_but_is_not_in_the_truth(modality):
    nuclei, debris, rest = [], [], []
    for seed in range(5):
        image, instances, mask = synthetic._render(modality, 256, seed)
        assert mask.sum() > 50 and not (mask & (instances > 0)).any()
        grey = image.mean(-1)
        nuclei.append(np.median(grey[instances > 0]))
        debris.append(np.median(grey[mask]))
        rest.append(np.median(grey[~ndimage.binary_dilation((instances > 0) | mask, iterations=3)]))
    contrast = np.mean(nuclei) - np.mean(rest)
    assert (contrast > 0) == (modality == "fluo")
    assert (np.mean(debris) - np.mean(rest)) / contrast > 0.4


@each_modality
def test_modalities_fall_into_the_groups_of_bbbc038(modality):
    group = {"bf": "bright field", "fluo": "fluorescence", "he": "histology"}[modality]
    for _, image, _ in generate(modality, 6, size=128):
        chroma = np.mean(image.max(-1).astype(float) - image.min(-1))
        found = (
            "histology" if chroma >= 1 else "bright field" if image.mean() > 128 else "fluorescence"
        )
        assert found == group


def test_a_threshold_does_not_solve_bright_field():
    scores = []
    for _, image, instances in generate("bf", 4):
        dark, truth = image[..., 0] <= threshold_otsu(image[..., 0]), instances > 0
        scores.append((dark & truth).sum() / (dark | truth).sum())
    assert np.mean(scores) < 0.5


@pytest.mark.parametrize(
    ("modality", "size", "named"),
    [
        ("dic", 64, "modality = 'dic'"),
        ("bf", 63, "size = 63"),
        ("bf", (64, 8), "size"),
        ("bf", 64.5, "size"),
    ],
)
def test_bad_input_is_named(modality, size, named):
    with pytest.raises(S2LError, match=named):
        render(modality, size, 0)
