"""Files as a bad disk, a bad program or a bad neighbour leaves them, for every reader: read,
or refused with S2LError.

`python -m torture.files [reader] [first] [count]` tries some again;
what fails is printed with its reader and number.
"""

import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tifffile
import torch
from PIL import Image
from safetensors.torch import save

from s2l_core.config import RunConfig, S2LError, seed_for
from s2l_core.model import ScribbleUNet
from s2l_core.pseudo_labels import PseudoLabels
from s2l_core.trainer import Trainer
from s2l_core.weights import _file_state
from s2l_images import checkpoints
from s2l_images.annotation_files import annotations
from s2l_images.checkpoints import save_model
from s2l_images.exporting import export_imagej, export_labels, export_qupath, export_strokes
from s2l_images.folders import roles
from s2l_images.folders.folder import read_mask
from s2l_images.folders.input_checks import check_folder
from s2l_images.learning.kept_models import load_model
from s2l_images.nuclei.journal import open_journal
from s2l_images.reading import label_images, pictures
from s2l_images.strokes import Stroke, read_strokes, write_strokes
from s2l_paper import paths
from s2l_paper.data import archives, datasets, sources
from s2l_paper.running import kept_masks, results
from s2l_paper.texts import provenance, verify

COUNT = 1000  # files of each reader
SECONDS, MEMORY = 5, 2**30  # that one file may take
SHAPE = (20, 24)
GOOD = ("read", "refused")
WORDS = (
    b"NaN", b"1e300", b"-1", b"null", b"[[", b"{}", b"[]", b"true", b'"', b"&a;", b"../../x", b"/etc/x", b"\0",
    b"9" * 400, b"Infinity", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80", b"1000000", b",", b":",
    b"<", b">", b"\n",
)  # fmt: skip


def harmed(data: bytes, other: bytes, rng) -> bytes:
    """Bits flipped, cut short, spliced with another file, repeated, zeroed, swapped,
    or words put in; one to four.
    """
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randint(0, len(data)), rng.choice((1, 2, 4, 8, 64, 500))
        kind = rng.choice(
            ("flip", "flip", "cut", "splice", "repeat", "zero", "swap", "word", "word")
        )
        if kind == "flip" and data:
            data[at % len(data)] ^= 1 << rng.randint(0, 7)
        elif kind == "cut":
            del data[at:]
        elif kind == "splice":
            data[at:] = other[rng.randint(0, len(other)) :]
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * rng.choice((1, 1, 50))
        elif kind == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif kind == "swap":
            from_ = rng.randint(0, len(data))
            one, two = data[at : at + length], data[from_ : from_ + length]
            data[from_ : from_ + length], data[at : at + length] = one, two
        elif kind == "word":
            data[at : at + rng.choice((0, 1, 4))] = rng.choice(WORDS)
    return bytes(data)


def spoiled(data: bytes, other: bytes, rng) -> bytes:
    """As `harmed`, every second time inside of a container whose checksums and lengths are made
    good again.
    """
    if rng.randint(0, 1):
        if data[:2] == b"PK":
            return _zip_harmed(data, rng)
        if data[:4] == b"\x89PNG":
            return _png_harmed(data, rng)
        if data[8:9] == b"{" and (length := int.from_bytes(data[:8], "little")) < len(
            data
        ):  # safetensors
            header = harmed(data[8 : 8 + length], b"", rng)
            return len(header).to_bytes(8, "little") + header + data[8 + length :]
    return harmed(data, other, rng)


def _zip_harmed(data: bytes, rng) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randint(0, len(members) - 1)
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for number, (info, content) in enumerate(members):
            name, kind = info.filename, info.compress_type
            if number == chosen:
                content = harmed(content, members[0][1], rng)
                name = rng.choice(
                    (name, name, name, f"../../{name}", f"/{name}", name + "/", "", name[::-1])
                )
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return file.getvalue()


def _png_harmed(data: bytes, rng) -> bytes:
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = rng.randint(0, len(chunks) - 1)
    kind, content = chunks[chosen]
    if kind == b"IDAT" and rng.randint(0, 1):
        chunks[chosen] = kind, zlib.compress(harmed(zlib.decompress(content), b"", rng))
    else:
        chunks[chosen] = kind, harmed(content, chunks[0][1], rng)
    parts = [
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    ]
    return data[:8] + b"".join(parts)


