"""How long a run takes: seconds that 256 x 256 pixels cost, times how many it reads."""

import json

from s2l_core import paths
from s2l_core.config import METHODS, SYNTHETIC, RunConfig

# trained on, trained on with contrastive terms, predicted: measured with two threads; a GPU is bound by cutting crops
SECONDS = {"cpu": (0.9, 1.4, 0.36), "cuda": (0.015, 0.015, 0.001)}
AREAS = {"dsb-bf": 16.0, "dsb-fluo": 2.2, "monuseg": 15.3}  # mean of an image, in 256 x 256 pixels


def estimate_seconds(config: RunConfig, device: str = "cpu") -> float:
    """Seconds of one run on its own, its warm-up included."""
    training, contrast, predicting = SECONDS[device]
    method, images, area = METHODS[config.method], config.images, (config.image_size / 256) ** 2
    if config.dataset not in SYNTHETIC:
        file = paths.split_file(config.dataset)
        images = sum(map(len, json.loads(file.read_text())["parts"])) if file.exists() else 100
        area = AREAS.get(config.dataset, 2.0)
    if method.rival:
        return 60 + images * area * 2
    steps = min(config.batch, images) * (config.crop / 256) ** 2
    main = steps * config.main_steps * (contrast if config.scales else training)
    looks = config.total_steps // config.average_every + config.main_steps // config.validate_every + 4
    return steps * config.warmup_steps * training + main + looks * images * area * predicting
