"""Touching nuclei of runs told apart: how a setting is chosen, and what it gives on test images."""

import numpy as np
import pandas as pd
import pytest
from made_up import write_run
from PIL import Image

from s2l_core.config import RunConfig, S2LError
from s2l_core.metrics import aji, instances
from s2l_images.nuclei.split import SplitExploded
from s2l_paper import paths
from s2l_paper.comparing import apart, apart_measured
from s2l_paper.data.datasets import images_of, split_of
from s2l_paper.figures import apart_pictures
from s2l_paper.running import results
from s2l_paper.running.baselines import otsu
from s2l_paper.tables import apart_texts, table1
from s2l_paper.texts import verify

PROFILE, DATA = "smoke", "synthetic-fluo"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    return tmp_path


def finished(method, **fields):
    """A finished run of profile `smoke`; its configuration."""
    write_run(method, dataset=DATA, profile=PROFILE, **fields)
    return RunConfig(DATA, method, profile=PROFILE, **fields)


def tried(*rows):
    """A table of settings, from spacing, AJI and F1."""
    return pd.DataFrame(rows, columns=["spacing", "aji", "f1"])


def test_the_best_aji_is_chosen_among_settings_that_do_not_lower_f1():
    table = tried((0, 0.5, 0.8), (0.3, 0.7, 0.79), (0.45, 0.6, 0.8), (0.6, 0.55, 0.9))
    assert apart.chosen(table).spacing == 0.45


def test_where_every_setting_lowers_f1_objects_stay_together():
    table = tried((0, 0.5, 0.8), (0.3, 0.7, 0.79), (0.45, 0.6, 0.7))
    assert apart.chosen(table).spacing == apart.TOGETHER


def test_settings_are_chosen_on_validation_images_and_scored_on_test_images(home, monkeypatch):
    config, seen = finished("otsu"), []
    monkeypatch.setattr(
        apart_measured, "images_of", lambda c, ids: seen.append(list(ids)) or images_of(c, ids)
    )
    choose = apart_measured._try_settings

    def chosen(*given):
        choose(*given)
        assert seen and all(set(ids) <= set(split_of(config).validation) for ids in seen)

    monkeypatch.setattr(apart_measured, "_try_settings", chosen)
    table = apart_measured.measure(PROFILE)
    assert set(table.image) == set(split_of(config).test) and set(table.source) == {"fitted"}

    # Components score what they always did, and every setting has its row.
    cell = images_of(config, split_of(config).test)[0]
    row = table[table.image == cell.id].iloc[0]
    assert row.aji_together == round(aji(cell.instances, instances(otsu(cell.image))), 4)
    settings = apart.tried()
    assert len(settings) == 1 + len(apart_measured.SPACINGS) * len(apart_measured.SMOOTHINGS)
    assert (settings[settings.spacing > 0].aji != settings.aji.iloc[0]).any()


def test_masks_that_a_run_keeps_do_where_its_weights_are_elsewhere(home):
    config = finished("s2l")
    assert apart_measured.measure(PROFILE).empty  # no network was asked about validation images

    # As an earlier run with weights has left it: seeds far closer than the default.
    rows = [(DATA, 0, "networks", spacing, 0.1, 1, spacing, 0.5, "x") for spacing in (0.0, 0.3)]
    table = pd.DataFrame(rows, columns=apart.TRIED_COLUMNS)
    paths.apart_settings().parent.mkdir(exist_ok=True)
    table.to_csv(paths.apart_settings(), index=False)
    cell = images_of(config, split_of(config).test)[0]
    kept = paths.run_folder(PROFILE, results.run_id(config)) / "masks" / f"{cell.id}.png"
    kept.parent.mkdir()
    Image.fromarray(cell.instances > 0).save(kept)

    (row,) = apart_measured.measure(PROFILE).to_dict("records")
    assert (row["image"], row["source"], row["spacing"]) == (cell.id, "kept mask", 0.3)
    assert row["aji_together"] == round(aji(cell.instances, instances(cell.instances > 0)), 4)

    # What was measured stays, also where the mask is gone.
    kept.unlink()
    assert len(apart_measured.measure(PROFILE)) == 1


def test_a_later_run_chooses_the_setting_of_an_earlier_one(home, monkeypatch):
    """The first run keeps masks, but its weights are elsewhere; those of the second are here."""
    first, second = finished("s2l"), finished("s2l", seed=1)
    cell = images_of(first, split_of(first).test)[0]
    kept = paths.run_folder(PROFILE, results.run_id(first)) / "masks" / f"{cell.id}.png"
    kept.parent.mkdir()
    Image.fromarray(cell.instances > 0).save(kept)
    monkeypatch.setattr(
        apart_measured, "_weights", lambda run: paths.home() / f"weights-{run.seed}"
    )
    (home / "weights-1").touch()
    monkeypatch.setattr(apart_measured, "load_model", lambda file: (None, {}))
    monkeypatch.setattr(apart_measured, "predict", lambda model, image: otsu(image))
    table = apart_measured.measure(PROFILE)
    assert set(table.run_id) == {results.run_id(first), results.run_id(second)}
    assert set(apart.tried().run_ids) == {results.run_id(second)}

    # Another choice is measured anew where it can be, and what cannot be had again stays.
    tried = apart.tried()
    tried.assign(aji=tried.spacing == 0.6, f1=0.5).to_csv(paths.apart_settings(), index=False)
    kept.unlink()
    spacing = apart_measured.measure(PROFILE).groupby("run_id").spacing.unique()
    assert spacing[results.run_id(second)].tolist() == [0.6]
    assert spacing[results.run_id(first)].tolist() == table.spacing.unique().tolist()


