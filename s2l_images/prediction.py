"""Prediction of a whole folder: nuclei for every image, in files that other programs read."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import lock_descriptor

from s2l_core.config import S2LError, digest
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict
from s2l_images import exports, image_checks
from s2l_images.faults import Fault, listed
from s2l_images.folder import read_folder, sound, tell
from s2l_images.forest import RandomForest, predict_random_forest
from s2l_images.kept_models import load_model, model_in_use
from s2l_images.measured import Measured
from s2l_images.pictures import raw_channels, read_image
from s2l_images.places import own_results
from s2l_images.proposals import uncertainty
from s2l_images.settings import read_settings
from s2l_images.sizes import chosen_min_size, nuclei
from s2l_images.split import SplitExploded, diameter_at_strokes, divided, usual_diameter

JOURNAL = "predicted.jsonl"
EXPORTED_SUFFIXES = (".tif", ".zip", ".geojson", ".csv")  # what is left of an image


@dataclass(frozen=True)
class Predicted:
    """What the prediction of one image came to.

    Attributes:
        key: hash of the model, the image and the settings that it was made with.
        nuclei: how many were found.
        dropped: how many objects were too small to be kept, or strips along the image's border.
        holes: how many holes are as large as a nucleus, and were left open.
        unsure: share of the pixels whose probability is nearer to one half than to 0 or 1.
    """

    key: str
    nuclei: int
    dropped: int
    holes: int
    unsure: float


class ImagesLeftOut(S2LError):
    """Some images could not be read; all others were predicted."""


def predict_folder(
    source: Path | RandomForest,
    folder: Path,
    target: Path | None = None,
    *,
    min_size: int | None = None,
    pixel_size: float | None = None,
    threshold: float = 0.5,
    split: float | Literal["auto"] | None = None,
) -> Path:
    """Predicts all images of a folder, one in memory at a time; a call goes on where another ended.

    Each image leaves its nuclei as NAME.tif, .zip (ImageJ), .geojson (QuPath) and .csv, and then a
    line in `predicted.jsonl`. An image whose line is there already, for the same model, pixels and
    settings, is skipped.

    Args:
        source: a `model.safetensors`, or a fitted forest.
        folder: with `images/`, as `load_dataset` reads it. Nothing is written there if `target` is
            given.
        target: where it goes; None: `export/` in `own_results`.
        min_size: the smallest nucleus that is kept, in pixels. None: it follows what is drawn, see
            `chosen_min_size`. How many objects are dropped is printed.
        pixel_size: micrometres. None: what the image file tells, if anything.
        threshold: foreground is above it.
        split: diameter of a usual nucleus in pixels, by which touching ones are told apart; "auto":
            measured on masks or strokes (`usual_nucleus`); None: they stay together.

    Returns:
        The target; `predictions` says what is in it.

    Raises:
        S2LError: a fault of model or folder; a target that cannot be written; another process at
            work there.
        ImagesLeftOut: images that cannot be read, or whose objects fall into too many pieces, after
            all others were predicted.
    """
    ask, key_of_source = _asked(source)
    images = {name: twins[0] for name, twins in sorted(sound(folder).files["images"].items())}

    # What is left open follows from the folder, and is said.
    if min_size is None:
        file = model_in_use(folder) if isinstance(source, RandomForest) else source
        min_size, reason = chosen_min_size(folder, file)
        print(f"{folder.name}: objects under {min_size} px are dropped ({reason})", flush=True)
    if split == "auto":
        split = usual_nucleus(folder, ask, threshold=threshold, min_size=min_size)
        width = f"a usual nucleus is {split:g} px wide, which tells touching ones apart"
        print(f"{folder.name}: {width}", flush=True)

    channel = read_settings(folder).channel
    settings = [key_of_source, min_size, pixel_size, channel, threshold, split]
    target = _writable(target or own_results(folder) / "export")

    faults, warnings, looked = [], [], []
    with _journal(target / JOURNAL) as (done, note):
        for number, (name, image_file) in enumerate(images.items(), 1):
            key = digest([*settings, digest(image_file, 64)], 16)
            whole = all((target / f"{name}{kind}").exists() for kind in EXPORTED_SUFFIXES)
            if not (whole and name in done and done[name].key == key):
                try:
                    # An image that only warns is predicted; a fault leaves it out, and only it.
                    image, remarks = read_image(image_file, channel)
                    measured = raw_channels(image_file)
                    warnings += [*remarks, *image_checks.image_findings(image_file, image)]
                    looked.append(image_checks.seen(image_file, image, remarks, None))

                    probability = ask(image)  # (H, W)
                    kept = nuclei(probability, min_size, threshold=threshold)
                    found = _apart(name, kept.instances, split)
                except (Fault, SplitExploded) as fault:
                    faults.append(fault)
                    continue

                # The line is written last: an image that has one has its four files, too.
                stem = target / name
                write_nuclei(stem, found, measured, probability=probability, pixel_size=pixel_size)
                count = int(found.max(initial=0))
                note(name, Predicted(key, count, kept.dropped, kept.holes, _unsure(probability)))

            if number % max(1, len(images) // 10) == 0:
                print(f"{folder.name}: {number} of {len(images)} images predicted", flush=True)
        found_here = [done[name] for name in images if name in done]

    # What the check would have warned of shows in the predictions, too.
    tell(folder, [*warnings, *image_checks.compared(folder / "images", looked)])
    dropped = sum(one.dropped for one in found_here)
    holes = sum(one.holes for one in found_here)
    if dropped:
        small = f"{dropped} objects under {min_size} px were dropped"
        print(f"{folder.name}: {small}, or thin strips along the border", flush=True)
    if holes:
        print(f"{folder.name}: {holes} holes as large as a nucleus were left open", flush=True)
    if faults:
        raise ImagesLeftOut(
            f"{len(faults)} of {len(images)} images were left out: {listed(faults, 3)}"
        )
    return target


def predictions(target: Path) -> dict[str, Predicted]:
    """What `predict_folder` noted in its target: image -> `Predicted`, the least sure image first.

    Raises:
        S2LError: another process predicts there, or the notes are damaged.
    """
    with _journal(target / JOURNAL) as (done, _):
        return dict(sorted(done.items(), key=lambda entry: (-entry[1].unsure, entry[0])))


def _writable(target: Path) -> Path:
    """Makes the folder of the results.

    Raises:
        S2LError: nothing can be written there.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / JOURNAL).touch()
    except OSError as error:
        raise S2LError(
            f"{target}: cannot be written ({error.strerror}). Name another folder: --to FOLDER."
        ) from error
    return target


