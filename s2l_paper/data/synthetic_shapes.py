"""What lies in a rendered image: nuclei, shards and fibres as distances from their outlines, and
noise with a grain.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit


@dataclass(frozen=True)
class Shape:
    """An object in a window of the image: `rho` is 0 at its core, 1 on its outline and grows
    outside.
    """

    window: tuple[slice, slice]
    rho: np.ndarray
    centre: np.ndarray
    radius: float  # pixels between rho = 0 and rho = 1

    def body(self, blur: float) -> np.ndarray:
        """1 inside, 0 outside, 0.5 on the outline however blurred, so that defocus leaves the truth
        in place.
        """
        return expit((1 - self.rho) * self.radius / blur)

    def rim(self, width: float, at: float = 1.0) -> np.ndarray:
        """A band along the outline, `width` pixels wide."""
        return np.exp(-(((self.rho - at) * self.radius / width) ** 2))


def noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]
) -> np.ndarray:
    """Filtered noise of mean 0 and deviation 1, correlated over `sigma` pixels."""
    spectrum = ndimage.fourier_gaussian(np.fft.rfft2(rng.standard_normal(shape)), sigma, n=shape[1])
    field = np.fft.irfft2(spectrum, s=shape)
    return (field - field.mean()) / field.std()


def window_around(
    shape: tuple[int, int], centre: np.ndarray, reach: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of the image within `reach` of `centre`, and its pixels' offsets (2, h, w) from
    there.
    """
    low = np.clip(np.floor(centre - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, low, shape).astype(int)
    grid = np.mgrid[low[0] : high[0], low[1] : high[1]] - centre[:, None, None]
    return (slice(low[0], high[0]), slice(low[1], high[1])), grid


def turned(grid: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction."""
    row, column = grid
    along = row * np.sin(angle) + column * np.cos(angle)
    across = row * np.cos(angle) - column * np.sin(angle)
    return along, across


def nucleus_at(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: np.ndarray,
    radius: float,
    elongation: float,
) -> Shape:
    """A smooth star-convex outline: an ellipse whose radius varies by a few random Fourier
    descriptors.
    """
    aspect = np.sqrt(rng.uniform(1, elongation))
    window, grid = window_around(shape, centre, 1.7 * radius * aspect)
    along, across = turned(grid, rng.uniform(0, np.pi))
    along, across = along / aspect, across * aspect
    theta, outline = np.arctan2(across, along), 1.0
    for mode in range(2, 7):
        height = 0.14 / mode**1.5 * rng.normal()
        outline = outline + height * np.cos(mode * theta + rng.uniform(0, 2 * np.pi))
    return Shape(window, np.hypot(along, across) / (radius * outline), centre, radius)


def polygon(rng: np.random.Generator, grid: np.ndarray, radius: float, corners: int) -> np.ndarray:
    """`rho` of a convex polygon with slightly rounded corners: the largest of its sides' distances,
    smoothly.
    """
    rho, start = np.full(grid.shape[1:], 1e-9), rng.uniform(0, 2 * np.pi)
    for corner in range(corners):
        side, _ = turned(grid, start + (corner + rng.uniform(-0.3, 0.3)) * 2 * np.pi / corners)
        side = np.maximum(side, 0) / (radius * rng.uniform(0.7, 1.1))
        rho += np.square(np.square(side * side * side))  # side ** 12, three times faster
    return rho ** (1 / 12)


def crumb(rng: np.random.Generator, shape: tuple[int, int], centre: np.ndarray) -> Shape:
    """A heap of shards."""
    window, grid = window_around(shape, centre, 24)
    shards = [
        polygon(rng, grid - rng.normal(0, 4, (2, 1, 1)), rng.uniform(2, 4.5), rng.integers(4, 6))
        for _ in range(rng.integers(2, 6))
    ]
    return Shape(window, np.min(shards, axis=0), centre, 3.0)


def fibre(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: np.ndarray,
    length: float,
    width: float,
) -> Shape:
    """A bent, tapering thread; `rho` is the distance to its axis in units of its half-width."""
    window, grid = window_around(shape, centre, 0.6 * length + 3 * width)
    along, across = turned(grid, rng.uniform(0, np.pi))
    step = np.linspace(-0.5, 0.5, max(6, int(length / 2)))
    height = length * rng.uniform(0.02, 0.15)
    bend = height * np.sin(rng.uniform(2, 6) * step + rng.uniform(0, 2 * np.pi))
    taper = width * (1 - 0.9 * np.abs(step + rng.uniform(-0.3, 0.3)))
    squared = ((along[..., None] - length * step) ** 2 + (across[..., None] - bend) ** 2) / taper**2
    return Shape(window, np.sqrt(squared.min(-1)), centre, width)
