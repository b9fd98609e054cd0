"""ImageJ itself as referee, where Debian's packages `imagej` and `xvfb` are installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import tifffile

JAR = Path("/usr/share/java/ij.jar")
MISSING = "install ImageJ (apt-get install imagej xvfb) to compare pixels with it"
FILL = 'run("Set...", "value=255");'
LINE = f'run("Line to Area"); {FILL}'
DRAW = """
setBatchMode(true);
files = getFileList("{folder}");
for (i = 0; i < files.length; i++) if (endsWith(files[i], ".roi")) {{
  newImage("m", "8-bit black", {width}, {height}, 1);
  open("{folder}/" + files[i]);
  {act}
  saveAs("Tiff", "{folder}/" + replace(files[i], ".roi", ".drawn.tif"));
  close();
}}
"""
MAKE = """
newImage("m", "8-bit black", {width}, {height}, 1);
{make}
saveAs("Selection", "{folder}/{name}.roi");
{act}
saveAs("Tiff", "{folder}/{name}.tif");
close();
"""


def found() -> bool:
    """Whether ImageJ can run here, on a display of its own."""
    return JAR.exists() and all(shutil.which(name) for name in ("java", "xvfb-run"))


def run(macro: str, folder: Path) -> str:
    """Runs a macro; returns what it printed."""
    file = folder / "macro.ijm"
    file.write_text(f'{macro}\nrun("Quit");\n')
    command = ["xvfb-run", "-a", "java", "-cp", str(JAR), "ij.ImageJ", "-batch", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def drawn(rois: dict[str, bytes], shape: tuple, folder: Path, act: str = FILL) -> dict:
    """The pixels (H, W) bool that ImageJ gives to each ROI."""
    for name, content in rois.items():
        (folder / f"{name}.roi").write_bytes(content)
    said = run(DRAW.format(folder=folder, height=shape[0], width=shape[1], act=act), folder)
    pixels = {}
    for name in rois:
        file = folder / f"{name}.drawn.tif"
        assert file.exists(), f"{name}: {said[-500:]}"
        pixels[name] = tifffile.imread(file) > 0
    return pixels


def made(snippets: dict[str, str], shape: tuple, folder: Path, act: str = FILL) -> dict:
    """ROIs that ImageJ makes by lines of a macro and saves: path of each, and its pixels (H, W)."""
    macro = "setBatchMode(true);\n"
    for name, make in snippets.items():
        size = {"height": shape[0], "width": shape[1]}
        macro += MAKE.format(folder=folder, name=name, make=make, act=act, **size)
    said = run(macro, folder)
    pixels = {}
    for name in snippets:
        file = folder / f"{name}.tif"
        assert file.exists(), f"{name}: {said[-500:]}"
        pixels[folder / f"{name}.roi"] = tifffile.imread(file) > 254
    return pixels


def labels(file: Path, folder: Path) -> np.ndarray:
    """A label image (H, W) as ImageJ shows it, and saves it."""
    copy = folder / "copy.tif"
    run(f'open("{file}"); saveAs("Tiff", "{copy}");', folder)
    return tifffile.imread(copy)
