"""The tip, the sample and the feedback loop between them, evolving in time.

The controller's outputs are courses in time: the tip's lateral position, the bias, and the height
where the loop is open. Whatever is done to them acts from that moment on, for `update` never looks
ahead: it brings tip and loop up to a time, under the settings that held until then.

The tip's piezo position is what the controller commands. The point of the sample beneath it
differs by drift, creep and the controller's drift compensation. Heights grow away from the sample.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import Drift, Preamplifier
from bluesky_gpsts.simulator.apex import Apex
from bluesky_gpsts.simulator.course import Course
from bluesky_gpsts.simulator.creeping import Creeping
from bluesky_gpsts.simulator.lockin import Lockin
from bluesky_gpsts.simulator.record import AT_ONCE, Record
from bluesky_gpsts.simulator.sample import Sample
from bluesky_gpsts.simulator.truth import CRASH_GAP, Truth
from bluesky_gpsts.simulator.tunnel import currents, equilibrium_gaps, harmonics

__all__ = ["CRASH_GAP", "FINE", "Microscope"]

Array = NDArray[np.float64]

FINE = 20e-12
"""Distance (m) along a move that is resolved."""
_FINE_BIAS = 20e-3
"""Change of the bias (V) that is resolved while the loop follows it."""
_LINE_RATE = 1e3
"""Rate (V/s) at which the filters of the bias line let a new bias through."""
_BLIND = 10e-3
"""Time (s) that the logarithm of the current takes to recover when the bias has passed zero."""


@dataclass(frozen=True)
class _Event:
    """Something to be done at a time (s), as part of the operation `owner`."""

    time: float
    owner: str
    act: Callable[[], None]


def _follow(z: float, target: Array, times: Array, lag: float) -> Array:
    """Heights (n,) of a loop of time constant `lag` (s), from height `z` at the first time.

    The target is linear between the times, and the solution exact for it, however long the steps
    are against the lag.
    """
    steps = np.diff(times) / lag
    keep = np.exp(-steps)
    share = np.where(steps > 0, -np.expm1(-steps) / np.where(steps > 0, steps, 1.0), 1.0)
    pull = (-np.diff(target) * share).tolist()
    pairs = zip(keep.tolist(), pull, strict=True)
    errors = accumulate(pairs, lambda e, step: step[0] * e + step[1], initial=z - float(target[0]))
    return target + np.fromiter(errors, np.float64, len(times))


def _range_for(sample: Sample) -> tuple[float, float, float]:
    """Piezo range (m) that holds the sample's frame."""
    frame = sample.conditions.frame
    reach = 2 * (max(abs(frame.x), abs(frame.y)) + max(frame.width, frame.height))
    lateral = max(1.0e-6, reach)
    return lateral, lateral, 0.4e-6


