"""Trainings that are killed on purpose and resumed,
and what is left of them compared with one never touched.

Each training is a process of its own, forked from a server that has the libraries loaded; it
announces every moment at which it can be hit, and kills itself there,
or a few milliseconds later, by a signal that nobody can catch.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import torch

from s2l_core import trainer
from s2l_core.config import METHODS, RunConfig, S2LError
from s2l_core.pseudo_labels import PseudoLabels
from s2l_images import checkpoints
from s2l_paper.running import results, runs
from s2l_paper.running.runs import train, warm_up

NETWORKS = [name for name, method in METHODS.items() if not method.baseline]
FEW = {"images": 5, "image_size": 64, "crop": 64, "encoder": "tu-lcnet_050"}
LONGEST = 300  # seconds of one process; it takes a few
SERVER = multiprocessing.get_context("forkserver")
# Encoders are loaded late, which would cost each process longer than its training.
SERVER.set_forkserver_preload(["s2l_paper.running.runs", "segmentation_models_pytorch"])


def tiny(method: str, **fields) -> RunConfig:
    """Eight steps on three images of 64 x 64: seconds, with every stage of a real run."""
    return RunConfig("synthetic-fluo", method, profile="smoke", **FEW | fields)


@dataclasses.dataclass(frozen=True)
class Hit:
    """A signal at the `count`-th time of a phase, `delay` seconds after its beginning."""

    phase: str
    count: int = 1
    delay: float = 0.0
    number: int = signal.SIGKILL


def digest(state) -> str:
    """Hash of nested dictionaries and lists of tensors, numbers and words, bit for bit."""
    hashed = hashlib.sha256()

    def add(value):
        if isinstance(value, dict):
            value = sorted(value.items(), key=str)
        if isinstance(value, list | tuple):
            hashed.update(str(len(value)).encode())
            for item in value:
                add(item)
        elif isinstance(value, torch.Tensor):
            hashed.update(
                str((value.dtype, tuple(value.shape))).encode()
                + value.detach().cpu().numpy().tobytes()
            )
        else:
            hashed.update(repr(value).encode())

    add(state)
    return hashed.hexdigest()


def _hook(moment) -> None:
    """Lets the package announce its moments; only ever in a process of this file's own."""

    def before(owner, name, phase):
        original = getattr(owner, name)

        def announced(*arguments, **options):
            if told := phase(*arguments) if callable(phase) else phase:
                moment(told)
            return original(*arguments, **options)

        setattr(owner, name, announced)

    before(trainer.Trainer, "_optimise", lambda run, batch: f"{run.stage} step")
    before(PseudoLabels, "update", "averages")
    before(trainer, "iou", "validation")
    before(torch, "save", "checkpoint")
    before(
        Path,
        "replace",
        lambda file, target: "renaming" if target.name in checkpoints.NAMES else None,
    )
    before(trainer.Trainer, "fork", "fork")
    before(runs, "score", "scoring")
    before(results, "write_csv", "tables")
    before(results, "write_json", "tables")


def _child(
    home: str, config: RunConfig, shared: bool, hit: Hit | None, threads: int, every: float, prepare
) -> None:
    """One process: trains, or goes on training, in `home`;
    writes down the moments and the final state.
    """
    os.environ |= {"S2L_HOME": home, "S2L_PLAIN": "1", checkpoints.SECONDS: str(every)}
    sys.stdout = sys.stderr = open(f"{home}/log.txt", "a", buffering=1)  # noqa: SIM115 the process ends with it
    torch.set_num_threads(threads)
    met = Counter()

    def moment(phase):
        met[phase] += 1
        with open(f"{home}/moments.txt", "a") as file:
            file.write(f"{phase}\n")
        if hit and hit.phase == phase and hit.count == met[phase]:
            if hit.delay:
                threading.Timer(hit.delay, os.kill, (os.getpid(), hit.number)).start()
            else:
                os.kill(os.getpid(), hit.number)

    _hook(moment)
    finished = runs._predictors

    def predictors(run):
        state = {
            "weights": run.model.state_dict(),
            "averages": run.pseudo.state_dict(),
            "history": run.history,
        }
        state["optimiser"] = run.optimiser.state_dict()
        (Path(home) / "state.json").write_text(
            json.dumps({name: digest(value) for name, value in state.items()})
        )
        return finished(run)

    runs._predictors = predictors
    if prepare:
        prepare()
    try:
        warmup = warm_up(config) if shared and METHODS[config.method].forks else None
        train(config, resume=True, warmup=warmup)
    except S2LError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def process(
    home: Path, config: RunConfig, *, shared=True, hit=None, threads=1, every=0.0, prepare=None
) -> int:
    """Runs one training to its end, or to its hit.

    Args:
        home: folder that stands for the checkout;
            what an earlier process left there is gone on with.
        config: of the run.
        shared: train the warm-up in its own folder first.
        hit: where the process is to get a signal.
        threads: of the processor.
        every: seconds between two checkpoints.
        prepare: function of a module, called in the process before the training.

    Returns:
        Its exit code: minus the signal's number where a signal ended it.
    """
    home.mkdir(parents=True, exist_ok=True)
    child = SERVER.Process(
        target=_child, args=(str(home), config, shared, hit, threads, every, prepare)
    )
    child.start()
    child.join(LONGEST)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"{home}: still running after {LONGEST} s")
    return child.exitcode


def cramped() -> None:
    """Files of at most 4 MB from here on: a checkpoint does not fit, a table does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))


def moments(home: Path) -> Counter:
    """How often each phase was met in a home, by all its processes together."""
    return Counter((home / "moments.txt").read_text().splitlines())


def left(home: Path) -> dict[str, str]:
    """Hashes of all that the finished runs in a home leave, times aside;
    and names of files that should be gone.
    """
    runs = home / "results" / "smoke" / "runs"
    files = [file for file in sorted(runs.rglob("*")) if file.is_file() and file.name != "env.json"]
    found = {
        str(file.relative_to(runs)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    stray = [
        file.name
        for file in home.rglob("*")
        if ".tmp" in file.name or file.name == checkpoints.NAMES[1]
    ]
    return found | json.loads((home / "state.json").read_text()) | {"stray": " ".join(stray)}
