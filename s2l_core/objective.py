"""What a step minimises (Eq. 2 and 6) and how fast, from the configuration."""

import math
from typing import Any

import torch
from torch import Tensor

from s2l_core.config import IGNORE, METHODS, RunConfig, seed_for
from s2l_core.losses import contrastive_term, partial_bce, region_labels
from s2l_core.model import ScribbleUNet
from s2l_core.pseudo_labels import threshold

LEAST_RATE = 1e-6  # eta_min of S2L's warm restarts (D9)


def loss_terms(
    model: ScribbleUNet, batch: dict[str, Any], config: RunConfig, step: int
) -> dict[str, Tensor]:
    """Weighted terms of Eq. 6 (main stage) or Eq. 1 (warm-up); their sum is what is minimised.

    Args:
        model: gives logits (B, H, W) and, for each scale, embeddings (B, C, h, w).
        batch: image (B, 3, H, W), scribbles, mask (B, H, W), averaged (B, H, W); `regions` by the
            loader, or not.
        config: everything that is weighted, sampled or chosen.
        step: from 0.
    """
    regions = batch["regions"] if "regions" in batch else scale_labels(batch, config, step)
    main_step = step - config.warmup_steps
    heads_learn_alone = main_step < config.heads_alone  # D24: they start untrained
    logits, embeddings = model(batch["image"], detach=heads_learn_alone)
    labels = batch["mask" if METHODS[config.method].masks else "scribbles"]

    # Eq. 1, or full supervision
    terms = {"labels": partial_bce(logits, labels, config.label_mean)}
    if not _learns_pseudo(config, step):
        return terms

    # Eq. 3
    terms["pseudo"] = config.pseudo_weight * partial_bce(
        logits, _pseudo_labels(batch, config), config.label_mean
    )

    # Eq. 4 for each scale; several scales may share a block, and so a name
    for scale, embedding, region in zip(config.scales, embeddings, regions, strict=True):
        term = scale.weight * contrastive_term(
            embedding,
            region,
            scale.temperature,
            max_regions=config.max_regions,
            equalise=config.equalise,
            pairs=config.pairs,
            generator=torch.Generator().manual_seed(
                seed_for(config.seed, "regions", scale.block, step)
            ),
            target=config.pair_target,
            reduction=config.pair_reduction,
        )
        if config.contrast_ramp:  # D23
            term = term * min(1.0, (main_step + 1) / config.contrast_ramp)
        terms[scale.name] = terms[scale.name] + term if scale.name in terms else term
    return terms


def scale_labels(batch: dict[str, Tensor], config: RunConfig, step: int) -> list[Tensor]:
    """Region labels (B, h, w) of each scale, on the CPU, where regions are drawn for any device.

    The loader makes them of a batch that is still there, so that no step waits for an accelerator.
    """
    if not _learns_pseudo(config, step):
        return []
    labels = _pseudo_labels(batch, config)
    if config.contrast_labels == "scribbles":  # D5
        labels = torch.full_like(labels, IGNORE)
    return [
        region_labels(
            labels,
            batch["scribbles"],
            scale.factor,
            nu_low=config.nu_low,
            nu_high=config.nu_high,
            rule=config.region_rule,
        ).cpu()
        for scale in config.scales
    ]


def _learns_pseudo(config: RunConfig, step: int) -> bool:
    return METHODS[config.method].pseudo and step >= config.warmup_steps


def _pseudo_labels(batch: dict[str, Tensor], config: RunConfig) -> Tensor:
    """(B, H, W): what the averaged predictions say where nothing is drawn."""
    averaged = batch["averaged"]
    labels = torch.as_tensor(threshold(averaged, 1 - config.confidence, config.confidence))
    return labels.masked_fill(batch["scribbles"] != IGNORE, IGNORE)


def learning_rate(config: RunConfig, base: float, step: int) -> float:
    """Rate of a step (D9): `base` times `rate_factor`; warm restarts keep `LEAST_RATE` at least."""
    least = LEAST_RATE if config.schedule == "warm-restarts" else 0.0
    return least + (base - least) * rate_factor(config, step)


def rate_factor(config: RunConfig, step: int) -> float:
    """Share of the base rate at a step (D9), which alone decides it: a resume needs no state."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / config.total_steps))
    if config.schedule == "warm-restarts":  # T_0 = 2, T_mult = 2: cycles of 2, 4, 8 ... steps
        cycle = int(math.log2(step / 2 + 1))
        length = 2 ** (cycle + 1)
        start = length - 2  # of this cycle: as many steps as all before it have together
        return 0.5 * (1 + math.cos(math.pi * (step - start) / length))
    return 1.0
