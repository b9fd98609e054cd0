"""The constants of `s2l_paper.running.costs`, what profile `paper` costs by them,
and where the time of a step goes.
"""

from dataclasses import asdict
from functools import partial
from statistics import median

from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import averages, inputs
from benchmarks.harness import Case, Row, Scale, absolute, ratio
from benchmarks.loss import embeddings, value_and_gradient
from benchmarks.options import with_threads
from s2l_core.config import TABLE1_METHODS, RunConfig
from s2l_core.losses import contrastive_loss
from s2l_core.profiles import DATASETS, PROFILES
from s2l_paper.running.costs import COSTS, Cost, estimate_seconds

LINES = 25  # of a profile


def measure(scale: Scale) -> list[Row]:
    """Each constant on one core, beside the one that estimates are made with;
    then the hours of profile `paper`.
    """
    found, flops = constants(scale)
    rows = [
        ratio(
            f"constant `{name}`, one core",
            [value],
            "in s2l_paper.running.costs",
            [getattr(COSTS["cpu"], name)],
        )
        for name, value in asdict(found).items()
    ]
    rows.append(
        absolute("operations of a training step, 256 x 256 pixels", [flops / 1e9], unit="Gflop")
    )
    profiles(scale)
    return rows + hours(found)


def constants(scale: Scale) -> tuple[Cost, float]:
    """Steps on large and small crops tell what does not depend on pixels;
    and the operations of 256 x 256 pixels.
    """
    sides, regions = scale.pick((64, 32), (256, 96)), scale.pick(100, 3000)
    runs = {
        (name, side): prepared(scale, name, side, 1) for name in ("s2l", "s2l-r1") for side in sides
    }
    cases: dict[object, Case] = {
        key: partial(run._optimise, batch) for key, (run, batch) in runs.items()
    }
    run, batch = runs["s2l", sides[0]]
    cases["forward"] = partial(averages.forward, run.model, [*batch["image"].split(1)])
    cases["crop"] = partial(run.data.batch, 0, inputs.averages(run))
    cases["pair"] = partial(value_and_gradient, contrastive_loss, *embeddings(regions))
    times = scale.turns(
        {key: partial(with_threads, 1, case) for key, case in cases.items()}, rounds=3
    )
    spent = {key: median(values) for key, values in times.items()}
    large, small = (run.data.size * (side / 256) ** 2 for side in sides)
    train = (spent["s2l", sides[0]] - spent["s2l", sides[1]]) / (large - small)
    found = Cost(
        step=max(spent["s2l", sides[1]] - small * train, 0.0),
        train=train,
        head=max(spent["s2l-r1", sides[0]] - spent["s2l", sides[0]], 0.0) / large,
        forward=spent["forward"] / large,
        crop=spent["crop"] / large,
        pair=spent["pair"] / (2 * regions) ** 2,
    )
    return found, operations(cases["s2l", sides[0]]) / large


def prepared(scale: Scale, method: str, side: int, regions: int, crops: int = 2):
    """A run at its main stage, and a batch of crops with every pixel labelled."""
    settings = {"crop": side} | scale.pick({}, {"batch": crops, "max_regions": regions})
    run = inputs.run(inputs.config(scale, method, "synthetic-fluo", **settings))
    return run, inputs.all_labelled(run.data.batch(0, inputs.averages(run)))


def hours(found: Cost) -> list[Row]:
    """What profile `paper` takes on each real data set, all folds, all methods of Table 1,
    warm-ups shared.
    """
    rows = []
    for name in PROFILES["paper"].datasets:
        runs = [RunConfig(name, method, profile="paper") for method in TABLE1_METHODS]
        for where, cost in {"one core": found, "one GPU (estimated)": COSTS["cuda"]}.items():
            fold = estimate_seconds(runs[0], warmup=True, cost=cost) + sum(
                estimate_seconds(r, cost=cost) for r in runs
            )
            case = f"profile paper, {name}, {DATASETS[name][1]} folds, {where}"
            rows.append(absolute(case, [fold * DATASETS[name][1] / 3600], unit="h"))
    return rows


def operations(case: Case) -> int:
    """Multiplications and additions of the convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        case()
    return counter.get_total_flops()


def profiles(scale: Scale) -> None:
    """The dearest operators of a warm-up step and of a main-stage step with both terms and full
    classes.
    """
    for method, main, name in (("s2l", False, "warmup"), ("s2l-r1-r4", True, "main")):
        run, batch = prepared(scale, method, scale.pick(64, 256), 6000, crops=8)
        run.step = run.config.warmup_steps if main else 0
        run._optimise(batch)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            run._optimise(batch)
        table = found.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=LINES, max_name_column_width=44
        )
        text = (
            f"{method}, {name} step, {run.data.size} crops of {run.config.crop} x {run.config.crop}"
            f" pixels\n{table}"
        )
        (scale.out / f"profile_{name}.txt").write_text(
            "\n".join(map(str.rstrip, text.splitlines())) + "\n"
        )
