"""Training in rounds on a folder of one's own: draw, let it learn, correct, go on. Scribbles are
all it needs.

`python -m s2l_images.rounds MODEL FOLDER` predicts a whole folder with what was learned;
`--pixel-size 0.25` adds micrometres to its tables.
"""

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from filelock import lock_descriptor
from safetensors import safe_open

from s2l_core.checkpoints import kept, save_model
from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict
from s2l_core.model import ScribbleUNet
from s2l_core.profiles import PROFILES
from s2l_core.trainer import Trainer
from s2l_images import exports, image_checks
from s2l_images.faults import Fault, listed
from s2l_images.folder import read_folder, sound, split_folder, tell
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


def predict_folder(
    file: Path,
    folder: Path,
    target: Path | None = None,
    *,
    min_size: int | None = None,
    pixel_size: float | None = None,
) -> Path:
    """Predicts all images of a folder, one in memory at a time; stopped or killed, the next call
    goes on from there.

    Each image leaves its nuclei as NAME.tif, .zip (ImageJ), .geojson (QuPath) and .csv, and then a
    line in `predicted.jsonl`: its name, and a hash of model, image and settings. What has its line
    is not predicted again.

    Args:
        file: a `model.safetensors`.
        folder: with `images/`, as `load_dataset` reads it; scribbles and masks are left alone.
        target: where it goes; None: `export/` in `own_results`.
        min_size: the smallest nucleus that is kept, in pixels. None: it follows what is drawn, see `chosen_min_size`.
            How many objects are dropped is printed.
        pixel_size: micrometres. None: what the image file tells, if anything.

    Returns:
        The target.

    Raises:
        S2LError: a fault of model or folder; another process at work there; images that cannot be
            read, after all others were predicted.
    """
    (model, _), images = load_model(file), sound(folder).files["images"]
    if min_size is None:
        min_size, reason = chosen_min_size(folder, file)
        print(f"{folder.name}: objects under {min_size} px are dropped ({reason})", flush=True)
    model.to(
        pick_device(), memory_format=torch.channels_last
    )  # an eighth faster: benchmarks, `options`
    own = read_settings(folder)
    target, settings = (
        target or own_results(folder) / "export",
        [digest(file, 64), min_size, pixel_size, own.channel],
    )
    target.mkdir(parents=True, exist_ok=True)
    faults, dropped, holes = [], 0, 0
    looked, warnings = [], []
    with _journal(target / "predicted.jsonl") as (done, note):
        for number, (name, (image_file, *_)) in enumerate(sorted(images.items()), 1):
            key, whole = (
                digest([*settings, digest(image_file, 64)], 16),
                [target / f"{name}{kind}" for kind in KINDS],
            )
            if done.get(name) != key or not all(path.exists() for path in whole):
                try:
                    image, remarks = read_image(image_file, own.channel)
                    measured = raw_channels(image_file)
                except Fault as fault:
                    faults.append(fault)
                    continue
                warnings += [*remarks, *image_checks.image_findings(image_file, image)]
                looked.append(image_checks.seen(image_file, image, remarks, None))
                probability = predict(model, image)
                kept = nuclei(probability, min_size)
                found = kept.instances
                dropped, holes = dropped + kept.dropped, holes + kept.holes
                exports.write_label_tiff(
                    whole[0], found, pixel_size or exports.micrometres(measured)
                )
                exports.write_rois(whole[1], found)
                exports.write_geojson(whole[2], found, probability)
                exports.write_cells(whole[3], found, measured, pixel_size=pixel_size)
                note(name, key)
            if number % max(1, len(images) // 10) == 0:
                print(f"{folder.name}: {number} of {len(images)} images predicted", flush=True)
    tell(folder, [*warnings, *image_checks.compared(folder / "images", looked)])
    if dropped:
        print(f"{folder.name}: {dropped} objects under {min_size} px were dropped", flush=True)
    if holes:
        print(f"{folder.name}: {holes} holes as large as a nucleus were left open", flush=True)
    if faults:
        raise S2LError(f"{len(faults)} of {len(images)} images were left out: {listed(faults, 3)}")
    return target


KINDS = (".tif", ".zip", ".geojson", ".csv")  # what is left of an image


@contextlib.contextmanager
def _journal(file: Path) -> Iterator[tuple[dict[str, str], Callable]]:
    """What was noted in a file before, and a function that notes more; a line cut short by a kill
    counts as none.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not lock_descriptor(stream.fileno(), blocking=False):
            raise S2LError(
                f"{file}: another process predicts here. Wait for it, or choose another target."
            )
        stream.seek(0)
        try:
            text = stream.read()
            whole = text[: text.rfind("\n") + 1]
            done = dict(json.loads(line) for line in whole.splitlines())
        except (ValueError, TypeError, RecursionError) as error:
            raise S2LError(
                f"{file}: not what was noted here ({error!r:.100}). Delete it and begin anew."
            ) from error
        stream.truncate(len(whole.encode()))

        def note(name: str, key: str) -> None:
            stream.write(json.dumps([name, key]) + "\n")
            stream.flush()

        yield done, note


def main(arguments: list[str] | None = None) -> int:
    """Predicts all images of a folder; says where the results are, or what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m s2l_images.rounds", description=main.__doc__)
    parser.add_argument("model", type=Path, help="a model.safetensors")
    parser.add_argument("folder", type=Path, help="with images/")
    parser.add_argument(
        "--pixel-size", type=float, metavar="MICROMETRES", help="adds columns in micrometres"
    )
    parser.add_argument(
        "--min-size",
        type=int,
        metavar="PIXELS",
        help="the smallest nucleus that is kept (a third of the smallest drawn)",
    )
    given = parser.parse_args(arguments)
    try:
        print(
            predict_folder(
                given.model.expanduser(),
                given.folder.expanduser(),
                min_size=given.min_size,
                pixel_size=given.pixel_size,
            )
        )
    except S2LError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
