"""What a run is: labels, methods and the one frozen configuration. Standard library only."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2l_core.profiles import DATASETS, PROFILES, ROTATING, SYNTHETIC

CLASSES = ("background", "foreground")  # what the labels 0 and 1 mean
IGNORE = 255  # label of what takes no part in a loss


class S2LError(ValueError):
    """An error a user can cause: says what was found, what was expected and what to do."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]  # in a notebook the sentence is enough


@dataclass(frozen=True)
class ScaleTerm:
    """One contrastive term of Eq. 6: a decoder block from 1 (deepest) to 5, lambda and tau."""

    block: int
    weight: float
    temperature: float

    def __post_init__(self) -> None:
        if self.block not in range(1, 6) or self.weight < 0 or self.temperature <= 0:
            raise S2LError(
                f"{self}: expected block 1 to 5, weight >= 0 and temperature > 0. Change the scale."
            )

    @property
    def factor(self) -> int:
        """Pixels per region side: delta of Eq. 5, by the block's resolution (D17)."""
        return 2 ** (5 - self.block)

    @property
    def name(self) -> str:
        """Short name in tables of losses: `r1`, `r4`."""
        return f"r{self.factor}"


R1 = ScaleTerm(block=5, weight=0.5, temperature=0.3)  # R1x1, Sec. 3.2
R4 = ScaleTerm(block=3, weight=10.0, temperature=0.1)  # R4x4, Sec. 3.2


@dataclass(frozen=True)
class Method:
    """A row of Table 1, or a baseline: a method is data."""

    label: str
    masks: bool = False  # learns from full masks instead of scribbles
    pseudo: bool = False  # uses the averaged predictions as pseudo-labels (Eq. 3)
    scales: tuple[ScaleTerm, ...] = ()
    baseline: bool = False  # no network: nothing of this package is trained

    @property
    def forks(self) -> bool:
        """True where the method starts from the fold's shared warm-up."""
        return not (self.masks or self.baseline)


METHODS = {
    "s2l": Method("S2L", pseudo=True),
    "s2l-r1": Method("S2L + R1x1", pseudo=True, scales=(R1,)),
    "s2l-r4": Method("S2L + R4x4", pseudo=True, scales=(R4,)),
    "s2l-r1-r4": Method("S2L + R1x1 + R4x4", pseudo=True, scales=(R1, R4)),
    "supervised": Method("Supervised", masks=True),
    "scribble-only": Method("Scribbles only"),
    "otsu": Method("Otsu", baseline=True),
    "random-forest": Method("Random forest", baseline=True),
}
FULL = "s2l-r1-r4"  # the paper's method: both contrastive terms
TABLE1_METHODS = ("s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4", "supervised")

# D16: simulated annotators that never look at the image have numbers, those that look at it, and
# the rule of S2L, have names.
ANNOTATORS = ("skeleton", "attentive-0", "attentive-1", "attentive-2")
FORMER_NAMES = {"cpu": "scratch"}  # of profiles


@dataclass(frozen=True)
class _Paper:
    """The paper's value, used where neither the caller nor the profile gives another."""

    value: Any


def _paper(
    value: Any,
    *,
    main: bool = False,
    choices: tuple[Any, ...] = (),
    within: tuple[float, float] | None = None,
) -> Any:
    """A field with the paper's value.

    Args:
        value: used where neither caller nor profile gives another.
        main: acts in the main stage only, so the shared warm-up does not depend on it.
        choices: the values that are allowed; empty: not limited to a list.
        within: the smallest and the largest number that is allowed.
    """
    about = {"main": main, "choices": choices, "within": within}
    return dataclasses.field(default=_Paper(value), metadata=about)


def _given(value: Any, within: tuple[float, float]) -> Any:
    """A field whose default is no choice of the paper's."""
    return dataclasses.field(default=value, metadata={"within": within})


