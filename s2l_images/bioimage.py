"""A model for other programs: a BioImage.IO package of its graph, an example and what to know of it.

The graph takes grey values and returns probabilities. Inside it are all steps that need one tile
alone: the scale of grey values, the encoder's mean and deviation, the padding to a multiple of its
stride. Percentiles (`intensity = "stretch"`) are those of a whole image, which only the program
that holds it can take: the package asks for them in its description.
"""

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from s2l_core import __version__
from s2l_core.config import RunConfig, S2LError
from s2l_core.images import intensity_range
from s2l_core.inference import MULTIPLE
from s2l_core.model import ScribbleUNet
from s2l_core.weights import PACKAGED
from s2l_images.files import write_atomically
from s2l_images.folder import read_folder, sound
from s2l_images.kept_models import load_model, model_in_use

FORMAT = "0.5.4"  # of the description: older than the newest, for programs that lag behind
HALO = 64  # pixels of context around a tile, as in `s2l_core.inference.predict`
SMALLEST = 192  # side of a tile or image in pixels: something has to be left inside the halo
LARGEST_EXAMPLE = 256  # side of the example in pixels
IMAGES_TRIED = 20  # for an example in which the model finds something
FOUND = 0.01  # the largest probability of an example is above: smaller ones test nothing

CITED = {
    "Oh, Lee and Jeong: Scribble-Supervised Cell Segmentation Using Multiscale Contrastive "
    "Regularization. IEEE ISBI 2022 (the method; its authors did not write this software)": (
        "10.48550/arXiv.2306.14136"
    ),
    "Lee and Jeong: Scribble2Label: Scribble-Supervised Cell Segmentation via Self-Generating "
    "Pseudo-Labels with Consistency. MICCAI 2020 (the method it builds on)": (
        "10.48550/arXiv.2006.12890"
    ),
}
EFFICIENTNET = {
    "Tan and Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. "
    "ICML 2019 (the encoder)": "10.48550/arXiv.1905.11946"
}


