"""The map after any number of spectra, from recorded values alone and without gpCAM."""

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .kernels import get_kernel

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

    Returns
    -------
    mean, std : ndarray, shape (ny, nx)
        In the unit of the outcomes; row 0 is the bottom row.

    Raises
    ------
    ValueError
        If the arrays do not fit together, a number is not finite or a variance is not positive,
        or there is no such kernel.
    """
    from scipy.linalg import solve_triangular

    function = get_kernel(kernel).function
    outcomes = np.atleast_1d(np.asarray(values, dtype=float))
    positions = np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]).astype(float)
    parameters = np.asarray(hyperparameters, dtype=float)
    if outcomes.ndim != 1 or len(outcomes) == 0 or positions.shape != (len(outcomes), 2):
        raise ValueError(
            f"There are {outcomes.size} values at {len(positions)} positions; give one position "
            "for each value, and at least one value."
        )
    noise = np.broadcast_to(np.asarray(variances, dtype=float), outcomes.shape)
    if parameters.shape != (4,) or not (parameters[:3] > 0).all():
        raise ValueError(
            f"Hyperparameters are {parameters.tolist()}; give signal variance, two lengths (all "
            "above zero) and prior mean."
        )
    finite = np.isfinite(outcomes) & np.isfinite(positions).all(axis=1) & np.isfinite(noise)
    if not finite.all() or not np.isfinite(parameters).all() or not (noise > 0).all():
        raise ValueError(
            "Values, positions and hyperparameters must be finite and variances above zero; "
            f"check points {np.flatnonzero(~(finite & (noise > 0))).tolist()}."
        )
    # Work relative to the signal's size: the square of a current in ampere is near 1e-24.
    amplitude = float(np.sqrt(parameters[0]))
    scaled = np.array([1.0, parameters[1] / grid.width, parameters[2] / grid.height, 0.0])
    unit = grid.to_unit(positions)
    covariance = function(unit, unit, scaled)
    covariance[np.diag_indices_from(covariance)] += noise / parameters[0]
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, (outcomes - parameters[3]) / amplitude, lower=True)
    mean = np.empty(grid.size)
    variance = np.empty(grid.size)
    for start in range(0, grid.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = solve_triangular(factor, function(unit, grid.unit[part], scaled), lower=True)
        mean[part] = white @ rows
        variance[part] = 1.0 - np.einsum("nm,nm->m", rows, rows)
    std = np.sqrt(np.maximum(variance, 0.0))
    return grid.as_map(parameters[3] + amplitude * mean), grid.as_map(amplitude * std)
