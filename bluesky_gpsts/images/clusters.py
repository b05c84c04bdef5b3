"""Clusters of defects, without a given number of them.

Mean-shift (Comaniciu and Meer, IEEE Trans. Pattern Anal. Mach. Intell. 24, 603 (2002)) moves every
point to the mean of what is near, until all stand on the modes of their density. It is what
Ziatdinov et al. used, on three features; on pictures in the frame of the lattice, reduced to their
principal components, it tells kinds apart that have equal features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.features import DefectTable, average_patch

__all__ = [
    "Clusters",
    "bandwidth",
    "cluster_numbers",
    "cluster_published",
    "dendrogram",
    "mean_shift",
    "picture_components",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_ROUNDS, _STILL = 200, 1e-3
_FEWEST = 3
_SAMPLE = 1500
_NARROW = 4


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of defects.

    Attributes
    ----------
    labels : (N,) array of int
        Cluster of each defect, from 0, the largest first; -1 for the few that stand alone.
    points : (N, F) array
        What was clustered.
    """

    labels: Labels
    points: Array

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=-1)) + 1

    def pictures(self, table: DefectTable) -> Array:
        """Averaged picture (count, 2, ny, nx) of each cluster."""
        parts = [average_patch(table.patches[self.labels == k]) for k in range(self.count)]
        return np.array(parts).reshape(-1, *table.patches.shape[1:])


def cluster_published(table: DefectTable) -> Clusters:
    """Cluster as Ziatdinov et al. did: height, area and circularity, depressions apart."""
    points = table.published
    return _apart(points, table.depression, 0.3)


def cluster_numbers(table: DefectTable, numbers: ArrayLike, share: float = 0.15) -> Clusters:
    """Cluster by numbers that describe each defect, depressions apart from protrusions.

    Parameters
    ----------
    table : DefectTable
        The defects.
    numbers : (N, F) array_like
        Such as those of `DefectNet.numbers`, or `picture_components`.
    share : float
        The scale of a cluster: so large a share of all distances are shorter than it.

    Returns
    -------
    Clusters

    Raises
    ------
    ValueError
        If there are not as many rows of numbers as defects, or `share` is no share.
    """
    points = np.asarray(numbers, float)
    if points.ndim != 2 or len(points) != len(table):
        raise ValueError(
            f"the numbers have shape {points.shape}; give a row for each of {len(table)} defects"
        )
    return _apart(points, table.depression, share, scaled=False)


def picture_components(table: DefectTable, count: int = 8) -> Array:
    """Principal components (N, count) of the pictures, and the six numbers of the form.

    Parameters
    ----------
    table : DefectTable
        The defects.
    count : int
        Components, fewer where there are fewer defects.
    """
    relief = np.arcsinh(table.patches[:, 0].astype(float))
    # The four mirror images of a picture are one.
    views = [np.flip(relief, axes) for axes in ((), (1,), (2,), (1, 2))]
    even = sum(views) / 4.0
    odd = np.sqrt(sum((view - even) ** 2 for view in views) / 4.0)
    edge = _NARROW
    seen = np.stack([even, odd], axis=1)[:, :, edge:-edge, edge:-edge].reshape(len(table), -1)
    shape = table.shape
    if len(table) < 2:
        return np.concatenate([np.zeros((len(table), count)), shape], axis=1)
    seen = seen - seen.mean(axis=0)
    left, size, _ = np.linalg.svd(seen, full_matrices=False)
    parts = left[:, :count] * size[:count]
    scale = parts[:, 0].std() or 1.0
    spread = np.maximum(shape.std(axis=0), 1e-6)
    return np.concatenate([parts / scale, 0.5 * (shape - shape.mean(axis=0)) / spread], axis=1)


