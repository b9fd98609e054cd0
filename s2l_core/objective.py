"""What a step minimises (Eq. 2 and 6) and how fast, from the configuration."""

import math

import torch
from torch import Tensor

from s2l_core.config import IGNORE, METHODS, RunConfig, seed_for
from s2l_core.losses import contrastive_term, partial_bce, region_labels
from s2l_core.model import ScribbleUNet
from s2l_core.pseudo_labels import threshold

LEAST_RATE = 1e-6  # eta_min of S2L's warm restarts (D9)


def loss_terms(model: ScribbleUNet, batch: dict[str, Tensor], config: RunConfig, step: int) -> dict[str, Tensor]:
    """Weighted terms of Eq. 6 (main stage) or Eq. 1 (warm-up); their sum is what is minimised."""
    method, scribbles, regions = METHODS[config.method], batch["scribbles"], []
    learns_pseudo = method.pseudo and step >= config.warmup_steps
    if learns_pseudo:
        pseudo = threshold(batch["averaged"], 1 - config.confidence, config.confidence)
        pseudo = pseudo.masked_fill(scribbles != IGNORE, IGNORE)
        regions_from = pseudo if config.contrast_labels == "pseudo" else torch.full_like(pseudo, IGNORE)  # D5
        rule = {"nu_low": config.nu_low, "nu_high": config.nu_high, "rule": config.region_rule}
        # fetched before the network runs: regions are drawn on the CPU, which then need not wait for an accelerator
        regions = [region_labels(regions_from, scribbles, scale.factor, **rule).cpu() for scale in config.scales]
    logits, embeddings = model(batch["image"])
    terms = {"labels": partial_bce(logits, batch["mask"] if method.masks else scribbles, config.label_mean)}
    if not learns_pseudo:
        return terms
    terms["pseudo"] = config.pseudo_weight * partial_bce(logits, pseudo, config.label_mean)
    for scale, embedding, labels in zip(config.scales, embeddings, regions, strict=True):
        sampling = {"max_regions": config.max_regions, "equalise": config.equalise, "pairs": config.pairs}
        sampling["generator"] = torch.Generator().manual_seed(seed_for(config.seed, "regions", scale.block, step))
        pairing = {"target": config.pair_target, "reduction": config.pair_reduction}
        term = scale.weight * contrastive_term(embedding, labels, scale.temperature, **sampling, **pairing)
        # several terms may share a block, and so a name
        terms[scale.name] = terms[scale.name] + term if scale.name in terms else term
    return terms


def learning_rate(config: RunConfig, base: float, step: int) -> float:
    """Rate of a step (D9): between `base` and, with warm restarts, S2L's least."""
    least = LEAST_RATE if config.schedule == "warm-restarts" else 0.0
    return least + (base - least) * rate_factor(config, step)


def rate_factor(config: RunConfig, step: int) -> float:
    """Share of the base learning rate at a step (D9): a function of the step alone, so a resume needs no state."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / config.total_steps))
    if config.schedule == "warm-restarts":  # T_0 = 2, T_mult = 2: cycles of 2, 4, 8 ... steps
        cycle = int(math.log2(step / 2 + 1))
        return 0.5 * (1 + math.cos(math.pi * (step - (2 ** (cycle + 1) - 2)) / 2 ** (cycle + 1)))
    return 1.0
