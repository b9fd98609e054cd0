"""What a BioImage.IO package says of itself: a description for programs, a README for people."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import torch

from s2l_core import __version__
from s2l_core.config import RunConfig, digest
from s2l_core.weights import PACKAGED
from s2l_images.exporting.bioimage_example import SMALLEST, Example

FORMAT = "0.5.4"  # of the description: older than the newest, for programs that lag behind
HALO = 64  # pixels of context around a tile, as in `s2l_core.inference.predict`

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


def describe(
    title: str,
    contents: Mapping[str, bytes],
    config: RunConfig,
    example: Example,
    licence: str,
    author: str,
) -> dict[str, Any]:
    """The description of a package: https://github.com/bioimage-io/spec-bioimage-io, model 0.5."""

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": digest(contents[name], 64)}

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


def readme(title: str, config: RunConfig, example: Example) -> str:
    """README.md of a package."""
    texts = tomllib.loads(
        files("s2l_images.exporting").joinpath("bioimage_readme.toml").read_text("utf-8")
    )
    channels = "one channel" if example.image.shape[1] == 1 else "three channels: red, green, blue"
    notice = texts["notice"]["packaged"] if config.encoder in PACKAGED else ""
    return texts["text"].format(
        title=title,
        version=__version__,
        channels=channels,
        values=texts["values"][config.intensity],
        notice=notice,
        encoder=config.encoder,
        method=config.method,
        steps=config.total_steps,
        source=example.source,
        halo=HALO,
        smallest=SMALLEST,
        torch=torch.__version__.partition("+")[0],
    )
