"""Lines of one image between which the tip changed its length."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["row_jumps"]

_FEWEST = 16
_HEAVY = 1.5


def row_jumps(image: ArrayLike, false_alarm: float = 0.01) -> NDArray[np.intp]:
    """Find the lines at which all heights jump, as they do when the tip's end changes.

    The offset of a line against the one before is the median over their pixels, so that steps and
    features do not count. A jump is an offset beyond what the others scatter by (their median
    absolute deviation), at the significance that gives one false alarm in so many images; half as
    much again is allowed, because instruments make more large offsets than a normal distribution.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights in any unit; lines not scanned are NaN.
    false_alarm : float
        Share of images without a change in which a jump may be found.

    Returns
    -------
    (k,) array of int
        Rows that lie off the row above them, largest jump first.

    Raises
    ------
    ValueError
        If fewer than 16 lines were scanned, or `false_alarm` is not between 0 and 1.
    """
    heights = np.asarray(image, dtype=float)
    if not 0.0 < false_alarm < 1.0:
        raise ValueError(f"false_alarm is {false_alarm}; give a share between 0 and 1")
    if heights.ndim != 2:
        raise ValueError(f"the image has shape {heights.shape}; give rows and columns")
    rows = np.flatnonzero(np.isfinite(heights).all(axis=1))
    if rows.size < _FEWEST:
        raise ValueError(f"{rows.size} lines were scanned; {_FEWEST} are needed to find a jump")
    offsets = np.median(np.diff(heights[rows], axis=0), axis=1)
    offsets = offsets - np.median(offsets)
    spread = 1.4826 * float(np.median(np.abs(offsets)))
    level = NormalDist().inv_cdf(1.0 - 0.5 * false_alarm / offsets.size) * _HEAVY
    found = np.flatnonzero(np.abs(offsets) > max(level * spread, 1e-300))
    largest = found[np.argsort(-np.abs(offsets[found]))]
    return np.asarray(rows[largest + 1])
