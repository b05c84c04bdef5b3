"""Images with terraces: levelling that keeps every height, and flat places."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["flat_places", "level_plane"]

Array = NDArray[np.float64]

_ROUGH = 40e-12
_AROUND = 0.6e-9
_SMOOTH = 0.3e-9
_TYPICAL = 2.5


def level_plane(image: ArrayLike) -> Array:
    """Subtract one plane from a topograph, whatever steps and features are on it.

    The slopes are medians over the differences of pixels an eighth of the image apart, most of
    which lie on one terrace. Lines keep their heights against each other, so that a step along
    the lines stays what it is.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m); NaN where not scanned.

    Returns
    -------
    (ny, nx) array
        Heights (m) with a median of 0; NaN kept.

    Raises
    ------
    ValueError
        If the image has fewer than 16 x 16 pixels, or nothing was scanned.
    """
    heights = np.array(image, dtype=float)
    if heights.ndim != 2 or min(heights.shape) < 16:
        raise ValueError(f"the image has shape {heights.shape}; give 16 x 16 pixels or more")
    if not np.isfinite(heights).any():
        raise ValueError("nothing of the image was scanned; take it again")
    for axis in (0, 1):
        size = heights.shape[axis]
        lag = max(1, size // 8)
        later, earlier = (
            np.take(heights, range(lag, size), axis),
            np.take(heights, range(size - lag), axis),
        )
        slope = np.nanmedian(later - earlier) / lag
        line = slope * np.arange(size)
        heights -= line[:, None] if axis == 0 else line[None, :]
    return np.asarray(heights - np.nanmedian(heights))


def flat_places(
    image: ArrayLike,
    pixel: tuple[float, float],
    clearance: float,
    count: int = 1,
    avoid: ArrayLike = (),
    distance: float = 0.0,
) -> Array:
    """Places on a flat, step-free stretch, each as far from anything else as can be.

    A place is rough where heights differ by more than 40 pm within 0.6 nm, or by more than two and
    a half times what they do in most of the image: steps and adsorbates are, a reconstruction of
    20 pm is not. Where the image ends, the stretch ends.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m), levelled or not; NaN where not scanned.
    pixel : (float, float)
        Width and height of a pixel (m).
    clearance : float
        Least distance (m) from what is rough, from the edge of the image, and between places.
    count : int
        How many places are wanted.
    avoid : (k, 2) array_like
        Column and row, fractions allowed, of what to keep away from.
    distance : float
        How far (m) to keep from these.

    Returns
    -------
    (m, 2) array
        Column and row of up to `count` places, best first.

    Raises
    ------
    ValueError
        If a length is not positive, or the image is unfit (see `level_plane`).
    """
    from scipy.ndimage import (
        distance_transform_edt,
        gaussian_filter,
        maximum_filter,
        minimum_filter,
    )

    width, height = pixel
    if not (width > 0.0 and height > 0.0 and clearance > 0.0 and distance >= 0.0 and count >= 1):
        raise ValueError(
            f"pixel {pixel} m, clearance {clearance} m, distance {distance} m and count {count}: "
            "lengths must be positive, and the count 1 or more"
        )
    flat = level_plane(image)
    known = np.isfinite(flat)
    smooth = gaussian_filter(np.where(known, flat, 0.0), (_SMOOTH / height, _SMOOTH / width))
    size = tuple(max(3, 2 * round(_AROUND / step) + 1) for step in (height, width))
    spread = maximum_filter(smooth, size) - minimum_filter(smooth, size)
    good = known & (spread <= max(_ROUGH, _TYPICAL * float(np.median(spread[known]))))
    rows, columns = np.indices(flat.shape)
    points = np.asarray(avoid, float).reshape(-1, 2)
    for column, row in points:
        apart = np.hypot((columns - column) * width, (rows - row) * height)
        good &= apart > distance - clearance
    free = distance_transform_edt(np.pad(good, 1), sampling=(height, width))[1:-1, 1:-1]
    places: list[tuple[float, float]] = []
    while len(places) < count:
        row, column = np.unravel_index(int(np.argmax(free)), free.shape)
        if free[row, column] < clearance:
            break
        places.append((float(column), float(row)))
        apart = np.hypot((columns - column) * width, (rows - row) * height)
        free = np.where(apart < 2.0 * clearance, 0.0, free)
    return np.array(places).reshape(-1, 2)
