"""The mean picture of a unit cell, laid out over an image along the phases of its waves."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.periods import Cell

__all__ = ["cell_phases", "cell_picture", "lay_out"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BINS = 40
_PHASE = 2.5
_BLOCKS = 6.0


def cell_phases(relief: Array, cell: Cell, weight: Bools, period: float) -> Array:
    """Place of every pixel in the unit cell (2, ny, nx), in periods, with the bends of the image.

    Every strong wave is demodulated; of what it is off, the two displacements that explain all of
    them best are taken.
    """
    ny, nx = relief.shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    usual = 1.4826 * float(np.median(np.abs(relief[weight]))) or 1.0
    soft = np.where(weight, relief / usual, 0.0)
    soft = soft / (1.0 + np.abs(soft) / 2.5)
    ideal = np.tensordot(cell.waves, np.stack([x, y]), 1)
    orders = _strong(cell)
    sigma = max(_PHASE * period, 0.06 * min(ny, nx))
    shifts, amounts = [], []
    for order in orders:
        wave = np.exp(-2j * np.pi * np.tensordot(order, ideal, 1))
        part = _blurred((soft * wave).real, sigma) + 1j * _blurred((soft * wave).imag, sigma)
        centre = np.sum(part)
        centre = centre / abs(centre) if abs(centre) > 0.0 else 1.0
        # Against the mean: with many waves, each has its own phase within the cell.
        shifts.append(np.angle(part / centre))
        amounts.append(np.abs(part))
    if cell.symmetry == "rows":
        bend = np.stack([np.zeros((ny, nx)), shifts[0] / (2.0 * np.pi)])
        return np.asarray(ideal + bend)
    design = orders.astype(float)
    amount = np.stack(amounts)
    normal = np.einsum("kyx,ki,kj->yxij", amount, design, design)
    right = np.einsum("kyx,ki,kyx->yxi", amount, design, np.stack(shifts) / (2.0 * np.pi))
    normal += 1e-9 * (np.trace(normal, axis1=2, axis2=3)[..., None, None] + 1e-30) * np.eye(2)
    bend = np.linalg.solve(normal, right[..., None])[..., 0]
    return np.asarray(ideal + np.moveaxis(bend, -1, 0))


def _blurred(values: Array, sigma: float) -> Array:
    """Gaussian mean over many pixels, worked out on blocks that are small beside its width."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    size = max(1, int(sigma / _BLOCKS))
    if size == 1:
        return np.asarray(gaussian_filter(values, sigma, truncate=2.5))
    ny, nx = values.shape
    rows, columns = -(-ny // size), -(-nx // size)
    padded = np.zeros((rows * size, columns * size))
    padded[:ny, :nx] = values
    blocks = padded.reshape(rows, size, columns, size).mean(axis=(1, 3))
    coarse = gaussian_filter(blocks, sigma / size, truncate=2.5)
    at = np.meshgrid(*((np.arange(n) + 0.5) / size - 0.5 for n in (ny, nx)), indexing="ij")
    return np.asarray(map_coordinates(coarse, at, order=1, mode="nearest"))


def _strong(cell: Cell) -> NDArray[np.int64]:
    """The strongest waves (K, 2) that span both directions."""
    if cell.symmetry == "rows":
        return np.array([[0, 1]])
    chosen = cell.orders[:3]
    for more in range(4, len(cell.orders) + 1):
        if np.linalg.matrix_rank(chosen) == 2:
            break
        chosen = cell.orders[:more]
    return chosen if np.linalg.matrix_rank(chosen) == 2 else np.array([[1, 0], [0, 1]])


def cell_picture(relief: Array, phases: Array, weight: Bools, cell: Cell) -> Array:
    """Mean picture (bins, bins) of the unit cell, second index along the first vector."""
    from scipy.ndimage import gaussian_filter

    # No more bins than the pixels of the image tell apart.
    longest = float(np.hypot(*cell.vectors.T).max())
    bins = int(np.clip(round(2.0 * longest), 8, 4 * _BINS))
    place = (np.floor((phases % 1.0) * bins).astype(np.int64)) % bins
    if cell.symmetry == "rows":
        place[0] = 0
    flat = (place[1] * bins + place[0])[weight]
    usual = 1.4826 * float(np.median(np.abs(relief[weight]))) or 1.0
    limited = np.clip(relief[weight], -4.0 * usual, 4.0 * usual)
    total = np.bincount(flat, limited, bins * bins).reshape(bins, bins)
    count = np.bincount(flat, minlength=bins * bins).reshape(bins, bins).astype(float)
    if cell.symmetry == "rows":
        total, count = (np.repeat(part[:, :1], bins, axis=1) for part in (total, count))
    smooth = [gaussian_filter(part, 0.6, mode="wrap") for part in (total, count)]
    return np.asarray(smooth[0] / np.maximum(smooth[1], 1e-6))


def lay_out(picture: Array, phases: Array) -> Array:
    """Lay the picture of the cell out over the image."""
    from scipy.ndimage import map_coordinates

    bins = picture.shape[0]
    at = (phases[::-1] % 1.0) * bins - 0.5
    return np.asarray(map_coordinates(picture, at, order=1, mode="grid-wrap"))
