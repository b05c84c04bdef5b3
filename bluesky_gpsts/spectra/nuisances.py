"""What a real session does to a spectrum, beyond the tunnelling itself.

Every size is that of an ordinary session times `difficulty`.
"""

import numpy as np

from bluesky_gpsts.physics import Tip
from bluesky_gpsts.spectra.types import Array

__all__ = ["disturb", "draw_tip", "sizes"]

_BUMPS = 3


def draw_tip(rng: np.random.Generator, difficulty: float) -> Tip:
    """Draw the tip of a session.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    difficulty : float
        Multiplies its slope, the bumps of its density of states and its second apex.

    Returns
    -------
    Tip
        Up to four bumps of 0.08 to 0.5 eV width.
    """
    bumps = []
    for _ in range(int(rng.integers(1, 5))):
        width = float(np.exp(rng.uniform(np.log(0.08), np.log(0.5))))
        height = float(np.clip(0.36 * difficulty * rng.standard_normal(), -0.24, 1.5))
        bumps.append((float(rng.uniform(-1.6, 1.6)), width, height))
    apexes = [(0.0, 0.0, 1.0)]
    if rng.random() < 0.12 * difficulty:
        far, turn = rng.uniform(0.3e-9, 0.8e-9), rng.uniform(0.0, 2.0 * np.pi)
        share = float(rng.uniform(0.05, 0.3))
        apexes.append((float(far * np.cos(turn)), float(far * np.sin(turn)), share))
    return Tip(
        blur=float(rng.uniform(0.04e-9, 0.10e-9)),
        apexes=tuple(apexes),
        background=tuple(bumps),
        slope=float(0.5 * difficulty * rng.standard_normal()),
    )


def disturb(
    bias: Array,
    didv: Array,
    rng: np.random.Generator,
    difficulty: float,
    *,
    noise: float = 1.0,
    tip_changes: float = 1.0,
) -> Array:
    """Add to the spectra of one session all that a session adds.

    Gain and offset of the lock-in, leakage of its phase (which follows the spectrum's slope
    and a capacitive part), smooth background, white noise, 1/f noise, mains, spikes, and a
    change of the tip in the middle of some sweeps.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv : (N, n) array
        Spectra without nuisances (A/V).
    rng : numpy.random.Generator
        Source of randomness.
    difficulty : float
        Multiplies every nuisance.
    noise : float
        Multiplies the noise further.
    tip_changes : float
        Multiplies the share of sweeps with a change of the tip, 8 % at difficulty 1.

    Returns
    -------
    (N, n) array
        Spectra (A/V).
    """
    count, points = didv.shape
    d = difficulty
    scale = np.quantile(didv, 0.9, axis=1, keepdims=True)
    u = 2.0 * (bias - bias.min()) / np.ptp(bias) - 1.0
    value = didv * np.exp(0.15 * d * rng.standard_normal() + _smooth(u, rng, count, 0.12 * d))
    changed = rng.random(count) < np.minimum(0.08 * d * tip_changes, 1.0)
    if changed.any():
        value = _tip_change(value, changed, u, rng, d)
    value = value * np.exp(0.10 * d * rng.standard_normal((count, 1)))
    leak = 0.04 * d * rng.standard_normal() + 0.03 * d * rng.standard_normal((count, 1))
    value = value + scale * (leak + 0.01 * d * rng.standard_normal((count, 1)) * u)
    level = 0.03 * d * noise * scale * np.exp(0.4 * rng.standard_normal())
    return np.asarray(value + level * _noise(count, points, rng))


def _noise(count: int, points: int, rng: np.random.Generator) -> Array:
    """White, 1/f, mains and spikes: (count, points), the white part of unit variance."""
    mixture = rng.uniform(0.0, 1.0, 3)
    total = rng.standard_normal((count, points))
    frequencies = np.fft.rfftfreq(points)
    power = np.zeros(frequencies.size)
    power[1:] = 1.0 / np.sqrt(frequencies[1:])
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal((count, points))) * power, points)
    total += 0.8 * mixture[0] * pink / pink.std()
    cycles = rng.uniform(5.0, 0.4 * points)
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 1))
    total += mixture[1] * np.sin(2.0 * np.pi * cycles * np.arange(points) / points + phase)
    spikes = rng.random((count, points)) < 0.002 * mixture[2]
    return np.asarray(total + spikes * rng.normal(0.0, 10.0, (count, points)))


def _smooth(u: Array, rng: np.random.Generator, count: int, size: float) -> Array:
    """Smooth curves (count, n) over u in -1 to 1, different for every spectrum."""
    powers = np.stack([u, 2.0 * u**2 - 1.0, 4.0 * u**3 - 3.0 * u])
    return np.asarray(size * rng.standard_normal((count, 3)) @ powers)


def _tip_change(
    value: Array, changed: np.typing.NDArray[np.bool_], u: Array, rng: np.random.Generator, d: float
) -> Array:
    """From some point of the sweep on, another gain and another background."""
    rows = np.flatnonzero(changed)
    start = rng.uniform(-0.8, 0.8, (rows.size, 1))
    gain = np.exp(0.15 * d * rng.standard_normal((rows.size, 1)))
    factor = gain * np.exp(_smooth(u, rng, rows.size, 0.06 * d))
    result = value.copy()
    result[rows] = value[rows] * np.where(u > start, factor, 1.0)
    return result


def sizes(difficulty: float) -> dict[str, float]:
    """Sizes of the nuisances of a session that act on its axis.

    Parameters
    ----------
    difficulty : float
        Multiplies them.

    Returns
    -------
    dict
        ``offset``: standard deviation of the bias offset (V); ``jump``: that of each
        spectrum's own shift (V); ``stretch``: that of the bias calibration.
    """
    return {"offset": 16e-3 * difficulty, "jump": 9e-3 * difficulty, "stretch": 2e-3 * difficulty}
