"""The drawing widget for JupyterLab: strokes of two classes on images, on disk as soon as they are
drawn.
"""

import functools
import io
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from s2l_core.config import IGNORE, S2LError, digest
from s2l_core.images import CellImage, intensity_range
from s2l_images.files import alone
from s2l_images.strokes import UNIT, Stroke, decode, encode, read_strokes, render, write_strokes

LARGEST_SHOWN = 2**26  # pixels of an image, 8192 x 8192: more is beyond what browsers draw reliably
# Of an image's strokes: nobody draws more points, and a wider brush (in pixels) is a mistake.
MOST_POINTS, WIDEST_BRUSH = 10**6, 256
SAVING = (
    threading.Lock()
)  # Jupyter may hand us a stroke in a thread of its own, while a cell is running
YELLOW, PINK, BACKGROUND, FOREGROUND = (
    (240, 228, 66),
    (204, 121, 167),
    (47, 143, 224),
    (255, 140, 0),
)


class Scribbler(anywidget.AnyWidget):
    """Shows images one by one, with brushes for foreground and background and an eraser.

    Args:
        cells: CellImages of at most `LARGEST_SHOWN` pixels; of a folder of one's own those of
            `load_dataset`.
        file: JSON of `write_strokes`, read if it is there. It is written after every stroke, whole
            or not at all, and keeps the strokes of images that are not among `cells`.

    Raises:
        S2LError: no image, an image that is too large, or a file of strokes that cannot be read.
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")
    images = traitlets.List().tag(
        sync=True
    )  # for each: its id, and how many strokes of each class it has
    index = traitlets.Int(0).tag(sync=True)  # of the image that is shown
    message = traitlets.Unicode("").tag(sync=True)  # what is wrong, and what to do
    key = traitlets.Unicode("").tag(
        sync=True
    )  # under which the browser keeps what is not on disk yet

    def __init__(self, cells: Sequence[CellImage], file: Path):
        if not cells:
            raise S2LError(
                "no image to draw on. Put PNG, JPEG or TIFF files into the folder's images/."
            )
        for cell in cells:
            if (pixels := cell.image[..., 0].size) > LARGEST_SHOWN:
                raise S2LError(
                    f"{cell.id}: {pixels:,} pixels, at most {LARGEST_SHOWN:,} can be shown. Cut it into pieces."
                )
        self.cells, self.file = {cell.id: cell.image for cell in cells}, Path(file)
        self.strokes: dict[str, list[Stroke]] = {i: [] for i in self.cells}
        self.strokes |= read_strokes(self.file) if self.file.exists() else {}
        self._layers: dict[str, dict[str, bytes]] = {i: {} for i in self.cells}
        self._regions: dict[str, list] = {}
        super().__init__(key=digest(str(self.file.resolve())), **self._summary())
        self.on_msg(self._receive)

    def open(self) -> None:
        """Tells the page of this board; called once, when it is made."""
        super().open()
        self._let_the_page_choose()

    def _send(self, msg: dict, buffers: list | None = None) -> None:
        super()._send(msg, buffers=buffers)
        self._let_the_page_choose()

    def _let_the_page_choose(self) -> None:
        """Lets the page's messages arrive in the thread that the page asks for.

        ipykernel answers from the loop that spoke last, and leads what the page says next to it,
        too: once a cell has shown a layer, strokes would wait until no cell runs. Without its notes
        of who spoke they come in JupyterLab's subshell, which listens while a cell is running.
        """
        notes = vars(self.comm) if self.comm is not None else {}
        notes.pop("_reply_subshell_id", None)
        notes.get("_reply_subshell_ids", {}).clear()

    def scribbles(self) -> dict[str, np.ndarray]:
        """Images with strokes: id -> label map (H, W) uint8 of 0, 1 and IGNORE."""
        return {
            i: render(self.strokes[i], image.shape[:2])
            for i, image in self.cells.items()
            if self.strokes[i]
        }

    def show(
        self,
        image: str,
        *,
        prediction: np.ndarray | None = None,
        pseudo_labels: np.ndarray | None = None,
        uncertainty: np.ndarray | None = None,
        regions: Iterable[tuple[float, float, float]] | None = None,
    ) -> None:
        """Lays maps over an image, also while the kernel is busy; what is None stays as it was.

        Args:
            image: its id.
            prediction: (H, W) foreground probability.
            pseudo_labels: (H, W) uint8 of 0, 1 and IGNORE.
            uncertainty: (H, W) in [0, 1].
            regions: (row, column, radius) of circles: where to draw next.
        """
        layers, shape = {}, self.cells[image].shape[:2]
        maps = {
            "prediction": prediction,
            "pseudo_labels": pseudo_labels,
            "uncertainty": uncertainty,
        }
        for name, values in maps.items():
            if values is not None and values.shape != shape:
                raise S2LError(
                    f"{name} of {image} is {values.shape}, the image {shape}. Predict whole images."
                )
            if values is not None:
                layers[name] = PAINTS[name](values)

        # A new dict, since another thread may be reading the old one.
        self._layers[image] = self._layers[image] | layers
        if regions is not None:
            self._regions[image] = [list(map(float, region)) for region in regions]

        content = {
            "kind": "layers",
            "id": image,
            "layers": list(layers),
            "regions": self._regions.get(image, []),
        }
        self.send(content, list(layers.values()))

    def _receive(self, _, content: dict, buffers: list) -> None:
        """What the browser asks: `open` an image, or save its `strokes`. Never raises: nobody would
        see it.
        """
        image = content.get("id")
        if image not in self.cells:
            return
        if content["kind"] == "open":
            self._open(image)
            return
        try:
            drawn = _decode(content["strokes"], image)
            known = self.strokes[image]  # what this page had seen before it drew
            if "known" in content:
                known = _decode(content["known"], image)

            # Another notebook may have drawn on the same folder: its strokes are read and kept.
            with SAVING, alone(self.file, across_machines=False):
                on_disk = {}
                if self.file.exists():
                    on_disk = read_strokes(self.file)
                else:
                    known = []  # who deleted the file erased no stroke of this page
                self.file.parent.mkdir(parents=True, exist_ok=True)
                merged = _merge(on_disk.get(image, []), known, drawn)
                write_strokes(self.file, on_disk | {image: merged}, {"annotator": "hand"})
        except (S2LError, OSError) as error:
            reason: object = error
            if not isinstance(error, S2LError):
                reason = f"{self.file} cannot be written ({error}). Make room."
            self.message = (
                f"Not saved: {reason} The strokes stay in this browser; the next one tries again."
            )
            return

        self.strokes |= on_disk | {image: merged}
        for name, value in self._summary().items():
            self.set_trait(name, value)
        rows = [encode(stroke) for stroke in merged]
        self.send({"kind": "saved", "id": image, "edit": content.get("edit"), "strokes": rows})

    def _open(self, image: str) -> None:
        pixels, layers = self.cells[image], self._layers[image]
        colour = bool((pixels != pixels[..., :1]).any())
        low, high = intensity_range(pixels, "stretch")
        content = {"kind": "image", "id": image, "size": pixels.shape[:2], "colour": colour}
        content |= {
            "limits": [round(low), round(high)],
            "strokes": [encode(stroke) for stroke in self.strokes[image]],
        }
        content |= {"layers": list(layers), "regions": self._regions.get(image, [])}
        self.send(content, [_png(pixels if colour else pixels[..., 0]), *layers.values()])

    def _summary(self) -> dict:
        """The traits that follow from the strokes."""
        images, message = [], ""
        for i, image in self.cells.items():
            labels = [stroke.label for stroke in self.strokes[i]]
            images.append(
                {"id": i, "foreground": sum(labels), "background": len(labels) - sum(labels)}
            )
            if beside := sum(_beside(stroke, image.shape[:2]) for stroke in self.strokes[i]):
                size = f"{image.shape[1]} x {image.shape[0]} pixels"
                message = f"{i}: {beside} of {len(labels)} strokes lie outside the image ({size}). Was it cut since?"
        return {"images": images, "message": message}


def _decode(rows: list, image: str) -> list[Stroke]:
    """Strokes from the browser's rows of whole numbers, as they stand in the file."""
    whole = isinstance(rows, list) and all(type(value) is int for row in rows for value in row)
    if not whole or any(len(row) < 3 or len(row) % 2 == 0 or not row[0] for row in rows):
        raise S2LError(
            f"the strokes of {image} did not arrive as rows of whole numbers. Reload the page."
        )
    if sum(map(len, rows)) > 2 * MOST_POINTS or any(
        abs(row[0]) * UNIT > WIDEST_BRUSH for row in rows
    ):
        raise S2LError(
            f"{image}: more than {MOST_POINTS:,} points or a brush over {WIDEST_BRUSH} px. Erase some strokes."
        )
    return [decode(row) for row in rows]


