"""How often a predicted probability is right, counted by bins of it."""

import numpy as np

BINS = 10  # of the probability
COLUMNS = ["image", "bin", "pixels", "predicted", "nuclei"]


def by_bin(image_id: str, truth: np.ndarray, probability: np.ndarray) -> list[dict]:
    """Rows of a run's `calibration.csv` for one image; an empty bin has none.

    Args:
        image_id: of the image.
        truth: (H, W) instances.
        probability: (H, W) in [0, 1].

    Returns:
        For each bin: number of `pixels`, mean `predicted` probability, and how many pixels lie in
        `nuclei`.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    rows = []
    for number in np.unique(bins):
        here = bins == number
        counts = {"pixels": int(here.sum()), "nuclei": int((truth[here] > 0).sum())}
        mean = float(probability[here].mean(dtype=float))
        rows.append({"image": image_id, "bin": int(number), "predicted": mean} | counts)
    return rows
