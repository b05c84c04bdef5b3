"""What the simulated controller answers to bias spectroscopy and lock-in commands."""

from typing import Any

from bluesky_gpsts.physics.tunnelling import MAX_MODULATION
from bluesky_gpsts.simulator.controller import LONGEST, Busy, Controller, Refused
from bluesky_gpsts.simulator.handlers.registry import (
    HANDLERS,
    Answer,
    choice,
    handles,
    require,
    switch,
)
from bluesky_gpsts.simulator.signals import SIGNALS

_FIXED = ("Sweep Start", "Sweep End")
_PARAMETERS = (
    "X (m)",
    "Y (m)",
    "Z (m)",
    "Z offset (m)",
    "Settling time (s)",
    "Integration time (s)",
    "Z-Ctrl hold",
)


@handles("BiasSpectr.Open")
def spectroscopy_open(c: Controller) -> tuple[Any, ...]:
    return ()


@handles("BiasSpectr.Start")
def spectroscopy_start(c: Controller, get_data: int, name: str) -> Answer:
    sweep = c.start_sweep(c.bring_up())
    if not get_data:
        return ([], [], [])

    def result() -> tuple[Any, ...]:
        c.bring_up()
        return (*sweep.table(c.tip), sweep.parameters())

    return Busy(sweep.end, c.sweep_cancelled, result)


@handles("BiasSpectr.Stop")
def spectroscopy_stop(c: Controller) -> tuple[Any, ...]:
    c.stop_sweep(c.bring_up())
    return ()


@handles("BiasSpectr.StatusGet")
def spectroscopy_status(c: Controller) -> tuple[Any, ...]:
    return (int(c.sweeping(c.bring_up())),)


@handles("BiasSpectr.ChsSet")
def channels_set(c: Controller, channels: Any) -> tuple[Any, ...]:
    for channel in channels:
        c.require_signal(int(channel))
    c.sweep.channels = tuple(int(channel) for channel in channels)
    return ()


@handles("BiasSpectr.ChsGet")
def channels_get(c: Controller) -> tuple[Any, ...]:
    channels = c.sweep.channels
    if c.release < 13742:
        return (channels,)
    return (channels, [SIGNALS[channel] for channel in channels])


def require_offset(c: Controller, z_offset: float) -> None:
    """Refuse an offset that the piezo does not reach."""
    full = c.tip.range_xyz[2]
    require("a Z offset", z_offset, "m", -full, full)


@handles("BiasSpectr.PropsSet")
def props_set(
    c: Controller,
    save_all: int,
    sweeps: int,
    backward: int,
    points: int,
    z_offset: float,
    autosave: int,
    dialog: int,
) -> tuple[Any, ...]:
    s = c.sweep
    require_offset(c, z_offset)
    if points < 0 or points == 1 or points > 65536:
        raise Refused(f"{points} points are out of range")
    if not 0 <= sweeps <= 1000:
        raise Refused(f"{sweeps} sweeps are out of range")
    s.save_all, s.backward = switch(save_all, s.save_all), switch(backward, s.backward)
    s.autosave = switch(autosave, s.autosave)
    s.sweeps, s.points = sweeps or s.sweeps, points or s.points
    s.z_offset = z_offset
    return ()


@handles("BiasSpectr.PropsGet")
def props_get(c: Controller) -> tuple[Any, ...]:
    s = c.sweep
    common = (int(s.save_all), s.sweeps, int(s.backward), s.points)
    if c.release < 13742:
        return (*common, [SIGNALS[i] for i in s.channels], list(_PARAMETERS), list(_FIXED))
    return (*common, list(_PARAMETERS), list(_FIXED), int(s.autosave), 0)


@handles("BiasSpectr.AdvPropsSet")
def advanced_set(c: Controller, reset: int, hold: int, final: int, lockin: int) -> tuple[Any, ...]:
    s = c.sweep
    s.reset_bias, s.hold = switch(reset, s.reset_bias), switch(hold, s.hold)
    s.record_final_z = switch(final, s.record_final_z)
    s.run_lockin = switch(lockin, s.run_lockin)
    return ()


@handles("BiasSpectr.AdvPropsGet")
def advanced_get(c: Controller) -> tuple[Any, ...]:
    s = c.sweep
    return (int(s.reset_bias), int(s.hold), int(s.record_final_z), int(s.run_lockin))


@handles("BiasSpectr.LimitsSet")
def limits_set(c: Controller, start: float, end: float) -> tuple[Any, ...]:
    low, high = c.tip.sample.bias_limits
    margin = 1e-6
    if not (low - margin <= min(start, end) and max(start, end) <= high + margin):
        raise Refused(f"a sweep from {start:g} to {end:g} V is outside {low:g} to {high:g} V")
    c.sweep.start, c.sweep.end = start, end
    return ()


@handles("BiasSpectr.LimitsGet")
def limits_get(c: Controller) -> tuple[Any, ...]:
    return (c.sweep.start, c.sweep.end)


@handles("BiasSpectr.TimingSet")
def timing_set(
    c: Controller,
    z_averaging: float,
    z_offset: float,
    initial: float,
    slew: float,
    settling: float,
    integration: float,
    end: float,
    z_control: float,
) -> tuple[Any, ...]:
    times = (z_averaging, initial, settling, integration, end, z_control)
    for seconds in times:
        require("a time", seconds, "s", 0.0, LONGEST)
    require("an integration time", integration, "s", 1e-7, LONGEST)
    require("a slew rate", slew, "V/s", 1e-6, 1e9)
    require_offset(c, z_offset)
    s = c.sweep
    s.z_averaging, s.initial_settling, s.settling, s.integration, s.end_settling, s.z_control = (
        times
    )
    s.z_offset, s.slew = z_offset, slew
    return ()


