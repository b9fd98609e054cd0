"""Kinds of values on the command line: each reads a word, or says what is wrong with it."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def path(text: str) -> Path:
    """A file or a folder; ~ is the person's own folder."""
    return Path(text).expanduser()


def pixels(text: str) -> int:
    """A number of pixels."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number of pixels, such as 64")
    return int(text)


def micrometres(text: str) -> float:
    """A length in micrometres."""
    return _positive(text, "no length in micrometres, such as 0.25")


def add_pixel_size(parser: ArgumentParser) -> None:
    """The option `--pixel-size`, which several commands have."""
    parser.add_argument(
        "--pixel-size",
        metavar="UM",
        type=micrometres,
        help="side of a pixel in micrometres: adds areas and lengths in micrometres to the tables",
    )


def share(text: str) -> float:
    """A probability that is neither 0 nor 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return number


def width(text: str) -> float | str:
    """The width of a nucleus in pixels, or the word auto."""
    if text == "auto":
        return text
    return _positive(text, "neither a width in pixels nor auto")


def _positive(text: str, otherwise: str) -> float:
    """A finite number above 0; `otherwise` says what any other text is."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text!r} is {otherwise}")
    return number
