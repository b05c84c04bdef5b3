"""The surface as a Gaussian process: gpCAM holds the model, a cache makes it fast on the grid."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from .acquisition import Acquisition, evaluate, ranked
from .candidates import CandidateCache
from .grid import Grid
from .kernels import Kernel, prior_mean, prior_mean_gradient
from .scaling import Scaling
from .training import Prior, train

FloatArray = npt.NDArray[np.float64]


class SurfaceModel:
    """Gaussian process over a grid, in standardised outcomes and fractions of the frame.

    gpCAM's `GPOptimizer` is the model of record: it has the data, the noise, the kernel and the
    hyperparameters. The cache has the same and gives mean and variance at all candidates.

    Parameters
    ----------
    grid : Grid
        The candidates.
    kernel : Kernel
        Covariance function.
    prior : Prior
        Prior on the hyperparameters.
    relative_noise : float
        Standard deviation of the noise of an outcome that came without a variance, as a fraction
        of the range of the outcomes.
    """

    def __init__(self, grid: Grid, kernel: Kernel, prior: Prior, relative_noise: float) -> None:
        self.grid = grid
        self.kernel = kernel
        self.prior = prior
        self.relative_noise = relative_noise
        self.scaling = Scaling(0.0, 1.0, relative_noise**2)
        self.trained = False
        self._hyperparameters = prior.median
        self._cache = CandidateCache(grid.unit, kernel.function, self._hyperparameters)
        self._gp: Any = None
        self._gp_has_mean = False
        # gpCAM takes a list of candidates; the numbers stand for them, see `best`.
        self._indices = list(range(grid.size))

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def gp(self) -> Any:
        """The `GPOptimizer` of gpCAM with all data, or None before the first.

        Its positions are fractions of the frame, its outcomes standardised by ``scaling``, its
        hyperparameters those of `bluesky_gpsts.surrogate.kernels`.
        """
        if self._gp is not None and not self._gp_has_mean:
            # Setting the mean makes gpCAM factorise again, so it is done when somebody looks.
            self._gp.set_hyperparameters(self._gp_hyperparameters())
            self._gp_has_mean = True
        return self._gp

    @property
    def standardised_hyperparameters(self) -> FloatArray:
        """Signal variance (of standardised outcomes) and lengths (of the frame): shape (3,)."""
        return self._hyperparameters

    @property
    def hyperparameters(self) -> FloatArray:
        """Signal variance, the two lengths in metres, prior mean: shape (4,).

        Variance and mean are in the unit of the outcomes; the lengths are along the frame's own
        axes.
        """
        variance, length_u, length_v = self._hyperparameters
        return np.array(
            [
                variance * self.scaling.scale**2,
                length_u * self.grid.width,
                length_v * self.grid.height,
                self._cache.prior_mean * self.scaling.scale + self.scaling.offset,
            ]
        )

    @property
    def mean(self) -> FloatArray:
        """Posterior mean at the candidates: shape (M,), unit of the outcomes."""
        return self._cache.mean * self.scaling.scale + self.scaling.offset

    @property
    def variance(self) -> FloatArray:
        """Posterior variance at the candidates: shape (M,), unit of the outcomes squared."""
        return self._cache.variance * self.scaling.scale**2

    def fit(
        self, unit: FloatArray, values: FloatArray, variances: FloatArray, *, learn: bool
    ) -> None:
        """Scale the outcomes anew, train if asked to, and rebuild model and cache.

        Parameters
        ----------
        unit : ndarray, shape (N, 2)
            Positions, fractions of the frame; all that were measured.
        values : ndarray, shape (N,)
            Outcomes.
        variances : ndarray, shape (N,)
            Their noise variances, in their unit squared; NaN where unknown.
        learn : bool
            Train the hyperparameters. Otherwise they stay.
        """
        scaling = Scaling.of(values, self.relative_noise)
        hyperparameters = self._hyperparameters
        if learn:
            starts = [hyperparameters] if self.trained else []
            hyperparameters = train(
                self.kernel,
                unit,
                scaling.standardise(values),
                scaling.standardised_noise(variances),
                self.prior,
                starts,
            )
        self.load(unit, values, variances, scaling, hyperparameters, trained=self.trained or learn)

    def load(
        self,
        unit: FloatArray,
        values: FloatArray,
        variances: FloatArray,
        scaling: Scaling,
        hyperparameters: FloatArray,
        *,
        trained: bool,
    ) -> None:
        """Rebuild model and cache with given scaling and hyperparameters; see `fit`."""
        self.scaling = scaling
        self._hyperparameters = np.asarray(hyperparameters, dtype=float)
        self.trained = trained
        y = scaling.standardise(values)
        noise = scaling.standardised_noise(variances)
        self._cache = CandidateCache(self.grid.unit, self.kernel.function, self._hyperparameters)
        self._cache.set_data(unit, y, noise)
        if self._gp is None:
            self._gp = _import_gpcam().GPOptimizer(
                unit,
                y,
                init_hyperparameters=self._gp_hyperparameters(),
                noise_variances=noise,
                kernel_function=self.kernel.function,
                kernel_function_grad=self.kernel.gradient,
                prior_mean_function=prior_mean,
                prior_mean_function_grad=prior_mean_gradient,
            )
        else:
            self._gp.tell(unit, y, noise_variances=noise, append=False)
            self._gp.set_hyperparameters(self._gp_hyperparameters())
        self._gp_has_mean = True

    def append(self, unit: FloatArray, values: FloatArray, variances: FloatArray) -> None:
        """Add points at unchanged scaling and hyperparameters; parameters as for `fit`."""
        y = self.scaling.standardise(values)
        noise = self.scaling.standardised_noise(variances)
        for position, outcome, noise_variance in zip(unit, y, noise, strict=True):
            self._cache.add(position, float(outcome), float(noise_variance))
        self._gp.tell(unit, y, noise_variances=noise)
        self._gp_has_mean = False

    def best(
        self,
        acquisition: Acquisition,
        allowed: npt.NDArray[np.bool_],
        pending: FloatArray,
    ) -> tuple[int, float]:
        """Ask gpCAM for the candidate that is worth most.

        Parameters
        ----------
        acquisition : callable
            Function of posterior mean and variance.
        allowed : ndarray of bool, shape (M,)
            Candidates that may be chosen.
        pending : ndarray, shape (K, 2)
            Positions under way, fractions of the frame. The variance counts them as measured, so
            that several suggestions at once do not crowd.

        Returns
        -------
        index : int
            The candidate.
        score : float
            Its score.

        Raises
        ------
        ValueError
            If no candidate is allowed or the acquisition function misbehaves.
        """
        variance = self.variance
        if len(pending):
            noise = self.scaling.standardised_noise(np.full(len(pending), np.nan))
            variance = self._cache.variance_after(pending, noise) * self.scaling.scale**2
        scores = evaluate(acquisition, self.mean, variance)
        ranks = ranked(scores, allowed)
        # gpCAM's own variance over the list would take gigabytes, so it gets the cache's vector;
        # it looks at the model only through that, so its prior mean need not be up to date.
        answer = self._gp.ask(self._indices, acquisition_function=lambda _candidates, _gp: ranks)
        index = int(answer["x"][0])
        return index, float(scores[index])

    def _gp_hyperparameters(self) -> FloatArray:
        return np.append(self._hyperparameters, self._cache.prior_mean)


def _import_gpcam() -> Any:
    """Import gpCAM, which takes about two seconds, and keep the session's warning filters."""
    with warnings.catch_warnings():
        # fvgp installs a filter for every UserWarning of the process when it is imported.
        import gpcam

    return gpcam