def bandwidth(points: ArrayLike, share: float = 0.3) -> float:
    """Scale for `mean_shift`: mean distance to the farthest of a share of the nearest points.

    Parameters
    ----------
    points : (N, F) array_like
        Points.
    share : float
        From 0 to 1.

    Returns
    -------
    float
        0 for fewer than two different points.
    """
    from scipy.spatial.distance import cdist

    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}; give more than 0 and at most 1")
    rows = np.asarray(points, float)
    if len(rows) < 2:
        return 0.0
    few = rows[:: -(-len(rows) // _SAMPLE)]
    nearest = max(1, min(len(few) - 1, int(share * len(few))))
    apart = np.partition(cdist(few, few), nearest, axis=1)[:, nearest]
    return float(apart.mean())


def mean_shift(points: ArrayLike, width: float) -> Labels:
    """Mean-shift with a flat window.

    Parameters
    ----------
    points : (N, F) array_like
        Points.
    width : float
        Radius of the window, in the unit of the points.

    Returns
    -------
    (N,) array of int
        Cluster of each point, from 0, the largest first.

    Raises
    ------
    ValueError
        If the points are not finite, or `width` is not positive.
    """
    from scipy.spatial import cKDTree

    rows = np.asarray(points, float)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"points of shape {rows.shape} cannot be clustered; give finite (N, F)")
    if not width > 0.0:
        raise ValueError(f"width is {width}; give more than 0")
    if not len(rows):
        return np.zeros(0, np.int64)
    tree = cKDTree(rows)
    modes = rows.copy()
    moving = np.arange(len(rows))
    for _ in range(_ROUNDS):
        near = tree.query_ball_point(modes[moving], width)
        means = np.array([rows[index].mean(axis=0) for index in near])
        moved = np.linalg.norm(means - modes[moving], axis=1)
        modes[moving] = means
        moving = moving[moved > _STILL * width]
        if not moving.size:
            break
    weight = np.array([len(index) for index in tree.query_ball_point(modes, width)])
    # The densest mode first; what is within a window of it is its own.
    kept: list[int] = []
    for index in np.lexsort((np.arange(len(rows)), -weight)):
        if all(np.linalg.norm(modes[index] - modes[other]) > width for other in kept):
            kept.append(int(index))
    _, nearest = cKDTree(modes[kept]).query(modes)
    return _by_size(np.asarray(nearest, np.int64))


def dendrogram(points: ArrayLike) -> Array:
    """Hierarchical clustering by Ward's method: the linkage matrix of SciPy, for its dendrogram.

    Parameters
    ----------
    points : (N, F) array_like
        Points, two or more.

    Returns
    -------
    (N - 1, 4) array
        See `scipy.cluster.hierarchy.linkage`.
    """
    from scipy.cluster.hierarchy import linkage

    rows = np.asarray(points, float)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"points of shape {rows.shape} make no tree; give two or more, finite")
    return np.asarray(linkage(rows, "ward"))


def _apart(points: Array, low: NDArray[np.bool_], share: float, scaled: bool = True) -> Clusters:
    """Cluster depressions and protrusions one after the other."""
    labels = np.full(len(points), -1, np.int64)
    count = 0
    for side in (low, ~low):
        own = np.flatnonzero(side)
        part = points[own]
        if scaled and len(part) > 1:
            part = (part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-9)
        width = bandwidth(part, share)
        if len(part) < _FEWEST or width <= 0.0:
            found = np.zeros(len(part), np.int64)
        else:
            found = mean_shift(part, width)
        labels[own] = found + count
        count += int(found.max(initial=-1)) + 1
    sizes = np.bincount(labels, minlength=count)
    labels = np.where(sizes[labels] >= _FEWEST, labels, -1)
    return Clusters(_by_size(labels), points)


def _by_size(labels: Labels) -> Labels:
    """Number labels anew, the largest first; -1 stays."""
    names, count = np.unique(labels[labels >= 0], return_counts=True)
    order = names[np.argsort(-count, kind="stable")]
    number = np.full(int(labels.max(initial=-1)) + 2, -1, np.int64)
    number[order] = np.arange(len(order))
    return np.asarray(number[labels])
