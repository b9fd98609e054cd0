"""Crops of a step: which images, which places, the same for every method."""

from threading import Barrier

import numpy as np
import pytest
import torch
from tiny import cell, config

from s2l_core.batches import Prefetcher, TrainingSet


def training_set(method="s2l", *, masks=False, nuclei=6, **fields):
    images = [cell(name, nuclei, side=96) for name in "abcde"]
    scribbles = {image.id: image.scribbles for image in images}
    return TrainingSet(images, scribbles, config(method, **fields), masks=masks)


def share_on_strokes(data, steps=30):
    crops = torch.cat([data.batch(step)["scribbles"] for step in range(steps)])
    return (crops == 1).any(dim=(1, 2)).float().mean().item()


def test_the_share_of_crops_that_hold_a_foreground_scribble():
    sparse = {"nuclei": 2, "crop": 32}  # one stroke an image
    none, half, all_ = (
        share_on_strokes(training_set(foreground_crops=s, **sparse)) for s in (0.0, 0.5, 1.0)
    )
    assert none + 0.15 < half < all_ - 0.1


def test_no_target_where_no_foreground_is_drawn():
    data = training_set(foreground_crops=1.0)
    expected = data.batch(0)["image"]
    data.strokes = {name: np.empty((0, 2), int) for name in data.strokes}
    plain = training_set(foreground_crops=0.0)
    assert torch.equal(data.batch(0)["image"], plain.batch(0)["image"])
    assert not torch.equal(expected, plain.batch(0)["image"])


def test_masks_and_scribbles_see_the_same_crops():
    options = {"foreground_crops": 0.5}
    scribbled, masked = training_set(**options), training_set("supervised", masks=True, **options)
    for step in range(4):
        assert torch.equal(scribbled.batch(step)["image"], masked.batch(step)["image"])
    assert (masked.batch(0)["scribbles"] == 255).all() and not (
        scribbled.batch(0)["scribbles"] == 255
    ).all()


def test_every_epoch_shows_every_image_once():
    data = training_set(batch=2)
    count = len(data.images)
    seen = [image for step in range(count) for image in data.images_at(step)]
    assert sorted(image.id for image in seen) == sorted(2 * [image.id for image in data.images])
    assert [image.id for image in seen[:count]] != [image.id for image in seen[count:]]


def test_region_labels_come_with_the_batch_and_stay_on_the_cpu():
    data, asked = training_set(), []
    loader = Prefetcher(
        data, None, torch.device("meta"), lambda batch, step: asked.append((batch, step)) or [step]
    )
    try:
        batches = [loader.batch(step, prefetch_next=step < 1) for step in range(2)]
    finally:
        loader.close()
    assert [batch["regions"] for batch in batches] == [[0], [1]] and [
        step for _, step in asked
    ] == [0, 1]
    assert all(values.device.type == "cpu" for values in asked[0][0].values())
    assert all(batch["image"].device.type == "meta" for batch in batches)


@pytest.mark.parametrize("cutters", [0, 3])
def test_the_loader_gives_the_same_batches_and_each_thread_keeps_to_one_core(cutters):
    """Two teams of OpenMP threads on two cores would make the step's team sleep at every wait."""
    data, threads = training_set(), torch.get_num_threads()
    torch.set_num_threads(2)
    loader = Prefetcher(data, None, torch.device("cpu"), cutters=cutters)
    try:
        assert torch.get_num_threads() == 2
        together = Barrier(1 + cutters, timeout=60)
        counts = [
            loader._pool.submit(lambda: (together.wait(), torch.get_num_threads()))
            for _ in range(1 + cutters)
        ]
        assert [count.result()[1] for count in counts] == [1] * (1 + cutters)
        for step in range(3):
            found, expected = loader.batch(step, prefetch_next=step < 2), data.batch(step)
            assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert torch.get_num_threads() == 2
    finally:
        loader.close()
        torch.set_num_threads(threads)


def test_crops_are_cut_side_by_side_where_there_are_threads_for_them():
    data = training_set(batch=2)
    crop, together = data._crop, Barrier(2, timeout=60)
    data._crop = lambda *what: (together.wait(), crop(*what))[1]  # each waits for another
    loader = Prefetcher(data, None, torch.device("cpu"), cutters=2)
    assert len(loader.batch(0, prefetch_next=False)["image"]) == 2
    data._crop = crop
    loader.batch(1, prefetch_next=True)
    loader.close()  # comes back although a batch is being made
