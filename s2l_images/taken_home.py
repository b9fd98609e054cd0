"""What an export has written: where it lies, and how many nuclei each image has."""

import base64
import csv
import html
import io
import os
from dataclasses import dataclass
from pathlib import Path

from s2l_images.files import write_text
from s2l_images.folders.listing import refuse_read_place
from s2l_images.places import own_export

COUNTS_FILE = "counts_per_image.csv"
LISTED = 20  # images that are listed below a cell; the file has them all


@dataclass(frozen=True)
class TakenHome:
    """An export; in a notebook it shows as its whole path, a link and a table.

    Attributes:
        folder: where the files lie.
        things: what was counted: nuclei, or objects where touching nuclei count as one.
        counts: image id -> how many.
    """

    folder: Path
    things: str
    counts: dict[str, int]

    @property
    def table(self) -> Path:
        """A CSV with a row for each image."""
        return self.folder / COUNTS_FILE

    def write(self) -> None:
        """Writes the table, unless an image's own table or a stranger's file has its name."""
        if self.table.stem in self.counts:
            return
        if self.table.exists() and not _counts(self.table):
            print(f"{self.table}: stays as it is, since no export has written it.", flush=True)
            return
        write_text(self.table, self._text())

    def _text(self) -> str:
        """The table as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("image", self.things), *self.counts.items()])
        return text.getvalue()

    def _content(self) -> str:
        """The table as an address that holds it."""
        return f"data:text/csv;base64,{base64.b64encode(self._text().encode()).decode()}"

    def __str__(self) -> str:
        return (
            f"{sum(self.counts.values())} {self.things} in {len(self.counts)} images: {self.folder}"
        )

    def _repr_html_(self) -> str:
        """JupyterLab opens files below the folder that it was started in, which is often the one
        of the notebook or the one above; from elsewhere the table can be downloaded.
        """
        links = [f'<a download="{COUNTS_FILE}" href="{self._content()}">Download {COUNTS_FILE}</a>']
        if self.table.resolve().is_relative_to(Path.cwd().resolve().parent):
            link = html.escape(os.path.relpath(self.table), quote=True)
            links.insert(0, f'<a href="{link}">Open {COUNTS_FILE}</a>')
        rows = [
            f"<tr><td>{html.escape(image)}</td><td>{count}</td></tr>"
            for image, count in list(self.counts.items())[:LISTED]
        ]
        if len(self.counts) > LISTED:
            rows.append(f"<tr><td>… {len(self.counts) - LISTED} more images</td><td></td></tr>")
        total = sum(self.counts.values())
        return (
            f"<p>{total} {self.things} in {len(self.counts)} images lie in "
            f"<code>{html.escape(str(self.folder))}</code><br>"
            f"{' · '.join(links)}</p>"
            f"<table><tr><th>image</th><th>{self.things}</th></tr>{''.join(rows)}</table>"
        )


def _counts(file: Path) -> bool:
    """True for a table that `TakenHome` has written."""
    first = file.read_bytes()[:20].split(b"\n")[0]
    return first in (b"image,nuclei", b"image,objects")


def export_folder(folder: Path, to: str) -> Path:
    """Where an export goes.

    Args:
        folder: of one's own.
        to: a name below it, or a whole path; empty: `own_export`.

    Raises:
        S2LError: it is where images, masks or scribbles are read.
    """
    if not to:
        return own_export(folder)
    target = (folder / Path(to).expanduser()).resolve()
    refuse_read_place(folder, target)
    return target
