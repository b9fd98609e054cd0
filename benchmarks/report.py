"""What measurements leave: results.csv, a picture of each topic, and the tables in README.md.

`python -m benchmarks.report` draws and writes them anew from `results.csv`,
without measuring anything.
"""

import importlib
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.lines import Line2D

from benchmarks.harness import FOLDER, TOPICS, Row, Scale
from s2l_paper.figures.plotting import BLUE, GREY, RED, Picture, styled

MEASURED = (
    "scale topic case unit ours against theirs value low high rounds bar met others seconds machine"
).split()
UNIT_NAMES = {
    "s": "seconds",
    "h": "hours",
    "of pixels": "share of pixels",
    "times": "how many times",
}
HEAD = (
    "| | ours | compared with | value | min to max (rounds) | bar | met"
    " |\n|---|---|---|---|---|---|---|"
)
REASONS = {  # why a topic's bar is missed where it is, in short
    "loss": (
        "beside the three products each pair needs a sigmoid, a share of a logarithm and a"
        " subtraction: on one core 1.4 times the products, on two more, as these gain less from a"
        " second core than products do."
    ),
    "steps": (
        "a head on every pixel costs as much as the comparison itself: its 32 channels of 8 x 256 x"
        " 256 pixels pass through a batch normalisation forwards and backwards, however few regions"
        " are drawn."
    ),
    "feeding": "crops are cut on the same two cores that the step uses.",
    "averages": "coverage and accuracy are counted after each update.",
    "folds": (
        "277 seconds instead of 267. The shared warm-up is a job of its own, and each fork makes"
        " data, network and optimiser anew; with half as many steps it was 10 seconds as well, so"
        " that longer runs lose a smaller share."
    ),
    "own_images": (
        "on bright field nuclei that touch are counted as one, debris as some, and one annotator"
        " of three held out too few strokes to see that the network was worse. In the crowded"
        " image twelve nuclei with a stroke stand for 375 of very different brightness."
    ),
    "imports": "pandas, and SciPy's image functions, come on top of the libraries.",
}
TITLES = {  # the heading of a topic, to which pages link
    "loss": "The contrastive loss",
    "crowd": "The contrastive loss beside other work",
    "steps": "One step of training",
    "feeding": "Feeding a step",
    "averages": "Averaged predictions",
    "prediction": "Predicting large images",
    "scores": "Scores",
    "scribbles": "Drawing scribbles",
    "rendering": "Rendering synthetic images",
    "reading": "Reading data sets",
    "imports": "Starting",
    "cost": "What a run costs",
    "folds": "A fold of five methods",
    "options": "What PyTorch offers",
    "first_mask": "Notebook 08 to its first mask",
    "rounds": "Short rounds on own images",
    "features": "Deep features for the forest",
    "own_images": "Own images: which answer, and how many nuclei",
    "next_stroke": "Own images: where to draw next",
    "reach": "Core-minutes until nuclei are found",
}
RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.S)


def record(
    scale: Scale, topic: str, rows: Sequence[Row], others: float, seconds: float
) -> pd.DataFrame:
    """Puts the rows of a topic, which took so many seconds, in place of its older ones;
    returns all of `results.csv`.

    Scales and topics keep their order. Where the topic belongs to another scale,
    its rows there stay.
    """
    file = scale.out / "results.csv"
    new = pd.DataFrame([{name: getattr(row, name, None) for name in MEASURED} for row in rows])
    new = new.assign(
        scale=scale.name, topic=topic, others=others, seconds=seconds, machine=machine()
    )
    if file.exists():
        old = read(file)
        new = pd.concat(
            [old[(old.scale != scale.name) | (old.topic != topic)], new], ignore_index=True
        )
    order = [(name, each) for name, topics in TOPICS.items() for each in topics]
    places = [order.index(pair) for pair in zip(new.scale, new.topic, strict=True)]
    new = new.iloc[np.argsort(places, kind="stable")]
    new.to_csv(file, index=False, float_format="%.5g")
    return read(file)


def read(file: Path) -> pd.DataFrame:
    """`results.csv`; fields that may be empty are text, or nan."""
    empty = ["unit", "against", "bar", "met", "machine"]
    return pd.read_csv(file, dtype=dict.fromkeys(empty, str)).fillna(dict.fromkeys(empty, ""))


