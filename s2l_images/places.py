"""Where things lie in a folder of one's own."""

from pathlib import Path


def own_strokes(folder: Path) -> Path:
    """Strokes drawn on the images of a folder of one's own."""
    return Path(folder) / "scribbles" / "strokes.json"


def own_results(folder: Path) -> Path:
    """What training on such a folder leaves: the model, and `export/`."""
    return Path(folder) / "s2l"


def own_export(folder: Path) -> Path:
    """Where a prediction goes, unless somebody names another place."""
    return own_results(folder) / "export"


def own_encoding(folder: Path) -> Path:
    """What the values of label images in such a folder's `scribbles/` mean, where that cannot be
    told from them.
    """
    return Path(folder) / "scribbles.json"


def own_splits(folder: Path) -> Path:
    """Which images of such a folder train, validate and test, where its owner decides."""
    return Path(folder) / "splits.json"


def own_settings(folder: Path) -> Path:
    """Which channel, which plane and which background such a folder's files have."""
    return Path(folder) / "folder.toml"