@dataclass(frozen=True)
class Reader:
    """What reads files of a kind; `cases`: whole ones, by their place in a folder; `around`:
    what else lies there.
    """

    name: str
    read: Callable[[Path, Path], object]  # folder, the spoiled file
    cases: dict[str, bytes]
    around: dict[str, bytes] = field(default_factory=dict)
    share: float = 1.0  # of COUNT: less for slow ones


def _saved(write: Callable, suffix: str, *content) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(path := Path(folder) / f"a{suffix}", *content)
        return path.read_bytes()


def _pillow(array: np.ndarray, kind: str, **options) -> bytes:
    Image.fromarray(array).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def _numpy(array: np.ndarray, write=np.save) -> bytes:
    write(file := io.BytesIO(), array)
    return file.getvalue()


def _zipped(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


class SmallTrainer(Trainer):
    """The smallest thing that can be gone on with: the state of a training,
    without its data and its network.
    """

    def __init__(self):
        self.config = RunConfig("synthetic-fluo", "s2l", profile="smoke")
        self.model, self.pseudo = torch.nn.Linear(2, 2), PseudoLabels(0.2)
        self.model.heads = torch.nn.ModuleDict()
        self.optimiser = torch.optim.SGD(self.model.parameters(), momentum=0.9, lr=0.1)
        self.step, self.row, self.history = 0, {}, []
        self.best, self.spent = (
            {"iou": -1.0, "step": -1, "weights": {}},
            {"warm-up": 0.0, "main": 0.0},
        )
        self._ticked = 0.0

    def fork(self):
        """Nothing to do."""


def _checkpoint(path: Path) -> None:
    run = SmallTrainer()
    run.pseudo.update("a", np.full((4, 4), 0.5, np.float32))
    run.model(torch.ones(1, 2)).sum().backward()
    run.optimiser.step()
    checkpoints.save(run, path.parent)
    (path.parent / checkpoints.NAMES[0]).replace(path)


def _instances() -> np.ndarray:
    found = np.zeros(SHAPE, np.int32)
    found[2:8, 2:9], found[10:18, 12:20], found[12:14, 14:16] = 1, 2, 0
    return found


def _pictures() -> list[Reader]:
    rng, labels = np.random.default_rng(seed_for(0, "pictures")), _instances()
    rgb, deep = (
        rng.integers(0, 255, (*SHAPE, 3), np.uint8),
        rng.integers(0, 60_000, SHAPE, np.uint16),
    )
    image = lambda folder, path: pictures.read_image(path)  # noqa: E731

    def tiff(array, **options):
        return _saved(lambda path: tifffile.imwrite(path, array, **options), ".tif")

    lzw = {"compression": "tiff_lzw"}
    tiffs = {
        "lzw.tif": _pillow(rgb, "TIFF", **lzw),
        "grey-lzw.tif": _pillow(rgb[..., 0], "TIFF", **lzw),
    }
    tiffs |= {
        "deep.tif": tiff(deep),
        "zlib.tif": tiff(deep, compression="zlib"),
        "float.tif": tiff(deep / 7),
    }
    tiffs |= {
        "tiles.tif": tiff(rgb, tile=(16, 16), compression="zlib"),
        "imagej.tif": tiff(deep, imagej=True),
    }
    tiffs |= {"deep-rgb.tif": tiff(deep[..., None] * np.ones(3, np.uint16), photometric="rgb")}
    pngs = {
        "rgb.png": _pillow(rgb, "PNG"),
        "deep.png": _pillow(deep, "PNG"),
        "grey.png": _pillow(rgb[..., 0], "PNG"),
    }
    pngs |= {
        "alpha.png": _pillow(np.dstack([rgb, 255 * (rgb[..., 0] > 50)]).astype(np.uint8), "PNG")
    }
    planes = {
        "8.png": _pillow(labels.astype(np.uint8), "PNG"),
        "16.png": _pillow(labels.astype(np.uint16), "PNG"),
    }
    planes |= {
        "imagej.tif": _saved(export_labels.write_label_tiff, ".tif", labels),
        "32.tif": tiff(labels),
    }
    planes |= {
        "lzw.tif": _pillow(labels.astype(np.uint8), "TIFF", **lzw),
        "rgb.png": _pillow(np.dstack([labels] * 3).astype(np.uint8), "PNG"),
    }
    layers = {"a.tif": tiff(labels.astype(np.int64), compression="zlib"), "a.npy": _numpy(labels)}
    layers |= {"a.npz": _numpy(labels, np.savez_compressed), "a.png": planes["8.png"]}

    def label_image(folder, path):
        label_images.read_values(path)
        read_mask(path, SHAPE)

    def mask(folder, path):
        read_mask(path, SHAPE)

    return [
        Reader("image: PNG", image, pngs),
        Reader(
            "image: JPEG",
            image,
            {"a.jpg": _pillow(rgb, "JPEG"), "grey.jpg": _pillow(rgb[..., 0], "JPEG")},
        ),
        Reader("image: TIFF", image, tiffs, share=2),
        Reader("label image: PNG, TIFF", label_image, planes, share=2),
        Reader("labels layer: TIFF, NPY, NPZ, PNG", mask, layers),
        Reader("mask of a run: PNG", _kept_mask, {"a.png": _pillow(labels > 0, "PNG")}),
    ]


def _kept_mask(folder: Path, path: Path) -> None:
    kept_masks.read_mask(path)


def _drawn(folder: Path, path: Path) -> None:
    """Once as scribbles, once as instances; each may refuse what the other reads."""
    refused = []
    for read in (annotations.read_scribbles, annotations.read_instances):
        try:
            read(path, SHAPE)
        except S2LError as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]


