"""Onset of a surface state in dI/dV, by fit: what a tip shows of a noble metal's (111) face.

The band of a surface state has a constant density of states above its onset. Seen with a finite
lifetime, and a lock-in's modulation, its onset in dI/dV is a smeared step; that of Au(111) lies
near -0.48 V (Everson et al., J. Vac. Sci. Technol. B 8, 3662 (1990)). The step's shape, an arctan
whose width is the inverse lifetime, is that of Li et al., Phys. Rev. Lett. 81, 4464 (1998).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

__all__ = ["SurfaceState", "current_noise", "fit_surface_state"]

Array = NDArray[np.float64]

_FEWEST = 40
_WIDTHS = (2e-3, 0.25)
_BACKGROUND = 3
_BLOCK = 25e-3
_REACH = 0.2
_FROM = 0.25
_DEGREE = 6


@dataclass(frozen=True)
class SurfaceState:
    """A surface state as a spectrum shows it.

    Attributes
    ----------
    onset, onset_error : float
        Bias of half height and its standard uncertainty (V).
    width : float
        Full width (V) of the smeared step, 2.2 times which takes it from 15 to 85 %.
    height, height_error : float
        Step of dI/dV relative to what is there just below it, and its standard uncertainty.
    roughness : float
        Slow deviation of the whole spectrum from step and smooth background, relative to the step:
        what the tip's own states make of it.
    noise : float
        Standard deviation of the noise of a point, relative to the step.
    """

    onset: float
    onset_error: float
    width: float
    height: float
    height_error: float
    roughness: float
    noise: float


def fit_surface_state(
    bias: ArrayLike, didv: ArrayLike, near: float = -0.48, reach: float = _REACH
) -> SurfaceState:
    """Fit a smeared step on a smooth background to a spectrum.

    dI/dV = b0 + b1 V + b2 V^2 + b3 V^3 + h (1/2 + arctan(2 (V - E0) / w) / pi)

    Parameters
    ----------
    bias : (n,) array_like
        Bias (V), rising or falling, in even steps.
    didv : (n,) array_like
        Differential conductance in any unit.
    near : float
        Where the onset is looked for (V).
    reach : float
        How far (V) from there it may be.

    Returns
    -------
    SurfaceState
        A height near zero, or an onset at the edge of the reach, where there is no such step.

    Raises
    ------
    ValueError
        If the arrays do not fit together, hold fewer than 40 points or what is no number, or
        the bias does not enclose the reach.
    """
    volts, values = np.asarray(bias, float), np.asarray(didv, float)
    if volts.ndim != 1 or volts.shape != values.shape or volts.size < _FEWEST:
        raise ValueError(
            f"bias has shape {volts.shape} and dI/dV {values.shape}; give two arrays of one "
            f"length, of {_FEWEST} points or more"
        )
    if not (np.isfinite(volts).all() and np.isfinite(values).all()):
        raise ValueError("the spectrum holds NaN or infinite values; leave such spectra out")
    low, high = near - reach, near + reach
    if not (reach > 0.0 and volts.min() < low and volts.max() > high):
        raise ValueError(
            f"the bias runs from {volts.min():g} to {volts.max():g} V; it must enclose "
            f"{low:g} to {high:g} V, where the onset is looked for"
        )
    scale = float(np.ptp(values)) or 1.0
    target = values / scale
    span = float(np.max(np.abs(volts)))
    background = (volts[:, None] / span) ** np.arange(_BACKGROUND + 1)

    def linear(shape: Array) -> tuple[Array, Array]:
        """Coefficients that fit best for an onset and a logarithm of the width."""
        columns = np.column_stack([background, _step(volts, shape[0], float(np.exp(shape[1])))])
        best = np.linalg.lstsq(columns, target, rcond=None)[0]
        if best[-1] < 0.0:
            # The onset of a band is no step down.
            best = np.append(np.linalg.lstsq(background, target, rcond=None)[0], 0.0)
        return np.asarray(best, float), columns

    def residual(shape: Array) -> Array:
        coefficients, columns = linear(shape)
        return np.asarray(columns @ coefficients - target)

    bounds = [low, np.log(_WIDTHS[0])], [high, np.log(_WIDTHS[1])]
    onsets = np.linspace(low, high, 21)[1:-1]
    starts = [np.array([onset, np.log(width)]) for onset in onsets for width in (0.02, 0.08)]
    first = min(starts, key=lambda start: float(np.sum(residual(start) ** 2)))
    found = least_squares(residual, first, bounds=bounds, x_scale=[0.01, 0.3])
    shape = np.asarray(found.x, float)
    coefficients, columns = linear(shape)
    left = target - columns @ coefficients
    errors = _errors(volts, shape, coefficients, columns, left)
    height = float(coefficients[-1])
    below = float(background[np.argmin(np.abs(volts - shape[0]))] @ coefficients[:-1])
    size = abs(below) or 1e-30
    slow, fast = _parts(volts, left)
    # Where there is hardly a step, a share of it would say nothing.
    step = max(height, 0.1 * size)
    return SurfaceState(
        onset=float(shape[0]),
        onset_error=float(errors[0]),
        width=float(np.exp(shape[1])),
        height=height / size,
        height_error=float(errors[1]) / size,
        roughness=slow / step,
        noise=fast / step,
    )


def current_noise(bias: ArrayLike, current: ArrayLike) -> float:
    """Noise of a sweep's current at constant height, as a share of the current.

    The gap's own fluctuations multiply the current, by 2 kappa times their size; an atom that hops
    at the end of the tip shows as more of it. What is left is the scatter of the current's
    logarithm about a smooth curve, on either side of zero bias, from 0.25 V on.

    Parameters
    ----------
    bias : (n,) array_like
        Bias (V).
    current : (n,) array_like
        Current (A).

    Returns
    -------
    float
        Standard deviation over mean; infinite where the current changes sign beyond 0.25 V, as in
        a band gap, so that its logarithm tells nothing.

    Raises
    ------
    ValueError
        If the arrays do not fit together, or have fewer than 20 points beyond 0.25 V.
    """
    volts, values = np.asarray(bias, float), np.asarray(current, float)
    if volts.ndim != 1 or volts.shape != values.shape:
        raise ValueError(f"bias has shape {volts.shape} and current {values.shape}; give two alike")
    variance, points = 0.0, 0
    for side in (volts >= _FROM, volts <= -_FROM):
        if np.count_nonzero(side) < 2 * (_DEGREE + 1):
            continue
        size = np.abs(values[side])
        if not np.all(values[side] * np.sign(volts[side]) > 0.0):
            return float("inf")
        v = volts[side] / np.max(np.abs(volts[side]))
        terms = v[:, None] ** np.arange(_DEGREE + 1)
        logarithm = np.log(size)
        left = logarithm - terms @ np.linalg.lstsq(terms, logarithm, rcond=None)[0]
        variance += float(np.sum(left**2))
        points += size.size - _DEGREE - 1
    if points < 20:
        raise ValueError(
            f"{points} points tell of the noise beyond {_FROM:g} V; give a wider or a finer sweep"
        )
    return float(np.sqrt(variance / points))


def _step(volts: Array, onset: float, width: float) -> Array:
    return np.asarray(0.5 + np.arctan(2.0 * (volts - onset) / width) / np.pi)


def _errors(
    volts: Array, shape: Array, coefficients: Array, columns: Array, left: Array
) -> tuple[float, float]:
    """Standard uncertainties of onset (V) and height (scaled), from the scatter that is left."""
    onset, width = float(shape[0]), float(np.exp(shape[1]))
    u = 2.0 * (volts - onset) / width
    slope = coefficients[-1] * 2.0 / (np.pi * width * (1.0 + u**2))
    jacobian = np.column_stack([columns, -slope, -slope * (volts - onset) / width])
    variance = float(np.sum(left**2)) / max(1, volts.size - jacobian.shape[1])
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian)
    place = columns.shape[1]
    return float(np.sqrt(covariance[place, place])), float(
        np.sqrt(covariance[place - 1, place - 1])
    )


def _parts(volts: Array, left: Array) -> tuple[float, float]:
    """Standard deviations of what is left: its slow part, without the noise, and its noise."""
    step = float(np.mean(np.abs(np.diff(volts))))
    noise = float(np.median(np.abs(np.diff(left))) / 0.6745 / np.sqrt(2.0))
    size = max(1, round(_BLOCK / step))
    blocks = left[: left.size // size * size].reshape(-1, size).mean(axis=1)
    # Averaging over a block leaves some of the noise, which is no deviation.
    slow = float(np.mean(blocks**2)) - noise**2 / size
    return float(np.sqrt(max(0.0, slow))), noise
