"""The tip: its lateral resolution, its apexes and its own density of states."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from .constants import FloatArray


@dataclass(frozen=True)
class Tip:
    """A scanning tip.

    Parameters
    ----------
    blur : float
        Standard deviation (m) of the Gaussian with which the tip sees lateral features.
    apexes : tuple of (dx, dy, weight)
        Offset of each apex (m) from the nominal tip position, and its share of the current
        at equal gap. The first is the main apex. Shares are normalised to a sum of one.
    background : tuple of (energy, width, amplitude)
        Bumps of the tip's density of states: centre (eV, relative to the tip's Fermi level),
        standard deviation (eV), amplitude relative to the flat part (above -1).
    slope : float
        Relative rise of the density of states per eV at the Fermi level.
    jitter : float
        Height (m) by which an atom at the apex hops up and down, at random.
    length : float
        How much longer (m) than at the start the tip is.

    Raises
    ------
    ValueError
        If blur or jitter is negative, no apex has a positive weight, or a bump is too narrow
        (below 0.05 eV) or as deep as the density of states itself.
    """

    blur: float = 0.06e-9
    apexes: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0),)
    background: tuple[tuple[float, float, float], ...] = ()
    slope: float = 0.0
    jitter: float = 0.0
    length: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not (isfinite(self.blur) and self.blur >= 0.0):
            raise ValueError(f"tip blur is {self.blur} m; give a length of zero or more, in metres")
        if not (isfinite(self.jitter) and self.jitter >= 0.0 and isfinite(self.length)):
            raise ValueError(
                f"tip jitter is {self.jitter} m and length {self.length} m; both must be finite, "
                "and the jitter zero or more"
            )
        if not self.apexes or any(not weight > 0.0 for _, _, weight in self.apexes):
            raise ValueError(
                f"tip apexes are {self.apexes}; give at least one (dx, dy, weight), "
                "each with a weight above zero"
            )
        if any(not width >= 0.05 for _, width, _ in self.background):
            raise ValueError(
                f"tip background is {self.background}; each bump (energy, width, amplitude) "
                "needs a width of at least 0.05 eV"
            )
        if sum(min(0.0, amplitude) for _, _, amplitude in self.background) <= -1.0:
            raise ValueError(
                f"tip background is {self.background}; the negative amplitudes must add up to "
                "more than -1, or the tip would have no states"
            )

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of the apexes, normalised to a sum of one."""
        total = sum(weight for _, _, weight in self.apexes)
        return tuple(weight / total for _, _, weight in self.apexes)

    def dos(self, energy: FloatArray) -> FloatArray:
        """Density of states relative to its value at the tip's Fermi level.

        Parameters
        ----------
        energy : array
            Energy (eV) relative to the tip's Fermi level.

        Returns
        -------
        array
            Same shape, positive, dimensionless; 1 at energy 0.
        """
        return np.asarray(self._dos(np.asarray(energy, float)) / self._dos(np.zeros(1))[0])

    def _dos(self, energy: FloatArray) -> FloatArray:
        value = np.ones(energy.shape)
        for centre, width, amplitude in self.background:
            value += amplitude * np.exp(-0.5 * ((energy - centre) / width) ** 2)
        # tanh bounds the slope, so that the density stays positive far from the Fermi level
        return np.asarray(value * np.exp(np.tanh(self.slope * energy)))


def sharp() -> Tip:
    """Return a good tip: one apex, 0.06 nm blur, a flat density of states."""
    return Tip()


def random_tip(rng: np.random.Generator, double_probability: float = 0.15) -> Tip:
    """Draw a tip as one finds them in practice.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    double_probability : float
        Probability of a second apex, 0.3 to 1.2 nm away, with 10 to 50 % of the main weight.

    Returns
    -------
    Tip
        Blur 0.04 to 0.12 nm, a slope of the density of states within +-0.15 per eV, and up to
        three bumps of 0.15 to 0.5 eV width and up to 20 % amplitude.
    """
    apexes = [(0.0, 0.0, 1.0)]
    if rng.random() < double_probability:
        distance, direction = rng.uniform(0.3e-9, 1.2e-9), rng.uniform(0.0, 2.0 * np.pi)
        offset = distance * np.cos(direction), distance * np.sin(direction)
        apexes.append((float(offset[0]), float(offset[1]), float(rng.uniform(0.1, 0.5))))
    background = tuple(
        (
            float(rng.uniform(-1.5, 1.5)),
            float(rng.uniform(0.15, 0.5)),
            float(rng.uniform(-0.2, 0.2)),
        )
        for _ in range(int(rng.integers(0, 4)))
    )
    return Tip(
        blur=float(rng.uniform(0.04e-9, 0.12e-9)),
        apexes=tuple(apexes),
        background=background,
        slope=float(rng.uniform(-0.15, 0.15)),
    )
