"""Knowing when to stop: how well does the map agree with the surface that nobody has seen.

The posterior says how the surface may deviate from the map. Over the frame, the map has the
spatial variance A and the deviation, which is not correlated with it, the expected spatial variance
B; Pearson's r of map and surface is then sqrt(A / (A + B)).
"""

import numpy as np

from .model import SurfaceModel

# The spatial average of the deviation needs covariances between candidates; so many will do.
_SAMPLE = 400


def estimated_correlation(model: SurfaceModel) -> float:
    """Pearson's r to expect between the posterior mean and the surface, 0 to 1.

    The posterior variance is as good as the hyperparameters. It is scaled up where outcomes have
    been further from what the others predict than they should have been (leave-one-out).

    Parameters
    ----------
    model : SurfaceModel
        A model with data.

    Returns
    -------
    float
        The estimate; 0 for a map without contrast.
    """
    cache = model.cache
    between = float(np.var(cache.mean))
    if len(cache) < 2 or between <= 1e-18:
        return 0.0
    within = float(cache.variance.mean()) - _variance_of_average(model)
    residuals = cache.residuals()
    within *= max(1.0, float(np.mean(residuals**2)))
    return float(np.sqrt(between / (between + max(within, 0.0))))


def _variance_of_average(model: SurfaceModel) -> float:
    """Posterior variance of the average over the frame, from an even sample of the candidates."""
    grid = model.grid
    step = max(1, int(np.sqrt(grid.size / _SAMPLE)))
    rows = np.arange(step // 2, grid.ny, step)
    columns = np.arange(step // 2, grid.nx, step)
    chosen = (rows[:, None] * grid.nx + columns[None]).ravel()
    average = model.cache.rows(chosen).mean(axis=1)
    return float(model.prior_covariance(chosen).mean() - average @ average)
