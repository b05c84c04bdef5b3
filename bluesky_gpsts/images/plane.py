"""Tilt correction of topographs."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["flatten_lines", "level_lines"]

_CLIP = 3.0
_ROUGH = 5.0


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


def level_lines(image: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Subtract a tilt that all lines share and the jumps between lines, whatever is on them.

    Unlike `flatten_lines`, neither steps nor features nor jumps of a line tilt the result: the
    slope is a median over lines, the offset of a line against the one before a median over their
    pixels. What is far off afterwards is clipped. A line that is much rougher than the lines
    around it is marked as bad.

    Parameters
    ----------
    image : (ny, nx) array
        Heights in any unit; NaN where unknown.

    Returns
    -------
    flat : (ny, nx) array
        Single precision, with a standard deviation of 1 (0 where all is flat), 0 where unknown.
    good : (ny, nx) array of bool
        False where unknown and in bad lines.
    """
    from scipy.ndimage import median_filter

    heights = np.asarray(image, dtype=float)
    known = np.isfinite(heights)
    if not known.any():
        return np.zeros(heights.shape, dtype=np.float32), known
    whole = bool(known.all())
    ny, nx = heights.shape
    median = _median if whole else _known_median
    lowest, highest = (float(f(heights if whole else heights[known])) for f in (np.min, np.max))
    span = highest - lowest
    # Scaled to fit into single precision, which is finer than any noise and twice as fast.
    flat = ((heights - lowest) * (1.0 / span if span > 0.0 else 0.0)).astype(np.float32)
    lag = max(1, nx // 8)
    # Far enough apart that noise hardly counts, near enough that few pairs straddle a step: their
    # median leaves these out. Every second line or pixel tells as much as is needed here.
    few = flat[:: 2 if ny >= 64 else 1]
    slopes = median(few[:, lag:] - few[:, :-lag], axis=1) / np.float32(lag)
    slopes = slopes[np.isfinite(slopes)]
    if slopes.size:
        flat -= np.float32(np.median(slopes)) * np.arange(nx, dtype=np.float32)
    # A step crosses two neighbouring lines at nearly one place, so that it stays what it is.
    thin = flat[:, :: 2 if nx >= 64 else 1]
    jumps = median(thin[1:] - thin[:-1], axis=1)
    flat[1:] -= np.cumsum(np.where(np.isfinite(jumps), jumps, 0.0)).astype(np.float32)[:, None]
    sample = flat[::3, ::3]
    sample = sample if whole else sample[np.isfinite(sample)]
    flat -= np.median(sample) if sample.size else np.float32(0.0)
    if not whole:
        flat[~known] = 0.0
    # Noise and jumps within a line show in its differences. Features are several lines high.
    steps = flat[:, 1:] - flat[:, :-1]
    rough = np.einsum("ij,ij->i", steps, steps)
    around = median_filter(rough, min(9, ny), mode="nearest")
    good = known & (rough <= _ROUGH**2 * around + 1e-12)[:, None]
    if not good.any():
        return flat, good
    size = np.abs(flat[::3, ::3][good[::3, ::3]])
    at = size.size - 1 - size.size // 100
    far = float(np.partition(size, at)[at]) if size.size else 0.0
    if far > 0.0:
        np.clip(flat, -_CLIP * far, _CLIP * far, out=flat)
    if not good.all():
        flat[~good] = 0.0
    scale = float(np.sqrt(np.vdot(flat, flat) / good.sum()))
    # Below that it is rounding.
    return (flat / np.float32(scale) if scale > 1e-6 else np.zeros_like(flat)), good


def _median(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Upper median, without the checks of NumPy's, which take longer than the median itself."""
    middle = values.shape[axis] // 2
    return np.asarray(np.partition(values, middle, axis=axis).take(middle, axis=axis))


def _known_median(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Median of what is known; NaN where nothing is."""
    ordered = np.sort(values, axis=axis)  # NaN goes last
    count = np.isfinite(values).sum(axis=axis)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, values.shape[axis] - 1)
    picked = [np.take_along_axis(ordered, np.expand_dims(i, axis), axis) for i in (low, high)]
    return np.asarray(np.where(count > 0, 0.5 * (picked[0] + picked[1]).squeeze(axis), np.nan))
