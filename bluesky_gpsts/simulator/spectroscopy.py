"""Bias spectroscopy: the sequence that the controller carries out at one point."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.simulator.course import Course
from bluesky_gpsts.simulator.microscope import Microscope
from bluesky_gpsts.simulator.record import Record, measured, stream
from bluesky_gpsts.simulator.signals import CURRENT, LOCKIN_X, LOCKIN_Y, SIGNALS

__all__ = ["OWNER", "Sweep", "SweepSettings", "start_sweep", "stop_sweep"]

Array = NDArray[np.float64]

OWNER = "sweep"
"""Owner of a sweep's entries in the microscope's agenda."""


@dataclass
class SweepSettings:
    """What the bias spectroscopy module holds, in the units of its commands."""

    start: float
    end: float
    points: int = 256
    sweeps: int = 1
    backward: bool = False
    save_all: bool = False
    autosave: bool = False
    channels: tuple[int, ...] = (CURRENT, LOCKIN_X, LOCKIN_Y)
    z_averaging: float = 0.05
    z_offset: float = 0.0
    initial_settling: float = 0.05
    slew: float = 10.0
    settling: float = 2e-3
    integration: float = 5e-3
    end_settling: float = 0.05
    z_control: float = 0.1
    reset_bias: bool = True
    hold: bool = True
    revert_offset: bool = True
    record_final_z: bool = False
    run_lockin: bool = False

    @property
    def passes(self) -> tuple[bool, ...]:
        """For each pass over the bias axis, whether it goes backward."""
        return ((False, True) if self.backward else (False,)) * self.sweeps

    def duration(self, bias: float) -> float:
        """Seconds of the whole sequence, from and to a `bias` (V), but for ramps between passes."""
        ramps = (abs(bias - self.start) + abs(self.end - bias)) / self.slew
        fixed = self.z_averaging + self.initial_settling + self.end_settling + self.z_control
        return fixed + ramps + len(self.passes) * self.points * (self.settling + self.integration)


@dataclass
class Sweep:
    """A sweep under way, or done.

    Attributes
    ----------
    settings : SweepSettings
        Settings it was started with.
    record : Record
        Its points in the order of time, pass after pass.
    bias : float
        Bias (V) that it started at.
    end : float
        When the loop has closed again and settled (s).
    place : (float, float, float)
        Piezo position and height (m) at which the loop was opened.
    number : int
        How many sweeps the microscope had made when this one was started.
    """

    settings: SweepSettings
    record: Record
    bias: float
    end: float
    number: int
    place: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))

    @property
    def axis(self) -> Array:
        """Bias axis (n,) in V."""
        return np.linspace(self.settings.start, self.settings.end, self.settings.points)

    def parameters(self) -> tuple[float, ...]:
        """Values of the fixed parameters, and of those the module lists."""
        s = self.settings
        limits, times = (s.start, s.end), (s.settling, s.integration)
        return (*limits, *self.place, s.z_offset, *times, float(s.hold))

    def table(self, microscope: Microscope) -> tuple[list[str], Array]:
        """Names of the columns, and the columns (k, n) as far as the sweep has come.

        Passes that are complete are averaged. A sweep that was stopped in its first pass gives
        the points of it; other columns it has not come to are NaN.
        """
        s = self.settings
        rng = stream(microscope.seed, "sweep", self.number)
        electronics = microscope.preamplifier, microscope.lockin
        values = measured(self.record.rows, *electronics, s.integration, rng)
        names, columns = ["Bias calc (V)"], [self.axis]
        for channel in s.channels:
            series = values.get(channel, np.zeros(len(self.record.times)))
            passes = series.reshape(len(s.passes), s.points)
            for backward in dict.fromkeys(s.passes):
                name = SIGNALS[channel]
                chosen = passes[[back is backward for back in s.passes]]
                if backward:
                    name = name.replace(" (", " [bwd] (", 1) if " (" in name else f"{name} [bwd]"
                    chosen = chosen[:, ::-1]
                done = chosen[np.isfinite(chosen).all(axis=1)]
                names.append(name)
                columns.append(np.mean(done, axis=0) if len(done) else chosen[0])
                if s.save_all and s.sweeps > 1:
                    for number, repeat in enumerate(chosen, 1):
                        names.append(name.replace(" (", f" [{number:05d}] (", 1))
                        columns.append(repeat)
        return names, np.array(columns)[:, : self.record.taken]


def start_sweep(
    microscope: Microscope, settings: SweepSettings, begin: float, number: int
) -> Sweep:
    """Start the sequence at time `begin` (s): average Z, hold, ramp, sweep, restore.

    The steps of the bias are drawn as one line, so that it is that of a point at the point's end.
    """
    s, old = replace(settings), microscope.bias
    averaged = begin + s.z_averaging
    knots = [(begin, old), (averaged, old)]
    present, t = old, averaged
    times: list[Array] = []
    for backward in s.passes:
        first, last = (s.end, s.start) if backward else (s.start, s.end)
        t += abs(first - present) / s.slew
        knots.append((t, first))
        t += s.initial_settling if not times else 0.0
        ticks = np.asarray(t + (np.arange(s.points) + 1) * (s.settling + s.integration), float)
        knots += [(t, first), (float(ticks[0]), first), (float(ticks[-1]), last)]
        present, t = last, float(ticks[-1])
        times.append(ticks)
    t += s.end_settling
    knots.append((t, present))
    if s.reset_bias:
        t += abs(present - old) / s.slew
        knots.append((t, old))
    record = Record(
        np.concatenate(times),
        harmonic=bool({LOCKIN_X, LOCKIN_Y} & {*s.channels}),
        running=s.run_lockin,
    )
    sweep = Sweep(s, record, old, t + s.z_control, number)

    def hold() -> None:
        # Z was averaged before, so that the loop's own noise does not stay in the gap.
        x, y = microscope.position
        if s.hold:
            microscope.hold()
            microscope.shift_z(s.z_offset)
        sweep.place = (float(x), float(y), microscope.z)

    microscope.output, microscope.record = Course.through(*knots), record
    microscope.schedule(averaged, OWNER, hold)
    microscope.schedule(t, OWNER, lambda: _release(microscope, s))
    microscope.schedule(sweep.end, OWNER)
    return sweep


def _release(microscope: Microscope, settings: SweepSettings) -> None:
    if microscope.held:
        if settings.revert_offset:
            microscope.shift_z(-settings.z_offset)
        microscope.release()


def stop_sweep(microscope: Microscope, sweep: Sweep, t: float) -> None:
    """Break a sweep off: the bias goes back to where it was, and then the loop closes."""
    microscope.cancel(OWNER)
    if microscope.record is sweep.record:
        microscope.record = None
    microscope.set_bias(t, sweep.bias)
    _release(microscope, sweep.settings)
