"""The surface as a Gaussian process: gpCAM holds the model, a cache makes it fast on the grid."""

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .acquisition import Acquisition, Candidates, Cost
from .background import Job
from .candidates import CandidateCache
from .fit import Data, Fit
from .grid import Grid
from .kernels import Kernel, get_kernel, prior_mean, prior_mean_gradient
from .naming import Named
from .outputs import Basis, signal_of
from .parts import Part, add_part
from .scaling import Scaling
from .scores import choose_highest, discount, evaluate
from .structures import Lattice, Structure, Symmetry
from .training import Prior, Space, blind_space, full_vector, maximise, structured_space

FloatArray = npt.NDArray[np.float64]

# The cache of the map, and the one by which points are chosen: mostly the same.
Caches = tuple[CandidateCache, CandidateCache]


class SurfaceModel:
    """Gaussian process over a grid, in standardised outcomes and fractions of the frame.

    gpCAM's `GPOptimizer` is the model of record: it has the data, the noise, the kernel and the
    hyperparameters. The cache has the same and gives mean and variance at all candidates.

    Parameters
    ----------
    grid : Grid
        The candidates.
    kernel : str
        Name of the kernel.
    prior : Prior
        Prior on the hyperparameters.
    relative_noise : float
        Standard deviation of the noise of an outcome that came without a variance, as a fraction
        of the range of the outcomes.
    structure : Structure, optional
        What is known about the surface. Training fits the hyperparameters with and without it;
        it is in use unless the data speak against it.
    components : int
        Largest number of principal components of the spectra that are outcomes beside the
        figure of merit; 0 for none.

    Raises
    ------
    ValueError
        If the structure does not fit the grid.
    """

    def __init__(
        self,
        grid: Grid,
        kernel: str,
        prior: Prior,
        relative_noise: float,
        structure: Structure | None = None,
        components: int = 0,
    ) -> None:
        self.grid = grid
        self.components = components
        self.relative_noise = relative_noise
        self.structure = structure
        self._blind_kernel = get_kernel(kernel)
        self._blind_space = blind_space(prior)
        self._part: Part | None = None
        self._rival: tuple[Kernel, Space] | None = None
        structured = None
        if structure is not None:
            self._part = structure.part(grid, kernel, prior.length, prior.length_factor)
            self._sum_kernel = add_part(self._blind_kernel, self._part)
            self._sum_space = structured_space(prior, self._part)
            structured = self._sum_space.from_point(self._sum_space.middle)
            if isinstance(structure, Symmetry) and structure.rival is not None:
                rival = structure.rival.part(grid, kernel, prior.length, prior.length_factor)
                self._rival = (
                    add_part(self._blind_kernel, rival),
                    structured_space(prior, rival),
                )
        self.fit = Fit(
            Scaling(0.0, 1.0, relative_noise**2),
            prior.median.copy(),
            structured,
            0.0,
            trained=False,
        )
        self._cache = self._new_cache(self.fit)
        self._steering = self._cache
        self._y = np.empty(0)
        self._noise = np.empty(0)
        self._unit = np.empty((0, 2))
        self._best = np.nan
        # Squared distance (m^2) of each candidate to the nearest outcome, of so many.
        self._gap, self._seen = np.full(grid.size, np.inf), 0
        # One direction after the other, each in one stretch of memory.
        self._uv = np.ascontiguousarray(grid.uv.T)
        self._gp: Any = None
        self._gp_state: tuple[int, bytes] | None = None
        self._job: Job[tuple[Fit, Caches]] | None = None

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def kernel(self) -> Kernel:
        """The covariance function in use."""
        return self._sum_kernel if self.fit.uses_structure else self._blind_kernel

    @property
    def scaling(self) -> Scaling:
        """How outcomes are standardised."""
        return self.fit.scaling

    @property
    def trained(self) -> bool:
        """False as long as the hyperparameters are the medians of their priors."""
        return self.fit.trained

    @property
    def training_due(self) -> bool:
        """Whether training has started whose result the next outcome will bring into use."""
        return self._job is not None

    @property
    def gp(self) -> Any:
        """The `GPOptimizer` of gpCAM with all data, or None before the first.

        Its positions are fractions of the frame, its outcomes standardised by ``scaling``, its
        hyperparameters those of `bluesky_gpsts.surrogate.kernels`, then those of the structure.
        It is brought up to date when somebody looks, because its own factorisation is not needed
        for a suggestion.
        """
        if not len(self):
            return None
        vector = full_vector(self.fit.hyperparameters, self._cache.prior_mean)
        state = (len(self), vector.tobytes())
        if self._gp_state != state:
            kernel = self.kernel
            self._gp = _import_gpcam().GPOptimizer(
                self._unit,
                self._y,
                init_hyperparameters=vector,
                noise_variances=self._noise,
                kernel_function=kernel.function,
                kernel_function_grad=kernel.gradient,
                prior_mean_function=prior_mean,
                prior_mean_function_grad=prior_mean_gradient,
            )
            self._gp_state = state
        return self._gp

    @property
    def hyperparameters(self) -> FloatArray:
        """Signal variance, the two lengths in metres, prior mean: shape (4,).

        Variance and mean are in the unit of the outcomes; the lengths are along the frame's own
        axes. With a structure in use they are those of the residual.
        """
        variance, length_u, length_v = self.fit.hyperparameters[:3]
        return np.array(
            [
                variance * self.scaling.scale**2,
                length_u * self.grid.width,
                length_v * self.grid.height,
                self._cache.prior_mean * self.scaling.scale + self.scaling.offset,
            ]
        )

    def structure_document(self) -> str:
        """Describe the structure in use, with its hyperparameters, as JSON; empty if none is.

        The signal variance is in the unit of the outcomes squared, all others as the kernel has
        them (`bluesky_gpsts.surrogate.parts`).
        """
        if self.structure is None or self._part is None or not self.fit.uses_structure:
            return ""
        values = self.fit.hyperparameters[3:].copy()
        values[0] *= self.scaling.scale**2
        named = dict(zip(self._part.names, values.tolist(), strict=True))
        return json.dumps(self.structure.describe() | {"hyperparameters": named})

    @property
    def mean(self) -> FloatArray:
        """Posterior mean at the candidates: shape (M,), unit of the outcomes."""
        return self._cache.mean * self.scaling.scale + self.scaling.offset

    @property
    def variance(self) -> FloatArray:
        """Posterior variance at the candidates: shape (M,), unit of the outcomes squared."""
        return self._cache.variance * self.scaling.scale**2

    def at(self, index: int) -> tuple[float, float]:
        """Posterior mean and standard deviation at one candidate, in the unit of the outcomes."""
        mean, variance = self._cache.at(index)
        return mean * self.scaling.scale + self.scaling.offset, variance**0.5 * self.scaling.scale

    @property
    def cache(self) -> CandidateCache:
        """Posterior of standardised outcomes at the candidates."""
        return self._cache

    @property
    def cautious_cache(self) -> CandidateCache:
        """Posterior that does not rely on a structure without evidence for it."""
        return self._steering

    def train(self, data: Data, *, background: bool) -> None:
        """Train with all data and rebuild; in the background, at the next `append`.

        Parameters
        ----------
        data : Data
            All outcomes.
        background : bool
            Return at once. The outcomes are part of the model already, at the hyperparameters it
            has.
        """
        before = self.fit

        def work() -> tuple[Fit, Caches]:
            fit = self._trained(data, before)
            return fit, self._filled(fit, data)

        self._job = Job(work)
        if not background:
            self._finish(data)

    def refit(self, data: Data) -> None:
        """Scale the outcomes anew and rebuild, at unchanged hyperparameters."""
        scaling = Scaling.of(data.values, self.relative_noise)
        old = self.fit
        self.load(data, replace(old, scaling=scaling))

    def load(self, data: Data, fit: Fit) -> None:
        """Rebuild with given scaling and hyperparameters."""
        self._use(data, fit, self._filled(fit, data))

    def reload(self, data: Data) -> None:
        """Rebuild with other data, fewer for instance, at the latest hyperparameters."""
        if self._job is not None:
            self.fit, _ = self._job.result()
            self._job = None
        self._gap, self._seen = np.full(self.grid.size, np.inf), 0
        self.load(data, self.fit)

    def append(self, data: Data) -> None:
        """Add points at unchanged scaling and hyperparameters.

        If training was due, its result is brought into use first.

        Parameters
        ----------
        data : Data
            All outcomes; those that the model does not have are added.
        """
        if self._job is not None:
            self._finish(data.part(0, len(self)))
        fresh = data.part(len(self), len(data))
        y = self.fit.outcomes(fresh)
        noise = self.scaling.standardised_noise(fresh.variances)
        nearest = self.grid.nearest(fresh.unit)
        both = (self._cache, self._steering)
        caches = both[:1] if self._steering is self._cache else both
        for position, outcomes, variance, near in zip(fresh.unit, y, noise, nearest, strict=True):
            for cache in caches:
                cache.add(position, outcomes, float(variance), int(near))
        self._see(data.unit)
        self._y = np.concatenate([self._y, y[:, 0]])
        self._noise = np.concatenate([self._noise, noise])
        self._unit = np.concatenate([self._unit, fresh.unit])
        self._best = max(self._best, float(fresh.values.max()))

    def best(
        self,
        acquisition: Acquisition,
        allowed: npt.NDArray[np.bool_],
        pending: FloatArray,
        *,
        target: tuple[float, float] | None = None,
        cost: Cost | None = None,
        origin: FloatArray | None = None,
        named: Named | None = None,
    ) -> tuple[int, float]:
        """Find the candidate that is worth most.

        Parameters
        ----------
        acquisition : callable
            Function of posterior mean and variance.
        allowed : ndarray of bool, shape (M,)
            Candidates that may be chosen.
        pending : ndarray, shape (K, 2)
            Positions under way, fractions of the frame. The variance counts them as measured, so
            that several suggestions at once are chosen jointly.
        target : tuple of float, optional
            Range (low, high) of outcomes that is looked for, in their unit.
        cost : callable, optional
            Cost of each candidate, by which scores are divided.
        origin : ndarray, shape (2,), optional
            Last position in metres, for the cost.
        named : Named, optional
            Spectra whose class is known.

        Returns
        -------
        index : int
            The candidate.
        score : float
            Its score.

        Raises
        ------
        ValueError
            If no candidate is allowed or a function misbehaves.
        """
        squared = self.scaling.scale**2
        cache = self._steering
        gap = self._gap
        for position in pending:
            gap = self._closer(gap, position)
        if len(pending):
            noise = self.scaling.standardised_noise(np.full(len(pending), np.nan))
            variance = cache.variance_after(pending, noise) * squared
        else:
            variance = cache.variance * squared
        mean = cache.mean * self.scaling.scale + self.scaling.offset
        basis = self.fit.basis if cache.outputs > 1 else None
        candidates = Candidates(
            self.grid,
            mean,
            cache.prior_mean * self.scaling.scale + self.scaling.offset,
            cache.prior_variance * squared,
            self.scaling.default_variance,
            self._best,
            np.sqrt(gap),
            mean if basis is None else signal_of(cache.means[1:], basis.scales),
            target,
            self.fit.uses_structure,
            named,
        )
        scores = evaluate(acquisition, mean, variance, candidates)
        if cost is not None and origin is not None:
            scores = discount(scores, cost, origin, self.grid.xy, allowed)
        index = choose_highest(scores, allowed)
        return index, float(scores[index])

    def _see(self, unit: FloatArray) -> None:
        """Bring the distances to the nearest outcome up to date."""
        for position in unit[self._seen :]:
            self._gap = self._closer(self._gap, position)
        self._seen = len(unit)

    def _closer(self, gap: FloatArray, position: FloatArray) -> FloatArray:
        """Squares of the distances (m) with one more point, in fractions of the frame."""
        away = self._uv - (position * (self.grid.width, self.grid.height))[:, None]
        away *= away
        away[0] += away[1]
        return np.minimum(gap, away[0], out=away[0])

    def _trained(self, data: Data, before: Fit) -> Fit:
        scaling = Scaling.of(data.values, self.relative_noise)
        basis = None
        if self.components and data.spectra is not None:
            basis = Basis.of(data.spectra, self.components)
        given = replace(before, scaling=scaling, basis=basis)
        args = (data.unit, given.outcomes(data), scaling.standardised_noise(data.variances))
        last = [before.blind] if before.trained else []
        blind, value = maximise(self._blind_kernel, *args, self._blind_space, last)
        if before.structured is None:
            return Fit(scaling, blind, None, 0.0, trained=True, n=len(data), basis=basis)
        last = [before.structured] if before.trained else []
        structured, other = maximise(self._sum_kernel, *args, self._sum_space, last)
        if self._rival is not None:
            value = max(value, maximise(self._rival[0], *args, self._rival[1])[1])
        return Fit(scaling, blind, structured, round(other - value, 4), True, len(data), basis)

    def _new_cache(self, fit: Fit, *, structured: bool = True) -> CandidateCache:
        use = structured and fit.uses_structure
        kernel = self._sum_kernel if use else self._blind_kernel
        vector = full_vector(fit.hyperparameters if use else fit.blind)
        outputs = 1 if fit.basis is None else 1 + len(fit.basis.scales)
        return CandidateCache(self.grid.unit, kernel.function, vector, kernel.variance, outputs)

    def _filled(self, fit: Fit, data: Data) -> Caches:
        caches = [self._new_cache(fit)]
        if fit.undecided and not isinstance(self.structure, Lattice):
            caches.append(self._new_cache(fit, structured=False))
        for cache in caches:
            cache.set_data(
                data.unit,
                fit.outcomes(data),
                fit.scaling.standardised_noise(data.variances),
            )
        return caches[0], caches[-1]

    def _finish(self, data: Data) -> None:
        """Bring the result of training into use; wait for it if it is not there."""
        assert self._job is not None
        fit, caches = self._job.result()
        self._job = None
        self._use(data, fit, caches)

    def _use(self, data: Data, fit: Fit, caches: Caches) -> None:
        self.fit = fit
        self._cache, self._steering = caches
        self._unit = data.unit
        self._y = fit.scaling.standardise(data.values)
        self._noise = fit.scaling.standardised_noise(data.variances)
        self._best = float(data.values.max())
        self._see(data.unit)


def _import_gpcam() -> Any:
    """Import gpCAM, which takes about two seconds, and keep the session's warning filters."""
    with warnings.catch_warnings():
        # fvgp installs a filter for every UserWarning of the process when it is imported.
        import gpcam

    return gpcam
