"""Scribble-supervised cell segmentation with multiscale contrastive regularisation (Oh, Lee, Jeong,
ISBI 2022).

The method, and nothing beside it: hand a `Trainer` images and scribbles, and let it `fit`. Names
are loaded when they are first used, so that planning a batch of runs never waits for PyTorch.

To read the method from front to back: `config`, `images`, `losses`, `model`, `pseudo_labels`,
`objective`, `augment`, `batches`, `inference`, `trainer`; then `metrics`, the scores. What these
stand on can wait: `profiles` is a table of settings, `weights` knows where pretrained encoders come
from, `pair_sums` adds up Eq. 4 in little memory, `threads` keeps each thread to one core. All other
modules are old names of commands.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "config": ("IGNORE", "METHODS", "R1", "R4", "RunConfig", "S2LError", "ScaleTerm"),
    "images": ("CellImage",),
    "losses": (
        "contrastive_loss",
        "contrastive_term",
        "partial_bce",
        "region_labels",
        "sample_regions",
    ),
    "model": ("ScribbleUNet",),
    "pseudo_labels": ("PseudoLabels",),
    "inference": ("predict",),
    "metrics": ("aji", "f1", "instances", "iou", "mdice", "mdice_official", "score"),
    "trainer": ("Trainer",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
