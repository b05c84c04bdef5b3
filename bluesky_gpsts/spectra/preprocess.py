"""From measured spectra to what the classifiers read: checks, common grid, robust scaling."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.types import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["CHANNELS", "GRID", "Float32", "channels", "find_problems"]

Float32 = NDArray[np.float32]

GRID = 400
"""Points of the common grid, evenly spaced between the ends of the bias axis."""

CHANNELS = 4
"""Rows of a prepared spectrum: dI/dV, its asinh, its slope, and the bias."""

FEWEST, MOST = 100, 100_000
"""Fewest and most points of a spectrum that can be judged."""

NARROWEST, WIDEST = 0.5, 20.0
"""Smallest and largest span of the bias (V)."""

WEAKEST, STRONGEST = 5e-13, 1e-5
"""Smallest and largest dI/dV (A/V) that a tunnelling spectrum reaches."""

_SMOOTHING = 1.2
_NEGLIGIBLE = 1e-6
_RUN = 0.02
# Share of the points, at least so many, and the noise in them by the usual one.
_QUIET = ((0.02, 12, 0.2), (0.05, 24, 0.45))
_HIGHEST = 0.03
_NEGATIVE = 0.6
_AROUND, _BELOW, _ENOUGH, _EITHER_SIDE = 0.06, 0.12, 300, 24


def find_problems(bias: Array, didv: Array) -> tuple[str, ...]:
    """Say which spectra cannot be judged, and why.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv : (N, n) array
        Differential conductance (A/V).

    Returns
    -------
    tuple of str
        For each spectrum "" or a sentence.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    if bias.ndim != 1 or didv.ndim != 2 or didv.shape[1] != bias.size:
        raise ValueError(
            f"bias has shape {bias.shape} and dI/dV {didv.shape}; give a bias axis (n,) and one "
            "row of n values per spectrum (N, n)"
        )
    axis = _axis_problem(bias)
    if axis:
        return (axis,) * len(didv)
    finite = np.asarray(np.isfinite(didv).all(axis=1))
    safe = didv if finite.all() else np.where(finite[:, None], didv, 0.0)
    low, high = _quantiles(safe)
    size = np.maximum(np.abs(low), np.abs(high))
    top, bottom = safe.max(axis=1, keepdims=True), safe.min(axis=1, keepdims=True)
    longest = max(5, int(_RUN * bias.size))
    clipped = _runs(safe == top, longest) | _runs(safe == bottom, longest)
    quiet = _quiet_top(safe, high, high - low)
    # dI/dV may sink below zero, but not almost as far as it rises.
    negative = np.asarray(low < -_NEGATIVE * size) | _current_like(bias, safe, size)
    result = []
    for row in range(len(didv)):
        span = high[row] - low[row]
        if not finite[row]:
            bad = int((~np.isfinite(didv[row])).sum())
            text = f"{bad} of {bias.size} points are NaN or infinite; measure it again"
        elif top[row, 0] == bottom[row, 0] or span <= 1e-9 * size[row]:
            text = f"constant at {top[row, 0]:.3g} A/V; check the lock-in's signal"
        elif clipped[row]:
            text = (
                f"saturated: {longest} or more neighbouring points at {bottom[row, 0]:.3g} or "
                f"{top[row, 0]:.3g} A/V; lower the gain"
            )
        elif quiet[row]:
            text = (
                f"saturated: hardly any noise where it is highest, near {high[row]:.3g} A/V; "
                "lower the gain"
            )
        elif negative[row]:
            text = "far below zero, like a current or a reversed lock-in phase; give dI/dV in A/V"
        elif size[row] < WEAKEST:
            text = (
                f"at most {size[row]:.3g} A/V, less than a tunnelling spectrum; perhaps it is in "
                "A: divide the lock-in's output by the modulation"
            )
        elif size[row] > STRONGEST:
            text = f"reaches {size[row]:.3g} A/V, more than tunnelling; give dI/dV in A/V"
        else:
            text = ""
        result.append(text)
    return tuple(result)


