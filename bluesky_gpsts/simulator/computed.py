"""A computed surface beneath the tip."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.physics import (
    REFERENCE_GAP,
    REPORTED_DRIFT,
    Drift,
    Junction,
    Metal,
    Tip,
    build_surface,
    decay,
    random_drift,
    random_tip,
    window_sum,
)
from bluesky_gpsts.simulator.sample import Conditions, regulated

__all__ = ["ComputedSample", "computed_sample"]

Array = NDArray[np.float64]

_BARE = 1.5e-9


@dataclass(frozen=True)
class ComputedSample:
    """A surface of `bluesky_gpsts.physics` under a tip at 4.5 K."""

    junction: Junction
    conditions: Conditions

    @property
    def name(self) -> str:
        """Name of the surface."""
        return self.junction.surface.name

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Bias range of the surface's model (V)."""
        return self.junction.surface.bias_limits

    def height(self, x: Array, y: Array) -> Array:
        """Heights (n,) of the surface (m)."""
        return self.junction.height(x, y)

    def gap(self, x: Array, y: Array, bias: float, setpoint: float) -> Array:
        """Gaps (n,) in m at which the feedback settles."""
        held = float(np.clip(regulated(bias), *self.bias_limits))
        return REFERENCE_GAP + self.junction.setpoint_gap(x, y, held, setpoint)

    def decay(self, bias: float) -> float:
        """Decay constant kappa (1/m)."""
        return float(decay(self.junction.surface.work_function, np.clip(bias, *self.bias_limits)))

    def current(self, x: Array, y: Array, bias: Array, gap: float | Array) -> Array:
        """Currents (n, m) in A."""
        inside = np.clip(bias, *self.bias_limits)
        return self.junction.current(x, y, inside, gap - REFERENCE_GAP)

    def lockin(
        self, x: Array, y: Array, bias: Array, amplitude: float, gap: float | Array
    ) -> Array:
        """First harmonics (n, m) in A."""
        inside = np.clip(bias, *self.bias_limits)
        return self.junction.lockin(x, y, inside, amplitude, gap - REFERENCE_GAP)

    def figure_of_merit(
        self, x: Array, y: Array, window: tuple[float, float], bias: float, setpoint: float
    ) -> Array:
        """Integrals (n,) of dI/dV over the window (A)."""
        return window_sum(self.junction, x, y, window, bias, setpoint)

    @property
    def tip(self) -> Tip:
        """Tip above it."""
        return self.junction.tip

    def under(self, tip: Tip) -> Self:
        """Same sample under another tip."""
        return replace(self, junction=replace(self.junction, tip=tip))

    def bare(self, x: float, y: float) -> bool:
        """Whether there is metal, with nothing on it within 1.5 nm, at a position (m)."""
        surface = self.junction.surface
        return isinstance(surface, Metal) and surface.bare(x, y, _BARE)

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the sample with a heap (m) at a position (m); only metals keep marks."""
        surface = self.junction.surface
        if not isinstance(surface, Metal):
            return self
        heaped = surface.marked(x, y, height, radius)
        return replace(self, junction=replace(self.junction, surface=heaped))

    def drift(self, seed: int) -> Drift:
        """Drift of the size reported by Thomas et al. for this surface."""
        mean, std = REPORTED_DRIFT.get(self.name, REPORTED_DRIFT["ws2"])
        return random_drift(seed, mean, std)


_FRAMES = {"ws2": 3.0e-9, "au111": 12.0e-9, "hsi100": 4.0e-9}


def computed_sample(name: str, seed: int) -> ComputedSample:
    """Surface of `bluesky_gpsts.physics` by name, under a random tip that is not double."""
    surface = build_surface(name, seed)
    size = _FRAMES.get(name, 5e-9)
    bias, setpoint = surface.imaging
    conditions = Conditions(
        Frame(0.0, 0.0, size, size),
        bias,
        setpoint,
        surface.sweep,
        1200,
        surface.window,
    )
    return ComputedSample(
        Junction(surface, random_tip(np.random.default_rng([seed, 5]), double_probability=0.0)),
        conditions,
    )
