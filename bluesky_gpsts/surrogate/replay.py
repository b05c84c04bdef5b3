"""The map after any number of spectra, from recorded values alone and without gpCAM."""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .kernels import Kernel, get_kernel
from .parts import add_part
from .structures import structure_from_json
from .training import Prior

FloatArray = npt.NDArray[np.float64]

_CHUNK = 4096


def posterior_maps(
    grid: Grid,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    values: npt.ArrayLike,
    variances: npt.ArrayLike,
    hyperparameters: npt.ArrayLike,
    kernel: str = "matern-5/2",
    structure: str = "",
    images: npt.ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and standard deviation over the grid.

    Equations 3 and 4 of Thomas et al., npj Comput. Mater. 8, 99 (2022).

    Parameters
    ----------
    grid : Grid
        The candidates.
    x, y : array_like, shape (N,)
        Measured positions in sample coordinates, in metres.
    values : array_like, shape (N,)
        Outcomes.
    variances : array_like, shape (N,), or float
        Their noise variances, in their unit squared. Where some outcomes came without one,
        `bluesky_gpsts.surrogate.scaling.noise_variances` and the decision's
        ``default_noise_variance`` give those that the optimizer worked with.
    hyperparameters : array_like, shape (4,)
        As a decision records them: signal variance, lengths along the frame's axes in metres,
        prior mean.
    kernel : str
        Name of the kernel.
    structure : str
        As a decision records it; empty without one.
    images : array_like, optional
        The topograph (ny, nx) or the maps (K, ny, nx) where the structure is one of those, which
        a decision names by their checksum.

    Returns
    -------
    mean, std : ndarray, shape (ny, nx)
        In the unit of the outcomes; row 0 is the bottom row.

    Raises
    ------
    ValueError
        If the arrays do not fit together, a number is not finite or a variance is not positive,
        there is no such kernel, or the structure is
        damaged or needs an image.
    """
    from scipy.linalg import solve_triangular

    covariance = recorded_covariance(grid, hyperparameters, kernel, structure, images)
    outcomes = np.atleast_1d(np.asarray(values, dtype=float))
    unit, noise = checked_points(grid, x, y, outcomes, variances)
    if outcomes.ndim != 1:
        raise ValueError(f"Values have shape {outcomes.shape}; give one for each position.")
    # Work relative to the signal's size: the square of a current in ampere is near 1e-24.
    amplitude = covariance.amplitude
    matrix = covariance(unit, unit)
    matrix[np.diag_indices_from(matrix)] += noise / amplitude**2
    factor = np.linalg.cholesky(matrix)
    white = solve_triangular(factor, (outcomes - covariance.prior_mean) / amplitude, lower=True)
    mean = np.empty(grid.size)
    variance = np.empty(grid.size)
    for start in range(0, grid.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = solve_triangular(factor, covariance(unit, grid.unit[part]), lower=True)
        mean[part] = white @ rows
        prior = covariance.variance(grid.unit[part])
        variance[part] = prior - np.einsum("nm,nm->m", rows, rows)
    std = np.sqrt(np.maximum(variance, 0.0))
    return (
        grid.as_map(covariance.prior_mean + amplitude * mean),
        grid.as_map(amplitude * std),
    )


def prior_variance(
    grid: Grid,
    hyperparameters: npt.ArrayLike,
    kernel: str = "matern-5/2",
    structure: str = "",
    images: npt.ArrayLike | None = None,
) -> FloatArray:
    """Variance (ny, nx) before any measurement; parameters and errors as of `posterior_maps`."""
    covariance = recorded_covariance(grid, hyperparameters, kernel, structure, images)
    return grid.as_map(covariance.amplitude**2 * covariance.variance(grid.unit))


@dataclass(frozen=True, eq=False)
class RecordedCovariance:
    """Covariance of a decision, relative to its signal variance.

    Attributes
    ----------
    kernel : Kernel
        Covariance function.
    vector : ndarray, shape (P,)
        Its hyperparameters; fractions of the frame.
    amplitude : float
        Root of the signal variance, in the unit of the outcomes.
    prior_mean : float
        In that unit.
    """

    kernel: Kernel
    vector: FloatArray
    amplitude: float
    prior_mean: float

    def __call__(self, x1: FloatArray, x2: FloatArray) -> FloatArray:
        """Covariances (N, M) between positions in fractions of the frame."""
        return self.kernel.function(x1, x2, self.vector)

    def variance(self, x: FloatArray) -> FloatArray:
        """Variances (N,) at positions in fractions of the frame."""
        return self.kernel.variance(x, self.vector)


def recorded_covariance(
    grid: Grid,
    hyperparameters: npt.ArrayLike,
    kernel: str,
    structure: str = "",
    images: npt.ArrayLike | None = None,
) -> RecordedCovariance:
    """Rebuild the covariance that a decision records; parameters as for `posterior_maps`.

    Raises
    ------
    ValueError
        If a hyperparameter is out of range, there is no such kernel, or the structure is damaged
        or needs an image.
    """
    base = get_kernel(kernel)
    parameters = np.asarray(hyperparameters, dtype=float)
    good = parameters.shape == (4,) and np.isfinite(parameters).all() and (parameters[:3] > 0).all()
    if not good:
        raise ValueError(
            f"Hyperparameters are {parameters.tolist()}; give signal variance, two lengths (all "
            "above zero) and prior mean."
        )
    lengths = [parameters[1] / grid.width, parameters[2] / grid.height]
    signal = float(parameters[0])
    if not structure:
        vector = np.array([1.0, *lengths, 0.0])
        return RecordedCovariance(base, vector, float(np.sqrt(signal)), float(parameters[3]))
    try:
        state = json.loads(structure)
        named = state["hyperparameters"]
        prior = Prior()
        part = structure_from_json(state, images).part(
            grid, kernel, prior.length, prior.length_factor
        )
        values = np.array([float(named[name]) for name in part.names])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"The structure of the decision is damaged ({type(error).__name__}: {error})."
        ) from error
    total = signal + float(values[0])
    values[0] /= total
    vector = np.array([signal / total, *lengths, 0.0, *values])
    return RecordedCovariance(
        add_part(base, part), vector, float(np.sqrt(total)), float(parameters[3])
    )


def checked_points(
    grid: Grid,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    outcomes: FloatArray,
    variances: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Check positions, outcomes (N, ...) and variances.

    Returns
    -------
    unit : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    noise : ndarray, shape (N,)
        Noise variances.

    Raises
    ------
    ValueError
        If they do not fit together, a number is not finite or a variance is not positive.
    """
    positions = np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]).astype(float)
    count = len(outcomes)
    if count == 0 or positions.shape != (count, 2):
        raise ValueError(
            f"There are {count} values at {len(positions)} positions; give one position "
            "for each value, and at least one value."
        )
    noise = np.broadcast_to(np.asarray(variances, dtype=float), (count,))
    finite = np.isfinite(outcomes.reshape(count, -1)).all(axis=1)
    finite &= np.isfinite(positions).all(axis=1) & np.isfinite(noise) & (noise > 0)
    if not finite.all():
        raise ValueError(
            "Values, positions and hyperparameters must be finite and variances above zero; "
            f"check points {np.flatnonzero(~finite).tolist()}."
        )
    return grid.to_unit(positions), noise
