"""One more point and the next choice, by this package and by its peers.

Every method works with fixed lengths and variance, the same noise and the posterior standard
deviation as the acquisition function; all start from one list of outcomes. The kernel is Matern
5/2, or gpCAM's own (Matern 3/2) where gpCAM is measured as it comes. Positions are fractions of
the frame.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from bluesky_gpsts.benchmarks.maps import truth_of
from bluesky_gpsts.benchmarks.maps.types import FloatArray
from bluesky_gpsts.benchmarks.stock import chunked_variance
from bluesky_gpsts.surrogate import Grid, MapOptimizer

LENGTH, NOISE = 0.15, 1e-3
_MOST = 4096
_TRAINED_AT = 4
FEWEST = 8
"""Outcomes that a method needs to be compared."""


class Problem:
    """Outcomes in the order in which all methods get them.

    Parameters
    ----------
    side : int
        Candidates along a side.
    """

    def __init__(self, side: int) -> None:
        truth = truth_of("small vacancy", 0, side)
        rng = np.random.default_rng(41)
        self.grid: Grid = truth.grid
        # As in a run, spectra are taken at candidates; a small grid is gone through again.
        order = rng.permutation(self.grid.size)
        indices = np.resize(order, _MOST)
        self.unit: FloatArray = self.grid.unit[indices]
        values = truth.values.ravel()[indices]
        self.values: FloatArray = (values - values.mean()) / values.std()
        self.values += np.sqrt(NOISE) * rng.standard_normal(_MOST)


class Method(Protocol):
    """A model that grows."""

    def fill(self, count: int) -> None:
        """Take outcomes in until there are `count`, untimed."""

    def step(self) -> None:
        """Take one more outcome in and choose the next candidate."""


class Ours:
    """`MapOptimizer`, trained once, on its first outcomes."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._count = 0
        self._optimizer = MapOptimizer(
            problem.grid, acquisition="variance", n_initial=1, train_at=(_TRAINED_AT,)
        )

    def _take(self, first: int, last: int) -> None:
        problem = self._problem
        xy = problem.grid.to_sample(problem.unit[first:last] * self._size())
        points = [
            {
                "x": float(x),
                "y": float(y),
                "figure_of_merit": float(value),
                "figure_of_merit_variance": NOISE,
            }
            for (x, y), value in zip(xy, problem.values[first:last], strict=True)
        ]
        self._optimizer.ingest(points)
        self._count = last

    def _size(self) -> FloatArray:
        return np.array([self._problem.grid.width, self._problem.grid.height])

    def fill(self, count: int) -> None:
        """See `Method`."""
        # One by one at first: what was learned beside the measurement takes effect with the
        # outcomes that follow, and must not do so within a step that is timed.
        while self._count < min(count, FEWEST):
            self._take(self._count, self._count + 1)
        if count > self._count:
            self._take(self._count, count)

    def step(self) -> None:
        """See `Method`."""
        self._take(self._count, self._count + 1)
        suggestion = self._optimizer.suggest()
        # It will not be measured; a real point is where the list of outcomes says.
        self._optimizer.register_failures(suggestion)


class _Stock:
    """gpCAM's optimizer with fixed hyperparameters."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._count = 0
        self._gp: Any = None

    def fill(self, count: int) -> None:
        """See `Method`."""
        import gpcam

        unit, values = self._problem.unit[:count], self._problem.values[:count]
        self._gp = gpcam.GPOptimizer(
            unit.copy(),
            values.copy(),
            init_hyperparameters=np.array([1.0, LENGTH, LENGTH]),
            noise_variances=np.full(count, NOISE),
        )
        self._count = count

    def step(self) -> None:
        """See `Method`."""
        at = slice(self._count, self._count + 1)
        self._gp.tell(
            self._problem.unit[at],
            self._problem.values[at],
            noise_variances=np.full(1, NOISE),
            append=True,
        )
        self._count += 1
        self.ask()

    def ask(self) -> None:
        """Choose."""
        raise NotImplementedError


class StockList(_Stock):
    """gpCAM's ``ask`` on the list of candidates."""

    def ask(self) -> None:
        """Choose among the list."""
        self._gp.ask(list(self._problem.grid.unit), acquisition_function="variance")


class StockChunks(_Stock):
    """gpCAM's ``ask`` with a callable that goes through the candidates in chunks of 256."""

    def ask(self) -> None:
        """Choose among the list through the callable."""
        self._gp.ask(
            list(self._problem.grid.unit),
            acquisition_function=lambda x, gp: chunked_variance(gp, np.asarray(x)),
        )


class StockBounds(_Stock):
    """gpCAM's ``ask`` within bounds: differential evolution, no list of candidates."""

    def ask(self) -> None:
        """Choose within the frame."""
        self._gp.ask(np.array([[-0.5, 0.5], [-0.5, 0.5]]), acquisition_function="variance")


class Sklearn:
    """scikit-learn's regressor, fitted anew with fixed hyperparameters."""

    def __init__(self, problem: Problem) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern

        self._problem = problem
        self._count = 0
        self._model = GaussianProcessRegressor(
            Matern((LENGTH, LENGTH), nu=2.5), alpha=NOISE, optimizer=None
        )

    def fill(self, count: int) -> None:
        """See `Method`."""
        self._count = count

    def step(self) -> None:
        """See `Method`."""
        self._count += 1
        self._model.fit(self._problem.unit[: self._count], self._problem.values[: self._count])
        _, deviation = self._model.predict(self._problem.grid.unit, return_std=True)
        int(np.argmax(deviation))


class Botorch:
    """BoTorch's ``SingleTaskGP`` with fixed hyperparameters and ``optimize_acqf_discrete``."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._count = 0

    def fill(self, count: int) -> None:
        """See `Method`."""
        self._count = count

    def step(self) -> None:
        """See `Method`."""
        import torch
        from botorch.acquisition import PosteriorStandardDeviation
        from botorch.models import SingleTaskGP
        from botorch.optim import optimize_acqf_discrete
        from gpytorch.kernels import MaternKernel

        self._count += 1
        torch.set_num_threads(1)
        x = torch.from_numpy(self._problem.unit[: self._count])
        y = torch.from_numpy(self._problem.values[: self._count, None])
        kernel = MaternKernel(nu=2.5, ard_num_dims=2)
        kernel.lengthscale = torch.tensor([LENGTH, LENGTH], dtype=torch.float64)
        noise = torch.full_like(y, NOISE)
        model = SingleTaskGP(x, y, noise, covar_module=kernel, outcome_transform=None)
        model.eval()
        choices = torch.from_numpy(np.array(self._problem.grid.unit))
        with torch.no_grad():
            optimize_acqf_discrete(PosteriorStandardDeviation(model), q=1, choices=choices)


METHODS: dict[str, Callable[[Problem], Method]] = {
    "bluesky-gpsts": Ours,
    "gpCAM list": StockList,
    "gpCAM callable, chunks of 256": StockChunks,
    "gpCAM bounds": StockBounds,
    "scikit-learn": Sklearn,
    "BoTorch": Botorch,
}
_MODULES = {"scikit-learn": "sklearn", "BoTorch": "botorch"}


def missing(name: str) -> str | None:
    """Why a method cannot be measured here; None if it can."""
    module = _MODULES.get(name)
    if module is not None and find_spec(module) is None:
        return f"{module} is not installed"
    return None