def write_nuclei(
    stem: Path,
    found: np.ndarray,
    measured: Measured,
    *,
    probability: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> None:
    """The four files of an image: label image, ROIs, GeoJSON and table.

    Args:
        stem: their path without the ending.
        found: (H, W) instances.
        measured: the image in its own units.
        probability: (H, W); its mean over a nucleus goes into the GeoJSON.
        pixel_size: micrometres. None: what the image file tells, if anything.
    """
    tiff, rois, geojson, table = (
        stem.with_name(f"{stem.name}{kind}") for kind in EXPORTED_SUFFIXES
    )
    size = exports.micrometres(measured) if pixel_size is None else pixel_size
    exports.write_label_tiff(tiff, found, size)
    exports.write_rois(rois, found)
    exports.write_geojson(geojson, found, probability)
    exports.write_cells(table, found, measured, pixel_size=size)


def _unsure(probability: np.ndarray) -> float:
    """Share of the pixels whose probability (H, W) lies between .25 and .75."""
    return round(float((uncertainty(probability) > 0.5).mean()), 6)


def _asked(source: Path | RandomForest) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """What predicts an image (H, W, 3) -> (H, W), and a hash of it."""
    if isinstance(source, RandomForest):
        return partial(predict_random_forest, source), source.key
    model, _ = load_model(source)
    # Memory in this order makes the network an eighth faster: benchmarks, `options`.
    model.to(pick_device(), memory_format=torch.channels_last)
    return partial(predict, model), digest(source, 64)


def _apart(name: str, objects: np.ndarray, diameter: float | None) -> np.ndarray:
    """Objects (H, W) int32 of an image; touching nuclei apart where a diameter is given."""
    if diameter is None:
        return objects
    try:
        return divided(objects, diameter)
    except SplitExploded as error:
        raise SplitExploded(f"{name}: {error}") from error


def usual_nucleus(
    folder: Path,
    ask: Callable[[np.ndarray], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> float:
    """Diameter in pixels of a usual nucleus of a folder, rounded to halves.

    Args:
        folder: its masks are measured; where it has none, the objects of the answer that carry a
            foreground stroke.
        ask: image (H, W, 3) uint8 -> foreground probability (H, W).
        threshold: foreground is above it.
        min_size: the smallest object that is looked at, in pixels.

    Raises:
        S2LError: there are neither masks nor objects under strokes.
    """
    listing = sound(folder)
    names = listing.masked or listing.scribbled
    cells = (read_folder(folder, [name])[0] for name in names)  # one in memory at a time
    return measured_diameter(
        cells, lambda cell: ask(cell.image), threshold=threshold, min_size=min_size
    )


def measured_diameter(
    cells: Iterable[CellImage],
    answer: Callable[[CellImage], np.ndarray],
    *,
    threshold: float = 0.5,
    min_size: int = 64,
) -> float:
    """As `usual_nucleus`, of images.

    Args:
        cells: where one has a mask, masks alone count; else those with scribbles.
        answer: foreground probability (H, W) of an image.
        threshold: foreground is above it.
        min_size: the smallest object that is looked at, in pixels.

    Raises:
        S2LError: as `usual_nucleus`.
    """
    areas: list[int] = []
    objects, scribbles = [], []
    for cell in cells:
        if cell.instances is not None:
            areas += np.unique(cell.instances[cell.instances > 0], return_counts=True)[1].tolist()
        elif cell.scribbles is not None:
            objects.append(nuclei(answer(cell), min_size, threshold=threshold).instances)
            scribbles.append(cell.scribbles)
    if areas:
        diameter = usual_diameter(np.array(areas))
    else:
        diameter = diameter_at_strokes(objects, scribbles)
    return max(2.0, round(2 * diameter) / 2)


@contextlib.contextmanager
def _journal(file: Path) -> Iterator[tuple[dict[str, Predicted], Callable]]:
    """What was noted in a file before, and a function that notes more.

    A line cut short by a kill counts as none.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not lock_descriptor(stream.fileno(), blocking=False):
            raise S2LError(
                f"{file}: another process predicts here. Wait for it, or choose another target."
            )

        # Names are written as ASCII, so that those that are no UTF-8 survive as well.
        stream.seek(0)
        try:
            text = stream.read()
            whole = text[: text.rfind("\n") + 1]
            done = dict(map(_noted, whole.splitlines()))
        except (ValueError, TypeError, RecursionError) as error:
            raise S2LError(
                f"{file}: not what was noted here ({error!r:.100}). Delete it and begin anew."
            ) from error
        stream.truncate(len(whole.encode()))

        def note(name: str, predicted: Predicted) -> None:
            stream.write(json.dumps([name, *astuple(predicted)]) + "\n")
            stream.flush()
            done[name] = predicted

        yield done, note


def _noted(line: str) -> tuple[str, Predicted]:
    """One line of the journal; one of an older version, a name and a key only, matches no key."""
    name, key, *counts = json.loads(line)
    if not counts:
        return name, Predicted("", 0, 0, 0, 0.0)
    *numbers, unsure = counts
    found, dropped, holes = map(int, numbers)
    return name, Predicted(str(key), found, dropped, holes, float(unsure))
