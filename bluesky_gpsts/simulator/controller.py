"""The simulated controller: its settings, and what each command does to the microscope.

One lock guards the world. A command that takes time returns a `Busy`, and the connection that sent
it waits without the lock, so that the other connections go on.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_gpsts.simulator import scan, spectroscopy
from bluesky_gpsts.simulator.clock import Clock
from bluesky_gpsts.simulator.microscope import Microscope, stream
from bluesky_gpsts.simulator.sample import Sample
from bluesky_gpsts.simulator.scan import Image, ScanSettings
from bluesky_gpsts.simulator.signals import (
    BIAS,
    CURRENT,
    LOCKIN_X,
    LOCKIN_Y,
    SIGNALS,
    X,
    Y,
    Z,
)
from bluesky_gpsts.simulator.spectroscopy import Lockin, Sweep, SweepSettings

__all__ = ["Busy", "Controller", "Refused"]


class Refused(Exception):
    """The controller refuses a command; the text goes to the client."""


@dataclass(frozen=True)
class Busy:
    """The reply comes at simulated time `until` (s), or when the operation is stopped.

    `result` makes the reply's values; it gets whether the time was reached.
    """

    until: float
    cancelled: threading.Event
    result: Callable[[bool], tuple[Any, ...]]


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
    """Settings of the tip shaper, in the order of its commands."""

    values: tuple[float, ...] = (0.05, 1, 1.0, -1e-9, 0.1, 0.1, 0.1, 1e-9, 0.1, 0.1, 1)


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
    """

    max_bias = 10.0

    def __init__(self, sample: Sample, seed: int, clock: Clock, release: int) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.release = release
        self.tip = Microscope(sample, seed, sample.drift(seed))
        conditions = sample.conditions
        self.scan = ScanSettings(conditions.frame)
        start, end = conditions.bias_range
        self.sweep = SweepSettings(start, end)
        self.lockin = Lockin()
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
        self.sweeps = 0
        self.readings = 0
        self.scan_cancelled = threading.Event()
        self.scan_paused_at: float | None = None
        self.sweep_cancelled = threading.Event()
        self.sweep_end = -math.inf
        self.move_cancelled = threading.Event()
        self.shaper_end = -math.inf
        self.closing = threading.Event()

    # ------------------------------------------------------------ shared actions

    @property
    def now(self) -> float:
        """Simulated time (s); the tip is brought up to it."""
        t = self.clock.now()
        self.tip.update(t)
        self._watch(t)
        return t

    def _watch(self, t: float) -> None:
        """The safe-tip module withdraws when the current passes its threshold."""
        over = self.safe_tip.on and abs(self.tip.current(t)) > self.safe_tip.threshold
        if over and not self.safe_tip.tripped:
            self.trip_safe_tip()

    def trip_safe_tip(self) -> None:
        """Carry out a safe-tip event: withdraw at once and say so in the status."""
        t = self.clock.now()
        self.safe_tip.tripped = True
        if self.safe_tip.auto_pause:
            self.stop_scan(t)
        self.tip.ramp_z(t, self.tip.z_limits[0], 100 * self.tip.withdraw_rate)

    def reading(self, t: float, channel: int) -> float:
        """Value of a signal now, with the noise of one acquisition period."""
        if channel == CURRENT:
            self.readings += 1
            rng = stream(self.tip.seed, "reading", self.readings)
            true = np.array([self.tip.current(t)])
            return float(self.tip.preamplifier.measure(true, self.acquisition_period, rng)[0][0])
        position = self.tip.commanded(np.array([t]))[0]
        values = {BIAS: self.tip.bias, X: position[0], Y: position[1], Z: self.tip.z}
        return float(values.get(channel, 0.0))

    def require_in_range(self, x: float, y: float) -> None:
        """Refuse a position outside the piezo's range."""
        half_x, half_y = self.tip.range_xyz[0] / 2, self.tip.range_xyz[1] / 2
        if not (abs(x) <= half_x and abs(y) <= half_y):
            raise Refused(f"position ({x:g}, {y:g}) m is outside the piezo range")

    # ------------------------------------------------------------ scanning

    def scanning(self, t: float) -> bool:
        """Whether an image is being taken."""
        return self.image is not None and t < self.image.end and self.scan_paused_at is None

    def start_scan(self, t: float, upwards: bool) -> None:
        """Start an image from the frame's edge."""
        self.stop_scan(t)
        self.images += 1
        self.scan_cancelled = threading.Event()
        self.image = scan.acquire(self.tip, self.scan, t, upwards, self.images)
        self.clock.skip_to(self.image.end)
        self._leave_tip(self.image.end, self.image, len(self.image.positions) - 1)

    def _leave_tip(self, t: float, image: Image, index: int) -> None:
        x, y = image.positions[index]
        self.tip.place(t, (float(x), float(y)))

    def stop_scan(self, t: float) -> None:
        """Stop the image: lines not complete stay unscanned, the tip stays where it is."""
        # A paused image has stood still since; its time is that of the pause.
        seen = t if self.scan_paused_at is None else self.scan_paused_at
        if self.image is not None and seen < self.image.end:
            first = float(np.min(self.image.line_ends))
            last = float(np.max(self.image.line_ends))
            total = len(self.image.positions)
            share = 0.0 if last <= first else (seen - first) / (last - first)
            index = int(np.clip(share * total, 0, total - 1))
            ends = np.where(self.image.line_ends <= seen, self.image.line_ends, np.inf)
            self.image = replace(self.image, line_ends=ends, end=seen)
            self._leave_tip(t, self.image, index)
            self.tip.interrupt(t)
        self.scan_paused_at = None
        self.scan_cancelled.set()

    # ------------------------------------------------------------ spectroscopy

    def sweeping(self, t: float) -> bool:
        """Whether a bias sweep is running."""
        return t < self.sweep_end

    def start_sweep(self, t: float) -> Sweep:
        """Start bias spectroscopy; the data are valid once its end is reached."""
        if self.sweeping(t):
            raise Refused("a measurement is already running")
        if self.scanning(t):
            raise Refused("a scan is running")
        self.sweeps += 1
        self.sweep_cancelled = threading.Event()
        result = spectroscopy.acquire(self.tip, self.sweep, self.lockin, t, self.sweeps)
        self.sweep_end = result.end
        self.clock.skip_to(result.end)
        return result

    def stop_sweep(self, t: float) -> None:
        """Break the sweep off; the controller goes back to its bias and feedback."""
        if self.sweeping(t):
            self.tip.interrupt(t)
        self.sweep_end = -math.inf
        self.sweep_cancelled.set()

    def stop_move(self, t: float) -> None:
        """Stop a move of the tip."""
        self.tip.stop_move(t)
        self.move_cancelled.set()

    def close(self) -> None:
        """Release every connection that waits."""
        self.closing.set()
        for event in (self.scan_cancelled, self.sweep_cancelled, self.move_cancelled):
            event.set()

    channels_known = frozenset({CURRENT, BIAS, X, Y, Z, LOCKIN_X, LOCKIN_Y})

    @staticmethod
    def require_signal(index: int) -> None:
        """Refuse an index that is no signal."""
        if not 0 <= index < len(SIGNALS):
            raise Refused(f"signal index {index} is out of range")
