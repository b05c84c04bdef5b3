"""Variations of an image and its labels: noise, zoom, resize, flips."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment"]

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

_ZOOM, _SQUEEZE = 0.3, 0.1
_GAUSSIAN, _POISSON, _SALT = 0.25, 0.2, 0.01


def augment(
    image: Float32, labels: Bools, size: int, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Cut a square out of an image and its labels, and vary it.

    The square is zoomed by up to 30 %, its sides are resized by up to 10 % against each other, it
    is flipped in half of the cases along each side, and gets Gaussian, Poisson or salt-and-pepper
    noise.

    Parameters
    ----------
    image : (ny, nx) array
        Values of standard deviation 1.
    labels : (ny, nx) array of bool
        What each pixel is.
    size : int
        Side of the result (pixels).
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    image, labels : (size, size) arrays
        Labels are 0 or 1.
    """
    from scipy.ndimage import map_coordinates

    zoom = np.exp(rng.uniform(-_ZOOM, _ZOOM))
    squeeze = np.exp(rng.uniform(-_SQUEEZE, _SQUEEZE))
    places = []
    for limit, factor in zip(image.shape, (zoom * squeeze, zoom / squeeze), strict=True):
        step = min(factor, (limit - 1.0) / size)
        start = rng.uniform(0.0, max(0.0, limit - 1.0 - step * (size - 1)))
        line = start + step * np.arange(size)
        places.append(line[::-1] if rng.random() < 0.5 else line)
    rows, columns = np.meshgrid(*places, indexing="ij")
    part = map_coordinates(image, (rows, columns), order=1, mode="nearest")
    answer = labels[np.round(rows).astype(int), np.round(columns).astype(int)]
    part = _noise(np.asarray(part, np.float32), rng)
    return part, answer.astype(np.float32)


def _noise(image: Float32, rng: np.random.Generator) -> Float32:
    """Add one of three sorts of noise, or none."""
    sort = int(rng.integers(0, 4))
    noise = rng.standard_normal(image.shape)
    if sort == 1:
        noisy = image + rng.uniform(0.0, _GAUSSIAN) * noise
    elif sort == 2:
        noisy = image + rng.uniform(0.0, _POISSON) * np.sqrt(image - image.min()) * noise
    elif sort == 3:
        hit = rng.random(image.shape) < rng.uniform(0.0, _SALT)
        noisy = np.where(hit, np.copysign(3.0, noise), image)
    else:
        return image
    return np.asarray(noisy, np.float32)
