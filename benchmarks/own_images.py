"""One's own images: which answer is exported, how good it is, and how many nuclei it counts.

A simulated annotator draws on the images of a folder, the forest guesses, and a network learns in
a round, as in notebook 08. Strokes, seeds and images differ from trial to trial:

- `test images`: the three test images of fold 0, ten annotators. Is the answer that held-out
  strokes choose the better one, by the masks that nobody drew from?
- `choices`: six choices of three training images. How far is the network after one round, about a
  minute on two idle cores, and after a second one?
- `kinds`: a crowded and a dim image of fluorescence, a dense and a sparse one of bright field,
  three annotators. How many nuclei does the exported answer count?

A trial is in `own_images.csv` as soon as it ends, and is not made again where it is there. Remove
the file to measure anew.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.harness import Row, Scale, absolute, keep
from s2l_core.images import CellImage
from s2l_core.metrics import iou
from s2l_images.nuclei.sizes import nuclei
from s2l_images.nuclei.split import divided
from s2l_images.places import own_strokes
from s2l_images.session import Session
from s2l_images.strokes import Stroke, write_strokes
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.scribbles.annotators import SimulatedAnnotator

STEPS = 72  # of a round: notebook 08's, about a minute on two idle cores
NUCLEI = 12  # most nuclei of an image that are drawn on; as many strokes lie in the background
COLUMNS = ["question", "dataset", "annotator", "images", "kind", "round", "seconds", "nuclei"]
COLUMNS += ["forest", "network", "forest_agrees", "network_agrees", "chosen", "counted", "exported"]


@dataclass(frozen=True)
class Trial:
    """Images, and who draws on them."""

    question: str
    dataset: str
    annotator: int
    cells: tuple[CellImage, ...]
    kinds: tuple[str, ...] = ()  # of each image, where these are told apart

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Question, data set, annotator and images, as in the table."""
        names = " ".join(cell.id[:8] for cell in self.cells)
        return self.question, self.dataset, self.annotator, names


def measure(scale: Scale) -> list[Row]:
    """Makes the trials that are missing, and says what all of them show."""
    file = scale.out / "own_images.csv"
    kept = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)
    for trial in scale.pick(made_up, real)():
        done = {tuple(row) for row in kept[COLUMNS[:4]].itertuples(index=False)}
        if trial.key not in done:
            new = pd.DataFrame(rounds_of(trial, scale.pick(12, STEPS)), columns=COLUMNS)
            kept = keep(file, kept, new)
    return summary(kept)


def made_up() -> Iterator[Trial]:
    """Two small trials on synthetic images."""
    cells = load_dataset("synthetic-fluo", images=3, image_size=96)
    for question, kinds in (("test images", ()), ("kinds", ("crowded", "dim", "dim"))):
        yield Trial(question, "synthetic-fluo", 0, tuple(cells), kinds)


def real() -> Iterator[Trial]:
    """All trials, those of both data sets by turns."""
    parts = {name: splits(name, 0) for name in ("dsb-bf", "dsb-fluo")}
    images = {name: {cell.id: cell for cell in load_dataset(name)} for name in parts}

    for name, cells in images.items():
        for annotator in range(3):
            yield of_kinds(name, list(cells.values()), annotator)
    for question, count in (("test images", 10), ("choices", 6)):
        for number in range(count):
            for name, cells in images.items():
                # There are eleven training images of bright field: choices overlap.
                part = parts[name].test[:3]
                if question == "choices":
                    order = np.random.default_rng(number).permutation(parts[name].train)
                    part = order[:3]
                drawn = tuple(cells[image] for image in part)
                yield Trial(question, name, number, drawn)


def of_kinds(name: str, cells: Sequence[CellImage], annotator: int) -> Trial:
    """A folder with two images: the most crowded one, and one that is dim or sparse."""
    counts = [len(np.unique(cell.instances)) - 1 for cell in cells]
    first = cells[int(np.argmax(counts))]
    if name == "dsb-bf":
        return Trial(
            "kinds", name, annotator, (first, cells[int(np.argmin(counts))]), ("dense", "sparse")
        )
    # The dimmest with ten nuclei or more: of fewer, one nucleus is more than 15 % of the count.
    light = [
        cell.image.mean() if n >= 10 else np.inf for cell, n in zip(cells, counts, strict=True)
    ]
    return Trial(
        "kinds", name, annotator, (first, cells[int(np.argmin(light))]), ("crowded", "dim")
    )


def rounds_of(trial: Trial, steps: int) -> list[list]:
    """Rows of the table: an image each for `kinds`, else the mean over all; after each round."""
    rows = []
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, S2L_PLAIN="1"):
        folder = Path(home) / "cells"
        write_folder(folder, trial.cells, trial.annotator)
        session = Session(folder, seed=trial.annotator)
        with contextlib.redirect_stdout(io.StringIO()):
            session.guess()
            spent = 0.0
            for number in range(1, 3 if trial.question == "choices" else 2):
                began = time.process_time()
                session.refine(steps, start=session.start, seed=trial.annotator)
                spent += time.process_time() - began
                session.choose()
                rows += _judged(trial, session, number, spent)
    return rows


