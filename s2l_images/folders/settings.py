"""`folder.toml`: what nobody but the owner of a folder knows about its files."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s2l_images.faults import Fault
from s2l_images.places import own_settings


@dataclass(frozen=True)
class Settings:
    """What a `folder.toml` says; all of it may be left out.

    Attributes:
        channel: of images with several channels the one that is seen: its name, its number from 1,
            or "RGB".
        mask_background: the number in label images in masks/ that is no nucleus, such as ilastik's
            1; 0: it is 0, and an image without any 0 is right.
        plane: of a stack the one that the images are, counted from 1, or such as {c = 1, z = 3}.
    """

    channel: str | int | None = None
    mask_background: int | None = None
    plane: int | Mapping[str, int] | None = None


USUAL = Settings()


def read_settings(folder: Path) -> Settings:
    """The settings of a folder of one's own, the usual ones where there is no `folder.toml`.

    Raises:
        Fault: it cannot be followed.
    """
    path = own_settings(folder)
    try:
        content = tomllib.loads(path.read_text("utf-8-sig")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise Fault("bad-settings", path, f"cannot be read ({error})") from error

    for name, value in content.items():
        if name not in Settings.__dataclass_fields__:
            raise Fault("bad-settings", path, f"holds {name!r}")
        if not _sensible(name, value):
            raise Fault("bad-settings", path, f"{name} = {value!r:.60}")
    return Settings(**content)


def _sensible(name: str, value: object) -> bool:
    whole = type(value) is int
    if name == "channel":
        return (whole and value > 0) or (isinstance(value, str) and bool(value))
    if name == "mask_background":
        return whole and value >= 0
    if isinstance(value, dict):
        return bool(value) and all(type(number) is int and number > 0 for number in value.values())
    return whole and value > 0