def _drawings() -> list[Reader]:
    labels, lines = _instances(), ((2.0, 3.0), (9.0, 12.25), (15.0, 4.0))
    strokes = [Stroke(1, 2.0, lines), Stroke(0, 3.0, ((18.0, 20.0),))]
    rois, geojson = (
        _saved(export_imagej.write_rois, ".zip", labels),
        _saved(export_qupath.write_geojson, ".json", labels),
    )
    drawn = {suffix: write(strokes) for suffix, write in export_strokes.STROKES.values()}
    with (
        zipfile.ZipFile(io.BytesIO(rois)) as one,
        zipfile.ZipFile(io.BytesIO(drawn[".zip"])) as two,
    ):
        members = {f"{number}.roi": z.read(name) for number, (z, name) in
                   enumerate((z, name) for z in (one, two) for name in z.namelist())}  # fmt: skip
    ours = _saved(
        lambda path: write_strokes(path, {"a": strokes, "b": strokes[:1]}, {"by": "hand"}), ".json"
    )
    return [
        Reader("ImageJ ROI", _drawn, members),
        Reader("ImageJ ROI set (zip)", _drawn, {"cells.zip": rois, "strokes.zip": drawn[".zip"]}),
        Reader("Aperio XML", _drawn, {"strokes.xml": _aperio(kind="4"), "cells.xml": _aperio()}),
        Reader("GeoJSON", _drawn, {"cells.geojson": geojson, "strokes.geojson": drawn[".geojson"]}),
        Reader("strokes (JSON)", lambda folder, path: read_strokes(path), {"strokes.json": ours}),
    ]


def _aperio(kind: str = "0") -> bytes:
    points = "".join(
        f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ((2, 4), (8.5, 4), (8.5, 10), (2, 10))
    )
    region = f'<Region Id="1" Type="{kind}" NegativeROA="0" Text=""><Vertices>{points}</Vertices></Region>'
    annotation = (
        f'<Annotation Id="1" Name="nuclei"><Regions>{region}{region}</Regions></Annotation>'
    )
    return f'<Annotations MicronsPerPixel="0.25">{annotation}</Annotations>'.encode()


