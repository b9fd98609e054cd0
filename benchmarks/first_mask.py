"""One's own images: from opening notebook 08 to a first mask, and how good masks are after a while.

The notebook's own cells run, in a process of its own. A simulated annotator drew on three of four
images; IoU is that of the fourth, which nobody drew on. Rounds follow one another, though nobody
draws between them; training is interrupted as a person would, and the model that is kept is asked.
Of bright field, where two minutes from scratch are short, it also goes on from a model that was
trained before, on other images of the data set.
"""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import nbformat
from PIL import Image

from benchmarks.harness import Row, Scale, absolute
from s2l_core.images import CellImage
from s2l_core.inference import predict
from s2l_core.metrics import iou
from s2l_images.learning.kept_models import kept_rounds, load_model, round_file
from s2l_images.learning.rounds import train_round
from s2l_images.places import own_results, own_strokes
from s2l_images.strokes import write_strokes
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset, splits
from s2l_paper.scribbles.annotators import SimulatedAnnotator

BEFORE = 450  # steps of the model that was trained before, as many as a run of `scratch` has


def measure(scale: Scale) -> list[Row]:
    """First overlay, and IoU of the forest and of the network after one and two minutes of
    training.
    """
    examples, minutes = (
        scale.pick(["synthetic-fluo"], ["dsb-fluo", "dsb-bf"]),
        scale.pick((1,), (60, 120)),
    )
    rows = []
    for example in examples:
        if example.startswith("dsb"):
            load_dataset(example)  # decoded before, as for anyone but the first to open it
        runs = [opened(example, seconds) for seconds in minutes]
        name = f"{example}, {runs[0]['shape'][1]} x {runs[0]['shape'][0]}"
        rows.append(
            absolute(f"{name}: opening it to the first overlay", [run["overlay"] for run in runs])
        )
        rows.append(
            absolute(
                f"{name}: random forest to the first overlay",
                [run["forest"] for run in runs],
                "<= 10",
            )
        )
        rows.append(
            absolute(f"{name}: the same, of a processor's time", [run["processor"] for run in runs])
        )
        rows.append(
            absolute(f"{name}: IoU of the random forest", [runs[0]["forest_iou"]], unit="IoU")
        )
        for run in runs:
            case = f"{name}: IoU of the network after {run['seconds']} s, {run['steps']} steps"
            rows.append(absolute(case, [run["iou"]], unit="IoU"))
        if example == examples[-1]:
            # At the smallest scale it is only asked, not taught further: that is the same code.
            further = scale.pick((), minutes)
            rows += from_before(name, example, further, scale.pick(12, BEFORE))
    return rows


def from_before(name: str, example: str, minutes: Sequence[int], steps: int) -> list[Row]:
    """The same network, but from a model that has learned from simulated strokes on other training
    images.
    """
    if example.startswith("synthetic"):
        others, test = (
            load_dataset(example, images=6, image_size=192)[part] for part in (slice(4, 6), 3)
        )
    else:
        split, real = splits(example, 0), {cell.id: cell for cell in load_dataset(example)}
        test = real[split.test[0]]
        others = [real[i] for i in split.train if real[i].image.shape == test.image.shape][3:]
    with tempfile.TemporaryDirectory() as home, patch.dict(os.environ, S2L_PLAIN="1"):
        folder = Path(home) / "others"
        write_folder(folder, others)
        with contextlib.redirect_stdout(io.StringIO()):
            train_round(folder, steps=steps)
        start = own_results(folder) / "model.safetensors"
        found = iou(test.instances, predict(load_model(start)[0], test.image) > 0.5)
        case = f"{name}: IoU of a model trained before, {steps} steps on {len(others)} other images"
        rows = [absolute(case, [found], unit="IoU")]
        for seconds in minutes:
            run = opened(example, seconds, start)
            case = (
                f"{name}: IoU of the network from that model, after {seconds} s, {run['steps']}"
                " steps"
            )
            rows.append(absolute(case, [run["iou"]], unit="IoU"))
    return rows


def write_folder(folder: Path, cells: Sequence[CellImage]) -> None:
    """Images and simulated strokes, as a person's own folder holds them."""
    (folder / "images").mkdir(parents=True)
    for cell in cells:
        Image.fromarray(cell.image).save(folder / "images" / f"{cell.id}.png")
    drawn = {
        cell.id: SimulatedAnnotator(0, 0.3).strokes(cell.instances, key=cell.id) for cell in cells
    }
    own_strokes(folder).parent.mkdir()
    write_strokes(own_strokes(folder), drawn, {"annotator": "simulated"})


def opened(example: str, seconds: int, start: Path | str = "") -> dict:
    """What a process of its own measured, from its start on."""
    with tempfile.TemporaryDirectory() as home:
        if (
            prepared := paths.prepared_data()
        ).exists():  # a data set is decoded once, not at each opening
            os.makedirs(f"{home}/data/prepared")
            for store in prepared.glob("dsb-*"):
                os.symlink(store, f"{home}/data/prepared/{store.name}")
        command = [
            sys.executable,
            "-m",
            "benchmarks.first_mask",
            example,
            str(seconds),
            str(time.time()),
            str(start),
        ]
        environment = os.environ | {"S2L_HOME": home, "S2L_PLAIN": "1", "MPLBACKEND": "Agg"}
        done = subprocess.run(
            command, cwd=paths.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def work(example: str, seconds: int, began: float, start: str) -> dict:
    """Runs the notebook's cells; `began` is when its process was started,
    `start` a model to go on from.
    """
    cells = {
        cell.id: cell.source
        for cell in nbformat.read(paths.notebook("08_your_images"), as_version=4).cells
    }
    names: dict = {}
    exec(cells["parameters"], names)
    names |= {"example": example, "start": start}
    for name in ("setup", "draw"):
        exec(cells[name], names)
    session = names["work"]
    overlays, show = [], session.board.show
    asked, spent = time.time(), time.process_time()
    session.board.show = lambda *a, **k: (
        show(*a, **k),
        overlays.append((time.time(), time.process_time() - spent)),
    )
    exec(cells["first-guess"], names)
    name, truth = list(session.known.items())[-1]
    image = session.cells[name].image
    first, busy = overlays[0]
    found = {
        "seconds": seconds,
        "shape": image.shape,
        "overlay": first - began,
        "forest": first - asked,
    }
    forest_iou = iou(truth, session.guessed[name] > 0.5)
    found |= {"processor": busy, "forest_iou": forest_iou}
    found["steps"] = train(cells, names, seconds)
    # The last network, whether or not it came into use.
    folder = session.folder
    model, _ = load_model(round_file(folder, kept_rounds(folder)[-1].number))
    return found | {"iou": iou(truth, predict(model, image) > 0.5)}


def train(cells: dict[str, str], names: dict, seconds: int) -> int:
    """Runs the notebook's rounds, one after the other, until a SIGINT;
    how many steps were taken.
    """
    said, rounds = io.StringIO(), 0

    def interrupt() -> None:
        time.sleep(seconds)
        while "step " not in said.getvalue():  # a second is soon over on a busy machine
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt, daemon=True)
    timer.start()
    with (
        contextlib.redirect_stdout(said),
        contextlib.suppress(KeyboardInterrupt),
    ):  # one between two rounds
        while timer.is_alive():
            for name in ("correct",) if rounds else ("refine", "look"):
                exec(cells[name], names)
            rounds += 1
    timer.join()
    *_, last = re.findall(r"step (\d+)", said.getvalue())
    return (
        names["steps"] * said.getvalue().count(f"step {names['steps']}/")
        + int(last) % names["steps"]
    )


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])))
