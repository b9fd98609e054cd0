"""The folders of the project. What lies in the folder of one run is named in `running`."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Folder that holds `data/`, `results/` and `figures/`: `S2L_HOME`, or else the checkout."""
    return Path(os.environ.get("S2L_HOME") or ROOT).expanduser().absolute()


def raw_data() -> Path:
    """Folder of the official archives: `S2L_DATA` (may be read-only), or else `data/raw`."""
    return Path(os.environ.get("S2L_DATA") or home() / "data" / "raw").expanduser()


def prepared_data() -> Path:
    """Folder of decoded data sets, made by us and safe to delete."""
    return home() / "data" / "prepared"


def split_file(dataset: str) -> Path:
    """Committed lists of image ids of a data set."""
    return ROOT / "data" / "splits" / f"{dataset}.json"


def group_file(dataset: str) -> Path:
    """Committed groups of alike images of a data set."""
    return ROOT / "data" / "groups" / f"{dataset}.json"


def true_mask_file() -> Path:
    """The committed scores of the true mask of each real image."""
    return ROOT / "data" / "true_masks.csv"


def scribble_file(dataset: str, annotator: int | str) -> Path:
    """Committed strokes of one annotator, which the hash of a run covers.

    Of a number or `skeleton` those at the default budget; of `attentive-0` where it differs from 0.
    """
    name = annotator if isinstance(annotator, str) else f"annotator{annotator}"
    suffix = ".json.bz2" if name.startswith("attentive-") else ".json"
    return ROOT / "data" / "scribbles" / f"{dataset}_{name}{suffix}"


def rest_file(dataset: str, annotator: int | str) -> Path:
    """Committed strokes that a number or `skeleton` draws on all nuclei, but not at the default
    budget.
    """
    name = scribble_file(dataset, annotator).stem
    return ROOT / "data" / "scribbles" / f"{name}_rest.json.bz2"


def round_trials() -> Path:
    """Every trial of training in rounds (docs/obstacles.md)."""
    return home() / "docs" / "rounds.csv"


def benchmarks() -> Path:
    """What `make bench` measured."""
    return home() / "benchmarks" / "results.csv"


def notebook(name: str) -> Path:
    """Hand-edited, stripped source of a notebook."""
    return ROOT / "notebooks" / f"{name}.ipynb"


def results(profile: str) -> Path:
    """Tables of a profile, with its runs and executed notebooks below."""
    return home() / "results" / profile


def profiles() -> list[str]:
    """Names of the profiles that have a folder of results, whether they are known or not."""
    return sorted(folder.name for folder in results("").glob("*/"))


def runs(profile: str) -> Path:
    """Folder of all runs of a profile, each in a folder of its own."""
    return results(profile) / "runs"


def model(folder: Path) -> Path:
    """The weights in the folder of a run, on the machine that trained it."""
    return folder / "model.safetensors"


def run_folder(profile: str, run_id: str) -> Path:
    """Everything one run leaves behind."""
    return runs(profile) / run_id


def warmup_folder(profile: str, warmup_id: str) -> Path:
    """The shared warm-up of a fold (ignored by git)."""
    return results(profile) / "warmups" / warmup_id


def separation(profile: str) -> Path:
    """How well each network of a profile separates both classes, layer by layer."""
    return results(profile) / "separation.csv"


def apart(profile: str) -> Path:
    """What test images of a profile score once touching nuclei are told apart."""
    return results(profile) / "apart.csv"


def apart_settings() -> Path:
    """How touching nuclei are told apart: what was tried on validation images."""
    return home() / "results" / "apart_settings.csv"


def executed(profile: str) -> Path:
    """Executed copies of the notebooks."""
    return results(profile) / "executed"


def figures(profile: str | None = None) -> Path:
    """Pictures of a profile; without one, those that belong to no profile (Fig. 1)."""
    return home() / "figures" / profile if profile else home() / "figures"
