"""A sample's gaps and currents along a path on which place and bias may both change.

A sample answers for many places at one bias, or for one place at many biases. Here `where` (n, 2)
goes with `bias` (n,) pair by pair; a single place (1, 2) serves all biases.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.simulator.sample import Sample

__all__ = ["currents", "equilibrium_gaps", "harmonics"]

Array = NDArray[np.float64]

_SMALL = 50e-12
"""Change of the gap (m) up to which the current's own decay constant may be taken as one."""


def _runs(bias: Array) -> Iterator[slice]:
    """Stretches of equal bias."""
    edges = np.flatnonzero(np.diff(bias)) + 1
    for first, last in zip([0, *edges], [*edges, len(bias)], strict=True):
        yield slice(int(first), int(last))


def _places(where: Array, count: int) -> tuple[Array, Array]:
    x, y = np.broadcast_to(where, (count, 2)).T
    return x, y


def equilibrium_gaps(sample: Sample, where: Array, bias: Array, setpoint: float) -> Array:
    """Gaps (n,) in m at which the current has the magnitude `setpoint` (A)."""
    x, y = _places(where, len(bias))
    gaps = [sample.gap(x[run], y[run], float(bias[run.start]), setpoint) for run in _runs(bias)]
    return np.concatenate(gaps)


def _one_place(where: Array, gap: Array) -> bool:
    return len(where) == 1 and len(gap) > 1 and float(np.ptp(gap)) < _SMALL


def _scale(sample: Sample, bias: Array, gap: Array) -> tuple[float, Array]:
    """Mean gap (m), and factors (n,) on the current for what each gap differs from it."""
    middle = float(np.mean(gap))
    return middle, np.exp(-2 * sample.decay(float(bias[0])) * (gap - middle))


def currents(sample: Sample, where: Array, bias: Array, gap: Array) -> Array:
    """Noise-free currents (n,) in A. Beyond contact the gap counts as closed."""
    gap = np.maximum(gap, 0.0)
    if _one_place(where, gap):
        middle, scale = _scale(sample, bias, gap)
        return np.asarray(sample.current(where[:, 0], where[:, 1], bias, middle)[0] * scale)
    x, y = _places(where, len(bias))
    values = [sample.current(x[r], y[r], bias[r][:1], gap[r])[:, 0] for r in _runs(bias)]
    return np.concatenate(values)


def harmonics(sample: Sample, where: Array, bias: Array, gap: Array, amplitude: float) -> Array:
    """First harmonics (n,) in A under a modulation of peak `amplitude` (V); none at 0."""
    if amplitude == 0.0:
        return np.zeros(len(bias))
    gap = np.maximum(gap, 0.0)
    if _one_place(where, gap):
        middle, scale = _scale(sample, bias, gap)
        first = sample.lockin(where[:, 0], where[:, 1], bias, amplitude, middle)[0]
        return np.asarray(first * scale)
    x, y = _places(where, len(bias))
    values = [sample.lockin(x[r], y[r], bias[r][:1], amplitude, gap[r])[:, 0] for r in _runs(bias)]
    return np.concatenate(values)