def write_folder(folder: Path, cells: Sequence[CellImage], annotator: int) -> None:
    """Images, and strokes on at most `NUCLEI` nuclei of each, as one's own folder holds them."""
    (folder / "images").mkdir(parents=True)
    drawn = {}
    for cell in cells:
        Image.fromarray(cell.image).save(folder / "images" / f"{cell.id}.png")
        drawn[cell.id] = strokes_on(cell, annotator)
    own_strokes(folder).parent.mkdir()
    write_strokes(own_strokes(folder), drawn, {"annotator": "simulated"})


def strokes_on(cell: CellImage, annotator: int) -> list[Stroke]:
    """Strokes on at most `NUCLEI` nuclei of an image, and as many on the background."""
    share = min(1.0, NUCLEI / max(1, len(np.unique(cell.instances)) - 1))
    return SimulatedAnnotator(annotator, share).strokes(cell.instances, key=cell.id)


def _judged(trial: Trial, session: Session, number: int, spent: float) -> list[list]:
    """What forest, network and the exported answer are worth now."""
    choice = session.outgoing.choice
    network = session.answers.of("network") if session.answers.network_file.exists() else None
    exported = session.answers.of(choice.answer)
    width, size = session.outgoing.width, session.outgoing.min_size

    found = []
    for cell in trial.cells:
        truth = cell.instances
        objects = nuclei(exported[cell.id], size, threshold=choice.threshold).instances
        found.append(
            {
                "nuclei": len(np.unique(truth)) - 1,
                "forest": iou(truth, session.guessed[cell.id] > 0.5),
                "network": iou(truth, network[cell.id] > 0.5) if network else np.nan,
                "counted": len(np.unique(divided(objects, width) if width else objects)) - 1,
                "exported": iou(truth, exported[cell.id] > choice.threshold),
            }
        )

    table = pd.DataFrame(found)
    if trial.kinds:
        kinds = list(trial.kinds)
    else:
        kinds, table = [""], table.mean().to_frame().T
    told = table.assign(
        question=trial.question,
        dataset=trial.dataset,
        annotator=trial.annotator,
        images=trial.key[3],
        kind=kinds,
        round=number,
        seconds=spent,
        forest_agrees=choice.forest,
        network_agrees=choice.network,
        chosen=choice.answer,
    )
    return told[COLUMNS].to_numpy().tolist()


def summary(kept: pd.DataFrame) -> list[Row]:
    """A row for each bar."""
    rows = []
    for (question, name), group in kept.groupby(["question", "dataset"], sort=False):
        if question == "test images":
            rows += _right_choices(name, group)
        if question == "kinds":
            for kind, image in group.fillna({"kind": ""}).groupby("kind", sort=False):
                rows += _of_kind(name, kind, image)
            continue
        rows.append(
            absolute(f"{name}, {question}: IoU of the forest", _first(group).forest, unit="IoU")
        )
        for number, part in group.groupby("round"):
            gained = part.network - part.forest
            case = f"{name}, {question}: IoU of the network after {number} x {STEPS} steps"
            rows.append(absolute(case, part.network, unit="IoU"))
            rows.append(absolute(f"{case}, above the forest", gained, unit="IoU"))
    return rows


def _first(group: pd.DataFrame) -> pd.DataFrame:
    return group[group["round"] == 1]


def _right_choices(name: str, group: pd.DataFrame) -> list[Row]:
    """How often the better answer was chosen, after each round."""
    rows = []
    for number, part in group.groupby("round"):
        better = np.where(part.network >= part.forest, "network", "forest")
        right = float((better == part.chosen).mean())
        lost = part[["network", "forest"]].max(axis=1) - np.where(
            part.chosen == "network", part.network, part.forest
        )
        case = f"{name}: share of {len(part)} trials with the better answer chosen, round {number}"
        rows.append(absolute(case, [right], ">= 0.8", unit="of trials"))
        rows.append(absolute(f"{name}: IoU lost by the choice, round {number}", lost, unit="IoU"))
    return rows


def _of_kind(name: str, kind: str, image: pd.DataFrame) -> list[Row]:
    """IoU and count of what would be exported after one round."""
    part = _first(image)
    bar = {"crowded": ">= 0.65", "dense": ">= 0.5", "sparse": ">= 0.5"}.get(kind, "")
    true = int(part.nuclei.iloc[0])
    off = (part.counted / part.nuclei - 1).abs()
    return [
        absolute(f"{name}, {kind}: IoU of the forest", part.forest, unit="IoU"),
        absolute(f"{name}, {kind}: IoU of what is exported", part.exported, bar, unit="IoU"),
        absolute(f"{name}, {kind}: nuclei counted, {true} in truth", part.counted, unit="nuclei"),
        absolute(f"{name}, {kind}: error of the count", off, "<= 0.15", unit="of nuclei"),
    ]
