"""Stands in for `python` in the jobs of a batch that is harmed: leaves what a job leaves,
computes nothing.

Files in the folder of the results tell it what to do: `hold/METHOD` keeps a run at work for as long
as it is there, `fail/METHOD` lets it end with an error,
`weight` says how many bytes a run's model has.
"""

import os
import sys
import time
from pathlib import Path

import pandas as pd
from PIL import Image

from s2l_core.config import TABLE1_METHODS, RunConfig, S2LError
from s2l_images.files import write_atomically, write_csv, write_text
from s2l_paper import paths
from s2l_paper.__main__ import settings
from s2l_paper.running import results


def note(event: str, name: str) -> None:
    """What happened, for the test to count; where it says so, beside a disk that is full."""
    with open(os.environ["S2L_EVENTS"], "a") as file:
        file.write(f"{event} {name} {os.getpid()}\n")


def train(config: RunConfig) -> None:
    """A run, held, failed or done as its home says."""
    folder = paths.run_folder(config.profile, results.run_id(config))
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".notebook-*.tmp.ipynb"):  # as `notebooks.run` does before it begins
        left.unlink()
    # As papermill's, for as long as it is at work.
    unfinished = folder / f".notebook-{os.getpid()}.tmp.ipynb"
    unfinished.touch()
    note("begun", folder.name)
    while (paths.home() / "hold" / config.method).exists():
        time.sleep(0.05)
    unfinished.unlink()
    if (paths.home() / "fail" / config.method).exists():
        raise S2LError("step 3: the loss is nan. Lower rate_encoder")
    weight = paths.home() / "weight"
    if weight.exists():
        size = int(weight.read_text())
        write_atomically(folder / "model.safetensors", lambda file: file.write_bytes(bytes(size)))
    row = dict.fromkeys(results.COLUMNS, 0) | {
        "run_id": folder.name,
        "checkpoint": "last",
        "image": "a",
    }
    row |= {"dataset": config.dataset, "method": config.method}
    results.write_run(config, [row], [], {}, seconds=1.0)
    note("done", folder.name)


def tables(output: Path, profile: str) -> None:
    """A Table 1 and a figure of the finished runs."""
    runs = results.load_runs(profile)
    names = " ".join(sorted(set(runs.run_id[runs.method.isin(TABLE1_METHODS)])))
    write_csv(paths.results(profile) / "table1.csv", pd.DataFrame({"run_ids": [names]}))
    picture = paths.figures(profile) / "figure2.png"
    write_atomically(picture, lambda file: Image.new("L", (8, 8)).save(file, format="PNG"))
    write_text(output, "{}\n")


def main(words: list[str]) -> None:
    """`-m s2l_paper train|notebook ...`, as the rules of the Snakefile call it."""
    assert words[:2] == ["-m", "s2l_paper"], words
    values = settings([word for word in words[3:] if "=" in word])
    try:
        if words[2] == "notebook":
            tables(Path(words[4]), values["profile"])
        else:
            config = RunConfig.from_dict(values)
            if "--warm-up" not in words:
                train(config)
            else:
                note("begun", results.warmup_id(config))
                write_text(
                    paths.warmup_folder(config.profile, results.warmup_id(config)) / "done", ""
                )
    except S2LError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
