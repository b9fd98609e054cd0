"""The tables of scores with touching nuclei told apart: read, and a setting chosen from them.

`apart_measured` makes them. What is here needs no PyTorch.
"""

import pandas as pd

from s2l_paper import paths

BOTH_WAYS = ["aji_together", "aji_apart", "f1_together", "f1_apart"]
SETTING = ["spacing", "smoothing"]
MEASURED_COLUMNS = ["run_id", "image", "source", "diameter", *SETTING, "refused", *BOTH_WAYS]
TRIED_KEYS = ["dataset", "rotation", "family"]
TRIED_COLUMNS = [*TRIED_KEYS, *SETTING, "images", "aji", "f1", "run_ids"]
TOGETHER = 0.0  # the spacing where objects are left as they are


def measured(profile: str) -> pd.DataFrame:
    """The committed scores of a profile's test images, empty if nothing was measured."""
    file = paths.apart(profile)
    if not file.exists():
        return pd.DataFrame(columns=MEASURED_COLUMNS)
    return pd.read_csv(file, dtype={"image": str, "refused": "boolean"})


def tried() -> pd.DataFrame:
    """Every setting that was tried on validation images, empty if none was."""
    file = paths.apart_settings()
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=TRIED_COLUMNS)


def chosen(table: pd.DataFrame) -> pd.Series:
    """The setting with the highest AJI among those that do not lower F1; `TOGETHER` is one of them.

    Args:
        table: the rows of `tried` of one data set, rotation and family of methods.
    """
    left_alone = table[table.spacing == TOGETHER].iloc[0]
    allowed = table[table.f1 >= left_alone.f1]
    return allowed.loc[allowed.aji.idxmax()]
