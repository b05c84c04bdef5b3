"""What a microscope adds to an image: noise, offsets of lines, scratches, tilt.

Every function takes a generator and the shape of the image, and returns heights (m) to add, or
changes an image; the first axis is the slow one.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "flicker",
    "height_jumps",
    "line_offsets",
    "oscillation",
    "salt_and_pepper",
    "scratches",
    "tilt",
    "white",
]

Array = NDArray[np.float64]
Shape = tuple[int, int]


def white(rng: np.random.Generator, image: Array, sigma: float, shot: float) -> Array:
    """Noise (ny, nx) without memory, of a standard deviation (m) over the image.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    image : (ny, nx) array
        Heights (m); the counting noise grows with them.
    sigma : float
        Standard deviation (m) of the whole.
    shot : float
        Share of the variance that is counting (Poisson) noise, 0 to 1; the rest is Gaussian.
    """
    normal = rng.standard_normal(image.shape)
    span = float(np.ptp(image))
    if shot <= 0.0 or span == 0.0:
        return sigma * normal
    counts = 4.0 + 16.0 * (image - image.min()) / span
    counted = (rng.poisson(counts) - counts) / np.sqrt(counts.mean())
    return np.asarray(sigma * (np.sqrt(1.0 - shot) * normal + np.sqrt(shot) * counted))


def flicker(rng: np.random.Generator, shape: Shape, sigma: float) -> Array:
    """1/f noise (ny, nx) along the time in which the pixels are taken, of a given size (m)."""
    count = shape[0] * shape[1]
    frequency = np.fft.rfftfreq(count)
    spectrum = np.zeros(frequency.size, dtype=complex)
    phases = rng.uniform(0.0, 2.0 * np.pi, frequency.size - 1)
    spectrum[1:] = np.exp(1j * phases) / np.sqrt(frequency[1:])
    series = np.fft.irfft(spectrum, count)
    deviation = float(series.std())
    if deviation == 0.0:
        return np.zeros(shape)
    return np.asarray(sigma / deviation * series.reshape(shape))


def line_offsets(rng: np.random.Generator, shape: Shape, sigma: float, walk: float) -> Array:
    """Offsets (ny, 1) of lines (m): each of its own, and a random walk from line to line."""
    own = sigma * rng.standard_normal(shape[0])
    return np.asarray(own + np.cumsum(walk * rng.standard_normal(shape[0])))[:, None]


def height_jumps(rng: np.random.Generator, shape: Shape, number: int, size: float) -> Array:
    """Jumps (ny, nx) of the height (m) at random moments, after which it stays."""
    series = np.zeros(shape[0] * shape[1])
    for moment in rng.integers(0, series.size, number):
        series[moment:] += size * rng.standard_normal()
    return series.reshape(shape)


def scratches(rng: np.random.Generator, shape: Shape, number: int, size: float) -> Array:
    """Streaks (ny, nx) along the fast axis (m), where the tip dragged something or lost hold."""
    result = np.zeros(shape)
    for _ in range(number):
        row, begin = int(rng.integers(shape[0])), int(rng.integers(shape[1]))
        length = rng.uniform(3.0, 40.0)
        along = np.arange(shape[1] - begin)
        streak = rng.normal(0.0, size) * np.exp(-along / length)
        for line in range(row, min(row + int(rng.integers(1, 3)), shape[0])):
            result[line, begin:] += streak * rng.uniform(0.6, 1.0)
    return result


def salt_and_pepper(rng: np.random.Generator, image: Array, share: float, size: float) -> Array:
    """Image with a share of its pixels thrown off by `size` (m) or more, either way."""
    hit = rng.random(image.shape) < share
    throw = size * rng.choice([-1.0, 1.0], image.shape) * rng.uniform(1.0, 2.0, image.shape)
    return np.where(hit, image + throw, image)


def tilt(rng: np.random.Generator, shape: Shape, rise: float, bow: float) -> Array:
    """Plane and bow (ny, nx) of the scanner: up to `rise` and `bow` (m) over the image."""
    v = np.linspace(-0.5, 0.5, shape[0])[:, None]
    u = np.linspace(-0.5, 0.5, shape[1])[None, :]
    a, b = rise * rng.uniform(-1.0, 1.0, 2)
    c, d, e = bow * rng.uniform(-1.0, 1.0, 3)
    return np.asarray(a * u + b * v + c * u**2 + d * v**2 + e * u * v)


def oscillation(rng: np.random.Generator, shape: Shape, size: float) -> Array:
    """Feedback that oscillates: a wave (ny, nx) of amplitude `size` (m) along the fast axis."""
    period = rng.uniform(3.0, 9.0)
    drift = np.cumsum(rng.normal(0.0, 0.5, shape[0]))[:, None]
    phase = 2.0 * np.pi * np.arange(shape[1])[None, :] / period + drift
    swell = 1.0 + 0.5 * np.sin(2.0 * np.pi * rng.random() + phase / rng.uniform(15.0, 40.0))
    return np.asarray(size * swell * np.sin(phase))
