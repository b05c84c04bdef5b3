"""Pixel sizes under which an image shows the lattice of H-Si(100)."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.prepare import level
from bluesky_gpsts.images.rowlattice import ALONG, ROWS

__all__ = ["pixel_candidates"]

Array = NDArray[np.float64]

_SIZES = (0.02e-9, 0.19e-9)
_STEP, _APART = 0.01, 0.06
_ANGLES = 180
_SIDE, _AROUND = 512, 15
_SOFT, _FEWEST, _LINES = 3.0, 3.0, 2.0
_LEAST = 2.0


def pixel_candidates(image: NDArray[np.float32], count: int = 3) -> list[float]:
    """Find pixel sizes (m) for which the Fourier transform has the lattice's peaks.

    For every pixel size and direction of rows the transform is looked up where the rows and the
    dimers along them would show; it is compared with its mean over all directions.

    Parameters
    ----------
    image : (ny, nx) array
        From `bluesky_gpsts.images.prepare.check_image`.
    count : int
        How many to give at most.

    Returns
    -------
    list of float
        The likeliest first; empty if nothing stands out.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

    known = np.isfinite(image)
    flat = level(image[:_SIDE, :_SIDE], bool(known[:_SIDE, :_SIDE].all()))
    relief = flat - uniform_filter(flat, _AROUND)
    usual = 1.4826 * float(np.median(np.abs(relief)))
    if usual <= 0.0:
        return []
    relief = relief / usual
    relief = np.where(known[:_SIDE, :_SIDE], relief / (1.0 + np.abs(relief) / _SOFT), 0.0)
    ny, nx = relief.shape
    window = np.outer(np.hanning(ny), np.hanning(nx))
    side = 2 * max(ny, nx)
    power = np.fft.fftshift(np.abs(np.fft.fft2(relief * window, (side, side))) ** 2)
    strength = np.log(gaussian_filter(power, 0.7) + 1e-9 * power.max())
    # Noise between lines has power at waves across the lines, in every image.
    middle = side // 2
    wave = np.arange(side) - middle
    beside = np.abs(wave)[None, :] * np.ones((side, 1)) < _LINES * side / nx
    radius = np.hypot(wave[None, :], wave[:, None]).astype(int)
    counted = ~beside
    total = np.bincount(radius[counted], strength[counted])
    number = np.bincount(radius[counted])
    ring = total / np.maximum(number, 1)
    above = strength - ring[np.minimum(radius, ring.size - 1)]
    above[beside] = 0.0
    above = np.clip(above, 0.0, 8.0)

    sizes = np.exp(np.arange(np.log(_SIZES[0]), np.log(_SIZES[1]), _STEP))
    angle = np.arange(_ANGLES) * (np.pi / _ANGLES)
    score = np.zeros((sizes.size, _ANGLES))
    for period, turn in ((ALONG, 0.0), (ROWS, 0.5 * np.pi)):
        wanted = sizes[:, None] * side / period
        x, y = wanted * np.cos(angle + turn), wanted * np.sin(angle + turn)
        found = map_coordinates(above, (middle + y, middle + x), order=1)
        # A period of which the image holds few tells nothing.
        score += np.where(wanted > 2.0 * _FEWEST, found, 0.0)
    best = score.max(axis=1)
    result: list[float] = []
    for index in np.argsort(-best):
        size = float(sizes[index])
        if best[index] < _LEAST or len(result) == count:
            break
        if all(abs(np.log(size / other)) > _APART for other in result):
            result.append(size)
    return result