def _data_sets() -> list[Reader]:
    cell, mask = np.full((*SHAPE, 3), 200, np.uint8), (_instances() == 1).astype(np.uint8) * 255
    bbbc038 = {"a/images/a.png": _pillow(cell, "PNG"), "a/masks/m.png": _pillow(mask, "PNG")}
    monuseg = {
        "T/Tissue Images/A.tif": _pillow(cell, "TIFF", compression="tiff_lzw"),
        "T/Annotations/A.xml": _aperio(),
    }
    archive = _zipped(bbbc038)
    lists = json.dumps({"parts": [["a"], ["b"], ["c"], ["d"]], "test": ["e"]}).encode()
    own = {
        "images/a.png": bbbc038["a/images/a.png"],
        "scribbles/a.png": _pillow(_instances().astype(np.uint8), "PNG"),
    }
    words = {"scribbles.json": b'{"foreground": [1, "#ff0000"], "background": 2}'}
    words |= {"splits.json": b'{"train": ["a"], "validation": [], "test": []}'}
    with tempfile.TemporaryDirectory() as folder:
        (raw := Path(folder) / "raw/bbbc038/stage1_train.zip").parent.mkdir(parents=True)
        raw.write_bytes(archive)
        _prepared(Path(folder), raw)
        base = Path(folder) / "data/prepared/dsb-bf"
        store = {f"data/prepared/dsb-bf/{file.name}": file.read_bytes() for file in base.iterdir()}
    return [
        Reader("BBBC038 (zip)", _bbbc038, {"a.zip": archive}),
        Reader("MoNuSeg (zip)", _monuseg, {"a.zip": _zipped(monuseg)}),
        Reader(
            "prepared store", _prepared, store, store | {"raw/bbbc038/stage1_train.zip": archive}
        ),
        Reader("splits", _splits, {"splits.json": lists}),
        Reader("own folder: scribbles.json, splits.json", _own, words, own | words),
    ]


def _bbbc038(folder: Path, path: Path) -> None:
    with contextlib.closing(archives.Source(path)) as source:
        list(archives.read_bbbc038(source, "dsb-bf"))


def _monuseg(folder: Path, path: Path) -> None:
    with contextlib.closing(archives.Source(path)) as source:
        list(archives.read_monuseg(source, ["A"]))


def _prepared(folder: Path, path: Path) -> None:
    """Whatever was done to the store, it gives the archive's very pixels."""
    with patch.dict(os.environ, S2L_HOME=str(folder)), patch.dict(sources.COUNTS, {"dsb-bf": 1}):
        (cell,) = datasets.load_dataset("dsb-bf", folder / "raw")
    assert cell.id == "a" and np.array_equal(cell.instances, _instances() == 1), (
        "pixels of a damaged store"
    )


def _splits(folder: Path, path: Path) -> None:
    with patch.object(paths, "split_file", lambda name: path):
        datasets.splits("dsb-bf", 0)


def _own(folder: Path, path: Path) -> None:
    """The check never raises; loading and splitting do as it says."""
    found = check_folder(folder)
    try:
        datasets.load_dataset(str(folder))
        roles.split_folder(folder)
    except S2LError as error:
        if not any(finding.level == "error" for finding in found):
            raise AssertionError("the check said nothing of it") from error
        raise


def _runs() -> list[Reader]:
    config = RunConfig("synthetic-fluo", "s2l", profile="smoke", encoder="tu-lcnet_050")
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, S2L_HOME=folder):
        run_id = results.run_id(config)
        row = dict.fromkeys(results.COLUMNS, 0.5) | {
            "run_id": run_id,
            "checkpoint": "best",
            "image": "a",
            "fold": 0,
        }
        counts = [dict.fromkeys(results.calibration.COLUMNS, 1) | {"image": "a"}]
        steps = [{"step": 0, "loss": 0.7}]
        base = results.write_run(config, [row], steps, {}, seconds=1.0, calibrated=counts)
        tables = {
            f"results/smoke/runs/{run_id}/{file.name}": file.read_bytes() for file in base.iterdir()
        }
        network = ScribbleUNet(config.encoder, ())
        save_model(Path(folder), network.state_dict(), config)
        weights = (Path(folder) / "model.safetensors").read_bytes()
    few = {"layer.weight": torch.ones(3, 4), "layer.bias": torch.zeros(3)}
    encoder = {
        "a.safetensors": save(few),
        "a.pth": _saved(lambda path: torch.save(few, path), ".pth"),
    }
    return [
        Reader("checkpoint", _restore, {checkpoints.NAMES[0]: _saved(_checkpoint, ".pt")}),
        Reader("model.safetensors", _model, {"m.safetensors": weights}, share=0.5),
        Reader("encoder weights", lambda folder, path: _file_state(path), encoder),
        Reader(
            "config.json",
            _load_runs,
            {k: v for k, v in tables.items() if k.endswith("config.json")},
            tables,
        ),
        Reader(
            "env.json", _env, {k: v for k, v in tables.items() if k.endswith("env.json")}, tables
        ),
        Reader(
            "per_image.csv, steps.csv, calibration.csv",
            _read_run,
            {k: v for k, v in tables.items() if k.endswith("csv")},
            tables,
        ),
        Reader(
            "predicted.jsonl",
            _predicted,
            {"predicted.jsonl": b'["a", "0123456789abcdef"]\n["b", "cdef"]\n'},
        ),
    ]


