"""The lattice of an image of anything, from all peaks of its Fourier transform.

A cell with several atoms, such as that of Si(111)-7x7, has many peaks, and the strongest are not
the shortest. So the cell is the one whose waves explain all strong peaks.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cell", "find_cell"]

Array = NDArray[np.float64]

_SOFT = 2.5
_PEAKS, _LEAST = 40, 16.0
_PERIODS = 4.0
_TOLERANCE = 0.35
_EXPLAINED, _NEAR, _COARSE = 0.85, 0.15, 0.06
_FINEST = 1.0 / 3.0
_CANDIDATES = 60
_ASIDE, _SECOND = 0.3, 0.1
_STANDS = 144.0
_ALIKE = 0.08
_SQUARE, _HEXAGONAL = np.radians(90.0), np.radians(60.0)
_TURN = np.radians(6.0)


@dataclass(frozen=True, eq=False)
class Cell:
    """The unit cell of an image; lengths in pixels.

    Attributes
    ----------
    vectors : (2, 2) array
        Two shortest lattice vectors, x and y, right-handed with y downwards.
    symmetry : str
        "hexagonal", "square", "rectangular" or "oblique"; "rows" if there is but one period, and
        then the first vector runs along the rows and means nothing else.
    waves : (2, 2) array
        Reciprocal vectors (periods per pixel), such that waves @ vectors.T is the unit matrix.
    orders : (M, 2) array of int
        Peaks that were found, as whole multiples of the waves; the strongest first.
    explained : float
        Share of the strength of all peaks that the cell explains.
    """

    vectors: Array
    symmetry: str
    waves: Array
    orders: NDArray[np.int64]
    explained: float


def find_cell(flat: Array, known: NDArray[np.bool_]) -> Cell | None:
    """Find the unit cell of a levelled image.

    Parameters
    ----------
    flat : (ny, nx) array
        Heights without steps and slopes, any unit.
    known : (ny, nx) array of bool
        Where something was measured, on the terrace that is to be looked at.

    Returns
    -------
    Cell or None
        None if the image has no period of which four or more fit into it.
    """
    places, strength = _peaks(flat, known)
    if not len(places):
        return None
    basis = None
    first = places[int(np.argmax(strength))]
    aside = np.abs(places @ np.array([-first[1], first[0]])) > _ASIDE * np.hypot(
        *places.T
    ) * np.hypot(*first)
    if aside.any() and strength[aside].max() > _SECOND * strength.max():
        basis = _basis(places, strength, _PERIODS / min(flat.shape))
    if basis is None:
        return _rows(places, strength, flat.shape)
    waves, orders, explained = basis
    vectors: Array = _reduced(np.asarray(np.linalg.inv(waves).T, float))
    waves = np.asarray(np.linalg.inv(vectors).T, float)
    orders = np.round(places @ vectors.T).astype(np.int64)
    good = np.abs(places @ vectors.T - orders).max(axis=1) < _TOLERANCE
    return Cell(vectors, _symmetry(vectors), waves, orders[good], explained)


def _peaks(flat: Array, known: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Wave vectors (N, 2) in periods per pixel of one half of the transform, and strengths."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    ny, nx = flat.shape
    usual = 1.4826 * float(np.median(np.abs(flat[known]))) or 1.0
    soft = np.where(known, flat / usual, 0.0)
    soft = soft / (1.0 + np.abs(soft) / _SOFT)
    soft -= soft[known].mean() * known
    window = np.outer(np.hanning(ny), np.hanning(nx))
    size = (2 * ny, 2 * nx)
    power = np.fft.fftshift(np.abs(np.fft.fft2(soft * window, size)) ** 2)
    power = gaussian_filter(power, 0.7)
    y, x = np.meshgrid(np.arange(size[0]) - ny, np.arange(size[1]) - nx, indexing="ij")
    periods = np.hypot(x / 2.0, y / 2.0)
    ring = np.round(np.hypot(x / size[1], y / size[0]) * min(size)).astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    names, first = np.unique(ring.ravel()[order], return_index=True)
    median = np.array([np.median(part) for part in np.split(power.ravel()[order], first[1:])])
    above = power / np.maximum(median, 1e-12 * power.max() + 1e-300)[np.searchsorted(names, ring)]
    # Noise between lines has power across the lines in every image.
    allowed = (periods >= _PERIODS) & (np.abs(x) >= 3)
    # What is shorter than three pixels is told apart by no image.
    allowed &= np.hypot(x / size[1], y / size[0]) < _FINEST
    top = (power == maximum_filter(power, 7)) & allowed & (above > _LEAST)
    top &= (y > 0) | ((y == 0) & (x > 0))
    rows, columns = np.nonzero(top)
    inner = (rows > 0) & (rows < size[0] - 1) & (columns > 0) & (columns < size[1] - 1)
    rows, columns = rows[inner], columns[inner]
    best = np.argsort(-power[rows, columns], kind="stable")[:_PEAKS]
    rows, columns = rows[best], columns[best]
    if not len(rows):
        return np.zeros((0, 2)), np.zeros(0)
    root = np.sqrt(power)
    middle = root[rows, columns]

    def shift(before: Array, after: Array) -> Array:
        bend = before - 2.0 * middle + after
        return np.clip(np.where(bend < 0.0, 0.5 * (before - after) / bend, 0.0), -0.5, 0.5)

    dx = shift(root[rows, columns - 1], root[rows, columns + 1])
    dy = shift(root[rows - 1, columns], root[rows + 1, columns])
    waves = np.column_stack([(columns - nx + dx) / size[1], (rows - ny + dy) / size[0]])
    strong = middle > 0.04 * middle.max()
    # Against what is usual at that length, so that slow unevenness counts for little.
    return waves[strong], above[rows, columns][strong]


def _basis(
    places: Array, strength: Array, longest: float
) -> tuple[Array, NDArray[np.int64], float] | None:
    """Longest reciprocal basis whose whole multiples explain nearly all strong peaks.

    Candidates are the peaks and the differences of the strongest of them: a fundamental may be
    too weak to be a peak of its own.
    """
    few = places[: min(len(places), 12)]
    differences = [a - s * b for a, b in combinations(few, 2) for s in (1.0, -1.0)]
    candidates = np.concatenate([few, np.array(differences).reshape(-1, 2)])
    # A cell of which not even four fit into the image explains everything.
    candidates = candidates[np.hypot(*candidates.T) >= longest]
    candidates = _distinct(candidates, 0.25 * longest)[:_CANDIDATES]
    best: tuple[float, Array, NDArray[np.int64], float] | None = None
    total = float(strength.sum())
    for one, other in combinations(candidates, 2):
        waves = np.stack([one, other])
        area = abs(float(np.linalg.det(waves)))
        if area < 0.3 * np.hypot(*one) * np.hypot(*other):
            continue
        waves = _fitted(waves, places, strength)
        index = places @ np.linalg.inv(waves)
        whole = np.round(index)
        off = np.hypot(*((index - whole) @ waves).T)
        hit = (off < _NEAR * np.hypot(*waves.T).min()) & np.any(whole != 0, axis=1)
        explained = float(strength[hit].sum()) / total
        # A finer basis explains more by chance: it has to earn it.
        score = explained + _COARSE * np.log(abs(float(np.linalg.det(waves))) / longest**2 + 1e-9)
        if best is None or score > best[0]:
            best = (score, waves, whole.astype(np.int64), explained)
    if best is None or best[3] < _EXPLAINED:
        return None
    return best[1], best[2], best[3]


def _rows(places: Array, strength: Array, shape: tuple[int, ...]) -> Cell | None:
    """Rows: one wave that stands out, and nothing along it."""
    best = int(np.argmax(strength))
    if strength[best] < _STANDS:
        return None
    wave = places[best]
    across = wave / float(wave @ wave)
    vectors = np.array([[across[1], -across[0]], across])
    if np.linalg.det(vectors) < 0.0:
        vectors[0] *= -1.0
    waves = np.linalg.inv(vectors).T
    share = float(strength[best] / strength.sum())
    return Cell(vectors, "rows", waves, np.array([[0, 1]]), share)


def _fitted(waves: Array, places: Array, strength: Array) -> Array:
    """Reciprocal basis of least squares through the peaks that it explains."""
    for _ in range(2):
        index = places @ np.linalg.inv(waves)
        whole = np.round(index)
        near = (np.abs(index - whole).max(axis=1) < 0.2) & np.any(whole != 0, axis=1)
        w, n = strength[near], whole[near]
        normal = (n * w[:, None]).T @ n
        if near.sum() < 2 or np.linalg.det(normal) <= 1e-9 * normal.max() ** 2:
            return waves
        waves = np.linalg.solve(normal, (n * w[:, None]).T @ places[near])
    return waves


def _distinct(candidates: Array, apart: float) -> Array:
    """Candidates of which none is near another or its opposite; the first of each is kept."""
    kept: list[Array] = []
    for one in candidates:
        if all(min(np.hypot(*(one - k)), np.hypot(*(one + k))) > apart for k in kept):
            kept.append(one)
    return np.array(kept).reshape(-1, 2)


def _reduced(vectors: Array) -> Array:
    """The two shortest vectors of a lattice, at an angle of 60 to 90 degrees, right-handed."""
    a, b = vectors
    while True:
        if np.hypot(*a) > np.hypot(*b):
            a, b = b, a
        steps = np.round(float(a @ b) / float(a @ a))
        if steps == 0.0:
            break
        b = b - steps * a
    if a @ b < 0.0:
        b = -b
    if a[0] * b[1] - a[1] * b[0] < 0.0:
        a, b = b, a
    return np.array([a, b])


def _symmetry(vectors: Array) -> str:
    a, b = (float(np.hypot(*v)) for v in vectors)
    angle = float(np.arccos(np.clip(vectors[0] @ vectors[1] / (a * b), -1.0, 1.0)))
    alike = abs(np.log(a / b)) < _ALIKE
    if alike and abs(angle - _HEXAGONAL) < _TURN:
        return "hexagonal"
    if abs(angle - _SQUARE) < _TURN:
        return "square" if alike else "rectangular"
    return "oblique"
