"""Follow-me moves, piezo and scan."""

import math
from typing import Any

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator.controller import LONGEST, Busy, Controller, Refused
from bluesky_gpsts.simulator.handlers.registry import (
    Answer,
    busy,
    choice,
    handles,
    require,
    switch,
)
from bluesky_gpsts.simulator.signals import SIGNALS


@handles("FolMe.XYPosSet")
def xy_set(c: Controller, x: float, y: float, wait: int) -> Answer:
    t = c.bring_up()
    c.require_in_range(x, y)
    arrival = c.move(t, (x, y), c.move_speed if c.custom_speed else c.scan_speed())
    return busy(c, wait, arrival, c.move_cancelled)


@handles("FolMe.XYPosGet")
def xy_get(c: Controller, wait: int) -> tuple[Any, ...]:
    c.bring_up()
    return tuple(c.tip.position)


@handles("FolMe.SpeedSet")
def xy_speed_set(c: Controller, speed: float, custom: int) -> tuple[Any, ...]:
    require("a tip speed", speed, "m/s", 1e-15, 1e-3)
    c.move_speed, c.custom_speed = speed, bool(custom)
    return ()


@handles("FolMe.SpeedGet")
def xy_speed_get(c: Controller) -> tuple[Any, ...]:
    return (c.move_speed, int(c.custom_speed))


@handles("FolMe.Stop")
def xy_stop(c: Controller) -> tuple[Any, ...]:
    c.stop_move(c.bring_up())
    return ()


@handles("Piezo.RangeGet")
def piezo_range(c: Controller) -> tuple[Any, ...]:
    return c.tip.range_xyz


@handles("Piezo.SensGet", "Piezo.CalibrGet")
def piezo_sensitivity(c: Controller) -> tuple[Any, ...]:
    return (4e-9, 4e-9, 1e-9)


@handles("Piezo.TiltGet")
def piezo_tilt_get(c: Controller) -> tuple[Any, ...]:
    return c.tilt


@handles("Piezo.TiltSet")
def piezo_tilt_set(c: Controller, x: float, y: float) -> tuple[Any, ...]:
    if max(abs(x), abs(y)) > 15:
        raise Refused(f"a tilt of ({x:g}, {y:g}) degrees is out of range")
    c.tilt = (x, y)
    return ()


@handles("Piezo.DriftCompSet")
def drift_set(
    c: Controller, on: int, vx: float, vy: float, vz: float, limit: float = -1.0
) -> tuple[Any, ...]:
    for velocity in (vx, vy, vz):
        require("a drift velocity", velocity, "m/s", -1e-7, 1e-7)
    t = c.bring_up()
    c.compensation_on = bool(on) if c.release < 13742 else switch(on, c.compensation_on)
    c.compensation_velocity = (vx, vy, vz)
    c.compensation_limit = limit if limit >= 0 else c.compensation_limit
    c.tip.compensate(t, (vx, vy, vz) if c.compensation_on else (0.0, 0.0, 0.0))
    return ()


@handles("Piezo.DriftCompGet")
def drift_get(c: Controller) -> tuple[Any, ...]:
    state = (int(c.compensation_on), *c.compensation_velocity, 0, 0, 0)
    return state if c.release < 13742 else (*state, c.compensation_limit)


@handles("Piezo.XYZLimitsGet")
def piezo_limits_get(c: Controller) -> tuple[Any, ...]:
    return (0, -125.0, 125.0, -125.0, 125.0, -200.0, 200.0)


@handles("Scan.Action")
def scan_action(c: Controller, action: int, direction: int) -> tuple[Any, ...]:
    t = c.bring_up()
    if action == 0:
        c.start_scan(t, upwards=direction == 1)
    elif action == 1:
        c.stop_scan(t)
    elif action == 2:
        c.pause_scan(t)
    elif action == 3:
        c.require_idle(t)
        c.resume_scan(t)
    elif action == 6:
        c.clock.skip_to(c.move(t, (c.scan.frame.x, c.scan.frame.y), c.move_speed))
    elif action not in (4, 5):
        raise Refused(f"action {action} is not known")
    return ()


@handles("Scan.StatusGet")
def scan_status(c: Controller) -> tuple[Any, ...]:
    return (int(c.scanning(c.bring_up())),)


@handles("Scan.WaitEndOfScan")
def scan_wait(c: Controller, timeout: int) -> Answer:
    return _scan_over(c, math.inf if timeout < 0 else c.bring_up() + timeout / 1000)