class WholeGraph(nn.Module):
    """From grey values to probabilities, for programs that know nothing of this one.

    Args:
        model: whose weights are shared, not copied.
        white: grey value that becomes 1; black is 0.
    """

    def __init__(self, model: ScribbleUNet, white: float):
        super().__init__()
        self.unet = model.unet
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)
        self.white = white
        self.multiple = MULTIPLE
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 1 or 3, H, W) of any size -> probabilities (B, 1, H, W) in [0, 1]."""
        image = (image.float() / self.white).clamp(0, 1)
        if image.size(1) == 1:
            image = image.expand(-1, 3, -1, -1)  # (B, 3, H, W)

        # Reflection needs an image that is larger than the border.
        height, width = image.size(2), image.size(3)
        bottom = (self.multiple - height % self.multiple) % self.multiple
        right = (self.multiple - width % self.multiple) % self.multiple
        mode = "reflect" if bottom < height and right < width else "replicate"
        padded = F.pad(image, [0, right, 0, bottom], mode=mode)  # (B, 3, H + bottom, W + right)

        logits = self.unet((padded - self.mean) / self.std)  # (B, 1, H + bottom, W + right)
        return torch.sigmoid(logits)[:, :, :height, :width]


@dataclass(frozen=True)
class Example:
    """A piece of an image with the answer: what a program tests itself with.

    Attributes:
        image: (1, 1 or 3, H, W) float32, grey values from 0 to 255.
        probability: (1, 1, H, W) float32.
        source: name of the image that it is from.
    """

    image: np.ndarray
    probability: np.ndarray
    source: str


def torchscript(model: ScribbleUNet) -> torch.jit.ScriptModule:
    """The graph of a model as TorchScript, which runs without its Python code.

    It takes grey values from 0 to 255 where `model.intensity` is `imagenet`; where it is `stretch`,
    values that the image's own percentiles have brought to [0, 1].
    """
    graph = WholeGraph(model, white=255.0 if model.intensity == "imagenet" else 1.0)
    with warnings.catch_warnings():
        _ignore_moving_on()
        return torch.jit.script(graph)


def pack(
    folder: Path,
    target: Path,
    *,
    model_file: Path | None = None,
    licence: str | None = None,
    author: str | None = None,
    force: bool = False,
) -> str:
    """Writes the model of a folder as a BioImage.IO package.

    Where bioimageio.core is installed it tests the package before that takes its place.

    Args:
        folder: of one's own; a piece of one of its images becomes the example in the package.
        target: the package, a `.zip`.
        model_file: None: the model that is in use in the folder.
        licence: its SPDX name. None: the one that `usual_licence` gives.
        author: whom the package names.
        force: replaces a package that is there.

    Returns:
        What was written and what bioimageio.core says of it, in a few lines.

    Raises:
        S2LError: the target exists, there is no model, it finds nothing in the folder, or the
            package does not pass the test. Nothing is written then.
    """
    _check_asked(target, licence, author, force)
    file = model_file or model_in_use(folder)
    if not file.is_file():
        train = "Train one first (notebook 08), or name another: --model MODEL."
        raise S2LError(f"{file}: there is no model. {train}")
    model, config = load_model(file)
    model.eval()
    graph = torchscript(model)
    example = _example(folder, model, graph)
    licence = licence or usual_licence(config)

    title = re.sub(r"[^A-Za-z0-9_+() -]", "_", f"Nuclei of {folder.resolve().name}")[:64]
    files = {
        "weights.pt": _saved(graph),
        "test_input.npy": _array(example.image),
        "test_output.npy": _array(example.probability),
        "cover.png": _cover(example),
        "README.md": _documentation(title, config, example).encode(errors="backslashreplace"),
    }
    described = _describe(title, files, config, example, licence, author or "A user of s2l_core")
    files["rdf.yaml"] = yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode()

    report: list[str] = []
    write_atomically(target, lambda path: report.extend(_write_tested(path, files)))
    size = target.stat().st_size / 1e6
    about = f"BioImage.IO model {FORMAT}, {size:.1f} MB, licence {licence}"
    found = f"with a piece of the image {example.source!r} as its example"
    return "\n".join([f"{target}: {about}, {found}", *report])


def _check_asked(target: Path, licence: str | None, author: str | None, force: bool) -> None:
    """Refuses a target or a name that a package cannot have, before anything is computed."""
    if target.suffix != ".zip":
        raise S2LError(f"{target}: a BioImage.IO package is a .zip. Name it so, as in model.zip.")
    if target.is_dir():
        raise S2LError(f"{target}: is a folder. Name a file that is not there yet.")
    if target.exists() and not force:
        raise S2LError(f"{target}: is there already. Name another file, or replace it: --force.")

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence or "MIT"):
        raise S2LError(f"licence = {licence!r}: expected an SPDX name, such as CC-BY-4.0.")
    if "/" in (author or ""):
        raise S2LError(f"author = {author!r}: BioImage.IO allows no slash in a name. Leave it out.")


def _example(folder: Path, model: ScribbleUNet, graph: nn.Module) -> Example:
    """The middle of the first image in which the model finds something.

    An image whose colours are all grey gives an example with one channel, and so a package for
    images of one channel.
    """
    names = sound(folder).ids[:IMAGES_TRIED]
    for name in names:
        (cell,) = read_folder(folder, [name])
        image = _middle(cell.image)  # (h, w, 3)
        if (image == image[..., :1]).all():
            image = image[..., :1]

        values = image.transpose(2, 0, 1)[None].astype(np.float32)  # (1, 1 or 3, h, w)
        given = values
        if model.intensity == "stretch":
            low, high = intensity_range(image, "stretch")
            given = (values - low) / (high - low)
        with torch.inference_mode():
            probability = graph(torch.from_numpy(given)).numpy()  # (1, 1, h, w)
        if values.max() > 0 and probability.max() > FOUND:
            return Example(values, probability, name)

    raise S2LError(
        f"{folder}: the model finds nothing in the middle of its first {len(names)} images, so "
        "there is no example to test a package with. Name a folder with nuclei."
    )


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle of an image (H, W, 3), at most `LARGEST_EXAMPLE` wide; a small one is mirrored."""
    height, width = image.shape[:2]
    missing = [(0, max(SMALLEST - side, 0)) for side in (height, width)]
    image = np.pad(image, [*missing, (0, 0)], mode="symmetric")

    window = []
    for side in image.shape[:2]:
        length = min(side, LARGEST_EXAMPLE)
        first = (side - length) // 2
        window.append(slice(first, first + length))
    return image[tuple(window)]


