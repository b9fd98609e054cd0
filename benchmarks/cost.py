"""Where the time of a step goes (two text files), and what profile `paper` costs: here, and reckoned for a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import averages, inputs
from benchmarks.harness import Case, Row, Scale, absolute
from s2l_core import paths
from s2l_core.config import DATASETS, METHODS, PROFILES, TABLE1_METHODS, RunConfig
from s2l_core.datasets import images_of, split_of
from s2l_core.sources import PARTS, locate

GPU = 2e13  # operations a second that a GPU is assumed to sustain, a small part of what its maker states
LINES = 25  # of a profile


@dataclass(frozen=True)
class Cost:
    """Seconds for 256 x 256 pixels: trained on in each way, cut out and augmented, predicted."""

    warmup: float
    s2l: float
    both: float
    crops: float
    forward: float

    def fold(self, config: RunConfig) -> float:
        """Seconds of the methods of Table 1, warm-up shared; crops are cut while the step before computes."""
        images = {part: images_of(config, getattr(split_of(config), part)) for part in ("train", "validation", "test")}
        areas = {part: sum(image.image[..., 0].size for image in those) / 256**2 for part, those in images.items()}
        batch = min(config.batch, len(images["train"])) * (config.crop / 256) ** 2

        def learned(steps: int, each: float) -> float:
            return steps * batch * max(each, self.crops)

        total = learned(config.warmup_steps, self.warmup)
        predicted = areas["train"] * (config.warmup_steps // config.average_every)
        for method in map(METHODS.get, TABLE1_METHODS):
            predicted += areas["validation"] * (config.main_steps // config.validate_every) + 2 * areas["test"]
            if method.masks:
                total += learned(config.total_steps, self.warmup)
            else:
                total += learned(config.main_steps, self.both if method.scales else self.s2l)
                predicted += areas["train"] * (config.main_steps // config.average_every)
        return total + predicted * self.forward


def measure(scale: Scale) -> list[Row]:
    """Times of each kind of work, profiles of the two steps, and the hours that come of the times."""
    runs = {
        "warmup": inputs.run(inputs.config(scale, "s2l"), main=False),
        "s2l": inputs.run(inputs.config(scale, "s2l")),
    }
    runs["both"] = inputs.run(inputs.config(scale, "s2l-r1-r4"))
    data, pseudo = runs["s2l"].data, inputs.averages(runs["s2l"])
    batch = inputs.all_labelled(data.batch(0, pseudo)) | {"scribbles": data.batch(0)["scribbles"]}
    cases: dict[str, Case] = {name: partial(run._step, batch) for name, run in runs.items()}
    cases |= {"crops": partial(data.batch, 0, pseudo)}
    cases |= {"forward": partial(averages.forward, runs["s2l"].model, [*batch["image"].split(1)])}
    times = scale.turns(cases, rounds=3)
    for name, file in {"warmup": "warmup", "both": "main"}.items():
        (scale.out / f"profile_{file}.txt").write_text(profiled(cases[name]))
    size = f"{data.size} crops of {data.crop} x {data.crop}"
    rows = [absolute(f"{name}, {size}", values) for name, values in times.items()]
    return rows + hours(cases, times, data.size * (data.crop / 256) ** 2)


def hours(cases: Mapping[str, Case], times: Mapping[str, list[float]], areas: float) -> list[Row]:
    """What profile `paper` takes on each real data set that is at hand, all folds, all methods of Table 1.

    On a GPU arithmetic takes operations / GPU; crops are still cut by one thread of the processor.
    """
    here = Cost(**{name: median(values) / areas for name, values in times.items()})
    work = {name: operations(case) / areas / GPU for name, case in cases.items() if name != "crops"}
    gpu = Cost(**work, crops=here.crops)
    rows = [absolute("operations of a main-stage step, a crop", [work["both"] * GPU / 1e9], unit="Gflop")]
    for name in PROFILES["paper"].datasets:
        if all(locate(part, paths.raw_data()) for part in PARTS[name]):
            config, folds = RunConfig(name, "s2l", profile="paper"), DATASETS[name][1]
            for where, cost in {"this machine": here, "one GPU": gpu}.items():
                value = cost.fold(config) * folds / 3600
                rows.append(absolute(f"profile paper, {name}, {folds} folds, {where}", [value], unit="h"))
    return rows


def operations(case: Case) -> int:
    """Multiplications and additions of the convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        case()
    return counter.get_total_flops()


def profiled(case: Case) -> str:
    """Table of the dearest operators."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        case()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=LINES, max_name_column_width=44)
