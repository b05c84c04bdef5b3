"""How sharply a tip images a step of one atom's height, and whether it images it twice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.terraces import level_plane

__all__ = ["StepEdge", "step_edge"]

Array = NDArray[np.float64]

_PLATEAU = (2.6e-9, 4.0e-9)
_TOLERANCE = 0.3
_FEWEST = 12
_TANGENT = 10
_BIN = 0.05e-9
_WIDTHS = (0.05e-9, 2.0e-9)
_APART = (0.42e-9, 2.7e-9)
_BETTER = 0.4
_DIP = 0.7


@dataclass(frozen=True)
class StepEdge:
    """A step edge as a tip images it.

    Attributes
    ----------
    width : float
        Standard deviation (m) of the edge's spread; of each of the two edges of a double tip.
    second : float
        Share of the step's height in the smaller of two edges side by side, 0 if there is one.
    separation : float
        Distance (m) of the two edges, across the step; 0 if there is one.
    height : float
        Height (m) of the step.
    lines : int
        Number of lines of the image in which it was measured.
    position, profile : (n,) arrays
        Mean profile of the edge: distance across it (m), height from 0 to 1.
    """

    width: float
    second: float
    separation: float
    height: float
    lines: int
    position: Array
    profile: Array


def step_edge(
    image: ArrayLike, pixel: tuple[float, float], step: float = 2.355e-10
) -> StepEdge | None:
    """Measure the steps of an image, all together.

    Each line is crossed where its height is half-way between the terraces; the lines are laid over
    each other there, along the direction across the step, and averaged: that is the edge-spread
    function. One error function is fitted to it, and two: a second apex images the edge a second
    time, as far away as it is from the first one across the step.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m); NaN where not scanned.
    pixel : (float, float)
        Width and height of a pixel (m).
    step : float
        Height of a step (m), that of Au(111) unless given.

    Returns
    -------
    StepEdge or None
        None if no step of that height crosses 12 lines in a row, 4 nm of terrace on either side.

    Raises
    ------
    ValueError
        If a length is not positive, or the image is unfit (see `level_plane`).
    """
    if not (pixel[0] > 0.0 and pixel[1] > 0.0 and step > 0.0):
        raise ValueError(f"pixel {pixel} m and step {step} m; lengths must be positive")
    flat = level_plane(image)
    across = _collect(flat, pixel[0], pixel[1], step)
    along = _collect(flat.T, pixel[1], pixel[0], step)
    found = max(across, along, key=lambda one: one[2])
    distance, height, lines, size = found
    if lines < _FEWEST:
        return None
    position, profile = _averaged(distance, height)
    single, misfit = _fit(position, profile, False)
    double, misfit2 = _fit(position, profile, True)
    a, s = double[1], double[2]
    second = min(a, 1.0 - a)
    if misfit2 < _BETTER * misfit and second > 0.05 and s > max(_APART[0], 1.2 * double[0]):
        return StepEdge(double[0], second, s, size, lines, position, profile)
    return StepEdge(single[0], 0.0, 0.0, size, lines, position, profile)


def _collect(
    flat: Array, along: float, across: float, step: float
) -> tuple[Array, Array, int, float]:
    """Distances (n,) from the steps (m), heights (n,) from 0 to 1, lines, mean height (m).

    `along` is the size (m) of a pixel along the rows of `flat`, `across` that of a row.
    """
    inner, outer = (max(1, round(length / along)) for length in _PLATEAU)
    none = np.zeros(0), np.zeros(0), 0, 0.0
    ny, nx = flat.shape
    if nx < 2 * outer + 3:
        return none
    # Mean of the terrace on either side of each pixel, a tip's width away from it.
    total = np.cumsum(np.pad(flat, ((0, 0), (1, 0))), axis=1)
    middle = np.arange(outer, nx - outer)
    count = outer - inner + 1
    left = (total[:, middle - inner + 1] - total[:, middle - outer]) / count
    right = (total[:, middle + outer + 1] - total[:, middle + inner]) / count
    rise = right - left
    level = 0.5 * (left + right)
    here = flat[:, middle]
    fits = np.abs(np.abs(rise) - step) < _TOLERANCE * step
    before, after = (here - level)[:, :-1], (here - level)[:, 1:]
    crossing = fits[:, :-1] & (before * after <= 0.0) & (before * rise[:, :-1] <= 0.0)
    rows, columns = np.nonzero(crossing)
    if rows.size < _FEWEST:
        return none
    b, a = before[rows, columns], after[rows, columns]
    share = np.where(b == a, 0.0, b / np.where(b == a, 1.0, b - a))
    place = np.asarray(columns + share + outer, float)
    distances, heights, sizes, lines = [], [], [], 0
    for members in _chains(rows, place, across / along):
        slope = _slopes(rows[members], place[members])
        # Steps that run nearly along the lines are for the other direction.
        steep = np.abs(slope) * along / across <= 1.2
        cosine = 1.0 / np.sqrt(1.0 + (slope * along / across) ** 2)
        if np.count_nonzero(steep) < _FEWEST:
            continue
        for row, x, c in zip(
            rows[members][steep], place[members][steep], cosine[steep], strict=True
        ):
            column = int(x)
            low, high = column - outer, column + outer + 1
            if low < 0 or high > nx:
                continue
            at = np.clip(column - outer, 0, middle.size - 1)
            size = rise[row, at]
            distances.append((np.arange(low, high) - x) * along * c * np.sign(size))
            heights.append(0.5 + (flat[row, low:high] - level[row, at]) / abs(size))
            sizes.append(abs(size))
            lines += 1
    if not lines:
        return none
    return np.concatenate(distances), np.concatenate(heights), lines, float(np.mean(sizes))


def _chains(rows: NDArray[np.intp], place: Array, ratio: float) -> list[NDArray[np.intp]]:
    """Indices of crossings that follow each other from row to row, longest chains first."""
    open_chains: list[list[int]] = []
    chains: list[list[int]] = []
    for index in np.lexsort((place, rows)):
        row, x = rows[index], place[index]
        best = None
        for chain in open_chains:
            last = chain[-1]
            gap = row - rows[last]
            if 0 < gap <= 2 and abs(x - place[last]) <= 2.0 + 2.0 * ratio * gap:
                best = chain
                break
        if best is None:
            chain = [int(index)]
            open_chains.append(chain)
            chains.append(chain)
        else:
            best.append(int(index))
        open_chains = [chain for chain in open_chains if row - rows[chain[-1]] <= 2]
    return [np.array(chain) for chain in chains if len(chain) >= _FEWEST]


def _slopes(rows: NDArray[np.intp], place: Array) -> Array:
    """Slope (n,) of a chain, columns per row, from the ten crossings before and after each."""
    slopes = np.empty(rows.size)
    for index in range(rows.size):
        near = slice(max(0, index - _TANGENT), index + _TANGENT + 1)
        dy = rows[near] - np.mean(rows[near])
        slopes[index] = float(np.sum(dy * place[near]) / max(1e-9, float(np.sum(dy * dy))))
    return slopes


def _averaged(distance: Array, height: Array) -> tuple[Array, Array]:
    """Mean profile in bins of 0.05 nm."""
    edges = np.arange(-_PLATEAU[1], _PLATEAU[1] + _BIN, _BIN)
    which = np.digitize(distance, edges) - 1
    inside = (which >= 0) & (which < edges.size - 1)
    count = np.bincount(which[inside], minlength=edges.size - 1)
    total = np.bincount(which[inside], height[inside], minlength=edges.size - 1)
    filled = count > 0
    return 0.5 * (edges[:-1] + edges[1:])[filled], total[filled] / count[filled]


def _fit(position: Array, profile: Array, double: bool) -> tuple[tuple[float, float, float], float]:
    """Width (m), share of the first edge, separation (m); and the mean square misfit.

    Height, offset and a slope of the terraces are free too, which the terraces' own relief needs.
    """
    from scipy.optimize import least_squares

    unit = 1e-9
    x = position / unit

    from scipy.special import ndtr

    def model(p: Array) -> Array:
        share, apart = (float(p[2]), float(p[3])) if double else (1.0, 0.0)
        first = ndtr((x - p[0]) / p[1])
        return np.asarray(share * first + (1.0 - share) * ndtr((x - p[0] - apart) / p[1]))

    def residual(p: Array) -> Array:
        edge = model(p)
        # Above a step's edge there are fewer states, and the tip comes closer.
        dip = np.exp(-0.5 * ((x - p[0] - (1.0 - p[2]) * p[3] if double else x - p[0]) / _DIP) ** 2)
        columns = np.column_stack([np.ones_like(x), x, edge, dip])
        return np.asarray(profile - columns @ np.linalg.lstsq(columns, profile, rcond=None)[0])

    low, high = [-3.0, _WIDTHS[0] / unit], [3.0, _WIDTHS[1] / unit]
    starts = [[0.0, width] for width in (0.15, 0.5)]
    if double:
        low, high = [*low, 0.05, 0.0], [*high, 0.95, _APART[1] / unit]
        starts = [
            [-share_of_rest * apart, 0.15, share, apart]
            for apart in (0.5, 1.0, 1.8)
            for share, share_of_rest in ((0.3, 0.7), (0.6, 0.4))
        ]
    found = [least_squares(residual, start, bounds=(low, high)) for start in starts]
    best = min(found, key=lambda one: float(one.cost))
    p = best.x
    share, apart = (float(p[2]), float(p[3]) * unit) if double else (1.0, 0.0)
    return (float(p[1]) * unit, share, apart), 2.0 * float(best.cost) / x.size