@handles("BiasSpectr.TimingGet")
def timing_get(c: Controller) -> tuple[Any, ...]:
    s = c.sweep
    return (
        s.z_averaging,
        s.z_offset,
        s.initial_settling,
        s.slew,
        s.settling,
        s.integration,
        s.end_settling,
        s.z_control,
    )


def _option(name: str, default: tuple[Any, ...]) -> None:
    """Settings that the simulated sweep keeps and gives back, without an effect on its physics."""

    def setter(c: Controller, *values: Any) -> tuple[Any, ...]:
        c.sweep_options[name] = values
        return ()

    def getter(c: Controller) -> tuple[Any, ...]:
        return c.sweep_options.get(name, default)

    HANDLERS[f"BiasSpectr.{name}Set"], HANDLERS[f"BiasSpectr.{name}Get"] = setter, getter


_option("DigSync", (0,))
_option("PulseSeqSync", (0, 0))


@handles("BiasSpectr.AltZCtrlSet")
def alternate_set(c: Controller, on: int, setpoint: float, settling: float) -> tuple[Any, ...]:
    if on == 1:
        raise Refused("the alternate Z-Controller setpoint is not available")
    c.sweep_options["AltZCtrl"] = (0, setpoint, settling)
    return ()


@handles("BiasSpectr.AltZCtrlGet")
def alternate_get(c: Controller) -> tuple[Any, ...]:
    return c.sweep_options.get("AltZCtrl", (0, 0.0, 0.0))


@handles("BiasSpectr.ZOffRevertSet")
def revert_set(c: Controller, on: int) -> tuple[Any, ...]:
    c.sweep.revert_offset = switch(on, c.sweep.revert_offset)
    return ()


@handles("BiasSpectr.ZOffRevertGet")
def revert_get(c: Controller) -> tuple[Any, ...]:
    return (int(c.sweep.revert_offset),)


@handles("BiasSpectr.MLSModeSet")
def segments_set(c: Controller, mode: str) -> tuple[Any, ...]:
    if mode.lower() != "linear":
        raise Refused(f"the sweep mode {mode!r} is not available; only Linear is")
    return ()


@handles("BiasSpectr.MLSModeGet")
def segments_get(c: Controller) -> tuple[Any, ...]:
    return ("Linear",)


@handles("BiasSpectr.TTLSyncGet")
def ttl_get(c: Controller) -> tuple[Any, ...]:
    default = (0, 0, 0.0, 0.0) if c.release >= 13742 else (0, 0, 0, 0.0, 0.0)
    return c.sweep_options.get("TTLSync", default)


@handles("BiasSpectr.TTLSyncSet")
def ttl_set(c: Controller, *values: Any) -> tuple[Any, ...]:
    shift = len(values) - 4
    lines = tuple(choice(int(value), 0) for value in values[shift : shift + 2])
    c.sweep_options["TTLSync"] = (*values[:shift], *lines, *values[shift + 2 :])
    return ()


# ---------------------------------------------------------------- lock-in


def _require_first(number: int, what: str) -> None:
    if number != 1:
        raise Refused(f"{what} {number} is not available")


def _modulator(command: str, attribute: str) -> None:
    def setter(c: Controller, number: int, value: Any) -> tuple[Any, ...]:
        _require_first(number, "modulator")
        if attribute == "amplitude":
            require("an amplitude", value, "V", 0.0, MAX_MODULATION)
        if attribute in ("modulated", "demodulated"):
            c.require_signal(value)
        c.bring_up()
        old = getattr(c.lockin, attribute)
        setattr(c.lockin, attribute, type(old)(value))
        return ()

    def getter(c: Controller, number: int) -> tuple[Any, ...]:
        _require_first(number, "modulator")
        return (getattr(c.lockin, attribute),)

    HANDLERS[f"LockIn.{command}Set"], HANDLERS[f"LockIn.{command}Get"] = setter, getter


_modulator("ModAmp", "amplitude")
_modulator("ModPhasFreq", "frequency")
_modulator("ModSignal", "modulated")
_modulator("ModPhas", "phase")
_modulator("ModOnOff", "on")
_modulator("DemodSignal", "demodulated")
_modulator("DemodPhas", "reference_phase")


def _kept(command: str, default: tuple[Any, ...]) -> None:
    """Settings of the lock-in that the simulated one keeps and gives back."""

    def setter(c: Controller, number: int, *values: Any) -> tuple[Any, ...]:
        _require_first(number, "channel")
        c.lockin_options[command, number] = values
        return ()

    def getter(c: Controller, number: int) -> tuple[Any, ...]:
        _require_first(number, "channel")
        return c.lockin_options.get((command, number), default)

    HANDLERS[f"LockIn.{command}Set"], HANDLERS[f"LockIn.{command}Get"] = setter, getter


_kept("ModPhasReg", (1,))
_kept("ModHarmonic", (1,))
_kept("DemodHarmonic", (1,))
_kept("DemodHPFilter", (0, 0.0))
_kept("DemodLPFilter", (4, 100.0))
_kept("DemodPhasReg", (1,))
_kept("DemodSyncFilter", (0,))
_kept("DemodRTSignals", (1,))
