"""What is committed names no machine and no package registry, and is small enough to clone."""

import re

from conftest import ROOT, repository_files

LARGEST = 5_000_000  # bytes of a file

# A letter in brackets keeps each pattern from finding itself here. Both are for text in lower case,
# which is eight times as fast as to ignore the case.
REGISTRY = re.compile(
    r"py[p]i\.(org|python)|python[h]osted|npm[j]s|--(extra-)?inde[x]-url|artifactor[y]"
)
PICTURE = re.compile(r"[a-z0-9+/=]{200,}")  # in a notebook; of so many letters any word may come
MACHINE = re.compile(r"(?<![\w./~-])/(wor[k]|roo[t]|hom[e]|user[s])/\w|/tmp/ipyk[e]rnel")


def test_no_file_names_a_registry_or_a_machine():
    faults = []
    for path in repository_files():
        text = PICTURE.sub("", path.read_bytes().decode("latin-1").lower())
        for found in [*REGISTRY.finditer(text), *MACHINE.finditer(text)]:
            line = text.count("\n", 0, found.start()) + 1
            said = text[found.start() : found.start() + 80]
            faults.append(f"{path.relative_to(ROOT)}:{line}: {said!r}")
    assert not faults, "\n".join(faults)


def test_the_map_of_the_packages_names_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", text.split("```\ns2l_core")[1].split("```")[0]))
    folders = [ROOT / name for name in ("s2l_core", "s2l_images", "s2l_paper")]
    there = {file.stem for folder in folders for file in folder.rglob("*.py")} - {"__init__"}
    assert not there - named


def test_no_file_is_large():
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in repository_files()}
    assert not {str(path): size for path, size in sizes.items() if size > LARGEST}
