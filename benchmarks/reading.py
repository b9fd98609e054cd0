"""Reading BBBC038 beside a plain reader, and a data set's second load beside its first."""

import contextlib
import io
import os
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import inputs
from benchmarks.harness import Row, Scale, absolute, ratio, seconds
from s2l_core.images import CellImage
from s2l_paper import paths
from s2l_paper.data.archives import Source, read_bbbc038
from s2l_paper.data.datasets import load_dataset
from s2l_paper.data.sources import locate

ARCHIVED = ("dsb-bf", "dsb-fluo")


def measure(scale: Scale) -> list[Row]:
    """A sample of the images as an archive of their own for both readers;
    then the archive itself, if it is at hand.
    """
    cells = load_dataset(inputs.fluorescence())[: scale.pick(3, 40)]
    with tempfile.TemporaryDirectory() as folder:
        file = archive(Path(folder) / "stage1_train.zip", cells)
        same(ours(file), plain_reader(file))
        times = scale.turns({"plain": partial(plain_reader, file), "ours": partial(ours, file)})
    rows = [ratio(f"{len(cells)} images", times["ours"], "plain reader", times["plain"])]
    return rows + (
        whole() if scale.name != "smoke" and locate("dsb-fluo", paths.raw_data()) else []
    )


def whole() -> list[Row]:
    """All of BBBC038; then the first load of DSB-Fluo, which writes the prepared store,
    and three later ones.
    """
    with contextlib.closing(Source(locate("dsb-fluo", paths.raw_data()))) as source:
        read = seconds(lambda: [list(read_bbbc038(source, name)) for name in ARCHIVED])
    raw, home = (
        str(paths.raw_data().resolve()),
        {name: os.environ.get(name) for name in ("S2L_DATA", "S2L_HOME")},
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"S2L_DATA": raw, "S2L_HOME": folder}
        try:
            first, *later = (seconds(partial(load_dataset, "dsb-fluo")) for _ in range(4))
        finally:
            for name, value in home.items():
                os.environ.pop(name)
                os.environ |= {name: value} if value else {}
    return [
        absolute(f"{' and '.join(ARCHIVED)} from the archive", [read], "<= 60"),
        ratio("dsb-fluo, later load", later, "first load", [first] * len(later), ">= 10"),
    ]


def ours(file: Path) -> list[CellImage]:
    """The package's reader."""
    with contextlib.closing(Source(file)) as source:
        return list(read_bbbc038(source, "dsb-fluo"))


def plain_reader(file: Path) -> list[CellImage]:
    """One file after the other, a full-size mask for each nucleus."""
    cells = []
    with zipfile.ZipFile(file) as opened:
        names = sorted(opened.namelist())
        for name in (name for name in names if "/images/" in name):
            number = name.split("/")[0]
            image = np.array(Image.open(io.BytesIO(opened.read(name))).convert("RGB"))
            instances = np.zeros(image.shape[:2], np.int32)
            for label, mask in enumerate(
                (m for m in names if m.startswith(f"{number}/masks/")), start=1
            ):
                pixels = np.array(Image.open(io.BytesIO(opened.read(mask))).convert("L")) > 0
                instances[pixels & (instances == 0)] = label
            chroma = (image.max(axis=2).astype(float) - image.min(axis=2)).mean()
            if chroma < 1 and image.mean() <= 128:
                cells.append(CellImage(number, image, instances))
    return cells


def archive(file: Path, cells: list[CellImage]) -> Path:
    """Writes images in the layout of BBBC038."""
    with zipfile.ZipFile(file, "w") as opened:
        for cell in cells:
            labels = np.unique(cell.instances[cell.instances > 0]).tolist()
            pictures = {f"images/{cell.id}.png": cell.image}
            pictures |= {
                f"masks/{k:05d}.png": np.uint8(255) * (cell.instances == k) for k in labels
            }
            for name, pixels in pictures.items():
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, "PNG")
                opened.writestr(f"{cell.id}/{name}", data.getvalue())
    return file


def same(ours: list[CellImage], plain: list[CellImage]) -> None:
    """Both read the same images and nuclei."""
    assert ours and [cell.id for cell in ours] == [cell.id for cell in plain]
    for a, b in zip(ours, plain, strict=True):
        assert (a.image == b.image).all() and (a.instances == b.instances).all()
