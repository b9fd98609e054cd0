"""The folder that a user means by a name, and an example for those who have none yet."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from s2l_core.config import S2LError
from s2l_core.images import CellImage
from s2l_images.places import own_strokes
from s2l_images.reading.pictures import PICTURES
from s2l_images.strokes import Stroke, write_strokes

NEIGHBOURS_LISTED = 8  # names that are listed beside a folder that is not there


def find_folder(text: str) -> Path:
    """A folder by the name that a user gave.

    Args:
        text: an absolute path, one that begins with ~, or one seen from where the kernel runs.

    Raises:
        S2LError: there is no such folder; says where it was looked for, and what is beside it.
    """
    looked = Path(text).expanduser().absolute()
    if looked.is_dir():
        return looked
    what = "is a file" if looked.exists() else "is not there"

    # The nearest folder that is there shows where the name goes wrong.
    near = looked.parent
    while not near.is_dir():
        near = near.parent
    names = sorted(path.name for path in near.iterdir() if path.is_dir() and path.name[0] != ".")
    beside = ", ".join(names[:NEIGHBOURS_LISTED]) or "no folder"
    if len(names) > NEIGHBOURS_LISTED:
        beside += f" and {len(names) - NEIGHBOURS_LISTED} more"

    raise S2LError(
        f"folder = {text!r}: {looked} {what}. {near} holds {beside}. Give the whole path, such as "
        f"{Path.home() / 'my-cells'}, of the folder that holds images/ with "
        f"{', '.join(sorted(PICTURES)[:3])} or other pictures."
    )


def write_example(
    folder: Path, cells: Iterable[CellImage], strokes: Mapping[str, list[Stroke]]
) -> None:
    """Writes images, and strokes where none are yet, as a person's own folder holds them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        Image.fromarray(cell.image).save(folder / "images" / f"{cell.id}.png")

    drawn = own_strokes(folder)
    if not drawn.exists():
        drawn.parent.mkdir(exist_ok=True)
        write_strokes(drawn, strokes, {"annotator": "simulated"})
