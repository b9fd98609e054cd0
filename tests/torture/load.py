"""A folder of many images, predicted by a process that is killed twice,
and by one that nobody disturbs.

`python -m torture.load [images] [kills]` prints the section.
"""

import contextlib
import hashlib
import io
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from s2l_core.config import RunConfig, seed_for
from s2l_core.model import ScribbleUNet
from s2l_images.checkpoints import save_model
from s2l_images.nuclei import prediction
from s2l_images.nuclei.one_image import EXPORTED_SUFFIXES
from s2l_paper.data.synthetic import generate

IMAGES, SIDE, KILLS = 10_000, 64, 2
JOURNAL = "predicted.jsonl"
LONGEST = 6 * 3600  # seconds
GROWTH = 1.1  # times the most memory after a tenth of the images, that all of them may take


def make(folder: Path, images: int) -> Path:
    """A folder of images that all differ, and a light model; its file."""
    (folder / "images").mkdir(parents=True)
    drawn = [image for _, image, _ in generate("fluo", 8, SIDE)]
    for number in range(images):
        image = np.roll(drawn[number % 8], (number // 8 % SIDE, number // 8 // SIDE), (0, 1))
        Image.fromarray(image).save(folder / "images" / f"{number:05d}.png", compress_level=1)
    config = RunConfig("synthetic-fluo", "s2l", profile="smoke", encoder="tu-lcnet_050")
    save_model(folder, ScribbleUNet(config.encoder, (), seed=1).state_dict(), config)
    return folder / "model.safetensors"


def _memory(name: str) -> float:
    """MiB of this process, as Linux counts them; 0 elsewhere."""
    status = Path("/proc/self/status")
    return (
        int(status.read_text().split(f"{name}:")[1].split()[0]) / 1024 if status.exists() else 0.0
    )


def _work(folder: str, target: str, every: int) -> None:
    """Predicts the folder, and writes down how much memory it had used at most after so many images
    each.
    """
    torch.set_num_threads(1)
    peaks, predict = [], prediction.predict

    def counted(*arguments):
        counted.calls += 1
        if counted.calls % every == 0:
            peaks.append(_memory("VmHWM"))
        return predict(*arguments)

    counted.calls, prediction.predict = 0, counted
    with contextlib.redirect_stdout(io.StringIO()):
        prediction.predict_folder(Path(folder) / "model.safetensors", Path(folder), Path(target))
    Path(f"{target}.json").write_text(json.dumps(peaks))


def predicted(folder: Path, target: Path, every: int, kills: list[int]) -> list[int]:
    """Exit codes of the processes it took; each but the last is killed once the journal names so
    many images.
    """
    server, codes = multiprocessing.get_context("forkserver"), []
    server.set_forkserver_preload(["s2l_images.nuclei.prediction", "segmentation_models_pytorch"])
    for images in [*kills, None]:
        child = server.Process(target=_work, args=(str(folder), str(target), every))
        child.start()
        journal, began = target / JOURNAL, time.monotonic()
        while child.is_alive() and images is not None and time.monotonic() - began < LONGEST:
            # Each image has two lines, one before its files are written and one after.
            if journal.exists() and journal.read_bytes().count(b"\n") >= 2 * images:
                child.kill()
                break
            time.sleep(0.01)
        child.join(LONGEST)
        codes.append(child.exitcode)
    return codes


def left(target: Path) -> dict[str, str]:
    """Hash of each file of results; the journal, whose lines may come in another order,
    is left out.
    """
    files = [file for file in target.iterdir() if file.name != JOURNAL]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def once(target: Path, images: int) -> bool:
    """True where the journal says of each image exactly once that it is whole, and each has all its
    files, with nothing beside them.
    """
    lines = map(json.loads, (target / JOURNAL).read_text().splitlines())
    names = [line[0] for line in lines if isinstance(line, list) and line[1]]  # with a key: whole
    ids = {f"{number:05d}" for number in range(images)}
    files = {f"{name}{kind}" for name in ids for kind in EXPORTED_SUFFIXES}
    return len(names) == images and set(names) == ids and set(left(target)) == files


def report(images: int = IMAGES, kills: int = KILLS, seed: int = 0) -> str:
    """Section of `docs/faults.md`; an AssertionError where an image is lost, repeated or other,
    or memory grows.
    """
    rng, every = random.Random(seed_for(seed, "load")), max(images // 10, 1)
    moments = sorted(rng.randrange(images // 20, images - images // 20) for _ in range(kills))
    with tempfile.TemporaryDirectory(prefix="load-") as base:
        folder, calm, cut = (Path(base) / name for name in ("folder", "calm", "cut"))
        make(folder, images)
        began = time.monotonic()
        assert predicted(folder, calm, every, []) == [0]
        seconds = time.monotonic() - began
        codes = predicted(folder, cut, every, moments)
        assert codes == [-signal.SIGKILL] * kills + [0], codes
        same = left(calm) == left(cut)
        assert same and once(calm, images) and once(cut, images)
        peaks = json.loads(Path(f"{calm}.json").read_text())
        assert peaks[-1] <= GROWTH * peaks[0], peaks
        nuclei = sum(file.read_text().count("\n") - 1 for file in calm.glob("*.csv"))
    return f"""## A folder of {images:,} images

`prediction.predict_folder` with a light encoder on images of {SIDE} x {SIDE}: {seconds:.0f} s on one thread,
{1000 * seconds / images:.0f} ms an image, beside whatever else the machine did; {nuclei:,} nuclei. In a second run SIGKILL came after {moments} images.
More memory than {GROWTH} times that after the first tenth would be an error.

| | |
|---|---|
| most memory after {every:,} images | {peaks[0]:.0f} MiB |
| most memory after {len(peaks) * every:,} images | {peaks[-1]:.0f} MiB |
| killed and resumed | {kills} times |
| images predicted exactly once | {images:,} of {images:,} |
| files the same, bit for bit | {"all" if same else "not all"} of {images * len(EXPORTED_SUFFIXES):,} |
"""


if __name__ == "__main__":
    print(report(*map(int, sys.argv[1:3])))
