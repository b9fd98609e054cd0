"""What can be wrong with a folder of one's own: every kind, its level, what was expected and what to do.

`docs/bad_inputs.md` explains each of them at more length; a test holds the two against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2l_core.config import S2LError

_COPY, _RESAVE = (
    "Copy it again from where it came.",
    "Open it in the program it came from, and save it again.",
)
_MOVE = "Put PNG, JPEG or TIFF files into a folder images/."
_TELL = 'Say which in a file scribbles.json of this folder: {"foreground": 1, "background": 2}, with your values'

ERRORS = {  # reading or training stops: code -> what was expected, what to do
    "not-a-folder": ("a folder that holds images/", "Check the path."),
    "empty-folder": ("images/ in it", _MOVE),
    "no-images-folder": ("images/ in it", _MOVE),
    "images-in-root": ("them in images/", "Make a folder images/ here and move them into it."),
    "no-images": ("PNG, JPEG or TIFF files", "Export the images as TIFF or PNG into it."),
    "same-stem": (
        "one file of a name",
        "Remove or rename all but one: files are paired by name without suffix.",
    ),
    "no-image-for-it": (
        "an image of the same name, suffix aside",
        "Rename it like its image, or remove it.",
    ),
    "link-outside": (
        "files of this folder",
        "Copy what is meant here: such a link is not followed.",
    ),
    "nothing-labelled": ("scribbles/ or masks/", "Draw strokes of both classes on some images."),
    "bad-splits": (
        '{"train": [...], "validation": [...], "test": [...]} of image names without suffix, each once',
        "Correct splits.json: what trains has scribbles or a mask, the others masks.",
    ),
    "bad-encoding": (
        '{"foreground": 1, "background": 2} with your values, colours (like "#ff0000") or class names',
        "Correct scribbles.json.",
    ),
    "empty-file": ("an image or an annotation", _COPY),
    "unreadable-file": ("a whole file of a format that is read", _RESAVE),
    "other-program": (
        "ROIs of ImageJ, GeoJSON of QuPath, XML of Aperio ImageScope, or a label image",
        "Export it as one of these.",
    ),
    "nothing-left": (
        "at least one outline or stroke that counts",
        "Export what should be read; a file without any item says that there is nothing.",
    ),
    "several-planes": (
        "items of one plane, as the image is one",
        "Name the plane, counted from 1, in a file folder.toml of this folder; or export its items alone.",
    ),
    "stack": (
        "one plane",
        "Save the one plane to be learned from, or a projection, as a file of its own.",
    ),
    "image-channels": (
        "grey, RGB or RGBA",
        "Save the channel that shows the nuclei, or convert to RGB.",
    ),
    "image-deep-colour": (
        "8 bits a channel, or a TIFF without compression",
        "Save it in one of these ways.",
    ),
    "image-not-finite": ("numbers only", "Replace NaN and infinite values, or save as 16 bit."),
    "image-hidden": ("visible pixels", "Remove the alpha channel, or save without transparency."),
    "image-huge": (
        "fewer pixels",
        "Cut it into pieces of a few thousand pixels a side, or set S2L_LIMITS=4.",
    ),
    "label-jpeg": (
        "PNG or TIFF",
        "JPEG blurs labels beyond repair: export them again as PNG or TIFF.",
    ),
    "label-size": (
        "the size of its image",
        "Save it at the size of the image, neither scaled nor cut.",
    ),
    "label-values": (
        "whole numbers from 0",
        "Save labels as 8 or 16 bit whole numbers, not a probability.",
    ),
    "scribble-binary": (
        "two classes and what is not drawn",
        f"A full mask belongs in masks/. Strokes need both classes, and a third value where nothing is drawn. {_TELL}.",
    ),
    "scribble-ambiguous": ("to be told what they mean", f"{_TELL}; all others count as not drawn."),
    "scribble-values": (
        "three values: foreground, background and not drawn",
        f"Draw with a hard brush without smoothing, on a layer that holds no image. {_TELL} if a few are meant.",
    ),
    "scribble-colours": (
        "red for foreground, green or blue for background, on one ground: white, black or transparent",
        'Draw with a hard brush on a layer of its own, or name colours in scribbles.json: {"foreground": "#ffaa00", '
        '"background": "purple"}.',
    ),
    "scribble-mixed": ("the same values in all files", "Save all scribbles in one way."),
    "scribble-empty": ("strokes", "Draw some, or remove the file."),
    "scribble-one-sided": (
        "strokes of both classes in the folder",
        "Draw what is missing in one image at least.",
    ),
    "mask-colours": (
        "numbers: 0 for background, 1, 2, 3 ... for nuclei",
        "Save 16-bit labels, not a picture of them.",
    ),
    "mask-smooth": (
        "0 and whole labels",
        "Save it without smoothing, scaling or JPEG, or threshold it.",
    ),
}

WARNINGS = {  # all works, but probably not as meant
    "wrong-folder-name": (
        "images/, scribbles/ or masks/",
        "Rename it, or ignore this: it is not read.",
    ),
    "wrong-place": (
        "files right in images/, scribbles/ or masks/",
        "Move them there: here they are not read.",
    ),
    "unsupported-suffix": (
        "PNG, JPEG or TIFF; for labels also ROI, XML, GeoJSON",
        "Export it: it is not read.",
    ),
    "case-twins": (
        "names that differ in more than case",
        "Rename one: on a Mac or Windows one replaces the other.",
    ),
    "odd-name": (
        "letters, digits, spaces, - and _",
        "Rename it and what belongs to it: other systems refuse it.",
    ),
    "image-turned": (
        "pixels stored upright",
        "It is turned as viewers show it: check that labels were, too.",
    ),
    "image-tiny": (
        "32 pixels a side at least",
        "Use larger images: smaller ones are mostly padding.",
    ),
    "image-constant": ("something to see", "Remove it, or export it again."),
    "image-dark": (
        "more of the range from 0 to 255",
        'Stretch its contrast, or set intensity = "stretch".',
    ),
    "image-much-larger": (
        "images of similar size",
        "Cut it into pieces; check that the magnification is the same.",
    ),
    "mixed-colour": (
        "all grey or all in colour",
        "Check that all images are of one stain and modality.",
    ),
    "mixed-depth": (
        "8 bits, or more, in all",
        "Export all in one way: deep images are stretched, others are not.",
    ),
    "duplicate-images": (
        "different images",
        "Remove one: the same image in training and test flatters scores.",
    ),
    "scribble-one-class": (
        "strokes of both classes",
        "Draw the other one, too: it may be learned from others only.",
    ),
    "scribble-few": (
        "30 pixels of a class at least",
        "Draw longer strokes, or with a wider brush.",
    ),
    "scribble-dense": (
        "strokes",
        "A full mask belongs in masks/. Check which value means not drawn.",
    ),
    "scribble-contradicts-mask": (
        "strokes that agree with the mask",
        "Check both: are the classes swapped?",
    ),
    "strokes-astray": (
        "strokes on an image of this folder",
        "Draw them again if it was cut, replaced or renamed.",
    ),
    "items-left-out": (
        "what was drawn on this image alone, and of areas nuclei alone",
        "Nothing to do if that is right. Otherwise export only what should be read.",
    ),
    "cells-whole": (
        "nuclei, or cells with their nuclei",
        "The outlines of whole cells are taken: export nuclei if these are meant.",
    ),
    "nuclei-hidden": (
        "at least one pixel for each",
        "They lie under others or between the centres of pixels: delete or redraw them.",
    ),
    "mask-binary": (
        "a number for each nucleus",
        "Save labels where nuclei touch: each connected piece counts as one.",
    ),
    "mask-empty": ("nuclei", "Keep it if the image shows none. Otherwise export it again."),
    "mask-no-background": (
        "0 where there is no nucleus",
        "Check whether it is inverted, or background has a label.",
    ),
    "mask-pieces": (
        "one connected piece a label",
        "Check whether labels are classes: each nucleus needs its own.",
    ),
    "mask-merged": (
        "nuclei of similar size",
        "Split what was merged, or check whether a label is background.",
    ),
    "mask-specks": (
        "nuclei of ten pixels at least",
        "Check whether it was smoothed or is a grey image.",
    ),
}

NOTES = {  # what was understood
    "hidden-file": ("", "It is skipped."),
    "image-deep": ("", "Each image is stretched between its own 0.1 and 99.9 percentiles."),
    "image-transparent": ("", "Transparency is dropped: the colour stored beneath is read."),
    "unlabelled-image": ("", "Not learned from. Draw strokes if it should be."),
    "mask-only": (
        "",
        "Strokes are simulated from its mask. Add scribbles if they should be yours.",
    ),
    "scribble-encoding": ("this to be what you meant", "If it is not, say so in scribbles.json."),
    "label-rgb": ("", "A grey picture saved as RGB is read by its grey value."),
    "label-looks-black": ("", "Small numbers look black in most viewers: stretch the contrast."),
    "nothing-held-out": (
        "images to validate and test on, if you have masks",
        "Name them in splits.json.",
    ),
}

LEVELS = {"error": ERRORS, "warning": WARNINGS, "note": NOTES}
KINDS = {code: (level, *texts) for level, kinds in LEVELS.items() for code, texts in kinds.items()}


@dataclass(frozen=True)
class Finding:
    """One thing found: its code (a key of `KINDS`), the file or folder, and what was found there."""

    code: str
    file: Path
    found: str

    @property
    def level(self) -> str:
        """`error`, `warning` or `note`."""
        return KINDS[self.code][0]

    @property
    def expected(self) -> str:
        """What was expected instead."""
        return KINDS[self.code][1]

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.code][2]

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" * bool(self.expected)
        return f"{self.file}: {self.found}{expected}. {self.remedy}"


class Fault(S2LError):
    """A finding that stops the reading."""

    def __init__(self, code: str, file: Path, found: str):
        self.finding = Finding(code, file, found)
        super().__init__(str(self.finding))


def listed(names: Sequence[object], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
