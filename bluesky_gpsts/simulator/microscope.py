"""The tip, the sample and the feedback loop between them, evolving in time.

The tip's piezo position is what the controller commands. The point of the sample beneath it
differs by drift, creep and the controller's drift compensation. Heights grow away from the sample.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from bluesky_gpsts.physics import Drift, HeightNoise, Preamplifier, creep
from bluesky_gpsts.simulator.sample import Sample

__all__ = ["CRASH_GAP", "Microscope", "Truth", "stream"]

CRASH_GAP = 0.15e-9
"""Gap below which tip and sample touch (m)."""

_CREEP_MOVES = 6


def stream(seed: int, mechanism: str, counter: int = 0) -> np.random.Generator:
    """Random numbers of one mechanism, independent of what the others have drawn."""
    return np.random.default_rng([seed, counter, *mechanism.encode()])


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


@dataclass(frozen=True)
class Move:
    """A straight move of the piezo from `start` at `begin` to `target` at `end`."""

    start: tuple[float, float]
    target: tuple[float, float]
    begin: float
    end: float

    def at(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Commanded positions (n, 2) at times `t` (n,)."""
        span = self.end - self.begin
        done = np.clip((t - self.begin) / span, 0, 1) if span > 0 else np.where(t < self.end, 0, 1)
        start, target = np.asarray(self.start), np.asarray(self.target)
        return start + np.asarray(done)[:, None] * (target - start)


def _range_for(sample: Sample) -> tuple[float, float, float]:
    """Piezo range (m) that holds the sample's frame."""
    frame = sample.conditions.frame
    reach = 2 * (max(abs(frame.x), abs(frame.y)) + max(frame.width, frame.height))
    lateral = max(1.0e-6, reach)
    return lateral, lateral, 0.4e-6


