"""What a run is: labels, methods, profiles and the one frozen configuration. Standard library only."""

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass
from typing import Any

IGNORE = 255  # label of a pixel or region that takes no part in a loss; 0 is background, 1 is foreground
NUMERICS_VERSION = 1  # raised whenever the same configuration may give other numbers; part of every run's hash


class S2LError(ValueError):
    """An error a user can cause: says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Stroke:
    """One drawn line: `label` 0 or 1, brush `width` in pixels, `points` as (row, column) in pixel centres."""

    label: int
    width: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ScaleTerm:
    """One contrastive term of Eq. 6: decoder block 1 (deepest) to 5 (full resolution), lambda and tau."""

    block: int
    weight: float
    temperature: float

    def __post_init__(self):
        if self.block not in range(1, 6) or self.weight < 0 or self.temperature <= 0:
            raise S2LError(f"{self}: expected block 1 to 5, weight >= 0 and temperature > 0.")

    @property
    def factor(self) -> int:
        """Pixels per region side, delta of Eq. 5 (D17: blocks are paired with factors by resolution)."""
        return 2 ** (5 - self.block)

    @property
    def name(self) -> str:
        """Short name in tables of losses: `r1`, `r4`."""
        return f"r{self.factor}"


R1 = ScaleTerm(block=5, weight=0.5, temperature=0.3)  # R1x1, Sec. 3.2
R4 = ScaleTerm(block=3, weight=10.0, temperature=0.1)  # R4x4, Sec. 3.2


@dataclass(frozen=True)
class Method:
    """A row of Table 1, or a rival: a method is data."""

    label: str
    masks: bool = False  # learns from full masks instead of scribbles
    pseudo: bool = False  # uses the averaged predictions as pseudo-labels (Eq. 3)
    scales: tuple[ScaleTerm, ...] = ()
    rival: bool = False  # no network: fitted and scored by s2l_core.rivals

    @property
    def forks(self) -> bool:
        """True where the method starts from the fold's shared warm-up."""
        return not (self.masks or self.rival)


METHODS = {
    "s2l": Method("S2L", pseudo=True),
    "s2l-r1": Method("S2L + R1x1", pseudo=True, scales=(R1,)),
    "s2l-r4": Method("S2L + R4x4", pseudo=True, scales=(R4,)),
    "s2l-r1-r4": Method("S2L + R1x1 + R4x4", pseudo=True, scales=(R1, R4)),
    "supervised": Method("Supervised", masks=True),
    "scribble-only": Method("Scribbles only"),
    "otsu": Method("Otsu", rival=True),
    "random-forest": Method("Random forest", rival=True),
}
TABLE1_METHODS = ("s2l", "s2l-r1", "s2l-r4", "s2l-r1-r4", "supervised")

DATASETS = {  # name -> label and number of folds
    "dsb-bf": ("DSB-BF", 4),
    "dsb-fluo": ("DSB-Fluo", 4),
    "monuseg": ("MoNuSeg", 5),
    "synthetic-bf": ("Synthetic BF", 4),
    "synthetic-fluo": ("Synthetic Fluo", 4),
    "synthetic-he": ("Synthetic H&E", 4),
}
REAL, SYNTHETIC = tuple(DATASETS)[:3], tuple(DATASETS)[3:]


@dataclass(frozen=True)
class Profile:
    """How large a reproduction is: its data sets, its folds and what differs from the paper's settings."""

    datasets: tuple[str, ...]
    folds: int | None  # how many folds by default; None: all
    settings: dict[str, Any]
    per_dataset: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def _epochs(steps_per_epoch: int) -> dict[str, int]:
    """The paper's lengths in steps: 100 + 400 epochs, averaged every 5 (Sec. 1 of S2L; the 400 is our guess)."""
    lengths = {"warmup_steps": 100, "main_steps": 400, "average_every": 5, "validate_every": 5}
    return {name: epochs * steps_per_epoch for name, epochs in lengths.items()}


