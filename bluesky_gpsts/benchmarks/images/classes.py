"""Classes of defects: named by what was taught, and clustered without names."""

import numpy as np
from numpy.typing import ArrayLike

from bluesky_gpsts.benchmarks.images.cases import OURS
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.clusters import (
    cluster_numbers,
    cluster_published,
    picture_components,
)
from bluesky_gpsts.images.features import DefectTable
from bluesky_gpsts.images.librarian import LibraryClassifier
from bluesky_gpsts.images.library import Library
from bluesky_gpsts.images.patchtraining import NOTHING, draw_defects
from bluesky_gpsts.images.registry import load_classes
from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["PUBLISHED", "class_rows", "rand_index"]

PUBLISHED = "mean-shift on three features"
PICTURES = "mean-shift on components of pictures"

_CLASSES, _CLUSTERS = 85.0, 0.6
_FEW = 5
_LIBRARY = "library of defects"
_PARTS = 0.06


def class_rows(model: SurfaceModel, count: int, seed: int) -> list[Row]:
    """Classes and clusters of defects on predicted masks, and with the true ones.

    Parameters
    ----------
    model : SurfaceModel
        What reads the images.
    count : int
        Images of each sort.
    seed : int
        Seed of the images.
    """
    net = load_classes()
    rows = []
    for masks in ("predicted masks", "true masks"):
        exact = masks == "true masks"
        table, names, _ = draw_defects(seed, count, model=model, true_masks=exact)
        real = names != NOTHING
        table, names = table.take(real), names[real]
        n = len(names)
        case = f"defects of drawn images, {masks}"
        given = net.name_defects(table)[0]
        right = 100.0 * float(np.mean(given == names))
        goal = None if exact else _CLASSES
        rows.append(Row(case, OURS, "class accuracy", right, "%", n, goal))
        recalls = [np.mean(given[names == name] == name) for name in np.unique(names)]
        rows.append(Row(case, OURS, "mean recall", 100.0 * float(np.mean(recalls)), "%", n))
        for what, labels, wanted in (
            (OURS, cluster_numbers(table, net.numbers(table)).labels, _CLUSTERS),
            (PICTURES, cluster_numbers(table, picture_components(table), _PARTS).labels, None),
            (PUBLISHED, cluster_published(table).labels, None),
        ):
            limit = None if exact else wanted
            metric = "adjusted Rand index of clusters"
            rows.append(Row(case, what, metric, rand_index(labels, names), "", n, limit))
        if not exact:
            few = _few_shot(table, names)
            metric = f"recall of a class taught by {_FEW} examples"
            rows.append(Row(case, _LIBRARY, metric, 100.0 * few, "%", n))
            new, known = _new_class(table, names)
            rows.append(Row(case, _LIBRARY, "defects of a new class called unknown", new, "%", n))
            metric = "defects of known classes called unknown"
            rows.append(Row(case, _LIBRARY, metric, known, "%", n, None, True))
    return rows


def _few_shot(table: DefectTable, names: ArrayLike) -> float:
    """Mean recall of classes of which the library has five examples, and all of the others."""
    true = np.asarray(names)
    order = np.arange(len(true))
    recalls = []
    for name in np.unique(true):
        own = np.flatnonzero(true == name)
        if len(own) < 2 * _FEW:
            continue
        taught = (order % 2 == 0) & (true != name)
        taught[own[:_FEW]] = True
        library = Library.empty().add(
            table.take(taught), true[taught].tolist(), ["drawn"] * int(taught.sum())
        )
        given = library.classifier().name_defects(table.take(own[_FEW:]))[0]
        recalls.append(float(np.mean(given == name)))
    return float(np.mean(recalls)) if recalls else 0.0


def _new_class(table: DefectTable, names: ArrayLike) -> tuple[float, float]:
    """Unknown (%) to a library without one class: of this class, and of those that it has."""
    true = np.asarray(names)
    even = np.arange(len(true)) % 2 == 0
    new, known = [], []
    for name in np.unique(true):
        taught = even & (true != name)
        library = Library.empty().add(
            table.take(taught), true[taught].tolist(), ["drawn"] * int(taught.sum())
        )
        given = library.classifier().name_defects(table.take(~even))[0]
        unknown, own = given == LibraryClassifier.UNKNOWN, true[~even] == name
        new.append(float(np.mean(unknown[own])) if own.any() else np.nan)
        known.append(float(np.mean(unknown[~own])) if (~own).any() else np.nan)
    return 100.0 * float(np.nanmean(new)), 100.0 * float(np.nanmean(known))


def rand_index(found: ArrayLike, true: ArrayLike) -> float:
    """Adjusted Rand index of two ways to sort the same things: 1 the same, 0 no better than chance.

    Hubert and Arabie, J. Classif. 2, 193 (1985).

    Parameters
    ----------
    found, true : (N,) array_like
        Labels of any kind.
    """
    _, a = np.unique(np.asarray(found), return_inverse=True)
    _, b = np.unique(np.asarray(true), return_inverse=True)
    table = np.zeros((a.max(initial=0) + 1, b.max(initial=0) + 1))
    np.add.at(table, (a.ravel(), b.ravel()), 1.0)

    def pairs(counts: np.ndarray) -> float:
        return float((0.5 * counts * (counts - 1.0)).sum())

    both, left, right = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = left * right / max(pairs(np.array([len(a)])), 1.0)
    most = 0.5 * (left + right)
    return (both - expected) / (most - expected) if most > expected else 1.0
