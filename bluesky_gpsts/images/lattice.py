"""The lattice of an image, from its Fourier transform."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_PAD = 4
_ROUNDS = 60
# How far the size of a wave has to be above the median of waves of its length; that of noise stays
# below four.
_PROMINENT = 6.0


def lattice_from_image(
    image: npt.ArrayLike, width: float, height: float, *, angle: float = 0.0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Find the two lattice vectors of a periodic image.

    The two strongest peaks of the Fourier transform that are not on one line, and that have at
    least two periods in the image, are taken as reciprocal vectors. Each is refined to the top of
    the windowed transform.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Any unit; row 0 is the bottom row.
    width, height : float
        Size of the image in metres.
    angle : float
        Rotation of the frame in degrees, positive clockwise; the vectors are then those in sample
        coordinates, as `bluesky_gpsts.surrogate.Lattice` takes them.

    Returns
    -------
    tuple of two tuples of float
        Lattice vectors ((ax, ay), (bx, by)) in metres.

    Raises
    ------
    ValueError
        If the image is not finite, smaller than 8 x 8 pixels, or has no two periods.
    """
    values = np.asarray(image, dtype=float)
    if values.ndim != 2 or min(values.shape) < 8 or not np.isfinite(values).all():
        raise ValueError(
            f"An image of shape {values.shape} has no lattice to be found; give a finite one of at "
            "least 8 x 8 pixels."
        )
    if not (np.isfinite([width, height, angle]).all() and width > 0 and height > 0):
        raise ValueError(f"The image is {width!r} x {height!r} m; give a size above zero.")
    ny, nx = values.shape
    column = (np.arange(nx) + 0.5) / nx - 0.5
    row = (np.arange(ny) + 0.5) / ny - 0.5
    # A slope would look like a long period.
    plane = np.column_stack([np.ones(values.size), np.tile(column, ny), np.repeat(row, nx)])
    flat = values.ravel() - plane @ np.linalg.lstsq(plane, values.ravel(), rcond=None)[0]
    windowed = flat.reshape(ny, nx) * np.outer(np.hanning(ny), np.hanning(nx))
    power = np.abs(np.fft.fft2(windowed, (_PAD * ny, _PAD * nx)))
    kx = np.fft.fftfreq(_PAD * nx) * nx
    ky = np.fft.fftfreq(_PAD * ny) * ny
    across_k, up_k = np.meshgrid(kx, ky)
    # A real image has every wave twice, with either sign.
    half = (up_k > 0) | ((up_k == 0) & (across_k > 0))
    allowed = half & (np.hypot(across_k, up_k) >= 2.0)
    prominence = power / _background(power, np.hypot(across_k, up_k))
    waves: list[FloatArray] = []
    for _ in range(2):
        if not (allowed.any() and prominence[allowed].max() > _PROMINENT):
            raise ValueError(
                "The image has no two periods in different directions; give a larger image, or "
                "the lattice vectors themselves."
            )
        # Of what stands out of its surroundings, the strongest.
        standing = allowed & (prominence > max(_PROMINENT, 0.3 * prominence[allowed].max()))
        place = np.argmax(np.where(standing, power, -1.0))
        i, j = np.unravel_index(place, power.shape)
        wave = _refine(windowed, column, row, np.array([kx[j], ky[i]]))
        waves.append(wave)
        # Its neighbours, its harmonics and what lies on its line are no second direction.
        across = np.abs(kx[None, :] * wave[1] - ky[:, None] * wave[0])
        allowed &= across / np.linalg.norm(wave) > max(1.5, 0.3 * np.linalg.norm(wave))
    reciprocal = np.array(waves) / (width, height)
    vectors = np.linalg.inv(reciprocal).T
    radians = np.radians(angle)
    cos, sin = np.cos(radians), np.sin(radians)
    turned = vectors @ np.array([[cos, -sin], [sin, cos]])
    (ax, ay), (bx, by) = turned.tolist()
    return (ax, ay), (bx, by)


def _background(power: FloatArray, waves: FloatArray) -> FloatArray:
    """Median of the transform's size at waves of about the same length; never zero.

    Defects, terraces and bending make long waves strong in all directions; a lattice stands out
    of its surroundings in a few.
    """
    ring = np.minimum(waves.astype(int), int(max(power.shape)))
    order = np.argsort(ring, axis=None, kind="stable")
    rings, first = np.unique(ring.ravel()[order], return_index=True)
    medians = np.array([np.median(part) for part in np.split(power.ravel()[order], first[1:])])
    floor = 1e-12 * float(power.max()) or 1.0
    return np.maximum(medians, floor)[np.searchsorted(rings, ring)]


def _refine(
    windowed: FloatArray, column: FloatArray, row: FloatArray, start: FloatArray
) -> FloatArray:
    """Climb to the top of the transform's size near a wave vector (periods per image)."""
    best = start
    step = 1.0 / _PAD

    def size(wave: FloatArray) -> float:
        along = np.exp(-2j * np.pi * wave[0] * column)
        up = np.exp(-2j * np.pi * wave[1] * row)
        return float(np.abs(up @ windowed @ along))

    top = size(best)
    for _ in range(_ROUNDS):
        moved = False
        for direction in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            other = best + step * np.array(direction)
            if np.abs(other - start).max() > 1.0:
                # The top of another, longer wave.
                continue
            value = size(other)
            if value > top:
                best, top, moved = other, value, True
        if not moved:
            step *= 0.5
            if step < 1e-4:
                break
    return best
