"""One's own images: from opening notebook 08 to a first mask, and how good masks are after a while.

The notebook's own cells run, in a process of its own. A simulated annotator drew on three of four images; IoU is that
of the fourth, which nobody drew on. Training is interrupted as a person would, and the model that is kept is asked.
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
from types import SimpleNamespace

import nbformat

from benchmarks.harness import Row, Scale, absolute
from s2l_core import paths


def measure(scale: Scale) -> list[Row]:
    """First overlay, and IoU of the forest and of the network after one and two minutes of training from scratch."""
    examples = scale.pick(["synthetic-fluo"], ["dsb-fluo", "dsb-bf"])
    rows = []
    for example in examples:
        runs = [opened(example, seconds) for seconds in scale.pick((1,), (60, 120))]
        name = f"{example}, {runs[0]['shape'][1]} x {runs[0]['shape'][0]}"
        rows.append(absolute(f"{name}: opening it to the first overlay", [run["overlay"] for run in runs]))
        rows.append(absolute(f"{name}: random forest to the first overlay", [run["forest"] for run in runs], "<= 10"))
        rows.append(absolute(f"{name}: the same, of a processor's time", [run["processor"] for run in runs]))
        rows.append(absolute(f"{name}: IoU of the random forest", [runs[0]["forest_iou"]], unit="IoU"))
        for run in runs:
            case = f"{name}: IoU of the network after {run['seconds']} s, {run['steps']} steps"
            rows.append(absolute(case, [run["iou"]], unit="IoU"))
    return rows


def opened(example: str, seconds: int) -> dict:
    """What a process of its own measured, from its start on."""
    with tempfile.TemporaryDirectory() as home:
        if (prepared := paths.prepared_data()).exists():  # a data set is decoded once, not at each opening
            os.makedirs(f"{home}/data/prepared")
            for store in prepared.glob("dsb-*"):
                os.symlink(store, f"{home}/data/prepared/{store.name}")
        command = [sys.executable, "-m", "benchmarks.first_mask", example, str(seconds), str(time.time())]
        environment = os.environ | {"S2L_HOME": home, "S2L_PLAIN": "1", "MPLBACKEND": "Agg"}
        done = subprocess.run(command, cwd=paths.ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(example: str, seconds: int, began: float) -> dict:
    """Runs the notebook's cells; `began` is the time at which its process was started."""
    cells = {cell.id: cell.source for cell in nbformat.read(paths.notebook("08_your_images"), as_version=4).cells}
    names: dict = {}
    exec(cells["parameters"], names)
    names["example"] = example
    for name in ("setup", "example", "draw"):
        exec(cells[name], names)
    overlays, show = [], names["board"].show
    asked, spent = time.time(), time.process_time()
    names["board"].show = lambda *a, **k: (show(*a, **k), overlays.append((time.time(), time.process_time() - spent)))
    exec(cells["first-guess"], names)
    test = names["known"][-1]
    first, busy = overlays[0]
    found = {"seconds": seconds, "shape": test.image.shape, "overlay": first - began, "forest": first - asked}
    forest_iou = names["iou"](test.instances, names["probability"][test.id] > 0.5)
    found |= {"processor": busy, "forest_iou": forest_iou}
    found["steps"] = train(cells, names, seconds)
    return found | {"iou": names["iou"](test.instances, names["predict"](names["model"], test.image) > 0.5)}


def train(cells: dict[str, str], names: dict, seconds: int) -> int:
    """Runs the notebook's rounds, one after the other from scratch, until a SIGINT; how many steps were taken."""
    names["display"] = lambda *_, **__: SimpleNamespace(update=lambda picture: None)
    said, rounds = io.StringIO(), 0
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with contextlib.redirect_stdout(said), contextlib.suppress(KeyboardInterrupt):  # one between two rounds
        while timer.is_alive():
            for name in ("correct",) if rounds else ("refine", "look"):
                exec(cells[name], names)
            rounds += 1
    timer.join()
    *_, last = re.findall(r"step (\d+)", said.getvalue())
    return names["steps"] * said.getvalue().count(f"step {names['steps']}/") + int(last) % names["steps"]


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
