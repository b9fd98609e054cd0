"""The drawing widget for JupyterLab: what a page is shown, and what it asks for.

`saving.py` writes what was drawn, and `layers.py` paints what lies over an image.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from skimage.segmentation import find_boundaries

from s2l_core.config import S2LError, digest
from s2l_core.images import CellImage, intensity_range
from s2l_images.board.layers import BACKGROUND, FOREGROUND, PAINTS, classes, packed_outlines, png
from s2l_images.board.saving import from_page, save
from s2l_images.strokes import Stroke, encode, read_strokes, render

LARGEST_SHOWN = 2**26  # pixels of an image, 8192 x 8192: more is beyond what browsers draw reliably
OUTLINE = (57, 255, 136)  # green
NOT_COUNTED = -1  # objects of an image that nobody has counted at this threshold

# The objects (H, W) of an image, by its id and a threshold.
Objects = Callable[[str, float], np.ndarray]


class Scribbler(anywidget.AnyWidget):
    """Shows images one by one, with brushes for foreground and background and an eraser.

    Args:
        cells: CellImages of at most `LARGEST_SHOWN` pixels; of a folder of one's own those of
            `read_folder`.
        file: JSON of `write_strokes`, read if it is there. It is written after every stroke, whole
            or not at all, and keeps the strokes of images that are not among `cells`.
        foreign: image id -> (H, W) uint8 of 0, 1 and IGNORE: what was drawn in another program. It
            is shown and counts, and nobody can draw on such an image here.
        pixel_size: micrometres of an image by its id, or None where they are not known.

    Raises:
        S2LError: no image, an image that is too large, or a file of strokes that cannot be read.
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")
    # For each: its id, how many strokes of each class and how many objects it has, and at how many
    # places a stroke would help.
    images = traitlets.List().tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)  # of the image that is shown
    message = traitlets.Unicode("").tag(sync=True)  # what is wrong, and what to do
    # Under which the browser keeps what is not on disk yet.
    key = traitlets.Unicode("").tag(sync=True)

    # Whose objects are outlined (`name`), what they are called (`things`), and the threshold that
    # held-out strokes are for (`usual`); empty until there is an answer.
    answer = traitlets.Dict().tag(sync=True)
    threshold = traitlets.Float(0.5).tag(sync=True)  # that is shown, and exported
    status = traitlets.Unicode("").tag(sync=True)  # what a round that learns has to say
    share = traitlets.Float(-1.0).tag(sync=True)  # of that round that is done; below 0: none learns

    def __init__(
        self,
        cells: Sequence[CellImage],
        file: Path,
        *,
        foreign: Mapping[str, np.ndarray] | None = None,
        pixel_size: Callable[[str], float | None] = lambda image: None,
    ):
        if not cells:
            raise S2LError(
                "no image to draw on. Put PNG, JPEG or TIFF files into the folder's images/."
            )
        for cell in cells:
            pixels = cell.image[..., 0].size
            if pixels > LARGEST_SHOWN:
                raise S2LError(
                    f"{cell.id}: {pixels:,} pixels, at most {LARGEST_SHOWN:,} can be shown. "
                    "Cut it into pieces."
                )

        # What is drawn on.
        self.cells, self.file = {cell.id: cell.image for cell in cells}, Path(file)
        self.strokes: dict[str, list[Stroke]] = {i: [] for i in self.cells}
        if self.file.exists():
            self.strokes |= read_strokes(self.file)
        self.foreign = dict(foreign or {})
        self.pixel_size = pixel_size
        self.on_stop: Callable[[], object] = lambda: None  # the page asks a round to stop

        # What lies over it.
        self._layers: dict[str, dict[str, bytes]] = {i: {} for i in self.cells}
        self._layers |= {i: {"foreign": classes(labels)} for i, labels in self.foreign.items()}
        self._regions: dict[str, list] = {}
        self._objects: Objects | None = None
        self._outlines: dict[str, bytes] = {}
        self._counts: dict[str, int] = {}
        # (image, page) -> of the last edit that was saved: what the page knew, and what it drew
        self._last_edits: dict[tuple[str, str], tuple[list[Stroke], list[Stroke]]] = {}
        self._trouble = ""  # why objects of an image could not be told apart
        self._counting = threading.RLock()

        super().__init__(key=digest(str(self.file.resolve())), **self._summary())
        self.on_msg(self._receive)

    def open(self) -> None:
        """Tells the page of this board; called once, when it is made."""
        super().open()
        if self.comm is not None:
            self.comm._reply_subshell_for = self._where_it_listens

    def _where_it_listens(self, _, asked: str | None) -> str | None:
        """The subshell in which the kernel handles what the page says: the one it asks for.

        ipykernel calls this, and by itself would choose the loop that spoke last: once a cell has
        shown a layer, strokes would wait until no cell runs. A page may also ask for a subshell of
        a kernel that has died; then the main loop hears it.
        """
        there = self.comm.kernel.shell_channel_thread.manager.list_subshell()
        return asked if asked in there else None

    def scribbles(self) -> dict[str, np.ndarray]:
        """Images with strokes: id -> label map (H, W) uint8 of 0, 1 and IGNORE."""
        drawn = {}
        for i, image in self.cells.items():
            if i in self.foreign:
                drawn[i] = self.foreign[i]
            elif self.strokes[i]:
                drawn[i] = render(self.strokes[i], image.shape[:2])
        return drawn

    @property
    def moved(self) -> bool:
        """Whether somebody moved the threshold from where held-out strokes are for it."""
        usual = self.answer.get("usual", self.threshold)
        return abs(self.threshold - usual) > 1e-6

    def outline(
        self, name: str, objects: Objects, threshold: float, *, things: str = "nuclei"
    ) -> None:
        """Outlines and counts the objects of an answer on every image.

        A threshold that somebody chose on the board stays, unless another answer is shown.

        Args:
            name: of the answer, such as Forest.
            objects: called with the id of an image and a threshold, gives its objects (H, W).
            threshold: where foreground begins, as it follows from held-out strokes.
            things: what the objects are called.
        """
        chosen = threshold
        if self.moved and self.answer.get("name") == name:
            chosen = self.threshold
        with self._counting:
            self._objects = None  # so that nothing is outlined on the way
            self.answer = {"name": name, "things": things, "usual": threshold}
            self.threshold = chosen
            self._objects = objects
            self._counts, self._trouble = {}, ""
            self._count_all()

    @traitlets.observe("threshold")
    def _outline_anew(self, _) -> None:
        """The open image follows the slider; all others are counted when it comes to rest."""
        if self._objects is None:
            return
        with self._counting:
            self._counts, self._trouble = {}, ""
            self._count(self.images[self.index]["id"])
            self._tell()

    def _count_all(self) -> None:
        """Counts the objects of all images that are not counted yet, the open one first."""
        with self._counting:
            open_now = self.images[self.index]["id"]
            for image in sorted(self.cells, key=lambda image: image != open_now):
                self._count(image)
            self._tell()

    def _count(self, image: str) -> None:
        if self._objects is None or image in self._counts:
            return
        try:
            found = self._objects(image, self.threshold)
        except S2LError as error:  # such as a split into too many pieces
            self._trouble = f"{image}: {error}"
            found = np.zeros(self.cells[image].shape[:2], np.int32)
        self._counts[image] = len(np.unique(found[found > 0]))
        self._outlines[image] = packed_outlines(found)
        self._send_outlines(image)

    def _send_outlines(self, image: str) -> None:
        if image in self._outlines:
            self.send({"kind": "outlines", "id": image}, [self._outlines[image]])

    def _tell(self) -> None:
        """Tells the page what follows from strokes and objects."""
        for name, value in self._summary().items():
            self.set_trait(name, value)

    def picture(self, image: str | None = None, found: np.ndarray | None = None) -> np.ndarray:
        """An image as the board shows it, with strokes and outlines: (H, W, 3) uint8.

        Args:
            image: its id; None: the one that is open.
            found: objects (H, W) to be outlined; None: those of the board's answer, if any.
        """
        image = image or self.images[self.index]["id"]
        pixels = self.cells[image]
        low, high = intensity_range(pixels, "stretch")
        shown = np.clip((pixels - low) / (high - low) * 255, 0, 255).astype(np.uint8)

        if found is None and self._objects is not None:
            found = self._objects(image, self.threshold)
        if found is not None:
            wide = "thick" if max(found.shape) > 512 else "inner"  # shown smaller than it is
            shown[find_boundaries(found, mode=wide)] = OUTLINE
        labels = self.scribbles().get(image)
        if labels is not None:
            shown[labels == 0], shown[labels == 1] = BACKGROUND, FOREGROUND
        return shown

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
                    f"{name} of {image} is {values.shape}, but the image is {shape}. "
                    "Predict whole images."
                )
            if values is not None:
                layers[name] = PAINTS[name](values)

        # A new dict, since another thread may be reading the old one.
        self._layers[image] = self._layers[image] | layers
        if regions is not None:
            self._regions[image] = [list(map(float, region)) for region in regions]
            self._tell()

        content = {
            "kind": "layers",
            "id": image,
            "layers": list(layers),
            "regions": self._regions.get(image, []),
        }
        self.send(content, list(layers.values()))

    def _receive(self, _, content: dict, buffers: list) -> None:
        """What the browser asks: `open` an image, save its `strokes`, count `all` objects, or
        `stop` the round that learns. Never raises: nobody would see it.
        """
        if content.get("kind") == "stop":
            self.on_stop()
            return
        if content.get("kind") == "all":
            value = content.get("threshold")
            if isinstance(value, int | float) and 0 < value < 1:
                self.threshold = float(value)
            self._count_all()
            return

        image = content.get("id")
        if image not in self.cells:
            return
        if content["kind"] == "open":
            self._open(image)
            return
        if image in self.foreign:
            self.message = f"{image}: it has strokes of another program. Draw there, or move them."
            return
        self._save(image, content)

    def _save(self, image: str, content: dict) -> None:
        """Writes the strokes that a page sent, and tells it what the file holds now."""
        try:
            drawn = from_page(content["strokes"], image)
            known = self.strokes[image]  # what this page had seen before it drew
            if "known" in content:
                known = from_page(content["known"], image)
            page = image, str(content.get("edit", "")).rpartition("-")[0]
            on_disk = save(self.file, image, drawn, self._seen_by(page, known))
        except S2LError as error:
            self.message = (
                f"Not saved: {error} The strokes stay in this browser; the next one tries again."
            )
            return

        self.strokes |= on_disk
        self._last_edits[page] = known, drawn
        self._tell()
        rows = [encode(stroke) for stroke in on_disk[image]]
        self.send({"kind": "saved", "id": image, "edit": content.get("edit"), "strokes": rows})

    def _seen_by(self, page: tuple[str, str], known: list[Stroke]) -> list[Stroke]:
        """What a page had before it drew: its own last edit, where it has not heard yet that this
        was saved, or else what it says was on disk. Without that a stroke that is undone and
        redone faster than it is saved would count as erased by somebody else.
        """
        known_then, drawn_then = self._last_edits.get(page, (None, []))
        return drawn_then if known == known_then else known

    def _open(self, image: str) -> None:
        """Sends an image with all that lies over it."""
        pixels, layers = self.cells[image], self._layers[image]
        colour = bool((pixels != pixels[..., :1]).any())
        low, high = intensity_range(pixels, "stretch")
        content = {
            "kind": "image",
            "id": image,
            "size": pixels.shape[:2],
            "colour": colour,
            "limits": [round(low), round(high)],
            "strokes": [encode(stroke) for stroke in self.strokes[image]],
            "layers": list(layers),
            "regions": self._regions.get(image, []),
            "micrometres": self.pixel_size(image),
        }
        self.send(content, [png(pixels if colour else pixels[..., 0]), *layers.values()])

        # Counted now if the threshold was moved while another image was open.
        if image in self._counts or self._objects is None:
            self._send_outlines(image)
        else:
            with self._counting:
                self._count(image)
                self._tell()

    def _summary(self) -> dict:
        """The traits that follow from strokes and objects."""
        images, message = [], self._trouble
        for name, image in self.cells.items():
            strokes, shape = self.strokes[name], image.shape[:2]
            foreground = sum(stroke.label for stroke in strokes)
            drawn = {"foreground": foreground, "background": len(strokes) - foreground}
            if name in self.foreign:
                drawn = {"foreground": 1, "background": 1, "foreign": True}
            objects = self._counts.get(name, NOT_COUNTED)
            places = len(self._regions.get(name, []))
            images.append({"id": name} | drawn | {"objects": objects, "places": places})

            beside = sum(_beside(stroke, shape) for stroke in strokes)
            if beside:
                message = (
                    f"{name}: {beside} of {len(strokes)} strokes lie outside the image "
                    f"({shape[1]} x {shape[0]} pixels). Was it cut since?"
                )
        return {"images": images, "message": message}


def _beside(stroke: Stroke, shape: tuple[int, int]) -> bool:
    """Whether no point of a stroke is nearer to the image than half its width."""
    points, reach = np.array(stroke.points), stroke.width / 2 + 0.5
    return bool(
        (points.max(axis=0) < -reach).any()
        or (points.min(axis=0) > np.array(shape) - 1 + reach).any()
    )
