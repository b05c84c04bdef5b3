"""Whether a spectrum repeated at one place is still what it was: a change of the tip, noticed.

What a tip that stays the same may do to a spectrum is left out of the comparison: another gap
multiplies it by up to 1.5, drift and the feedback's noise during the sweep tilt it, an offset adds
to it. What is left over in its slow part is compared with the noise, which its fast part tells. For
white noise the ratio follows an F-distribution: the rate of false alarms is known beforehand.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

__all__ = ["FEWEST", "SpectrumChange", "compare_spectra"]

Array = NDArray[np.float64]

FALSE_ALARM = 1e-3
"""Share of unchanged spectra that may be called changed, unless told otherwise."""

_SLOW = 24
FEWEST = 96
"""Points that a spectrum needs to be compared."""
_GAP = 1.5  # times; 18 pm of the gap, far more than a feedback leaves
_NUISANCES = 4  # gain, offset, tilt, and a gain that changes during the sweep


@dataclass(frozen=True)
class SpectrumChange:
    """A repeated spectrum beside the first one.

    Attributes
    ----------
    changed : bool
        Whether it is another spectrum.
    probability : float
        Probability that noise alone makes at least this difference.
    ratio : float
        Variance of the slow part of the difference over that of its noise; about 1 for the same
        spectrum.
    gain : float
        How much larger than the first one it is; 0 if it does not resemble it.
    """

    changed: bool
    probability: float
    ratio: float
    gain: float


def compare_spectra(
    reference: ArrayLike, spectrum: ArrayLike, false_alarm: float = FALSE_ALARM
) -> SpectrumChange:
    """Compare a spectrum with an earlier one of the same place, on the same bias axis.

    Parameters
    ----------
    reference : (n,) or (m, n) array_like
        The first spectrum, or several, whose mean is taken; in any unit, in even steps of bias.
    spectrum : (n,) array_like
        The repeated one.
    false_alarm : float
        Share of unchanged spectra that may be called changed.

    Returns
    -------
    SpectrumChange

    Raises
    ------
    ValueError
        If the shapes do not fit together, there are fewer than 96 points, a value is no number,
        or `false_alarm` is not between 0 and 1.
    """
    from scipy.fft import dct

    first, second = np.atleast_2d(np.asarray(reference, float)), np.asarray(spectrum, float)
    if second.ndim != 1 or first.shape[-1] != second.size or second.size < FEWEST:
        raise ValueError(
            f"reference has shape {first.shape} and spectrum {second.shape}; give one bias axis of "
            f"{FEWEST} points or more to both"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a spectrum holds NaN or infinite values; leave such spectra out")
    if not 0.0 < false_alarm < 1.0:
        raise ValueError(f"false_alarm is {false_alarm}; give a share between 0 and 1")
    mean = first.mean(axis=0)
    n = mean.size
    ramp = np.linspace(-1.0, 1.0, n)
    terms = np.column_stack([np.ones(n), ramp, _smooth(mean) * ramp])
    # Noise that grows with the signal, as that of the gap does, is evened out.
    weight = _weight(mean, second)
    # The terms are smooth, and so do not touch the fast part, which tells the noise.
    basis = np.linalg.qr(dct(terms * weight[:, None], axis=0, norm="ortho")[:_SLOW])[0]
    waves = dct(np.stack([mean, second]) * weight, norm="ortho")
    slow = waves[:, :_SLOW] - waves[:, :_SLOW] @ basis @ basis.T
    fast = waves[:, n // 3 :]
    freedom, count = _SLOW - _NUISANCES, fast.shape[1]
    left, noise = slow @ slow.T / freedom, fast @ fast.T / count
    # Without any noise, what rounding leaves over is not a difference.
    noise += (1e-20 * np.trace(left) + 1e-12 * np.trace(noise)) * np.eye(2)
    gains = _extremes(left, noise)
    # A spectrum with ten times the structure, or with none, is no matter of the gap.
    bounds = (1.0 / _GAP, _GAP)
    within = [*bounds, *(gain for gain in gains if bounds[0] < gain < bounds[1])]
    ratio = min(_ratio(left, noise, gain) for gain in within)
    probability = float(f_distribution.sf(ratio, freedom, count))
    gain = min((0.0, *gains), key=lambda gain: _ratio(left, noise, gain))
    return SpectrumChange(probability < false_alarm, probability, ratio, max(gain, 0.0))


def _ratio(left: Array, noise: Array, gain: float) -> float:
    """Variance of the second spectrum less so many times the first, over that of the noise."""
    terms = np.array([-gain, 1.0])
    below = float(terms @ noise @ terms)
    return float(terms @ left @ terms) / below if below > 0.0 else 0.0


def _extremes(left: Array, noise: Array) -> list[float]:
    """Gains at which the ratio of variances is least and largest.

    Both spectra are noisy: the gain of least squares would be too small, and what is then left of
    the spectrum would look like a change.
    """
    from scipy.linalg import eigh

    if not np.trace(noise) > 0.0:
        return []
    vectors = eigh(left, noise)[1]
    return [float(-one / other) for one, other in vectors.T if other != 0.0]


def _smooth(values: Array) -> Array:
    """Keep the slow part of a spectrum."""
    from scipy.fft import dct, idct

    waves = dct(values, norm="ortho")
    waves[_SLOW:] = 0.0
    return np.asarray(idct(waves, norm="ortho"))


def _weight(first: Array, second: Array) -> Array:
    """Inverse of the noise's local size, smoothed over a fifth of the spectrum."""
    rough = np.abs(np.diff(second - first, n=2, prepend=0.0, append=0.0))
    width = max(9, first.size // 5) | 1
    padded = np.pad(rough[1:-1], width // 2 + 1, mode="reflect")
    local = np.convolve(padded, np.ones(width) / width, mode="valid")[: first.size]
    middle = float(np.median(local)) or 1.0
    return np.asarray(1.0 / np.clip(local / middle, 0.3, 3.0))
