"""Knowing when to stop: how well does the map agree with the surface that nobody has seen.

Over the frame, the map has the spatial variance A and the surface deviates from it by the
variance B; Pearson's r of map and surface is then sqrt(A / (A + B)).

A follows from the map. B does not follow from the posterior variance, which is too large for a
defect on a flat background, because one length and one variance have to serve both, and too small
for structure finer than the length. It is estimated by leaving out one outcome at a time: what all
others predict there, compared with what was found, without the noise of the finding. Spectra crowd
where the map is interesting, so each counts with the part of the frame that is nearest to it. The
posterior with one outcome less is that of a slightly sparser map, which keeps the estimate on the
safe side; so does a part of its own scatter, which few or noisy spectra make large.
"""

import numpy as np

from .model import SurfaceModel

# So many outcomes tell nothing yet: hyperparameters have been fitted to them.
_FITTED = 4

# How many standard deviations of itself the estimate of B is raised by.
_DOUBT = 0.3


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
    from scipy.spatial import cKDTree

    count = len(model)
    if count <= _FITTED:
        return 0.0
    between = float(np.var(model.cache.mean))
    if between <= 1e-18:
        return 0.0
    cache, grid = model.cautious_cache, model.grid
    size = (grid.width, grid.height)
    _, nearest = cKDTree(cache.x * size).query(grid.uv)
    share = np.bincount(nearest, minlength=count) / grid.size
    error, predicted = cache.leave_one_out()
    unexplained = max(float(share @ (error**2 - cache.noise)), 0.0)
    # A squared error scatters by as much as it is expected to be, times the root of two.
    scatter = float(np.sqrt(2.0 * np.sum((share * np.maximum(predicted, error**2)) ** 2)))
    within = (unexplained + _DOUBT * scatter) * count / (count - _FITTED)
    return float(np.sqrt(between / (between + within)))
