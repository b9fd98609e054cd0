"""Commands about one's own images, `s2l check`, `predict` and `export`; and what all share.

A command is data: what it is called, what it says of itself, its arguments, and a function. The
libraries that a command needs are imported by its function, so that `s2l --help` is there at once.
"""

import argparse
import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2l_core.config import S2LError, check_choice, suggestion

UNSURE_LISTED = 10  # images that the summary of a prediction names


class UsageError(S2LError):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are sentences that name the nearest right word."""

    def __init__(self, **options):
        """As in argparse, but no option may be shortened."""
        self.options: list[str] = []
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=layout, **options)

    def add_argument(self, *names, **options):
        """As in argparse; names of options are remembered for `parse`."""
        self.options += [name for name in names if name.startswith("-")]
        return super().add_argument(*names, **options)

    def parse(self, words: Sequence[str]) -> Namespace:
        """Reads the words after the command's name.

        Raises:
            UsageError: an unknown option, a missing argument or a value of the wrong kind.
        """
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            is_number = re.fullmatch(r"-\d*\.?\d+(e[+-]?\d+)?", word)
            if not name.startswith("-") or name in self.options or is_number:
                continue
            if Path(word).exists():
                self.error(f"{word} looks like an option. Write ./{word}")
            self.error(f"there is no option {name!r}.{suggestion(name, self.options)}")

        given, unknown = self.parse_known_args(words)
        if unknown:
            self.error(
                f"{unknown[0]!r} is one word too many. Put quotes around a name with spaces."
            )
        return given

    def error(self, message: str) -> None:
        """Raises what argparse would print."""
        message = message.removesuffix(".")
        raise UsageError(f"{message}. `{self.prog} --help` explains the command.")


@dataclass(frozen=True)
class Command:
    """A command of `s2l`.

    Attributes:
        summary: what it does, in half a line.
        about: what a person should know who has never used it.
        examples: lines to copy.
        arguments: adds its arguments to a parser.
        run: does it; returns the exit code.
        extra: the extra of this package that brings the libraries it needs.
    """

    summary: str
    about: str
    examples: tuple[str, ...]
    arguments: Callable[[Parser], object]
    run: Callable[[Namespace], int]
    extra: str


def main(
    name: str, title: str, groups: Mapping[str, Mapping[str, Command]], words: Sequence[str]
) -> int:
    """Runs one of several commands; whatever a user can cause ends as a sentence.

    Args:
        name: of the program.
        title: what it is, in one line.
        groups: heading -> commands by name.
        words: the command's name and what follows it.

    Returns:
        The exit code: 1 after an error, 2 where the words were not understood.
    """
    # What this terminal cannot show, such as a file name that is no UTF-8, appears escaped.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    commands = {key: command for group in groups.values() for key, command in group.items()}
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(_overview(name, title, groups))
            return 0
        if words[0] == "--version":
            from s2l_core import __version__

            print(name, __version__)
            return 0
        _check_command(name, words[0], commands)
        code = _run(f"{name} {words[0]}", commands[words[0]], words[1:])
        sys.stdout.flush()
        return code
    except S2LError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; Python must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check_command(name: str, word: str, commands: Mapping[str, Command]) -> None:
    """Raises a UsageError unless `word` is one of the commands."""
    try:
        check_choice("command", word, commands)
    except S2LError as error:
        raise UsageError(f"{error} `{name} --help` lists them.") from None


def _run(name: str, command: Command, words: Sequence[str]) -> int:
    """Reads the arguments of one command, and does it."""
    examples = "\n".join(f"  {example}" for example in command.examples)
    parser = Parser(
        prog=name,
        description=f"{command.about}",
        epilog=f"{'examples' if len(command.examples) > 1 else 'example'}:\n{examples}",
    )
    command.arguments(parser)
    given = parser.parse(words)
    try:
        return command.run(given)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("s2l_"):
            raise
        install = f"pip install 's2l-core[{command.extra}]'"
        raise S2LError(f"{name} needs {error.name}. Install it: {install}") from error


def _overview(name: str, title: str, groups: Mapping[str, Mapping[str, Command]]) -> str:
    """The text of `s2l --help`."""
    lines = [f"usage: {name} COMMAND ...", "", title]
    for heading, commands in groups.items():
        lines += ["", heading]
        lines += [f"  {key:<10}{command.summary}" for key, command in commands.items()]
    return "\n".join([*lines, "", f"`{name} COMMAND --help` explains a command, with an example."])


def _check_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=_path, help="holds images/")


def _check(given: Namespace) -> int:
    """Prints the report of a folder; 1 where there is an error."""
    from s2l_images.input_checks import check_folder, report

    found = check_folder(given.folder)
    print(report(given.folder, found))
    return int(any(finding.level == "error" for finding in found))


def _predict_arguments(parser: Parser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=_path, help="a model.safetensors that training has saved"
    )
    parser.add_argument("folder", metavar="FOLDER", type=_path, help="holds images/")
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=_path,
        help="where the results go (default: s2l/export in the folder of the images)",
    )
    parser.add_argument(
        "--min-size",
        metavar="N",
        type=_pixels,
        help="leave out objects of fewer pixels (default: a third of the smallest nucleus drawn)",
    )
    parser.add_argument(
        "--pixel-size",
        metavar="UM",
        type=_micrometres,
        help="side of a pixel in micrometres: adds areas and lengths in micrometres to the tables",
    )
    parser.add_argument(
        "--threshold",
        metavar="P",
        type=_share,
        default=0.5,
        help="call nucleus what is more probable than this (default: 0.5)",
    )
    parser.add_argument(
        "--split",
        metavar="PIXELS",
        type=_width,
        help="tell touching nuclei apart by the width of a usual one, or auto to have it measured "
        "(default: they stay together)",
    )


def _share(text: str) -> float:
    """A probability, from the command line."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability between 0 and 1")
    return share


