"""How well an image was read, against the truth about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Counts",
    "calibration_error",
    "direction_error",
    "match",
    "score_atoms",
    "score_defects",
    "score_terraces",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Found against true.

    Attributes
    ----------
    found, true, hits : int
        How many were found, how many there are, how many pairs match.
    errors : (hits,) array
        Distances of the pairs, in the unit of the tolerance.
    """

    found: int
    true: int
    hits: int
    errors: Array

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if there is nothing and nothing was found."""
        total = self.found + self.true
        return 2.0 * self.hits / total if total else 1.0

    @property
    def rms(self) -> float:
        """Root mean square of the distances; 0 without a pair."""
        return float(np.sqrt(np.mean(self.errors**2))) if self.hits else 0.0

    @staticmethod
    def pooled(parts: "list[Counts]") -> "Counts":
        """Counts of several images together."""
        return Counts(
            sum(p.found for p in parts),
            sum(p.true for p in parts),
            sum(p.hits for p in parts),
            np.concatenate([p.errors for p in parts]) if parts else np.zeros(0),
        )


def match(found: Array, true: Array, tolerance: float) -> tuple[NDArray[np.intp], Array]:
    """Pair points one to one, nearest pairs first.

    Parameters
    ----------
    found, true : (N, 2) and (M, 2) arrays
        Points.
    tolerance : float
        Farthest that a pair may be apart.

    Returns
    -------
    pairs : (K, 2) array of int
        Indices into `found` and `true`.
    distances : (K,) array
    """
    from scipy.spatial import cKDTree

    nothing = np.zeros((0, 2), np.intp), np.zeros(0)
    if not len(found) or not len(true):
        return nothing
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), tolerance, output_type="coo_matrix")
    order = np.argsort(near.data, kind="stable")
    rows, columns = near.row[order], near.col[order]
    free_found, free_true = np.ones(len(found), bool), np.ones(len(true), bool)
    pairs = []
    for k, (i, j) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        if free_found[i] and free_true[j]:
            free_found[i] = free_true[j] = False
            pairs.append(k)
    chosen = np.array(pairs, np.intp)
    return np.column_stack([rows[chosen], columns[chosen]]), near.data[order][chosen]


def score_atoms(found: Array, true: Array, pixel: float, tolerance: float = 1.5e-10) -> Counts:
    """Match atoms (pixels) within a tolerance (m); errors in m."""
    pairs, apart = match(found * pixel, true * pixel, tolerance)
    return Counts(len(found), len(true), len(pairs), apart)


def score_defects(
    labels: NDArray[np.integer], true: NDArray[np.bool_], tolerance: float = 5.0
) -> tuple[Counts, float]:
    """Match connected parts of masks by their centres of mass, within `tolerance` pixels.

    Parameters
    ----------
    labels : (ny, nx) array of int
        0, or the number of a defect found.
    true : (ny, nx) array of bool
        Pixels of true defects.
    tolerance : float
        Pixels.

    Returns
    -------
    Counts, float
        And intersection over union of the masks; 1 if both are empty.
    """
    from scipy.ndimage import center_of_mass, label

    def centres(numbers: NDArray[np.integer], count: int) -> Array:
        if not count:
            return np.zeros((0, 2))
        ones = np.ones(numbers.shape, np.uint8)
        return np.array(center_of_mass(ones, numbers, np.arange(1, count + 1)))[:, ::-1]

    real, count = label(true)
    here = centres(labels, int(labels.max(initial=0)))
    pairs, apart = match(here, centres(real, count), tolerance)
    both, either = np.sum((labels > 0) & true), np.sum((labels > 0) | true)
    iou = float(both / either) if either else 1.0
    return Counts(len(here), count, len(pairs), apart), iou


def score_terraces(
    found: NDArray[np.integer], true: NDArray[np.integer], smallest: int
) -> tuple[float, bool]:
    """Share of pixels in the right terrace, and whether two terraces were taken for one.

    Found and true terraces are paired so that most pixels agree. Two terraces count as merged if
    one found terrace holds most of each.

    Parameters
    ----------
    found, true : (ny, nx) array of int
        Numbers of the terraces.
    smallest : int
        A true terrace of fewer pixels cannot be merged.

    Returns
    -------
    float, bool
    """
    from scipy.optimize import linear_sum_assignment

    true_names, t = np.unique(true, return_inverse=True)
    found_names, f = np.unique(found, return_inverse=True)
    table = np.zeros((len(found_names), len(true_names)), int)
    np.add.at(table, (f.ravel(), t.ravel()), 1)
    rows, columns = linear_sum_assignment(-table)
    right = table[rows, columns].sum() / true.size
    sizes = table.sum(axis=0)
    holds = (table > 0.5 * sizes) & (sizes >= smallest)
    return float(right), bool((holds.sum(axis=1) > 1).any())


def direction_error(found: float, true: float) -> float:
    """Angle (rad) between two directions, at most a quarter turn."""
    return float(abs((found - true + 0.5 * np.pi) % np.pi - 0.5 * np.pi))


def calibration_error(sure: Array, right: NDArray[np.bool_]) -> float:
    """Expected calibration error of probabilities (N,) in ten bins; 0 without any."""
    if not len(sure):
        return 0.0
    bins = np.minimum((10.0 * sure).astype(int), 9)
    return float(
        sum(
            abs(sure[bins == k].mean() - right[bins == k].mean()) * np.mean(bins == k)
            for k in np.unique(bins)
        )
    )