class Microscope:
    """State of tip and feedback; every method takes the simulated time `t` (s).

    Parameters
    ----------
    sample : Sample
        What lies beneath the tip.
    seed : int
        Seed of all noise.
    drift : Drift
        Thermal drift of the sample relative to the piezo.
    """

    withdraw_rate = 100e-9

    def __init__(self, sample: Sample, seed: int, drift: Drift) -> None:
        self.sample = sample
        self.seed = seed
        self.drift = drift
        self.truth = Truth()
        # 5 fA per root hertz is what good preamplifiers reach at a gain of 10^9.
        self.preamplifier = Preamplifier(noise_density=5e-15)
        self.height_noise = HeightNoise(seed)
        self.range_xyz = _range_for(sample)
        self.bias = sample.conditions.bias
        self.setpoint = sample.conditions.setpoint
        self.p_gain, self.time_constant = 5e-12, 200e-6
        self.switch_off_delay = 0.0
        self.z_limits = (self.range_xyz[2] / 2, -self.range_xyz[2] / 2)
        self.tip_lift = 0.0
        frame = sample.conditions.frame
        center = (frame.x, frame.y)
        self.moves = [Move(center, center, 0.0, 0.0)]
        self.feedback = True
        self.feedback_off_at = math.inf
        self.compensation = (0.0, 0.0, 0.0)
        self._compensated = np.zeros(3)
        self._compensated_since = 0.0
        self._z_ramp: tuple[float, float, float, float] | None = None
        self._t = 0.0
        self._z = float(self.equilibrium(self.under(np.zeros(1), np.array([center])), 0.0)[0])

    # ------------------------------------------------------------ lateral

    def commanded(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Piezo positions (n, 2) the controller has commanded at times `t` (n,)."""
        return self.moves[-1].at(t)

    def move(self, t: float, target: tuple[float, float], speed: float) -> float:
        """Start a move at `speed` (m/s); returns the time of arrival (s)."""
        self.update(t)
        start = self.commanded(np.array([t]))[0]
        distance = float(np.hypot(*(np.asarray(target) - start)))
        arrival = t + distance / speed
        self.moves.append(Move((float(start[0]), float(start[1])), target, t, arrival))
        del self.moves[:-_CREEP_MOVES]
        return arrival

    def stop_move(self, t: float) -> None:
        """Stop where the tip is."""
        here = self.commanded(np.array([t]))[0]
        self.place(t, (float(here[0]), float(here[1])))

    def place(self, t: float, position: tuple[float, float]) -> None:
        """Take note that the tip has arrived at `position` by other means than a move."""
        self.update(t)
        self.moves.append(Move(position, position, t, t))
        del self.moves[:-_CREEP_MOVES]

    def compensate(self, t: float, velocity: tuple[float, float, float]) -> None:
        """Let the controller follow a drift of `velocity` (m/s) from now on."""
        self.update(t)
        self._compensated = self.compensated(np.array([t]))[0]
        self._compensated_since = t
        self.compensation = velocity

    def compensated(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Offsets (n, 3) that the controller's drift compensation has added by times `t`."""
        elapsed = np.asarray(t)[:, None] - self._compensated_since
        return self._compensated + elapsed * np.asarray(self.compensation)

    def under(
        self, t: NDArray[np.float64], piezo: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Points of the sample (n, 2) beneath the tip at times `t` (n,)."""
        position = self.commanded(t) if piezo is None else piezo
        lag = np.zeros_like(position)
        for move in self.moves:
            jump = np.asarray(move.target) - np.asarray(move.start)
            if np.any(jump):
                elapsed = np.maximum(np.asarray(t) - move.end, 0.0)
                lag += creep(elapsed[:, None], jump[None, :])
        shift = self.compensated(t)[:, :2] - self.drift.offset(t)[:, :2]
        return position + lag + shift

    # ------------------------------------------------------------ vertical

    @property
    def feedback_lag(self) -> float:
        """Time constant of the closed loop (s): the loop integrates the logarithm of current."""
        integral_gain = self.p_gain / self.time_constant
        return 1.0 / (2.0 * self.sample.decay(self.bias) * integral_gain)

    def equilibrium(
        self, where: NDArray[np.float64], t: float | NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Heights (n,) of the tip at which the current equals the setpoint."""
        x, y = where[:, 0], where[:, 1]
        gap = self.sample.gap(x, y, self.bias, self.setpoint)
        return self.sample.height(x, y) + gap + self.vertical_shift(t)

    def vertical_shift(self, t: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Height (n,) by which drift, less its compensation, has raised the sample."""
        times = np.atleast_1d(np.asarray(t, dtype=float))
        return self.drift.offset(times)[:, 2] - self.compensated(times)[:, 2]

    def update(self, t: float) -> None:
        """Bring the tip's height, and the record of what happened, up to time `t`."""
        if t <= self._t:
            return
        if self.feedback and self._t < self.feedback_off_at <= t:
            self._evolve(self.feedback_off_at)
            self.feedback = False
            self.feedback_off_at = math.inf
        self._evolve(t)

    def _evolve(self, t: float) -> None:
        moving = self.moves[-1].end > self._t
        times = np.linspace(self._t, t, 65 if moving else 3)[1:]
        where = self.under(times)
        if self.feedback:
            target = self.equilibrium(where, times)
            keep = math.exp(-(times[1] - times[0]) / self.feedback_lag)
            heights, _ = lfilter([1 - keep], [1, -keep], target, zi=[keep * self._z])
        elif self._z_ramp is not None:
            t0, z0, t1, z1 = self._z_ramp
            heights = np.interp(times, [t0, max(t1, t0 + 1e-12)], [z0, z1])
            if t >= t1:
                self._z_ramp = None
        else:
            heights = np.full(times.shape, self._z)
        self.record(times, where, heights)
        self._t, self._z = t, float(heights[-1])

    def record(
        self,
        times: NDArray[np.float64],
        where: NDArray[np.float64],
        heights: NDArray[np.float64],
    ) -> None:
        """Note the gaps and currents along a stretch of the tip's path."""
        gap = heights - self.sample.height(where[:, 0], where[:, 1]) - self.vertical_shift(times)
        self.truth.observe(gap, self.tunnelling(where, gap))

    def tunnelling(
        self, where: NDArray[np.float64], gap: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Noise-free currents (n,) at points and gaps (n,), at the present bias."""
        # Beyond contact the current is Ohmic, and far above any preamplifier's range.
        open_gap = np.maximum(gap, 0.0)
        bias = np.array([self.bias])
        return self.sample.current(where[:, 0], where[:, 1], bias, open_gap)[:, 0]

    @property
    def z(self) -> float:
        """Height of the tip (m) at the last update."""
        return self._z

    def settled(self, t: float, z: float) -> None:
        """Take note that an operation has left the tip at height `z` at time `t`."""
        self._t, self._z = max(t, self._t), z

    def interrupt(self, t: float) -> None:
        """Go back to time `t`: what was computed ahead, a scan or a sweep, ends there."""
        if t < self._t:
            self._t = t
            if self.feedback:
                times = np.array([t])
                self._z = float(self.equilibrium(self.under(times), times)[0])

    def set_bias(self, t: float, bias: float) -> None:
        """Change the bias (V) at once."""
        self.update(t)
        self.bias = bias

    def set_setpoint(self, t: float, setpoint: float) -> None:
        """Change the current setpoint (A)."""
        self.update(t)
        self.setpoint = setpoint

    def set_feedback(self, t: float, on: bool) -> float:
        """Switch the feedback; returns when it takes effect (s)."""
        self.update(t)
        if on:
            self.feedback, self.feedback_off_at, self._z_ramp = True, math.inf, None
            return t
        if self.feedback:
            self.feedback_off_at = t + max(self.switch_off_delay, 1e-6)
            return self.feedback_off_at
        return t

    def ramp_z(self, t: float, target: float, rate: float) -> float:
        """Drive the tip to height `target` (m) at `rate` (m/s), feedback off; returns when."""
        self.update(t)
        self.interrupt(t)
        self.feedback, self.feedback_off_at = False, math.inf
        arrival = t + abs(target - self._z) / rate
        self._z_ramp = (t, self._z, arrival, target)
        return arrival

    def ramping(self, t: float) -> bool:
        """Whether the tip is being driven vertically."""
        return self._z_ramp is not None and t < self._z_ramp[2]

    def current(self, t: float) -> float:
        """Noise-free tunnelling current (A) now."""
        self.update(t)
        times = np.array([t])
        where = self.under(times)
        height = self.sample.height(where[:, 0], where[:, 1])
        gap = np.array([self._z]) - height - self.vertical_shift(times)
        return float(self.tunnelling(where, gap)[0])
