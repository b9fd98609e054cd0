"""Prediction of a whole folder: nuclei for every image, in files that other programs read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from s2l_core.config import S2LError, digest
from s2l_core.inference import pick_device, predict
from s2l_images.faults import Fault, Finding, listed
from s2l_images.files import remove_leftovers
from s2l_images.folders import image_checks
from s2l_images.folders.folder import tell
from s2l_images.folders.listing import refuse_read_place, sound
from s2l_images.folders.settings import read_settings
from s2l_images.learning.forest import RandomForest, predict_random_forest
from s2l_images.learning.kept_models import load_model, model_in_use
from s2l_images.nuclei.diameters import Usual, usual_nucleus
from s2l_images.nuclei.journal import JOURNAL, UNFINISHED, Predicted, open_journal
from s2l_images.nuclei.one_image import EXPORTED_SUFFIXES, Found, Way
from s2l_images.nuclei.sizes import chosen_min_size, smallest_kept
from s2l_images.nuclei.split import SplitExploded
from s2l_images.places import own_export
from s2l_images.reading.pictures import raw_channels, read_image


class ImagesLeftOut(S2LError):
    """Some images could not be read; all others were predicted."""


class _Remarks:
    """What the check would warn of, gathered while images are predicted."""

    def __init__(self) -> None:
        self.warnings: list[Finding] = []
        self.looked: list[image_checks.Seen] = []

    def add(self, file: Path, image: np.ndarray, said: list[Finding]) -> None:
        """An image (H, W, 3) that was read, and what its decoder said."""
        self.warnings += [*said, *image_checks.image_findings(file, image)]
        self.looked.append(image_checks.seen(file, image, said, None))

    def tell(self, folder: Path) -> None:
        """Prints what was found in each image, and what shows when they are compared."""
        tell(folder, [*self.warnings, *image_checks.compared(folder / "images", self.looked)])


def predict_folder(
    source: Path | RandomForest,
    folder: Path,
    target: Path | None = None,
    *,
    min_size: int | None = None,
    pixel_size: float | None = None,
    threshold: float = 0.5,
    split: float | Literal["auto"] | None = None,
    force: bool = False,
) -> Path:
    """Predicts all images of a folder, one in memory at a time; a call goes on where another ended.

    Each image leaves its nuclei as NAME.tif, .zip (ImageJ), .geojson (QuPath) and .csv, and then a
    line in `predicted.jsonl`. An image whose line is there already, for the same model, pixels and
    settings, is skipped.

    Args:
        source: a `model.safetensors`, or a fitted forest.
        folder: with `images/`, of which every image is read. Nothing is written there if `target`
            is given.
        target: where it goes; None: `own_export`.
        min_size: the smallest nucleus that is kept, in pixels. None: it follows what is drawn, see
            `chosen_min_size` and `smallest_kept`. How many objects are dropped is printed.
        pixel_size: micrometres. None: what the image file tells, if anything.
        threshold: foreground is above it.
        split: diameter of a usual nucleus in pixels, by which touching ones are told apart; "auto":
            measured on masks or strokes (`usual_nucleus`); None: they stay together.
        force: files in the target that no prediction has written are replaced.

    Returns:
        The target; `predictions` says what is in it.

    Raises:
        S2LError: a fault of model or folder; a target that cannot be written, or that holds files
            of these names which no prediction has written; another process at work there.
        ImagesLeftOut: images that cannot be read, or whose objects fall into too many pieces, after
            all others were predicted.
    """
    # A model or a folder with a fault says so before anything is measured.
    ask, key_of_source = _asked(source)
    images = {name: twins[0] for name, twins in sorted(sound(folder).files["images"].items())}
    target = target or own_export(folder)
    refuse_read_place(folder, target)
    if not force:
        _refuse_others_files(target, folder, images)

    min_size, split = _chosen_sizes(source, folder, ask, threshold, min_size, split)
    channel = read_settings(folder).channel
    way = Way(ask, key_of_source, min_size, pixel_size, channel, threshold, split)

    _writable(target)
    remarks = _Remarks()
    predicted, left_out = _predict_missing(folder, images, way, target, remarks)

    remarks.tell(folder)
    _tell_of_objects(folder, predicted, min_size)
    if left_out:
        raise ImagesLeftOut(
            f"{len(left_out)} of {len(images)} images were left out: {listed(left_out, 3)}"
        )
    return target


def _predict_missing(
    folder: Path, images: Mapping[str, Path], way: Way, target: Path, remarks: _Remarks
) -> tuple[list[Predicted], list[Exception]]:
    """Predicts the images that were not yet predicted in this way, and says how far it is.

    Args:
        folder: named in what is printed.
        images: name -> file.
        way: how they are predicted.
        target: where their files go, and the journal of what was predicted before.
        remarks: gathers what their files warn of.

    Returns:
        What is noted of the images, and why others were left out: one that cannot be read leaves
        out itself alone.
    """
    left_out: list[Exception] = []
    with open_journal(target / JOURNAL) as journal:
        done = journal.done
        journal.note_images(folder.resolve())
        for number, (name, image_file) in enumerate(images.items(), 1):
            key = way.key(image_file)
            if not _whole(target, name, done, key):
                try:
                    found = _find(name, image_file, way, remarks)
                except (Fault, SplitExploded) as fault:
                    left_out.append(fault)
                    if name in done:  # its older files are not this answer's
                        journal.note(name, UNFINISHED)
                    continue

                # From here to its last line an image counts as not predicted: were this cut short,
                # some of its files would be of this answer, and some of the one before.
                if done.get(name) == UNFINISHED:
                    for kind in EXPORTED_SUFFIXES:
                        remove_leftovers(target / f"{name}{kind}")
                journal.note(name, UNFINISHED)
                found.write(target / name, way.pixel_size)
                journal.note(name, found.in_numbers(key))

            if number % max(1, len(images) // 10) == 0:
                print(f"{folder.name}: {number} of {len(images)} images predicted", flush=True)
        return [done[name] for name in images if name in done], left_out


def _find(name: str, image_file: Path, way: Way, remarks: _Remarks) -> Found:
    """Reads an image and finds its nuclei; an image that only warns is predicted.

    Raises:
        Fault: it cannot be read.
        SplitExploded: its objects fall into too many pieces.
    """
    image, said = read_image(image_file, way.channel)
    measured = raw_channels(image_file)
    remarks.add(image_file, image, said)
    return way.find(name, image, measured)


def _chosen_sizes(
    source: Path | RandomForest,
    folder: Path,
    ask: Callable[[np.ndarray], np.ndarray],
    threshold: float,
    min_size: int | None,
    split: float | Literal["auto"] | None,
) -> tuple[int, float | None]:
    """The smallest nucleus that is kept and the diameter of a usual one, both in pixels.

    What nobody chose follows from what is drawn, and is printed. The arguments are those of
    `predict_folder`; `ask` predicts an image (H, W, 3) -> (H, W).
    """
    drawn_size, reason = _drawn_size(source, folder) if min_size is None else (min_size, "")
    if split == "auto":
        usual = _usual_of(folder, ask, threshold, drawn_size)
        diameter, smallest_usual = usual.diameter, usual.smallest
    else:
        diameter = smallest_usual = split
    if min_size is not None:
        return min_size, diameter

    # A diameter tells more than the smallest stroke: specks far below it are no nuclei.
    smallest = smallest_kept(folder, drawn_size, smallest_usual)
    if smallest > drawn_size:
        reason = "a fifth of a usual nucleus"
        if smallest_usual != diameter:
            reason += " of the image with the smallest ones"
    print(f"{folder.name}: objects under {smallest} px are dropped ({reason})", flush=True)
    return smallest, diameter


def _drawn_size(source: Path | RandomForest, folder: Path) -> tuple[int, str]:
    """The smallest nucleus by what is drawn, in pixels, and where that comes from."""
    file = model_in_use(folder) if isinstance(source, RandomForest) else source
    return chosen_min_size(folder, file)


def _usual_of(
    folder: Path, ask: Callable[[np.ndarray], np.ndarray], threshold: float, min_size: int
) -> Usual:
    """How wide a usual nucleus is, where that is to be measured; it is printed."""
    usual = usual_nucleus(folder, ask, threshold=threshold, min_size=min_size)
    width = f"a usual nucleus is {usual.diameter:g} px wide, which tells touching ones apart"
    print(f"{folder.name}: {width}", flush=True)
    return usual


def _whole(target: Path, name: str, done: Mapping[str, Predicted], key: str) -> bool:
    """Whether an image was predicted in just this way, and has all its files."""
    if name not in done or done[name].key != key:
        return False
    return all((target / f"{name}{kind}").exists() for kind in EXPORTED_SUFFIXES)


def _tell_of_objects(folder: Path, predicted: Sequence[Predicted], min_size: int) -> None:
    """Prints how many objects were dropped, and how many holes were left open."""
    dropped = sum(one.dropped for one in predicted)
    holes = sum(one.holes for one in predicted)
    if dropped:
        small = f"{dropped} objects under {min_size} px were dropped"
        print(f"{folder.name}: {small}, or thin strips along the border", flush=True)
    if holes:
        print(f"{folder.name}: {holes} holes as large as a nucleus were left open", flush=True)


def _refuse_others_files(target: Path, folder: Path, names: Iterable[str]) -> None:
    """Refuses a target with the results of another folder, or where somebody else's files have the
    names of the results.

    A prediction notes an image before its first file, so that one which was killed goes on.

    Raises:
        S2LError: it is such a target.
    """
    noted: Iterable[str] = ()
    if (target / JOURNAL).exists():
        with open_journal(target / JOURNAL) as journal:
            noted, other = journal.done, journal.images
        # A folder that was moved or copied with its results is no other one.
        moved = (
            other is None or not other.exists() or target.resolve().is_relative_to(folder.resolve())
        )
        if not moved and other != folder.resolve():
            raise S2LError(
                f"{target}: holds the results of {other}. Name another folder for those of "
                f"{folder}, or replace them: s2l predict --force."
            )
    for name in set(names) - set(noted):
        for kind in EXPORTED_SUFFIXES:
            file = target / f"{name}{kind}"
            if file.exists():
                raise S2LError(
                    f"{file}: exists already, and no prediction has written it. Name another "
                    "folder, or replace it: s2l predict --force."
                )


def _writable(target: Path) -> None:
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


def _asked(source: Path | RandomForest) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """What predicts an image (H, W, 3) -> (H, W), and a hash of it."""
    if isinstance(source, RandomForest):
        return partial(predict_random_forest, source), source.key
    model, _ = load_model(source)
    # Memory in this order makes the network an eighth faster: benchmarks, `options`.
    model.to(pick_device(), memory_format=torch.channels_last)
    return partial(predict, model), digest(source, 64)
