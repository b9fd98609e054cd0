"""Training in rounds on a folder of one's own: draw, let it learn, correct, go on.

`s2l predict MODEL FOLDER` predicts a whole folder with what was learned.
"""

import contextlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import lock_descriptor
from safetensors import safe_open

from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.images import CellImage
from s2l_core.inference import pick_device, predict, uncertainty
from s2l_core.model import ScribbleUNet
from s2l_core.profiles import PROFILES
from s2l_core.pseudo_labels import PseudoLabels
from s2l_core.trainer import Trainer
from s2l_core.weights import PACKAGED
from s2l_images import checkpoints, exports, image_checks
from s2l_images.answers import LARGEST_SHARE, absurd, agreement, hold_out
from s2l_images.checkpoints import kept
from s2l_images.faults import Fault, listed
from s2l_images.files import write_json
from s2l_images.folder import read_folder, sound, split_folder, tell
from s2l_images.forest import RandomForest, predict_random_forest
from s2l_images.kept_models import keep_model, model_in_use, rounds_folder
from s2l_images.measured import Measured
from s2l_images.pictures import raw_channels, read_image
from s2l_images.places import own_results
from s2l_images.progress import Progress
from s2l_images.settings import read_settings
from s2l_images.sizes import chosen_min_size, nuclei
from s2l_images.split import SplitExploded, diameter_at_strokes, divided, usual_diameter

UPDATES = 6  # parts of a round: how often there is something to watch
LATER = 0.3  # of the learning rates, in a round that goes on from a model
# Times the rates of profile `pretrained`, which are for 450 steps: RAdam takes a fraction of a step
# in its first hundred, and a round has no more. The encoder's batch statistics stay ImageNet's.
SHORT = 3.0
UNFINISHED = "interrupted-round"  # beside the models of all rounds: what an interrupted one needs

Watch = Callable[[ScribbleUNet], object] | None
Guess = Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class Round:
    """What came of a round.

    Attributes:
        model: the network that is in use now: the new one, or the one before; None: neither is.
        number: of the round; its model lies in `s2l/rounds/`, in use or not.
        accepted: the new network is in use.
        score: balanced share of the held-out strokes that it got right; NaN where none are held.
        before: the same of the best that it was compared with.
        said: all this as a sentence.
    """

    model: ScribbleUNet | None
    number: int
    accepted: bool
    score: float
    before: float
    said: str


