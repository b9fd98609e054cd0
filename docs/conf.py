"""The site: README, executed notebooks, tables of faults and inputs,
and the API from the docstrings. `make site`.

Sphinx reads `docs/` alone, so what lies elsewhere is copied to `docs/read/` first (ignored by git),
links adjusted.
"""

import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path

from docutils.nodes import SkipNode, colspec, entry, table
from latex2mathml.converter import convert

HERE = Path(__file__).resolve().parent
ROOT, READ = HERE.parent, HERE / "read"
sys.path.insert(0, str(ROOT))

project = "Scribble-supervised cell segmentation, reproduced"
author = "The s2l_core authors"
copyright = "the s2l_core authors (code: MIT). What shows MoNuSeg: CC BY-NC-SA 4.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"  # the executed copies are the results; nothing is run here
nb_merge_streams = True  # lines of progress in one box
nb_render_markdown_format = "gfm"  # tables in the outputs of notebooks, as in JupyterLab
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
default_role = "code"  # single backticks of the docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
html_theme = "furo"
html_title = project
html_math_renderer = "mathml"  # see `setup`
html_show_sphinx = False
html_static_path = ["style"]
html_css_files = ["site.css"]
html_copy_source = False
suppress_warnings = ["mystnb.unknown_mime_type"]  # widget views: the picture beside them is shown

PAGES = {
    name: f"{Path(name).stem.lower()}.md"
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
}
PAGES |= {
    "README.md": "readme.md",
    "REPRODUCIBILITY.md": "reproducibility.md",
    "data/LICENSE.md": "data_licence.md",
    "figures/LICENSE.md": "figures_licence.md",
    "results/pretrained/claims.md": "ledger.md",
    "results/scratch/claims.md": "ledger_scratch.md",
}
PAGES |= {"benchmarks/README.md": "benchmarks.md"}
OWN = [file.name for file in HERE.glob("*.md") if file.name != "index.md"]
PAGES |= {f"docs/{name}": name for name in OWN}
exclude_patterns = [
    "_build",
    "screenshots",
    "read/readme.md",
    *OWN,
]  # read from their copies; the README in index.md
TITLES = {  # of pages made of tables alone
    "ledger.md": "# The ledger of the paper's claims\n\n",
    "ledger_scratch.md": "# The ledger of the runs from scratch\n\n",
}
FOLDED = ("00_", "07_", "08_")  # notebooks for those who look: their code opens on a click
BOARD = "docs/screenshots/08_first_answer.png"
WORDS = 40  # characters of a cell from which a table is one of words
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


PACKAGES = {
    "s2l_core": "The method.",
    "s2l_images": "Images and strokes of one's own.",
    "s2l_paper": "The reproduction of the paper.",
}
SECTION = """### {name}

```{{eval-rst}}
.. automodule:: {package}.{name}
   :members:
   :exclude-members: set
```
"""


def stage() -> None:
    """Copies pages, notebooks and pictures to `docs/read/`;
    an executed notebook is preferred to its source.
    """
    shutil.rmtree(READ, ignore_errors=True)
    READ.mkdir()
    executed = {page_of(file): file for file in sorted(ROOT.glob("results/*/executed/[!.]*.ipynb"))}
    for name, file in (
        {file.name: file for file in (ROOT / "notebooks").glob("*.ipynb")} | executed
    ).items():
        (READ / name).write_text(json.dumps(shown(name, json.loads(file.read_text()))))
    for name, page in PAGES.items():
        if (ROOT / name).exists():
            link = partial(
                adjust, folder=(ROOT / name).parent, above="read/" if name == "README.md" else ""
            )
            text = (ROOT / name).read_text()
            if page in TITLES:  # its headings come below one of a notebook, too
                text = TITLES[page] + text.replace("\n### ", "\n## ")
            (READ / page).write_text(LINK.sub(link, text))
    (READ / "api.md").write_text(
        "# The packages\n\nOne section a file, from the docstrings.\n\n"
        + "\n".join(map(reference, PACKAGES))
    )


def page_of(file: Path) -> str:
    """Name of an executed notebook's page: where both profiles have a copy, that of `pretrained`
    has the notebook's own name.
    """
    both = (ROOT / "results/pretrained/executed" / file.name).exists()
    return f"{file.stem}_scratch.ipynb" if both and file.parts[-3] == "scratch" else file.name


def shown(name: str, notebook: dict) -> dict:
    """A notebook as its page shows it: code folded where pictures matter more,
    and the drawing board, which lives in JupyterLab alone, as a picture.
    """
    cells = []
    for cell in notebook["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and name.startswith(FOLDED):
            tags = cell["metadata"].setdefault("tags", [])
            tags += ["hide-input"]
        cells.append(cell)
        if cell["cell_type"] == "code" and code.endswith("opened().draw()"):
            copy = BOARD.replace("/", "_")
            shutil.copy(ROOT / BOARD, READ / copy)
            text = f"![Drawing board]({copy})\n\n*The board in JupyterLab, after a first answer.*"
            cells.append({"cell_type": "markdown", "metadata": {}, "id": "board", "source": text})
    return notebook | {"cells": cells}


def reference(package: str) -> str:
    """The section of a package: what each of its files says of itself."""
    files = sorted((ROOT / package).rglob("[!_]*.py"))
    names = [".".join(file.relative_to(ROOT / package).with_suffix("").parts) for file in files]
    sections = [SECTION.format(package=package, name=name) for name in names]
    return "\n".join([f"## {package}\n\n{PACKAGES[package]}\n", *sections])


def adjust(match: re.Match, folder: Path, above: str) -> str:
    """A link of a page as the site needs it: to a page, to a copied picture,
    or plain text for a file of the code.
    """
    picture, text, target, anchor = match[1], match[2], match[3], match[4] or ""
    if "://" in target:
        return match[0]
    file = (folder / target).resolve()
    name = file.relative_to(ROOT).as_posix()
    if picture:
        copy = name.replace("/", "_")
        shutil.copy(file, READ / copy)
        return f"![{text}]({above}{copy})"
    if name in PAGES:
        return f"[{text}]({above}{PAGES[name]}{anchor})"
    if "/executed/" in name:
        return f"[{text}]({above}{page_of(file)})"
    if name.startswith("notebooks/"):
        return f"[{text}]({above}{file.name})"
    return text if text.startswith("`") else f"`{name}`"


def setup(app) -> None:
    """Tables by what they hold, and formulas as MathML, which browsers draw themselves: MathJax
    would have to come from the network.
    """
    ways = {kind: (partial(formula, display=kind), None) for kind in ("inline", "block")}
    app.connect("doctree-read", mark_tables)
    app.add_html_math_renderer(
        "mathml", inline_renderers=ways["inline"], block_renderers=ways["block"]
    )


def mark_tables(app, doctree) -> None:
    """Tells tables of words, which need room to be read, from tables of numbers."""
    for found in doctree.findall(table):
        longest = max((len(cell.astext()) for cell in found.findall(entry)), default=0)
        if longest > WORDS and len(list(found.findall(colspec))) > 2:
            found["classes"].append("words")


def formula(writer, node, display: str) -> None:
    """Writes one formula."""
    math = convert(node.astext(), display=display)
    writer.body.append(math if display == "inline" else f'<div class="formula">{math}</div>')
    raise SkipNode


stage()
