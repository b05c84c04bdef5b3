"""Drift by block matching, as Thomas et al., npj Comput. Mater. 8, 99 (2022) describe it."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.plane import flatten_lines

__all__ = ["FEATURE", "SEARCH", "block_scores", "block_scores_loop", "find_feature"]

FloatArray = NDArray[np.float64]

SEARCH = 40
"""Largest shift looked at along either axis (pixels)."""

FEATURE = 20
"""The block around the feature reaches so far from its middle (pixels)."""


def block_scores_loop(
    reference: FloatArray,
    image: FloatArray,
    center: tuple[int, int],
    *,
    search: int = SEARCH,
    feature: int = FEATURE,
) -> FloatArray:
    """Correlation of a block of the reference with every block of the image nearby, one by one.

    The plain form, for comparison; `block_scores` gives the same faster.

    Parameters
    ----------
    reference, image : (ny, nx) array
        Plane-corrected images without unknown pixels.
    center : (row, column)
        Middle of the block.
    search, feature : int
        Reach of the search and of the block (pixels).

    Returns
    -------
    (2 search + 1, 2 search + 1) array
        Pearson's correlation at shifts (dy, dx) from -search to search; -1 where the block would
        leave the image, 0 where a block is constant.
    """
    row, column = center
    ny, nx = image.shape
    block = reference[row - feature : row + feature + 1, column - feature : column + feature + 1]
    block = block - block.mean()
    block_size = np.sqrt(np.sum(block * block))
    scores = np.full((2 * search + 1, 2 * search + 1), -1.0)
    for dy in range(-search, search + 1):
        for dx in range(-search, search + 1):
            top, left = row + dy - feature, column + dx - feature
            if top < 0 or left < 0 or top + 2 * feature >= ny or left + 2 * feature >= nx:
                continue
            other = image[top : top + 2 * feature + 1, left : left + 2 * feature + 1]
            other = other - other.mean()
            size = block_size * np.sqrt(np.sum(other * other))
            score = np.sum(block * other) / size if size > 0.0 else 0.0
            scores[dy + search, dx + search] = score
    return scores


def block_scores(
    reference: FloatArray,
    image: FloatArray,
    center: tuple[int, int],
    *,
    search: int = SEARCH,
    feature: int = FEATURE,
) -> FloatArray:
    """Correlation of a block of the reference with every block of the image nearby, all at once.

    Parameters and result are those of `block_scores_loop`.
    """
    from scipy.signal import oaconvolve

    row, column = center
    ny, nx = image.shape
    block = reference[row - feature : row + feature + 1, column - feature : column + feature + 1]
    block = block - block.mean()
    top, left = max(0, row - search - feature), max(0, column - search - feature)
    bottom = min(ny, row + search + feature + 1)
    right = min(nx, column + search + feature + 1)
    area = image[top:bottom, left:right]
    area = area - area.mean()
    product = oaconvolve(area, block[::-1, ::-1], mode="valid")
    n = block.size
    total, square = _box(area, 2 * feature + 1), _box(area * area, 2 * feature + 1)
    variance = square - total * total / n
    # What rounding leaves of a constant block is no structure.
    flat = variance <= 1e-12 * float(np.max(square, initial=0.0))
    size = np.sqrt(np.sum(block * block) * np.where(flat, 1.0, variance))
    values = np.where(flat | (size == 0.0), 0.0, product / np.where(size == 0.0, 1.0, size))
    scores = np.full((2 * search + 1, 2 * search + 1), -1.0)
    i, j = top + feature - row + search, left + feature - column + search
    scores[i : i + values.shape[0], j : j + values.shape[1]] = values
    return scores


def find_feature(image: FloatArray, reach: int) -> tuple[int, int]:
    """Middle of the square that pins both directions best.

    Its score is the smaller eigenvalue of the summed products of the gradient (Shi and Tomasi,
    1994), so that neither a flat stretch nor a straight step is chosen.

    Parameters
    ----------
    image : (ny, nx) array
        Any unit, NaN where unknown.
    reach : int
        The square reaches so far from its middle (pixels).

    Returns
    -------
    row, column : int
        At least `reach` from the edges.

    Raises
    ------
    ValueError
        If the square does not fit into the known part of the image.
    """
    from scipy.ndimage import gaussian_filter

    side = 2 * reach + 1
    if min(image.shape) < side:
        raise ValueError(
            f"a block of {side} x {side} pixels does not fit into an image of {image.shape}; "
            "choose a smaller one"
        )
    flat = flatten_lines(image)
    known = np.isfinite(flat)
    smooth = gaussian_filter(np.where(known, flat, 0.0), 1.5)
    gy, gx = np.gradient(smooth)
    xx, xy, yy = (_box(p * q, side) for p, q in ((gx, gx), (gx, gy), (gy, gy)))
    least = 0.5 * (xx + yy) - np.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
    whole = _box(known.astype(float), side) > side * side - 0.5
    if not whole.any():
        raise ValueError(
            f"no block of {side} x {side} pixels of the image is known as a whole; wait for more "
            "lines, or choose a smaller block"
        )
    row, column = np.unravel_index(int(np.argmax(np.where(whole, least, -np.inf))), least.shape)
    return int(row) + reach, int(column) + reach


def _box(plane: FloatArray, side: int) -> FloatArray:
    """Sums over all squares of a side that lie within the plane."""
    table = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1))
    table[1:, 1:] = plane.cumsum(axis=0).cumsum(axis=1)
    upper, lower = table[:-side], table[side:]
    return lower[:, side:] - lower[:, :-side] - upper[:, side:] + upper[:, :-side]
