"""The models of a folder of one's own: one a round, none ever overwritten, the best of them in use.

`s2l/rounds/round-03.safetensors` is the model of the third round; beside it lies a small JSON with
its date and score. `s2l/model.safetensors` is a copy of the one that is in use.
"""

import datetime
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from s2l_core.config import RunConfig, S2LError, digest
from s2l_core.model import ScribbleUNet
from s2l_images.checkpoints import save_model
from s2l_images.files import alone, write_atomically, write_json
from s2l_images.places import own_results

MODEL = "model.safetensors"


@dataclass(frozen=True)
class KeptRound:
    """What is known of the model of a round.

    Attributes:
        number: of the round, from 1.
        date: when it ended, as ISO 8601 with the time zone.
        score: share of held-out strokes that it got right (balanced); None where it is not known.
        steps: that it was trained for.
        planned: steps that the round should have had; more than `steps` where it was cut short.
        refused: why it did not come into use; empty where it did.
    """

    number: int
    date: str = ""
    score: float | None = None
    steps: int = 0
    planned: int = 0
    refused: str = ""


def model_in_use(folder: Path) -> Path:
    """Where the model lies that a folder's images are predicted with."""
    return own_results(folder) / MODEL


def rounds_folder(folder: Path) -> Path:
    """Where the models of all rounds lie."""
    return own_results(folder) / "rounds"


def round_file(folder: Path, number: int) -> Path:
    """The model of a round."""
    return rounds_folder(folder) / f"round-{number:02d}.safetensors"


def kept_rounds(folder: Path) -> list[KeptRound]:
    """The rounds whose models are kept, oldest first; one whose JSON is lost or harmed has its
    number only.
    """
    kept = []
    for number in sorted(_numbers(folder)):
        about = round_file(folder, number).with_suffix(".json")
        try:
            known = KeptRound(**json.loads(about.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            known = KeptRound(number)
        kept.append(known)
    return kept


def keep_model(
    folder: Path,
    weights: dict[str, Tensor],
    config: RunConfig,
    *,
    score: float,
    steps: int,
    refused: str = "",
) -> KeptRound:
    """Writes the model of a round under the next free number, and takes it into use.

    Args:
        folder: of one's own.
        weights: of the network.
        config: it was trained with.
        score: on held-out strokes; NaN where there are none.
        steps: that were trained, of `config.total_steps`.
        refused: why it does not come into use; empty: it does.

    Raises:
        S2LError: weights are not finite, or nothing can be written there.
    """
    file = own_results(folder)
    file.mkdir(parents=True, exist_ok=True)
    with alone(file, across_machines=False):
        _adopt(folder)
        kept = KeptRound(
            number=max(_numbers(folder), default=0) + 1,
            date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            score=None if math.isnan(score) else round(score, 4),
            steps=steps,
            planned=config.total_steps,
            refused=refused,
        )
        target = round_file(folder, kept.number)
        save_model(target.parent, weights, config, name=target.name)
        write_json(target.with_suffix(".json"), asdict(kept))
        if not refused:
            _copy(target, model_in_use(folder))
    return kept


def _adopt(folder: Path) -> None:
    """Keeps a model in use that no round here has made, before another one takes its place."""
    used = model_in_use(folder)
    if not used.is_file():
        return
    numbers = _numbers(folder)
    known = {digest(round_file(folder, number), 64) for number in numbers}
    if digest(used, 64) not in known:
        _copy(used, round_file(folder, max(numbers, default=0) + 1))


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))


def _numbers(folder: Path) -> list[int]:
    """Numbers of the rounds whose models are there."""
    numbers = []
    for file in rounds_folder(folder).glob("round-*.safetensors"):
        named = re.fullmatch(r"round-(\d+)", file.stem)
        if named:
            numbers.append(int(named[1]))
    return numbers


def load_model(file: Path) -> tuple[ScribbleUNet, RunConfig]:
    """A model that a run or a round saved, and the configuration it was trained with.

    Raises:
        S2LError: no such file, not a model that was saved here, or one of another version, with
            what differs.
    """
    try:
        with safe_open(file, "pt") as stored:
            values = dict(json.loads(stored.metadata()["config"]))
            weights = {name: stored.get_tensor(name) for name in stored.keys()}
        encoder = values.get("encoder", "")
        if not re.fullmatch(r"[\w.-]*", encoder):  # timm would take an address for a name
            raise ValueError(f"encoder = {encoder!r:.50}")
    except Exception as error:  # of the file, and of what it says
        reason = " ".join(str(error).split())[:200]
        raise S2LError(
            f"{file}: not a model that was saved here ({reason}). Choose another, or start anew."
        ) from error

    other = f"{file}: a model of another version"
    again = "Load it with the version that saved it, choose another, or start anew."
    try:
        config = RunConfig.from_dict(values)
        scales = config.scales if any(name.startswith("heads") for name in weights) else ()
        model = ScribbleUNet(config.encoder, scales, intensity=config.intensity)
    except Exception as error:  # a field or a value that is not known, or an encoder
        reason = " ".join(str(error).split())[:200]
        raise S2LError(f"{other} ({reason}). {again}") from error

    differs = _differences(weights, model.state_dict())
    if differs:
        raise S2LError(f"{other}: {differs}. {again}")
    model.load_state_dict(weights)
    return model, config


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How weights of a file differ from those of a network, as half a sentence; else nothing."""
    unknown = sorted(found.keys() - expected.keys())
    missing = sorted(expected.keys() - found.keys())
    both = sorted(found.keys() & expected.keys())
    other = [name for name in both if found[name].shape != expected[name].shape]

    parts = []
    if unknown:
        parts.append(f"it has {len(unknown)} weights that are not known, such as {unknown[0]}")
    if missing:
        parts.append(f"it lacks {len(missing)} weights, such as {missing[0]}")
    if other:
        shapes = f"{tuple(found[other[0]].shape)} and not {tuple(expected[other[0]].shape)}"
        parts.append(f"{len(other)} weights have another shape, such as {other[0]}: {shapes}")
    return "; ".join(parts)
