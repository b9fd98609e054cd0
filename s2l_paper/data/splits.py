"""Which images train, validate and test: committed splits, and those of a folder of one's own."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from s2l_core.config import RunConfig, S2LError
from s2l_core.profiles import DATASETS, SYNTHETIC
from s2l_images.folders.folder import say
from s2l_images.folders.roles import split_folder
from s2l_paper import paths
from s2l_paper.data.sources import unknown


@dataclass(frozen=True)
class Split:
    """Image ids of one fold."""

    train: list[str]
    validation: list[str]
    test: list[str]


def _split_lists(name: str) -> dict:
    """Content of a committed split file."""
    path = paths.split_file(name)
    try:
        content = json.loads(path.read_text())
        if not all(
            isinstance(i, str) for part in [*content["parts"], content["test"]] for i in part
        ):
            raise TypeError("ids are words")
        return content
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise S2LError(
            f"{path} cannot be read ({error}). Restore it: git checkout {path}"
        ) from error


def paper_ids(part: str) -> list[str]:
    """The paper's 30 training or 14 test ids of MoNuSeg: the training archive of today holds 37."""
    lists = _split_lists("monuseg")
    return sorted(lists["test"] if part == "monuseg-test" else sum(lists["parts"], []))


def synthetic_ids(name: str, images: int) -> list[str]:
    """Ids of the embedded data, in the order in which they are drawn."""
    return [f"{name}-{index:03d}" for index in range(images)]


def splits(
    name: str, fold: int, *, rotation: int = 0, subset: bool = False, images: int = 0
) -> Split:
    """Ids of one fold, from the committed files (Sec. 3.1): a fixed test set, and parts that take
    turns as validation.

    DSB and synthetic sets: five parts, the last is the test set. MoNuSeg: five parts of the 30,
    test on the 14.

    Args:
        name: of the data set.
        fold: which of the parts that are not tested validates.
        rotation: which part is tested (D25). 0 is the paper's protocol; r turns the five parts on
            by r, so that part r - 1 comes last. Over rotations 0 to 4 each image is tested once:
            scores out of fold.
        subset: takes 80 training, 20 validation and 40 test images of `dsb-fluo`; other sets are
            taken whole.
        images: the size of a synthetic set (40 unless given).

    Raises:
        S2LError: unknown name, fold or rotation; a split file that cannot be read; a synthetic set
            too small to be split.
    """
    if name not in DATASETS:
        raise unknown(name, list(DATASETS))
    folds = DATASETS[name][1]
    if fold not in range(folds):
        raise S2LError(f"fold = {fold!r}: {name} has folds 0 to {folds - 1}. Choose one of them.")
    RunConfig(name, "s2l", fold=fold, rotation=rotation, subset=subset)  # refuses other rotations
    if name in SYNTHETIC:
        ids = synthetic_ids(name, images or 40)
        if len(ids) < 5:
            raise S2LError(f"images = {images}: {name} needs at least 5 to be split. Raise images.")
        lists = {"parts": [ids[k::5] for k in range(4)], "test": ids[4::5]}
    else:
        lists = _split_lists(name)
        if len(lists["parts"]) <= fold:
            raise S2LError(f"{paths.split_file(name)} lacks part {fold}. Restore it with git.")
    if subset and "subset" in lists:
        part = lists["subset"]["folds"][fold]
        return Split(list(part["train"]), list(part["validation"]), list(lists["subset"]["test"]))

    parts, test = lists["parts"], lists["test"]
    if rotation:
        around = [*parts, test]
        turned = around[rotation:] + around[:rotation]
        parts, test = turned[:-1], turned[-1]
    train = [i for k, part in enumerate(parts) if k != fold for i in part]
    return Split(train, list(parts[fold]), list(test))


def split_of(config: RunConfig) -> Split:
    """Split of a run. In a folder of one's own every image with scribbles or a mask is trained on,
    unless `splits.json` says otherwise.

    Raises:
        S2LError: as `splits`; a folder without labels, or with a `splits.json` that cannot be
            followed.
    """
    if config.dataset in DATASETS:
        split = splits(
            config.dataset,
            config.fold,
            rotation=config.rotation,
            subset=config.subset,
            images=config.images,
        )
        return _fewer(split, config.train_images)

    if not Path(config.dataset).is_dir():
        raise unknown(config.dataset, list(DATASETS))
    split = Split(**split_folder(Path(config.dataset)))

    # In a folder of one's own nobody sees the split otherwise.
    train, validation, test = (len(ids) for ids in dataclasses.asdict(split).values())
    selected = f"{validation} for validation"
    if not validation:
        selected = "none for validation, so the weights of the last step are taken"
    scored = f"{test} for the test" if test else "none for a test, so per_image.csv stays empty"
    say(
        f"{config.dataset}: {train} images are used for training, {selected}; {scored}. "
        "A file splits.json in this folder can say otherwise."
    )
    return split


def _fewer(split: Split, most: int) -> Split:
    """At most so many training images, and a quarter as many for validation; the test part stays
    whole (D26).

    Ids are random digits in alphabetical order, so that every n-th of them is a random draw, the
    same one everywhere.
    """

    def thinned(ids: list[str], count: int) -> list[str]:
        if not most or len(ids) <= count:
            return ids
        return [ids[k * len(ids) // count] for k in range(count)]

    validation = thinned(split.validation, max(most // 4, 1))
    return Split(thinned(split.train, most), validation, split.test)
