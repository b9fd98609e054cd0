"""Sentences and tables of README and docs whose numbers come from committed measurements.

Each stands in a page between `<!-- generated:NAME -->` and `<!-- /generated:NAME -->`; `verify`
compares it, and `verify --write` writes it.
"""

import pandas as pd

from s2l_paper import paths
from s2l_paper.comparing import recipe_plan
from s2l_paper.tables.table1 import markdown
from s2l_paper.texts import findings, recipe_texts, run_texts

# Pages that hold such blocks.
PAGES = ("README.md", "docs/results.md", "docs/obstacles.md", "docs/running.md")
UNNAMED = "scratch"  # the profile of blocks that name none
OTHERS = ("pretrained",)  # profiles of which some is told as well, in blocks `NAME-PROFILE`
OF_OTHERS = (
    *("answer", "thesis", "ledger", "terms", "table1-short", "tested", "labels", "rival"),
    *("methods", "errors", "searched", "apart", "apart-worse"),
)


def texts() -> dict[str, str]:
    """Name of a block -> its text, for every block whose measurements are there."""
    found = findings.texts(UNNAMED) | run_texts.texts(UNNAMED)
    found |= recipe_texts.texts(recipe_plan.kept_trials("pretrained"))
    for profile in OTHERS:
        told = findings.texts(profile) | run_texts.texts(profile)
        found |= {f"{name}-{profile}": told[name] for name in OF_OTHERS if name in told}
    if paths.round_trials().exists():
        trials = pd.read_csv(paths.round_trials())
        trials["iou"] = trials[["iou_1", "iou_2", "iou_3"]].mean(axis=1)
        rounds = trials[trials.machine == "H200"]
        found["round-setting"] = _setting(rounds)
        found["round-trials"] = _trials_table(rounds)
        found |= _trials_on_two_cores(trials[trials.machine == "2 cores"])
    if paths.benchmarks().exists():
        measured = pd.read_csv(paths.benchmarks())
        rounds = measured[measured.topic == "rounds"]
        found["round-benchmark"] = _benchmark(rounds)
        found["forest-features"] = _features(measured[measured.topic == "features"])
        found["next-stroke"] = _next_stroke(measured[measured.topic == "next_stroke"])
        found["round-benchmark-time"] = f"{rounds.seconds.max() / 60:.0f} minutes"
    return found


def _setting(trials: pd.DataFrame) -> str:
    """How many trials there were, on how many choices of images, and how long each was."""
    pairs = trials[["images", "seed"]].drop_duplicates()
    seeds = pairs.groupby("images").seed.nunique()
    return (
        f"{len(pairs)} trials on DSB-BF (three training images with simulated strokes, "
        f"{len(seeds)} choices of them, {(seeds > 1).sum()} with a second seed; IoU on the three "
        f"test images; {trials.steps.mode()[0]:.0f} steps where nothing else is said; on a GPU in "
        "bfloat16)"
    )


def _trials_table(trials: pd.DataFrame) -> str:
    """Mean and worst IoU of each kind of round; the longest training is told in prose."""
    rounds = trials[trials.steps < 450]
    kinds = rounds.groupby(["case", "crop"]).iou.agg(["mean", "min"])

    # In the order of the explanation: each way to get labels, then second rounds.
    kinds = kinds.reset_index()
    kinds["second"] = kinds.case.str.startswith(("a second", "the same"))
    kinds["own"] = ~kinds.case.str.startswith("the network's own")
    kinds = kinds.sort_values(["second", "own", "crop", "mean"])

    shown = {
        "the pseudo-labels are": kinds.case,
        "crops": kinds.crop.map("{:.0f}".format),
        "IoU": kinds["mean"].map(_short),
        "worst": kinds["min"].map(_short),
    }
    return markdown(pd.DataFrame(shown))


def _trials_on_two_cores(trials: pd.DataFrame) -> dict[str, str]:
    """What README and docs say of rounds on a processor."""
    iou = trials.set_index(["case", "images"]).iou
    first, second = iou["one round"], iou["a second round, no new strokes"]
    corrected = iou["a second round, mistakes corrected"]
    forest = iou["the forest"][first.index]  # on the same images

    docs = (
        f"On a processor, on {len(first)} choices of images and with {trials.steps.min():.0f} "
        f"steps of {trials.crop.min():.0f} pixels a round, IoU is {_short(first.mean())} after the "
        f"first round (worst {_short(first.min())}), "
        f"{_short(second.mean())} after a second without new strokes ({_short(second.min())}); "
        f"in the {len(corrected)} where mistakes were corrected instead, "
        f"{_short(first[corrected.index].mean())} and then {_short(corrected.mean())}."
    )
    readme = (
        f"a round of {trials.steps.min():.0f} steps gave {_short(first.mean(), 2)}, a second one "
        f"{_short(second.mean(), 2)}, and the forest {_short(forest.mean(), 2)}"
    )
    return {"rounds-on-two-cores": docs, "rounds-in-short": readme}


def _benchmark(rows: pd.DataFrame) -> str:
    """Medians of `python -m benchmarks rounds --scale full`."""
    forest, *networks = map(_short, rows.value)
    one, two, own_one, own_two = networks
    return (
        f"{one} and {two} on the forest's guess, {own_one} and {own_two} on the network's own "
        f"averages; the forest has {forest} there."
    )


def _features(rows: pd.DataFrame) -> str:
    """Median IoU of forests with and without deep features, and how much longer these take."""
    values = rows.set_index("case").value
    parts = []
    for name, of_data in (("DSB-BF", "dsb-bf"), ("DSB-Fluo", "dsb-fluo")):
        without = _short(values[f"{of_data}: IoU of a forest on filters"])
        both = _short(values[f"{of_data}: IoU with features too"])
        parts.append(f"{both} on {name} (filters alone: {without})")
    times = [values[f"{of_data}: a forest with features"] for of_data in ("dsb-bf", "dsb-fluo")]
    return f"{' and '.join(parts)}, for {min(times):.1f} to {max(times):.1f} times the computing"


def _next_stroke(rows: pd.DataFrame) -> str:
    """Median IoU after ten more strokes, by where they were drawn."""
    parts = []
    rules = {
        "at random": "if they are drawn at random",
        "as proposed": "where the board proposes",
        "on the largest mistakes": "on the largest mistakes",
    }
    for name, of_data in (("DSB-BF", "dsb-bf"), ("DSB-Fluo", "dsb-fluo")):
        found = []
        for rule, words in rules.items():
            row = rows[rows.case == f"{of_data}: IoU after 10 strokes {rule}"]
            found.append(f"{_short(row.value.item())} {words}")
        parts.append(f"on {name} {', '.join(found)}")
    return f"{'; '.join(parts)}."


def _short(value: float, digits: int = 3) -> str:
    """A share without the 0 before its point."""
    return f"{value:.{digits}f}".removeprefix("0")
