"""Whole spectra over the frame: a map at every bias from the spectra that were taken.

The principal components of the spectra are outputs that share one covariance over the frame, that
of the decision. Each has its own level and its own noise: the components that carry the signal
follow the spectra, those that carry noise fade to their mean.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .records import Decision
from .replay import checked_points, recorded_covariance

FloatArray = npt.NDArray[np.float64]

_CHUNK = 4096
_NOISE_FACTORS = 4.0 ** np.arange(-2, 7)


def spectral_cube(
    grid: Grid,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    spectra: npt.ArrayLike,
    variances: npt.ArrayLike,
    decision: Decision | Mapping[str, Any],
    *,
    kernel: str = "matern-5/2",
    components: int = 12,
    images: npt.ArrayLike | None = None,
) -> FloatArray:
    """Expected spectrum at every candidate.

    Parameters
    ----------
    grid : Grid
        The candidates.
    x, y : array_like, shape (N,)
        Measured positions in sample coordinates, in metres.
    spectra : array_like, shape (N, n_bias)
        Spectra on one bias axis, any unit.
    variances : array_like, shape (N,), or float
        Noise variances of the figure of merit, in its unit squared, as for `posterior_maps`: they
        tell how the noise of the spectra compares from one to another.
    decision : Decision or mapping
        Has ``"hyperparameters"`` (4,) and may have ``"structure"``.
    kernel : str
        Name of the kernel.
    components : int
        Largest number of principal components.
    images : array_like, optional
        See `posterior_maps`.

    Returns
    -------
    ndarray, shape (ny, nx, n_bias)
        In the unit of the spectra; row 0 is the bottom row.

    Raises
    ------
    ValueError
        If the arrays do not fit together, a number is not finite, or a variance is not positive.
    """
    if isinstance(decision, Decision):
        hyperparameters, structure = decision.hyperparameters, decision.structure
    else:
        hyperparameters = decision["hyperparameters"]
        structure = str(decision.get("structure", ""))
    covariance = recorded_covariance(grid, hyperparameters, kernel, structure, images)
    table = np.asarray(spectra, dtype=float)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(
            f"Spectra have shape {table.shape}; give one row per position and one column per bias."
        )
    if isinstance(components, bool) or components < 1:
        raise ValueError(f"components is {components!r}; give a whole number of at least 1.")
    unit, noise = checked_points(grid, x, y, table, variances)
    level = table.mean(axis=0)
    # Spectra in ampere per volt are near 1e-10; their products would lose digits.
    size = float(np.abs(table - level).max()) or 1.0
    left, sizes, shapes = np.linalg.svd((table - level) / size, full_matrices=False)
    keep = min(components, int(np.sum(sizes > 1e-9 * max(sizes[0], 1e-300))))
    scores, shapes = left[:, :keep] * sizes[:keep], shapes[:keep]
    matrix = covariance(unit, unit)
    weights = np.empty_like(scores)
    means = np.empty(keep)
    for k in range(keep):
        means[k], weights[:, k] = _solve(matrix, noise / covariance.amplitude**2, scores[:, k])
    cube = np.empty((grid.size, table.shape[1]))
    for start in range(0, grid.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        fields = covariance(grid.unit[part], unit) @ weights + means
        cube[part] = level + size * (fields @ shapes)
    return cube.reshape(grid.ny, grid.nx, table.shape[1])


def _solve(matrix: FloatArray, noise: FloatArray, scores: FloatArray) -> tuple[float, FloatArray]:
    """Mean and weights (N,) of one component at the likeliest ratio of noise to signal.

    Level and signal variance are at their own optimum (profile likelihood).
    """
    from scipy.linalg import cho_solve

    best, answer = -np.inf, (0.0, np.zeros_like(scores))
    one = np.ones(len(scores))
    for factor in _NOISE_FACTORS:
        total = matrix.copy()
        total[np.diag_indices_from(total)] += factor * noise
        lower = np.linalg.cholesky(total)
        by_score, by_one = cho_solve((lower, True), scores), cho_solve((lower, True), one)
        mean = float(one @ by_score / (one @ by_one))
        weights = by_score - mean * by_one
        signal = max(float((scores - mean) @ weights) / len(scores), 1e-300)
        value = -0.5 * len(scores) * np.log(signal) - np.log(np.diag(lower)).sum()
        if value > best + 1e-9:
            best, answer = value, (mean, weights)
    return answer