class Microscope:
    """State of tip and feedback; times `t` are simulated seconds.

    Parameters
    ----------
    sample : Sample
        What lies beneath the tip.
    seed : int
        Seed of all noise.
    drift : Drift
        Thermal drift of the sample relative to the piezo.

    Attributes
    ----------
    path : Course
        Lateral position that the controller commands (m).
    output : Course
        Bias (V).
    lift : Course
        Height of the tip (m) while the loop is open.
    feedback, held : bool
        Whether the z-controller is on, and whether an operation holds it for the time being.
    record : Record or None
        What is being recorded.
    overcurrent : float
        Magnitude of the current (A) above which `on_overcurrent` is called, at that moment.
    """

    def __init__(self, sample: Sample, seed: int, drift: Drift) -> None:
        self.seed = seed
        self.drift = drift
        self.truth = Truth()
        self.apex = Apex(sample, seed, self.truth)
        # 5 fA per root hertz is what good preamplifiers reach at a gain of 10^9.
        self.preamplifier = Preamplifier(noise_density=5e-15)
        self.lockin = Lockin()
        self.range_xyz = _range_for(sample)
        self.setpoint = sample.conditions.setpoint
        self.p_gain, self.time_constant = 5e-12, 200e-6
        self.switch_off_delay = 0.0
        self.withdraw_rate = 100e-9
        self.z_limits = (self.range_xyz[2] / 2, -self.range_xyz[2] / 2)
        self.tip_lift = 0.0
        frame = sample.conditions.frame
        self.path = Course.through((0.0, (frame.x, frame.y)))
        self.output = Course.through((0.0, sample.conditions.bias))
        self.feedback, self.held = True, False
        self.record: Record | None = None
        self.overcurrent = math.inf
        self.on_overcurrent: Callable[[float], None] = lambda t: None
        self.compensation = (0.0, 0.0, 0.0)
        self._compensated = np.zeros(3)
        self._compensated_since = 0.0
        self._creeping = Creeping()
        self._agenda: list[_Event] = []
        self._blind_since = -math.inf
        self._updating = False
        self._t = 0.0
        here = np.zeros(1)
        self._z = float(self.equilibrium(self.under(here), here)[0])
        self.lift = Course.through((0.0, self._z))
        self._leaving = False

    @property
    def sample(self) -> Sample:
        """What lies beneath the tip, as the tip sees it now."""
        return self.apex.sample

    # ------------------------------------------------------------ lateral

    def commanded(self, t: Array) -> Array:
        """Piezo positions (n, 2) the controller commands at times `t` (n,)."""
        return self.path.at(t)

    @property
    def position(self) -> Array:
        """Piezo position (2,) at the last update (m)."""
        return self.path.at(np.array([self._t]))[0]

    def move(self, t: float, target: tuple[float, float], speed: float) -> float:
        """Start a move at `speed` (m/s); returns the time of arrival (s)."""
        self.halt(t)
        here = self.position
        jump = np.asarray(target) - here
        arrival = t + float(np.hypot(*jump)) / speed
        self.path = Course.through((t, here), (arrival, target))
        self._creeping.move(arrival, jump)
        return arrival

    def halt(self, t: float) -> None:
        """Stop the tip where it is."""
        self.update(t)
        here = self.position
        self._creeping.halt(t, here, float(self.path.times[-1]), self.path.values[-1])
        self.path = Course.through((t, here))

    def follow(self, t: float, path: Course, record: Record, arrival: float) -> None:
        """Follow a path that begins here and now (s), and record along it.

        Until `arrival` (s) it leads to where the record begins.
        """
        self.halt(t)
        here, corner = self.position, path.at(np.array([arrival]))[0]
        self._creeping.follow(here, corner, arrival)
        self.path, self.record = path, record

    def compensate(self, t: float, velocity: tuple[float, float, float]) -> None:
        """Let the controller follow a drift of `velocity` (m/s) from now on."""
        self.update(t)
        self._compensated = self.compensated(np.array([t]))[0]
        self._compensated_since = t
        self.compensation = velocity

    def compensated(self, t: Array) -> Array:
        """Offsets (n, 3) that the controller's drift compensation has added by times `t`."""
        elapsed = np.asarray(t)[:, None] - self._compensated_since
        return self._compensated + elapsed * np.asarray(self.compensation)

    def under(self, t: Array, piezo: Array | None = None) -> Array:
        """Points of the sample (n, 2) beneath the tip at times `t` (n,)."""
        position = self.path.at(t) if piezo is None else piezo
        shift = self.compensated(t)[:, :2] - self.drift.offset(t)[:, :2]
        return position + self._creeping.lag(t) + shift

    # ------------------------------------------------------------ vertical

    @property
    def feedback_lag(self) -> float:
        """Time constant of the closed loop (s): the loop integrates the logarithm of current."""
        integral_gain = self.p_gain / self.time_constant
        return 1.0 / (2.0 * self.sample.decay(self.bias) * integral_gain)

    @property
    def closed(self) -> bool:
        """Whether the tip follows the current."""
        return self.feedback and not self.held

    def _ground(self, where: Array, t: Array) -> Array:
        """Heights (n,) at which the tip touches: the surface, drift and the tip's own length."""
        raised = self.drift.offset(t)[:, 2] - self.compensated(t)[:, 2] + self.apex.length
        return self.sample.height(where[:, 0], where[:, 1]) + raised

    def _gap(self, where: Array, bias: Array) -> Array:
        return equilibrium_gaps(self.sample, where, bias, self.setpoint)

    def equilibrium(self, where: Array, t: Array) -> Array:
        """Heights (n,) at times `t` at which the loop would rest, over points of the sample."""
        return self._ground(where, t) + self._gap(where, self._seen(t, self.output.at(t)[:, 0]))

    @property
    def z(self) -> float:
        """Height of the tip (m) at the last update, as the controller shows it."""
        # A closed loop follows the noise of the height, so that it shows in Z and not in the gap.
        noise = self.apex.noise(np.array([self._t])) if self.closed else np.zeros(1)
        return self._z + float(noise[0])

    @property
    def bias(self) -> float:
        """Bias (V) at the last update."""
        return float(self.output.at(np.array([self._t]))[0, 0])

    def ramping(self, t: float) -> bool:
        """Whether the tip is being driven vertically."""
        return not self.closed and t < self.lift.end

    def withdrawing(self, t: float) -> bool:
        """Whether the tip is being taken away, by Withdraw, Home or the safe tip."""
        return self._leaving and self.ramping(t)

    # ------------------------------------------------------------ the tip's end

    def pulsed(self, t: float, bias: float) -> None:
        """Let a pulse to `bias` (V) that ends at time `t` (s) do what it does to the tip."""
        self.update(t)
        self.apex.pulsed(bias, self.under(np.array([t]))[0])

    # ------------------------------------------------------------ time

    def schedule(self, time: float, owner: str, act: Callable[[], None] = lambda: None) -> None:
        """Let `act` be called at `time` (s) as part of the operation `owner`."""
        self._agenda.append(_Event(time, owner, act))
        self._agenda.sort(key=lambda event: event.time)

    def pending(self, *owners: str) -> bool:
        """Whether an operation has something left to do."""
        return any(event.owner in owners for event in self._agenda)

    def cancel(self, owner: str) -> None:
        """Forget what an operation has left to do."""
        self._agenda = [event for event in self._agenda if event.owner != owner]

    def update(self, t: float) -> None:
        """Bring the tip, and the record of what happened, up to time `t`."""
        if self._updating:
            # An event changes a setting: the tip is where it should be, and the next event waits.
            return
        self._updating = True
        try:
            while self._t < t or self._due():
                if self._due():
                    self._agenda.pop(0).act()
                else:
                    self._evolve(min(t, self._agenda[0].time) if self._agenda else t)
        finally:
            self._updating = False

    def _due(self) -> bool:
        return bool(self._agenda) and self._agenda[0].time <= self._t

    def _evolve(self, t: float) -> None:
        """Go on to time `t`, or to the moment at which the current is too large."""
        times = self._grid(t)
        piezo, bias = self.path.at(times), self.output.at(times)[:, 0]
        middle = slice(None)
        if np.any(bias != bias[0]) and np.all(piezo == piezo[0]):
            # A tip at rest drifts by a picometre within a sweep: one point of the sample serves.
            middle = slice(len(times) // 2, len(times) // 2 + 1)
        where = self.under(times[middle], piezo[middle])
        ground = self._ground(where, times)
        noise = np.zeros(len(times))
        if self.record is not None or not self.closed:
            noise = self.apex.noise(times)
        if self.closed:
            heights = _follow(self._z, self.equilibrium(where, times), times, self.feedback_lag)
            gap, shown = heights - ground, heights + noise
        else:
            heights = self.lift.at(times)[:, 0]
            gap, shown = heights - ground + noise, heights
        current = currents(self.sample, where, bias, gap)
        over = np.flatnonzero(np.abs(current) > self.overcurrent)
        stop = int(over[0]) + 1 if over.size else len(times)
        self.truth.observe(gap[:stop], current[:stop], self.pending("shaper"))
        if self.record is not None:
            amplitude = self.lockin.modulation(self.record.running) * self.record.harmonic
            first = harmonics(self.sample, where, bias, gap, amplitude)
            rows = np.stack([*piezo.T, shown, bias, current, first])
            self.record.take(times[:stop], rows[:, :stop])
            if self.record.complete:
                self.record = None
        self._t, self._z = float(times[stop - 1]), float(heights[stop - 1])
        self.apex.feel(gap[:stop], where[-1], self.pending("shaper"))
        if over.size:
            self.on_overcurrent(self._t)

    def _seen(self, times: Array, bias: Array) -> Array:
        """Bias (n,) by the current that the loop goes by: none, for a while after zero.

        A logarithmic amplifier is the slower, the smaller the current. A loop that is closed
        meanwhile finds none, and drives the tip into the sample.
        """
        since = [self._blind_since, *times[1:][bias[1:] * bias[:-1] < 0]]
        self._blind_since = float(since[-1])
        blind = np.any([(times >= t) & (times <= t + _BLIND) for t in since], axis=0)
        return np.where(blind, 0.0, bias)

    def _grid(self, t: float) -> Array:
        """Times from now to `t` that resolve what happens, now included."""
        begin, parts = self._t, []
        # While an image is recorded, a pixel is the resolution.
        fine = FINE
        if self.record is not None:
            due = self.record.due(t)
            if len(due) == AT_ONCE:
                t = float(due[-1])
            parts.append(due)
            fine = math.inf
        parts.append(self.path.instants(begin, t, fine))
        parts.append(self.output.instants(begin, t, _FINE_BIAS if self.closed else math.inf))
        if self.closed and begin < self._blind_since + _BLIND:
            parts.append(np.linspace(begin, min(t, self._blind_since + _BLIND), 9))
        if not self.closed:
            nearer = self.lift.values[-1, 0] < self._z
            parts.append(self.lift.instants(begin, t, FINE if nearer else math.inf))
        parts.append(np.linspace(begin, t, 4))
        return np.unique(np.concatenate(parts))

    def snapshot(self, t: float) -> Array:
        """X, Y, Z, bias, current and first harmonic (6, 1) of the moment, without noise."""
        self.update(t)
        times, bias = np.array([t]), np.array([self.bias])
        where, shown = self.under(times), np.array([self.z])
        gap = self._z - self._ground(where, times)
        if not self.closed:
            gap = gap + self.apex.noise(times)
        current = currents(self.sample, where, bias, gap)
        running = self.record is not None and self.record.running
        first = harmonics(self.sample, where, bias, gap, self.lockin.modulation(running))
        return np.stack([*self.path.at(times).T, shown, bias, current, first])

    # ------------------------------------------------------------ settings

    def set_bias(self, t: float, bias: float) -> None:
        """Change the bias (V). A closed loop feels every bias on the way.

        The change takes a millisecond per volt, which is not counted as time.
        """
        self.update(t)
        old = self.bias
        if self.closed and bias != old:
            count = math.ceil(abs(bias - old) / _FINE_BIAS)
            steps = np.linspace(old, bias, count + 1)
            here = np.array([t])
            where = self.under(here)
            ground = float(self._ground(where, here)[0])
            times = np.abs(steps - old) / _LINE_RATE
            heights = _follow(self._z, ground + self._gap(where, steps), times, self.feedback_lag)
            gap = heights - ground
            self.truth.observe(gap, currents(self.sample, where, steps, gap))
            self._z = float(heights[-1])
            self.apex.feel(gap, where[-1])
            if bias * old < 0:
                self._blind_since = t
        self.output = Course.through((t, bias))

    def set_setpoint(self, t: float, setpoint: float) -> None:
        """Change the current setpoint (A)."""
        self.update(t)
        self.setpoint = setpoint

    def set_gain(self, t: float, p_gain: float, time_constant: float) -> None:
        """Change the gain (m) and time constant (s) of the loop."""
        self.update(t)
        self.p_gain, self.time_constant = p_gain, time_constant

    def set_feedback(self, t: float, on: bool) -> float:
        """Switch the feedback; returns when it takes effect (s)."""
        self.update(t)
        self.cancel("switch-off")
        if on or not self.feedback or self.switch_off_delay <= 0:
            self._switch(on)
            return t
        effective = t + self.switch_off_delay
        self.schedule(effective, "switch-off", lambda: self._switch(False))
        return effective

    def _switch(self, on: bool) -> None:
        if self.closed and not on:
            self.lift = Course.through((self._t, self._z))
            self.feedback = False
            self.shift_z(self.tip_lift)
        self.feedback = on

    def hold(self) -> None:
        """Open the loop for an operation; the height stays."""
        if self.closed:
            self.lift = Course.through((self._t, self._z))
        self.held = True

    def release(self) -> None:
        """Close the loop again, if the feedback is on."""
        self.held = False

    def shift_z(self, change: float) -> None:
        """Put the tip up by `change` (m) at once, with the loop open."""
        self._z += change
        self.lift = Course.through((self._t, self._z))

    def drive_z(self, t: float, target: float, rate: float, away: bool = False) -> float:
        """Drive the tip to height `target` (m) at `rate` (m/s), feedback off; returns when.

        `away` says that it is taken away from the sample for good.
        """
        self.update(t)
        self._leaving = away
        self.cancel("switch-off")
        self.feedback = self.held = False
        arrival = t + abs(target - self._z) / rate
        self.lift = Course.through((t, self._z), (arrival, target))
        return arrival
