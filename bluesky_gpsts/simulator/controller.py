"""The simulated controller: its settings, and what its operations do to the microscope.

One lock guards the world. A command that takes time returns a `Busy`, and the connection that sent
it waits without the lock, so that the other connections go on.

What a command may do while an operation is under way:

* Bias, setpoint, gains and feedback act on a scan from the moment they are set.
* A sweep owns the bias, the tip's position and the loop: commands for these are refused, but for
  the setpoint, and for switching the feedback off, which then stays off after the sweep.
* Withdraw, Home and a safe-tip event act at once, and end scan, sweep and tip shaping.
* Frame, buffer, speed and the sweep's own settings concern the next scan or sweep.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_gpsts.simulator.clock import Clock
from bluesky_gpsts.simulator.course import Course
from bluesky_gpsts.simulator.microscope import Microscope
from bluesky_gpsts.simulator.record import measured, stream
from bluesky_gpsts.simulator.sample import Sample
from bluesky_gpsts.simulator.scan import Image, ScanSettings, start_image
from bluesky_gpsts.simulator.signals import SIGNALS, TIME
from bluesky_gpsts.simulator.spectroscopy import (
    OWNER,
    Sweep,
    SweepSettings,
    start_sweep,
    stop_sweep,
)

__all__ = ["COMMAND_TIME", "LONGEST", "Busy", "Controller", "Refused"]

COMMAND_TIME = 20e-3
"""Simulated time (s) that a command which changes something takes where time is not real.