# Limits of fields: a share, a number of steps, a number that may be 0.
SHARE = (0.0, 1.0)
LENGTH = (1, 10**7)
OR_NONE = (0, 10**7)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers.

    Fields left out come from the profile, then from the paper.

    Raises:
        S2LError: a value that is not allowed, with the field, what is allowed and the nearest right
            word.
    """

    dataset: str  # a name in DATASETS, or a folder of one's own
    method: str  # a name in METHODS
    fold: int = _given(0, (0, 99))
    seed: int = _given(0, (0, 2**31))
    profile: str = "demo"
    annotator: int | str = _paper(0)  # D16: which simulated one drew, or "skeleton", S2L's rule
    budget: float = _given(0.3, SHARE)  # D16: share of nuclei that carry a stroke
    rotation: int = _given(0, (0, 4))  # D25: which part is tested; 0: the last one, as in the paper

    # data
    subset: bool = _paper(False)  # the committed subset of a large data set
    train_images: int = _paper(0, within=OR_NONE)  # D26: at most so many train; 0: all of them
    images: int = _paper(0)  # size of a synthetic data set (0: does not apply)
    image_size: int = _paper(0)  # its images' side in pixels (0: does not apply)
    intensity: str = _paper("imagenet", choices=("imagenet", "stretch"))  # D20
    batch: int = _paper(30, within=(1, 4096))  # D11: crops in a step, at most the number of images
    crop: int = _paper(256, within=(32, 4096))  # D11: side of a crop in pixels
    foreground_crops: float = _paper(0.0, within=SHARE)  # D21: share that holds a nucleus's stroke

    # model and optimiser
    encoder: str = _paper("resnet34")  # Sec. 3.2
    encoder_weights: str | None = _paper("imagenet")  # D13: or a local file; None: from scratch
    frozen_statistics: bool = _paper(False)  # D22: the encoder's batch statistics stay ImageNet's
    output_bias: str = _paper("zero", choices=("zero", "labels"))  # D27: of the untrained network
    rate_encoder: float = _paper(3e-4, within=SHARE)  # D9: learning rates of RAdam
    rate_decoder: float = _paper(3e-3, within=SHARE)
    rate_heads: float = _paper(3e-4, main=True, within=SHARE)
    weight_decay: float = _paper(5e-5, within=SHARE)
    schedule: str = _paper("constant", choices=("constant", "cosine", "warm-restarts"))  # D9

    # lengths, all in optimiser steps
    warmup_steps: int = _paper(0, within=LENGTH)
    main_steps: int = _paper(0, within=OR_NONE)
    average_every: int = _paper(0, within=LENGTH)  # between two updates of the averaged predictions
    average_every_main: int = _paper(0, main=True, within=OR_NONE)  # in the main stage; 0: the same
    validate_every: int = _paper(0, within=LENGTH)

    # S2L
    pseudo_weight: float = _paper(0.5, main=True, within=(0.0, 1e6))  # alpha of Eq. 2
    confidence: float = _paper(0.8, main=True, within=(0.5, 1.0))  # D7: background below 1 - it
    averaging: float = _paper(0.2, within=SHARE)  # D7: weight of the newest prediction
    average_start: str = _paper("corrected", main=True, choices=("corrected", "zero"))  # D8
    label_mean: str = _paper("batch", choices=("batch", "image"))  # D19: the mean of Eq. 1 and 3

    # contrastive terms
    scales: tuple[ScaleTerm, ...] = _paper(None, main=True)  # None: those of the method
    contrast_ramp: int = _paper(0, main=True, within=OR_NONE)  # D23: over which lambda grows from 0
    heads_alone: int = _paper(0, main=True, within=OR_NONE)  # D24: only heads learn from Eq. 4
    nu_low: float = _paper(0.0, main=True, within=SHARE)  # nu_1 of Eq. 5
    nu_high: float = _paper(1.0, main=True, within=SHARE)  # nu_2 of Eq. 5
    region_rule: str = _paper("scribble", main=True, choices=("scribble", "unanimous"))  # D4
    contrast_labels: str = _paper("pseudo", main=True, choices=("pseudo", "scribbles"))  # D5
    max_regions: int = _paper(6000, main=True, within=(1, 10**6))  # D3: per class and scale
    equalise: bool = _paper(False, main=True)  # D3: as many of one class as of the other
    pair_target: str = _paper("same", main=True, choices=("same", "and", "or"))  # D1
    pair_reduction: str = _paper("mean", main=True, choices=("mean", "balanced"))  # D2
    pairs: str = _paper("batch", main=True, choices=("batch", "image"))  # D18
    selection: str = _paper("best", main=True, choices=("best", "last"))  # D10: what Table 1 shows

    def __post_init__(self) -> None:
        check_choice("profile", self.profile, PROFILES)
        check_choice("method", self.method, METHODS)

        # What the caller left open comes from the profile, and then from the paper.
        profile = PROFILES[self.profile]
        given = profile.settings | profile.per_dataset.get(self.dataset, {})
        given = given | profile.per_method.get(self.method, {})
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, _Paper):
                object.__setattr__(self, field.name, given.get(field.name, value.value))
        if self.scales is None:
            object.__setattr__(self, "scales", METHODS[self.method].scales)

        # Only a synthetic data set has a size that can be chosen.
        if self.dataset not in SYNTHETIC:
            object.__setattr__(self, "images", 0)
            object.__setattr__(self, "image_size", 0)

        for field in dataclasses.fields(self):
            _check_field(field, getattr(self, field.name))
        _check_together(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Builds a configuration from `to_dict`, or from parameters of a notebook."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            check_choice("configuration field", name, names)

        values = dict(values)
        if values.get("scales") is not None:
            scales = values["scales"]
            values["scales"] = tuple(ScaleTerm(**s) if isinstance(s, dict) else s for s in scales)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def choices(self) -> dict[str, Any]:
        """Data set, method and whatever else differs from its default: a run's identity.

        Defaults are the paper's values, so that fields which are added later leave it as it is.
        """
        usual = {}
        for field in dataclasses.fields(self):
            usual[field.name] = getattr(field.default, "value", field.default)
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}

    def changed(self) -> dict[str, Any]:
        """What is set otherwise than the profile does, fold and seed included."""
        usual = RunConfig(self.dataset, self.method, profile=self.profile).to_dict()
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}

    def warmup(self) -> "RunConfig":
        """The configuration of the warm-up this run shares: without what acts in the main stage."""
        main = {}
        for field in dataclasses.fields(self):
            if field.metadata.get("main"):
                main[field.name] = field.default.value
        return dataclasses.replace(self, method="s2l", **main)

    @property
    def total_steps(self) -> int:
        """Warm-up and main stage together."""
        return self.warmup_steps + self.main_steps


def _check_field(field: dataclasses.Field, value: Any) -> None:
    """Holds a value against what its field allows."""
    if field.metadata.get("choices"):
        check_choice(field.name, value, field.metadata["choices"])
    if field.metadata.get("within"):
        low, high = field.metadata["within"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise S2LError(
                f"{field.name} = {value!r}: expected a number from {low} to {high}. "
                f"Change {field.name}."
            )


def _check_together(config: RunConfig) -> None:
    """Checks what no field can say of itself."""
    if config.dataset in DATASETS:
        folds = DATASETS[config.dataset][1]
        if config.fold >= folds:
            raise S2LError(
                f"fold = {config.fold}: {config.dataset} has folds 0 to {folds - 1}. "
                "Choose one of them."
            )

    # Which images test can be chosen only where the data set comes with no test part of its own.
    if config.rotation and config.dataset not in ROTATING:
        raise S2LError(
            f"rotation = {config.rotation}: the test part of {config.dataset} is given from "
            "outside, so no other can take its place. Set rotation to 0, or choose one of: "
            f"{', '.join(ROTATING)}."
        )
    if config.rotation and config.subset and config.dataset == "dsb-fluo":
        raise S2LError(
            f"rotation = {config.rotation}: the subset of {config.dataset} has one committed "
            "test part. Set rotation to 0 or subset to False."
        )

    if config.crop % 32:
        raise S2LError(
            f"crop = {config.crop}: the network halves it five times. Choose a multiple of 32."
        )
    if isinstance(config.annotator, str):
        check_choice("annotator", config.annotator, ANNOTATORS)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises an S2LError unless `value` is one of the choices."""
    if value not in choices:
        raise S2LError(f"{name} = {value!r} is not known.{suggestion(value, choices)}")


