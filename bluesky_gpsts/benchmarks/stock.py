"""gpCAM as it comes, for comparison."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.maps.types import FloatArray
from bluesky_gpsts.surrogate import Grid

CHUNK = 256
# Factors of posterior mean and standard deviation.
_WEIGHTS = {"variance": (0.0, 1.0), "ucb": (1.0, 3.0)}


def stock_means(
    how: str,
    grid: Grid,
    values: FloatArray,
    variances: FloatArray,
    train_at: Sequence[int],
    seed: int,
    limit: int,
) -> Iterator[FloatArray]:
    """Steer with gpCAM as it comes: its kernel, its bounds, its own training.

    The candidates go through a callable in chunks, which chooses as the string would on the list
    and does without the covariance of all candidates. gpCAM draws the starts of its training
    from NumPy's global generator.

    Parameters
    ----------
    how : str
        "variance" or "ucb" (mean and three deviations).
    grid : Grid
        The candidates; no two spectra at one of them.
    values, variances : ndarray, shape (M,)
        What a spectrum at each candidate gives, of order one as gpCAM's defaults expect, and
        the variance of its noise, which gpCAM is told.
    train_at : sequence of int
        Numbers of spectra at which it trains.
    seed : int
        Seed of the first point and of the training.
    limit : int
        Number of spectra.

    Yields
    ------
    ndarray, shape (M,)
        Posterior mean after each spectrum.
    """
    unit, weight = grid.unit, _WEIGHTS[how]
    with quiet_gpcam(seed) as gpcam:
        first = int(np.random.default_rng([seed, 33]).integers(grid.size))
        free = np.ones(grid.size, dtype=bool)
        free[first] = False
        gp = gpcam.GPOptimizer(
            unit[[first]],
            values[[first]],
            init_hyperparameters=np.array([1.0, 0.2, 0.2]),
            noise_variances=variances[[first]],
        )
        for count in range(1, limit + 1):
            if count in train_at:
                gp.train()
            mean = gp.posterior_mean(unit)["m(x)"]
            yield mean
            if count == limit:
                return
            deviation = np.sqrt(np.maximum(chunked_variance(gp, unit), 0.0))
            scores = weight[0] * mean + weight[1] * deviation
            scores[~free] = -np.inf
            answer = gp.ask(list(range(grid.size)), acquisition_function=_given(scores))
            index = int(answer["x"][0])
            free[index] = False
            gp.tell(unit[[index]], values[[index]], noise_variances=variances[[index]], append=True)


def _given(scores: FloatArray) -> Any:
    return lambda _candidates, _gp: scores


def chunked_variance(gp: Any, unit: FloatArray, chunk: int = CHUNK) -> FloatArray:
    """Posterior variance (M,) of gpCAM's model at positions (M, 2), in chunks of candidates."""
    parts = [
        gp.posterior_covariance(unit[at : at + chunk], variance_only=True)["v(x)"]
        for at in range(0, len(unit), chunk)
    ]
    return np.concatenate(parts)


@contextmanager
def quiet_gpcam(seed: int) -> Iterator[Any]:
    """Give out gpCAM, one BLAS thread, no warnings, and NumPy's global generator seeded."""
    import scipy.linalg  # noqa: F401 - its BLAS must be there to be limited
    from threadpoolctl import threadpool_limits

    state = np.random.get_state()
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        import gpcam

        warnings.simplefilter("ignore")
        np.random.seed(seed)
        try:
            yield gpcam
        finally:
            np.random.set_state(state)
