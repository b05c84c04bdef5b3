"""What is recorded while the tip moves or the bias is swept, before any noise of the electronics.

The noise is added when the data are read, from generators of their own, so that a recording does
not depend on how often it was looked at meanwhile.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import Preamplifier, demodulate
from bluesky_gpsts.simulator.lockin import Lockin
from bluesky_gpsts.simulator.signals import BIAS, CURRENT, LOCKIN_X, LOCKIN_Y, X, Y, Z

__all__ = ["AT_ONCE", "Record", "measured", "stream"]

Array = NDArray[np.float64]

AT_ONCE = 65536
"""Samples that are computed together at most, for the sake of memory."""


def stream(seed: int, mechanism: str, counter: int = 0) -> np.random.Generator:
    """Random numbers of one mechanism, independent of what the others have drawn."""
    return np.random.default_rng([seed, counter, *mechanism.encode()])


@dataclass
class Record:
    """Samples to be taken at given times.

    Attributes
    ----------
    times : ndarray
        When (n,) samples are due (s), ascending.
    harmonic : bool
        Whether the first harmonic of the current is wanted.
    running : bool
        Whether the modulation runs for this record, though it is off otherwise.
    rows : ndarray
        X, Y, Z, bias, current, first harmonic (6, n); NaN where not taken yet.
    taken : int
        Number of samples taken.
    """

    times: Array
    harmonic: bool = False
    running: bool = False
    rows: Array = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        """Make room for the samples."""
        self.rows = np.full((6, len(self.times)), np.nan)

    @property
    def complete(self) -> bool:
        """Whether all samples have been taken."""
        return self.taken == len(self.times)

    def due(self, until: float) -> Array:
        """Times (s) of the next samples up to `until`, AT_ONCE of them at most."""
        last = int(np.searchsorted(self.times, until, side="right"))
        return self.times[self.taken : min(last, self.taken + AT_ONCE)]

    def take(self, times: Array, rows: Array) -> None:
        """Pick the samples due from rows (6, m) at times (m,)."""
        due = self.due(float(times[-1]))
        index = np.searchsorted(times, due)
        self.rows[:, self.taken : self.taken + len(due)] = rows[:, index]
        self.taken += len(due)

    def delay(self, seconds: float) -> None:
        """Put the samples not taken yet off."""
        self.times = self.times + np.where(np.arange(len(self.times)) >= self.taken, seconds, 0.0)


def measured(
    rows: Array,
    preamplifier: Preamplifier,
    lockin: Lockin,
    averaging: float,
    rng: np.random.Generator,
) -> dict[int, Array]:
    """Signals as the electronics show them.

    Parameters
    ----------
    rows : ndarray
        X, Y, Z (m), bias (V), current (A), first harmonic (A): (6, n).
    preamplifier, lockin
        The electronics.
    averaging : float
        Averaging time of each value (s).
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    dict
        Signal index to values (n,).
    """
    x, y, z, bias, current, harmonic = rows
    shown, _ = preamplifier.measure(current, averaging, rng)
    in_phase, quadrature = demodulate(
        harmonic, averaging, rng, preamplifier.noise_density, lockin.turn
    )
    return {
        CURRENT: shown,
        BIAS: bias,
        X: x,
        Y: y,
        Z: z,
        LOCKIN_X: in_phase,
        LOCKIN_Y: quadrature,
    }
