"""Run folders, their hashes, and the tidy table of all scores."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from s2l_core.config import METHODS, TABLE1_METHODS, RunConfig, S2LError, digest
from s2l_core.profiles import DATASETS
from s2l_images.files import write_atomically, write_csv, write_json
from s2l_images.folders.listing import fingerprint
from s2l_paper import paths
from s2l_paper.running import calibration
from s2l_paper.running.environment import environment

KEYS = ["run_id", "dataset", "method", "fold", "seed", "annotator", "budget", "checkpoint", "image"]
SCORES = [
    "n_nuclei",
    "iou",
    "mdice",
    "mdice_official",
    "aji",
    "f1",
    "false_positives",
    "missed",
    "merged",
]
OPTIONAL = ["false_area"]  # scores that the runs of profile `scratch` do not have
COLUMNS = KEYS + SCORES
CALIBRATED = 4  # the first test images of a split, whose probabilities every run counts by bins

# Raised whenever the same configuration may give other numbers. One for each family of methods, so
# that a change of a baseline does not make the networks' runs stale; part of every run's hash.
NUMERICS_VERSION = {"networks": 1, "random-forest": 1, "otsu": 1}


def numerics_version(method: str) -> int:
    """The version of what a method computes."""
    return NUMERICS_VERSION.get(method, NUMERICS_VERSION["networks"])


def run_inputs(config: RunConfig) -> dict[str, str | int]:
    """Hashes of what a run reads besides its configuration: splits, scribbles,
    and the version of the numerics.
    """
    if config.dataset not in DATASETS:  # a folder of one's own: whatever is read from it
        own = fingerprint(Path(config.dataset))
        return {"splits": own, "scribbles": own, "numerics": numerics_version(config.method)}
    sees_scribbles = config.method != "otsu" and (
        not METHODS[config.method].masks or config.foreground_crops
    )
    return {
        "splits": _file_hash(paths.split_file(config.dataset)),
        "scribbles": (
            _file_hash(paths.scribble_file(config.dataset, config.annotator))
            if sees_scribbles
            else ""
        ),
        "numerics": numerics_version(config.method),
    }


def run_hash(config: RunConfig) -> str:
    """Eight hexadecimal digits over configuration and inputs; the commit is provenance only."""
    return digest({"config": config.choices(), "inputs": run_inputs(config)})


def run_id(config: RunConfig) -> str:
    """`{dataset}_{method}_f{fold}_s{seed}_{hash8}`."""
    dataset = Path(config.dataset).name
    return f"{dataset}_{config.method}_f{config.fold}_s{config.seed}_{run_hash(config)}"


def folder_of(config: RunConfig) -> Path:
    """Where a run lies, or would lie."""
    return paths.run_folder(config.profile, run_id(config))


def warmup_id(config: RunConfig) -> str:
    """Name of the warm-up a run shares."""
    dataset = Path(config.dataset).name
    return f"{dataset}_warmup_f{config.fold}_s{config.seed}_{run_hash(config.warmup())}"


def is_done(config: RunConfig) -> bool:
    """True where the run's `per_image.csv` and its recorded hash agree with what would be run
    now.
    """
    folder = folder_of(config)
    try:
        recorded = json.loads((folder / "config.json").read_text())
        table = (folder / "per_image.csv").read_bytes()
        hashes = recorded.get("hash"), recorded.get("per_image")
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return hashes == (run_hash(config), digest(table, 16))


def write_run(
    config: RunConfig,
    rows: list[dict],
    steps: list[dict],
    masks: Mapping[str, np.ndarray],
    *,
    seconds: float,
    warmup_seconds: float = 0.0,
    calibrated: list[dict] | None = None,
) -> Path:
    """Writes everything a run commits; `per_image.csv` and its hash come last,
    so that half a run is never done.

    Args:
        config: of the run.
        rows: per test image and checkpoint, the columns of `COLUMNS`.
        steps: rows of `steps.csv`.
        masks: test image -> mask (H, W), or its probability; kept as 1-bit PNG for the figures.
        seconds: wall time of the run, over all its resumes.
        warmup_seconds: wall time of the warm-up, which other runs may share.
        calibrated: rows of `calibration.csv`, see `calibration.by_bin`.
    """
    folder = folder_of(config)
    for image_id, mask in masks.items():
        picture = Image.fromarray(np.asarray(mask) > 0.5)
        file = folder / "masks" / f"{image_id}.png"
        write_atomically(
            file, lambda temporary, p=picture: p.save(temporary, format="PNG", optimize=True)
        )
    if calibrated:
        table = pd.DataFrame(calibrated, columns=calibration.COLUMNS).round(6)
        write_csv(folder / "calibration.csv", table)
    write_json(folder / "env.json", environment(seconds, warmup_seconds))
    write_csv(folder / "steps.csv", pd.DataFrame(steps).round(6))
    optional = [name for name in OPTIONAL if rows and name in rows[0]]
    table = pd.DataFrame(rows, columns=COLUMNS + optional).round(6)
    write_csv(folder / "per_image.csv", table)
    record = {"run_id": folder.name, "hash": run_hash(config), "inputs": run_inputs(config)}
    record["per_image"] = digest((folder / "per_image.csv").read_bytes(), 16)
    write_json(folder / "config.json", record | {"config": config.to_dict()})
    return folder


def read_run(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`per_image.csv` and `steps.csv` of a run (the latter empty for a baseline).

    Raises:
        S2LError: a file is damaged, or lacks a column that this version knows.
    """
    with reading(folder):
        per_image = pd.read_csv(folder / "per_image.csv", dtype={"image": str, "annotator": str})
        steps = folder / "steps.csv"
        curves = pd.read_csv(steps) if steps.stat().st_size > 2 else pd.DataFrame()
    lacking = [name for name in COLUMNS if name not in per_image]
    if lacking:
        found = f"per_image.csv lacks {', '.join(lacking)}: another version made it"
        raise S2LError(f"{folder}: {found}. Delete the run and make it again.")
    return per_image, curves


