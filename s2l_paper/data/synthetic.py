"""The embedded data set: three microscopy modalities rendered with exact instance truth. No files,
only seeds.

An image is made as a microscope makes it: shapes are placed, a painter turns them into density or
light, then come blur and the camera. Every modality holds touching, defocused and faint nuclei, and
debris that has a nucleus's intensity but not its shape, the case which Fig. 2 of Oh et al. 2022 is
about.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit

from s2l_core.config import S2LError, seed_for
from s2l_paper.data.synthetic_shapes import (
    Shape,
    crumb,
    fibre,
    noise,
    nucleus_at,
    polygon,
    turned,
    window_around,
)

_SMALLEST = 64  # pixels: a side below this holds hardly a nucleus with its surroundings
# Optical densities of the two stains, Macenko et al. 2009.
_HAEMATOXYLIN, _EOSIN = (0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)


@dataclass(frozen=True)
class _Modality:
    """What is placed, and who paints it. Counts are means for 256 x 256 pixels."""

    nuclei: float
    debris: float
    clustered: float  # share of nuclei placed beside another one
    radius: tuple[float, float]
    elongation: float
    paint: Callable[..., np.ndarray]


def _place_nuclei(rng, shape, modality: _Modality) -> tuple[list[Shape], np.ndarray]:
    """Nuclei from top to bottom: where two overlap the first wins, and what stays visible is one
    piece.
    """
    instances, nuclei = np.zeros(shape, np.int32), []
    count = max(2, round(modality.nuclei * rng.uniform(0.6, 1.4) * np.prod(shape) / 256**2))
    for _ in range(8 * count):
        radius, centre = rng.uniform(*modality.radius), rng.uniform(0, 1, 2) * shape
        if nuclei and rng.random() < modality.clustered:
            other, angle = nuclei[rng.integers(len(nuclei))], rng.uniform(0, 2 * np.pi)
            away = (radius + other.radius) * rng.uniform(0.8, 1.1)
            centre = other.centre + away * np.array([np.sin(angle), np.cos(angle)])

        # One that is too small, mostly hidden or in pieces is placed anew.
        nucleus = nucleus_at(rng, shape, centre, radius, modality.elongation)
        inside = nucleus.rho <= 1
        visible = inside & (instances[nucleus.window] == 0)
        if inside.sum() < 40 or visible.sum() < 0.85 * inside.sum():
            continue
        if ndimage.label(visible)[1] != 1:
            continue

        nuclei.append(nucleus)
        instances[nucleus.window][visible] = len(nuclei)
        if len(nuclei) == count:
            break
    return nuclei, instances


def _place_debris(
    rng, shape, modality: _Modality, instances: np.ndarray
) -> tuple[list[Shape], np.ndarray]:
    """Fibres and crumbs on free ground, never in the truth."""
    free = ndimage.distance_transform_edt(instances == 0) > 2
    mask, debris = np.zeros(shape, bool), []
    count = max(2, rng.poisson(modality.debris * np.prod(shape) / 256**2))
    for _ in range(8 * count):
        centre = rng.uniform(0, 1, 2) * shape
        if not free[tuple(centre.astype(int))]:
            continue
        if rng.random() < 0.5:
            thing = fibre(rng, shape, centre, rng.uniform(20, 60), rng.uniform(1.5, 4.0))
        else:
            thing = crumb(rng, shape, centre)

        # All of it has to lie on free ground.
        inside = thing.rho <= 1
        if inside.sum() < 12 or not free[thing.window][inside].all():
            continue
        debris.append(thing)
        mask[thing.window] |= inside
        if len(debris) == count:
            break
    return debris, mask


def _paint_fluo(rng, nuclei, debris, shape) -> np.ndarray:
    """Fluorescence: light adds up; haze, uneven illumination, shot noise; some exposures are very
    short.
    """
    light, chromatin = np.zeros(shape), noise(rng, shape, 1.5)
    texture = rng.uniform(0.08, 0.3)
    for thing in nuclei + debris:
        level = rng.lognormal(0, 0.25) * (rng.uniform(0.35, 0.55) if rng.random() < 0.2 else 1)
        defocus = rng.random() < 0.15
        thickness = 0.7 + 0.3 * np.sqrt(np.clip(1 - thing.rho**2, 0, 1))
        grain = 1 + texture * chromatin[thing.window] * (0.3 if defocus else 1)
        body = thing.body(rng.uniform(1.5, 2.5) if defocus else 0.6)
        light[thing.window] += level * body * thickness * np.maximum(grain, 0.2)

    # The lamp is uneven, and what lies out of focus adds a haze.
    haze = ndimage.gaussian_filter(light, 12, mode="nearest", truncate=2.5)
    uneven = np.exp(rng.uniform(0.15, 0.4) * noise(rng, shape, 0.3 * min(shape)))
    light = (ndimage.gaussian_filter(light, 0.8) + 0.35 * haze + rng.uniform(0.03, 0.15)) * uneven

    # The camera counts photons, for a short time or a long one.
    full = 255 * rng.uniform(0.75, 1.2) if rng.random() > 0.2 else rng.uniform(45, 90)
    photons = rng.uniform(60, 400)
    light = rng.poisson(light / np.quantile(light, 0.995) * photons) / photons
    return np.repeat((full * light + rng.normal(3, 0.8, shape))[..., None], 3, -1)


def _paint_bf(rng, nuclei, debris, shape) -> np.ndarray:
    """Bright field: stained squamous cells lie like translucent sheets over each other; nuclei are
    dark ovals.
    """
    density, grain, mottle = np.zeros(shape), noise(rng, shape, 0.9), noise(rng, shape, 5)
    ripple = np.stack([noise(rng, shape, 7), noise(rng, shape, 7)])

    # Around each nucleus its cell, a sheet with a crease and a rim.
    for nucleus in nuclei:
        radius = rng.uniform(34, 58)
        centre = nucleus.centre + rng.normal(0, 8, 2)
        window, grid = window_around(shape, centre, 1.5 * radius)
        grid = grid + 1.5 * ripple[(slice(None), *window)]
        cell = Shape(window, polygon(rng, grid, radius, rng.integers(5, 8)), centre, radius)
        sheet = 1 + 0.2 * mottle[window] + 0.12 * grain[window]
        crease = np.exp(-((turned(grid, rng.uniform(0, np.pi))[0] - rng.normal(0, 15)) ** 2))
        density[window] += cell.body(1) * (
            rng.uniform(0.08, 0.22) * sheet + rng.uniform(0, 0.08) * crease
        )
        density[window] += rng.uniform(0, 0.06) * cell.rim(1.5, 0.98)

    # Rods lie on the cells; where many sheets overlap, the stain does not add up for ever.
    for _ in range(rng.poisson(60 * np.prod(shape) / 256**2)):
        rod = fibre(rng, shape, rng.uniform(0, 1, 2) * shape, rng.uniform(3, 7), 1.0)
        density[rod.window] += rng.uniform(0.05, 0.3) * rod.body(0.5) * (density[rod.window] > 0.05)
    density = 0.6 * np.tanh(density / 0.6)

    # Nuclei and debris, each with a bright halo and a dark rim.
    for thing in nuclei + debris:
        blur = rng.uniform(1.5, 2.2) if rng.random() < 0.15 else 0.6
        level = rng.uniform(0.38, 0.75)
        here = grain[thing.window] * 0.12 + mottle[thing.window] * 0.1
        inside = thing.body(blur)
        density[thing.window] *= 1 - 0.25 * thing.rim(2.5, 1.0 + 3 / thing.radius)
        density[thing.window] += inside * level * (1 + here) + 0.2 * level * thing.rim(
            1.2 * blur + 0.6, 0.93
        )

    # Light that is left behind so much stain.
    uneven = 1 + 0.02 * noise(rng, shape, 0.4 * min(shape))
    image = rng.uniform(222, 236) * uneven * np.exp(-ndimage.gaussian_filter(density, 0.6))
    return np.repeat((image + rng.normal(0, 1.5, shape))[..., None], 3, -1)


def _strands(rng, shape) -> np.ndarray:
    """Noise drawn out into wavy strands of a common direction."""
    grid = np.mgrid[: shape[0], : shape[1]] + 9 * np.stack(
        [noise(rng, shape, 16), noise(rng, shape, 16)]
    )
    along, across = turned(grid, rng.uniform(0, np.pi))
    return ndimage.map_coordinates(
        noise(rng, (256, 256), (1.3, 8)), [across, along], order=1, mode="grid-wrap"
    )


def _paint_he(rng, nuclei, debris, shape) -> np.ndarray:
    """H&E: optical densities of two stains (Beer-Lambert) in fibrous stroma with gaps."""
    strands = _strands(rng, shape)
    patches, chromatin = noise(rng, shape, 20), noise(rng, shape, 1.3)

    # Tissue with gaps: eosin in its fibres, a little haematoxylin everywhere.
    froth, cellular = noise(rng, shape, 3), expit(3 * noise(rng, shape, 18))
    tissue = expit(5 * (patches + rng.uniform(0.6, 1.8)) + 2 * froth + 0.5 * strands)
    fibrous = (0.2 * (1 - cellular) + 0.04) * strands
    eosin = tissue * np.maximum(0.6 - 0.15 * cellular + fibrous + 0.07 * froth, 0.05)
    haematoxylin = tissue * np.maximum(0.06 + 0.2 * cellular + 0.05 * froth + 0.03 * chromatin, 0)

    # Nuclei and debris, in which haematoxylin takes the place of eosin.
    for thing in nuclei + debris:
        blur = rng.uniform(1.5, 2.2) if rng.random() < 0.15 else 0.7
        level = rng.uniform(0.4, 1.3)
        inside, here = thing.body(blur), chromatin[thing.window]
        haematoxylin[thing.window] += 0.15 * thing.body(2.5) + 0.25 * thing.rim(1.5, 0.9) * inside
        haematoxylin[thing.window] += (
            inside * level * (0.85 + np.clip(0.45 - 0.3 * level, 0.08, 1) * here)
        )
        eosin[thing.window] *= 1 - 0.4 * inside

    # Each slide is stained a little differently, and stronger or weaker.
    stains = np.array([_HAEMATOXYLIN, _EOSIN]) * rng.normal(1, 0.06, (2, 3))
    strength = rng.uniform((1.0, 0.8), (1.4, 1.3))
    blurred = [ndimage.gaussian_filter(stain, 0.7) for stain in (haematoxylin, eosin)]
    density = np.stack(blurred, -1) * strength @ stains  # (H, W, 3)
    return 243 * np.exp(-np.maximum(density, 0)) + rng.normal(0, 2.0, (*shape, 3))


MODALITIES = {
    "bf": _Modality(9, 5, 0.35, (9, 14), 1.8, _paint_bf),
    "fluo": _Modality(24, 8, 0.5, (8.5, 15), 1.7, _paint_fluo),
    "he": _Modality(34, 7, 0.5, (8.5, 14), 2.2, _paint_he),
}


def _render(
    modality: str, size: int | tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`render`, and where debris lies: (H, W) bool."""
    if modality not in MODALITIES:
        raise S2LError(
            f"modality = {modality!r} is not known. Choose one of: {', '.join(MODALITIES)}."
        )
    shape = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = all(isinstance(side, int | np.integer) for side in shape)
    if len(shape) != 2 or not whole or min(shape) < _SMALLEST:
        raise S2LError(
            f"size = {size!r}: expected a side or (H, W) in whole pixels, at least {_SMALLEST}."
            " Change it."
        )
    rng = np.random.default_rng(seed)
    nuclei, instances = _place_nuclei(rng, shape, MODALITIES[modality])
    debris, mask = _place_debris(rng, shape, MODALITIES[modality], instances)
    image = MODALITIES[modality].paint(rng, nuclei, debris, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), instances, mask


def render(modality: str, size: int | tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Renders one image with its truth.

    Args:
        modality: "bf" (bright field), "fluo" (fluorescence) or "he" (H&E-like histology).
        size: side in pixels, or (H, W); at least 64. The number of nuclei grows with the area.
        seed: the same seed gives the same image.

    Returns:
        Image (H, W, 3) uint8 and instances (H, W) int32: 0 background, nuclei 1 to n, each one
        connected region.

    Raises:
        S2LError: unknown modality, or an image too small.
    """
    return _render(modality, size, seed)[:2]


def generate(
    modality: str, count: int, size: int | tuple[int, int] = 256, seed: int = 0
) -> list[tuple]:
    """Renders a data set of `(id, image, instances)`, see `render`; image i does not depend on
    `count`.
    """
    rendered = []
    for index in range(count):
        own_seed = seed_for(seed, "synthetic", modality, index)
        rendered.append((f"synthetic-{modality}-{index:03d}", *render(modality, size, own_seed)))
    return rendered
