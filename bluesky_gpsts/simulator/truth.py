"""What happened between tip and sample, whether or not the controller noticed."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import Tip, faults, quality

__all__ = ["CRASH_GAP", "Truth"]

CRASH_GAP = 0.15e-9
"""Gap below which tip and sample touch (m)."""


@dataclass
class Truth:
    """What the controller cannot know.

    Attributes
    ----------
    smallest_gap : float
        Smallest distance between tip and sample so far (m), indentations included.
    largest_current : float
        Largest magnitude of the tunnelling current so far (A), indentations included.
    crashes : int
        How often the tip has touched the sample without being meant to.
    indentations : int
        How often the tip shaper has let it touch the sample; these are no crashes.
    tip : Tip or None
        The tip; None if the sample is a recording.
    tip_changes : int
        How often the end of the tip has become another one.
    """

    smallest_gap: float = math.inf
    largest_current: float = 0.0
    crashes: int = 0
    indentations: int = 0
    tip: Tip | None = None
    tip_changes: int = 0
    touching: bool = field(default=False, repr=False)

    @property
    def tip_faults(self) -> tuple[str, ...]:
        """What is wrong with the tip: names of `bluesky_gpsts.physics.tiplife.FAULTS`."""
        return () if self.tip is None else faults(self.tip)

    @property
    def tip_quality(self) -> float:
        """0 to 1; from 0.5 on, nothing is wrong with the tip."""
        return 1.0 if self.tip is None else quality(self.tip)

    def observe(
        self, gap: NDArray[np.float64], current: NDArray[np.float64], shaping: bool = False
    ) -> None:
        """Take a stretch of gaps (m) and currents (A), `shaping` the tip or not, into account."""
        self.smallest_gap = min(self.smallest_gap, float(np.min(gap)))
        self.largest_current = max(self.largest_current, float(np.max(np.abs(current))))
        touching = np.concatenate([[self.touching], np.ravel(gap) < CRASH_GAP])
        contacts = int(np.count_nonzero(touching[1:] & ~touching[:-1]))
        if shaping:
            self.indentations += contacts
        else:
            self.crashes += contacts
        self.touching = bool(touching[-1])
