"""Reliability: shares of nucleus pixels by predicted probability, from what runs counted."""

import numpy as np
import pytest

from s2l_core.config import RunConfig, S2LError
from s2l_core.metrics import score
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import reliability
from s2l_paper.running import results
from s2l_paper.running.calibration import by_bin

PROFILE, DATA = "smoke", "synthetic-fluo"


@pytest.fixture
def cells(monkeypatch, tmp_path):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    config = RunConfig(DATA, "s2l", profile=PROFILE)
    return images_of(config, split_of(config).train[:2])


def write_run(method, cells, make):
    """A run that says `make(nuclei)` of each of these images."""
    config = RunConfig(DATA, method, profile=PROFILE)
    keys = {"run_id": results.run_id(config), "dataset": DATA, "method": method, "fold": 0}
    keys |= {"seed": 0, "annotator": 0, "budget": 0.3, "checkpoint": "best"}
    maps = {cell.id: make(cell.instances > 0) for cell in cells}
    rows = [keys | {"image": c.id} | score(c.instances, maps[c.id]) for c in cells]
    counted = [row for c in cells for row in by_bin(c.id, c.instances, maps[c.id])]
    results.write_run(config, rows, [], maps, seconds=1, calibrated=counted)


def test_a_network_that_is_as_sure_as_it_is_right_lies_on_the_diagonal(cells):
    rng = np.random.default_rng(0)

    def honest(nuclei):
        """.8 where eight in ten are nucleus: a share of the background is called .8 as well."""
        called = nuclei | (rng.random(nuclei.shape) < 0.25 * nuclei.mean() / (1 - nuclei.mean()))
        return np.where(called, 0.8, 0.0)

    write_run("s2l", cells, honest)
    write_run("supervised", cells, lambda nuclei: np.where(nuclei, 0.6, 0.0))
    table = reliability.table(PROFILE, [DATA]).set_index(["method", "predicted"])
    shares = {name: rows.share.max() for name, rows in table.groupby("method")}
    assert shares["s2l"] == pytest.approx(0.8, abs=0.03) and shares["supervised"] == 1
    assert (table.groupby("method").pixels.sum() == 2 * cells[0].instances.size).all()

    rows = reliability.table(PROFILE, [DATA])
    off = {name: reliability.off_diagonal(own) for name, own in rows.groupby("method")}
    assert off["s2l"] < 0.01 < off["supervised"]


def test_only_images_that_every_run_counted_are_shown_and_the_picture_names_its_runs(cells):
    write_run("s2l", cells, lambda nuclei: nuclei * 0.9)
    write_run("supervised", cells[:1], lambda nuclei: nuclei * 0.9)
    table = reliability.table(PROFILE, [DATA])
    assert set(table.images) == {1}
    figure = reliability.picture(table)
    (ax,) = figure.axes
    assert len(figure.run_ids) == 2 and ax.get_xlabel() == "predicted probability"
    assert len({line.get_linestyle() for line in ax.lines}) == 3  # diagonal, scribbles, masks


def test_without_a_run_it_says_how_to_make_one(cells):
    with pytest.raises(S2LError, match="make reproduce PROFILE=smoke"):
        reliability.table(PROFILE, [DATA])
