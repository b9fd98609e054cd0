"""Where background could be mistaken for a nucleus, and lines through it (D16, `attentive-*`)."""

import numpy as np
import skimage  # whose parts are loaded when they are used
from scipy import ndimage, sparse

LOOK_SIGMAS = (1, 4)  # the two scales, in pixels, at which grey or colour is looked at
LONGEST = 120  # pixels: a stroke of a person, not the whole skeleton of a large area
SHORTEST = 8  # pixels: shorter lines are left away, most are spurs of a skeleton
NEXT = ((0, 1), (1, -1), (1, 0), (1, 1))  # half of a pixel's eight neighbours: each pair once


def look_alikes(image: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Pixels outside nuclei that a classifier on grey or colour at two scales takes for nucleus.

    The classifier (quadratic discriminant analysis: one normal distribution for each class) is
    fitted to this image and its own truth: it stands for an annotator who knows the nuclei and sees
    what resembles them.

    Args:
        image: (H, W, 3) uint8, grey (three equal channels) or stained.
        instances: (H, W) integer, 0 = background.

    Returns:
        (H, W) bool; nothing where an image holds no nuclei, nothing else, or a single grey value.
    """
    nuclei = instances > 0
    if nuclei.all() or not nuclei.any():
        return np.zeros(nuclei.shape, bool)

    features = _features(image)  # (H, W, F)
    log_odds = _log_density(features, nuclei) - _log_density(features, ~nuclei)
    log_odds += np.log(nuclei.sum()) - np.log((~nuclei).sum())
    # Rounded, so that another order of summation on another machine moves no pixel.
    return (np.round(log_odds, 6) > 0) & ~nuclei


def _features(image: np.ndarray) -> np.ndarray:
    """Grey or colour at two scales, (H, W, 2) or (H, W, 6), in whole 1/16 of a grey value."""
    grey = (image == image[..., :1]).all()
    channels = image[..., :1] if grey else image  # (H, W, 1 or 3)
    scales = [
        ndimage.gaussian_filter(channels.astype(np.float64), (sigma, sigma, 0))
        for sigma in LOOK_SIGMAS
    ]
    return np.round(16 * np.concatenate(scales, axis=2))


def _log_density(features: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Log density (H, W) of the normal distribution fitted to the features of some pixels.

    Sums of whole numbers below 2^53 are exact in any order; a variance of one grey value is added,
    so that equal pixels have a density, too.
    """
    some = features[where]  # (N, F)
    mean = some.mean(axis=0)
    centred = np.round(some - mean)
    covariance = centred.T @ centred / len(some) + 16**2 * np.eye(some.shape[1])  # (F, F)

    away = features - mean
    inverse = np.linalg.inv(covariance)
    distance = np.einsum("hwf,fg,hwg->hw", away, inverse, away, optimize=True)
    return -0.5 * (distance + np.linalg.slogdet(covariance).logabsdet)


def lines_through(area: np.ndarray) -> list[np.ndarray]:
    """Lines of at most LONGEST pixels along the skeleton of an area, those worth most first.

    A line is worth the pixels it stands for: those of a wide place are more than those of a narrow
    one. The second line through one connected part is worth a half of that, the third a third, so
    that one large part does not get all the strokes.

    Args:
        area: (H, W) bool.

    Returns:
        Lines (N, 2) of rows and columns, neighbours in the skeleton.
    """
    depth = ndimage.distance_transform_edt(area)
    parts, number = ndimage.label(area, np.ones((3, 3)))
    lines = [[] for _ in range(number + 1)]
    for path in _paths(skimage.morphology.skeletonize(area)):
        for line in np.array_split(path, -(-len(path) // LONGEST)):
            if len(line) >= SHORTEST:
                # Rounded, so that equal lines are ranked alike on every machine.
                weight = round(float(2 * depth[tuple(line.T)].sum()), 3)
                lines[parts[tuple(line[0])]].append((-weight, line[0].tolist(), line))

    worth = []
    for of_part in lines:
        ranked = sorted(of_part, key=lambda found: found[:2])
        worth += [
            (weight / rank, first, line) for rank, (weight, first, line) in enumerate(ranked, 1)
        ]
    return [line for _, _, line in sorted(worth, key=lambda found: found[:2])]


def _paths(skeleton: np.ndarray) -> list[np.ndarray]:
    """Divides each component of a skeleton into paths (N, 2), the longest before its branches.

    Each component is made a tree that is rooted at one end of its longest path. From the root a
    path follows, at each junction, the branch that leads farthest; the other branches begin paths
    of their own.
    """
    pixels = np.argwhere(skeleton)  # (N, 2)
    if not len(pixels):
        return []
    order, parents = _tree(skeleton, pixels)

    # The longest way down from each pixel, and the child that leads there, from the leaves up.
    height = np.zeros(len(pixels), int)
    heir = np.full(len(pixels), -1)
    for pixel in order[::-1]:
        parent = parents[pixel]
        if parent >= 0 and (heir[parent] < 0 or height[pixel] + 1 > height[parent]):
            height[parent], heir[parent] = height[pixel] + 1, pixel

    paths = []
    for pixel in order:
        parent = parents[pixel]
        if parent >= 0 and heir[parent] == pixel:
            continue
        path = [pixel]
        while heir[path[-1]] >= 0:
            path.append(heir[path[-1]])
        paths.append(pixels[path])
    return paths


def _tree(skeleton: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in breadth-first order from an end of each component, and their parents (-1: none)."""
    count = len(pixels)
    number = np.full(np.add(skeleton.shape, 2), -1)  # with a rim, so that no neighbour is outside
    number[1:-1, 1:-1][skeleton] = np.arange(count)
    pairs = [np.stack([np.arange(count), number[tuple((pixels + 1 + step).T)]]) for step in NEXT]
    pairs = np.concatenate(pairs, axis=1)  # (2, E)
    pairs = pairs[:, pairs[1] >= 0]
    graph = sparse.coo_array((np.ones(pairs.shape[1]), pairs), (count, count))
    number_of_parts, part = sparse.csgraph.connected_components(graph, directed=False)

    # One more node, tied to one pixel of each component, walks all of them at once. The last pixel
    # reached of a component is an end of its longest path, from which the second walk starts.
    roots = np.unique(part, return_index=True)[1]
    for _ in range(2):
        ties = np.stack([np.full(number_of_parts, count), roots])
        edges = np.concatenate([ties, pairs], axis=1)
        walked = sparse.coo_array((np.ones(edges.shape[1]), edges), (count + 1, count + 1))
        order, parents = sparse.csgraph.breadth_first_order(walked, count, directed=False)
        order = order[1:]
        roots = np.zeros(number_of_parts, int)
        roots[part[order]] = order  # a later pixel overwrites an earlier one
    return order, np.where(parents[:count] == count, -1, parents[:count])
