"""The channel that is learned from, where the images of a folder have several.

A choice is noted in `folder.toml`, so that notebook, check and commands all follow it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2l_core.config import S2LError
from s2l_images.faults import Fault
from s2l_images.files import write_text
from s2l_images.folders.listing import survey
from s2l_images.folders.settings import read_settings
from s2l_images.places import own_settings
from s2l_images.reading.pictures import raw_channels, read_image

NEEDED = "image-channels"  # the fault of an image of which one channel has to be chosen


def channels_to_choose(folder: Path) -> tuple[str, ...]:
    """Names of the channels of a folder's images; none where nobody has to choose, as by the first
    image, or where that cannot be read.
    """
    images = survey(folder).files["images"]
    if not images:
        return ()
    first = min(images.items())[1][0]
    try:
        read_image(first)
    except Fault as fault:
        return tuple(raw_channels(first).channels) if fault.finding.code == NEEDED else ()
    except S2LError:
        return ()
    return ()


@contextmanager
def channel_chosen(folder: Path, channel: str) -> Iterator[None]:
    """Notes the channel in `folder.toml`; where what follows fails, the file is as it was.

    Args:
        folder: of one's own.
        channel: a name, or a number from 1 where none has it for a name; empty: what the file
            says, if anything.

    Raises:
        S2LError: `folder.toml` cannot be followed or written.
    """
    # A channel may have a number for its name, such as the wavelength 488.
    is_number = channel.isdecimal() and channel not in channels_to_choose(folder)
    wanted = int(channel) if is_number else channel
    if not channel or read_settings(folder).channel == wanted:
        yield
        return

    file = own_settings(folder)
    before = file.read_text("utf-8-sig") if file.exists() else None
    try:
        write_text(file, _with_channel(before or "", wanted))
    except OSError as error:
        raise S2LError(
            f"{file}: cannot be written ({error.strerror}), so that no channel is chosen. Give "
            "access to the folder, then open it again."
        ) from error
    try:
        yield
    except BaseException:
        if before is None:
            file.unlink()
        else:
            write_text(file, before)
        raise


def _with_channel(text: str, channel: int | str) -> str:
    """A `folder.toml` with this channel; all other lines stay."""
    # Names of TOML's tables end what belongs to no table.
    head, table, rest = text.partition("\n[")
    lines = [line for line in head.splitlines() if not re.match(r"\s*channel\s*=", line)]
    value = json.dumps(channel, ensure_ascii=False)
    return "\n".join([f"channel = {value}", *lines]) + ("\n" if not table else "") + table + rest