def write(rows: pd.DataFrame, out: Path) -> None:
    """A picture of each topic and scale, and README.md with all tables."""
    barred = rows[rows.met != ""]
    parts = [
        f"{(barred.met == 'yes').sum()} of {len(barred)} bars are met; the reason for each other is"
        " beside it.\n"
    ]
    for (topic, scale), group in rows.groupby(["topic", "scale"], sort=False):
        module, picture = importlib.import_module(f"benchmarks.{topic}"), f"{topic}_{scale}.png"
        getattr(module, "draw", draw)(group).savefig(out / picture, dpi=120)
        command = "make bench-full" if scale == "full" else "make bench"
        first = group.iloc[0]
        took = f", {first.seconds:.0f} seconds" if first.seconds == first.seconds else ""
        parts += [f"### {_title(topic, scale)}\n"]
        parts += [f"Topic `{topic}`, `{command}`{took}: {first.machine}", ""]
        if first.others == first.others:  # else it was not recorded
            parts += [f"Other processes took {first.others:.0%} of the machine.\n"]
        parts += [HEAD]
        parts += [_line(row) for row in group.itertuples()]
        missed = [row.case for row in group.itertuples() if row.met == "no"]
        parts += [
            f"\nMissed: {'; '.join(missed)}. Reason: {REASONS.get(topic, 'not known.')}"
        ] * bool(missed)
        parts += [f"\n![{topic}]({picture})\n"]
    text = (FOLDER / "README.md").read_text()
    (out / "README.md").write_text(RESULTS.sub(lambda match: "\n" + "\n".join(parts), text))


def _title(topic: str, scale: str) -> str:
    """The heading of a topic; those that both commands measure are told apart."""
    longer = scale == "full" and topic in TOPICS["bench"]
    return TITLES[topic] + (", the long rows" if longer else "")


def _line(row) -> str:
    beside = f"{row.against}: {_number(row.theirs)} {row.unit}" if row.against else ""
    ours, spread = (
        f"{_number(row.ours)} {row.unit}",
        f"{_number(row.low)} to {_number(row.high)} ({row.rounds})",
    )
    return (
        f"| {row.case} | {ours} | {beside} | {_number(row.value)} | {spread} | {row.bar} |"
        f" {row.met} |"
    )


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> str:
    """What the measurements were made on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor, kind = (
        names[0] if names else platform.processor(),
        torch.backends.cpu.get_cpu_capability(),
    )
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, {kind}, {versions}."


@styled
def draw(rows: pd.DataFrame) -> Picture:
    """A point for each row, from its smallest to its largest round, and its bar;
    a panel for each kind of value.
    """
    kinds = [_kind(row) for row in rows.itertuples()]
    parts = list(rows.groupby(np.array(kinds), sort=False))  # a list could be names of columns
    figure = Picture(
        figsize=(8, 0.4 + sum(0.36 * len(part) + 0.6 for _, part in parts)), layout="constrained"
    )
    grid = {"height_ratios": [len(part) + 0.5 for _, part in parts]}
    axes = figure.subplots(len(parts), squeeze=False, gridspec_kw=grid)[:, 0]
    for ax, (kind, part) in zip(axes, parts, strict=True):
        limits = [float(bar.split()[1]) if bar else None for bar in part.bar]
        for y, (row, limit) in enumerate(zip(part.itertuples(), limits, strict=True)):
            colour = RED if row.met == "no" else BLUE
            ax.plot(
                [row.low, row.high], [y, y], color=colour, lw=3, alpha=0.4, solid_capstyle="butt"
            )
            ax.plot(row.value, y, "o", color=colour, ms=5)
            if limit is not None:
                ax.plot([limit, limit], [y - 0.35, y + 0.35], color="black", lw=1.2)
            ax.annotate(
                _number(row.value), (1.01, y), xycoords=("axes fraction", "data"), va="center"
            )
        shown = [*part.low, *part.high, *(limit for limit in limits if limit is not None)]
        if 0 < 10 * min(shown) < max(shown) and kind != "IoU":
            ax.set(xscale="log", xlabel=f"{kind} (logarithmic)")
            ax.xaxis.set_minor_formatter("")  # within one decade its labels would overlap
        else:
            # From 0, and further where something was lost: nothing measured lies outside.
            ax.set(xlim=(1.05 * min(0, *shown), 1.05 * (max(shown) or 1)), xlabel=kind)
            if min(shown) < 0:
                ax.axvline(0, color=GREY, lw=0.8)
        beside = [f"\nbeside: {row.against}" if row.against else "" for row in part.itertuples()]
        ax.set_yticks(
            range(len(part)), [case + text for case, text in zip(part.case, beside, strict=True)]
        )
        ax.set_ylim(len(part) - 0.5, -0.5)
        ax.grid(axis="x", color=GREY, alpha=0.25)
    keys = [
        Line2D([], [], color=BLUE, marker="o", label="median, smallest to largest round"),
        Line2D([], [], color=RED, marker="o", label="the same, bar missed"),
        Line2D([], [], color="black", marker="|", ls="", ms=10, label="bar"),
    ]
    keys = [
        key
        for key, wanted in zip(keys, (True, "no" in set(rows.met), any(rows.bar)), strict=True)
        if wanted
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


def _kind(row) -> str:
    """What the value of a row is, in words."""
    if not row.against:
        return UNIT_NAMES.get(row.unit, row.unit)
    if row.bar.startswith(">="):
        return "times as fast as what stands beside it"
    what = {"s": "time", "MiB": "memory"}.get(row.unit, "value")
    return f"{what} as a multiple of what stands beside it"


if __name__ == "__main__":
    write(read(FOLDER / "results.csv"), FOLDER)
