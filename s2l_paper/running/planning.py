"""The runs of a batch, from lists as people give them: on a command line, or to papermill."""

import ast
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from s2l_core.config import ANNOTATORS, METHODS, RunConfig, S2LError, check_choice
from s2l_core.profiles import DATASETS, PROFILES

Listed = Iterable[Any] | str | int  # a list, or what `papermill -p` makes of one


def plan(
    profile: str,
    datasets: Listed = (),
    folds: Listed = (),
    methods: Listed = (),
    seeds: Listed = (),
    annotators: Listed = (),
    rotations: Listed = (),
) -> list[RunConfig]:
    """The runs of a batch.

    Args:
        profile: a name in PROFILES.
        datasets: names in DATASETS. Every list may be given as a text, such as `dsb-bf monuseg`;
            what is left empty is the profile's own.
        folds: numbers.
        methods: names in METHODS.
        seeds: numbers; 0 where it is left empty.
        annotators: numbers, or names in ANNOTATORS; the profile's own where it is left empty.
        rotations: numbers; 0, the paper's test part, where it is left empty.

    Raises:
        S2LError: a name or number that does not exist; what exists is listed.
    """
    check_choice("PROFILE", profile, PROFILES)
    datasets = _names("DATASETS", datasets, DATASETS) or list(PROFILES[profile].datasets)
    methods = _names("METHODS", methods, METHODS) or list(METHODS)
    folds, seeds = _numbers("FOLDS", folds), _numbers("SEEDS", seeds) or [0]
    rotations = _numbers("ROTATIONS", rotations) or [0]
    annotators = _annotators(annotators)

    configs = []
    for dataset in datasets:
        own_folds = range(PROFILES[profile].folds or DATASETS[dataset][1])
        usual = RunConfig(dataset, methods[0], profile=profile)
        for fold, rotation, seed, annotator, method in itertools.product(
            folds or own_folds, rotations, seeds, annotators or [usual.annotator], methods
        ):
            configs.append(
                RunConfig(
                    dataset,
                    method,
                    fold=fold,
                    rotation=rotation,
                    seed=seed,
                    profile=profile,
                    annotator=annotator,
                )
            )
    return configs


def _names(what: str, given: Listed, known: Iterable[str]) -> list[str]:
    """A list of names, each of which has to be known."""
    names = list(map(str, _items(given)))
    for name in names:
        check_choice(what, name, known)
    return names


def _numbers(what: str, given: Listed) -> list[int]:
    """A list of whole numbers."""
    numbers = []
    for item in _items(given):
        if not re.fullmatch(r"\d+", str(item)):
            raise S2LError(
                f"{what} = {item!r}: expected whole numbers from 0. Write them so: 0 1 2."
            )
        numbers.append(int(item))
    return numbers


def _annotators(given: Listed) -> list[int | str]:
    """A list of annotators: those that never look at the image have numbers, the others names."""
    found: list[int | str] = []
    for item in map(str, _items(given)):
        if item.isdecimal():
            found.append(int(item))
        else:
            found += _names("ANNOTATORS", [item], ANNOTATORS)
    return found


def _items(given: Listed) -> list[Any]:
    """A list, as such or as a text: `[0, 1]`, `0 1` or `dsb-bf, monuseg`."""
    if not isinstance(given, str):
        return list(given) if isinstance(given, Iterable) else [given]
    if given.strip().startswith("["):
        return parsed(given, list)
    return [word for word in re.split(r"[\s,]+", given) if word]


def parsed(given: Any, kind: type = dict) -> Any:
    """A parameter of a notebook that is a dict or a list: `papermill -p` passes it on as a text.

    Args:
        given: the value itself, or JSON or a literal of Python such as `{"pair_target": "and"}`.
        kind: what it has to be.

    Raises:
        S2LError: it is something else.
    """
    value = given
    if isinstance(given, str):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(given)
                break
            except (ValueError, SyntaxError):
                continue
    if not isinstance(value, kind):
        example = {dict: '{"pair_target": "and"}', list: "[0, 1]"}[kind]
        raise S2LError(f"{given!r}: expected a {kind.__name__}. Write it so: {example}.")
    return value
