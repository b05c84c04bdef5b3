"""The classes of a run's spectra: at its points, pixel by pixel, and over a catalog of runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import CatalogError, find
from bluesky_gpsts.catalog import spectra as read_spectra
from bluesky_gpsts.spectra import NONE, Classes, Classifier
from bluesky_gpsts.surrogate import Grid, posterior_maps, prior_variance, spectral_cube
from bluesky_gpsts.surrogate.threads import single_thread

from .errors import AnalysisError
from .history import MapHistory
from .record import RunRecord

__all__ = [
    "ClassSpectrum",
    "CubeClasses",
    "PointClasses",
    "class_spectra",
    "classify_catalog",
    "classify_cube",
    "classify_map",
    "classify_points",
    "classify_run",
    "interpolate",
    "pixel_classes",
    "unmeasured",
]

FloatArray = npt.NDArray[np.float64]

_BATCH = 2048
"""Spectra that are classified at a time, between two calls of a progress callback."""


@dataclass(frozen=True, eq=False)
class PointClasses:
    """Spectra of a run, at their points, with their classes.

    Attributes
    ----------
    uid : str
        The run.
    seq_nums : ndarray of int, shape (N,)
        Their sequence numbers.
    x, y : ndarray, shape (N,)
        Positions in sample coordinates (m); NaN where the run does not have them.
    bias : ndarray, shape (n,)
        Bias axis (V).
    didv : ndarray, shape (N, n)
        Differential conductance (A/V).
    found : Classes
        What the classifier says.
    """

    uid: str
    seq_nums: npt.NDArray[np.int64]
    x: FloatArray
    y: FloatArray
    bias: FloatArray
    didv: FloatArray
    found: Classes

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Which spectra were judged: shape (N,)."""
        return np.array([not problem for problem in self.found.problems], dtype=bool)

    @property
    def counts(self) -> dict[str, int]:
        """Number of spectra of each class, of those of none, and of those not judged ("")."""
        named = np.where(self.judged, self.found.labels, "")
        return {name: int((named == name).sum()) for name in (*self.found.classes, NONE, "")}


