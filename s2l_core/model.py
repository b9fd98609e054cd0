"""The network: an untouched `smp.Unet`, its decoder blocks tapped, a head for each tapped block."""

import math
import os
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from s2l_core.config import ScaleTerm, seed_for
from s2l_core.weights import load_encoder_weights, normalisation, smp_name, unknown_encoder

if TYPE_CHECKING:
    import segmentation_models_pytorch as smp

# of decoder blocks 1 (1/16 of the resolution) to 5 (all of it)
DECODER_CHANNELS = (256, 128, 64, 32, 16)
EMBEDDING_CHANNELS = 32


class ScribbleUNet(nn.Module):
    """U-Net of Sec. 3.2 with projection heads f_phi of Sec. 2.2 (D15) on any decoder blocks.

    Args:
        encoder: "efficientnet-lite0" to "-lite2", or a name in segmentation_models_pytorch.
        scales: contrastive terms; scales on the same block share its head. More can follow by
            `add_heads`.
        encoder_weights: None for random weights, "imagenet", or a local `.safetensors` or `.pth`
            file (D13); `weights.load_encoder_weights` says where each comes from.
        intensity: kept for `predict`, which prepares images by it (D20).
        seed: of the initial weights. Neither they nor a head's depend on which heads there are; no
            global generator is touched.
        frozen_statistics: the encoder's batch norm keeps the means and deviations that came with
            its weights, in training too; its scales and shifts are learned. From random weights
            this leaves nothing normalised: it is meant for pretrained ones.

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
        frozen_statistics: bool = False,
    ):
        super().__init__()

        # every layer draws random weights first, pretrained or not: so the decoder's are the same
        with _seeded(seed, "model"):
            self.unet = _plain_unet(encoder)
            if encoder_weights is not None:
                load_encoder_weights(self.unet.encoder, encoder, encoder_weights)

        # normalisation is saved with the weights, so that they are never used without it
        mean, std = normalisation(encoder)
        self.mean: Tensor  # (1, 3, 1, 1) of red, green and blue, and so the deviation
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

        self.intensity = intensity
        self.frozen_statistics = frozen_statistics
        self.scales: tuple[ScaleTerm, ...] = ()
        self.heads = nn.ModuleDict()
        self.add_heads(scales, seed)

        # a new module is in training mode without being asked, and then nothing would be frozen
        self.train()

    def add_heads(self, scales: tuple[ScaleTerm, ...], seed: int = 0) -> None:
        """Appends scales; a missing head is made, its weights depending on seed and block only."""
        for scale in scales:
            block = str(scale.block)
            if block in self.heads:
                continue
            with _seeded(seed, "head", scale.block):
                head = _head(DECODER_CHANNELS[scale.block - 1])
            self.heads[block] = head.to(self.mean.device)
        self.scales += tuple(scales)

    def expect(self, share: float) -> None:
        """Lets the untrained network answer with this share of foreground everywhere (D27).

        Where nuclei are rare, a network that answers one half learns the background first, and may
        never get over it; one that starts at the log odds learns the nuclei (Lin et al. 2017,
        "Focal loss", Sec. 3.3).

        Args:
            share: foreground among labelled pixels, above 0 and below 1.
        """
        bias = self.unet.segmentation_head[0].bias
        with torch.no_grad():
            bias.fill_(math.log(share / (1 - share)))

    def train(self, mode: bool = True) -> "ScribbleUNet":
        """As in PyTorch; `frozen_statistics` keeps the encoder's batch norm in evaluation mode."""
        super().train(mode)
        if self.frozen_statistics:
            for layer in self.unet.encoder.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def logits(self, image: Tensor) -> Tensor:
        """Foreground logits (B, H, W) of images (B, 3, H, W) in [0, 1]; no head runs."""
        normalised = (image - self.mean) / self.std
        return self.unet(normalised).squeeze(1)  # (B, 1, H, W) -> (B, H, W)

    def forward(self, image: Tensor, *, detach: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Logits and, for each scale, the embeddings of its regions.

        Args:
            image: (B, 3, H, W) float in [0, 1], H and W multiples of 32.
            detach: heads see the features without their history: what is learned from embeddings
                moves the heads alone, and the U-Net learns from the logits only.

        Returns:
            logits (B, H, W) and a list of embeddings (B, 32, H / factor, W / factor) in the order
            of `scales`.
        """
        with self.tapped(self.heads) as features:
            logits = self.logits(image)  # (B, H, W)

        embeddings = {}
        for block, head in self.heads.items():
            feature = features[block]  # (B, DECODER_CHANNELS[block - 1], H / factor, W / factor)
            if detach:
                feature = feature.detach()
            embeddings[block] = head(feature)  # (B, 32, H / factor, W / factor)
        return logits, [embeddings[str(scale.block)] for scale in self.scales]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate (D9): "encoder", "decoder" with its last layer, "heads"."""
        unet = self.unet
        return {
            "encoder": list(unet.encoder.parameters()),
            "decoder": [*unet.decoder.parameters(), *unet.segmentation_head.parameters()],
            "heads": list(self.heads.parameters()),
        }

    @contextmanager
    def tapped(self, blocks: Iterable[int | str]):
        """A dict that a forward pass inside fills with the features of these decoder blocks, by the
        block's number as a string.

        Hooks live for this one call: the U-Net stays smp's own and keeps no feature map alive.
        """
        features: dict[str, Tensor] = {}

        def keep(block: str):
            def hook(module, inputs, output):
                features[block] = output

            return hook

        with ExitStack() as hooks:
            for block in map(str, blocks):
                layer = self.unet.decoder.blocks[int(block) - 1]
                hooks.enter_context(layer.register_forward_hook(keep(block)))
            yield features


def _plain_unet(encoder: str) -> "smp.Unet":
    import segmentation_models_pytorch as smp  # takes seconds, which only a network is worth

    try:
        return smp.Unet(
            smp_name(encoder),
            encoder_weights=None,
            decoder_channels=DECODER_CHANNELS,
            classes=1,
        )
    except (KeyError, RuntimeError) as error:  # smp's and timm's, for a name they do not know
        raise unknown_encoder(encoder) from error


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
    """Weights made inside come from seed_for(*purpose).

    `torch.manual_seed` would also reseed every accelerator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(*purpose))
        yield