def _width(text: str) -> float | str:
    """The width of a nucleus, from the command line."""
    return text if text == "auto" else _positive(text, "neither a width in pixels nor auto")


def _predict(given: Namespace) -> int:
    """Predicts a folder, and says what was found in it."""
    from s2l_images import prediction
    from s2l_images.places import own_results

    target = given.to or own_results(given.folder) / "export"
    choices = {
        "min_size": given.min_size,
        "pixel_size": given.pixel_size,
        "threshold": given.threshold,
        "split": given.split,
    }
    try:
        prediction.predict_folder(given.model, given.folder, given.to, **choices)
    except prediction.ImagesLeftOut:
        print(_summary(target, given.folder))
        raise
    print(_summary(target, given.folder))
    return 0


def _summary(target: Path, folder: Path) -> str:
    """What a prediction came to, and the images that deserve a look first."""
    from s2l_images.folder import survey
    from s2l_images.journal import predictions

    # The notes may name images that were taken out of the folder since.
    there = survey(folder).files["images"]
    found = {name: one for name, one in predictions(target).items() if name in there and one.key}
    nuclei = sum(one.nuclei for one in found.values())
    lines = [f"{len(found):,} images, {nuclei:,} nuclei"]

    unsure = [(name, one) for name, one in found.items() if one.unsure > 0]
    if unsure:
        lines.append("Look at the least sure ones first, and draw where they are wrong:")
        for name, one in unsure[:UNSURE_LISTED]:
            lines.append(f"  {one.unsure:6.1%} of the pixels unsure, {one.nuclei} nuclei: {name}")
        if len(unsure) > UNSURE_LISTED:
            lines.append(f"  ... and {len(unsure) - UNSURE_LISTED} that are surer")
    lines.append(f"{target}: label images (.tif), ImageJ (.zip), QuPath (.geojson), tables (.csv)")
    return "\n".join(lines)


PROGRAMS = ("imagej", "qupath")  # that open strokes as lines


def _export_arguments(parser: Parser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", type=_path, help="holds images/, and scribbles/ or masks/"
    )
    parser.add_argument("--to", metavar="FOLDER", type=_path, help="where the files go")
    parser.add_argument(
        "--program",
        metavar="NAME",
        default="qupath",
        help="that is to open the strokes: imagej or qupath (default: qupath)",
    )
    parser.add_argument(
        "--pixel-size",
        metavar="UM",
        type=_micrometres,
        help="side of a pixel in micrometres: adds areas and lengths in micrometres to the tables",
    )
    parser.add_argument(
        "--bioimageio",
        metavar="FILE",
        type=_path,
        help="write the model as a BioImage.IO package, a .zip (docs/elsewhere.md)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=_path,
        help="for --bioimageio: a model.safetensors (default: the one in use in FOLDER)",
    )
    parser.add_argument(
        "--licence",
        metavar="NAME",
        help="for --bioimageio: of the model, as SPDX calls it, such as CC-BY-4.0 (default: what its "
        "parts ask for)",
    )
    parser.add_argument("--author", metavar="NAME", help="for --bioimageio: whom the package names")
    parser.add_argument(
        "--force", action="store_true", help="for --bioimageio: replace FILE if it is there"
    )