def usual_licence(config: RunConfig) -> str:
    """The SPDX name of the licence that the parts of a model ask for.

    Weights that come from EfficientNet-Lite's are a derivative under Apache-2.0, those that learned
    from MoNuSeg one under CC-BY-NC-SA-4.0 (NOTICE and LICENSE say so); others are under the licence
    of this project. A network that goes on from an earlier round no longer knows how that began, so
    that the encoder alone decides.
    """
    if config.dataset == "monuseg":
        return "CC-BY-NC-SA-4.0"
    return "Apache-2.0" if config.encoder in PACKAGED else "MIT"


def _saved(graph: torch.jit.ScriptModule) -> bytes:
    """A graph as a file, without the paths of source files on this machine: they name its user."""
    whole, bare = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        _ignore_moving_on()
        torch.jit.save(graph, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bare, "w") as target:
        for item in source.infolist():
            if not item.filename.endswith(".debug_pkl"):
                target.writestr(item, source.read(item))
    return bare.getvalue()


def _ignore_moving_on() -> None:
    """PyTorch moves on to another format, which BioImage.IO has no name for yet."""
    warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated")


def _array(values: np.ndarray) -> bytes:
    """An array as a file of NumPy's."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _cover(example: Example) -> bytes:
    """The example and its answer side by side, as PNG."""
    image = example.image[0].astype(np.uint8)  # (1 or 3, H, W)
    answer = np.rint(255 * example.probability[0]).astype(np.uint8)  # (1, H, W)
    both = np.concatenate(
        [np.broadcast_to(part, (3, *part.shape[1:])) for part in (image, answer)], axis=2
    )  # (3, H, 2 W)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(both.transpose(1, 2, 0))).save(stream, "PNG")
    return stream.getvalue()


def _describe(
    title: str,
    files: Mapping[str, bytes],
    config: RunConfig,
    example: Example,
    licence: str,
    author: str,
) -> dict[str, Any]:
    """The description of a package: https://github.com/bioimage-io/spec-bioimage-io, model 0.5."""

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    cited = CITED | (EFFICIENTNET if "efficientnet" in config.encoder else {})
    pytorch = torch.__version__.partition("+")[0]
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": title,
        "description": "Finds nuclei: the probability of each pixel to belong to one. Learned from "
        f"scribbles with s2l_core {__version__}.",
        "version": "0.1.0",
        "authors": [{"name": author}],
        "license": licence,
        "cite": [{"text": text, "doi": doi} for text, doi in cited.items()],
        "tags": ["2d", "nuclei", "semantic-segmentation", "unet", "pytorch", "scribbles"],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [_input(config, example) | {"test_tensor": file("test_input.npy")}],
        "outputs": [_output() | {"test_tensor": file("test_output.npy")}],
        "weights": {"torchscript": file("weights.pt") | {"pytorch_version": pytorch}},
        "config": {
            "s2l_core": {
                "version": __version__,
                "method": config.method,
                "encoder": config.encoder,
                "intensity": config.intensity,
                "steps": config.total_steps,
            }
        },
    }


def _input(config: RunConfig, example: Example) -> dict[str, Any]:
    """What an image has to be, and what is done to a whole one before it is cut into tiles."""
    size = {"min": SMALLEST, "step": 1}  # any size: the graph pads it
    colours = ["grey"] if example.image.shape[1] == 1 else ["red", "green", "blue"]
    percentiles = {
        "axes": ["channel", "y", "x"],
        "min_percentile": 0.5,
        "max_percentile": 99.5,
    }
    stretched = [
        {"id": "scale_range", "kwargs": percentiles},
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
    ]
    return {
        "id": "image",
        "description": "grey values; 0 is black",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": colours},
            {"type": "space", "id": "y", "size": dict(size), "concatenable": True},
            {"type": "space", "id": "x", "size": dict(size), "concatenable": True},
        ],
        "data": {"type": "float32"},
        "preprocessing": stretched if config.intensity == "stretch" else [],
    }


def _output() -> dict[str, Any]:
    """The probability, of whose tiles the outer pixels are to be thrown away."""
    sides = [
        {
            "type": "space",
            "id": side,
            "size": {"tensor_id": "image", "axis_id": side},
            "halo": HALO,
        }
        for side in "yx"
    ]
    return {
        "id": "probability",
        "description": "of each pixel to belong to a nucleus",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["nucleus"]}, *sides],
        "data": {"type": "float32", "range": [0.0, 1.0]},
    }


