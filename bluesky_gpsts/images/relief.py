"""The relief of a surface that was read: heights against the dimers around, terrace by terrace."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.rowlattice import ALONG, ROWS
from bluesky_gpsts.images.surface import SurfaceReading
from bluesky_gpsts.images.terraces import level_plane

__all__ = ["Frame", "Relief", "frame_of", "relief_of"]

Array = NDArray[np.float64]

_AROUND = 1.3e-9
_BLOCKS = 3.0
_SHALLOW = np.radians(5.0)
_BETWEEN = 0.5
_CLEAR = 0.2
_FEWEST = 20


@dataclass(frozen=True, eq=False)
class Relief:
    """Heights of an image against the clean surface around, in units of its corrugation.

    Attributes
    ----------
    values : (ny, nx) array
        0 is the mean of the clean surface of the same terrace around, +1 is one corrugation (from
        the furrows between the rows up to the dimers) above it; NaN where not scanned.
    corrugation : float
        Unit of it, in the unit of the image.
    dimers : float
        Mean of `values` at dimers that no defect is near.
    """

    values: Array
    corrugation: float
    dimers: float


@dataclass(frozen=True, eq=False)
class Frame:
    """The frame of a terrace's lattice.

    Attributes
    ----------
    vectors : (2, 2) array
        From dimer to dimer along a row, and from row to row; x and y (pixels).
    known : bool
        Whether the lattice of this terrace was found; else it is that of the largest terrace
        that has one, turned by a right angle, or one of H-Si(100) along the lines.
    """

    vectors: Array
    known: bool


def frame_of(reading: SurfaceReading, terrace: int) -> Frame:
    """Frame (pixels) of a terrace, right-handed.

    Parameters
    ----------
    reading : SurfaceReading
        What was read of the image.
    terrace : int
        Number of the terrace.
    """
    size = np.array(reading.pixel)
    known = [t for t in reading.terrace_list if t.vectors is not None]
    own = next((t for t in known if t.number == terrace), None)
    if own is not None and own.vectors is not None:
        along, across = own.vectors / size
    elif known:
        other = max(known, key=lambda t: t.area)
        assert other.vectors is not None
        a, b = other.vectors
        along, across = 0.5 * b / size, 2.0 * a / size
    else:
        along, across = np.array([[ALONG, 0.0], [0.0, ROWS]]) / size
    if along[0] * across[1] - along[1] * across[0] < 0.0:
        across = -across
    return Frame(np.array([along, across]), own is not None)


def relief_of(image: ArrayLike, reading: SurfaceReading) -> Relief:
    """Heights against the clean surface around.

    Parameters
    ----------
    image : (ny, nx) array_like
        The image that was read: heights (m), or grey values.
    reading : SurfaceReading
        What was read of it.

    Returns
    -------
    Relief

    Raises
    ------
    ValueError
        If the image was refused, or is not of the reading's shape.
    """
    values = np.asarray(image, float)
    if values.ndim == 3:
        values = values[:, :, :3].mean(axis=2)
    if values.shape != reading.terraces.shape:
        raise ValueError(
            f"the image has shape {values.shape} and the reading {reading.terraces.shape}; give "
            "the image that was read"
        )
    if not reading.verdict.readable:
        raise ValueError(f"the image was not read: {reading.verdict.reason}; take it again")
    flat = level_plane(values)
    known = np.isfinite(flat)
    flat = np.where(known, flat, 0.0)
    # Grey values or metres: of the order of one, for the sake of rounding.
    unit = float(np.std(flat[known])) or 1.0
    flat /= unit
    clean = known & (reading.defect_probability < _CLEAR) & ~reading.steps
    if clean.sum() < _FEWEST:
        clean = known
    flat = flat - _background(flat, clean, reading)
    if _rows_cross_lines(reading):
        flat = flat - _line_offsets(flat, clean)
    # What a step or a large defect pulled along is gone the second time.
    flat = flat - _background(flat, clean, reading)
    corrugation, dimers = _corrugation(flat, clean, reading)
    result = np.where(known, flat / corrugation, np.nan)
    return Relief(result, corrugation * unit, dimers / corrugation)


def _background(flat: Array, clean: NDArray[np.bool_], reading: SurfaceReading) -> Array:
    """Mean height of what is clean around, of the same terrace."""
    result = np.zeros(flat.shape)
    for terrace in reading.terrace_list:
        own = reading.terraces == terrace.number
        use = own & clean
        weight = _around(use.astype(float), reading.pixel)
        total = _around(np.where(use, flat, 0.0), reading.pixel)
        middle = float(flat[use].mean()) if use.any() else 0.0
        # Where nothing is clean around, the terrace as a whole counts.
        result[own] = ((total + 1e-3 * middle) / (weight + 1e-3))[own]
    return result


def _around(values: Array, pixel: tuple[float, float]) -> Array:
    """Gaussian mean of what is around; 0 beyond the edge. From blocks, as it changes slowly."""
    from scipy.ndimage import gaussian_filter

    sigma = np.array([_AROUND / pixel[1], _AROUND / pixel[0]])
    block = np.maximum(1, np.floor(sigma / _BLOCKS)).astype(int)
    ny, nx = values.shape
    coarse = np.pad(values, [(0, -ny % block[0]), (0, -nx % block[1])])
    coarse = sum(coarse[k :: block[0]] for k in range(block[0])) / block[0]
    coarse = sum(coarse[:, k :: block[1]] for k in range(block[1])) / block[1]
    coarse = gaussian_filter(coarse, sigma / block, truncate=3.0, mode="constant")
    for axis, (size, step) in enumerate(zip((ny, nx), block, strict=True)):
        place = np.clip((np.arange(size) - 0.5 * (step - 1)) / step, 0.0, coarse.shape[axis] - 1.0)
        low = np.minimum(place.astype(int), max(0, coarse.shape[axis] - 2))
        share = np.expand_dims(place - low, 1 - axis)
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        coarse = (1.0 - share) * coarse.take(low, axis) + share * coarse.take(high, axis)
    return np.asarray(coarse)


def _rows_cross_lines(reading: SurfaceReading) -> bool:
    """Whether no rows run along the lines of the scan: then a line has one mean, whatever it is."""
    angles = [t.direction for t in reading.terrace_list if t.vectors is not None]
    return bool(angles) and all(abs(np.sin(angle)) > np.sin(_SHALLOW) for angle in angles)


def _line_offsets(flat: Array, clean: NDArray[np.bool_]) -> Array:
    """Median (ny, 1) of what is clean on each line; 0 for lines of which little is."""
    part = np.where(clean, flat, np.nan)
    enough = clean.sum(axis=1) >= _FEWEST
    offsets = np.zeros(flat.shape[0])
    if enough.any():
        offsets[enough] = np.nanmedian(part[enough], axis=1)
    return np.asarray(offsets[:, None])


def _corrugation(
    flat: Array, clean: NDArray[np.bool_], reading: SurfaceReading
) -> tuple[float, float]:
    """Height of dimers above the furrows between rows, and of dimers above the mean."""
    from scipy.ndimage import map_coordinates

    tops: list[Array] = []
    furrows: list[Array] = []
    for terrace in reading.terrace_list:
        own = reading.occupied & reading.on_lattice & (reading.site_terrace == terrace.number)
        if terrace.vectors is None or not own.any():
            continue
        across = frame_of(reading, terrace.number).vectors[1]
        for shift, found in ((0.0, tops), (_BETWEEN, furrows)):
            places = reading.sites[own] + shift * across
            column, row = places.T
            good = map_coordinates(clean.astype(float), (row, column), order=0, cval=0.0) > 0.5
            found.append(map_coordinates(flat, (row, column), order=1, mode="nearest")[good])
    top = np.concatenate([np.zeros(0), *tops])
    furrow = np.concatenate([np.zeros(0), *furrows])
    spread = float(np.std(flat[clean])) or 1.0
    if top.size < _FEWEST or furrow.size < _FEWEST:
        return spread, 0.0
    difference = float(np.median(top) - np.median(furrow))
    # Rows that hardly show are not made to tower.
    return max(difference, 0.3 * spread), float(np.median(top))