@dataclass(frozen=True, eq=False)
class CubeClasses:
    """Classes of every pixel of a cube.

    Attributes
    ----------
    classes : tuple of str
        Names of the K classes.
    index : ndarray of int, shape (ny, nx)
        Class of each pixel; K for none of these; -1 where it was not judged. Row 0 is the bottom.
    confidence : ndarray, shape (ny, nx)
        Probability that this is right; NaN where it was not judged.
    probabilities : ndarray, shape (ny, nx, K)
        Of each class.
    novelty : ndarray, shape (ny, nx)
        0 to 1.
    """

    classes: tuple[str, ...]
    index: npt.NDArray[np.int64]
    confidence: FloatArray
    probabilities: FloatArray
    novelty: FloatArray

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class, of those of none, and of those not judged ("")."""
        places = [*range(len(self.classes) + 1), -1]
        names = (*self.classes, NONE, "")
        return {
            name: float(np.mean(self.index == k)) for name, k in zip(names, places, strict=True)
        }


@dataclass(frozen=True, eq=False)
class ClassSpectrum:
    """Mean and standard deviation (A/V, shape (n,)) of the `count` spectra of a class."""

    name: str
    count: int
    mean: FloatArray
    std: FloatArray


def classify_run(run: Any, classifier: Classifier) -> PointClasses:
    """Name the spectra of a run.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run with spectra, such as one of the plan gp_sts.
    classifier : Classifier

    Returns
    -------
    PointClasses

    Raises
    ------
    AnalysisError
        The run has no dI/dV.
    CatalogError
        The run cannot be read.
    """
    return _classified(str(run.metadata["start"]["uid"]), read_spectra(run), classifier)


def classify_points(record: RunRecord, classifier: Classifier) -> PointClasses:
    """Name the spectra of a run that was read already; as `classify_run`."""
    return _classified(str(record.start["uid"]), record.spectra, classifier)


def classify_catalog(
    catalog: Any,
    classifier: Classifier,
    progress: Callable[[int, int], None] | None = None,
    **start: Any,
) -> Iterator[PointClasses | AnalysisError]:
    """Name the spectra of all runs of a catalog that have some.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where to look.
    classifier : Classifier
    progress : callable, optional
        Called with the number of runs done and of all runs, after each.
    **start
        Fields of the start document and their values, to choose runs by, such as ``sample``.

    Yields
    ------
    PointClasses or AnalysisError
        In the order of time; an error, not raised, for a run whose spectra cannot be read.
    """
    runs = [r for r in find(catalog, **start) if "bias" in _columns(r)]
    for done, run in enumerate(runs, start=1):
        try:
            yield classify_run(run, classifier)
        except (AnalysisError, CatalogError) as error:
            yield AnalysisError(str(error))
        if progress is not None:
            progress(done, len(runs))


def interpolate(record: RunRecord, grid: Grid | None = None) -> FloatArray:
    """Expected spectrum at every candidate of a run, by its own covariance.

    Parameters
    ----------
    record : RunRecord
        A run with a map and dI/dV.
    grid : Grid, optional
        Other pixels of the same frame; the run's candidates if left out.

    Returns
    -------
    ndarray, shape (ny, nx, n)
        dI/dV (A/V); row 0 is the bottom row.

    Raises
    ------
    AnalysisError
        The run has no map or no dI/dV.
    ValueError
        Other pixels are asked for, and the run's prior is an image that is known at its own only.
    """
    history, usable, noise, covariance = _measured(record)
    with single_thread():
        return spectral_cube(
            history.grid if grid is None else grid,
            history.x[usable],
            history.y[usable],
            record.spectra["didv"].values[usable],
            noise,
            covariance,
            kernel=covariance["kernel"],
            images=covariance["images"],
        )


def unmeasured(record: RunRecord, grid: Grid | None = None) -> FloatArray:
    """Share of the variance at every candidate of a run that its spectra leave open.

    Parameters
    ----------
    record : RunRecord
        A run with a map and dI/dV.
    grid : Grid, optional
        Other pixels of the same frame; the run's candidates if left out.

    Returns
    -------
    ndarray, shape (ny, nx)
        Posterior by prior variance of the figure of merit: 0 where all is known, 1 where nothing
        was measured anywhere near.

    Raises
    ------
    AnalysisError, ValueError
        As of `interpolate`.
    """
    history, usable, noise, covariance = _measured(record)
    pixels = history.grid if grid is None else grid
    with single_thread():
        _, std = posterior_maps(
            pixels,
            history.x[usable],
            history.y[usable],
            history.values[usable],
            noise,
            **covariance,
        )
        return np.clip(std**2 / prior_variance(pixels, **covariance), 0.0, 1.0)


def _measured(
    record: RunRecord,
) -> tuple[MapHistory, npt.NDArray[np.bool_], FloatArray, dict[str, Any]]:
    """Map of a run, its usable spectra (N,), their noise variances, and the last covariance."""
    history = record.history
    if not record.has_map or "didv" not in record.spectra:
        raise AnalysisError(
            f"Run {record.start['uid']} has no map with dI/dV to interpolate; take spectra with "
            "gp_sts."
        )
    finite = np.isfinite(record.spectra["didv"].values).all(axis=1)
    usable = history.valid & finite
    noise = np.full(len(history), np.nan)
    noise[history.valid] = history.noise(len(history))
    covariance = {
        "hyperparameters": history.hyperparameters[-1],
        "kernel": history.kernel,
        "structure": history.structures[-1],
        "images": history.images,
    }
    return history, usable, noise[usable], covariance


def classify_map(
    record: RunRecord,
    points: PointClasses,
    classifier: Classifier,
    progress: Callable[[int, int], None] | None = None,
) -> CubeClasses:
    """Name the spectrum that is expected at every candidate of a run, and say how sure that is.

    Where the spectra leave the share v of the variance open, the pixel has the probabilities of
    its expected spectrum with the weight 1 - v, and with the weight v those of a place about
    which nothing is known: the shares of the classes among the run's spectra.

    Parameters
    ----------
    record : RunRecord
        A run with a map and dI/dV.
    points : PointClasses
        Its spectra, named by `classifier`.
    classifier : Classifier
    progress : callable, optional
        Called with the number of pixels done and of all pixels.

    Returns
    -------
    CubeClasses

    Raises
    ------
    AnalysisError
        As of `interpolate`.
    """
    grid = record.history.grid
    found = _classified_pixels(points.bias, interpolate(record), classifier, progress)
    judged, named = points.judged, points.found
    if judged.any():
        known = judged & (named.novelty <= 0.5)
        shares = named.probabilities[known if known.any() else judged].mean(axis=0)
        strange = float(np.mean(named.novelty[judged] > 0.5))
        open_share = unmeasured(record).ravel()
        found = Classes(
            found.classes,
            (1.0 - open_share)[:, None] * found.probabilities + np.outer(open_share, shares),
            (1.0 - open_share) * found.novelty + open_share * strange,
            found.problems,
        )
    return pixel_classes(found, (grid.ny, grid.nx))


def classify_cube(
    bias: FloatArray,
    cube: FloatArray,
    classifier: Classifier,
    progress: Callable[[int, int], None] | None = None,
) -> CubeClasses:
    """Name every pixel of a cube, a grid that was measured or one that was interpolated.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    cube : (ny, nx, n) array
        dI/dV (A/V).
    classifier : Classifier
    progress : callable, optional
        Called with the number of pixels done and of all pixels.

    Returns
    -------
    CubeClasses

    Raises
    ------
    ValueError
        If the arrays do not have these shapes.
    """
    cube = np.asarray(cube, dtype=float)
    if cube.ndim != 3 or cube.shape[2] != len(bias) or 0 in cube.shape:
        raise ValueError(
            f"the cube has shape {cube.shape} and the bias axis {len(bias)} points; give (ny, nx, "
            "n) with n points"
        )
    return pixel_classes(_classified_pixels(bias, cube, classifier, progress), cube.shape[:2])


def _classified_pixels(
    bias: FloatArray,
    cube: FloatArray,
    classifier: Classifier,
    progress: Callable[[int, int], None] | None,
) -> Classes:
    """Classes of the pixels of a cube (ny, nx, n), row by row."""
    flat = cube.reshape(-1, cube.shape[2])
    parts = []
    for begin in range(0, len(flat), _BATCH):
        parts.append(classifier.classify(bias, flat[begin : begin + _BATCH]))
        if progress is not None:
            progress(min(begin + _BATCH, len(flat)), len(flat))
    return Classes(
        tuple(classifier.classes),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.novelty for part in parts]),
        tuple(problem for part in parts for problem in part.problems),
    )


def pixel_classes(found: Classes, shape: tuple[int, int]) -> CubeClasses:
    """Arrange the classes of ny * nx spectra, row by row from the bottom, as an image (ny, nx)."""
    kinds = len(found.classes)
    good = np.array([not problem for problem in found.problems])
    best = np.where(found.novelty > 0.5, kinds, found.probabilities.argmax(axis=1))
    return CubeClasses(
        found.classes,
        np.where(good, best, -1).reshape(shape),
        np.where(good, found.confidence, np.nan).reshape(shape),
        found.probabilities.reshape(*shape, kinds),
        found.novelty.reshape(shape),
    )


def class_spectra(points: PointClasses) -> list[ClassSpectrum]:
    """Mean spectrum of each class that occurs, of the spectra as they were measured.

    Parameters
    ----------
    points : PointClasses

    Returns
    -------
    list of ClassSpectrum
        In the order of the classes; those of none of them last. Spectra that were not judged are
        left out.
    """
    named = np.where(points.judged, points.found.labels, "")
    groups = [(name, points.didv[named == name]) for name in (*points.found.classes, NONE)]
    return [
        ClassSpectrum(name, len(rows), rows.mean(axis=0), rows.std(axis=0))
        for name, rows in groups
        if len(rows)
    ]


def _columns(run: Any) -> dict[str, Any]:
    columns = run.metadata["start"].get("columns")
    return columns if isinstance(columns, dict) else {}


def _classified(uid: str, spectra: Any, classifier: Classifier) -> PointClasses:
    if "didv" not in spectra:
        raise AnalysisError(f"Run {uid} has no dI/dV; classes are found in dI/dV only.")
    bias, didv = spectra["bias"].values, spectra["didv"].values
    nowhere = np.full(len(didv), np.nan)
    x, y = (spectra[axis].values if axis in spectra.coords else nowhere for axis in ("x", "y"))
    if not len(didv):
        kinds = len(classifier.classes)
        found = Classes(tuple(classifier.classes), np.empty((0, kinds)), np.empty(0), ())
    else:
        found = classifier.classify(bias, didv)
    return PointClasses(uid, spectra["seq_num"].values, x, y, bias, didv, found)
