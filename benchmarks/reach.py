"""How much of a processor's time a network takes until it finds nuclei well: validation IoU .70.

Three networks on DSB-BF, fold 0, each supervised and by the full method on an attentive annotator's
strokes: EfficientNet-Lite0 that knows ImageNet (profile `pretrained`), the same from scratch, and
ResNet-34 from scratch, with the rates of profile `scratch`. One thread, one training each: a lead.

A network's curve is in `reach.csv` as soon as it ends, and is not made again where it is there:
a measurement that was cut off goes on where it stopped. Remove the file to measure anew.
"""

import dataclasses
import time

import numpy as np
import pandas as pd

from benchmarks.harness import Row, Scale, absolute, keep
from benchmarks.options import with_threads
from s2l_core.config import METHODS, RunConfig
from s2l_core.metrics import iou
from s2l_core.profiles import PROFILES
from s2l_core.trainer import Trainer
from s2l_paper.figures.plotting import BLUE, GREY, RED, Picture, styled
from s2l_paper.running.runs import new_trainer

GOAL = 0.70  # validation IoU
EVERY = 50  # steps between two looks at the validation images
SCRATCH = {"encoder_weights": None} | {
    name: value for name, value in PROFILES["scratch"].settings.items() if name.startswith("rate_")
}
NETWORKS = {  # name -> what it sets otherwise than profile `pretrained`
    "Lite0, pretrained": {},
    "Lite0, from scratch": SCRATCH,
    "ResNet-34, from scratch": SCRATCH | {"encoder": "resnet34"},
}


def measure(scale: Scale) -> list[Row]:
    """Minutes of one core, those of the validation itself left out, for each network and method.

    A network that does not get there has a row with all the minutes it was given.
    """
    file, found = scale.out / "reach.csv", []
    curves = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["network", "method"])
    for method in ("supervised", "s2l-r1-r4"):
        for network, settings in NETWORKS.items():
            known = (curves.network == network) & (curves.method == method)
            if not known.any():
                config = configuration(scale, method, settings)
                new = pd.DataFrame(curve(config, scale.pick(4, EVERY)))
                new.insert(0, "network", network)
                new.insert(1, "method", method)
                curves = keep(file, curves, new)
                known = (curves.network == network) & (curves.method == method)
            found.append(row(network, method, curves[known]))
    return found


def configuration(scale: Scale, method: str, settings: dict) -> RunConfig:
    """Profile `pretrained` with another network; validated here, not by the trainer."""
    if scale.name == "smoke":
        return RunConfig("synthetic-fluo", method, profile="smoke")
    return RunConfig("dsb-bf", method, profile="pretrained", **settings)


def curve(config: RunConfig, every: int) -> list[dict[str, float]]:
    """Step, minutes of a core and validation IoU until the goal or the end of the training."""
    # The trainer would validate in the main stage only, and its time would count.
    config = dataclasses.replace(config, validate_every=10**6)
    trainer = new_trainer(config, device="cpu", progress=False)
    held, trainer.validation = trainer.validation, []

    found, spent = [], 0.0
    for step in range(every, config.total_steps + 1, every):
        began = time.process_time()
        with_threads(1, lambda step=step: train_until(trainer, step))
        spent += time.process_time() - began

        scores = [iou(cell.instances, trainer.predict(cell.image) >= 0.5) for cell in held]
        found.append({"step": step, "minutes": spent / 60, "iou": float(np.mean(scores))})
        if found[-1]["iou"] >= GOAL:
            break
    return found


def train_until(trainer: Trainer, step: int) -> None:
    """Trains to a step of either stage, through the fork where it lies between."""
    warmup = trainer.config.warmup_steps
    trainer.advance(min(step, warmup))
    if step > warmup:
        trainer.fork()
        trainer.advance(step)


def row(network: str, method: str, curve: pd.DataFrame) -> Row:
    """Minutes to the goal; or, and then it says so, to the end."""
    name, last = f"{network}, {METHODS[method].label}", curve.iloc[-1]
    if last.iou >= GOAL:
        case = f"{name}: IoU {last.iou:.2f} at step {last.step}"
    else:
        case = f"{name}: {GOAL:.2f} not reached in {last.step} steps, {curve.iou.max():.2f} at best"
    return absolute(case, [last.minutes], unit="min")


@styled
def draw(rows: pd.DataFrame) -> Picture:
    """Minutes of each row, those that did not get there in red."""
    figure = Picture(figsize=(8, 0.5 + 0.36 * len(rows)), layout="constrained")
    ax = figure.subplots()
    reached = ~rows.case.str.contains("not reached")
    ax.barh(range(len(rows)), rows.value, color=[BLUE if there else RED for there in reached])
    ax.set_yticks(range(len(rows)), rows.case)
    ax.invert_yaxis()
    ax.set(xlabel=f"minutes of one core until validation IoU {GOAL:.2f}, or to the end")
    ax.grid(axis="x", color=GREY, alpha=0.25)
    return figure