def test_a_split_that_explodes_is_said_and_its_objects_stay_together(home, monkeypatch, capsys):
    config = finished("otsu")

    def explode(objects, diameter, setting):
        if setting.spacing < smallest[-1]:
            raise SplitExploded("too many pieces")
        return objects

    smallest = [0.6]
    monkeypatch.setattr(apart_measured, "divided", explode)
    table = apart_measured.measure(PROFILE)
    settings = apart.tried()
    assert set(settings.spacing) == {apart.TOGETHER, 0.6, 0.8, 1.0}  # the others were refused

    # Refused on test images only.
    rows = settings.assign(f1=[0.5] * len(settings), aji=settings.spacing)
    rows.to_csv(paths.apart_settings(), index=False)
    paths.apart(PROFILE).unlink()
    smallest.append(2)
    again = apart_measured.measure(PROFILE)
    assert again.refused.all() and (again.aji_apart == again.aji_together).all()
    said = f"In {len(table)} of these pairs the watershed would have cut objects into too many"
    assert said in apart_texts.worse_text(again.assign(run_id="dsb-bf_otsu_f0_s0_x"))
    assert capsys.readouterr().out.count("stays together, since too many pieces") == len(table)
    assert results.run_id(config) in set(again.run_id)


def test_a_gain_and_a_loss_are_shown_of_each_data_set(home):
    config = finished("s2l")
    folder = paths.run_folder(PROFILE, results.run_id(config))
    with pytest.raises(S2LError, match=f"s2l apart {PROFILE}"):
        apart_pictures.gains_and_losses(PROFILE)

    # Of three measured images the mask of one is not kept, though its F1 rises most.
    rows = []
    split = split_of(config)
    cells = images_of(config, [*split.test, *split.validation, *split.train][:3])
    for cell, score in zip(cells, (0.9, 0.5, 0.2), strict=True):
        row = (folder.name, cell.id, "weights", 20, 0.3, 0.1, False, 0.1, 0.2, 0.4, score)
        rows.append(row)
        if score < 0.9:
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(cell.instances > 0).save(folder / "masks" / f"{cell.id}.png")
    table = pd.DataFrame(rows, columns=apart.MEASURED_COLUMNS)
    table.to_csv(paths.apart(PROFILE), index=False)
    assert apart_pictures.measured(PROFILE)
    figure = apart_pictures.gains_and_losses(PROFILE)
    printed = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert len(figure.axes) == 8 and figure.run_ids == (folder.name,)
    for cell, said in zip(cells[1:], ("F1 0.50, AJI 0.20", "F1 0.20, AJI 0.20"), strict=True):
        assert said in printed and cell.id[:23] in printed
    assert cells[0].id[:23] not in printed

    # Where F1 falls nowhere there is a gain alone, and where it never changes nothing.
    table.assign(f1_apart=0.5).to_csv(paths.apart(PROFILE), index=False)
    assert len(apart_pictures.gains_and_losses(PROFILE).axes) == 4
    table.assign(f1_apart=0.4).to_csv(paths.apart(PROFILE), index=False)
    assert not apart_pictures.measured(PROFILE)


def test_the_wide_table_has_both_scores_of_the_images_that_were_measured(home):
    config = finished("s2l")
    runs = results.load_runs(PROFILE)
    wide = table1.summary(runs)
    assert apart_texts.with_columns(wide, runs, apart.measured(PROFILE)).equals(wide)

    rows = [
        (results.run_id(config), name, "kept mask", 20, 0.3, 0.1, False, 0.2, value, 0.4, 0.5)
        for name, value in (("image0", 0.3), ("image1", 0.5))
    ]
    found = pd.DataFrame(rows, columns=apart.MEASURED_COLUMNS)
    found.to_csv(paths.apart(PROFILE), index=False)
    best = apart_texts.with_columns(wide, runs, found).query("shown").iloc[0]
    assert (best.images, best.images_apart) == (3, 2)
    assert (best.aji_together, best.aji_apart, best.f1_apart) == (0.2, 0.4, 0.5)
    assert "aji_apart" in verify.products(PROFILE)["scores.csv"]
    said = "F1 rises on 2 and falls on 0 of 2 pairs"
    text = apart_texts.worse_text(found.assign(run_id="dsb-bf_s2l_f0_s0_x"))
    assert said in text and "falls most" not in text
    assert "| 2 of 3 | 1 of 1 | .200 | .400 | .400 | .500 |" in apart_texts.text(
        apart_texts.with_columns(wide, runs, found)
    )


def test_a_row_of_a_run_that_is_not_there_is_a_fault(home):
    finished("s2l")
    rows = [("gone", "image0", "kept mask", 20, 0.3, 0.1, False, 0.2, 0.3, 0.4, 0.5)]
    table = pd.DataFrame(rows, columns=apart.MEASURED_COLUMNS)
    table.to_csv(paths.apart(PROFILE), index=False)
    assert any("apart.csv: names run gone" in line for line in verify.table_faults(PROFILE))


def test_committed_rows_are_of_the_objects_that_the_run_was_scored_by():
    """Components of masks, weights and fitted baselines have AJI and F1 of `per_image.csv`."""
    looked_at = 0
    for profile in verify.profiles():
        runs = results.load_runs(profile)
        table = apart.measured(profile)
        both = table.merge(runs[runs.shown], on=["run_id", "image"])
        assert len(both) == len(table)
        np.testing.assert_allclose(both.aji_together.astype(float), both.aji, atol=0.005)
        np.testing.assert_allclose(both.f1_together.astype(float), both.f1, atol=0.02)
        looked_at += len(both)
    assert looked_at
