"""Sentences of docs/running.md and docs/obstacles.md whose numbers come from runs and trials.

What is not there yet, such as a data set that has not run, has no text.
"""

import pandas as pd

from s2l_core.config import FULL, METHODS, RunConfig
from s2l_core.profiles import DATASETS, REAL
from s2l_paper import paths
from s2l_paper.comparing import recipe_plan
from s2l_paper.comparing.sensitivity import DEFAULT
from s2l_paper.figures.figure2_windows import FIGURE2_METHODS, count_searched
from s2l_paper.running import costs, results
from s2l_paper.running.kept_masks import first_runs
from s2l_paper.texts.wording import joined, share

FIRST_AVERAGES = "dsb-fluo"  # the data set whose learning curves are told


def texts(profile: str) -> dict[str, str]:
    """Name of a block -> what stands in it.

    Args:
        profile: whose runs are told; trials of the recipe are those of `pretrained`.
    """
    folder, found = paths.results(profile), {}
    if (folder / "readings.csv").exists():
        found["readings-in-words"] = _readings(pd.read_csv(folder / "readings.csv"))
    if (folder / "spreads.csv").exists():
        found["who-drew"] = _who_drew(pd.read_csv(folder / "spreads.csv"))
    if (folder / "scores.csv").exists():
        found["averages"] = _averages(pd.read_csv(folder / "scores.csv"))
    if (folder / "budget.csv").exists():
        found["effort-in-words"] = _effort(pd.read_csv(folder / "budget.csv"))
    found["first-labels"] = _first_labels(profile)
    found["first-averages"] = _first_averages(profile)
    found["fold-minutes"] = _fold_minutes(profile)
    found["searched"] = _searched(profile)

    file = recipe_plan.table_file("pretrained")
    if file.exists():
        trials = pd.read_csv(file).drop_duplicates("run")
        minutes = trials.cpu_seconds.quantile([0.1, 0.9]) / 60
        found["pretrained-minutes"] = f"{minutes.iloc[0]:.0f} to {minutes.iloc[1]:.0f} core-minutes"
        found["below-half"] = _output_bias(pd.read_csv(file))
    if paths.round_trials().exists():
        found["longer-rounds"] = _longer(pd.read_csv(paths.round_trials()))
    return {name: text for name, text in found.items() if text}


def _searched(profile: str) -> str:
    """Among how many test images Fig. 2 could choose, by data set."""
    counts = []
    for dataset in REAL:
        configs = first_runs(profile, dataset, FIGURE2_METHODS)
        if configs:
            config = RunConfig(dataset, "s2l", profile=profile)
            counts.append(f"{count_searched(configs, config)} on {results.data_label(config)}")
    return joined(counts) if counts else ""


def _output_bias(trials: pd.DataFrame) -> str:
    """Validation IoU of supervised trainings by where their last layer's bias started."""
    rows = trials[trials.experiment == "output bias"].sort_values("seed")
    scores = rows.groupby("choice").validation_iou.apply(list)
    zero, labels = (scores.get(f"{name}: supervised") for name in ("zero", "of the labels"))
    if zero is None or labels is None:
        return ""
    from_zero, from_labels = (joined(map(share, values)) for values in (zero, labels))
    return f"from zero {from_zero}, from the log odds of the labels {from_labels}"


def _readings(table: pd.DataFrame) -> str:
    """Readings whose difference is larger than what two trainings differ by."""
    rows = table[table.score == "IoU"].set_index("reading")
    band = 2 * rows.noise.iloc[0]
    told = rows.difference.drop(DEFAULT).dropna()
    told = told[told.abs() > band].sort_values(key=abs, ascending=False)
    beyond = [f'"{name}" ({share(value, signed=True)})' for name, value in told.items()]
    what = f"{joined(beyond)} differ" if beyond else "No reading differs"
    text = (
        f"{what} from the default by more than two standard deviations of chance (± {share(band)})."
    )
    without = [name for name in rows.index if name.startswith("no contrast")]
    if not without:
        return text
    iou = rows["mean"]
    above = [n for n in iou.index if n not in (DEFAULT, *without) and iou[n] > iou[without[0]]]
    better = [f'"{name}" ({share(iou[name])})' for name in above]
    higher = f"only {joined(better)}" if better else "no reading"
    base = share(iou[without[0]])
    return f"{text} Without the contrastive terms IoU is {base}; {higher} is higher."


