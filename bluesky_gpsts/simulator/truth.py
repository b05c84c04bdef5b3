"""What happened between tip and sample, whether or not the controller noticed."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["CRASH_GAP", "Truth"]

CRASH_GAP = 0.15e-9
"""Gap below which tip and sample touch (m)."""


@dataclass
class Truth:
    """What the controller cannot know.

    Attributes
    ----------
    smallest_gap : float
        Smallest distance between tip and sample so far (m).
    largest_current : float
        Largest magnitude of the tunnelling current so far (A).
    crashes : int
        How often the tip has touched the sample.
    """

    smallest_gap: float = math.inf
    largest_current: float = 0.0
    crashes: int = 0
    touching: bool = field(default=False, repr=False)

    def observe(self, gap: NDArray[np.float64], current: NDArray[np.float64]) -> None:
        """Take a stretch of gaps (m) and currents (A) into account."""
        self.smallest_gap = min(self.smallest_gap, float(np.min(gap)))
        self.largest_current = max(self.largest_current, float(np.max(np.abs(current))))
        touching = np.concatenate([[self.touching], np.ravel(gap) < CRASH_GAP])
        self.crashes += int(np.count_nonzero(touching[1:] & ~touching[:-1]))
        self.touching = bool(touching[-1])
