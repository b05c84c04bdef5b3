"""Terraces from what the network says of steps and of the direction of the rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TerraceMap", "map_terraces"]

Float32 = NDArray[np.float32]
Labels = NDArray[np.int32]

_STEP = 0.5
_SMALLEST = 80
_NARROW = 2
_SIDE = 6.0


@dataclass(frozen=True, eq=False)
class TerraceMap:
    """Terraces of an image.

    Attributes
    ----------
    labels : (h, w) array
        Number of the terrace of each pixel, from 1 on.
    directions : (T,) array
        About the direction of the rows of each (rad), from 0 to pi.
    """

    labels: Labels
    directions: NDArray[np.float64]


def map_terraces(step: Float32, direction: Float32) -> TerraceMap:
    """Find terraces: stretches without a step whose rows run in one of two directions.

    The rows of neighbouring terraces are at right angles, so that twice their direction is turned
    by half a circle, and four times their direction is the same for all.

    Parameters
    ----------
    step : (h, w) array
        Probability of a step edge.
    direction : (2, h, w) array
        Cosine and sine of twice the direction of the rows.

    Returns
    -------
    TerraceMap
    """
    from scipy.ndimage import binary_erosion, find_objects, label

    wave = direction[0] + 1j * direction[1]
    common = 0.5 * np.angle(np.sum(wave * wave))
    along = (wave * np.exp(-1j * common)).real
    clear = step < _STEP
    labels = np.zeros(step.shape, np.int32)
    count, smallest = 0, min(_SMALLEST, step.size // 8)
    for side in (along > 0.0, along <= 0.0):
        area = side & clear
        if np.count_nonzero(area) < smallest:
            continue
        # A bridge of a pixel or two does not join terraces.
        core = binary_erosion(area, iterations=_NARROW, border_value=1)
        parts, found = label(core)
        if not found:
            continue
        sizes = np.bincount(parts.ravel(), minlength=found + 1)
        kept = np.flatnonzero(sizes[1:] >= smallest) + 1
        number = np.zeros(found + 1, np.int32)
        number[kept] = count + 1 + np.arange(kept.size)
        labels += number[parts]
        count += kept.size
    if count <= 1:
        count = 1
        labels[:] = 1
    else:
        labels = _grown(labels, along > 0.0, count)
    directions = np.zeros(count)
    for terrace, box in enumerate(find_objects(labels, count), start=1):
        if box is not None:
            inside = labels[box] == terrace
            mean = complex(np.sum(wave[box][inside & clear[box]]))
            directions[terrace - 1] = 0.5 * np.angle(mean) % np.pi if mean else 0.5 * common
    return TerraceMap(labels, directions)


def _grown(seeds: Labels, side: NDArray[np.bool_], count: int) -> Labels:
    """Give every pixel to the nearest terrace; of two about as near, to the one of its side."""
    from scipy.ndimage import distance_transform_edt

    apart, nearest = [], []
    for wanted in (True, False):
        own = (seeds > 0) & (side == wanted)
        if own.any():
            distance, (i, j) = distance_transform_edt(~own, return_indices=True)
            apart.append(distance)
            nearest.append(seeds[i, j])
        else:
            apart.append(np.full(seeds.shape, np.inf))
            nearest.append(seeds)
    bonus = np.where(side, _SIDE, -_SIDE)
    return np.where(apart[0] < apart[1] + bonus, nearest[0], nearest[1])
