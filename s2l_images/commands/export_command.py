"""`s2l export`: strokes, nuclei and the model of a folder, for other programs."""

import contextlib
import io
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from s2l_core.config import S2LError, check_choice
from s2l_images.commands.argument_kinds import add_pixel_size, path
from s2l_images.commands.command_line import Command, Parser, UsageError

if TYPE_CHECKING:
    from s2l_images.folders.listing import Listing


def _export_arguments(parser: Parser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", type=path, help="holds images/, and scribbles/ or masks/"
    )
    parser.add_argument("--to", metavar="FOLDER", type=path, help="where the files go")
    parser.add_argument(
        "--program",
        metavar="NAME",
        default="qupath",
        help="that is to open the strokes: imagej or qupath (default: qupath)",
    )
    add_pixel_size(parser)
    parser.add_argument(
        "--bioimageio",
        metavar="FILE",
        type=path,
        help="write the model as a BioImage.IO package, a .zip (docs/elsewhere.md)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=path,
        help="for --bioimageio: a model.safetensors (default: the one in use in FOLDER)",
    )
    parser.add_argument(
        "--licence",
        metavar="NAME",
        help="for --bioimageio: of the model, as SPDX calls it, such as CC-BY-4.0 (default: what "
        "its parts ask for)",
    )
    parser.add_argument("--author", metavar="NAME", help="for --bioimageio: whom the package names")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")


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
    }
    for option, value in about_model.items():
        if value and given.bioimageio is None:
            raise UsageError(f"{option} is for --bioimageio FILE, which is missing. Add it.")

    # Whatever cannot be written says so before anything is.
    listing = _checked_drawn(given) if given.to else None
    if given.bioimageio:
        from s2l_images.exporting.bioimage import pack

        said = pack(
            given.folder,
            given.bioimageio,
            model_file=given.model,
            licence=given.licence,
            author=given.author,
            force=given.force,
        )
        print(said)
    if listing is not None:
        _export_drawn(given, listing)
    return 0


def _checked_drawn(given: Namespace) -> "Listing":
    """What lies in the folder, once all of it can be read and nothing stands in the way.

    Raises:
        S2LError: an unknown program, a target that is the folder or has such files, a damaged file.
    """
    from s2l_images.exporting.export_strokes import STROKES
    from s2l_images.folders.folder import read_folder
    from s2l_images.folders.listing import refuse_read_place, sound
    from s2l_images.nuclei.one_image import EXPORTED_SUFFIXES

    check_choice("program", given.program, STROKES)
    listing = sound(given.folder)
    strokes, nuclei = given.to / "strokes", given.to / "nuclei"
    refuse_read_place(given.folder, given.to)

    # What is there may have been changed in another program since.
    files = [strokes / f"{name}{STROKES[given.program][0]}" for name in listing.strokes]
    files += [nuclei / f"{name}{kind}" for name in listing.masked for kind in EXPORTED_SUFFIXES]
    there = [file for file in files if file.exists()]
    if there and not given.force:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise S2LError(
            f"{there[0]}: exists already{more}. Name another folder: --to FOLDER, or replace what "
            "is there: --force."
        )
    for name in listing.masked:
        with contextlib.redirect_stdout(io.StringIO()):  # warnings come when it is written
            read_folder(given.folder, [name])
    return listing


def _export_drawn(given: Namespace, listing: "Listing") -> None:
    """Writes strokes and nuclei."""
    from s2l_images.exporting.export_strokes import export_strokes
    from s2l_images.folders.folder import read_folder
    from s2l_images.nuclei.one_image import write_nuclei
    from s2l_images.reading.pictures import raw_channels

    # Strokes as lines, so that they can be changed there.
    strokes, nuclei = given.to / "strokes", given.to / "nuclei"
    drawn = []
    if listing.strokes:
        drawn = export_strokes(given.folder, _made(strokes), given.program)

    # Nuclei in all four ways, as a prediction leaves them; one image in memory at a time.
    for name in listing.masked:
        (cell,) = read_folder(given.folder, [name])
        measured = raw_channels(listing.files["images"][name][0])
        write_nuclei(_made(nuclei) / name, cell.instances, measured, pixel_size=given.pixel_size)

    drawn_on, masked = len(drawn), len(listing.masked)
    print(f"{given.to}: strokes of {drawn_on} and nuclei of {masked} images are written")
    other = len(set(listing.scribbled) - set(listing.strokes))
    if other:
        print(
            f"Scribbles of {other} images are files of another program already and are not copied."
        )


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


EXPORT = Command(
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
)