def _merge(on_disk: list[Stroke], known: list[Stroke], drawn: list[Stroke]) -> list[Stroke]:
    """The strokes of an image, where two pages or notebooks may have drawn on it.

    Args:
        on_disk: what is there now.
        known: what the page had seen there before.
        drawn: what the page shows now: it drew what is not in `known`, and erased what is missing
            from it.

    Returns:
        `drawn` as it is where nobody else drew; else what is on disk without what was erased, then
        what was drawn.
    """
    if on_disk in (known, drawn):
        return drawn
    erased = set(known) - set(drawn)
    kept = [stroke for stroke in on_disk if stroke not in erased]
    there = set(kept) | set(known)
    return kept + [stroke for stroke in drawn if stroke not in there]


def _beside(stroke: Stroke, shape: tuple[int, int]) -> bool:
    """Whether no point of a stroke is nearer to the image than half its width."""
    points, reach = np.array(stroke.points), stroke.width / 2 + 0.5
    return bool(
        (points.max(axis=0) < -reach).any()
        or (points.min(axis=0) > np.array(shape) - 1 + reach).any()
    )


def _png(values: np.ndarray, **options) -> bytes:
    """Without loss, as a dark image is shown stretched; hardly compressed, as that takes
    longest.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(values))
    if "palette" in options:
        picture.putpalette(options.pop("palette"))
    picture.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()


def _veil(values: np.ndarray, colour: tuple[int, int, int]) -> bytes:
    """(H, W) in [0, 1] as one colour, from transparent to opaque."""
    grey = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return _png(grey, palette=bytes(colour) * 256, transparency=bytes(range(256)))


def _classes(labels: np.ndarray) -> bytes:
    """Labels 0, 1 and IGNORE as blue, orange and nothing."""
    palette = bytes(BACKGROUND + FOREGROUND) + bytes(3 * 254)
    return _png(labels, palette=palette, transparency=bytes([255, 255] + [0] * (IGNORE - 1)))


PAINTS = {
    "prediction": functools.partial(_veil, colour=YELLOW),
    "pseudo_labels": _classes,
    "uncertainty": functools.partial(_veil, colour=PINK),
}