def train_round(
    folder: Path,
    *,
    steps: int,
    guess: Guess = None,
    start: Path | None = None,
    watch: Watch = None,
    largest: float = LARGEST_SHARE,
    **settings,
) -> Round:
    """Trains on the images of a folder that carry scribbles, and keeps the model in `own_results`.

    The network begins with an encoder that knows ImageNet (profile `pretrained`), or goes on from
    `start`. `profile="demo"` begins from random weights, as the first version did.

    The pseudo-labels of a round (Eq. 3) come from a guess and stay, since what a network says in
    its first few hundred steps is worth less: believing it, short rounds grew surer of their
    mistakes (docs/obstacles.md). Without a guess a round has warm-up and averages, as any run.

    A fifth of the strokes is not learned from: it judges the result. The new network comes into use
    where it is as good as the one in use. One whose training was interrupted has to be better than
    both that one and the guess; the same call then goes on where it was interrupted. A network
    whose masks are absurd is refused where there is another answer. Every model is kept
    (`kept_models`), in use or not.

    Args:
        folder: `images/` and `scribbles/`, as `load_dataset` reads them.
        steps: optimiser steps; a few hundred are a few minutes on two cores.
        guess: image id -> foreground probability (H, W) of a model that learns quickly, as the
            random forest; to be comparable it has learned from `hold_out(scribbles).kept`.
        start: a `model.safetensors` to go on from; None: an encoder with ImageNet's weights.
        watch: called now and then with the network as it is, for `predict`.
        largest: share of an image that one object may cover; more is absurd.
        settings: other fields of `RunConfig`, such as the `seed` of weights and crops.

    Raises:
        S2LError: nothing is drawn, or only one class; `guess` lacks an image that is drawn on;
            `start` is no model of ours; steps are too few.
    """
    if steps < 2 * UPDATES:
        raise S2LError(f"steps = {steps}: a round has {2 * UPDATES} at least. Raise steps.")
    before = load_model(start) if start else None
    config = _config(folder, steps, before and before[1], guess is not None, settings)

    # What judges the result must not be learned from.
    cells = _drawn_on(folder)
    parts = hold_out({cell.id: cell.scribbles for cell in cells})
    trainer = Trainer(config, cells, parts.kept, progress=False)
    if before:
        weights = before[0].state_dict()
        trainer.model.load_state_dict({name: weights[name] for name in trainer.model.state_dict()})
    interrupted = rounds_folder(folder) / UNFINISHED
    _go_on(trainer, interrupted, start)

    # Strokes may have been added since an interruption, so the guess is always the newest.
    if guess is not None:
        trainer.pseudo = PseudoLabels(config.averaging, config.average_start)
        for image in trainer.data.images:
            _hold(trainer, image, guess.get(image.id))

    every, progress = steps // UPDATES, Progress(config)

    def show(row: dict) -> None:
        if guess is None or row["stage"] == "main":  # a warm-up of one step needs no bar
            progress(row)
        if watch and row["step"] % every == 0 and row["step"] < steps:
            watch(trainer.model)

    trainer.on_step = show
    stopped = False
    try:
        with kept(trainer, interrupted):
            trainer.advance(config.warmup_steps)
            trainer.fit()
    except KeyboardInterrupt:
        stopped = True

    result = _judged(trainer, folder, parts.held, guess, start, stopped, largest)
    if not stopped:
        shutil.rmtree(interrupted, ignore_errors=True)
    print(result.said, flush=True)
    return result


def _config(
    folder: Path, steps: int, before: RunConfig | None, guessed: bool, settings: dict[str, Any]
) -> RunConfig:
    """The configuration of a round: lengths that fit its steps, and rates that fit its weights."""
    given = dict(settings)
    profile = given.pop("profile", "pretrained")
    same: dict[str, Any] = {}
    if before:
        # A network of an earlier round keeps its architecture; its weights come from its file.
        profile = "pretrained" if before.encoder in PACKAGED else "demo"
        same = {"encoder": before.encoder, "encoder_weights": None, "intensity": before.intensity}

    factor = LATER if before else 1.0
    if profile == "pretrained":
        factor *= SHORT
        same["frozen_statistics"] = True
    chosen = _rates(profile, factor) | same | given

    # Without a guess the network is its own teacher, so it needs a warm-up; a model that goes on
    # needs a short one.
    every = steps // UPDATES
    warmup = 1
    if not guessed:
        warmup = every if before else 3 * every
    lengths = {
        "warmup_steps": warmup,
        "main_steps": steps - warmup,
        "average_every": steps if guessed else every,
        "average_every_main": 0,
        "validate_every": steps,
        "crop": 160,
        "max_regions": 1000,
    }
    return RunConfig(str(folder), "s2l-r1-r4", profile=profile, **lengths | chosen)


def _rates(profile: str, factor: float) -> dict[str, float]:
    """Learning rates of a profile, times a factor."""
    usual = PROFILES[profile].settings
    return {name: factor * value for name, value in usual.items() if name.startswith("rate_")}


