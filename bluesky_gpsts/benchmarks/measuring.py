"""Take spectra on a map whose truth is known, and tell how good the map is after each."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.benchmarks.maps.types import FloatArray, Truth
from bluesky_gpsts.benchmarks.stock import stock_means
from bluesky_gpsts.benchmarks.strategies import Strategy, applies, structure_for
from bluesky_gpsts.surrogate import Grid, MapOptimizer

RELATIVE_NOISE = 0.03
TRAIN_AT = (4, 6, 8, 10, 13, 16, 20, 25, 30, 36, 45, 60, 80)
FREEDOM = 18
"""Degrees of freedom of a measured noise variance: second differences of 20 bias points."""


@dataclass(frozen=True)
class Trace:
    """How a map grew.

    Attributes
    ----------
    n : tuple of int
        Numbers of spectra, ascending.
    r : tuple of float
        Pearson correlation of the map with the truth at each; 0 for a constant map.
    estimated : tuple of float, or None
        What `MapOptimizer.estimated_correlation` said at each; None where a strategy has none.
    seconds : float
        Time it took, training included.
    """

    n: tuple[int, ...]
    r: tuple[float, ...]
    estimated: tuple[float, ...] | None
    seconds: float

    def sustained(self, wanted: float) -> int | None:
        """Spectra from which on `r` stays at `wanted` or above to the end; None if never."""
        found = None
        for count, value in zip(self.n, self.r, strict=True):
            if value < wanted:
                found = None
            elif found is None:
                found = count
        return found

    def claimed(self, wanted: float) -> tuple[int, float] | None:
        """Spectra, and the real `r`, where the estimate first says `wanted`; None if never."""
        if self.estimated is None:
            return None
        for count, real, said in zip(self.n, self.r, self.estimated, strict=True):
            if said >= wanted:
                return count, real
        return None


@dataclass(frozen=True, eq=False)
class Sample:
    """What a spectrum at each candidate would give: one draw of the noise, for all strategies."""

    truth: Truth
    values: FloatArray
    variances: FloatArray | None

    @classmethod
    def draw(cls, truth: Truth, noise: float, variances: bool) -> "Sample":
        """Draw the noise: `noise` is its standard deviation, a fraction of the map's range."""
        rng = np.random.default_rng([truth.seed, 31])
        sigma = noise * truth.span
        values = truth.values.ravel() + sigma * rng.standard_normal(truth.grid.size)
        # What a spectrum says of its own noise is an estimate too.
        known = sigma**2 * rng.chisquare(FREEDOM, truth.grid.size) / FREEDOM
        return cls(truth, values, known if variances else None)

    def point(self, index: int) -> dict[str, float]:
        """Outcome of a spectrum at a candidate, with its position (m)."""
        x, y = self.truth.grid.xy[index]
        point = {"x": float(x), "y": float(y), "figure_of_merit": float(self.values[index])}
        if self.variances is not None:
            point["figure_of_merit_variance"] = float(self.variances[index])
        return point


def correlation(values: npt.ArrayLike, truth: Truth) -> float:
    """Pearson correlation of a map (ny, nx) with the truth; 0 for a constant map."""
    flat = np.asarray(values, dtype=float).ravel()
    flat, real = flat - flat.mean(), truth.values.ravel() - truth.values.mean()
    size = float(np.linalg.norm(flat) * np.linalg.norm(real))
    # Rounding alone is not a structure.
    if np.linalg.norm(flat) <= 1e-12 * truth.span or size == 0.0:
        return 0.0
    return float(flat @ real / size)


def measure(strategy: Strategy, sample: Sample, limit: int) -> Trace:
    """Take up to `limit` spectra as a strategy chooses, and compare the map after each.

    Parameters
    ----------
    strategy : Strategy
        The way to choose.
    sample : Sample
        What spectra give.
    limit : int
        Largest number of spectra.

    Raises
    ------
    ValueError
        If the map's survey image does not give what the strategy needs, or the surrogate has no
        such acquisition function or prior.
    """
    if not applies(strategy, sample.truth):
        raise ValueError(
            f"{strategy.name!r} needs what the survey image of {sample.truth.name!r} does not show"
        )
    begin = time.perf_counter()
    limit = min(limit, sample.truth.grid.size)
    estimated: list[float] | None = None
    if strategy.kind == "gpCAM":
        pairs = list(_stock(strategy.how, sample, limit))
    elif strategy.how == "raster":
        pairs = [(k * k, _raster(sample, k, False)) for k in _sides(limit)]
    elif strategy.how == "raster linear":
        pairs = [(k * k, _raster(sample, k, True)) for k in _sides(limit)]
    elif strategy.kind == "design":
        pairs = list(_design(strategy.how, sample, limit))
    else:
        triples = list(_adaptive(strategy, sample, limit))
        pairs = [(count, r) for count, r, _ in triples]
        if triples and triples[0][2] is not None:
            estimated = [float(said) for _, _, said in triples if said is not None]
    return Trace(
        tuple(count for count, _ in pairs),
        tuple(r for _, r in pairs),
        None if estimated is None else tuple(estimated),
        time.perf_counter() - begin,
    )


