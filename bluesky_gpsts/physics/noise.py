"""Noise of the electronics: preamplifier, lock-in, tip height.

White noise is drawn from a generator that the caller owns. The noise of the height is a pure
function of time and seed instead: whoever asks for the height at one time gets one answer.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from .constants import ELEMENTARY_CHARGE, FloatArray


@dataclass(frozen=True)
class Preamplifier:
    """Current amplifier with white noise and a range.

    Parameters
    ----------
    noise_density : float
        One-sided density of the current noise (A/sqrt(Hz)).
    gain : float
        Gain (V/A).
    full_scale : float
        Largest output (V); full_scale / gain is the largest current.
    """

    noise_density: float = 10e-15
    gain: float = 1e9
    full_scale: float = 10.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.noise_density >= 0.0:
            raise ValueError(f"noise density is {self.noise_density} A/sqrt(Hz); give 0 or more")
        if not (self.gain > 0.0 and self.full_scale > 0.0):
            raise ValueError(
                f"gain is {self.gain} V/A and full scale {self.full_scale} V; both must be above 0"
            )

    @property
    def limit(self) -> float:
        """Largest current (A) of either sign that the amplifier can show."""
        return self.full_scale / self.gain

    def sigma(self, averaging: float, current: FloatArray | float = 0.0) -> FloatArray:
        """Return the standard deviation of a current averaged for a time.

        sqrt((density^2 + 2 e |I|) / (2 t)): the amplifier's noise and the shot noise.

        Parameters
        ----------
        averaging : float
            Averaging time (s), above 0.
        current : array or float
            Current (A) that flows.

        Returns
        -------
        array
            Standard deviation (A), shape of current.
        """
        _check_time(averaging)
        density2 = self.noise_density**2 + 2.0 * ELEMENTARY_CHARGE * np.abs(current)
        return np.sqrt(np.asarray(density2) / (2.0 * averaging))

    def measure(
        self, current: FloatArray, averaging: float, rng: np.random.Generator
    ) -> tuple[FloatArray, np.typing.NDArray[np.bool_]]:
        """Measured current, with noise, clipped at the range.

        Parameters
        ----------
        current : array
            True current (A).
        averaging : float
            Averaging time per value (s).
        rng : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        measured : array
            Current (A) within +-limit.
        saturated : array of bool
            True where the value was clipped.
        """
        true = np.asarray(current, float)
        value = true + self.sigma(averaging, true) * rng.standard_normal(true.shape)
        return np.clip(value, -self.limit, self.limit), np.abs(value) >= self.limit


def demodulate(
    amplitude: FloatArray,
    averaging: float,
    rng: np.random.Generator,
    noise_density: float = 10e-15,
    phase: float = 0.0,
    pickup: float = 0.0,
) -> tuple[FloatArray, FloatArray]:
    """Lock-in outputs X and Y for a first harmonic, with noise.

    Parameters
    ----------
    amplitude : array
        First harmonic of the tunnelling current (A, peak).
    averaging : float
        Averaging time per value (s).
    rng : numpy.random.Generator
        Source of the noise.
    noise_density : float
        One-sided density of the current noise (A/sqrt(Hz)) at the modulation frequency.
    phase : float
        Angle (rad) by which the reference is off: the tunnelling signal appears at this angle,
        X = amplitude cos(phase), Y = amplitude sin(phase).
    pickup : float
        Capacitive current (A, peak), a quarter period ahead of the tunnelling current.

    Returns
    -------
    x, y : arrays
        Outputs (A, peak); noise of standard deviation noise_density / sqrt(averaging) on each.
    """
    _check_time(averaging)
    signal = np.asarray(amplitude, float)
    sigma = noise_density / np.sqrt(averaging)
    noise = sigma * rng.standard_normal((2, *signal.shape))
    c, s = np.cos(phase), np.sin(phase)
    return signal * c - pickup * s + noise[0], signal * s + pickup * c + noise[1]


@dataclass(frozen=True)
class HeightNoise:
    """Noise of the gap: mechanical and electronic, white and 1/f.

    Parameters
    ----------
    seed : int
        Seed; the noise is a pure function of it and of time.
    white : float
        Standard deviation (m) of the part that has no memory.
    flicker : float
        Standard deviation (m) of the 1/f part.
    """

    seed: int
    white: float = 0.3e-12
    flicker: float = 0.5e-12

    _LOW = 1e-4
    _HIGH = 50.0
    _WAVES = 38
    _HOPS = 12.0

    def series(self, times: FloatArray) -> FloatArray:
        """Height noise (n,) in m at times (n,) in s, in any order."""
        t = np.asarray(times, float)
        return self.white * self._normal(t) + self.flicker * self._pink(t)

    def _pink(self, t: FloatArray) -> FloatArray:
        """1/f noise of unit variance: waves of equal power, evenly spaced in log frequency."""
        rng = np.random.default_rng([self.seed, 1])
        exponents = (np.arange(self._WAVES) + rng.random(self._WAVES)) / self._WAVES
        frequencies = self._LOW * (self._HIGH / self._LOW) ** exponents
        phases = 2.0 * np.pi * rng.random(self._WAVES)
        total = np.zeros(t.shape)
        for frequency, phase in zip(frequencies, phases, strict=True):
            total += np.cos(2.0 * np.pi * frequency * t + phase)
        return np.asarray(np.sqrt(2.0 / self._WAVES) * total)

    def hops(self, times: FloatArray) -> FloatArray:
        """Telegraph noise (n,) of mean 0, +1 or -1, at times (n,) in s, in any order.

        An atom that has two places at the end of a tip sits in either, and changes it 12 times a
        second on average.
        """
        # A change is as likely as none from each cell of time to the next.
        cells = np.floor(np.asarray(times, float) * 2.0 * self._HOPS)
        return np.where(self._normal(cells) < 0.0, -1.0, 1.0)

    def _normal(self, t: FloatArray) -> FloatArray:
        """Draw unit normal numbers, one per time: a hash of seed and time bits (splitmix64)."""
        seed = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0]
        word = (np.ascontiguousarray(t) + 0.0).view(np.uint64) ^ seed
        with np.errstate(over="ignore"):
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                word = word + np.uint64(0x9E3779B97F4A7C15)
                word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
        word = word ^ (word >> np.uint64(31))
        uniform = ((word >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53
        return np.asarray(ndtri(uniform))


def _check_time(averaging: float) -> None:
    if not averaging > 0.0:
        raise ValueError(f"averaging time is {averaging} s; give a time above 0, in seconds")
