"""The site builds offline without a warning, and every link inside it leads somewhere."""

import re
import subprocess
import sys
from html import unescape
from urllib.parse import unquote

import pytest

from conftest import ROOT
from hands import CHROMIUM, PATIENCE, REASON

pytest_plugins = ["browsing"]  # a browser
pytestmark = pytest.mark.long  # the site is built from all executed notebooks

SHADE = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
SCROLLED = """[...document.querySelectorAll(".cell_output .output:has(table)")]
    .filter(output => output.scrollWidth > output.clientWidth + 1).length"""
LINK = re.compile(r'(?:href|src)="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "docs",
        str(folder),
    ]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_link_is_broken(site):
    broken, seen = [], 0
    for page in site.rglob("*.html"):
        text = page.read_text()
        for link in map(unescape, LINK.findall(text)):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            seen += 1
            file = page if not target else page.parent / unquote(target).split("?")[0]
            if not file.is_file():
                broken.append(f"{page.relative_to(site)}: {link}")
            elif (
                anchor
                and file.suffix == ".html"
                and not re.search(rf'id="{re.escape(unquote(anchor))}"', file.read_text())
            ):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert seen > 500 and not broken, "\n".join(sorted(set(broken))[:20])


def test_every_notebook_module_and_document_has_its_page(site):
    index = (site / "index.html").read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"read/{notebook.stem}.html" in index, f"docs/index.md does not list {notebook.stem}"
    reference = (site / "read/api.html").read_text()
    for module in (ROOT / "s2l_core").glob("[a-z]*.py"):
        assert f'id="module-s2l_core.{module.stem}"' in reference, module.name


def test_tables_in_outputs_and_marks_in_texts_are_rendered(site):
    """What a reader would see of Markdown that is not: rows with bars, stars around bold words."""
    pages = {page.stem: page.read_text() for page in site.rglob("*.html")}
    raw = [name for name, text in pages.items() if re.search(r"(?m)^(<p>)?\| ?[\w ]+ \|", text)]
    assert not raw, f"tables shown as text: {raw}"
    prose = {
        name: re.sub(r"(?s)<(pre|code|script|style|dt|title)\b.*?</\1>", "", text)
        for name, text in pages.items()
    }
    starred = [name for name, text in prose.items() if re.search(r"\*\*\w[^<*]*\*\*", text)]
    assert not starred, f"stars shown as text: {starred}"

    ledger = pages["06_table1"].partition('id="what-the-paper-claims-and-what-we-find"')[2]
    assert ledger.count("<table") >= 6, "the ledger that notebook 06 shows is no table"
    plain = {name: re.sub(r"</?span[^>]*>", "", text) for name, text in pages.items()}
    assert 'href="read/ledger.html">The ledger</a>' in plain["index"], "a link that leads nowhere"
    for page, profile in (("06_table1", "pretrained"), ("06_table1_scratch", "scratch")):
        assert f'profile = "{profile}"' in plain[page]
    assert pages["00_tour"].count("Show code cell source") > 5
    assert "08_first_answer.png" in pages["08_your_images"]


def test_nothing_is_loaded_from_the_network(site):
    loaded = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
    found = {match for page in site.rglob("*.html") for match in loaded.findall(page.read_text())}
    assert not found, "\n".join(sorted(found)[:20])
    method = (site / "read/03_method.html").read_text()
    assert method.count("<math ") > 15 and "\\frac" not in method, (
        "formulas are drawn by the browser itself"
    )


@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_every_page_fits_a_phone_by_day_and_by_night(site, browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="light")
    page, wide = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    for file in sorted(site.rglob("*.html")):
        page.goto(file.as_uri())
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            if page.evaluate("document.documentElement.scrollWidth") > 390:
                wide.append(f"{file.name} ({scheme})")
            shade = page.evaluate(SHADE)
            assert (sum(shade) < 3 * 128) == (scheme == "dark"), (file.name, shade)

        page.set_viewport_size({"width": 1280, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > 1280:
            wide.append(f"{file.name} on a desktop")
        if page.evaluate(SCROLLED):
            wide.append(f"a table of {file.name} on a desktop")
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(color_scheme="light")
    context.close()
    assert not wide, "these must be scrolled sideways"