def _who_drew(table: pd.DataFrame) -> str:
    """Standard deviations of IoU over annotators and over folds, where both were varied."""
    rows = table[(table.score == "IoU") & table.annotators.notna() & table.folds.notna()]
    parts = []
    for row in rows[rows.method.isin(("s2l", FULL, "scribble-only"))].itertuples():
        label = METHODS[row.method].label
        parts.append(f"{share(row.annotators)} and {share(row.folds)} for {label}")
    if not parts:
        return ""
    return f"the standard deviation of IoU over annotators and over folds is {joined(parts)}"


def _averages(scores: pd.DataFrame) -> str:
    """Scribbles alone beside S2L, in IoU and the official mDice."""
    rows = scores[scores.shown & scores.variant.isna()].set_index(["data", "method"])
    parts = []
    for data in rows.index.unique("data"):
        if {(data, "s2l"), (data, "scribble-only")} <= set(rows.index):
            alone, s2l = rows.loc[(data, "scribble-only")], rows.loc[(data, "s2l")]
            parts.append(
                f"{share(alone.iou)} and {share(alone.mdice_official)} against {share(s2l.iou)} "
                f"and {share(s2l.mdice_official)} on {data}"
            )
    return joined(parts) if parts else ""


def _effort(table: pd.DataFrame) -> str:
    """IoU by the share of nuclei with a stroke, and how far two trainings differ by chance."""
    rows = table[table.score == "IoU"].sort_values("budget")
    budgets = sorted(rows.budget[rows.method == "s2l"])
    parts = []
    for method in ("s2l", FULL):
        scores = rows[rows.method == method].set_index("budget")["mean"]
        if not set(budgets) <= set(scores.index):
            return ""
        parts.append(f"{joined(map(share, scores[budgets]))} for {METHODS[method].label}")
    if not budgets:
        return ""
    shares = joined(f"{100 * budget:.0f}" for budget in budgets)
    noise = f"two trainings differ by ± {share(rows.noise.iloc[0])} by chance"
    return f"with strokes in {shares} % of the nuclei IoU is {joined(parts)}, where {noise}"


def _first_labels(profile: str) -> str:
    """When pseudo-labels begin, and how often they are renewed."""
    run = RunConfig(FIRST_AVERAGES, "s2l", profile=profile)
    every = run.average_every_main or run.average_every
    return (
        f"start at step {run.warmup_steps}, from a network that has just begun to learn, and "
        + (f"are renewed only every {every} steps")
    )


def _first_averages(profile: str) -> str:
    """Validation IoU soon after pseudo-labels began, and at the end, by method; fold 0."""
    early, late, soon = [], [], 0
    for method in ("s2l", "s2l-r1", "s2l-r4", FULL, "scribble-only"):
        run = RunConfig(FIRST_AVERAGES, method, profile=profile)
        if not results.is_done(run):
            return ""
        folder = results.folder_of(run)
        curve = results.read_run(folder)[1].set_index("step").validation_iou.dropna()
        soon = curve.index[curve.index > run.warmup_steps].min()
        label = METHODS[method].label
        early.append(f"{share(curve[soon], 2)} for {label}")
        late.append(f"{share(curve.iloc[-1], 2)} for {label}")
    return f"at step {soon} validation IoU is {joined(early)}; at the end {joined(late)}"


def _fold_minutes(profile: str) -> str:
    """Core-minutes of all methods on fold 0, the shared warm-up once."""
    parts = []
    for dataset in REAL:
        runs = [RunConfig(dataset, method, profile=profile) for method in METHODS]
        if not all(map(results.is_done, runs)):
            continue
        folders = [results.folder_of(run) for run in runs]
        minutes = costs.batch_minutes(folders)
        parts.append(f"{minutes:.0f} for {DATASETS[dataset][0]}")
    if not parts:
        return ""
    return f"Core-minutes of fold 0 under `{profile}`, all {len(METHODS)} methods: {joined(parts)}."


def _longer(trials: pd.DataFrame) -> str:
    """A training of 450 steps on the other images, and the forest."""
    iou = trials[["iou_1", "iou_2", "iou_3"]].mean(axis=1)
    longer = iou[trials.case.str.startswith("450 steps")]
    forest = iou[trials.case == "the forest"]
    if forest.empty or longer.empty:
        return ""
    return (
        f"450 steps on the other images give {share(longer.mean())}, and the forest has "
        f"{share(forest.mean())} on the {len(forest)} choices that it was measured on"
    )
