"""Two images ready to be compared: their transforms, and the coarse peaks of their correlation."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.plane import level_lines

__all__ = ["Grid", "Spectra", "coarse_peaks", "common_filter", "edge", "moved", "phase", "spectra"]

FloatArray = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]

_TAPER = 0.12
_LOWPASS = 1.5
_RINGS = 48


@dataclass(frozen=True, eq=False)
class Grid:
    """What all images of one shape share: windows and wave vectors.

    Parameters
    ----------
    shape : (ny, nx)
        Pixels.
    row, column : (ny, 1), (1, nx // 2 + 1) array
        Wave vectors (cycles per pixel).
    window, inside : (ny, nx) array
        Taper, and where it leaves the image as it is.
    power : float
        Sum of the squared taper.
    ring : (ny * (nx // 2 + 1),) array of int
        Ring of each wave vector, by its length.
    place : (ny, nx // 2 + 1) array
        The same as a number between the middles of the rings.
    counts : (rings,) array
        Wave vectors in each ring, smoothed over three; without those along the lines.
    """

    shape: tuple[int, int]
    row: FloatArray
    column: FloatArray
    window: FloatArray
    inside: FloatArray
    power: float
    ring: NDArray[np.intp]
    place: FloatArray
    counts: FloatArray


@lru_cache(maxsize=8)
def _grid(ny: int, nx: int) -> Grid:
    row, column = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None, :]
    window = np.outer(_tukey(ny), _tukey(nx))
    place = np.hypot(row, column) * (2 * _RINGS)
    ring = np.minimum(place.astype(np.intp), _RINGS - 1)
    counts = np.maximum(_three(np.bincount(ring[:, 2:].ravel(), minlength=_RINGS)), 1.0)
    return Grid(
        (ny, nx),
        row,
        column,
        window.astype(np.float32),
        np.outer(_inside(ny), _inside(nx)).astype(np.float32),
        float(np.sum(window**2)),
        ring[:, 2:].ravel(),
        np.clip(place - 0.5, 0.0, _RINGS - 1.0),
        counts,
    )


def _three(sums: NDArray[np.float64] | NDArray[np.intp]) -> FloatArray:
    """Weighted sums of three neighbouring rings."""
    padded = np.concatenate([sums[:1], sums, sums[-1:]])
    return np.asarray(padded[:-2] + 2.0 * padded[1:-1] + padded[2:])


@dataclass(frozen=True, eq=False)
class Spectra:
    """Two levelled images of one shape, and their Fourier transforms.

    Parameters
    ----------
    a, b : (ny, nx // 2 + 1) array
        Transforms of the tapered reference and image, each of standard deviation about 1.
    weight_a, weight_b : (ny, nx) array
        How much each pixel counts, 0 to 1; 0 where unknown and near the edges.
    noise_a, noise_b : float
        Variance of the white noise of the levelled images.
    signal : float
        Share of the variance within the lines that is not white noise, of the poorer image.
    grid : Grid
        What belongs to the shape.
    """

    a: ComplexArray
    b: ComplexArray
    weight_a: FloatArray
    weight_b: FloatArray
    noise_a: float
    noise_b: float
    signal: float
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels."""
        return self.grid.shape


def spectra(reference: FloatArray, image: FloatArray) -> Spectra:
    """Level, clip and taper both images and transform them.

    Parameters
    ----------
    reference, image : (ny, nx) array
        Any unit, NaN where unknown.

    Returns
    -------
    Spectra
        The transforms.
    """
    from scipy.fft import rfft2

    transforms, weights, within = [], [], []
    grid = _grid(*reference.shape)
    for heights in (reference, image):
        flat, good = level_lines(heights)
        count = np.count_nonzero(good, axis=1)
        lines = np.einsum("ij->i", flat) / np.maximum(count, 1)
        within.append(float(np.vdot(flat, flat) - count @ lines**2) / good.size)
        transforms.append(rfft2(flat * grid.window))
        weights.append(grid.inside * good)
    ny = reference.shape[0]
    # The median of an exponential distribution is ln 2 of its mean.
    noise = [
        float(np.median(np.abs(plane[round(0.4 * ny) : round(0.6 * ny)]) ** 2))
        / (np.log(2.0) * grid.power)
        for plane in transforms
    ]
    signal = min(
        1.0 - level / max(power, 1e-30) for level, power in zip(noise, within, strict=True)
    )
    (a, b), (first, second) = transforms, weights
    return Spectra(a, b, first, second, noise[0], noise[1], signal, grid)


def coarse_peaks(pair: Spectra, max_shift: int, count: int) -> list[tuple[int, int, float]]:
    """Highest peaks of the half-whitened cross-correlation.

    The waves that do not change along a line are left out, for they hold the line jumps.

    Parameters
    ----------
    pair : Spectra
        The two images.
    max_shift : int
        Largest shift along either axis (pixels).
    count : int
        Largest number of peaks.

    Returns
    -------
    list of (dx, dy, height)
        Whole pixels, highest first.
    """
    from scipy.fft import irfft2
    from scipy.ndimage import maximum_filter

    ny, nx = pair.shape
    cross = pair.b * np.conj(pair.a)
    size = np.abs(cross)
    floor = (
        pair.grid.power * np.sqrt(pair.noise_a * pair.noise_b) + 1e-7 * float(size.max()) + 1e-30
    )
    scale = -2.0 * (np.pi * _LOWPASS) ** 2
    across = np.exp(scale * pair.grid.column**2).astype(np.float32)
    across[:, :2] = 0.0
    lowpass = np.exp(scale * pair.grid.row**2).astype(np.float32) * across
    surface = irfft2(cross * (lowpass / np.sqrt(size + np.float32(floor))), s=(ny, nx))
    ry, rx = min(max_shift, ny // 2 - 1), min(max_shift, nx // 2 - 1)
    near = np.roll(surface, (ry, rx), axis=(0, 1))[: 2 * ry + 1, : 2 * rx + 1]
    # A large shift leaves less of the two images in common.
    near = near / np.outer(_overlap(ny, ry), _overlap(nx, rx))
    top = (maximum_filter(near, 5, mode="constant", cval=-np.inf) == near) & (near > 0.0)
    rows, columns = np.nonzero(top)
    heights = near[rows, columns]
    order = np.argsort(-heights, kind="stable")[:count]
    return [(int(columns[i]) - rx, int(rows[i]) - ry, float(heights[i])) for i in order]


def common_filter(pair: Spectra, place: FloatArray) -> FloatArray:
    """Weight of each wave vector, from the coherence of the images in rings."""
    grid = pair.grid

    def sums(plane: FloatArray) -> FloatArray:
        # The line offsets, which both images have, are no common structure.
        return _three(np.bincount(grid.ring, plane[:, 2:].ravel(), _RINGS))

    cross = sums((pair.b * phase(pair, place) * np.conj(pair.a)).real)
    own = [sums(plane.real**2 + plane.imag**2) for plane in (pair.a, pair.b)]
    both = np.sqrt(own[0] * own[1]) + 1e-30
    # What chance alone gives in a ring is no coherence.
    chance = np.minimum(1.5 / np.sqrt(grid.counts), 0.5)
    coherence = np.clip((cross / both - chance) / (1.0 - chance), 1e-9, 0.99999)
    power = both / grid.counts
    gain = np.sqrt(coherence / (1.0 - coherence**2) / (power + 1e-9 * float(power.max()) + 1e-30))
    values = np.interp(grid.place, np.arange(_RINGS), gain / gain.max())
    return np.asarray(values, dtype=np.float32)


def phase(pair: Spectra, place: FloatArray) -> ComplexArray:
    """Factor that moves the image back by a shift."""
    up = np.exp(2j * np.pi * place[1] * pair.grid.row).astype(np.complex64)
    return up * np.exp(2j * np.pi * place[0] * pair.grid.column).astype(np.complex64)


def moved(weight: FloatArray, place: FloatArray) -> FloatArray:
    """Weights of the image on the reference's pixels; 0 where it has none."""
    dx, dy = (round(float(value)) for value in place)
    ny, nx = weight.shape
    there = np.zeros_like(weight)
    there[max(0, -dy) : ny - max(0, dy), max(0, -dx) : nx - max(0, dx)] = weight[
        max(0, dy) : ny - max(0, -dy), max(0, dx) : nx - max(0, -dx)
    ]
    return there


def edge(n: int) -> int:
    """Pixels at either end of an axis that the taper changes."""
    return max(1, round(_TAPER * n / 2))


@lru_cache(maxsize=16)
def _tukey(n: int) -> FloatArray:
    """Tukey's window: a cosine over the edges, 1 between them."""
    width = _TAPER * (n - 1) / 2.0
    distance = np.minimum(np.arange(n), np.arange(n)[::-1])
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.minimum(distance / width, 1.0)))


def _inside(n: int) -> FloatArray:
    """1 where the taper leaves the image as it is, and a soft edge."""
    margin = edge(n)
    distance = np.minimum(np.arange(n), np.arange(n)[::-1]) - margin
    return np.asarray(np.clip(distance / margin, 0.0, 1.0))


@lru_cache(maxsize=16)
def _overlap(n: int, reach: int) -> FloatArray:
    """Share of the tapered axis that is left at each shift from -reach to reach."""
    window = _tukey(n)
    full = np.correlate(window, window, "full")
    return np.asarray(full[n - 1 - reach : n + reach] / full[n - 1])