A client of a real controller sees the effect of a command an acquisition period later; the
feedback has followed it by then.
"""

LONGEST = 1e6
"""Longest operation (s)."""

_MOST_POINTS = 2_000_000


class Refused(Exception):
    """The controller refuses a command; the text goes to the client."""


@dataclass(frozen=True)
class Busy:
    """The reply comes at simulated time `until` (s), or when the operation is stopped.

    `result` then gives the reply's values, or another `Busy`.
    """

    until: float
    cancelled: threading.Event
    result: "Callable[[], tuple[Any, ...] | Busy]"


@dataclass
class SafeTip:
    """Settings of the safe-tip module; `tripped` is what a test or an event has set."""

    on: bool = False
    auto_recovery: bool = False
    auto_pause: bool = False
    threshold: float = 9e-9
    tripped: bool = False


@dataclass
class TipShaper:
    """Settings of the tip shaper, in the order of its commands, and the bias to go back to."""

    values: tuple[float, ...] = (0.05, 1, 1.0, -1e-9, 0.1, 0.1, 0.1, 1e-9, 0.1, 0.1, 1)
    bias: float = 0.0


class Controller:
    """Everything behind the four ports.

    Parameters
    ----------
    sample : Sample
        What the tip hangs over.
    seed : int
        Seed of all noise and drift.
    clock : Clock
        The microscope's time.
    release : int
        Protocol release that the controller speaks.
    drift : float
        Times the drift that was reported for such a surface.
    """

    max_bias = 10.0

    def __init__(
        self, sample: Sample, seed: int, clock: Clock, release: int, drift: float = 1.0
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.release = release
        self.tip = Microscope(sample, seed, sample.drift(seed).times(drift))
        self.tip.on_overcurrent = self.trip_safe_tip
        self.lockin = self.tip.lockin
        conditions = sample.conditions
        self.scan = ScanSettings(conditions.frame)
        start, end = conditions.bias_range
        self.sweep = SweepSettings(start, end)
        self.safe_tip = SafeTip()
        self.tip_shaper = TipShaper()
        self.gain_index, self.filter_index = 3, 0
        self.tilt = (0.0, 0.0)
        self.move_speed, self.custom_speed = 20e-9, True
        self.home = (1, 50e-9)
        self.z_limits_enabled = True
        self.compensation_on = False
        self.compensation_velocity = (0.0, 0.0, 0.0)
        self.compensation_limit = 10.0
        self.lockin_options: dict[tuple[str, int], tuple[Any, ...]] = {}
        self.sweep_options: dict[str, tuple[Any, ...]] = {}
        self.session_path = "C:\\Nanonis\\session"
        self.acquisition_period, self.oversampling, self.rt_frequency = 20e-3, 10, 20e3
        self.image: Image | None = None
        self.images = 0
        self.paused: Course | None = None
        self.scan_cancelled = threading.Event()
        self.running: Sweep | None = None
        self.sweeps = 0
        self.sweep_cancelled = threading.Event()
        self.move_cancelled = threading.Event()
        self.closing = threading.Event()

    # ------------------------------------------------------------ time and signals

    def bring_up(self) -> float:
        """Bring the tip up to the present; returns the simulated time (s)."""
        t = self.clock.now()
        self.tip.update(t)
        return t

    def readings(self, t: float, *channels: int) -> list[float]:
        """Values of signals now; one acquisition period gives one reading."""
        period = self.acquisition_period
        rng = stream(self.tip.seed, "reading", int(t / period))
        rows = self.tip.snapshot(t)
        values = measured(rows, self.tip.preamplifier, self.tip.lockin, period, rng)
        told = {TIME: t} | {channel: float(rows[0]) for channel, rows in values.items()}
        return [told.get(c, 0.0) for c in channels]

    @staticmethod
    def require_signal(index: int) -> None:
        """Refuse an index that is no signal."""
        if not 0 <= index < len(SIGNALS):
            raise Refused(f"signal index {index} is out of range")

    # ------------------------------------------------------------ refusals

    def require_in_range(self, x: float, y: float) -> None:
        """Refuse a position outside the piezo's range."""
        half_x, half_y = self.tip.range_xyz[0] / 2, self.tip.range_xyz[1] / 2
        if not (abs(x) <= half_x and abs(y) <= half_y):
            raise Refused(f"position ({x:g}, {y:g}) m is outside the piezo range")

    def require_idle(self, t: float, scan: bool = False) -> None:
        """Refuse what an operation under way does not allow; with `scan`, a scan neither."""
        if self.sweeping(t):
            raise Refused("bias spectroscopy is running")
        if self.tip.pending("shaper", "pulse"):
            raise Refused("the tip shaper or a bias pulse is running")
        if scan and self.scanning(t):
            raise Refused("a scan is running")

    @staticmethod
    def require_duration(seconds: float) -> None:
        """Refuse an operation that would not end in this life."""
        if not seconds <= LONGEST:
            raise Refused(f"it would take {seconds:g} s; at most {LONGEST:g} s are possible")

    # ------------------------------------------------------------ safety

    def arm(self) -> None:
        """Let the microscope watch the current as the safe-tip module is set."""
        armed = self.safe_tip.on and not self.safe_tip.tripped
        self.tip.overcurrent = self.safe_tip.threshold if armed else math.inf

    def trip_safe_tip(self, t: float) -> None:
        """Carry out a safe-tip event: withdraw at once and say so in the status."""
        self.safe_tip.tripped = True
        self.arm()
        if self.safe_tip.auto_pause:
            self.pause_scan(t)
        self.take_tip_away(t, self.tip.z_limits[0], 100 * self.tip.withdraw_rate)

    def take_tip_away(self, t: float, z: float, rate: float) -> float:
        """Drive the tip to height `z` (m) at `rate` (m/s), whatever is under way; returns when."""
        if self.scanning(t):
            self.stop_scan(t)
        self.stop_sweep(t)
        if self.tip.pending("shaper"):
            self.tip.cancel("shaper")
            self.tip.set_bias(t, self.tip_shaper.bias)
        return self.tip.drive_z(t, z, rate, away=True)

    # ------------------------------------------------------------ scanning

    def scanning(self, t: float) -> bool:
        """Whether an image is being taken."""
        image = self.image
        return image is not None and self.tip.record is image.record and t < image.end

    def scan_speed(self) -> float:
        """Speed (m/s) of the forward lines."""
        return self.scan.frame.width / self.scan.line_times[0]

    def start_scan(self, t: float, upwards: bool) -> None:
        """Start an image from the frame's edge."""
        self.require_idle(t)
        lines, pixels = self.scan.lines, self.scan.pixels
        self.require_duration(lines * sum(self.scan.line_times))
        if 2 * lines * pixels > 16 * _MOST_POINTS:
            raise Refused(f"{pixels} x {lines} pixels are too many")
        self.stop_scan(t)
        self.images += 1
        self.scan_cancelled = threading.Event()
        self.image = start_image(self.tip, self.scan, t, upwards, self.move_speed, self.images)
        self.clock.skip_to(self.image.end)

    def pause_scan(self, t: float) -> None:
        """Let the tip rest where it is, until the image is resumed."""
        if self.scanning(t):
            self.paused = self.tip.path.tail(t)
            self.tip.halt(t)
            self.tip.record = None

    def resume_scan(self, t: float) -> None:
        """Go back to where the image was paused, and on from there."""
        if self.paused is None or self.image is None:
            return
        here, there = self.tip.position, self.paused.values[0]
        arrival = t + float(np.hypot(*(there - here))) / self.move_speed
        late = arrival - float(self.paused.times[0])
        way = Course.through((t, here), (arrival, there)).then(self.paused.delayed(late))
        self.image.record.delay(late)
        self.tip.follow(t, way, self.image.record, arrival)
        self.paused = None
        self.clock.skip_to(self.image.end)

    def stop_scan(self, t: float) -> None:
        """Stop the image: lines not complete stay unscanned, the tip stays where it is."""
        if self.scanning(t):
            self.tip.halt(t)
            self.tip.record = None
        self.paused = None
        self.scan_cancelled.set()

    # ------------------------------------------------------------ spectroscopy

    def sweeping(self, t: float) -> bool:
        """Whether a bias sweep is running."""
        return self.running is not None and self.tip.pending(OWNER) and t < self.running.end

    def start_sweep(self, t: float) -> Sweep:
        """Start bias spectroscopy."""
        self.require_idle(t, scan=True)
        if self.tip.ramping(t):
            raise Refused("the tip is being driven in Z")
        s = self.sweep
        points = s.points * len(s.passes)
        if points > _MOST_POINTS:
            raise Refused(f"{points} points in all are too many")
        ramps = len(s.passes) * abs(s.end - s.start) / s.slew
        self.require_duration(s.duration(self.tip.bias) + ramps)
        self.sweeps += 1
        self.sweep_cancelled = threading.Event()
        self.tip.halt(t)
        self.running = start_sweep(self.tip, s, t, self.sweeps)
        self.clock.skip_to(self.running.end)
        return self.running

    def stop_sweep(self, t: float) -> None:
        """Break the sweep off; the controller goes back to its bias and feedback."""
        if self.running is not None and self.sweeping(t):
            stop_sweep(self.tip, self.running, t)
        self.sweep_cancelled.set()

    # ------------------------------------------------------------ moves

    def move(self, t: float, target: tuple[float, float], speed: float) -> float:
        """Move the tip at `speed` (m/s); returns the time of arrival (s)."""
        self.require_idle(t, scan=True)
        self.require_duration(float(np.hypot(*(np.asarray(target) - self.tip.position))) / speed)
        self.move_cancelled = threading.Event()
        return self.tip.move(t, target, speed)

    def stop_move(self, t: float) -> None:
        """Stop a move of the tip; a scan goes on."""
        if not self.scanning(t):
            self.tip.halt(t)
        self.move_cancelled.set()

    def close(self) -> None:
        """Release every connection that waits."""
        self.closing.set()
        for event in (self.scan_cancelled, self.sweep_cancelled, self.move_cancelled):
            event.set()
