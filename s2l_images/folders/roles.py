"""Which images of a folder train, validate and test."""

import unicodedata
from collections import Counter
from pathlib import Path

from s2l_images.faults import Fault, listed
from s2l_images.folders.listing import sound
from s2l_images.places import own_splits
from s2l_images.reading.label_values import read_json

ROLES = ("train", "validation", "test")


def split_folder(folder: Path) -> dict[str, list[str]]:
    """Ids that train, validate and test: those of `splits.json`, or every image with scribbles or a
    mask trains.

    Where `splits.json` names no training images, these are all labelled ones that it does not name
    otherwise.

    Raises:
        Fault: nothing is labelled; or a name in `splits.json` that is unknown, twice there, or
            lacks what it needs.
    """
    listing = sound(folder)
    labelled = sorted({*listing.scribbled, *listing.masked})
    if not labelled:
        what = f"none of {len(listing.ids)} images has scribbles or a mask"
        raise Fault("nothing-labelled", listing.root, what)

    path = own_splits(listing.root)
    given = _named(path)
    roles = {role: given.get(role, []) for role in ROLES}

    # Whatever is labelled and not named trains, unless the training images are named themselves.
    named = [name for names in roles.values() for name in names]
    if "train" not in given:
        roles["train"] = [i for i in labelled if i not in named]

    # Each fault with the names that have it.
    scored = [*roles["validation"], *roles["test"]]
    faults = {
        "is no image": sorted({*named} - {*listing.ids}),
        "is named twice": [name for name, count in Counter(named).items() if count > 1],
        "has neither scribbles nor a mask to train with": [
            i for i in roles["train"] if i not in labelled
        ],
        "has no mask to score against": [i for i in scored if i not in listing.masked],
        "has to be left to train": [] if roles["train"] else ["one"],
    }
    for fault, names in faults.items():
        if names:
            what = f"{names[0]!r} {fault}; images/ has {listed(listing.ids)}"
            raise Fault("bad-splits", path, what)
    return roles


def _named(path: Path) -> dict[str, list[str]]:
    """What a `splits.json` says: names by role, whichever way their accents are written.

    Raises:
        Fault: another role, or anything but a list of names.
    """
    content = read_json(path, "bad-splits")
    for role, names in content.items():
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if role not in ROLES or not is_list:
            raise Fault("bad-splits", path, f"{role!r} holds {names!r:.50}")
    return {
        role: [unicodedata.normalize("NFC", name) for name in names]
        for role, names in content.items()
    }
