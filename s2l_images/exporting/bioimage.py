"""A model for other programs: a BioImage.IO package of its graph, an example and its texts.

The graph takes grey values and returns probabilities (`whole_graph.py`). Percentiles (`intensity =
"stretch"`) are those of a whole image, which only the program that holds it can take: the package
asks for them in its description (`bioimage_texts.py`).
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from s2l_core.config import S2LError
from s2l_images.exporting.bioimage_example import cover, example_of
from s2l_images.exporting.bioimage_texts import FORMAT, describe, readme, usual_licence
from s2l_images.exporting.whole_graph import ignore_moving_on, saved, torchscript
from s2l_images.files import write_atomically
from s2l_images.learning.kept_models import load_model, model_in_use


def pack(
    folder: Path,
    target: Path,
    *,
    model_file: Path | None = None,
    licence: str | None = None,
    author: str | None = None,
    force: bool = False,
) -> str:
    """Writes the model of a folder as a BioImage.IO package.

    Where bioimageio.core is installed it tests the package before that takes its place.

    Args:
        folder: of one's own; a piece of one of its images becomes the example in the package.
        target: the package, a `.zip`.
        model_file: None: the model that is in use in the folder.
        licence: its SPDX name. None: the one that `usual_licence` gives.
        author: whom the package names.
        force: replaces a package that is there.

    Returns:
        What was written and what bioimageio.core says of it, in a few lines.

    Raises:
        S2LError: the target exists, there is no model, it finds nothing in the folder, or the
            package does not pass the test. Nothing is written then.
    """
    _check_asked(target, licence, author, force)
    file = model_file or model_in_use(folder)
    if not file.is_file():
        train = "Train one first (notebook 08), or name another: --model MODEL."
        raise S2LError(f"{file}: there is no model. {train}")
    model, config = load_model(file)
    model.eval()
    graph = torchscript(model)
    example = example_of(folder, model, graph)
    licence = licence or usual_licence(config)

    title = re.sub(r"[^A-Za-z0-9_+() -]", "_", f"Nuclei of {folder.resolve().name}")[:64]
    files = {
        "weights.pt": saved(graph),
        "test_input.npy": _array(example.image),
        "test_output.npy": _array(example.probability),
        "cover.png": cover(example),
        "README.md": readme(title, config, example).encode(errors="backslashreplace"),
    }
    described = describe(title, files, config, example, licence, author or "A user of s2l_core")
    files["rdf.yaml"] = yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode()

    report: list[str] = []
    write_atomically(target, lambda path: report.extend(_write_tested(path, files)))
    size = target.stat().st_size / 1e6
    about = f"BioImage.IO model {FORMAT}, {size:.1f} MB, licence {licence}"
    found = f"with a piece of the image {example.source!r} as its example"
    return "\n".join([f"{target}: {about}, {found}", *report])


def _check_asked(target: Path, licence: str | None, author: str | None, force: bool) -> None:
    """Refuses a target or a name that a package cannot have, before anything is computed."""
    if target.suffix != ".zip":
        raise S2LError(f"{target}: a BioImage.IO package is a .zip. Name it so, as in model.zip.")
    if target.is_dir():
        raise S2LError(f"{target}: is a folder. Name a file that is not there yet.")
    if target.exists() and not force:
        raise S2LError(f"{target}: exists already. Name another file, or replace it: --force.")

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence or "MIT"):
        raise S2LError(
            f"licence = {licence!r}: expected an SPDX name, such as CC-BY-4.0. Look it up at "
            "spdx.org/licenses."
        )
    if "/" in (author or ""):
        raise S2LError(f"author = {author!r}: BioImage.IO allows no slash in a name. Leave it out.")


def _array(values: np.ndarray) -> bytes:
    """An array as a file of NumPy's."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _write_tested(path: Path, files: Mapping[str, bytes]) -> list[str]:
    """Writes a package; returns what bioimageio.core's own test says of it, a line for each part.

    Raises:
        S2LError: it does not pass.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(name, content)
    try:
        from bioimageio.core import __version__ as version
        from bioimageio.core import test_description
    except ModuleNotFoundError:
        return [
            "Not tested by bioimageio.core, which is not installed. To do so: "
            "pip install 's2l-core[bioimageio]', then bioimageio test FILE"
        ]

    with warnings.catch_warnings():
        ignore_moving_on()
        summary = test_description(path, devices=["cpu"], expected_type="model")
    if summary.status != "passed":
        wrong = "; ".join(
            f"{one.loc}: {one.msg}" for part in summary.details for one in part.errors
        )
        raise S2LError(
            f"bioimageio.core {version} does not accept the package: "
            f"{' '.join(wrong.split())[:600]}. Nothing is written. Change what it names, or take "
            "another version of bioimageio.core (docs/elsewhere.md)."
        )
    parts = [f"  {part.status}: {part.name}" for part in summary.details]
    return [f"bioimageio.core {version} has tested it: {summary.status}", *parts]
