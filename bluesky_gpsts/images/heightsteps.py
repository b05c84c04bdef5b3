"""Terraces by their heights: levels that are clearly apart, and the steps between them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["levels_of"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SMOOTH = 0.012
_APART, _VALLEY = 0.86, 0.35
_SHARE = 0.04
_MOST = 6
_BAND = 0.015


def levels_of(flat: Array, known: Bools) -> tuple[NDArray[np.int32], Bools, Array]:
    """Cut an image into terraces by height.

    Heights are split in two where this leaves the least spread on both sides, as long as the sides
    are clearly apart, there is a valley between them, and each has a piece of some size.

    Parameters
    ----------
    flat : (ny, nx) array
        Levelled heights, any unit.
    known : (ny, nx) array of bool
        Where something was measured.

    Returns
    -------
    (ny, nx) array of int
        Number of the terrace of each pixel, from 1 on, the largest first; 0 where unknown.
    (ny, nx) array of bool
        Pixels of steps.
    (ny, nx) array
        Median height of the terrace of each pixel.
    """
    from scipy.ndimage import gaussian_filter

    sigma = max(1.0, _SMOOTH * min(flat.shape))
    share = np.maximum(gaussian_filter(known.astype(float), sigma), 1e-6)
    smooth = gaussian_filter(np.where(known, flat, 0.0), sigma) / share
    pieces = [known]
    final: list[Bools] = []
    while pieces:
        part = pieces.pop()
        cut = _split(smooth, part, known.size) if len(pieces) + len(final) < _MOST - 1 else None
        if cut is None:
            final.append(part)
        else:
            pieces += [part & (smooth > cut), part & (smooth <= cut)]
    final.sort(key=lambda part: -int(part.sum()))
    terraces = np.zeros(flat.shape, np.int32)
    heights = np.zeros(flat.shape)
    for number, part in enumerate(final, start=1):
        terraces[part] = number
        heights[part] = float(np.median(flat[part])) if part.any() else 0.0
    return terraces, _steps(terraces), heights


def _split(smooth: Array, part: Bools, total: int) -> float | None:
    """Height at which a part falls into two levels; None if it is one."""
    from scipy.ndimage import label

    values = smooth[part]
    if values.size < 2.0 * _SHARE * total:
        return None
    # Single spots that stick out are no terraces.
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        return None
    count, edges = np.histogram(values, 64, (low, high))
    middle = 0.5 * (edges[1:] + edges[:-1])
    weight = np.cumsum(count)
    mean = np.cumsum(count * middle)
    left, right = weight[:-1], weight[-1] - weight[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = left * right * (mean[:-1] / left - (mean[-1] - mean[:-1]) / right) ** 2
    best = int(np.nanargmax(between))
    spread = float(np.sum(count * (middle - mean[-1] / weight[-1]) ** 2))
    if spread <= 0.0 or between[best] / weight[-1] < _APART * spread:
        return None
    soft = np.convolve(count, np.ones(3) / 3.0, "same")
    sides = soft[: best + 1].max(), soft[best + 1 :].max()
    lowest = best - 8 + int(np.argmin(soft[max(0, best - 8) : best + 9])) if best >= 8 else best
    lowest = int(np.clip(lowest, 0, len(middle) - 1))
    if soft[lowest] > _VALLEY * min(sides):
        return None
    cut = float(middle[lowest])
    for side in (part & (smooth > cut), part & (smooth <= cut)):
        pieces, found = label(side)
        if not found or np.bincount(pieces.ravel())[1:].max() < _SHARE * total:
            return None
    return cut


def _steps(terraces: NDArray[np.int32]) -> Bools:
    """Pixels near the border of two terraces."""
    from scipy.ndimage import distance_transform_edt

    edge = np.zeros(terraces.shape, bool)
    across = (terraces[:, 1:] != terraces[:, :-1]) & (terraces[:, 1:] > 0) & (terraces[:, :-1] > 0)
    down = (terraces[1:] != terraces[:-1]) & (terraces[1:] > 0) & (terraces[:-1] > 0)
    edge[:, 1:] |= across
    edge[1:] |= down
    if not edge.any():
        return edge
    band = max(2.0, _BAND * min(terraces.shape))
    return np.asarray(distance_transform_edt(~edge) <= band)
