"""The README says what is: its table is the committed one, its links lead somewhere,
its fields exist.
"""

import dataclasses
import re

import pytest
from PIL import Image

from conftest import ROOT
from s2l_core.config import METHODS, RunConfig
from s2l_core.profiles import PROFILES
from s2l_paper.texts import measured_texts, verify

README = (ROOT / "README.md").read_text()
DEVIATIONS = (ROOT / "docs" / "deviations.md").read_text()


def test_table_is_the_committed_one():
    table = (ROOT / "results" / "scratch" / "table1.md").read_text()
    assert table in (ROOT / "docs" / "results.md").read_text()


def test_every_measured_number_of_the_readme_is_generated():
    """Code and generated blocks apart, no score such as .61 and no share stands in it."""
    prose = re.sub(r"```.*?```", "", verify.GENERATED.sub("", README), flags=re.DOTALL)
    assert re.findall(r"(?<![\w.])0?\.\d+|\d %", prose) == []


def test_its_own_words_are_few():
    """Code and generated blocks apart: what a stranger reads before deciding to stay."""
    prose = re.sub(r"```.*?```", "", verify.GENERATED.sub("", README), flags=re.DOTALL)
    assert len(prose.split()) <= 900


@pytest.mark.parametrize("page", measured_texts.PAGES)
def test_no_paragraph_begins_behind_a_comment(page):
    """Such a line is HTML to a reader of Markdown, who shows its stars and brackets as they are."""
    lines = (ROOT / page).read_text().splitlines()
    assert [line for line in lines if re.match(r"<!--.*?--> *[^<\s]", line)] == []


def test_every_generated_block_is_known_and_up_to_date():
    """`verify` compares them too; a block whose name nobody makes would never be compared."""
    texts, found = measured_texts.texts(), set()
    for page in measured_texts.PAGES:
        for _, name, text, _ in verify.GENERATED.findall((ROOT / page).read_text()):
            assert text == texts[name], f"{page}: run `s2l verify --write`"
            found.add(name)
    assert found == set(texts)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_every_switch_is_in_the_deviation_table():
    rows = "\n".join(line for line in DEVIATIONS.splitlines() if re.match(r"\| D\d|\| \|", line))
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
        "labels",
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
        "scratch",
    }
    assert named <= fields | values | set(METHODS) | set(PROFILES)


def test_profiles_are_all_described():
    running = (ROOT / "docs" / "running.md").read_text()
    assert all(f"| `{profile}` |" in running for profile in PROFILES)


def test_the_licence_of_monuseg_is_said_there_and_beside_what_shows_it():
    for file in ("LICENSE", "data/LICENSE.md", "figures/LICENSE.md", "README.md"):
        text = (ROOT / file).read_text()
        assert "MoNuSeg" in text and "CC BY-NC-SA 4.0" in text, file
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for file in (ROOT / "figures").rglob("*.png"):
        with Image.open(file) as picture:
            shows = any(name.startswith("monuseg") for name in picture.text["RunIds"].split())
            assert ("CC BY-NC-SA 4.0" in picture.text.get("Copyright", "")) == shows, file