def _scan_over(c: Controller, deadline: float) -> Answer:
    t = c.bring_up()
    if c.image is None or not c.scanning(t):
        return (0, "")
    if t >= deadline:
        return (1, "")
    until = min(c.image.end, deadline)
    return Busy(until, c.scan_cancelled, lambda: _scan_over(c, deadline))


@handles("Scan.FrameSet")
def frame_set(
    c: Controller, x: float, y: float, width: float, height: float, angle: float
) -> tuple[Any, ...]:
    if not (width > 0 and height > 0):
        raise Refused(f"a frame of {width:g} x {height:g} m has no area")
    for size, full in zip((width, height), c.tip.range_xyz, strict=False):
        require("a frame", size, "m", 1e-15, full)
    c.require_in_range(x, y)
    try:
        c.scan.frame = Frame(x, y, width, height, angle)
    except ValueError as error:
        raise Refused(str(error)) from error
    return ()


@handles("Scan.FrameGet")
def frame_get(c: Controller) -> tuple[Any, ...]:
    f = c.scan.frame
    return (f.x, f.y, f.width, f.height, f.angle)


@handles("Scan.BufferSet")
def buffer_set(c: Controller, channels: Any, pixels: int, lines: int) -> tuple[Any, ...]:
    for channel in channels:
        c.require_signal(int(channel))
    if max(pixels, lines) > 8192:
        raise Refused(f"{pixels} x {lines} pixels are out of range")
    if len(channels):
        c.scan.channels = tuple(int(channel) for channel in channels)
    if pixels > 0:
        c.scan.pixels = max(16, 16 * round(pixels / 16))
    if lines > 0:
        c.scan.lines = lines
    return ()


@handles("Scan.BufferGet")
def buffer_get(c: Controller) -> tuple[Any, ...]:
    return (c.scan.channels, c.scan.pixels, c.scan.lines)


@handles("Scan.SpeedSet")
def speed_set(
    c: Controller,
    forward: float,
    backward: float,
    forward_time: float,
    backward_time: float,
    keep: int,
    ratio: float,
) -> tuple[Any, ...]:
    width = c.scan.frame.width
    if keep == 1:
        forward_time = width / forward if forward > 0 else 0.0
        backward_time = width / backward if backward > 0 else 0.0
    old = c.scan.line_times
    times = (
        forward_time if forward_time > 0 else old[0],
        backward_time if backward_time > 0 else old[1],
    )
    for seconds in times:
        require("a line time", seconds, "s", 1e-4, LONGEST)
    c.scan.keep_constant = keep or c.scan.keep_constant
    c.scan.line_times = times
    return ()


@handles("Scan.SpeedGet")
def speed_get(c: Controller) -> tuple[Any, ...]:
    forward, backward = c.scan.line_times
    width = c.scan.frame.width
    keep = c.scan.keep_constant
    return (width / forward, width / backward, forward, backward, keep, forward / backward)


@handles("Scan.PropsSet")
def scan_props_set(
    c: Controller,
    continuous: int,
    bouncy: int,
    autosave: int,
    series: str,
    comment: str,
    modules: Any = (),
    autopaste: int = 0,
) -> tuple[Any, ...]:
    c.scan.continuous = switch(continuous, c.scan.continuous)
    c.scan.bouncy = switch(bouncy, c.scan.bouncy)
    c.scan.autosave = choice(autosave, c.scan.autosave)
    c.scan.autopaste = choice(autopaste, c.scan.autopaste)
    c.scan.series, c.scan.comment = series, comment
    return ()


@handles("Scan.PropsGet")
def scan_props_get(c: Controller) -> tuple[Any, ...]:
    s = c.scan
    common = (int(s.continuous), int(s.bouncy), s.autosave, s.series, s.comment)
    if c.release < 14573:
        return common
    return (*common, ["Z-Controller"], [1], [["Setpoint"]], s.autopaste)


@handles("Scan.FrameDataGrab")
def frame_data_grab(c: Controller, channel: int, forward: int) -> tuple[Any, ...]:
    c.bring_up()
    c.require_signal(channel)
    if c.image is None:
        raise Refused("no scan data yet")
    if channel not in c.image.channels:
        raise Refused(f"signal {SIGNALS[channel]} is not in the scan buffer")
    plane = c.image.grab(c.tip, channel, bool(forward))
    return (SIGNALS[channel], plane, int(c.image.upwards))


@handles("Scan.XYPosGet")
def scan_xy_get(c: Controller, wait: int) -> tuple[Any, ...]:
    c.bring_up()
    return tuple(c.tip.position)


@handles("Scan.Save")
def scan_save(c: Controller, wait: int, timeout: int) -> tuple[Any, ...]:
    return (0,)
