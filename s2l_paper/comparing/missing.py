"""Which runs a test lacks, and how long they would take."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from s2l_core.config import METHODS, RunConfig
from s2l_core.profiles import DATASETS, ROTATING
from s2l_paper.comparing.statistics import MIN_GROUPS, groups_of
from s2l_paper.comparing.training_noise import REPETITION
from s2l_paper.data.datasets import split_of
from s2l_paper.running import costs

MIN_REPETITIONS = 2  # fewer say nothing about how trainings differ


def missing_runs(
    runs: pd.DataFrame, profile: str, dataset: str, methods: Iterable[str]
) -> list[RunConfig]:
    """The runs that a test of these methods lacks: repetitions that other methods have, further
    test parts where one has fewer than `MIN_GROUPS` groups, and `MIN_REPETITIONS` of each.

    Args:
        runs: finished runs of the profile, of any data set.
        profile: whose settings the missing runs have.
        dataset: name of the data set.
        methods: names of the methods that are compared.
    """
    here = runs[runs.dataset == dataset]
    baselines = [name for name, method in METHODS.items() if method.baseline]
    networks = here[~here.method.isin(baselines)]
    done = here[["method", *REPETITION]].drop_duplicates()
    wanted = [tuple(row) for row in networks[REPETITION].drop_duplicates().to_numpy().tolist()]
    usual = RunConfig(dataset, "s2l", profile=profile)
    wanted = wanted or [(0, 0, 0, str(usual.annotator))]
    _, fold, _, annotator = min(wanted)
    for rotation in _further_parts(usual, {row[0] for row in wanted}):
        wanted.append((rotation, fold, 0, annotator))

    # Where a test part has too few trainings, further seeds of the first are the cheapest.
    for rotation in {row[0] for row in wanted}:
        own = [row for row in wanted if row[0] == rotation]
        seeds = max(row[2] for row in own)
        for more in range(1, 1 + MIN_REPETITIONS - len(own)):
            wanted.append((rotation, own[0][1], seeds + more, own[0][3]))

    have = set(map(tuple, done.to_numpy().tolist()))
    lacking = []
    for method in methods:
        for rotation, fold, seed, annotator in sorted(wanted):
            if (method, rotation, fold, seed, annotator) not in have:
                number = int(annotator) if str(annotator).isdigit() else annotator
                lacking.append(
                    RunConfig(
                        dataset,
                        method,
                        profile=profile,
                        rotation=int(rotation),
                        fold=int(fold),
                        seed=int(seed),
                        annotator=number,
                    )
                )
    return lacking


def _further_parts(config: RunConfig, rotations: set[int]) -> list[int]:
    """Which parts of a data set have to be tested as well, for `MIN_GROUPS` groups of images."""
    if config.dataset not in ROTATING:
        return []
    numbers, groups, further = groups_of(config.dataset), set(), []
    parts = DATASETS[config.dataset][1] + 1  # those of the folds, and the one that is tested

    # Parts that were tested already come first; others are added until there are enough.
    for rotation in [*sorted(rotations), *sorted(set(range(parts)) - rotations)]:
        if rotation not in rotations:
            if len(groups) >= MIN_GROUPS:
                break
            further.append(rotation)
        test = split_of(replace(config, rotation=int(rotation))).test
        groups |= {numbers.get(image, image) for image in test}
    return further


def shortage(lacking: Sequence[RunConfig]) -> str:
    """Which runs are missing and how long they take, in words; empty where none is."""
    if not lacking:
        return ""
    names = []
    for config in lacking:
        annotator = f", annotator {config.annotator}" if config.annotator else ""
        rotation = f", rotation {config.rotation}" if config.rotation else ""
        names.append(f"{config.method} fold {config.fold}, seed {config.seed}{rotation}{annotator}")
    seconds = sum(costs.estimate_seconds(config) for config in lacking)

    # The methods of a repetition share a warm-up, if it is not there already.
    forks = [config for config in lacking if METHODS[config.method].forks]
    warmups = {(run.rotation, run.fold, run.seed, run.annotator): run for run in forks}
    seconds += sum(costs.estimate_seconds(run, warmup=True) for run in warmups.values())
    listed = "; ".join(names[:4]) + (f"; and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{len(names)} runs, about {max(1, round(seconds / 60))} minutes on one core: {listed}"