def channels(bias: Array, didv: Array) -> Float32:
    """Prepare spectra that have no problem.

    Single-point spikes are taken out, each spectrum is averaged onto GRID points between the
    ends of its axis (rising, whatever the direction of the sweep), and scaled by its quantiles.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv : (N, n) array
        Differential conductance (A/V).

    Returns
    -------
    (N, CHANNELS, GRID) array of float32
        asinh of dI/dV in units of its range; asinh of 20 times what it is above its lowest part,
        which shows what is small; asinh of its slope per volt; the bias in units of 2 V.
    """
    axis = np.ascontiguousarray(bias, float)
    to_grid, grid = _matrices(axis.tobytes())
    low, high = _quantiles(didv)
    raw = (didv * (1.0 / np.maximum(high - low, 1e-300))[:, None]).astype(np.float32)
    raw[:, 1:-1] = _median3(raw)
    both = np.ascontiguousarray((to_grid @ np.ascontiguousarray(raw.T)).T)
    value, slope = both[:, :GRID], both[:, GRID:]
    base = np.partition(value, GRID // 20, axis=1)[:, GRID // 20]
    result = np.empty((len(didv), CHANNELS, GRID), np.float32)
    # How high a spectrum starts tells a weak state on a metal from a strong one.
    np.arcsinh(value, out=result[:, 0])
    value -= base[:, None]
    np.arcsinh(20.0 * value, out=result[:, 1])
    result[:, 1] *= 0.35
    np.arcsinh(slope, out=result[:, 2])
    result[:, 2] *= 0.5
    result[:, 3] = grid
    return result


def _axis_problem(bias: Array) -> str:
    if not FEWEST <= bias.size <= MOST:
        return f"{bias.size} points; give {FEWEST} to {MOST}"
    if not np.isfinite(bias).all():
        return "the bias axis holds NaN or infinite values; read the file again"
    steps = np.diff(bias)
    if not ((steps > 0.0).all() or (steps < 0.0).all()):
        return "the bias does not rise or fall strictly; give one sweep"
    span = float(np.ptp(bias))
    if not NARROWEST <= span <= WIDEST:
        return f"the bias spans {span:.3g} V; give {NARROWEST:g} to {WIDEST:g} V, in volts"
    return ""


def _current_like(bias: Array, didv: Array, size: Array) -> NDArray[np.bool_]:
    """Rows (N,) that have the sign of the bias throughout: a current, not its derivative."""
    thin = slice(None, None, max(1, bias.size // _ENOUGH))
    bias, didv = bias[thin], didv[:, thin]
    left, right = didv[:, bias < 0.0], didv[:, bias > 0.0]
    if min(left.shape[1], right.shape[1]) < _EITHER_SIDE:
        return np.zeros(len(didv), bool)
    (lowest, left_high), (right_low, _) = _quantiles(left), _quantiles(right)
    below = (left_high < _AROUND * size) & (lowest < -_BELOW * size)
    return np.asarray(below & (right_low > -_AROUND * size))


def _quiet_top(didv: Array, high: Array, span: Array) -> NDArray[np.bool_]:
    """Rows (N,) with less noise at their top than elsewhere: an amplifier at its limit.

    Noise is judged by the second differences of neighbours; noise of tunnelling does not shrink
    where the conductance is high.
    """
    curved = np.diff(didv, n=2, axis=1)
    curved *= curved
    floor = (high - _HIGHEST * span)[:, None]
    found = np.zeros(len(didv), bool)
    for share, fewest, ratio in _QUIET:
        width = max(fewest, int(share * didv.shape[1]))
        if didv.shape[1] < 4 * width:
            continue
        noise = _sums(curved, width)
        usual = np.median(noise, axis=1, keepdims=True)
        level = _sums(didv[:, 1:-1], width) / width
        found |= ((level > floor) & (noise < ratio**2 * usual)).any(axis=1)
    return found


def _sums(values: Array, width: int) -> Array:
    """Sums (N, n - width + 1) over `width` neighbours."""
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    return np.asarray(total[:, width:] - total[:, :-width])


def _quantiles(didv: Array) -> tuple[Array, Array]:
    """2nd and 98th percentile (N,) of each spectrum."""
    n = didv.shape[1]
    first, last = int(0.02 * (n - 1)), int(np.ceil(0.98 * (n - 1)))
    parted = np.partition(didv, (first, last), axis=1)
    return parted[:, first], parted[:, last]


def _median3(raw: Float32) -> Float32:
    """Median (N, n - 2) of each point and its two neighbours."""
    left, middle, right = raw[:, :-2], raw[:, 1:-1], raw[:, 2:]
    small, large = np.minimum(left, middle), np.maximum(left, middle)
    return np.maximum(small, np.minimum(large, right))


def _runs(mask: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Rows (N,) in which `longest` neighbours are all true."""
    if mask.sum(axis=1).max(initial=0) < longest:
        return np.zeros(len(mask), bool)
    return np.asarray((_sums(mask.astype(float), longest) == longest).any(axis=1))


@lru_cache(maxsize=16)
def _matrices(axis: bytes) -> "tuple[csr_array, Float32]":
    """Averages onto the grid above slopes there, per V: (2 GRID, n); half the bias there."""
    from scipy.sparse import csr_array, vstack

    bias = np.frombuffer(axis)
    grid = np.linspace(bias.min(), bias.max(), GRID)
    step = grid[1] - grid[0]
    spacing = np.abs(np.gradient(bias))
    # A hat as wide as the coarser of the two spacings: averages a fine sweep, joins a coarse one.
    width = np.maximum(step, spacing)[:, None]
    hat = np.maximum(0.0, 1.0 - np.abs(bias[:, None] - grid) / width) * spacing[:, None] / width
    averages = csr_array(hat / hat.sum(axis=0))
    reach = np.arange(GRID)
    gauss = np.exp(-0.5 * ((reach[:, None] - reach) / _SMOOTHING) ** 2)
    gauss[gauss < _NEGLIGIBLE] = 0.0
    gauss /= gauss.sum(axis=0)
    slope = averages @ csr_array(np.gradient(gauss, step, axis=1))
    both = vstack((averages.T, slope.T), format="csr", dtype=np.float32)
    return both, (0.5 * grid).astype(np.float32)
