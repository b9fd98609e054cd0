"""Old name of `s2l_images.files`, until the next release: the method itself writes no file."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(import_module("s2l_images.files"), name)
