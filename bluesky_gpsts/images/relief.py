"""The relief of a surface that was read: heights against the dimers around, terrace by terrace."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.prepare import check_image, level, line_medians, plain_image
from bluesky_gpsts.images.rowlattice import ALONG, ROWS
from bluesky_gpsts.images.surface import SurfaceReading

__all__ = ["Frame", "Relief", "frame_of", "relief_of"]

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

_AROUND = 1.3e-9
_PER_BLOCK = 3.0
_SHALLOW = np.radians(5.0)
_BETWEEN = 0.5
_CLEAR = 0.2
_FEWEST = 20
_SOME = 500


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
    values = np.asarray(plain_image(image), float)
    if values.ndim == 3:
        values = values[:, :, :3].mean(axis=2)
    if values.shape != reading.terraces.shape:
        raise ValueError(
            f"the image has shape {values.shape} and the reading {reading.terraces.shape}; give "
            "the image that was read"
        )
    if not reading.verdict.readable:
        raise ValueError(f"the image was not read: {reading.verdict.reason}; take it again")
    known = np.isfinite(values)
    unit = float(np.ptp(values[known])) or 1.0
    flat = level(check_image(values), bool(known.all()))
    clean = known & (reading.defect_probability < _CLEAR) & ~reading.steps
    if clean.sum() < _FEWEST:
        clean = known
    pools = _pools(clean, reading)
    flat = flat - _background(flat, pools, reading)
    if _rows_cross_lines(reading):
        flat = flat - _line_offsets(flat, clean)
    # What a step or a large defect pulled along is gone the second time.
    flat = flat - _background(flat, pools, reading)
    corrugation, dimers = _corrugation(flat, clean, reading)
    result = np.where(known, flat / corrugation, np.nan)
    return Relief(result, corrugation * unit, dimers / corrugation)


@dataclass(frozen=True, eq=False)
class _Pool:
    """The clean surface of a terrace: its pixels, and how much of it is around (coarse)."""

    own: Bools
    use: Bools
    weight: Float32


def _pools(clean: Bools, reading: SurfaceReading) -> list[_Pool]:
    pools = []
    for terrace in reading.terrace_list:
        own = reading.terraces == terrace.number
        use = own & clean
        pools.append(_Pool(own, use, _around(use.astype(np.float32), reading.pixel)))
    return pools


def _background(flat: Float32, pools: list[_Pool], reading: SurfaceReading) -> Float32:
    """Mean height of what is clean around, of the same terrace."""
    import torch
    from torch.nn.functional import interpolate

    result = np.zeros(flat.shape, np.float32)
    for pool in pools:
        total = _around(flat * pool.use, reading.pixel)
        middle = float(flat[pool.use].mean()) if pool.use.any() else 0.0
        # Where nothing is clean around, the terrace as a whole counts.
        coarse = (total + 1e-3 * middle) / (pool.weight + 1e-3)
        size = [n * step for n, step in zip(coarse.shape, _blocks(reading.pixel), strict=True)]
        fine = interpolate(torch.from_numpy(coarse)[None, None], size, mode="bilinear")[0, 0]
        np.copyto(result, fine.numpy()[: flat.shape[0], : flat.shape[1]], where=pool.own)
    return result


def _blocks(pixel: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of a block: what is around changes slowly."""
    high, wide = (max(1, int(_AROUND / (_PER_BLOCK * size))) for size in pixel[::-1])
    return high, wide


def _around(values: Float32, pixel: tuple[float, float]) -> Float32:
    """Gaussian mean of what is around each block; 0 beyond the edge."""
    from scipy.ndimage import gaussian_filter

    (high, wide), (ny, nx) = _blocks(pixel), values.shape
    part = np.zeros((ny + -ny % high, nx + -nx % wide), np.float32)
    part[:ny, :nx] = values
    part = np.add.reduce([part[k::high] for k in range(high)]) / high
    part = np.add.reduce([part[:, k::wide] for k in range(wide)]) / wide
    sigma = _AROUND / (pixel[1] * high), _AROUND / (pixel[0] * wide)
    return np.asarray(gaussian_filter(part, sigma, truncate=3.0, mode="constant"), np.float32)


def _rows_cross_lines(reading: SurfaceReading) -> bool:
    """Whether no rows run along the lines of the scan: then a line has one mean, whatever it is."""
    angles = [t.direction for t in reading.terrace_list if t.vectors is not None]
    return bool(angles) and all(abs(np.sin(angle)) > np.sin(_SHALLOW) for angle in angles)


def _line_offsets(flat: Float32, clean: Bools) -> Float32:
    """Median (ny, 1) of what is clean on each line; 0 for lines of which little is."""
    enough = clean.sum(axis=1) >= _FEWEST
    return np.where(enough, line_medians(flat, clean), np.float32(0.0))[:, None]


def _corrugation(flat: Float32, clean: Bools, reading: SurfaceReading) -> tuple[float, float]:
    """Height of dimers above the furrows between rows, and of dimers above the mean."""
    from scipy.ndimage import map_coordinates

    tops: list[Array] = []
    furrows: list[Array] = []
    for terrace in reading.terrace_list:
        own = reading.occupied & reading.on_lattice & (reading.site_terrace == terrace.number)
        if terrace.vectors is None or not own.any():
            continue
        across = frame_of(reading, terrace.number).vectors[1]
        # Some hundreds tell a median well enough.
        some = np.flatnonzero(own)[:: max(1, int(own.sum()) // _SOME)]
        for shift, found in ((0.0, tops), (_BETWEEN, furrows)):
            places = reading.sites[some] + shift * across
            near = np.round(places).astype(int)
            inside = np.all((near >= 0) & (near < flat.shape[::-1]), axis=1)
            inside[inside] = clean[near[inside, 1], near[inside, 0]]
            column, row = places[inside].T
            found.append(map_coordinates(flat, (row, column), order=1, mode="nearest"))
    top = np.concatenate([np.zeros(0), *tops])
    furrow = np.concatenate([np.zeros(0), *furrows])
    spread = float(np.std(flat[clean])) or 1.0
    if top.size < _FEWEST or furrow.size < _FEWEST:
        return spread, 0.0
    difference = float(np.median(top) - np.median(furrow))
    # Rows that hardly show are not made to tower.
    return max(difference, 0.3 * spread), float(np.median(top))
