"""How the map of a run grew, from its recorded values alone."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.surrogate import Grid, Prior, noise_variances, posterior_maps
from bluesky_gpsts.surrogate.kernels import get_kernel
from bluesky_gpsts.surrogate.scaling import Scaling
from bluesky_gpsts.surrogate.threads import single_thread

from .errors import AnalysisError

if TYPE_CHECKING:
    import xarray as xr

FloatArray = npt.NDArray[np.float64]

RELATIVE_NOISE = 0.03
"""What the optimizer takes as noise, relative to the range of the outcomes, if none is given."""


@dataclass(frozen=True, eq=False)
class MapHistory:
    """All that is needed to compute the map after any number of spectra.

    Spectra without a finite figure of merit, and those that were flagged, are counted but not
    part of any map.

    Attributes
    ----------
    grid : Grid
        The candidates.
    kernel : str
        Name of the kernel.
    x, y : ndarray, shape (n,)
        Positions of the spectra in sample coordinates, in metres.
    values : ndarray, shape (n,)
        Figures of merit (A).
    variances : ndarray, shape (n,)
        Their noise variances (A^2); NaN where not known.
    hyperparameters : ndarray, shape (n, 4)
        Row k-1 is for the map after k spectra: signal variance (A^2), lengths along the frame's
        axes (m), prior mean (A).
    default_noise : ndarray, shape (n,)
        Noise variance (A^2) that went with them, for outcomes without one.
    trained : ndarray of bool, shape (n,)
        Whether the hyperparameters had been trained by then.
    structures : tuple of str
        What structure the model used, as its decisions record it; "" for none.
    images : ndarray or None
        The topograph (ny, nx) or the maps of the library (K, ny, nx) that such a structure is
        made of.
    flagged : ndarray of bool, shape (n,), or None
        Spectra that the run itself took back.
    """

    grid: Grid
    kernel: str
    x: FloatArray
    y: FloatArray
    values: FloatArray
    variances: FloatArray
    hyperparameters: FloatArray
    default_noise: FloatArray
    trained: npt.NDArray[np.bool_]
    structures: tuple[str, ...]
    images: FloatArray | None = None
    flagged: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Spectra that count for the maps: shape (n,)."""
        found = np.isfinite(self.values) & np.isfinite(self.x) & np.isfinite(self.y)
        return found if self.flagged is None else found & ~self.flagged

    def noise(self, k: int) -> FloatArray:
        """Noise variances (A^2) of the valid ones among the first k spectra."""
        chosen = self.valid[:k]
        return noise_variances(self.variances[:k][chosen], float(self.default_noise[k - 1]))

    def after(self, k: int) -> tuple[FloatArray, FloatArray]:
        """Map after the first k spectra.

        Parameters
        ----------
        k : int
            1 to the number of spectra.

        Returns
        -------
        mean, std : ndarray, shape (ny, nx)
            Posterior mean and standard deviation of the figure of merit (A); row 0 is the
            bottom row.

        Raises
        ------
        AnalysisError
            There are fewer spectra, or none of the first k has a finite figure of merit.
        """
        if not 1 <= k <= len(self):
            raise AnalysisError(
                f"There is no map after {k} spectra: the run has {len(self)}; give 1 to that many."
            )
        chosen = self.valid[:k]
        if not chosen.any():
            raise AnalysisError(
                f"None of the first {k} spectra has a finite figure of merit, so there is no map; "
                "look at the spectra themselves."
            )
        with single_thread():
            return posterior_maps(
                self.grid,
                self.x[:k][chosen],
                self.y[:k][chosen],
                self.values[:k][chosen],
                self.noise(k),
                self.hyperparameters[k - 1],
                self.kernel,
                self.structures[k - 1],
                self.images,
            )

    def correlations(self, truth: npt.ArrayLike) -> FloatArray:
        """Pearson's r between the map and the truth after each spectrum.

        Parameters
        ----------
        truth : array_like, shape (ny, nx)
            Any unit; row 0 is the bottom row. Pixels that are NaN do not count.

        Returns
        -------
        ndarray, shape (n,)
            NaN where the map (or the truth) has no contrast, as after one spectrum.

        Raises
        ------
        AnalysisError
            The truth does not have the shape of the grid.
        """
        known = np.asarray(truth, dtype=float)
        shape = (self.grid.ny, self.grid.nx)
        if known.shape != shape:
            raise AnalysisError(
                f"The truth has shape {known.shape} and the map {shape}; give the truth at the "
                "candidates of the run."
            )
        here = np.isfinite(known.ravel())
        wanted = _direction(known.ravel()[here])
        with single_thread():
            found = [float(_direction(mean[here]) @ wanted) for mean, _ in self.steps()]
        return np.array(found, dtype=float)

    def mean_stds(self) -> FloatArray:
        """Posterior standard deviation (A), averaged over the map, after each spectrum: (n,)."""
        with single_thread():
            return np.array([float(std.mean()) for _, std in self.steps()], dtype=float)

    def steps(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Go through the maps after 1, 2, ... n spectra.

        The numbers are those of `after`. Between two trainings only the prior mean changes, so
        one triangular solve serves all maps in between.

        Yields
        ------
        mean, std : ndarray, shape (ny * nx,)
            In the order of the candidates (A); NaN as long as there is no valid spectrum.
        """
        first = 1
        while first <= len(self):
            if self.structures[first - 1] and self.valid[:first].any():
                mean, std = self.after(first)
                yield mean.ravel(), std.ravel()
                first += 1
                continue
            last = self._same_until(first)
            yield from self._segment(first, last)
            first = last + 1

    def _same_until(self, first: int) -> int:
        """Last k with the covariance (hyperparameters, noise) of the map after `first` spectra."""
        if not self.valid[:first].any():
            return first
        before = self.noise(first)
        k = first
        while k < len(self):
            noise = self.noise(k + 1)
            if not (
                not self.structures[k]
                and np.array_equal(self.hyperparameters[k, :3], self.hyperparameters[first - 1, :3])
                and np.array_equal(noise[: len(before)], before)
            ):
                break
            before = noise
            k += 1
        return k

    def _segment(self, first: int, last: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        from scipy.linalg import solve_triangular

        chosen = self.valid[:last]
        if not chosen.any():
            nothing = np.full(self.grid.size, np.nan)
            yield nothing, nothing
            return
        grid = self.grid
        function = get_kernel(self.kernel).function
        signal, length_x, length_y = self.hyperparameters[first - 1, :3]
        scaled = np.array([1.0, length_x / grid.width, length_y / grid.height, 0.0])
        unit = grid.to_unit(np.column_stack([self.x[:last], self.y[:last]])[chosen])
        covariance = function(unit, unit, scaled)
        # Relative to the signal: the square of a current in ampere is near 1e-24.
        covariance[np.diag_indices_from(covariance)] += self.noise(last) / signal
        factor = np.linalg.cholesky(covariance)
        # The first rows of the whole solution are the solution for the first points.
        rows = solve_triangular(factor, function(unit, grid.unit, scaled), lower=True)
        values = self.values[:last][chosen]
        sides = np.column_stack([values - values[0], np.ones(len(values))])
        white = solve_triangular(factor, sides, lower=True)
        counts = np.cumsum(chosen)
        done = 0
        from_values, from_ones = np.zeros(grid.size), np.zeros(grid.size)
        explained = np.zeros(grid.size)
        for k in range(first, last + 1):
            fresh = slice(done, int(counts[k - 1]))
            from_values += white[fresh, 0] @ rows[fresh]
            from_ones += white[fresh, 1] @ rows[fresh]
            explained += np.einsum("nm,nm->m", rows[fresh], rows[fresh])
            done = fresh.stop
            prior_mean = self.hyperparameters[k - 1, 3]
            mean = prior_mean + from_values - (prior_mean - values[0]) * from_ones
            yield mean, np.sqrt(signal * np.maximum(1.0 - explained, 0.0))


def build_history(
    start: Mapping[str, Any],
    spectra: "xr.Dataset",
    decisions: "xr.Dataset",
    images: FloatArray | None = None,
    final: Mapping[str, Any] | None = None,
    flagged: Collection[int] = (),
) -> MapHistory:
    """Put together what the maps of a run depend on.

    Parameters
    ----------
    start : mapping
        The start document.
    spectra, decisions : xarray.Dataset
        As `bluesky_gpsts.catalog.spectra` and `decisions` return them.
    images : ndarray, optional
        As `bluesky_gpsts.catalog.structure_images` returns them.
    final : mapping, optional
        As `bluesky_gpsts.catalog.final_model` returns it.
    flagged : collection of int
        Numbers (from 1) of the spectra that the run took back.

    Returns
    -------
    MapHistory

    Raises
    ------
    AnalysisError
        The run is not one of gp_sts.
    """
    if "grid" not in start or "frame" not in start or "figure_of_merit" not in spectra.coords:
        raise AnalysisError(
            f"Run {start.get('uid')} of the plan {start.get('plan_name')!r} has no candidate grid "
            "and figure of merit; give a run of the plan gp_sts."
        )
    grid = Grid.from_metadata({**start["frame"], **start["grid"]})
    values = spectra["figure_of_merit"].values
    if "figure_of_merit_variance" in spectra.coords:
        variances = spectra["figure_of_merit_variance"].values
    else:
        variances = np.full(len(values), np.nan)
    x, y = spectra["x"].values, spectra["y"].values
    taken_back = np.isin(np.arange(1, len(values) + 1), list(flagged))
    valid = np.isfinite(values) & np.isfinite(x) & np.isfinite(y) & ~taken_back
    kernel = str(start.get("kernel", "matern-5/2"))
    models = _models(grid, values, valid, decisions, final or {})
    return MapHistory(grid, kernel, x, y, values, variances, *models, images, taken_back)


def _models(
    grid: Grid,
    values: FloatArray,
    valid: npt.NDArray[np.bool_],
    decisions: "xr.Dataset",
    final: Mapping[str, Any],
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_], tuple[str, ...]]:
    """Hyperparameters, default noise, whether trained, and structure after k spectra.

    The decision with n_data = k, the next one, recorded them. Where there is none (the end of a
    run that was broken off, a batch of initial points), those of the latest decision before are
    the best known.
    """
    known = _recorded(decisions)
    if final and np.isfinite(final["hyperparameters"]).all():
        known[int(final["n_data"])] = (
            np.asarray(final["hyperparameters"], dtype=float),
            float(final["default_noise_variance"]),
            bool(final["trained"]),
            str(final["structure"]),
        )
    vectors = np.full((len(values), 4), np.nan)
    noise = np.full(len(values), np.nan)
    trained = np.zeros(len(values), dtype=bool)
    structures = [""] * len(values)
    counts = np.cumsum(valid)
    for k in range(1, len(values) + 1):
        count = int(counts[k - 1])
        if not count:
            continue
        so_far = values[:k][valid[:k]]
        earlier = [n for n in known if n <= count]
        if earlier:
            latest = known[max(earlier)]
            vectors[k - 1], noise[k - 1], trained[k - 1], structures[k - 1] = latest
        else:
            vectors[k - 1] = _untrained(grid, so_far)
        if np.isnan(noise[k - 1]):
            noise[k - 1] = Scaling.of(so_far, RELATIVE_NOISE).default_variance
    return vectors, noise, trained, tuple(structures)


def _recorded(decisions: "xr.Dataset") -> dict[int, tuple[FloatArray, float, bool, str]]:
    """What decisions recorded of the model, by the number of outcomes that it had."""
    if "hyperparameters" not in decisions:
        return {}
    count = decisions.sizes["decision"]

    def column(name: str) -> FloatArray:
        values = decisions[name].values if name in decisions else np.full(count, np.nan)
        return np.asarray(values, dtype=float)

    n_data, noise, trained = (
        column(name) for name in ("n_data", "default_noise_variance", "trained")
    )
    vectors = np.asarray(decisions["hyperparameters"].values, dtype=float)
    structures = decisions["structure"].values if "structure" in decisions else [""] * count
    return {
        int(n_data[row]): (
            vectors[row],
            float(noise[row]),
            bool(trained[row] != 0),
            str(structures[row]),
        )
        for row in range(count)
        if np.isfinite(vectors[row]).all() and np.isfinite(n_data[row])
    }


def _untrained(grid: Grid, values: FloatArray) -> FloatArray:
    """Hyperparameters before any decision told: the medians of the optimizer's prior."""
    scale = Scaling.of(values, RELATIVE_NOISE).scale
    signal, length_u, length_v = Prior().median
    return np.array(
        [signal * scale**2, length_u * grid.width, length_v * grid.height, values.mean()]
    )


def _direction(values: FloatArray) -> FloatArray:
    """Deviation from the mean, normalised to length 1; NaN if there is none but rounding."""
    deviation = values - values.mean() if len(values) else values
    size = float(np.linalg.norm(deviation))
    largest = float(np.abs(values).max(initial=0.0))
    if not size > 1e-9 * largest * np.sqrt(max(len(values), 1)):
        return np.full(len(values), np.nan)
    return np.asarray(deviation / size)
