"""What measurements leave: results.csv, a picture of each topic, and the tables in README.md."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.harness import FOLDER, Row, Scale
from s2l_core.drawing import BLUE, GREY, Picture, styled

COLUMNS = "scale topic case unit ours against theirs value low high rounds bar met others".split()
HEAD = "| | ours | beside it | value | min to max (rounds) | bar | met |\n|---|---|---|---|---|---|---|"
REASONS = {  # why a topic's bar is missed where it is, in short
    "loss": "beside the three products each pair needs a sigmoid, a share of a logarithm and a subtraction: on one "
    "core 1.4 times the products, on two more, as these gain less from a second core than products do.",
    "steps": "a head on every pixel costs as much as the comparison itself: its 32 channels of 8 x 256 x 256 pixels "
    "pass through a batch normalisation forwards and backwards, however few regions are drawn.",
    "feeding": "crops are cut on the same two cores that the step uses.",
    "averages": "coverage and accuracy are counted after each update.",
    "folds": "what a run does beside steps, tests and files, is not shared; one measurement, which other work moves.",
    "imports": "pandas, and SciPy's image functions, come on top of the libraries.",
}
BLOCK = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.S)


def record(scale: Scale, topic: str, rows: Sequence[Row], others: float) -> pd.DataFrame:
    """Puts the rows of a topic in place of its older ones; returns all of `results.csv`."""
    file = scale.out / "results.csv"
    new = pd.DataFrame([{name: getattr(row, name, None) for name in COLUMNS} for row in rows])
    new = new.assign(scale=scale.name, topic=topic, others=others)
    if file.exists():
        old = read(file)
        new = pd.concat([old[(old.scale != scale.name) | (old.topic != topic)], new], ignore_index=True)
    new.to_csv(file, index=False, float_format="%.5g")
    return read(file)


def read(file: Path) -> pd.DataFrame:
    """`results.csv`; fields that may be empty are text, or nan."""
    empty = ["unit", "against", "bar", "met"]
    return pd.read_csv(file, dtype=dict.fromkeys(empty, str)).fillna(dict.fromkeys(empty, ""))


def write_readme(rows: pd.DataFrame, out: Path) -> None:
    """README.md with tables of these rows."""
    barred = rows[rows.met != ""]
    count = (
        f"{(barred.met == 'yes').sum()} of {len(barred)} bars are met; the reason for each of the others is beside it."
    )
    parts = [f"{machine()} {count}\n"]
    for (topic, scale), group in rows.groupby(["topic", "scale"], sort=False):
        where = f"other processes took {group.others.iloc[0]:.0%} of the machine"
        parts += [f"**{topic}{' (make bench-full)' if scale == 'full' else ''}** ({where})\n", HEAD]
        parts += [_line(row) for row in group.itertuples()]
        missed = [row.case for row in group.itertuples() if row.met == "no"]
        parts += [f"\nMissed: {'; '.join(missed)}. Reason: {REASONS.get(topic, 'not known.')}"] * bool(missed)
        parts += [f"\n![{topic}]({topic}.png)\n" if (out / f"{topic}.png").exists() else ""]
    text = (FOLDER / "README.md").read_text()
    (out / "README.md").write_text(BLOCK.sub(lambda match: "\n" + "\n".join(parts), text))


def _line(row) -> str:
    beside = f"{row.against}: {row.theirs:.3g} {row.unit}" if row.against else ""
    spread = f"{row.low:.3g} to {row.high:.3g} ({row.rounds})"
    return f"| {row.case} | {row.ours:.3g} {row.unit} | {beside} | {row.value:.3g} | {spread} | {row.bar} | {row.met} |"


def machine() -> str:
    """What the measurements were made on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    kind = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor}, {os.cpu_count()} cores, {kind}, PyTorch {torch.__version__}, Python {platform.python_version()}."
    )


@styled
def draw(rows: pd.DataFrame) -> Picture:
    """A bar for each row and one for what stands beside it, on a logarithmic axis for each unit."""
    units = [part for _, part in rows.groupby("unit", sort=False)]
    figure = Picture(figsize=(8, 0.6 + 0.45 * len(rows) + 0.5 * len(units)), layout="constrained")
    grid = {"height_ratios": [len(part) + 0.5 for part in units]}
    for ax, part in zip(figure.subplots(len(units), squeeze=False, gridspec_kw=grid)[:, 0], units, strict=True):
        place = np.arange(len(part))
        ax.barh(place - 0.2, part.ours, 0.38, color=BLUE, label="ours")
        ax.barh(place + 0.2, part.theirs, 0.38, color=GREY, label="beside it")
        for y, row in zip(place, part.itertuples(), strict=True):
            text = f" {row.value:.3g}" + (f" (bar {row.bar}: {row.met})" if row.bar else "")
            ax.text(np.nanmax([row.ours, row.theirs]), y, text, va="center")
        ax.set_yticks(place, [f"{row.case}\n{row.against}" for row in part.itertuples()])
        ax.set(xscale="log", xlabel=part.unit.iloc[0])
        ax.invert_yaxis()
        ax.margins(x=0.3)
    figure.axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