def _write_tested(path: Path, files: Mapping[str, bytes]) -> list[str]:
    """Writes a package; returns what bioimageio.core's own test says of it, a line for each part.

    Raises:
        S2LError: it does not pass.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(name, content)
    try:
        from bioimageio.core import __version__ as version
        from bioimageio.core import test_description
    except ModuleNotFoundError:
        return [
            "Not tested by bioimageio.core, which is not installed. To do so: "
            "pip install 's2l-core[bioimageio]', then bioimageio test FILE"
        ]

    with warnings.catch_warnings():
        _ignore_moving_on()
        summary = test_description(path, devices=["cpu"], expected_type="model")
    if summary.status != "passed":
        wrong = "; ".join(
            f"{one.loc}: {one.msg}" for part in summary.details for one in part.errors
        )
        raise S2LError(
            f"bioimageio.core {version} does not accept the package: "
            f"{' '.join(wrong.split())[:600]}. Nothing is written. Change what it names, or take "
            "another version of bioimageio.core (docs/elsewhere.md)."
        )
    parts = [f"  {part.status}: {part.name}" for part in summary.details]
    return [f"bioimageio.core {version} has tested it: {summary.status}", *parts]


def _documentation(title: str, config: RunConfig, example: Example) -> str:
    """README.md of a package."""
    channels = "one channel" if example.image.shape[1] == 1 else "three channels: red, green, blue"
    notice = APACHE if config.encoder in PACKAGED else ""
    return DOCUMENTATION.format(
        title=title,
        version=__version__,
        channels=channels,
        values=STRETCHED if config.intensity == "stretch" else EIGHT_BITS,
        notice=notice,
        encoder=config.encoder,
        method=config.method,
        steps=config.total_steps,
        source=example.source,
        halo=HALO,
        smallest=SMALLEST,
        torch=torch.__version__.partition("+")[0],
    )


STRETCHED = """\
The brightness of an image does not matter: its own 0.5 and 99.5 percentiles, over all channels of
the **whole image** together, become 0 and 1, and what lies outside is cut off. This step is written
in the description (`scale_range`, `clip`), since the graph sees no more than a tile. A program that
takes the percentiles of each tile instead answers differently in tiles without nuclei: give it the
whole image as one tile, or scale the image yourself before. The percentiles of an image with less
than four grey values between them are put further apart by s2l_core, which the description cannot
say: there its noise is up to four times as strong here."""

EIGHT_BITS = """\
Grey values are those of an image with 8 bits: 0 is black, 255 is white, and what lies outside is cut
off. An image with more bits has to be brought to 8 bits first; s2l_core maps its 0.1 and 99.9
percentiles to 0 and 255. Division by 255 is inside the graph, nothing has to be normalised before."""

APACHE = """
Unless it was trained from random weights, the network began with the ImageNet weights of
EfficientNet-Lite, copyright (c) 2020 ML Illustrated, licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0), and was changed by training. Keep this notice with it.
"""

DOCUMENTATION = """\
# {title}

The probability of each pixel to belong to a nucleus: a U-Net with the encoder {encoder} that learned
from scribbles (method {method}, {steps} steps) with s2l_core {version}, a re-implementation of Oh,
Lee and Jeong, "Scribble-Supervised Cell Segmentation Using Multiscale Contrastive Regularization",
ISBI 2022. The authors of the paper did not write it.

## Input

Two dimensions, {channels}. The pixel size should be that of the images it learned from: it
has not learned other magnifications.

{values}

The mean and deviation that the encoder expects, and padding to a multiple of 32, are inside the
graph: images and tiles may have any size from {smallest} pixels. Tiles should overlap by {halo}
pixels on each side (`halo`).

## Output

One channel, from 0 to 1. Call nucleus what is above 0.5, then take connected components; nuclei that
touch are one then, and a watershed on the distance transform takes them apart.

## Validation

`bioimageio test` on this package compares its answer with `test_output.npy`, for the example
`test_input.npy`, a piece of the image "{source}" of the folder that it was exported from. Whether it
is good enough for other images only masks drawn on some of them can tell: compare by IoU, and count
missed and merged nuclei.

## Limits

It knows the kind of images that it learned from. The TorchScript weights were written by PyTorch
{torch}; a program that brings a much older PyTorch may refuse them.

## Licence

The licence in the description is that under which the model is passed on. Images that it learned from
may ask for another one: whoever exported it has to know.
{notice}"""
