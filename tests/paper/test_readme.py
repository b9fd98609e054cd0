"""The README says what is: its table is the committed one, its links lead somewhere,
its fields exist.
"""

import dataclasses
import re

import pandas as pd
import pytest
from PIL import Image

from conftest import ROOT
from s2l_core.config import METHODS, RunConfig
from s2l_core.profiles import PROFILES

README = (ROOT / "README.md").read_text()


def test_table_is_the_committed_one():
    assert (ROOT / "results" / "cpu" / "table1.md").read_text() in README


def test_what_is_said_of_rounds_follows_from_their_trials():
    trials = pd.read_csv(ROOT / "docs" / "rounds.csv")
    trials["iou"] = trials[["iou_1", "iou_2", "iou_3"]].mean(axis=1)
    text = (ROOT / "docs" / "obstacles.md").read_text()
    table = trials[(trials.machine == "H200") & (trials.steps < 450)]
    for (case, crop), iou in table.groupby(["case", "crop"]).iou:
        mean, worst = (f"{value:.3f}"[1:] for value in (iou.mean(), iou.min()))
        assert len(iou) == 11 and f"| {case} | {crop:.0f} | {mean} | {worst} |" in text, (
            case,
            mean,
            worst,
        )
    here = trials[trials.machine == "2 cores"].set_index(["case", "images"]).iou
    first, second, forest = (
        here[case] for case in ("one round", "a second round, no new strokes", "the forest")
    )
    assert (
        f"{first.mean():.3f} after the first round (worst {first.min():.3f})".replace("0.", ".")
        in text
    )
    assert (
        f"{second.mean():.3f} after a second without new strokes ({second.min():.3f})".replace(
            "0.", "."
        )
        in text
    )
    known = forest[first.index].mean()  # on the same images
    means = (
        f"{first.mean():.2f} from scratch, a second one {second.mean():.2f}, the forest {known:.2f}"
    )
    assert means.replace("0.", ".") in README
    measured = pd.read_csv(ROOT / "benchmarks" / "results.csv").query("topic == 'rounds'").value
    known, *guessed = (f"{value:.3f}"[1:] for value in measured)
    assert (
        "{} and {} on the forest's guess, {} and {} on the network's own averages".format(*guessed)
        in text
    )
    assert f"averages; the forest has {known} there" in text


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_every_switch_is_in_the_deviation_table():
    rows = "\n".join(line for line in README.splitlines() if re.match(r"\| D\d|\| \|", line))
    for number in range(1, 21):
        assert f"| D{number} |" in rows
    named = set(re.findall(r"`([a-z_]+)`", rows))
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    values = {
        "same",
        "and",
        "or",
        "mean",
        "balanced",
        "scribble",
        "unanimous",
        "pseudo",
        "scribbles",
        "corrected",
        "zero",
    }
    values |= {
        "constant",
        "cosine",
        "best",
        "last",
        "imagenet",
        "stretch",
        "skeleton",
        "batch",
        "image",
        "demo",
        "cpu",
    }
    assert named <= fields | values | set(METHODS) | set(PROFILES)


def test_profiles_are_all_described():
    assert all(f"| `{profile}` |" in README for profile in PROFILES)


def test_the_licence_of_monuseg_is_said_there_and_beside_what_shows_it():
    for file in ("LICENSE", "data/LICENSE.md", "figures/LICENSE.md", "README.md"):
        text = (ROOT / file).read_text()
        assert "MoNuSeg" in text and "CC BY-NC-SA 4.0" in text, file
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for file in (ROOT / "figures").rglob("*.png"):
        with Image.open(file) as picture:
            shows = any(name.startswith("monuseg") for name in picture.text["RunIds"].split())
            assert ("CC BY-NC-SA 4.0" in picture.text.get("Copyright", "")) == shows, file