def _restore(folder: Path, path: Path) -> None:
    checkpoints.restore(SmallTrainer(), folder)


def _model(folder: Path, path: Path) -> None:
    load_model(path)


def _load_runs(folder: Path, path: Path) -> None:
    with patch.dict(os.environ, S2L_HOME=str(folder)):
        results.load_runs("smoke", variants=True)


def _env(folder: Path, path: Path) -> None:
    """Named where the runs are checked, and refused where the document is made of them."""
    with patch.dict(os.environ, S2L_HOME=str(folder)):
        verify.run_faults(path.parent)
        provenance.reproducibility(["smoke"])


def _predicted(folder: Path, path: Path) -> None:
    with open_journal(path):
        pass


def _read_run(folder: Path, path: Path) -> None:
    results.read_run(path.parent)
    results.read_calibration(path.parent)


def readers() -> list[Reader]:
    """All of them, with whole files made on the spot."""
    with contextlib.redirect_stdout(io.StringIO()):
        return [*_pictures(), *_drawings(), *_data_sets(), *_runs()]


class Hang(BaseException):
    """A reader took longer than `SECONDS`; no reader catches it."""


def _rang(number, frame):
    raise Hang


def _listed(top: Path) -> set[Path]:
    return {file for file in top.rglob("*") if not file.is_dir()}


def attempt(reader: Reader, rng, top: Path) -> tuple[str, str]:
    """One spoiled file: `read`, `refused`, or what it did instead, with what was said.

    Args:
        reader: of `readers()`.
        rng: a `random.Random`, or hypothesis's own.
        top: an empty folder; nothing but the reader's own files may appear there.
    """
    folder = top / "in" / "here"
    name = rng.choice(sorted(reader.cases))
    content = spoiled(reader.cases[name], rng.choice(sorted(reader.cases.values())), rng)
    for place, data in (reader.around | {name: content}).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    before, inside = _listed(top), folder / "data"
    verdict = _judged(reader, folder, folder / name)
    if strays := [file for file in _listed(top) - before if not file.is_relative_to(inside)]:
        verdict = "wrote outside", str(strays[0])
    for file in _listed(top):
        file.unlink()
    return verdict


def _judged(reader: Reader, folder: Path, path: Path) -> tuple[str, str]:
    handler = signal.signal(signal.SIGALRM, _rang)
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reader.read(folder, path)
            return "read", ""
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Hang:
        return "hang", f"over {SECONDS} s"
    except S2LError as error:
        cause = error
        while cause := cause.__cause__:
            if isinstance(cause, MemoryError) or "allocate memory" in str(cause):
                return "memory", repr(cause)[:300]
        return "refused", str(error)
    except Exception as error:
        ours = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if re.search(r"s2l_(core|images|paper)", frame.filename)
        ]
        return "other error", f"{error!r:.300} in {ours[-1].name if ours else 'no room of ours'}"
    finally:
        signal.signal(signal.SIGALRM, handler)