def _adaptive(
    strategy: Strategy, sample: Sample, limit: int
) -> Iterator[tuple[int, float, float | None]]:
    truth = sample.truth
    structure = structure_for(strategy.structure, truth)
    extra: dict[str, Any] = {} if structure is None else {"structure": structure}
    if strategy.how == "target probability":
        # Somebody who looks for the upper half of the signal.
        low = float(truth.values.min())
        extra["target_range"] = (low + 0.5 * truth.span, low + 2.0 * truth.span)
    optimizer = MapOptimizer(
        truth.grid, acquisition=strategy.how, seed=truth.seed, train_at=TRAIN_AT, **extra
    )
    estimate = getattr(optimizer, "estimated_correlation", None)
    for count in range(1, limit + 1):
        suggestion = optimizer.suggest()[0]
        index = truth.grid.index_of(suggestion["x"], suggestion["y"])
        optimizer.ingest([{**sample.point(index), "_id": suggestion["_id"]}])
        said = None
        if estimate is not None:
            value = float(estimate())
            said = value if math.isfinite(value) else 0.0
        yield count, correlation(optimizer.mean_map(), truth), said


def _blind(truth: Truth) -> MapOptimizer:
    return MapOptimizer(truth.grid, seed=truth.seed, train_at=TRAIN_AT)


def _stock(how: str, sample: Sample, limit: int) -> Iterator[tuple[int, float]]:
    truth, known = sample.truth, sample.variances
    if known is None:
        # The same assumption as this package makes for outcomes without a variance.
        known = np.full(truth.grid.size, (RELATIVE_NOISE * truth.span) ** 2)
    values = (sample.values - truth.values.min()) / truth.span
    means = stock_means(how, truth.grid, values, known / truth.span**2, TRAIN_AT, truth.seed, limit)
    for count, mean in enumerate(means, 1):
        yield count, correlation(mean, truth)


def _design(how: str, sample: Sample, limit: int) -> Iterator[tuple[int, float]]:
    truth = sample.truth
    optimizer = _blind(truth)
    for count, index in enumerate(design(how, truth.grid, truth.seed, limit), 1):
        optimizer.ingest([sample.point(index)])
        yield count, correlation(optimizer.mean_map(), truth)


def design(how: str, grid: Grid, seed: int, count: int) -> list[int]:
    """First candidates of a design that does not look at outcomes.

    Parameters
    ----------
    how : str
        "farthest" (each point as far as possible from those before it, in fractions of the
        frame), "sobol" or "random".
    grid : Grid
        The candidates.
    seed : int
        Seed of the first point, of the scrambling, or of all.
    count : int
        How many, each of them once.
    """
    rng = np.random.default_rng([seed, 33])
    if how == "random":
        return [int(i) for i in rng.permutation(grid.size)[:count]]
    if how == "sobol":
        from scipy.stats import qmc

        sequence = qmc.Sobol(2, rng=rng).random_base2(max(10, int(np.log2(grid.size)) + 3))
        found = list(dict.fromkeys(grid.nearest(sequence - 0.5).tolist()))
        return found[:count]
    if how == "farthest":
        chosen = [int(rng.integers(grid.size))]
        distance = np.full(grid.size, np.inf)
        while len(chosen) < count:
            step = ((grid.unit - grid.unit[chosen[-1]]) ** 2).sum(axis=1)
            distance = np.minimum(distance, step)
            chosen.append(int(np.argmax(distance)))
        return chosen
    raise ValueError(f"no design {how!r}; choose from farthest, sobol, random")


def _sides(limit: int) -> range:
    return range(3, math.isqrt(limit) + 1)


def _raster(sample: Sample, k: int, linear: bool) -> float:
    """Correlation of the map from a finished raster of k x k points."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    truth = sample.truth
    steps = (np.arange(k) + 0.5) / k - 0.5
    v, u = np.meshgrid(steps, steps, indexing="ij")
    indices = np.unique(truth.grid.nearest(np.column_stack([u.ravel(), v.ravel()])))
    if not linear:
        optimizer = _blind(truth)
        optimizer.ingest([sample.point(int(index)) for index in indices])
        return correlation(optimizer.mean_map(), truth)
    unit, values = truth.grid.unit, sample.values[indices]
    found = LinearNDInterpolator(unit[indices], values)(unit)
    outside = np.isnan(found)
    found[outside] = NearestNDInterpolator(unit[indices], values)(unit[outside])
    return correlation(found, truth)
