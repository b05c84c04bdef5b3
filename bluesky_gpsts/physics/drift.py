"""Thermal drift and piezo creep: where the sample is, as a pure function of time and seed."""

from dataclasses import dataclass

import numpy as np

from .constants import FloatArray

REPORTED_DRIFT: dict[str, tuple[float, float]] = {
    "ws2": (0.5e-10, 0.2e-10),
    "au111": (1.1e-10, 0.8e-10),
}
"""Mean and standard deviation (m) of the lateral drift after 30 minutes, per surface, from
Thomas et al., npj Comput. Mater. 8, 99 (2022)."""

REPORTED_AFTER = 1800.0
"""Time (s) after which REPORTED_DRIFT was measured."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Drift:
    """Displacement of the sample under the tip, offset(0) = 0.

    offset(t) = velocity t + sum relaxation (1 - exp(-t / tau))
                + sum wander (sin(2 pi f t + phase) - sin(phase))

    Parameters
    ----------
    velocity : (vx, vy, vz)
        Steady part (m/s).
    relaxation : tuple of ((x, y, z), tau)
        Parts that die out: final displacement (m) and time constant (s).
    wander : tuple of ((x, y, z), frequency, phase)
        Slow waves that change the direction: amplitude (m), frequency (Hz), phase (rad).
    """

    velocity: Vector = (0.0, 0.0, 0.0)
    relaxation: tuple[tuple[Vector, float], ...] = ()
    wander: tuple[tuple[Vector, float, float], ...] = ()

    def offset(self, t: FloatArray | float) -> FloatArray:
        """Displacement since time 0.

        Parameters
        ----------
        t : (n,) array or float
            Time (s).

        Returns
        -------
        (n, 3) array
            Displacement in x, y, z (m); n = 1 for a number.
        """
        time = np.atleast_1d(np.asarray(t, float))
        total = time[:, None] * np.asarray(self.velocity)
        for amplitude, tau in self.relaxation:
            total += -np.expm1(-time / tau)[:, None] * np.asarray(amplitude)
        for amplitude, frequency, phase in self.wander:
            wave = np.sin(2.0 * np.pi * frequency * time + phase) - np.sin(phase)
            total += wave[:, None] * np.asarray(amplitude)
        return np.asarray(total)

    def times(self, factor: float) -> "Drift":
        """Return the same path, `factor` times as long; 0 is no drift."""

        def longer(vector: Vector) -> Vector:
            return _vector(factor * np.asarray(vector))

        return Drift(
            longer(self.velocity),
            tuple((longer(end), tau) for end, tau in self.relaxation),
            tuple((longer(wave), *rest) for wave, *rest in self.wander),  # type: ignore[misc]
        )


def random_drift(seed: int, mean: float, std: float, after: float = REPORTED_AFTER) -> Drift:
    """Draw a drift whose lateral size after some time has a given mean and spread.

    Parameters
    ----------
    seed : int
        Seed.
    mean, std : float
        Mean and standard deviation (m), over seeds, of the lateral displacement at time
        `after`. It follows a gamma distribution, so it is never negative.
    after : float
        Time (s).

    Returns
    -------
    Drift
        Linear part, one relaxation and three waves; the path bends, so the drift points in
        several directions on the way. The vertical part has a third of the lateral size.

    Raises
    ------
    ValueError
        If mean, std or after is not above 0.
    """
    if not (mean > 0.0 and std > 0.0 and after > 0.0):
        raise ValueError(
            f"drift has mean {mean} m, spread {std} m and time {after} s; all must be above 0"
        )
    rng = np.random.default_rng([seed, 2])
    size = rng.gamma((mean / std) ** 2, std**2 / mean)
    direction = rng.uniform(0.0, 2.0 * np.pi)
    vertical = rng.normal() / 3.0
    end = size * np.array([np.cos(direction), np.sin(direction), vertical])

    tau = rng.uniform(0.15, 0.5) * after
    relaxation = 0.3 * size * rng.normal(size=3) * (1.0, 1.0, 1.0 / 3.0)
    waves: list[tuple[Vector, float, float]] = []
    for cycles in (0.6, 1.3, 2.7):
        amplitude = 0.2 * size / np.sqrt(cycles) * rng.normal(size=3) * (1.0, 1.0, 1.0 / 3.0)
        frequency = cycles * rng.uniform(0.8, 1.25) / after
        waves.append((_vector(amplitude), float(frequency), float(rng.uniform(0.0, 2.0 * np.pi))))
    bends = Drift(relaxation=((_vector(relaxation), float(tau)),), wander=tuple(waves))
    # The steady part takes up what the bends leave, so that the end point is the one drawn.
    velocity = (end - bends.offset(after)[0]) / after
    return Drift(_vector(velocity), bends.relaxation, bends.wander)


def creep(
    elapsed: FloatArray | float,
    jump: FloatArray | float,
    strength: float = 0.01,
    onset: float = 0.1,
) -> FloatArray:
    """Logarithmic creep of a piezo after a move.

    Parameters
    ----------
    elapsed : array or float
        Time since the move (s); before it (negative) there is no creep.
    jump : array or float
        Length of the move (m), broadcast against elapsed.
    strength : float
        Share of the move by which it goes on per decade of time.
    onset : float
        Time (s) from which decades count.

    Returns
    -------
    array
        Displacement beyond the move (m), in its direction.
    """
    decades = np.log10(1.0 + np.maximum(np.asarray(elapsed, float), 0.0) / onset)
    return np.asarray(strength * np.asarray(jump) * decades)


def _vector(values: FloatArray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
