"""What lies beneath the simulated tip, as the rest of the simulator sees it."""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.physics import Drift, Tip

__all__ = ["Conditions", "Sample", "TipSample", "regulated"]

Array = NDArray[np.float64]

_SMALLEST_BIAS = 1e-6


@dataclass(frozen=True)
class Conditions:
    """How the sample is usually measured; also the controller's settings at the start.

    Attributes
    ----------
    frame : Frame
        Frame to image and to map.
    bias, setpoint : float
        Bias (V) and current (A) of the feedback.
    bias_range : (float, float)
        Start and end of a sweep (V).
    points : int
        Points of a sweep.
    window : (float, float)
        Bias window (V) whose summed dI/dV is mapped.
    """

    frame: Frame
    bias: float
    setpoint: float
    bias_range: tuple[float, float]
    points: int
    window: tuple[float, float]


class Sample(Protocol):
    """A sample in its own frame; positions (n,) in m, biases (m,) in V, currents in A."""

    @property
    def name(self) -> str:
        """Name, or file name, of the sample."""
        ...

    @property
    def conditions(self) -> Conditions:
        """How it is usually measured."""
        ...

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Lowest and highest bias (V) it is known at."""
        ...

    def height(self, x: Array, y: Array) -> Array:
        """Heights (n,) of the surface (m)."""
        ...

    def gap(self, x: Array, y: Array, bias: float, setpoint: float) -> Array:
        """Gaps (n,) in m at which the feedback settles."""
        ...

    def decay(self, bias: float) -> float:
        """Decay constant kappa (1/m): the current falls as exp(-2 kappa z)."""
        ...

    def current(self, x: Array, y: Array, bias: Array, gap: float | Array) -> Array:
        """Currents (n, m) at a gap, one or (n,), in m."""
        ...

    def lockin(
        self, x: Array, y: Array, bias: Array, amplitude: float, gap: float | Array
    ) -> Array:
        """First harmonics (n, m) in A under a modulation of peak `amplitude` (V)."""
        ...

    def figure_of_merit(
        self, x: Array, y: Array, window: tuple[float, float], bias: float, setpoint: float
    ) -> Array:
        """Noise-free integrals (n,) of dI/dV over the window (A), after feedback."""
        ...

    def drift(self, seed: int) -> Drift:
        """Thermal drift of the size seen on such a sample."""
        ...


@runtime_checkable
class TipSample(Sample, Protocol):
    """A sample that can be seen with another tip, and bears the marks of one."""

    @property
    def tip(self) -> Tip:
        """Tip above it."""
        ...

    def under(self, tip: Tip) -> Self:
        """Same sample under another tip."""
        ...

    def bare(self, x: float, y: float) -> bool:
        """Whether there is flat, bare metal at a position (m)."""
        ...

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the sample with a heap (m) at a position (m), where a touch leaves one."""
        ...


def regulated(bias: float) -> float:
    """Bias the feedback can hold a current at: with none, it drives the tip into the sample."""
    return bias if abs(bias) > _SMALLEST_BIAS else float(np.copysign(_SMALLEST_BIAS, bias))
