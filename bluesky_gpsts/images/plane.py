"""Tilt correction of topographs."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["flatten_lines"]


def flatten_lines(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract from each line its straight line of least squares.

    This is the correction that Thomas et al., npj Comput. Mater. 8, 99 (2022) apply, because a tip
    is not always normal to the sample.

    Parameters
    ----------
    image : (ny, nx) array
        Heights (m); NaN where not scanned.

    Returns
    -------
    (ny, nx) array
        Heights (m) with zero mean and slope in each line, NaN kept; a line with fewer than two
        known pixels stays as it is, less its mean.
    """
    heights = np.asarray(image, dtype=float)
    known = np.isfinite(heights)
    count = known.sum(axis=1, keepdims=True)
    x = np.arange(heights.shape[1], dtype=float)[None, :]

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
        return np.asarray(total / np.maximum(count, 1))

    dx = x - mean(np.broadcast_to(x, heights.shape))
    dz = heights - mean(heights)
    spread = np.where(known, dx * dx, 0.0).sum(axis=1, keepdims=True)
    slope = np.where(known, dx * dz, 0.0).sum(axis=1, keepdims=True) / np.maximum(spread, 1e-300)
    return np.asarray(dz - np.where(spread > 0, slope, 0.0) * dx)
