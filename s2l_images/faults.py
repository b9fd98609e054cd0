"""Findings about a folder of one's own, and the errors that stop its reading.

Every kind of finding, its level, what was expected and what to do stand in `input_faults.toml`;
`docs/bad_inputs.md` explains each at more length, and a test holds the two against each other.
"""

import json
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from xml.sax import SAXParseException

from defusedxml import DefusedXmlException

from s2l_core.config import S2LError

LEVELS = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of finding: its level, what was expected (a note may expect nothing), what to do."""

    level: str
    expected: str
    remedy: str


def _kinds() -> dict[str, Kind]:
    table = tomllib.loads(files("s2l_images").joinpath("input_faults.toml").read_text("utf-8"))
    return {
        code: Kind(entry["level"], entry.get("expected", ""), entry["remedy"])
        for code, entry in table.items()
    }


FAULT_KINDS = _kinds()


@dataclass(frozen=True)
class Finding:
    """One thing found: its code (a key of `FAULT_KINDS`), the file or folder, and what was seen."""

    code: str
    file: Path
    found: str

    @property
    def level(self) -> str:
        """`error`, `warning` or `note`."""
        return FAULT_KINDS[self.code].level

    @property
    def expected(self) -> str:
        """What was expected instead."""
        return FAULT_KINDS[self.code].expected

    @property
    def remedy(self) -> str:
        """What to do."""
        return FAULT_KINDS[self.code].remedy

    def __str__(self) -> str:
        said = f"{self.file}: {self.found}"
        if self.expected:
            said = f"{said}; expected {self.expected}"
        return plain(f"{said}. {self.remedy}")


class Fault(S2LError):
    """A finding that stops the reading."""

    def __init__(self, code: str, file: Path, found: str):
        self.finding = Finding(code, file, found)
        super().__init__(str(self.finding))


def listed(names: Sequence[object], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def plain(text: str) -> str:
    """A text in which bytes that are no UTF-8, as in names of files, appear as their codes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """A plain text that this terminal can print; other characters appear as their codes."""
    text = plain(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def plainly(error: Exception) -> str:
    """What went wrong in words for people: no name of a class, no address in memory."""
    match error:
        case json.JSONDecodeError():
            return f"no JSON ({error.msg} in line {error.lineno}, column {error.colno})"
        case SAXParseException():
            return f"no whole XML ({error.getMessage()} in line {error.getLineNumber()})"
        case DefusedXmlException():
            return "its XML declares entities, which are not followed"
        case UnicodeError():
            return "its text is not UTF-8"
        case KeyError():
            return f"{error.args[0]!r:.80} is missing"
        case zipfile.BadZipFile():
            return "no whole ZIP archive"
        case RecursionError():
            return "it is nested too deeply"
        case OSError():
            return error.strerror or "the system refuses it"
    text = " ".join(str(error).split())[:200]
    if isinstance(error, ValueError) and text and " at 0x" not in text:
        return text
    return "its content does not follow the format"
