"""How good the map is at every bias: steering by the figure of merit, and by whole spectra."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.benchmarks.maps.types import FloatArray
from bluesky_gpsts.benchmarks.table import Row, report
from bluesky_gpsts.simulator import open_sample
from bluesky_gpsts.surrogate import Grid, MapOptimizer, spectral_cube

__all__ = ["run"]

SURFACES = ("ws2", "au111")
METHODS = {"figure of merit": 0, "whole spectra": 3}
"""Principal components that steer beside the figure of merit."""

SPECTRA = 60
SEEDS = 10
SIDE, POINTS = 43, 201
NOISES = (0.05, 0.2)
"""Standard deviations of the noise of dI/dV, relative to the spread of the surface's spectra."""

_CONTRAST = 0.1


def run(quick: bool = False) -> dict[str, Any]:
    """Take spectra on noise-free physics with noise added, without a microscope in between.

    Parameters
    ----------
    quick : bool
        One seed instead of ten.

    Returns
    -------
    dict
        Report of the benchmark "cube": medians over the seeds of Pearson's r with the truth, of
        the figure of merit and averaged over all biases where the surface has contrast (a tenth
        of its largest or more).
    """
    from tqdm import tqdm

    seeds = range(1 if quick else SEEDS)
    rows = []
    tasks = [(what, noise, method) for what in SURFACES for noise in NOISES for method in METHODS]
    with tqdm(total=len(tasks) * len(seeds)) as bar:
        for what, noise, method in tasks:
            found = []
            for seed in seeds:
                found.append(_one(_surface(what, seed), noise, METHODS[method], seed))
                bar.update()
            merit, every = np.median(found, axis=0)
            case = f"{what}, {SPECTRA} spectra, noise {100 * noise:.0f} %"
            for metric, value in (
                ("correlation of the figure of merit", merit),
                ("correlation averaged over all biases", every),
            ):
                rows.append(Row(case, method, f"{metric}, median", float(value), "", len(seeds)))
    return report("cube", rows, seed=0, packages=("numpy", "scipy"))


@dataclass(frozen=True, eq=False)
class _Surface:
    """dI/dV (A/V) at every candidate, and which biases are in the window."""

    grid: Grid
    cube: FloatArray
    inside: npt.NDArray[np.bool_]


def _surface(what: str, seed: int) -> _Surface:
    sample = open_sample(what, seed)
    known = sample.conditions
    frame = known.frame
    grid = Grid(frame.x, frame.y, frame.width, frame.height, frame.angle, SIDE, SIDE)
    x, y = grid.xy.T
    low, high = sorted(known.bias_range)
    bias = np.linspace(low, high, POINTS)
    current = sample.current(x, y, bias, sample.gap(x, y, known.bias, known.setpoint))
    inside = (bias >= known.window[0]) & (bias <= known.window[1])
    return _Surface(grid, np.gradient(current, bias, axis=1), inside)


def _one(surface: _Surface, relative: float, components: int, seed: int) -> tuple[float, float]:
    """Correlation of the figure of merit, and the average over all biases."""
    grid, cube, inside = surface.grid, surface.cube, surface.inside
    rng = np.random.default_rng([seed, 51])
    noise = relative * float(np.std(cube - cube.mean(axis=0)))
    variance = noise**2 * np.count_nonzero(inside)
    optimizer = MapOptimizer(grid, acquisition="weighted", seed=seed, components=components)
    indices: list[int] = []
    spectra: list[FloatArray] = []
    for _ in range(SPECTRA):
        (point,) = optimizer.suggest()
        index = grid.index_of(point["x"], point["y"])
        spectrum = cube[index] + noise * rng.standard_normal(cube.shape[1])
        outcome = {
            "figure_of_merit": float(spectrum[inside].sum()),
            "figure_of_merit_variance": variance,
        }
        if components:
            outcome["spectrum"] = spectrum
        optimizer.ingest([{**point, **outcome}])
        indices.append(index)
        spectra.append(spectrum)
    decision = {"hyperparameters": optimizer.hyperparameters}
    x, y = grid.xy[indices].T
    expected = spectral_cube(grid, x, y, np.array(spectra), variance, decision)
    found = expected.reshape(cube.shape)
    contrast = cube.std(axis=0)
    chosen = np.flatnonzero(contrast > _CONTRAST * contrast.max())
    every = [np.corrcoef(found[:, k], cube[:, k])[0, 1] for k in chosen]
    truth = cube[:, inside].sum(axis=1)
    merit = np.corrcoef(optimizer.mean_map().ravel(), truth)[0, 1]
    return float(merit), float(np.mean(every))