# one crop per image and epoch (D11): ceil(training images / batch of 30) steps
PAPER_LENGTHS = {"dsb-bf": _epochs(1), "dsb-fluo": _epochs(11), "monuseg": _epochs(1)}
# from scratch in a few hundred steps: RAdam damps its first few hundred, hence rates above the paper's (notebook 10)
_SCRATCH = {"encoder_weights": None, "schedule": "cosine", "intensity": "stretch", "foreground_crops": 0.5}
_SCRATCH |= {"rate_encoder": 3e-3, "rate_decoder": 9e-3, "rate_heads": 3e-3, "batch": 4}
_SMOKE = {"encoder": "resnet18", "crop": 64, "batch": 2, "images": 8, "image_size": 96, "max_regions": 200}
_SMOKE |= {"warmup_steps": 4, "main_steps": 4, "average_every": 2, "validate_every": 2}
_DEMO = {"encoder": "resnet18", "crop": 96, "images": 32, "image_size": 192, "max_regions": 1000}
_DEMO |= {"warmup_steps": 40, "main_steps": 45, "average_every": 15, "validate_every": 15}
_CPU = {"crop": 160, "max_regions": 2000}
_CPU |= {"warmup_steps": 150, "main_steps": 300, "average_every": 50, "validate_every": 50}
_CPU_LARGE = {"dsb-fluo": {"average_every": 150, "validate_every": 100}, "monuseg": {"average_every": 75}}
_CODE = {"pair_reduction": "balanced", "equalise": True, "region_rule": "unanimous", "average_start": "zero"}
_CODE_MONUSEG = {"confidence": 0.95, "averaging": 0.1}
PROFILES = {
    "smoke": Profile(("synthetic-fluo",), 1, _SCRATCH | _SMOKE),
    "demo": Profile(SYNTHETIC, 1, _SCRATCH | _DEMO),
    "cpu": Profile(("dsb-bf", "dsb-fluo"), 1, _SCRATCH | _CPU, _CPU_LARGE),
    "paper": Profile(REAL, None, {}, PAPER_LENGTHS),
    "paper-code": Profile(REAL, None, _CODE, PAPER_LENGTHS | {"monuseg": PAPER_LENGTHS["monuseg"] | _CODE_MONUSEG}),
}


@dataclass(frozen=True)
class _Paper:
    """The paper's value, used where neither the caller nor the profile gives another."""

    value: Any


def _paper(value: Any, *, main: bool = False) -> Any:
    """A field with the paper's value; `main` marks what the warm-up never sees."""
    return dataclasses.field(default=_Paper(value), metadata={"main": main})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers. Fields left out come from the profile, then from the paper."""

    dataset: str  # a name in DATASETS, or a folder of one's own
    method: str  # a name in METHODS
    fold: int = 0
    seed: int = 0
    profile: str = "demo"
    annotator: int | str = 0  # D16: which simulated annotator drew, or "skeleton" for S2L's rule
    budget: float = 0.3  # D16: share of nuclei that carry a stroke
    # data
    subset: bool = _paper(False)  # the committed subset of a large data set; no deviation without a label
    images: int = _paper(0)  # size of a synthetic data set (0: does not apply)
    image_size: int = _paper(0)  # its images' side in pixels (0: does not apply)
    intensity: str = _paper("imagenet")  # D20: "stretch" first maps each image's 0.5-99.5 percentiles to 0-1
    batch: int = _paper(30)  # D11: crops in a step, at most the number of images
    crop: int = _paper(256)  # D11: side of a crop in pixels
    foreground_crops: float = _paper(0.0)  # D21: share of crops placed so that they hold a foreground scribble
    # model and optimiser
    encoder: str = _paper("resnet34")  # Sec. 3.2
    encoder_weights: str | None = _paper("imagenet")  # D13: "imagenet", a local file, or None for from scratch
    rate_encoder: float = _paper(3e-4)  # D9: learning rates of RAdam
    rate_decoder: float = _paper(3e-3)
    rate_heads: float = _paper(3e-4, main=True)
    weight_decay: float = _paper(5e-5)
    schedule: str = _paper("constant")  # D9
    # lengths, all in optimiser steps
    warmup_steps: int = _paper(0)
    main_steps: int = _paper(0)
    average_every: int = _paper(0)  # steps between two updates of the averaged predictions
    validate_every: int = _paper(0)
    # S2L
    pseudo_weight: float = _paper(0.5, main=True)  # alpha of Eq. 2
    confidence: float = _paper(0.8, main=True)  # D7: a pseudo-label is foreground above it, background below 1 - it
    averaging: float = _paper(0.2)  # D7: weight of the newest prediction
    average_start: str = _paper("corrected", main=True)  # D8
    label_mean: str = _paper("batch")  # D19: what Eq. 1 and 3 average over
    # contrastive terms
    scales: tuple[ScaleTerm, ...] | None = _paper(None, main=True)  # None: those of the method
    nu_low: float = _paper(0.0, main=True)  # nu_1 of Eq. 5
    nu_high: float = _paper(1.0, main=True)  # nu_2 of Eq. 5
    region_rule: str = _paper("scribble", main=True)  # D4
    contrast_labels: str = _paper("pseudo", main=True)  # D5
    max_regions: int = _paper(6000, main=True)  # D3: regions drawn per class and scale, Sec. 3.2
    equalise: bool = _paper(False, main=True)  # D3: as many of one class as of the other
    pair_target: str = _paper("same", main=True)  # D1
    pair_reduction: str = _paper("mean", main=True)  # D2
    pairs: str = _paper("batch", main=True)  # D18: pairs within the whole batch or within each image
    selection: str = _paper("best", main=True)  # D10: the checkpoint Table 1 shows; both are always scored

    def __post_init__(self):
        check_choice("profile", self.profile, PROFILES)
        check_choice("method", self.method, METHODS)
        profile = PROFILES[self.profile]
        given = profile.settings | profile.per_dataset.get(self.dataset, {})
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, _Paper):
                object.__setattr__(self, field.name, given.get(field.name, value.value))
        if self.scales is None:
            object.__setattr__(self, "scales", METHODS[self.method].scales)
        for name in ("images", "image_size") if self.dataset not in SYNTHETIC else ():
            object.__setattr__(self, name, 0)
        _check(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Rebuilds a configuration from `to_dict` or from notebook parameters; an unknown name is an S2LError."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            check_choice("configuration field", name, names)
        values = dict(values)
        if values.get("scales") is not None:
            values["scales"] = tuple(ScaleTerm(**s) if isinstance(s, dict) else s for s in values["scales"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def choices(self) -> dict[str, Any]:
        """What differs from the paper: a run's identity, which a switch added later at its default leaves as it is."""
        usual = {field.name: getattr(field.default, "value", field.default) for field in dataclasses.fields(self)}
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}

    def warmup(self) -> "RunConfig":
        """The configuration of the warm-up this run shares: whatever acts only in the main stage is reset."""
        main = {f.name: f.default.value for f in dataclasses.fields(self) if f.metadata.get("main")}
        return dataclasses.replace(self, method="s2l", **main)

    @property
    def total_steps(self) -> int:
        """Warm-up and main stage together."""
        return self.warmup_steps + self.main_steps


