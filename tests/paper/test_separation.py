"""Class separation of trained networks: known vectors, the table of weights, and what stays."""

import numpy as np
import pandas as pd
import pytest
from made_up import write_run

from s2l_core.config import RunConfig, S2LError
from s2l_core.model import ScribbleUNet
from s2l_images import checkpoints
from s2l_paper import paths
from s2l_paper.figures import embeddings, separation
from s2l_paper.running import results
from s2l_paper.texts import results_page, verify

PROFILE, DATA = "smoke", "synthetic-bf"


def save_weights(method):
    """A finished run of profile `smoke` with an untrained network; its id."""
    config = RunConfig(DATA, method, profile=PROFILE)
    write_run(method, dataset=DATA, profile=PROFILE)
    run_id = results.run_id(config)
    model = ScribbleUNet(config.encoder, config.scales, intensity=config.intensity)
    folder = paths.run_folder(PROFILE, run_id)
    checkpoints.save_model(folder, model.state_dict(), config)
    return run_id


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("S2L_HOME", str(tmp_path))
    return tmp_path


def test_both_classes_have_as_many_vectors_and_every_network_the_same_places():
    classes = np.array([0] * 50 + [1] * 5)
    vectors = np.arange(55.0)[:, None]
    chosen, own = embeddings._sample(vectors, classes, "an image")
    assert own.tolist() == [0] * 5 + [1] * 5 and chosen[5:, 0].min() == 50
    again, _ = embeddings._sample(vectors * 2, classes, "an image")
    assert (again == 2 * chosen).all()
    assert (embeddings._sample(vectors, classes, "another")[0] != chosen).any()


def test_every_run_with_weights_has_a_row_for_each_layer(home):
    plain, both = save_weights("s2l"), save_weights("s2l-r1-r4")
    write_run("s2l-r1", dataset=DATA, profile=PROFILE)  # finished, but without its weights
    table = embeddings.measure(PROFILE)
    features = [f"features, block {block}" for block in separation.FACTORS]
    assert set(table.layer[table.run_id == plain]) == set(features)
    assert set(table.layer[table.run_id == both]) == set(separation.LAYERS)
    assert set(table.run_id) == {plain, both} and table.silhouette.between(-1, 1).all()

    # Before training the heads change nothing: both networks have the same features.
    same = table[table.layer.isin(features)].groupby("layer").silhouette.nunique()
    assert (same == 1).all()
    assert (paths.figures(PROFILE) / "separation.png").exists()
    means = separation.summary(table)
    assert means.runs.tolist() == [1, 1] and list(means.index) == ["S2L", "S2L + R1x1 + R4x4"]
    assert len(separation.differences(table).axes) == len(separation.LAYERS)


def test_rows_of_weights_that_are_elsewhere_stay_while_their_run_is_there(home):
    plain, both = save_weights("s2l"), save_weights("s2l-r1-r4")
    before = embeddings.measure(PROFILE)
    (paths.run_folder(PROFILE, both) / "model.safetensors").unlink()
    assert embeddings.measure(PROFILE).equals(before)
    for file in paths.run_folder(PROFILE, both).glob("*"):
        file.unlink()
    paths.run_folder(PROFILE, both).rmdir()
    assert set(embeddings.measure(PROFILE).run_id) == {plain}


def test_without_weights_the_command_is_named(home):
    write_run("s2l", dataset=DATA, profile=PROFILE)
    with pytest.raises(S2LError, match=f"make reproduce PROFILE={PROFILE}"):
        embeddings.measure(PROFILE)
    assert separation.measured(PROFILE).empty


def test_a_row_of_a_run_that_is_not_there_is_a_fault(home):
    run_id = save_weights("s2l")
    embeddings.measure(PROFILE)
    file = paths.separation(PROFILE)
    file.write_text(file.read_text().replace(run_id, "synthetic-bf_s2l_f0_s0_00000000"))
    faults = verify.table_faults(PROFILE)
    said = "separation.csv: names run synthetic-bf_s2l_f0_s0_00000000, which is not there"
    assert any(said in line for line in faults)


def test_pairs_of_trainings_are_counted_at_the_scale_of_the_term():
    rows = [
        (method, seed, f"features, block {block}", value + 0.1 * seed)
        for seed in range(3)
        for method, block, value in (("s2l", 3, 0.5), ("s2l-r4", 3, 0.6), ("s2l", 5, 0.5))
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "layer", "silhouette"])
    table = table.assign(fold=0, rotation=0, annotator="0")
    said = results_page.separation_pairs(table)
    assert said == ("R4x4 raises the silhouette of block 3 in 3 of 3 pairs, on average by .100.")
