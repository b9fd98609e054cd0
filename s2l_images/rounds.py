"""Training in rounds on a folder of one's own: draw, let it learn, correct, go on.

`s2l predict MODEL FOLDER` predicts a whole folder with what was learned.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import lock_descriptor
from safetensors import safe_open

from s2l_core.checkpoints import kept, save_model
from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict, uncertainty
from s2l_core.model import ScribbleUNet
from s2l_core.profiles import PROFILES
from s2l_core.trainer import Trainer
from s2l_images import exports
from s2l_images.faults import Fault, listed
from s2l_images.folder import read_folder, sound, split_folder
from s2l_images.measured import Measured
from s2l_images.pictures import raw_channels, read_image
from s2l_images.places import own_results
from s2l_images.settings import read_settings
from s2l_images.sizes import chosen_min_size, nuclei

UPDATES = 6  # parts of a round: how often there is something to watch
LATER = 0.3  # of the learning rates, in a round that goes on from a model

Watch = Callable[[ScribbleUNet], object] | None
Guess = Mapping[str, np.ndarray] | None


def train_round(
    folder: Path,
    *,
    steps: int,
    guess: Guess = None,
    start: Path | None = None,
    watch: Watch = None,
    **settings,
) -> ScribbleUNet:
    """Trains on the images of a folder that carry scribbles, and saves the model in `own_results`.

    The pseudo-labels of a round (Eq. 3) come from a guess and stay, since what a network says in
    its first few hundred steps is worth less: believing it, short rounds grew surer of their
    mistakes (docs/obstacles.md). Without a guess a round has warm-up and averages, as any run.
    Interrupted, it keeps what was learned so far, and says so.

    Args:
        folder: `images/` and `scribbles/`, as `load_dataset` reads them.
        steps: optimiser steps; a few hundred are a few minutes on two cores.
        guess: image id -> foreground probability (H, W) of a model that learns quickly, as the
            random forest.
        start: a `model.safetensors` to go on from; None: random weights.
        watch: called now and then with the network as it is, for `predict`.
        settings: other fields of `RunConfig`, such as the `seed` of weights and crops.

    Raises:
        S2LError: nothing is drawn, or only one class; `guess` lacks an image that is drawn on;
            `start` is no model of ours; steps are too few.
    """
    if steps < 2 * UPDATES:
        raise S2LError(f"steps = {steps}: a round has {2 * UPDATES} at least. Raise steps.")
    before = load_model(start) if start else None
    if before:
        settings = _rates_of_later_rounds() | settings
        settings = {"encoder": before[1].encoder, "intensity": before[1].intensity} | settings

    # Without a guess the network is its own teacher, so it needs a warm-up; a model that goes on
    # needs a short one.
    every = steps // UPDATES
    warmup = 1
    if guess is None:
        warmup = every if before else 3 * every
    lengths = {
        "warmup_steps": warmup,
        "main_steps": steps - warmup,
        "average_every": every if guess is None else steps,
        "validate_every": steps,
        "crop": 160,
    }
    config = RunConfig(str(folder), "s2l-r1-r4", profile="demo", **lengths | settings)
    trainer = Trainer(config, _drawn_on(folder), progress=guess is None)
    if guess is not None:
        for image in trainer.data.images:
            _hold(trainer, image, guess.get(image.id))
    if before:
        weights = before[0].state_dict()
        trainer.model.load_state_dict({name: weights[name] for name in trainer.model.state_dict()})

    def show(row: dict) -> None:
        if watch and row["step"] % every == 0 and row["step"] < steps:
            watch(trainer.model)

    trainer.on_step = show
    try:
        with kept(trainer, None):
            trainer.advance(config.warmup_steps)
            trainer.progress = True  # a warm-up of one step needs no bar
            trainer.fit()
    except KeyboardInterrupt:
        print(
            f"stopped after step {trainer.step} of {steps}; what was learned is kept. Run the cell again to go on."
        )
    save_model(own_results(folder), trainer.model.state_dict(), config)
    return trainer.model


def _rates_of_later_rounds() -> dict[str, float]:
    """Lower learning rates, for a round that goes on from a model."""
    usual = PROFILES["demo"].settings
    return {name: LATER * value for name, value in usual.items() if name.startswith("rate_")}


def _drawn_on(folder: Path) -> list[CellImage]:
    """The training images of a folder that carry strokes.

    Raises:
        S2LError: there is none.
    """
    cells = read_folder(folder, split_folder(folder)["train"])
    drawn = [cell for cell in cells if cell.scribbles is not None]
    if not drawn:
        raise S2LError(
            f"{folder}: none of {len(cells)} training images carries a stroke. Draw on one of them first."
        )
    return drawn


def _hold(trainer: Trainer, image: CellImage, guess: np.ndarray | None) -> None:
    """What to take for an image's averaged prediction, from the first step to the last."""
    found, expected = np.shape(guess) or "missing", image.image.shape[:2]
    if found != expected:
        raise S2LError(
            f"guess of {image.id} is {found}: expected {expected}. Guess for every image drawn on."
        )
    trainer.pseudo.update(image.id, guess)


