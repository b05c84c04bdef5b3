"""The classifier of a library: linear discriminants, from one example of a class on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.features import DefectTable

if TYPE_CHECKING:
    from bluesky_gpsts.images.patchnet import DefectNet

__all__ = [
    "LibraryClassifier",
    "cluster_names",
    "cluster_number",
    "described",
    "fit_classifier",
]

Array = NDArray[np.float64]

_CLUSTER = "cluster"
# What classifiers say of a defect that they have no name for.
_NO_NAMES = ("", "nothing", "unresolved", "unknown")

_SHRINK = 0.15
_PRIOR = 12.0
_FAR = 3.0
_FOLDS, _KNOWN = 5, 0.99


def described(net: "DefectNet", table: DefectTable) -> Array:
    """Numbers (N, F) that a library tells defects by: those of the network, and the form."""
    return np.concatenate([net.numbers(table), table.shape], axis=1)


def cluster_number(name: str) -> int | None:
    """Return the number of a cluster without a name of its own; None for any other class."""
    head, _, tail = name.rpartition(" ")
    return int(tail) if head == _CLUSTER and tail.isdecimal() else None


def cluster_names(clusters: ArrayLike, filed: Sequence[str], first: int) -> list[str]:
    """Name the defects of new clusters: as two thirds of a cluster were filed, or by a number.

    Parameters
    ----------
    clusters : (N,) array_like of int
        Cluster of each defect; -1 for one that stands alone.
    filed : sequence of str
        Name that each was filed with; "nothing", "unresolved", "unknown" and numbers of clusters
        are no names. None at all (an empty sequence) will do.
    first : int
        Number of the first cluster without a name.

    Returns
    -------
    list of str
        Class of each; clusters of one name are one class, those that stand alone "cluster 0".
    """
    labels = np.asarray(clusters, np.int64)
    names = {-1: f"{_CLUSTER} 0"}
    for cluster in range(int(labels.max(initial=-1)) + 1):
        members = np.flatnonzero(labels == cluster).tolist()
        said = Counter(filed[k] for k in members) if len(filed) else Counter()
        name, count = said.most_common(1)[0] if said else ("", 0)
        named = name not in _NO_NAMES and cluster_number(name) is None
        if named and 3 * count >= 2 * len(members):
            names[cluster] = name
        else:
            names[cluster] = f"{_CLUSTER} {first}"
            first += 1
    return [names[cluster] for cluster in labels.tolist()]


@dataclass(frozen=True, eq=False)
class LibraryClassifier:
    """Linear discriminant analysis on the numbers of each defect.

    Attributes
    ----------
    net : DefectNet
        What turns pictures into numbers.
    names : tuple of str
        Classes.
    means : (K, F) array
        Mean of each class.
    whiten : (F, F) array
        Turns differences into those of unit variance within the classes.
    lever : (K,) array
        The distance from each class is multiplied by this before it is held against `reach`.
    reach : float
        A defect farther than this from the nearest mean, in standard deviations, is unknown.
    """

    UNKNOWN: ClassVar[str] = "unknown"

    net: "DefectNet"
    names: tuple[str, ...]
    means: Array
    whiten: Array
    lever: Array
    reach: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that it gives."""
        return (*self.names, self.UNKNOWN) if self.UNKNOWN not in self.names else self.names

    def name_defects(self, table: DefectTable) -> tuple[NDArray[np.str_], Array]:
        """Name each defect (N,), "unknown" where none fits, with the probability (N,) of it."""
        if not len(table):
            return np.zeros(0, "<U1"), np.zeros(0)
        apart = self._distances(table)
        best = apart.argmin(axis=1)
        nearest = apart[np.arange(len(apart)), best]
        odds = np.exp(-0.5 * (apart**2 - nearest[:, None] ** 2))
        sure = 1.0 / odds.sum(axis=1)
        # Far from the class that it would be given, whatever another class of few examples says.
        far = nearest * self.lever[best] > self.reach
        names = np.array(self.names, object)[best]
        names[far] = self.UNKNOWN
        return names.astype(str), np.where(far, 1.0, sure)

    def _distances(self, table: DefectTable) -> Array:
        return _apart(described(self.net, table), self.means, self.whiten)


def fit_classifier(
    net: "DefectNet", table: DefectTable, labels: NDArray[Any], names: tuple[str, ...]
) -> LibraryClassifier:
    """Fit the classifier to named examples.

    The covariance within classes is shrunk towards that of a sphere, the more the fewer examples
    there are, so that one example of a class is enough.

    Parameters
    ----------
    net : DefectNet
        What turns pictures into numbers.
    table : DefectTable
        Examples.
    labels : (N,) array of int
        Index into `names` of each.
    names : tuple of str
        Classes; each has an example.

    Returns
    -------
    LibraryClassifier
    """
    points = described(net, table)
    means, whiten = _discriminant(points, labels, len(names))
    lever = _lever(np.bincount(labels, minlength=len(names)))
    reach = _FAR + np.sqrt(points.shape[1])
    if len(points) - len(names) > _FOLDS * _PRIOR:
        # How far examples lie from what others of their class have taught.
        apart = np.zeros(len(points))
        fold = np.random.default_rng(0).permutation(len(points)) % _FOLDS
        for number in range(_FOLDS):
            taught = fold != number
            kept, own = np.unique(labels[taught], return_inverse=True)
            middle, white = _discriminant(points[taught], own, len(kept))
            far = _apart(points[~taught], middle, white) * _lever(np.bincount(own))
            apart[~taught] = far.min(axis=1)
        reach = float(np.quantile(apart, _KNOWN))
    return LibraryClassifier(net, names, means, whiten, lever, float(reach))


def _lever(counts: NDArray[np.integer]) -> Array:
    """How much nearer (K,) a defect is than it looks: the mean of a few examples is off itself."""
    return np.asarray(np.sqrt(counts / (counts + 1.0)))


def _apart(points: Array, means: Array, whiten: Array) -> Array:
    """Distances (N, K) in standard deviations."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(points @ whiten, means @ whiten))


def _discriminant(points: Array, labels: NDArray[Any], count: int) -> tuple[Array, Array]:
    """Means (K, F) of classes, and what whitens (F, F) the differences within them."""
    means = np.stack([points[labels == k].mean(axis=0) for k in range(count)])
    rest = points - means[labels]
    size = rest.shape[1]
    freedom = max(0, len(points) - count)
    # Without any repetition, the spread of all examples has to serve.
    scale = 0.1 * float(points.var()) + 1e-3
    variance = (rest.T @ rest + _PRIOR * scale * np.eye(size)) / (freedom + _PRIOR)
    share = max(_SHRINK, _PRIOR / (freedom + _PRIOR))
    common = float(np.trace(variance)) / size
    variance = (1.0 - share) * variance + share * np.diag(0.5 * np.diag(variance) + 0.5 * common)
    value, vector = np.linalg.eigh(variance)
    return means, vector / np.sqrt(value)