_CHOICES = dict.fromkeys(("label_mean", "pairs"), ("batch", "image")) | {
    "intensity": ("imagenet", "stretch"),
    "schedule": ("constant", "cosine", "warm-restarts"),
    "average_start": ("corrected", "zero"),
    "region_rule": ("scribble", "unanimous"),
    "contrast_labels": ("pseudo", "scribbles"),
    "pair_target": ("same", "and", "or"),
    "pair_reduction": ("mean", "balanced"),
    "selection": ("best", "last"),
}
_SHARES = "budget averaging nu_low nu_high rate_encoder rate_decoder rate_heads weight_decay foreground_crops".split()
_RANGES = dict.fromkeys(_SHARES, (0.0, 1.0)) | {  # name -> smallest and largest allowed value
    "fold": (0, 99), "seed": (0, 2**31), "batch": (1, 4096), "crop": (32, 4096), "confidence": (0.5, 1.0),
    "warmup_steps": (1, 10**7), "main_steps": (0, 10**7), "average_every": (1, 10**7), "validate_every": (1, 10**7),
    "max_regions": (1, 10**6), "pseudo_weight": (0.0, 1e6),
}  # fmt: skip


def _check(config: RunConfig) -> None:
    for name, choices in _CHOICES.items():
        check_choice(name, getattr(config, name), choices)
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise S2LError(f"{name} = {value!r}: expected a number from {low} to {high}. Change {name}.")
    if config.dataset in DATASETS and config.fold >= (folds := DATASETS[config.dataset][1]):
        raise S2LError(f"fold = {config.fold}: {config.dataset} has folds 0 to {folds - 1}. Choose one of them.")
    if config.crop % 32:
        raise S2LError(f"crop = {config.crop}: the network halves it five times. Choose a multiple of 32.")
    if isinstance(config.annotator, str) and config.annotator != "skeleton":
        raise S2LError(f"annotator = {config.annotator!r}: expected a number or 'skeleton'.")


def check_choice(name: str, value: Any, choices) -> None:
    """Raises an S2LError unless `value` is one of the choices."""
    if value not in choices:
        raise S2LError(f"{name} = {value!r} is not known.{suggestion(value, choices)}")


def suggestion(value: Any, choices) -> str:
    """The choices, after the one that was probably meant."""
    near = difflib.get_close_matches(str(value), map(str, choices), n=1)
    return "".join(f" Did you mean {name!r}?" for name in near) + f" Choose one of: {', '.join(map(str, choices))}."


def seed_for(*purpose: Any) -> int:
    """Seed of one random draw from (seed, purpose, step): a 63-bit number that depends on nothing else.

    Every draw has a generator of its own, so resuming needs no generator state and methods see the same crops.
    """
    digest = hashlib.sha256(json.dumps(purpose).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def digest(value: Any, length: int = 8) -> str:
    """Short hash of a JSON-ready value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]