def suggestion(value: Any, choices: Iterable[Any]) -> str:
    """The choices, after the one that was probably meant."""
    names = [str(choice) for choice in choices]
    meant = nearest(str(value), names)
    asked = f" Did you mean {meant!r}?" if meant else ""
    return f"{asked} Choose one of: {', '.join(names)}."


def nearest(word: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant: by an older name, nearly so, or by how it begins."""
    if FORMER_NAMES.get(word) in names:
        return FORMER_NAMES[word]
    alike = difflib.get_close_matches(word, names, n=1)
    if alike:
        return alike[0]
    begun = [name for name in names if word and name.startswith(word)]
    return begun[0] if begun else None


def seed_for(*purpose: Any) -> int:
    """Seed of one random draw, 63 bits that depend on (seed, purpose, step) alone.

    Every draw has a generator of its own, so resuming needs no generator state and methods see the
    same crops.
    """
    hashed = hashlib.sha256(json.dumps(purpose).encode()).digest()
    return int.from_bytes(hashed[:8], "big") >> 1


def digest(value: Any, length: int = 8) -> str:
    """First hexadecimal digits of the SHA-256 of a JSON-ready value, of bytes, or of a file."""
    if isinstance(value, Path):
        with value.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:length]
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(value).hexdigest()[:length]
