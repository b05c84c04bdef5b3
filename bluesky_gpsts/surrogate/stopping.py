"""Knowing when to stop: how well does the map agree with the surface that nobody has seen.

The posterior says how the surface may deviate from the map. Over the frame, the map has the
spatial variance A and the deviation, which is not correlated with it, the expected variance B;
Pearson's r of map and surface is then sqrt(A / (A + B)).

The posterior variance alone is too large for a defect on a flat background, because one length
and one variance have to serve both, and too small where hyperparameters were unlucky. So it is
multiplied by how far outcomes nearby were from what all others predict for them (leave-one-out),
relative to how far they should have been. What counts as near is the kernel's own correlation, so
that places that are equal by symmetry are near each other.
"""

import numpy as np

from .model import SurfaceModel

# The average over the frame needs no more candidates than this, evenly spaced.
_SAMPLE = 2000

# Weight of "as predicted" against the outcomes nearby; calibrated together with the fewest
# outcomes that tell anything, such that where the estimate says 0.95, r is at least 0.93.
_AS_PREDICTED = 0.3
_FEWEST = 4


def estimated_correlation(model: SurfaceModel) -> float:
    """Pearson's r to expect between the posterior mean and the surface, 0 to 1.

    As long as the outcomes do not speak for a structure, the deviation is that without it.

    Parameters
    ----------
    model : SurfaceModel
        A model with data.

    Returns
    -------
    float
        The estimate; 0 for a map without contrast, or of four outcomes or fewer.
    """
    count = len(model)
    if count <= _FEWEST:
        return 0.0
    between = float(np.var(model.cache.mean))
    if between <= 1e-18:
        return 0.0
    grid, cautious = model.grid, model.cautious_cache
    step = max(1, int(np.sqrt(grid.size / _SAMPLE)))
    rows = np.arange(step // 2, grid.ny, step)
    columns = np.arange(step // 2, grid.nx, step)
    chosen = (rows[:, None] * grid.nx + columns[None]).ravel()
    squares = cautious.residuals() ** 2
    near = cautious.correlation_with(chosen) ** 2
    general = max(1.0, float(squares.mean()))
    factor = (squares @ near + _AS_PREDICTED * general) / (near.sum(axis=0) + _AS_PREDICTED)
    within = float(np.mean(factor * cautious.variance[chosen])) * count / (count - _FEWEST)
    return float(np.sqrt(between / (between + within)))
