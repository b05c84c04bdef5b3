"""Where in an image the tip changed, from what two images have in common line by line."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["change"]

FloatArray = NDArray[np.floating]

_LEAST_PART = 0.15
_CHANGE = 25.0
_UNLIKE = 0.1


def change(
    difference: FloatArray,
    gradient: list[FloatArray],
    both: FloatArray,
    weight: FloatArray,
    band: float,
    noise: float,
) -> slice | None:
    """Lines on the worse side of a change of the tip; None where there is none.

    Likelihood ratio of two parts, each with a shift and a scatter of its own, against one. Sums
    over lines give the fit of every part at once.

    Parameters
    ----------
    difference : (ny, nx) array
        Difference of the images.
    gradient : list of two (ny, nx) arrays
        Gradients of one of them, each line with mean zero.
    both : (ny, nx) array
        Their mean.
    weight : (ny, nx) array
        Weights.
    band : float
        Share of the pixels that are independent after the filter.
    noise : float
        Mean square of the white noise of the difference.

    Returns
    -------
    slice or None
        From the change to the last line, or from the first one to the change.
    """
    gx, gy = gradient
    weighted = difference * weight
    wx, wy = gx * weight, gy * weight
    pairs = [(weighted, difference), (weighted, gx), (weighted, gy), (wx, gx), (wx, gy), (wy, gy)]
    pairs.append((both * weight, both))
    sums = [np.einsum("ij,ij->i", p, q) for p, q in pairs] + [np.einsum("ij->i", weight)]
    above = np.cumsum(np.array(sums, dtype=float), axis=1)
    whole = above[:, -1:]
    count = band * above[7]
    least = _LEAST_PART * count[-1]
    allowed = np.flatnonzero((count >= least) & (count <= count[-1] - least))
    if allowed.size == 0 or not whole[0, 0] > 0.0:
        return None
    first = _scatter(above[:, allowed], noise)
    second = _scatter(whole - above[:, allowed], noise)
    together = _scatter(whole, noise)[0]
    n1 = count[allowed]
    n2 = count[-1] - n1
    gain = 0.5 * (count[-1] * np.log(together) - n1 * np.log(first) - n2 * np.log(second))
    at = int(np.argmax(gain))
    if gain[at] < _CHANGE:
        return None
    place = int(allowed[at]) + 1
    return slice(place, len(count)) if second[at] > first[at] else slice(0, place)


def _scatter(sums: FloatArray, noise: float) -> FloatArray:
    """Mean square left by the best shift of a part, in units of what is to be expected.

    Expected is the noise and a share of the part's relief, for no two images are quite alike.
    """
    power, bx, by, xx, xy, yy, relief, count = sums
    ridge = 1e-3 * (xx + yy) + 1e-30
    xx, yy = xx + ridge, yy + ridge
    explained = (yy * bx * bx - 2.0 * xy * bx * by + xx * by * by) / (xx * yy - xy * xy)
    expected = noise * count + _UNLIKE * np.maximum(relief - 0.25 * noise * count, 0.0)
    return np.asarray(np.maximum(power - explained, 1e-6 * power) / (expected + 1e-30))