def forget() -> None:
    """Lets the kernel's `VmHWM`, the most memory ever held, begin anew at what is held now."""
    with contextlib.suppress(OSError):  # no Linux, or not allowed: then it keeps what it had
        Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Bytes, as the kernel counts them for this process; 0 where it does not tell."""
    status = Path("/proc/self/status")
    return int(status.read_text().split(f"{name}:")[1].split()[0]) * 1024 if status.exists() else 0


def _work(chosen: str, numbers: range, top: str, reply) -> None:
    """A process that tries files until it is through, or dies of one."""
    for stream in (1, 2):  # libraries in C complain past Python
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os.chdir(top)
    torch.set_num_threads(1)
    (reader,) = [reader for reader in readers() if reader.name == chosen]
    with contextlib.suppress(
        ValueError, OSError
    ):  # not everywhere; a request for more than this fails at once
        resource.setrlimit(
            resource.RLIMIT_AS, (memory("VmSize") + 2 * MEMORY, resource.RLIM_INFINITY)
        )
    start = memory("VmRSS")
    for number in numbers:
        verdict = attempt(reader, random.Random(seed_for("spoiled", chosen, number)), Path(top))
        if memory("VmHWM") - start > MEMORY:
            verdict = "memory", f"{(memory('VmHWM') - start) / 2**30:.1f} GiB"
        reply.send(verdict)
        if verdict[0] == "memory":
            return  # the next process begins with a clean record


def tried(chosen: str, numbers: range, say=print) -> Counter:
    """Verdicts on the files of a reader; each that is not good is said.
    A crash costs one process, and counts.
    """
    verdicts, number = Counter(), numbers.start
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["s2l_paper.running.runs", "s2l_images.nuclei.prediction"])
    while number < numbers.stop:
        ours, theirs = server.Pipe()
        with tempfile.TemporaryDirectory(prefix="files-") as top:
            worker = server.Process(
                target=_work, args=(chosen, range(number, numbers.stop), top, theirs)
            )
            worker.start()
            theirs.close()
            while number < numbers.stop:
                try:
                    verdict, said = (
                        ours.recv() if ours.poll(60) else ("hang", "the process was killed")
                    )
                except EOFError:
                    worker.join()
                    verdict, said = "crash", f"exit code {worker.exitcode}"
                verdicts[verdict] += 1
                number += 1
                if verdict not in GOOD:
                    say(f"{verdict}: {chosen}, number {number - 1}: {said}", flush=True)
                if verdict in ("crash", "memory") or said == "the process was killed":
                    break
            worker.kill()
            worker.join()
    return verdicts


def report(count: int = COUNT) -> str:
    """Section of `docs/faults.md`: spoiled files of every reader, and what came of them."""
    lines, whole = [], Counter()
    for reader in readers():
        found = tried(reader.name, range(round(count * reader.share)))
        whole += found
        other = ", ".join(f"{n} {kind}" for kind, n in found.items() if kind not in GOOD) or "0"
        lines.append(
            f"| {reader.name} | {found.total()} | {found['read']} | {found['refused']} | {other} |"
        )
    bad = whole.total() - whole["read"] - whole["refused"]
    return f"""## Hostile and broken files

Whole files with bits flipped, cut short, spliced with others, parts repeated, zeroed or swapped, and words put in;
every second one inside of its container, checksums made good again. {whole.total():,} files in processes of their own,
at most {SECONDS} s and 1 GiB each, and a folder watched for what does not belong there. {bad} did anything but be read
or be refused with our own error. What is done to a file is drawn by Python's `random`, seeded by reader and number, so
that each can be had again (`python -m torture.files READER NUMBER 1`); `make test` spoils 500 more for the same readers
in the same ways, drawn by hypothesis, which also makes a failure small.

| reader | files | read all the same | refused cleanly | anything else |
|---|---|---|---|---|
{chr(10).join(lines)}
| all | {whole.total()} | {whole["read"]} | {whole["refused"]} | {bad} |
"""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        first, some = (
            (int(text) for text in (sys.argv[2:4] + ["0", "100"])[:2])
            if len(sys.argv) > 3
            else (0, COUNT)
        )
        for one in readers():
            if sys.argv[1] in ("all", one.name):
                print(one.name, dict(tried(one.name, range(first, first + some))), flush=True)
    else:
        print(report())
