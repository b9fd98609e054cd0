"""Writes data/true_masks.csv anew: `python data/make_true_masks.py` (needs S2L_DATA).

What Table 1's scores give the true mask of an image. It does not tell touching nuclei apart, so
that its mDice stays below 1. Only a mask that leaves gaps between them can score more, at a loss in
IoU.
"""

from collections.abc import Iterable

import pandas as pd

from s2l_core import metrics
from s2l_core.batches import CellImage
from s2l_core.profiles import REAL
from s2l_images.files import write_csv
from s2l_paper import paths
from s2l_paper.data.datasets import load_dataset
from s2l_paper.tables.table1 import TABLE1_SCORES


def scores(name: str, cells: Iterable[CellImage]) -> pd.DataFrame:
    """A row for each image; no mDice where there is no nucleus."""
    rows = []
    for cell in cells:
        found = metrics.score(cell.instances, cell.instances > 0)
        shown = {score: found[score] for score in TABLE1_SCORES}
        rows.append({"dataset": name, "image": cell.id} | shown)
    return pd.DataFrame(rows).sort_values("image").round(6)


def main() -> None:
    """Writes the file, and prints the means over all images."""
    table = pd.concat([scores(name, load_dataset(name)) for name in REAL])
    write_csv(paths.true_mask_file(), table)
    print(table.groupby("dataset")[list(TABLE1_SCORES)].mean().round(3))


if __name__ == "__main__":
    main()
