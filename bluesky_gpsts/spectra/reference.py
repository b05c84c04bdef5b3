"""Whether a spectrum repeated at one place is still what it was: a change of the tip, noticed.

What a tip that stays the same may do to a spectrum is left out of the comparison: another gap
multiplies it, drift and the feedback's noise during the sweep tilt it, an offset adds to it. What
is left over in its slow part is compared with the noise, which its fast part tells. For white
noise the ratio follows an F-distribution, so that the rate of false alarms is known beforehand.
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
        How much larger than the first one it is.
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
    gain = _gain(_slow(mean), _slow(second), first.shape[0])
    terms = np.column_stack([np.ones(n), ramp, _smooth(mean) * ramp])
    # Noise that grows with the signal, as that of the gap does, is evened out.
    weight = _weight(mean, second)
    # The terms are smooth, and so do not touch the fast part, which tells the noise.
    basis = np.linalg.qr(dct(terms * weight[:, None], axis=0, norm="ortho")[:_SLOW])[0]
    wave = dct((second - gain * mean) * weight, norm="ortho")
    slow = wave[:_SLOW] - basis @ (basis.T @ wave[:_SLOW])
    fast = wave[n // 3 :]
    noise = float(np.mean(fast**2))
    if noise == 0.0:
        same = bool(np.all(slow == 0.0))
        return SpectrumChange(not same, float(same), 0.0 if same else float("inf"), float(gain))
    freedom = _SLOW - _NUISANCES
    ratio = float(np.sum(slow**2)) / freedom / noise
    probability = float(f_distribution.sf(ratio, freedom, fast.size))
    return SpectrumChange(probability < false_alarm, probability, ratio, float(gain))


def _slow(values: Array) -> Array:
    """Slow waves of a spectrum, offset and tilt left out."""
    from scipy.fft import dct

    terms = np.column_stack([np.ones(values.size), np.linspace(-1.0, 1.0, values.size)])
    basis = np.linalg.qr(dct(terms, axis=0, norm="ortho")[:_SLOW])[0]
    waves = dct(values, norm="ortho")[:_SLOW]
    return np.asarray(waves - basis @ (basis.T @ waves))


def _gain(first: Array, second: Array, count: int) -> float:
    """Ratio of two noisy spectra, of which the first is a mean of `count` and so less noisy.

    Total least squares: ordinary ones would find too small a gain, and what is then left of the
    spectrum would look like a change.
    """
    scaled = first * np.sqrt(count)
    xx, yy, xy = scaled @ scaled, second @ second, scaled @ second
    gain = (yy - xx + np.hypot(yy - xx, 2.0 * xy)) / (2.0 * xy) if xy > 0.0 else 0.0
    return float(gain * np.sqrt(count))


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
