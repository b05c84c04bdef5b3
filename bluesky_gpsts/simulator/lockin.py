"""The lock-in amplifier's settings."""

from dataclasses import dataclass

import numpy as np

from bluesky_gpsts.simulator.signals import BIAS, CURRENT

__all__ = ["Lockin"]


@dataclass
class Lockin:
    """Modulator 1 and demodulator 1 of the lock-in amplifier.

    The modulation `amplitude` (V) is the peak value; the outputs are the amplitude of the first
    harmonic of the current (A), so that dI/dV is X divided by the amplitude.
    """

    on: bool = False
    frequency: float = 683.0
    amplitude: float = 5e-3
    modulated: int = BIAS
    demodulated: int = CURRENT
    phase: float = 0.0
    reference_phase: float = 0.0

    def modulation(self, running: bool = False) -> float:
        """Peak amplitude (V) that the current answers to; `running` counts as switched on."""
        used = self.modulated == BIAS and self.demodulated == CURRENT
        return self.amplitude if used and (self.on or running) else 0.0

    @property
    def turn(self) -> float:
        """Angle (rad) by which the reference is off."""
        return float(np.deg2rad(self.phase - self.reference_phase))
