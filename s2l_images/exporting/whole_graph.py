"""The graph of a model for other programs: grey values in, probabilities out.

Inside it are all steps that need one tile alone: the scale of grey values, the encoder's mean and
deviation, the padding to a multiple of its stride.
"""

import io
import warnings
import zipfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2l_core.inference import MULTIPLE
from s2l_core.model import ScribbleUNet


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


def torchscript(model: ScribbleUNet) -> torch.jit.ScriptModule:
    """The graph of a model as TorchScript, which runs without its Python code.

    It takes grey values from 0 to 255 where `model.intensity` is `imagenet`; where it is `stretch`,
    values that the image's own percentiles have brought to [0, 1].
    """
    graph = WholeGraph(model, white=255.0 if model.intensity == "imagenet" else 1.0)
    with warnings.catch_warnings():
        ignore_moving_on()
        return torch.jit.script(graph)


def saved(graph: torch.jit.ScriptModule) -> bytes:
    """A graph as a file, without the paths of source files on this machine: they name its user."""
    whole, bare = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        ignore_moving_on()
        torch.jit.save(graph, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bare, "w") as target:
        for item in source.infolist():
            if not item.filename.endswith(".debug_pkl"):
                target.writestr(item, source.read(item))
    return bare.getvalue()


def ignore_moving_on() -> None:
    """PyTorch moves on to another format, which BioImage.IO has no name for yet."""
    warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated")
