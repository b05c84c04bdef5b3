"""The centre of a defect in a topograph."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BLUR = 0.04
_SHARE = 0.5
# Fractions of the smaller side: how far a centre of symmetry is looked for, in what steps, over
# what radius it is judged, and how much the image is smoothed for that.
_REACH, _STEP, _RADIUS, _SMOOTH = 0.08, 0.01, 0.2, 0.012


def find_center(topograph: npt.ArrayLike, order: int = 1) -> tuple[float, float]:
    """Find the centre of the most conspicuous feature, bright or dark.

    The image is levelled, smoothed and compared with its median; the centre is that of gravity of
    the connected pixels around the largest deviation that deviate by at least half as much. With a
    rotational symmetry the point near by is taken about which the turned images agree best.

    Parameters
    ----------
    topograph : array_like, shape (ny, nx)
        Any unit; row 0 is the bottom row.
    order : int
        Order of the rotational symmetry, 3 for C3; 1 for none.

    Returns
    -------
    u, v : float
        Position in fractions of the frame along its own axes, -0.5 to 0.5, 0 at its centre; times
        width and height it goes into `Grid.to_sample`.

    Raises
    ------
    ValueError
        If the image is not finite, smaller than 8 x 8 pixels, or flat.
    """
    from scipy.ndimage import gaussian_filter, label

    values = np.asarray(topograph, dtype=float)
    if values.ndim != 2 or min(values.shape) < 8 or not np.isfinite(values).all():
        raise ValueError(
            f"A topograph of shape {values.shape} has no centre to be found; give a finite one of "
            "at least 8 x 8 pixels."
        )
    ny, nx = values.shape
    column = (np.arange(nx) + 0.5) / nx - 0.5
    row = (np.arange(ny) + 0.5) / ny - 0.5
    plane = np.column_stack([np.ones(values.size), np.tile(column, ny), np.repeat(row, nx)])
    # The feature itself must not tilt the plane, so what deviates most is left out at the end.
    keep = np.ones(values.size, dtype=bool)
    for _ in range(3):
        fitted = np.linalg.lstsq(plane[keep], values.ravel()[keep], rcond=None)[0]
        flat = values.ravel() - plane @ fitted
        keep = np.abs(flat - np.median(flat)) <= 2.5 * np.median(np.abs(flat - np.median(flat)))
        if keep.sum() < 3:
            break
    smooth = gaussian_filter(flat.reshape(ny, nx), _BLUR * min(ny, nx), mode="nearest")
    deviation = np.abs(smooth - np.median(smooth))
    top = float(deviation.max())
    if not top > 1e-9 * max(float(np.abs(values).max()), np.finfo(float).tiny):
        raise ValueError("The topograph is flat, so it has no centre; give the centre itself.")
    groups, _ = label(deviation >= _SHARE * top)
    chosen = groups == groups.ravel()[int(np.argmax(deviation))]
    weights = np.where(chosen, deviation, 0.0)
    weights /= weights.sum()
    u, v = float(weights.sum(axis=0) @ column), float(weights.sum(axis=1) @ row)
    if order == 1:
        return u, v
    x, y = _most_symmetric(
        flat.reshape(ny, nx), ((u + 0.5) * nx - 0.5, (v + 0.5) * ny - 0.5), order
    )
    return (x + 0.5) / nx - 0.5, (y + 0.5) / ny - 0.5


def _most_symmetric(
    image: FloatArray, start: tuple[float, float], order: int
) -> tuple[float, float]:
    """Point (column, row) near `start` about which the image, turned, is most like itself."""
    from scipy.ndimage import gaussian_filter, map_coordinates
    from scipy.optimize import minimize

    size = min(image.shape)
    smooth = gaussian_filter(image, _SMOOTH * size, mode="nearest")
    radius = max(3.0, _RADIUS * size)
    reach = np.arange(-int(radius), int(radius) + 1)
    away = np.array(np.meshgrid(reach, reach)).reshape(2, -1)
    away = away[:, np.hypot(*away) <= radius]
    weight = np.exp(-2.0 * np.sum(away**2, axis=0) / radius**2)
    weight /= weight.sum()
    turns = []
    for angle in 2.0 * np.pi * np.arange(order) / order:
        cos, sin = np.cos(angle), np.sin(angle)
        turns.append(np.array([[cos, -sin], [sin, cos]]) @ away)

    def unlike(center: FloatArray) -> float:
        """Share of the variance that the symmetry does not explain."""
        views = np.array(
            [
                map_coordinates(smooth, turned[::-1] + center[::-1, None], order=1, mode="nearest")
                for turned in turns
            ]
        )
        common = views.mean(axis=0)
        within = float(((views - common) ** 2).mean(axis=0) @ weight)
        between = float((common - common @ weight) ** 2 @ weight)
        return within / (within + between) if within + between > 0.0 else 1.0

    steps = np.arange(-_REACH, _REACH + 0.5 * _STEP, _STEP) * size
    tried = [np.array(start) + (a, b) for a in steps for b in steps]
    best = tried[int(np.argmin([unlike(center) for center in tried]))]
    found = minimize(unlike, best, method="Nelder-Mead", options={"xatol": 0.02, "fatol": 1e-6}).x
    return float(found[0]), float(found[1])
