"""What the simulated controller answers to bias spectroscopy and lock-in commands."""

from typing import Any

from bluesky_gpsts.simulator.controller import Busy, Controller, Refused
from bluesky_gpsts.simulator.handlers.registry import HANDLERS, Answer, choice, handles, switch
from bluesky_gpsts.simulator.signals import SIGNALS
from bluesky_gpsts.simulator.spectroscopy import Sweep

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
    sweep = c.start_sweep(c.now)
    if not get_data:
        return ([], [], [])

    def result(reached: bool) -> tuple[Any, ...]:
        # Stopped: the points taken so far are returned. Bias and loop are left as they are, for
        # whoever stopped the sweep may have withdrawn the tip meanwhile.
        share = 1.0 if reached else (c.clock.now() - sweep.begin) / (sweep.end - sweep.begin)
        return _reply(sweep, share)

    return Busy(sweep.end, c.sweep_cancelled, result)


def _reply(sweep: Sweep, share: float) -> tuple[Any, ...]:
    points = round(sweep.data.shape[1] * min(max(share, 0.0), 1.0))
    return (list(sweep.names), sweep.data[:, :points], list(sweep.parameters))


@handles("BiasSpectr.Stop")
def spectroscopy_stop(c: Controller) -> tuple[Any, ...]:
    c.stop_sweep(c.now)
    return ()


@handles("BiasSpectr.StatusGet")
def spectroscopy_status(c: Controller) -> tuple[Any, ...]:
    return (int(c.sweeping(c.now)),)


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
    if min(times) < 0 or not slew > 0 or not integration > 0:
        raise Refused("times must not be negative, slew rate and integration time positive")
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
_option("MLSLockinPerSeg", (0,))
_option("MLSMode", ("Linear",))


@handles("BiasSpectr.AltZCtrlSet")
def alternate_set(c: Controller, on: int, setpoint: float, settling: float) -> tuple[Any, ...]:
    old = c.sweep_options.get("AltZCtrl", (0, 0.0, 0.0))
    c.sweep_options["AltZCtrl"] = (int(switch(on, bool(old[0]))), setpoint, settling)
    return ()


@handles("BiasSpectr.AltZCtrlGet")
def alternate_get(c: Controller) -> tuple[Any, ...]:
    return c.sweep_options.get("AltZCtrl", (0, 0.0, 0.0))


@handles("BiasSpectr.ZOffRevertSet")
def revert_set(c: Controller, on: int) -> tuple[Any, ...]:
    old = bool(c.sweep_options.get("ZOffRevert", (1,))[0])
    c.sweep_options["ZOffRevert"] = (int(switch(on, old)),)
    return ()


@handles("BiasSpectr.ZOffRevertGet")
def revert_get(c: Controller) -> tuple[Any, ...]:
    return c.sweep_options.get("ZOffRevert", (1,))


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
        if attribute == "amplitude" and value < 0:
            raise Refused(f"the amplitude must not be negative, not {value:g}")
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