def _export(given: Namespace) -> int:
    """Writes the strokes, the nuclei and the model of a folder for other programs."""
    if given.to is None and given.bioimageio is None:
        raise UsageError(
            "the following arguments are required: --to FOLDER for strokes and nuclei, or "
            "--bioimageio FILE for the model. `s2l export --help` explains the command."
        )
    about_model = {
        "--model": given.model,
        "--licence": given.licence,
        "--author": given.author,
        "--force": given.force,
    }
    for option, value in about_model.items():
        if value and given.bioimageio is None:
            raise UsageError(f"{option} is for --bioimageio FILE, which is missing. Add it.")

    # A package that cannot be written says so before anything else is.
    if given.bioimageio:
        from s2l_images.bioimage import pack

        print(
            pack(
                given.folder,
                given.bioimageio,
                model_file=given.model,
                licence=given.licence,
                author=given.author,
                force=given.force,
            )
        )
    return _export_drawn(given) if given.to else 0


def _export_drawn(given: Namespace) -> int:
    """Writes strokes and nuclei."""
    from s2l_images import exports, prediction
    from s2l_images.folder import read_folder, sound
    from s2l_images.pictures import raw_channels

    check_choice("program", given.program, PROGRAMS)
    listing = sound(given.folder)
    strokes, nuclei = given.to / "strokes", given.to / "nuclei"
    if given.to.resolve() == given.folder.resolve():
        raise S2LError(f"{given.to}: is the folder that is read. Name another one: --to FOLDER.")

    # Strokes as lines, so that they can be changed there.
    drawn = []
    if listing.strokes:
        drawn = exports.export_strokes(given.folder, _made(strokes), given.program)

    # Nuclei in all four ways, as a prediction leaves them; one image in memory at a time.
    for name in listing.masked:
        (cell,) = read_folder(given.folder, [name])
        measured = raw_channels(listing.files["images"][name][0])
        prediction.write_nuclei(
            _made(nuclei) / name, cell.instances, measured, pixel_size=given.pixel_size
        )

    print(f"{given.to}: strokes of {len(drawn)}, nuclei of {len(listing.masked)} images")
    other = len(listing.scribbled) - len(listing.strokes)
    if other:
        print(f"Scribbles of {other} images are files of another program already: not copied.")
    return 0


def _made(folder: Path) -> Path:
    """A folder for results, made where it is not there.

    Raises:
        S2LError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{folder}: cannot be made ({error.strerror})"
        raise S2LError(f"{reason}. Name another folder: --to FOLDER.") from error
    return folder


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _pixels(text: str) -> int:
    """A number of pixels, from the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels, such as 64")
    return int(text)


def _micrometres(text: str) -> float:
    """A length in micrometres, from the command line."""
    return _positive(text, "no length in micrometres, such as 0.25")


def _positive(text: str, otherwise: str) -> float:
    """A finite number above 0, from the command line; `otherwise` says what any other text is."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is {otherwise}")
    return number


COMMANDS = {
    "check": Command(
        summary="say what is wrong with a folder of images, before anything is trained",
        about="""\
Looks at every file of a folder with images/, and scribbles/ or masks/ if you have them: files that
cannot be read, labels that do not fit, values that mean something else than you think. Nothing is
changed. Errors stop training, warnings do not; docs/bad_inputs.md explains each of them.""",
        examples=("s2l check my-cells",),
        arguments=_check_arguments,
        run=_check,
        extra="images",
    ),
    "predict": Command(
        summary="find the nuclei in all images of a folder, with a model that was trained before",
        about="""\
Predicts every image in images/ of a folder. Each leaves four files: a label image (.tif), outlines
for ImageJ (.zip) and for QuPath (.geojson), and a table with a row for each nucleus (.csv). Stopped
or killed, the same command goes on where it was. At the end it names the images that the model is
least sure of.""",
        examples=(
            "s2l predict my-cells/s2l/model.safetensors more-cells",
            "s2l predict model.safetensors /media/microscope --to results --pixel-size 0.25",
        ),
        arguments=_predict_arguments,
        run=_predict,
        extra="images",
    ),
    "export": Command(
        summary="write drawn strokes, masks and the model for other programs",
        about="""\
Writes what you have of a folder for another program: strokes that were drawn in notebook 08 as
lines that can be changed there, and masks as a label image (.tif), outlines for ImageJ (.zip) and
QuPath (.geojson), and a table with a row for each nucleus (.csv). With --bioimageio it writes the
model that is in use in the folder as a BioImage.IO package, which ilastik, deepImageJ and QuPath
are made to read. A piece of one of your images goes into it as the example.""",
        examples=(
            "s2l export my-cells --to for-qupath",
            "s2l export my-cells --bioimageio model.zip --licence CC-BY-4.0 --author 'A. Name'",
        ),
        arguments=_export_arguments,
        run=_export,
        extra="images",
    ),
}
