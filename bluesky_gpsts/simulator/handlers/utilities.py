"""Signals and utilities."""

from typing import Any

from bluesky_gpsts.simulator.controller import Controller
from bluesky_gpsts.simulator.handlers.registry import handles, require
from bluesky_gpsts.simulator.signals import BIAS, CURRENT, MEASURED, SIGNALS, X, Y, Z


@handles("Signals.NamesGet")
def signal_names(c: Controller) -> tuple[Any, ...]:
    return (list(SIGNALS),)


@handles("Signals.MeasNamesGet")
def measured_names(c: Controller) -> tuple[Any, ...]:
    return ([SIGNALS[index] for index in sorted(MEASURED)],)


@handles("Signals.ValGet")
def signal_value(c: Controller, index: int, wait: int) -> tuple[Any, ...]:
    c.require_signal(index)
    return tuple(c.readings(c.bring_up(), index))


@handles("Signals.ValsGet")
def signal_values(c: Controller, indices: Any, wait: int) -> tuple[Any, ...]:
    for index in indices:
        c.require_signal(int(index))
    return (c.readings(c.bring_up(), *map(int, indices)),)


@handles("Signals.RangeGet")
def signal_range(c: Controller, index: int) -> tuple[Any, ...]:
    c.require_signal(index)
    x, y, z = (full / 2 for full in c.tip.range_xyz)
    ranges = {CURRENT: c.tip.preamplifier.limit, BIAS: c.max_bias, X: x, Y: y, Z: z}
    limit = ranges.get(index, 10.0)
    return (limit, -limit)


@handles("Signals.CalibrGet")
def signal_calibration(c: Controller, index: int) -> tuple[Any, ...]:
    c.require_signal(index)
    return (1e-9 if index == CURRENT else 1.0, 0.0)


@handles("Util.VersionGet")
def version(c: Controller) -> tuple[Any, ...]:
    return ("Nanonis SPM Control System", "Generic 5e", c.release, c.release)


@handles("Util.SessionPathGet")
def session_path_get(c: Controller) -> tuple[Any, ...]:
    return (c.session_path,)


@handles("Util.SessionPathSet")
def session_path_set(c: Controller, path: str, save: int) -> tuple[Any, ...]:
    c.session_path = path
    return ()


@handles("Util.RTFreqGet")
def rt_frequency_get(c: Controller) -> tuple[Any, ...]:
    return (c.rt_frequency,)


@handles("Util.AcqPeriodGet")
def period_get(c: Controller) -> tuple[Any, ...]:
    return (c.acquisition_period,)


@handles("Util.AcqPeriodSet")
def period_set(c: Controller, period: float) -> tuple[Any, ...]:
    require("an acquisition period", period, "s", 1e-6, 1e3)
    c.acquisition_period = period
    return ()


@handles("Util.RTOversamplGet")
def oversampling_get(c: Controller) -> tuple[Any, ...]:
    return (c.oversampling,)


@handles("Util.RTOversamplSet")
def oversampling_set(c: Controller, count: int) -> tuple[Any, ...]:
    c.oversampling = max(1, count)
    return ()


@handles("Util.Lock", "Util.UnLock")
def lock(c: Controller) -> tuple[Any, ...]:
    return ()