def read_calibration(folder: Path) -> pd.DataFrame:
    """`calibration.csv` of a run, empty where nothing was calibrated.

    Raises:
        S2LError: the file is damaged.
    """
    file = folder / "calibration.csv"
    if not file.exists():
        return pd.DataFrame(columns=calibration.COLUMNS)
    with reading(file):
        return pd.read_csv(file, dtype={"image": str})[calibration.COLUMNS]


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Damage of a committed file, however it shows, becomes one error that says where."""
    try:
        yield
    except (S2LError, OSError):
        raise
    except Exception as error:
        again = "Restore it, or delete the run and make it again"
        raise S2LError(f"{place}: damaged ({error!r:.200}). {again}.") from error


def words(config: RunConfig) -> list[str]:
    """A configuration as `name=value` words of a command: what names it, and what it changes."""
    named = [f"{name}={getattr(config, name)}" for name in ("dataset", "method", "profile")]
    return named + [f"{name}={value!r}" for name, value in config.changed().items()]


def variant(config: RunConfig) -> str:
    """What makes a run more than a repetition, as `name=value`.

    Empty for another fold, rotation or seed, and for another annotator who draws as the profile's
    does.
    """
    usual = RunConfig(config.dataset, config.method, profile=config.profile).annotator
    repeats = {"fold", "rotation", "seed"}
    if _way_of_drawing(config.annotator) == _way_of_drawing(usual):
        repeats.add("annotator")
    return ", ".join(
        f"{name}={value}" for name, value in config.changed().items() if name not in repeats
    )


def _way_of_drawing(annotator: int | str) -> str:
    """How an annotator draws: `blind` for those with numbers, or else the name without its own."""
    return "blind" if isinstance(annotator, int) else annotator.rstrip("-0123456789")


def finished(profile: str) -> list[RunConfig]:
    """The finished runs of a profile; one that would get another name now is not among them.

    Raises:
        S2LError: the record of a run cannot be read, or is of another version; or a run of another
            profile lies in the folder, since two recipes are never averaged.
    """
    found = []
    for file in sorted(paths.runs(profile).glob("*/config.json")):
        _, config = recorded(file.parent)
        if config.profile != profile:
            home = paths.run_folder(config.profile, file.parent.name)
            raise S2LError(
                f"{file.parent}: a run of profile {config.profile} lies among those of {profile}, "
                f"and runs of two recipes are never averaged. Move it to {home}."
            )
        if is_done(config) and run_id(config) == file.parent.name:
            found.append(config)
    return found


def recorded(folder: Path) -> tuple[dict, RunConfig]:
    """What a run wrote into `config.json`, and its configuration.

    Fields that were added later get the value that they have where they are left out.

    Raises:
        S2LError: it is damaged, or names something that this version does not know.
    """
    with reading(folder):
        record = json.loads((folder / "config.json").read_text())
        values = record["config"]
        values.items()  # a dict, or it is damaged
    try:
        return record, RunConfig.from_dict(values)
    except (S2LError, TypeError) as error:
        again = "Go on with that version, or delete the run and make it again"
        raise S2LError(f"{folder}: made by another version ({error}) {again}.") from error


def shown_checkpoint(selection: str, checkpoints: Iterable[str]) -> str:
    """The checkpoint that Table 1 shows: the selected one, or `last` where a run has no other.

    Args:
        selection: `RunConfig.selection` (D10).
        checkpoints: those that the run has; a baseline has `last` only.
    """
    return selection if selection in set(checkpoints) else "last"


def load_runs(profile: str, *, variants: bool = False) -> pd.DataFrame:
    """The scores of all finished runs of a profile, one row per run, checkpoint and test image.

    Args:
        profile: a name in PROFILES.
        variants: also runs whose settings are not the profile's own, which no table may average
            with the others.

    Returns:
        `COLUMNS`; `shown` marks the checkpoint that Table 1 shows, `data` is the label of the data
        set, `rotation` says which part was tested and `variant` what differs from the profile. The
        last four come from `config.json`.

    Raises:
        S2LError: no run is there; the command that makes them is named.
    """
    tables = []
    for config in finished(profile):
        differs = variant(config)
        if differs and not variants:
            continue
        table = read_run(folder_of(config))[0]
        selection = shown_checkpoint(config.selection, table.checkpoint)
        labels = {"data": data_label(config), "rotation": config.rotation, "variant": differs}
        tables.append(table.assign(shown=table.checkpoint == selection, **labels))
    if not tables:
        again = f"make reproduce PROFILE={profile}"
        raise S2LError(f"{paths.results(profile)}: no finished run. Make them: {again}")
    return pd.concat(tables, ignore_index=True)


def tables_are_current(profile: str, *, figure: bool = True) -> bool:
    """True where the committed Table 1 was made from exactly the finished runs of the profile.

    Args:
        profile: a name in PROFILES.
        figure: Fig. 2 has to be there as well.
    """
    file = paths.results(profile) / "table1.csv"
    if not file.exists() or (figure and not (paths.figures(profile) / "figure2.png").exists()):
        return False
    with reading(file):
        made_from = set(" ".join(pd.read_csv(file).run_ids).split())
    rows = [config for config in finished(profile) if config.method in TABLE1_METHODS]
    return made_from == {run_id(config) for config in rows if not variant(config)}


def data_label(config: RunConfig) -> str:
    """Label of a data set in tables and figures; a subset says so."""
    label = DATASETS.get(config.dataset, (Path(config.dataset).name, 0))[0]
    return f"{label} (subset)" if config.subset and config.dataset == "dsb-fluo" else label


def _file_hash(file: Path) -> str:
    return digest(file, 16) if file.exists() else ""