def _go_on(trainer: Trainer, folder: Path, start: Path | None) -> None:
    """Restores an interrupted round of the same configuration and start; forgets any other."""
    key = digest([trainer.config.to_dict(), str(start)], 16)
    note = folder / "round.json"
    try:
        same = json.loads(note.read_text(encoding="utf-8")) == key
    except (OSError, ValueError):
        same = False

    if same and checkpoints.exist(folder):
        checkpoints.restore(trainer, folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(note, key)


def _judged(
    trainer: Trainer,
    folder: Path,
    held: Mapping[str, np.ndarray],
    guess: Guess,
    start: Path | None,
    stopped: bool,
    largest: float,
) -> Round:
    """Compares the network with what was there before, keeps it, and says what came of it."""
    images = {image.id: image for image in trainer.data.images}
    answers = {name: predict(trainer.model, cell.image) for name, cell in images.items()}
    score = agreement(answers, held)

    # What is already there: the model in use; for half a round also what was on the screen.
    used = _in_use(folder)
    rivals = [used] if used else []
    if stopped and start and Path(start) != model_in_use(folder):
        rivals.append(load_model(start)[0])
    scores = [
        agreement({name: predict(rival, images[name].image) for name in held}, held)
        for rival in rivals
    ]
    if stopped and guess is not None:
        scores.append(agreement(guess, held))
    before = max(scores, default=math.nan)

    refused = ""
    for name, probability in answers.items():
        wrong = absurd(probability, images[name].scribbles, largest=largest)
        if wrong and not refused:
            refused = f"{name}: {wrong}"
    alone = not rivals and guess is None
    warning = ""
    if refused and alone:
        warning, refused = f" Look at it before you trust it. {refused}", ""

    if not refused and stopped and not trainer.step:
        refused = "No step was taken."
    if not refused and stopped and not alone and not score > before:
        refused = _compared(score, before, "not better than what was there before")
    if not refused and not stopped and score < before:
        refused = _compared(score, before, "less than the model in use")

    model = trainer.model
    record = keep_model(
        folder, model.state_dict(), trainer.config, score=score, steps=trainer.step, refused=refused
    )
    if refused:
        model = used

    said = f"Round {record.number}: "
    if stopped:
        said += (
            f"stopped after step {trainer.step} of {trainer.config.total_steps}; what was learned "
            "is kept. Run the cell again to go on. "
        )
    if refused:
        said += f"The new network is not used, and what was there before stays. {refused}"
    else:
        said += f"The new network is used. {_compared(score, before)}{warning}"
    return Round(model, record.number, not refused, score, before, said.strip())


def _compared(score: float, before: float, verdict: str = "") -> str:
    """Scores on held-out strokes, as a sentence."""
    if math.isnan(score):
        return "No stroke could be held out to judge it by: draw two of each class at least."
    text = f"It gets {score:.1%} of the held-out strokes right"
    if not math.isnan(before):
        text += f" (before: {before:.1%})"
    return f"{text}, {verdict}." if verdict else f"{text}."


def _in_use(folder: Path) -> ScribbleUNet | None:
    """The model in use, if there is one that can be read; a harmed one is kept as a round."""
    file = model_in_use(folder)
    if not file.exists():
        return None
    try:
        return load_model(file)[0].to(pick_device())
    except S2LError as error:
        print(error, flush=True)
        return None


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
EXPORTED_SUFFIXES = (".tif", ".zip", ".geojson", ".csv")  # what is left of an image


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
                    image, remarks = read_image(image_file, channel)
                    measured = raw_channels(image_file)
                    warnings += [*remarks, *image_checks.image_findings(image_file, image)]
                    looked.append(image_checks.seen(image_file, image, remarks, None))
                    probability = ask(image)
                    kept = nuclei(probability, min_size, threshold=threshold)
                    found = _apart(name, kept.instances, split)
                except (Fault, SplitExploded) as fault:
                    faults.append(fault)
                    continue
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
    areas: list[int] = []
    objects, scribbles = [], []
    for name in listing.masked or listing.scribbled:
        (cell,) = read_folder(folder, [name])
        if cell.instances is not None:
            areas += np.unique(cell.instances[cell.instances > 0], return_counts=True)[1].tolist()
        else:
            objects.append(nuclei(ask(cell.image), min_size, threshold=threshold).instances)
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
