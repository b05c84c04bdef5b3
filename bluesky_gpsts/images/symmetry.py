"""The centre of a defect in a topograph."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BLUR = 0.04
_SHARE = 0.5


def find_center(topograph: npt.ArrayLike) -> tuple[float, float]:
    """Find the centre of the most conspicuous feature, bright or dark.

    The image is levelled, smoothed and compared with its median; the centre is that of gravity of
    the connected pixels around the largest deviation that deviate by at least half as much.

    Parameters
    ----------
    topograph : array_like, shape (ny, nx)
        Any unit; row 0 is the bottom row.

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
    return float(weights.sum(axis=0) @ column), float(weights.sum(axis=1) @ row)
