"""The network: an untouched `smp.Unet`, its decoder blocks tapped, and a projection head for each tapped block."""

import os
from contextlib import contextmanager
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from s2l_core.config import S2LError, ScaleTerm, seed_for

DECODER_CHANNELS = (
    256,
    128,
    64,
    32,
    16,
)  # of decoder blocks 1 (1/16 of the resolution) to 5 (all of it)
EMBEDDING_CHANNELS = 32
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ScribbleUNet(nn.Module):
    """U-Net of Sec. 3.2 with projection heads f_phi of Sec. 2.2 (D15) on any decoder blocks.

    Args:
        encoder: an encoder's name in segmentation_models_pytorch.
        scales: contrastive terms; scales on the same block share its head. More can follow by `add_heads`.
        encoder_weights: None for random weights, "imagenet" for those of the hub, or a local `.safetensors` or `.pth`
            file with the keys of smp's encoder (torchvision's names for a ResNet; its `fc` is dropped) (D13).
        intensity: kept for `predict`, which prepares images by it (D20).
        seed: of the initial weights. Neither they nor a head's depend on which heads there are; no global generator
            is touched.

    Raises:
        S2LError: unknown encoder; weights missing, unreadable or of another encoder.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        scales: tuple[ScaleTerm, ...] = (),
        encoder_weights: str | os.PathLike | None = None,
        *,
        intensity: str = "imagenet",
        seed: int = 0,
    ):
        super().__init__()
        with _seeded(seed, "model"):
            try:
                self.unet = smp.Unet(
                    encoder, encoder_weights=None, decoder_channels=DECODER_CHANNELS, classes=1
                )
            except KeyError as error:
                known = ", ".join(
                    name for name in smp.encoders.get_encoder_names() if name.startswith("resnet")
                )
                raise S2LError(
                    f"encoder = {encoder!r} is not known. Choose one of smp's, as {known}."
                ) from error
            if encoder_weights is not None:
                _load_encoder(self.unet.encoder, encoder, encoder_weights)
        # normalisation belongs to the weights, so that they are never used without it
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.intensity = intensity
        self.scales: tuple[ScaleTerm, ...] = ()
        self.heads = nn.ModuleDict()
        self.add_heads(scales, seed)

    def add_heads(self, scales: tuple[ScaleTerm, ...], seed: int = 0) -> None:
        """Appends scales; heads that are missing are made, with weights that depend on the seed and the block only."""
        for scale in scales:
            if str(scale.block) not in self.heads:
                with _seeded(seed, "head", scale.block):
                    self.heads[str(scale.block)] = _head(DECODER_CHANNELS[scale.block - 1]).to(
                        self.mean.device
                    )
        self.scales += tuple(scales)

    def logits(self, image: Tensor) -> Tensor:
        """Foreground logits (B, H, W) of images (B, 3, H, W) in [0, 1]; no head runs."""
        return self.unet((image - self.mean) / self.std).squeeze(1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and, for each scale, the embeddings of its regions.

        Args:
            image: (B, 3, H, W) float in [0, 1], H and W multiples of 32.

        Returns:
            logits (B, H, W) and a list of embeddings (B, 32, H / factor, W / factor) in the order of `scales`.
        """
        features = {}
        # hooks that live for this call only: the U-Net stays smp's own and keeps no feature map alive
        hooks = [
            self.unet.decoder.blocks[int(block) - 1].register_forward_hook(
                lambda module, inputs, output, block=block: features.update({block: output})
            )
            for block in self.heads
        ]
        try:
            logits = self.logits(image)
        finally:
            for hook in hooks:
                hook.remove()
        embeddings = {block: head(features[block]) for block, head in self.heads.items()}
        return logits, [embeddings[str(scale.block)] for scale in self.scales]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate (D9): "encoder", "decoder" (segmentation head included) and "heads"."""
        unet = self.unet
        return {
            "encoder": list(unet.encoder.parameters()),
            "decoder": [*unet.decoder.parameters(), *unet.segmentation_head.parameters()],
            "heads": list(self.heads.parameters()),
        }


def _head(channels: int) -> nn.Sequential:
    hidden = max(16, channels // 2)  # D15: 16 -> 16 -> 32 on block 5, 64 -> 32 -> 32 on block 3
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, EMBEDDING_CHANNELS, 1, bias=False),
        nn.BatchNorm2d(EMBEDDING_CHANNELS),
    )


@contextmanager
def _seeded(*purpose):
    """Weights made inside come from seed_for(*purpose). `torch.manual_seed` would also reseed every accelerator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(*purpose))
        yield


def _load_encoder(module: nn.Module, encoder: str, weights: str | os.PathLike) -> None:
    """Fills the encoder from the hub or from a file, completely or not at all."""
    state = (
        _hub_state(encoder) if weights == "imagenet" else _file_state(Path(weights).expanduser())
    )
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    try:
        module.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise S2LError(
            f"encoder_weights = {str(weights)!r} do not fit encoder {encoder!r}: expected exactly the keys and shapes "
            f"of smp's {encoder} encoder (torchvision's, for a ResNet). Found: {reason}. Use that encoder's file."
        ) from error


def _hub_state(encoder: str) -> dict[str, Tensor]:
    try:
        return smp.encoders.get_encoder(encoder, weights="imagenet").state_dict()
    except (
        Exception
    ) as error:  # the hub's client raises its own, its HTTP library's and the system's errors
        raise S2LError(
            f"encoder_weights = 'imagenet' of {encoder!r} could not be had: neither in the hub's cache nor over the "
            f"network ({type(error).__name__}). Either give the path of a local .safetensors or .pth file as "
            "encoder_weights, or run once on a machine with network and copy its Hugging Face cache (HF_HOME) here."
        ) from error


def _file_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise S2LError(
            f"encoder_weights = {str(path)!r}: no such file. Expected None, 'imagenet', or the path of a .safetensors "
            "or .pth file. Correct the path."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own errors for a file cut short
        raise S2LError(
            f"encoder_weights = {str(path)!r} cannot be read ({type(error).__name__}): expected a whole .safetensors "
            "file, or a .pth file that holds tensors only. Fetch it again."
        ) from error
    if not isinstance(state, dict):
        raise S2LError(
            f"encoder_weights = {str(path)!r} holds a {type(state).__name__}: expected a state dict of tensors. "
            "Save it with torch.save(encoder.state_dict(), path)."
        )
    return state
