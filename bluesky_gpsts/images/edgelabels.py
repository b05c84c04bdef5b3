"""Labels of step edges made from an image alone: Canny edges, gaps filled, blobs left out.

These are the labels that NN-0 of Ziatdinov et al. learns from. They join broken edges with Gaussian
processes; here the ends of long edges are joined by straight lines.
"""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.terraces import level_plane

__all__ = ["canny", "step_labels"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SMOOTH = 0.55e-9
_STEP = 0.136e-9
_LOW, _HIGH = 0.3, 0.55
_LONG, _GAP, _BAND = 5e-9, 4e-9, 0.4e-9


def canny(image: Array, sigma: float, low: float, high: float) -> Bools:
    """Edges after Canny: ridges of the gradient above `low` that touch one above `high`.

    Parameters
    ----------
    image : (ny, nx) array
        Values, finite.
    sigma : float
        Standard deviation (pixels) of the Gaussian that smooths it.
    low, high : float
        Thresholds of the gradient, in units of the image per pixel.

    Returns
    -------
    (ny, nx) array of bool
        Edges, a pixel wide.

    Raises
    ------
    ValueError
        If the thresholds are not in order or sigma is not positive.
    """
    from scipy.ndimage import gaussian_filter, label, map_coordinates

    if not (sigma > 0.0 and 0.0 < low <= high):
        raise ValueError(f"sigma {sigma}, thresholds {low} and {high}; give 0 < low <= high")
    across = gaussian_filter(image, sigma, order=(0, 1), mode="nearest")
    down = gaussian_filter(image, sigma, order=(1, 0), mode="nearest")
    size = np.hypot(across, down)
    safe = np.maximum(size, 1e-300)
    rows, columns = np.indices(image.shape)
    ridge = np.ones(image.shape, bool)
    for side in (-1.0, 1.0):
        place = (rows + side * down / safe, columns + side * across / safe)
        ridge &= size >= map_coordinates(size, place, order=1, mode="nearest")
    weak = ridge & (size > low)
    parts, count = label(weak, np.ones((3, 3)))
    strong = np.zeros(count + 1, bool)
    strong[parts[weak & (size > high)]] = True
    strong[0] = False
    return np.asarray(strong[parts])


def step_labels(image: NDArray[np.floating], pixel: float) -> Bools:
    """Mark the step edges of a topograph of H-Si(100).

    Parameters
    ----------
    image : (ny, nx) array
        Heights (m), finite; need not be levelled.
    pixel : float
        Size of a pixel (m).

    Returns
    -------
    (ny, nx) array of bool
        Bands of 0.8 nm along the edges.
    """
    from scipy.ndimage import distance_transform_edt, label

    flat = level_plane(image)
    # What sticks out is no step, and its flanks must not count as edges.
    flat = np.clip(flat, *np.percentile(flat, (1.0, 99.0)))
    steepest = _STEP * pixel / (_SMOOTH * np.sqrt(2.0 * np.pi))
    edges = canny(flat, _SMOOTH / pixel, _LOW * steepest, _HIGH * steepest)
    near = distance_transform_edt(~edges) * pixel < _BAND
    parts, count = label(near)
    kept = np.zeros(edges.shape, bool)
    ends: list[tuple[int, Array]] = []
    for number in range(1, count + 1):
        members = np.argwhere((parts == number) & edges).astype(float)
        if len(members) < 2:
            continue
        middle = members - members.mean(axis=0)
        axis = np.linalg.svd(middle, full_matrices=False)[2][0]
        along = middle @ axis
        if np.ptp(along) * pixel < _LONG:
            continue
        kept |= (parts == number) & edges
        ends += [(number, members[np.argmin(along)]), (number, members[np.argmax(along)])]
    for first, (owner, a) in enumerate(ends):
        for other, b in ends[first + 1 :]:
            if other != owner and float(np.hypot(*(b - a))) * pixel < _GAP:
                _line(kept, a, b)
        _to_border(kept, a, _GAP / pixel)
    if not kept.any():
        return kept
    return np.asarray(distance_transform_edt(~kept) * pixel < _BAND)


def _line(mask: Bools, start: Array, end: Array) -> None:
    """Draw a straight line of pixels into a mask."""
    count = int(np.abs(end - start).max()) + 1
    rows, columns = np.round(np.linspace(start, end, count)).astype(int).T
    mask[rows, columns] = True


def _to_border(mask: Bools, end: Array, reach: float) -> None:
    """Draw an edge that ends near the border of the image out to it."""
    size = np.array(mask.shape) - 1.0
    to_border = np.concatenate([end, size - end])
    nearest = int(np.argmin(to_border))
    if to_border[nearest] < 0.5 * reach:
        out = end.copy()
        out[nearest % 2] = 0.0 if nearest < 2 else size[nearest % 2]
        _line(mask, end, out)
