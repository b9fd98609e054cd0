"""What a whole campaign on a cluster takes, by the cost model:
`python -m benchmarks.campaign` writes docs/cluster.md.

Three data sets, the five methods of Table 1, all folds, five seeds;
each warm-up is shared by the four that need it.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from s2l_core.config import METHODS, TABLE1_METHODS, RunConfig
from s2l_core.model import ScribbleUNet
from s2l_core.profiles import DATASETS, REAL
from s2l_paper.data.datasets import split_of
from s2l_paper.running import costs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
PLAN = re.compile(r"(?<=<!-- computed -->\n).*(?=<!-- end of what is computed -->)", re.S)
PLANNED = ("scratch", "paper")
SEEDS_PLANNED = 5
RECORD = 1e6  # bytes of a run that git keeps: tables, pictures, notebook
PLAN_HEAD = (
    "| data set | folds | jobs | hours on a core | hours on a GPU | longest job, core / GPU | kept"
    " | a job at work |"
)


@dataclass
class Share:
    """What one data set takes."""

    jobs: int
    hours: dict[str, float]  # device -> of all jobs together
    longest: dict[str, float]
    kept: float  # bytes that stay until `warmups/` and models are deleted
    working: float  # bytes of the two checkpoints of a job under way


@cache
def weights(encoder: str) -> int:
    """Bytes of a network's parameters and running means."""
    return sum(tensor.nbytes for tensor in ScribbleUNet(encoder, ()).state_dict().values())


def share(dataset: str, profile: str) -> Share:
    """Of one data set in a campaign."""
    found = Share(0, {"cpu": 0.0, "cuda": 0.0}, {"cpu": 0.0, "cuda": 0.0}, 0.0, 0.0)
    for fold in range(DATASETS[dataset][1]):
        runs = [RunConfig(dataset, method, fold=fold, profile=profile) for method in TABLE1_METHODS]
        forked = next(run for run in runs if METHODS[run.method].forks)
        model = weights(forked.encoder)
        averages = 4 * costs.AREAS[dataset] * 256**2 * len(split_of(forked).train)
        jobs = [(run, False) for run in runs] + [(forked, True)]
        for device in found.hours:
            hours = [
                costs.estimate_seconds(run, device, warmup=shared) / 3600 for run, shared in jobs
            ]
            found.hours[device] += SEEDS_PLANNED * sum(hours)
            found.longest[device] = max(found.longest[device], *hours)
        found.jobs += SEEDS_PLANNED * len(jobs)
        # weights and the two moments of the optimiser;
        # a run in its main stage also holds its best weights
        found.kept += SEEDS_PLANNED * (len(runs) * (model + RECORD) + 3 * model + averages)
        found.working = max(found.working, 2 * (4 * model + averages))
    return found


def table(profile: str) -> str:
    """Markdown, a row for each data set and one for all."""
    rows, shares = [], [share(dataset, profile) for dataset in REAL]
    for dataset, found in zip(REAL, shares, strict=True):
        rows.append(row(DATASETS[dataset][0], DATASETS[dataset][1], found))
    whole = {device: sum(found.hours[device] for found in shares) for device in ("cpu", "cuda")}
    longest = {device: max(found.longest[device] for found in shares) for device in ("cpu", "cuda")}
    sums = sum(found.jobs for found in shares), whole, longest, sum(found.kept for found in shares)
    rows.append(
        row(
            "all",
            sum(DATASETS[name][1] for name in REAL),
            Share(*sums, max(s.working for s in shares)),
        )
    )
    return "\n".join([PLAN_HEAD, "|---" * 8 + "|", *rows, ""])


def row(name: str, folds: int, found: Share) -> str:
    """One line of the table."""
    hours, longest = found.hours, found.longest
    sizes = f"{found.kept / 1e9:.1f} GB | {found.working / 1e9:.1f} GB"
    limits = f"{longest['cpu']:.1f} h / {longest['cuda']:.2f} h"
    return (
        f"| {name} | {folds} | {found.jobs} | {hours['cpu']:,.0f} | {hours['cuda']:,.1f} | {limits}"
        f" | {sizes} |"
    )


def text() -> str:
    """What stands between the marks of the page."""
    return "\n".join(f"Profile `{profile}`:\n\n{table(profile)}" for profile in PLANNED)


if __name__ == "__main__":
    PAGE.write_text(PLAN.sub(lambda _: text(), PAGE.read_text()))
