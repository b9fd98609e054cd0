"""The experiments behind profile `pretrained`: what is compared with what, and what that says."""

import math

import numpy as np
import pandas as pd
import pytest

from s2l_core.config import IGNORE, R1, R4, S2LError
from s2l_core.profiles import PROFILES
from s2l_core.pseudo_labels import PseudoLabels
from s2l_paper.comparing import recipe
from s2l_paper.comparing.recipe import Option
from s2l_paper.figures import charts

LOW, HIGH = Option("low", "s2l"), Option("high", "s2l-r1-r4", against="low")


def rows(**scores):
    """Trials of one experiment: choice -> validation IoU of seeds 0, 1, 2 ..."""
    return pd.DataFrame(
        [
            {"choice": choice, "seed": seed, "validation_iou": score, "run": f"{choice}{seed}"}
            for choice, values in scores.items()
            for seed, score in enumerate(values)
        ]
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_choice_is_compared_with_another_of_its_experiment(profile):
    for choices in recipe.experiments(profile, "dsb-bf").values():
        labels = [choice.label for choice in choices]
        assert len(set(labels)) == len(labels)
        assert {choice.against for choice in choices} <= {*labels, ""}
        for choice in choices:
            recipe.configuration(choice, 0, profile=profile, dataset="dsb-bf")


def test_the_coarse_term_alone_is_weighed_anew():
    for choice in recipe.experiments()["coarse term"]:
        scales = choice.fields.get("scales", (R1, R4))
        assert scales[0] == R1 and scales[1].weight in (0.3, 1.0, 10.0)


def test_differences_are_paired_seed_by_seed():
    """Seeds that are worth a tenth each: the pairs still differ by .02 and .04."""
    table = recipe.summary(rows(low=[0.5, 0.6], high=[0.52, 0.64]), [LOW, HIGH])
    low, high = table.to_dict("records")
    assert low["runs"] == 2 and low["IoU"] == pytest.approx(0.55)
    assert (low["lowest"], low["highest"]) == (0.5, 0.6) and math.isnan(low["difference"])
    assert high["difference"] == pytest.approx(0.03)
    # Student's t with one degree of freedom: 12.706 times the standard error of .01
    assert high["to"] - high["from"] == pytest.approx(2 * 12.706 * 0.01, rel=1e-3)


def test_one_seed_has_no_interval_and_no_trial_no_row():
    (only,) = recipe.summary(rows(high=[0.5]), [LOW, HIGH]).to_dict("records")
    assert only["choice"] == "high" and math.isnan(only["difference"])
    one = recipe.summary(rows(low=[0.5], high=[0.6]), [LOW, HIGH]).to_dict("records")[1]
    assert one["difference"] == pytest.approx(0.1) and math.isnan(one["from"])


def test_the_picture_names_every_choice_and_knows_its_runs():
    figure = charts.trials(rows(high=[0.5, 0.6]), [LOW, HIGH])
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["low", "high"]
    assert figure.run_ids == ("high0", "high1")


def test_an_unknown_experiment_is_refused():
    with pytest.raises(S2LError, match="'label'"):
        recipe.trials("smoke", "synthetic-fluo", ["label"])


def test_truthful_labels_cover_what_the_averages_cover_and_say_the_truth():
    averaged = PseudoLabels(1.0)
    averaged.update("a", np.array([[0.95, 0.05, 0.5, 0.95]]))
    truth = {"a": np.array([[0, 1, 1, 1]], np.uint8)}
    truthful = recipe.TruthfulLabels(averaged, truth, confidence=0.8)
    truthful.load_state_dict(averaged.state_dict())
    assert averaged.labels("a", 0.2, 0.8).tolist() == [[1, 0, IGNORE, 1]]
    assert truthful.labels("a", 0.2, 0.8).tolist() == [[0, 1, IGNORE, 1]]