def load_model(file: Path) -> tuple[ScribbleUNet, RunConfig]:
    """A model that a run or a round saved, and the configuration it was trained with.

    Raises:
        S2LError: no such file, or not one of ours.
    """
    try:
        with safe_open(file, "pt") as stored:
            config = RunConfig.from_dict(json.loads(stored.metadata()["config"]))
            weights = {name: stored.get_tensor(name) for name in stored.keys()}
        if not re.fullmatch(r"[\w.-]+", config.encoder):  # timm would take an address for a name
            raise ValueError(f"encoder = {config.encoder!r:.50}")
        scales = config.scales if any(name.startswith("heads") for name in weights) else ()
        model = ScribbleUNet(config.encoder, scales, intensity=config.intensity)
        model.load_state_dict(weights)
    except Exception as error:  # of the file, of what it says, of what does not fit
        reason = " ".join(str(error).split())[:200]
        raise S2LError(
            f"{file}: no model that was saved here ({reason}). Choose another, or start anew."
        ) from error
    return model, config


JOURNAL = "predicted.jsonl"
KINDS = (".tif", ".zip", ".geojson", ".csv")  # what is left of an image


@dataclass(frozen=True)
class Predicted:
    """What the prediction of one image came to.

    Attributes:
        key: hash of the model, the image and the settings that it was made with.
        nuclei: how many were found.
        dropped: how many objects were too small to be kept.
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
    file: Path,
    folder: Path,
    target: Path | None = None,
    *,
    min_size: int | None = None,
    pixel_size: float | None = None,
) -> Path:
    """Predicts all images of a folder, one in memory at a time; a call goes on where another ended.

    Each image leaves its nuclei as NAME.tif, .zip (ImageJ), .geojson (QuPath) and .csv, and then a
    line in `predicted.jsonl`. An image whose line is there already, for the same model, pixels and
    settings, is skipped.

    Args:
        file: a `model.safetensors`.
        folder: with `images/`, as `load_dataset` reads it. Nothing is written there if `target` is
            given.
        target: where it goes; None: `export/` in `own_results`.
        min_size: the smallest nucleus that is kept, in pixels. None: it follows what is drawn, see
            `chosen_min_size`. How many objects are dropped is printed.
        pixel_size: micrometres. None: what the image file tells, if anything.

    Returns:
        The target; `predictions` says what is in it.

    Raises:
        S2LError: a fault of model or folder; a target that cannot be written; another process at
            work there.
        ImagesLeftOut: images that cannot be read, after all others were predicted.
    """
    model, _ = load_model(file)
    if min_size is None:
        min_size, reason = chosen_min_size(folder, file)
        print(f"{folder.name}: objects under {min_size} px are dropped ({reason})", flush=True)
    images = {name: twins[0] for name, twins in sorted(sound(folder).files["images"].items())}

    # Memory in channels-last order makes the network an eighth faster (benchmarks, `options`).
    model.to(pick_device(), memory_format=torch.channels_last)
    channel = read_settings(folder).channel
    settings = [digest(file, 64), min_size, pixel_size, channel]
    target = _writable(target or own_results(folder) / "export")

    faults = []
    with _journal(target / JOURNAL) as (done, note):
        for number, (name, image_file) in enumerate(images.items(), 1):
            key = digest([*settings, digest(image_file, 64)], 16)
            whole = all((target / f"{name}{kind}").exists() for kind in KINDS)
            if not (whole and name in done and done[name].key == key):
                try:
                    image, _ = read_image(image_file, channel)
                    measured = raw_channels(image_file)
                except Fault as fault:
                    faults.append(fault)
                    continue
                probability = predict(model, image)
                kept = nuclei(probability, min_size)
                found = kept.instances
                _write(target / name, found, probability, measured, pixel_size)
                count = int(found.max(initial=0))
                note(name, Predicted(key, count, kept.dropped, kept.holes, _unsure(probability)))
            if number % max(1, len(images) // 10) == 0:
                print(f"{folder.name}: {number} of {len(images)} images predicted", flush=True)
        found_here = [done[name] for name in images if name in done]

    dropped = sum(one.dropped for one in found_here)
    holes = sum(one.holes for one in found_here)
    if dropped:
        print(f"{folder.name}: {dropped} objects under {min_size} px were dropped", flush=True)
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


def _write(
    stem: Path,
    found: np.ndarray,
    probability: np.ndarray,
    measured: Measured,
    pixel_size: float | None,
) -> None:
    """The four files of an image; `stem` is their path without the ending."""
    tiff, rois, geojson, table = (stem.with_name(f"{stem.name}{kind}") for kind in KINDS)
    size = exports.micrometres(measured) if pixel_size is None else pixel_size
    exports.write_label_tiff(tiff, found, size)
    exports.write_rois(rois, found)
    exports.write_geojson(geojson, found, probability)
    exports.write_cells(table, found, measured, pixel_size=size)


def _unsure(probability: np.ndarray) -> float:
    """Share of the pixels whose probability (H, W) lies between .25 and .75."""
    return round(float((uncertainty(probability) > 0.5).mean()), 6)


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
