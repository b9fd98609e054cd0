"""The strokes that were drawn with the widget, as files of other programs."""

from pathlib import Path

from s2l_core.config import S2LError
from s2l_images.exporting.export_imagej import stroke_rois
from s2l_images.exporting.export_qupath import stroke_features
from s2l_images.exporting.exports import save
from s2l_images.folders.listing import sound
from s2l_images.places import own_strokes
from s2l_images.strokes import read_strokes

# How strokes are written for a program: the suffix of its files, and their content.
STROKES = {"imagej": (".zip", stroke_rois), "qupath": (".geojson", stroke_features)}


def export_strokes(folder: Path, to: Path, kind: str = "imagej") -> list[Path]:
    """The strokes drawn with the widget, for other programs: one file for each image that was drawn
    on.

    Args:
        folder: One's own, see `places`.
        to: The folder for the files; it is made.
        kind: One of `STROKES`.

    Returns:
        The files. Strokes on what is no image of the folder are left out, and it is printed.

    Raises:
        S2LError: an unknown kind, no strokes, or files that cannot be read or written.
    """
    if kind not in STROKES:
        raise S2LError(f"kind {kind!r}; expected one of {', '.join(STROKES)}. Choose one.")
    file = own_strokes(folder)
    if not file.exists():
        raise S2LError(
            f"{file}: no such file; expected the strokes of notebook 08. Draw some first."
        )
    suffix, write = STROKES[kind]
    files, images = [], set(sound(folder).ids)
    for image, strokes in read_strokes(file).items():
        if strokes and image in images:
            files.append(Path(to) / f"{image}{suffix}")
            save(files[-1], write(strokes))
        elif strokes:
            print(f"{file}: strokes on {image!r} are left out, which is no image of {folder}")
    return files
