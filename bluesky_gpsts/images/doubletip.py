"""Whether a tip images every adsorbate twice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.terraces import level_plane

__all__ = ["Echo", "echo"]

Array = NDArray[np.float64]

_SCALE = 0.3e-9
_STRONG = 35e-12 / 1e-18
_NOISE = 8.0
_SHARE = 0.4
_MOST = 12
_CORE, _REACH = 0.45e-9, 3.0e-9
_STEP = 0.1e-9


@dataclass(frozen=True)
class Echo:
    """The second image of the adsorbates, as far as there is one.

    Attributes
    ----------
    strength : float
        Autocorrelation at the offset relative to that at zero: 0.5 for two equal images, 0 for
        none. NaN where no adsorbate is in view, so that nothing can be said.
    dx, dy : float
        Offset (m) along columns and against rows, of either sign.
    adsorbates : int
        Number of compact features that were looked at.
    """

    strength: float
    dx: float
    dy: float
    adsorbates: int


def echo(image: ArrayLike, pixel: tuple[float, float], nearest: float = _CORE) -> Echo:
    """Look for the second peak of the autocorrelation of all compact features of an image.

    A feature is compact where the surface bends down in every direction by as much: it counts by
    the smaller of its two curvatures times their ratio, from 35 pm/nm^2 on. Neither a step nor a
    ridge of a reconstruction is compact. One feature that happens to have another one beside it
    looks like an echo; with several features, only what is beside each of them does.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m); NaN where not scanned.
    pixel : (float, float)
        Width and height of a pixel (m).
    nearest : float
        Offset (m) from which on a second peak counts. A feature that is wide and flat at its top
        has a peak of its own within its width.

    Returns
    -------
    Echo

    Raises
    ------
    ValueError
        If a pixel is not positive, `nearest` is out of range, or the image is unfit (see
        `level_plane`).
    """
    from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

    width, height = pixel
    if not (width > 0.0 and height > 0.0):
        raise ValueError(f"pixel {pixel} m; give its width and height, above 0, in metres")
    if not _CORE <= nearest < _REACH:
        raise ValueError(f"nearest is {nearest:g} m; give {_CORE:g} to {_REACH:g} m")
    flat = level_plane(image)
    known = np.isfinite(flat)
    flat = np.where(known, flat, 0.0)
    sigma = (_SCALE / height, _SCALE / width)

    def derivative(rows: int, columns: int) -> Array:
        found = gaussian_filter(flat, sigma, order=(rows, columns))
        return np.asarray(found / (height**rows * width**columns))

    yy, xx, xy = derivative(2, 0), derivative(0, 2), derivative(1, 1)
    middle, apart = 0.5 * (xx + yy), np.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
    weak, strong = np.maximum(0.0, -(middle + apart)), np.maximum(1e-30, apart - middle)
    bend = np.where(known, weak * weak / strong, 0.0)
    size = tuple(2 * max(1, round(_CORE / length)) + 1 for length in (height, width))
    level = max(_STRONG, _NOISE * float(np.mean(bend)), _SHARE * float(np.max(bend)))
    rows, columns = np.nonzero((bend == maximum_filter(bend, size)) & (bend > level))
    if rows.size == 0:
        return Echo(float("nan"), 0.0, 0.0, 0)
    strongest = np.argsort(bend[rows, columns])[::-1][:_MOST]
    rows, columns = rows[strongest], columns[strongest]
    weights = bend[rows, columns]
    offsets = np.arange(-_REACH, _REACH + _STEP, _STEP)
    dy, dx = np.meshgrid(offsets, offsets, indexing="ij")
    total = np.zeros(dx.shape)
    for row, column, weight in zip(rows, columns, weights, strict=True):
        places = [row - dy / height, column + dx / width]
        total += weight * map_coordinates(bend, places, order=1, mode="constant")
    total /= float(np.sum(weights**2))
    total = 0.5 * (total + total[::-1, ::-1])
    total[np.hypot(dx, dy) < nearest] = 0.0
    total[np.hypot(dx, dy) > _REACH] = 0.0
    peaks = (total == maximum_filter(total, 5)) & (total > 0.0)
    # The flank of the centre is highest at the edge of what was left out; it is no peak.
    peaks &= np.hypot(dx, dy) > nearest + _STEP
    if not peaks.any():
        return Echo(0.0, 0.0, 0.0, int(rows.size))
    best = np.unravel_index(int(np.argmax(np.where(peaks, total, 0.0))), total.shape)
    return Echo(float(total[best]), float(dx[best]), float(dy[best]), int(rows.size))
