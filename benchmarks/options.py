"""What PyTorch offers beside what the package uses: speed, and how far the numbers move."""

import os
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks import inputs
from benchmarks.harness import Case, Row, Scale, absolute, in_fresh_process, ratio
from s2l_core.model import ScribbleUNet
from s2l_core.objective import loss_terms

MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
}  # as workflow/Snakefile sets them


def measure(scale: Scale) -> list[Row]:
    """Each option for a step of S2L and for a prediction, where it can act; float32 and eager beside it."""
    return steps(scale) + malloc(scale) + predictions(scale)


def steps(scale: Scale) -> list[Row]:
    """Options of a training step; each has weights of its own."""
    settings = inputs.config(scale, "s2l", batch=4)
    runs = {
        name: inputs.run(settings)
        for name in ("default", "channels_last", "bfloat16 autocast", "foreach", "compile")
    }
    batch = runs["default"].data.batch(0, inputs.averages(runs["default"]))
    batches = dict.fromkeys(runs, batch)
    cases: dict[str, Case] = {}
    for name, run in runs.items():
        if name == "channels_last":
            run.model.to(memory_format=torch.channels_last)
            batches[name] = batch | {
                "image": batch["image"].contiguous(memory_format=torch.channels_last)
            }
        if name == "foreach":
            for group in run.optimiser.param_groups:
                group["foreach"] = True
        if name == "compile":
            run.model.unet = torch.compile(run.model.unet)
        cases[name] = partial(step, run, batches[name], name.startswith("bfloat16"))
    cases["1 thread"] = partial(with_threads, 1, partial(step, inputs.run(settings), batch, False))
    if scale.name == "smoke":
        del cases["compile"]  # minutes
    times = scale.turns(cases, rounds=3)
    return [
        ratio(f"step, {name}", times[name], "default", times["default"])
        for name in cases
        if name != "default"
    ]


def step(run, batch: dict[str, Tensor], bfloat16: bool) -> None:
    """The trainer's step, with a choice that it does not offer on a CPU."""
    run.model.train()
    run.optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        terms = loss_terms(run.model, batch, run.config, run.step)
    sum(terms.values()).backward()
    run.optimiser.step()


def with_threads(count: int, case: Case) -> None:
    """Calls it with another number of threads."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        case()
    finally:
        torch.set_num_threads(usual)


def malloc(scale: Scale) -> list[Row]:
    """A step under the workflow's settings of glibc, which are read when a process starts."""
    usual, kept = [], []
    for _ in range(scale.pick(1, 3)):
        usual.append(in_fresh_process(several, scale)[0])
        with patch.dict(os.environ, MALLOC):
            kept.append(in_fresh_process(several, scale)[0])
    return [ratio("3 steps, workflow's malloc settings", kept, "default", usual)]


def several(scale: Scale) -> Case:
    """Three steps, after one that does not count."""
    run = inputs.run(inputs.config(scale, "s2l", "synthetic-fluo", batch=4))
    batch = run.data.batch(0, inputs.averages(run))
    run._optimise(batch)
    return lambda: [run._optimise(batch) for _ in range(3)]


def predictions(scale: Scale) -> list[Row]:
    """Options of a forward pass in evaluation mode; the second row of each is the largest change of a probability."""
    side = scale.pick(64, 512)
    model = ScribbleUNet(seed=0).eval()
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    options: dict[str, Callable[[], Tensor]] = {
        "default": partial(model.logits, image),
        "channels_last": partial(
            fresh().to(memory_format=torch.channels_last).logits,
            image.contiguous(memory_format=torch.channels_last),
        ),
        "bfloat16 autocast": partial(in_bfloat16, model, image),
        "norms folded into convolutions": partial(folded().logits, image),
    }
    if scale.name != "smoke":
        options["compile"] = compiled(fresh(), image, freezing=False)
        options["compile, freezing"] = compiled(fresh(), image, freezing=True)
    with torch.inference_mode():
        usual = torch.sigmoid(options["default"]())
        change = {
            name: float((torch.sigmoid(case().float()) - usual).abs().max())
            for name, case in options.items()
        }
        times = scale.turns(options)
    rows = []
    for name in list(options)[1:]:
        rows.append(
            ratio(f"prediction {side} x {side}, {name}", times[name], "default", times["default"])
        )
        rows.append(
            absolute(f"prediction, {name}: largest change", [change[name]], unit="probability")
        )
    return rows


def fresh() -> ScribbleUNet:
    """The same weights again."""
    return ScribbleUNet(seed=0).eval()


def in_bfloat16(model: ScribbleUNet, image: Tensor) -> Tensor:
    """A forward pass under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        return model.logits(image)


def folded() -> ScribbleUNet:
    """The network with every batch normalisation multiplied into the convolution before it."""
    model, before = fresh(), None
    for parent in list(model.unet.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d) and before and before[0] is parent:
                setattr(parent, before[1], fuse_conv_bn_eval(before[2], child))
                setattr(parent, name, torch.nn.Identity())
            before = (parent, name, child) if isinstance(child, torch.nn.Conv2d) else None
    return model


def compiled(model: ScribbleUNet, image: Tensor, *, freezing: bool) -> Callable[[], Tensor]:
    """The network through inductor, whose constants may be folded where nothing trains."""
    from torch._inductor import config

    forward = torch.compile(model.logits)

    def call() -> Tensor:
        with torch.no_grad(), config.patch(freezing=freezing):
            return forward(image)

    return call
