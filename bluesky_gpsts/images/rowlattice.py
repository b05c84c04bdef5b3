"""The lattice of dimers on one terrace: two vectors and a phase that varies smoothly.

Drift, creep and tip changes bend the lattice of a measured image. So the vectors come from the
distances between neighbours, and the phase at a place from the peaks around it (geometric phase
analysis, here of points): every peak says how far it is from the ideal lattice, as a fraction of a
period, and their mean over a neighbourhood is unwrapped into a field.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ALONG", "BLOCK", "ROWS", "RowLattice", "fit_row_lattice"]

Array = NDArray[np.float64]

ALONG, ROWS = 0.384e-9, 0.768e-9
"""Distance (m) from dimer to dimer along a row, and from row to row."""

BLOCK = 8.0
"""Side (pixels) of the blocks in which the phases of a lattice are kept."""

_REACH = 1.5
_WIDE = 5.0
_NEAR, _PER_TERM, _FEW = 0.35, 30, 0.03
_AROUND, _SHRINK = 3.0, 0.5
_OFF = 0.22
_LINE_REACH = 2.2
_FEWEST = 12
_BANDS = 8
_MANY, _TILE = 800, 4.0


@dataclass(frozen=True, eq=False)
class RowLattice:
    """A lattice bent smoothly; all lengths in pixels of the grid that the peaks were given in.

    Attributes
    ----------
    vectors : (2, 2) array
        First row: from dimer to dimer along the row; second: from row to row.
    mean : (2, 2) array
        The vectors that fit the whole terrace best, bent as it may be.
    errors : (2,) array
        Standard errors of the direction of the mean rows (rad) and of the logarithm of the length
        of their first vector.
    origin : (2,) array
        Middle of the peaks that it was fitted to.
    phases : (2, ny, nx) array
        Deviation from the ideal lattice, periods, in the middles of blocks of 8 x 8 pixels.
    weight : (ny, nx) array
        How many peaks speak for the phase of a block.
    coherence : float
        1 if every peak lies on the lattice, 0 if they lie anywhere.
    corner : (2,) array
        x and y of the corner of the first block.
    spread : float
        Standard deviation of the peaks about the lattice, along the rows (pixels).
    """

    vectors: Array
    mean: Array
    errors: Array
    origin: Array
    phases: Array
    weight: Array
    coherence: float
    corner: Array
    spread: float

    @property
    def direction(self) -> float:
        """Direction of the rows (rad) from +x towards +y of the array, from 0 to pi."""
        x, y = self.mean[0]
        return float(np.arctan2(y, x) % np.pi)

    def indices(self, points: Array) -> Array:
        """Indices (N, 2), along the rows and across, of points (N, 2); whole ones are sites."""
        ideal = (points - self.origin) @ np.linalg.inv(self.vectors)
        return np.asarray(ideal - self._phase(points))

    def sites(self, low: ArrayLike, high: ArrayLike) -> Array:
        """Positions (N, 2) of all sites in a box from `low` to `high` (x, y)."""
        (left, top), (right, bottom) = np.asarray(low), np.asarray(high)
        corners = np.array([[x, y] for x in (left, right) for y in (top, bottom)])
        reach = self.indices(corners)
        slack = 2.0 + np.abs(self.phases).max(axis=(1, 2))
        first = np.floor(reach.min(axis=0) - slack)
        last = np.ceil(reach.max(axis=0) + slack)
        along, across = (np.arange(a, b + 1.0) for a, b in zip(first, last, strict=True))
        whole = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
        points = self.origin + whole @ self.vectors
        margin = 2.0 * float(np.abs(self.vectors).sum())
        margin += float((np.abs(self.phases).max(axis=(1, 2)) @ np.abs(self.vectors)).max())
        inside = _within(points, np.subtract(low, margin), np.add(high, margin))
        whole, points = whole[inside], points[inside]
        for _ in range(3):
            points = self.origin + (whole + self._phase(points)) @ self.vectors
        return np.asarray(points[_within(points, low, high)])

    def nearest(self, point: Array) -> Array:
        """Site (2,) that is nearest to a point (2,), about."""
        place = point[None]
        whole = np.round(self.indices(place))
        for _ in range(4):
            place = self.origin + (whole + self._phase(place)) @ self.vectors
        return np.asarray(place[0])

    def _phase(self, points: Array) -> Array:
        """Phase (N, 2) at points, bilinear between the middles of blocks."""
        ny, nx = self.phases.shape[1:]
        place = (points - self.corner) / BLOCK - 0.5
        x, y = np.clip(place[:, 0], 0.0, nx - 1.0), np.clip(place[:, 1], 0.0, ny - 1.0)
        j, i = np.minimum(x.astype(int), max(nx - 2, 0)), np.minimum(y.astype(int), max(ny - 2, 0))
        x, y = x - j, y - i
        j1, i1 = np.minimum(j + 1, nx - 1), np.minimum(i + 1, ny - 1)
        # Both phases at once, as a complex number.
        p = self.phases[0] + 1j * self.phases[1]
        value = (p[i, j] * (1 - x) + p[i, j1] * x) * (1 - y)
        value += (p[i1, j] * (1 - x) + p[i1, j1] * x) * y
        return value.view(float).reshape(-1, 2)


def fit_row_lattice(
    points: Array,
    weights: Array,
    direction: float,
    along: float,
    across: float,
    *,
    lines: bool = False,
) -> RowLattice | None:
    """Fit the lattice of a terrace to peaks.

    Parameters
    ----------
    points : (N, 2) array
        x and y of peaks (pixels).
    weights : (N,) array
        Confidence of each, from 0 to 1.
    direction : float
        About the direction of the rows (rad), right to 10 degrees.
    along, across : float
        About the distances from dimer to dimer and from row to row (pixels), right to a tenth.
    lines : bool
        The peaks lie on the rows, but anywhere along them. Of the lattice, the rows are measured;
        half the distance of rows is taken for that of dimers, and where these begin is arbitrary.

    Returns
    -------
    RowLattice or None
        None where fewer than 12 peaks make no lattice.
    """
    if len(points) < _FEWEST:
        return None
    if lines:
        rows = _row_vectors(points, weights, direction, across)
        if rows is None:
            return None
        vectors, middle = rows, np.average(points, axis=0, weights=weights)
        direction = float(np.arctan2(vectors[0, 1], vectors[0, 0]))
        along, across = np.hypot(*vectors.T).tolist()
        # Nothing is seen along a row: each peak takes the nearest of places as far apart as dimers.
        along_row = ((points - middle) @ np.linalg.inv(vectors))[:, 0]
        points = points + np.outer(np.round(along_row) - along_row, vectors[0])
    found = _vectors(points, weights, direction, along, across)
    if found is None:
        return None
    vectors, spread = found
    origin = np.average(points, axis=0, weights=weights)
    phase = (points - origin) @ np.linalg.inv(vectors)
    wave = weights[:, None] * np.exp(2j * np.pi * phase)
    corner = np.floor(points.min(axis=0) / BLOCK) * BLOCK
    block = ((points - corner) / BLOCK).astype(int)
    nx, ny = (block.max(axis=0) + 1).tolist()
    flat = block[:, 1] * nx + block[:, 0]

    def collect(values: Array) -> Array:
        return np.asarray(np.bincount(flat, values, nx * ny).reshape(ny, nx), float)

    grids = np.stack(
        [collect(part) for k in (0, 1) for part in (wave[:, k].real, wave[:, k].imag)]
        + [collect(weights)]
    )
    smooth = _blur(grids, _REACH)
    # Where there are no peaks nearby those farther away speak.
    smooth += 1e-3 * _blur(grids, _WIDE)
    fields = smooth[0] + 1j * smooth[1], smooth[2] + 1j * smooth[3]
    weight = np.maximum(smooth[4], 1e-12)
    phases = np.stack([_unwrap(field, weight) for field in fields]) / (2.0 * np.pi)
    nothing = np.zeros(2)
    lattice = RowLattice(vectors, vectors, nothing, origin, phases, weight, 0.0, corner, spread)
    index = lattice.indices(points)
    for _ in range(2):
        lattice = _refined(lattice, points, weights, phase, flat, index)
        index = lattice.indices(points)
        if np.mean(_largest(index - np.round(index)) > _NEAR) < _FEW:
            break
    share = np.average(np.cos(2.0 * np.pi * index), axis=0, weights=weights)
    mean, errors = _mean_vectors(points, weights, np.round(index))
    coherence = float(np.clip(share.min(), 0.0, 1.0))
    return replace(lattice, mean=mean, errors=errors, coherence=coherence)


def _refined(
    lattice: RowLattice,
    points: Array,
    weights: Array,
    phase: Array,
    block: NDArray[np.intp],
    index: Array,
) -> RowLattice:
    """Fit the phases anew, with the periods counted (indices of the points before).

    A mean over a neighbourhood is noisy and flattens bends. A polynomial takes what is common to
    the terrace, and a wider neighbourhood what it leaves.
    """
    ny, nx = lattice.weight.shape
    rest = phase - np.round(index)
    near = _largest(index - np.round(index)) < _NEAR
    trust = np.where(near, weights, 0.0)
    columns, rows = (np.arange(n) * BLOCK + 0.5 * BLOCK for n in (nx, ny))
    middles = lattice.corner + np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1.0)
    terms = int(np.clip(near.sum() // _PER_TERM, 3, len(_POWERS)))
    design, there = (_polynomial((p - low) / span, terms) for p in (points, middles))
    normal = (design * trust[:, None]).T @ design + 1e-6 * np.eye(terms)
    factors = np.linalg.solve(normal, (design * trust[:, None]).T @ rest)
    left = (rest - design @ factors) * trust[:, None]
    values = (left[:, 0], left[:, 1], trust)
    grids = np.stack(
        [np.asarray(np.bincount(block, v, nx * ny), float).reshape(ny, nx) for v in values]
    )
    smooth = _blur(grids, _AROUND)
    bent = smooth[:2] / (smooth[2] + _SHRINK)
    return replace(lattice, phases=(there @ factors).T.reshape(2, ny, nx) + bent)


def _mean_vectors(points: Array, weights: Array, whole: Array) -> tuple[Array, Array]:
    """Straight lattice of least squares through peaks of known indices, and errors.

    The errors are those of a jackknife over bands of lines: drift and creep bend a lattice in the
    course of a scan, and peaks that are off together are no independent ones.
    """
    order = np.argsort(points[:, 1], kind="stable")
    design = np.column_stack([whole, np.ones(len(whole))])[order]
    weighted, both = design * weights[order, None], np.column_stack([design, points[order]])
    cuts = (np.arange(_BANDS + 1) * len(points)) // _BANDS
    bands = np.stack([weighted[a:b].T @ both[a:b] for a, b in pairwise(cuts.tolist())])
    # Of all bands, and of all but one.
    total = bands.sum(axis=0)
    sums = np.concatenate([total[None], total - bands])
    found = np.linalg.pinv(sums[:, :, :3]) @ sums[:, :, 3:]
    along = found[:, 0, 0] + 1j * found[:, 0, 1]
    off = np.log(along[1:] / along[0])
    errors = np.sqrt((_BANDS - 1.0) * np.array([off.imag.var(), off.real.var()]))
    return found[0, :2], errors


_POWERS = (
    *((0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (0, 4), (0, 5), (0, 6)),
    *((2, 1), (3, 0), (0, 7), (1, 3)),
)
"""Powers of x and y: more of y, because drift and creep go with time, from line to line."""


def _polynomial(place: Array, terms: int) -> Array:
    """Legendre polynomials (N, terms) of places (N, 2) from 0 to 1."""
    from numpy.polynomial.legendre import legvander

    across, down = (legvander(2.0 * place[:, k] - 1.0, n) for k, n in ((0, 3), (1, 7)))
    return np.column_stack([across[:, a] * down[:, b] for a, b in _POWERS[:terms]])


def _largest(values: Array) -> Array:
    """Larger size of the two numbers of each row; reductions over short rows are slow."""
    return np.maximum(np.abs(values[:, 0]), np.abs(values[:, 1]))


def _within(points: Array, low: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
    """Whether points (N, 2) lie in a box."""
    (x0, y0), (x1, y1) = np.asarray(low), np.asarray(high)
    x, y = points[:, 0], points[:, 1]
    return np.asarray((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))


def _blur(grids: Array, sigma: float) -> Array:
    from scipy.ndimage import gaussian_filter1d

    for axis in (1, 2):
        grids = gaussian_filter1d(grids, sigma, axis, mode="constant", truncate=3.0)
    return np.asarray(grids)


def _neighbours(points: Array, weights: Array, reach: float) -> tuple[Array, Array]:
    """Vectors (N, 2) between points no farther apart than `reach`, and weights of both (N,)."""
    from scipy.spatial import cKDTree

    if len(points) > _MANY:
        # Tiles from all over the terrace tell enough, in less time and far less memory.
        column, row = ((points - points.min(axis=0)) // (_TILE * reach)).astype(int).T
        tile = row * (column.max() + 1) + column
        order = np.random.default_rng(0).permutation(tile.max() + 1)
        sizes = np.bincount(tile)[order]
        few = np.isin(tile, order[np.cumsum(sizes) - sizes < _MANY])
        points, weights = points[few], weights[few]
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    first, second = tree.query_pairs(reach, output_type="ndarray").T
    return points[second] - points[first], weights[first] * weights[second]


def _vectors(
    points: Array, weights: Array, direction: float, along: float, across: float
) -> tuple[Array, float] | None:
    """Vectors from the distances of neighbours, and how far one peak is off along the rows."""
    cos, sin = np.cos(direction), np.sin(direction)
    vectors = np.array([[along * cos, along * sin], [-across * sin, across * cos]])
    apart, strength = _neighbours(points, weights, 1.08 * across)
    if len(apart) < _FEWEST:
        return None
    for _ in range(3):
        index = apart @ np.linalg.inv(vectors)
        whole = np.round(index)
        good = (_largest(index - whole) < _OFF) & (_largest(whole) > 0.0)
        # Weights of zero are faster than a choice.
        w = strength * good
        weighted = (whole * w[:, None]).T
        normal = weighted @ whole
        if good.sum() < _FEWEST or np.linalg.det(normal) <= 1e-9 * max(1.0, normal.max()) ** 2:
            return None
        vectors = np.linalg.solve(normal, weighted @ apart)
    lengths = np.hypot(*vectors.T)
    bent = abs(float(vectors[0] @ vectors[1])) / float(lengths.prod())
    if bent > 0.3 or not (0.8 < lengths[0] / along < 1.25 and 0.8 < lengths[1] / across < 1.25):
        return None
    rest = apart - whole @ vectors
    row = vectors[0] / lengths[0]
    variance = float(np.average((rest @ row) ** 2, weights=w))
    return vectors, float(np.sqrt(variance / 2.0))


def _row_vectors(points: Array, weights: Array, direction: float, across: float) -> Array | None:
    """Vectors of rows that are only seen as lines, from how far neighbours lie across them."""
    wave: Array = np.array([-np.sin(direction), np.cos(direction)]) / across
    apart, strength = _neighbours(points, weights, _LINE_REACH * across)
    if len(apart) < _FEWEST:
        return None
    for _ in range(5):
        index = apart @ wave
        whole = np.round(index)
        good = np.abs(index - whole) < _OFF
        w, n, d = strength[good], whole[good], apart[good]
        if not n.any():
            return None
        normal = (d * w[:, None]).T @ d + 1e-9 * np.eye(2)
        wave = np.asarray(np.linalg.solve(normal, (d * w[:, None]).T @ n))
    period = 1.0 / float(np.hypot(*wave))
    beside = wave * period
    if not 0.8 < period / across < 1.25:
        return None
    return period * np.array([[0.5 * beside[1], -0.5 * beside[0]], beside])


def _unwrap(field: NDArray[np.complex128], weight: Array) -> Array:
    """Unwrap the phase of a field (ny, nx) along a tree of its most reliable neighbours."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    angle = np.angle(field)
    centre = np.unravel_index(int(np.argmax(weight)), weight.shape)
    # Nearly always nothing is wrapped once the most trusted block is in the middle.
    turned = np.angle(field * np.exp(-1j * angle[centre])) + angle[centre]
    across, down = np.abs(np.diff(turned, axis=1)), np.abs(np.diff(turned, axis=0))
    if max(across.max(initial=0.0), down.max(initial=0.0)) < np.pi:
        return np.asarray(turned)
    number = np.arange(angle.size).reshape(angle.shape)
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    first = np.concatenate([a.ravel() for a, _ in pairs])
    second = np.concatenate([b.ravel() for _, b in pairs])
    flat, size = field.ravel(), np.abs(field).ravel()
    difference = np.angle(flat[second] * flat[first].conj())
    # Steep and weak last.
    cost = 1e-3 + np.abs(difference) + 1.0 / (1e-6 + np.minimum(size[first], size[second]))
    tree = minimum_spanning_tree(
        coo_array((cost, (first, second)), shape=(angle.size, angle.size)).tocsr()
    )
    start = int(np.argmax(weight))
    order, before = breadth_first_order(tree, start, directed=False)
    result = angle.ravel().copy()
    steps = np.angle(flat * np.where(before >= 0, flat[np.maximum(before, 0)], 1.0).conj())
    for node in order[1:]:
        result[node] = result[before[node]] + steps[node]
    return np.asarray(result.reshape(angle.shape))
