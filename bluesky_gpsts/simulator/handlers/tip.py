"""Bias, current, z-controller, safe tip, tip shaper."""

from typing import Any

from bluesky_gpsts.simulator.controller import LONGEST, Controller, Refused
from bluesky_gpsts.simulator.handlers.registry import (
    Answer,
    busy,
    choice,
    handles,
    require,
    switch,
)
from bluesky_gpsts.simulator.signals import CURRENT


@handles("Bias.Set")
def bias_set(c: Controller, bias: float) -> tuple[Any, ...]:
    if not abs(bias) <= c.max_bias:
        raise Refused(f"{bias:g} V is outside the range of +-{c.max_bias:g} V")
    t = c.bring_up()
    c.require_idle(t)
    c.tip.set_bias(t, bias)
    return ()


@handles("Bias.Get")
def bias_get(c: Controller) -> tuple[Any, ...]:
    c.bring_up()
    return (c.tip.bias,)


@handles("Bias.RangeGet")
def bias_range_get(c: Controller) -> tuple[Any, ...]:
    return ([f"+-{c.max_bias:g} V"], 0)


@handles("Bias.RangeSet")
def bias_range_set(c: Controller, index: int) -> tuple[Any, ...]:
    if index != 0:
        raise Refused(f"range index {index} is not available")
    return ()


@handles("Bias.CalibrGet")
def bias_calibr_get(c: Controller) -> tuple[Any, ...]:
    return (1.0, 0.0)


@handles("Bias.Pulse")
def bias_pulse(
    c: Controller, wait: int, width: float, value: float, hold: int, absolute: int
) -> Answer:
    t, old = c.bring_up(), c.tip.bias
    peak = value if absolute == 2 else old + value
    if not abs(peak) <= c.max_bias:
        raise Refused(f"a pulse to {peak:g} V is outside the range of +-{c.max_bias:g} V")
    require("a pulse width", width, "s", 0.0, LONGEST)
    c.require_idle(t)
    if hold != 2:
        c.tip.hold()
    c.tip.set_bias(t, peak)

    def end() -> None:
        c.tip.pulsed(t + width, peak)
        c.tip.set_bias(t + width, old)
        c.tip.release()

    c.tip.schedule(t + width, "pulse", end)
    return busy(c, wait, t + width, c.closing)


@handles("Current.Get")
def current_get(c: Controller) -> tuple[Any, ...]:
    return tuple(c.readings(c.bring_up(), CURRENT))


_GAINS = [f"LN 10^{power}" for power in range(6, 12)]
_FILTERS = ["Full bandwidth", "1 kHz"]


@handles("Current.GainsGet")
def current_gains_get(c: Controller) -> tuple[Any, ...]:
    if c.release < 13742:
        return (_GAINS, c.gain_index)
    return (_GAINS, c.gain_index, _FILTERS, c.filter_index)


@handles("Current.GainSet")
def current_gain_set(c: Controller, gain: int, filter_: int = -1) -> tuple[Any, ...]:
    if gain >= len(_GAINS) or filter_ >= len(_FILTERS):
        raise Refused(f"gain index {gain} or filter index {filter_} is not available")
    c.gain_index = gain if gain >= 0 else c.gain_index
    c.filter_index = filter_ if filter_ >= 0 else c.filter_index
    return ()


@handles("Current.CalibrGet")
def current_calibr_get(c: Controller, gain: int = -1) -> tuple[Any, ...]:
    index = c.gain_index if gain < 0 else gain
    return (10.0 ** -(6 + index), 0.0)


@handles("ZCtrl.OnOffSet")
def z_on_off_set(c: Controller, on: int) -> tuple[Any, ...]:
    t = c.bring_up()
    if on and not c.tip.feedback:
        # Whatever holds the loop open just now does so for the sake of the tip.
        c.require_idle(t)
    if on and c.safe_tip.tripped:
        c.safe_tip.tripped = False
        c.arm()
    c.clock.skip_to(c.tip.set_feedback(t, bool(on)))
    return ()


@handles("ZCtrl.OnOffGet")
def z_on_off_get(c: Controller) -> tuple[Any, ...]:
    c.bring_up()
    return (int(c.tip.feedback),)


@handles("ZCtrl.StatusGet")
def z_status_get(c: Controller) -> tuple[Any, ...]:
    t = c.bring_up()
    if c.safe_tip.tripped:
        return (5,)
    if c.tip.withdrawing(t):
        return (6,)
    if c.tip.pending("switch-off"):
        return (4,)
    if c.tip.feedback and c.tip.held:
        return (3,)
    return (2 if c.tip.feedback else 1,)


@handles("ZCtrl.ZPosGet")
def z_position_get(c: Controller) -> tuple[Any, ...]:
    c.bring_up()
    return (c.tip.z,)


@handles("ZCtrl.ZPosSet")
def z_position_set(c: Controller, z: float) -> tuple[Any, ...]:
    t = c.bring_up()
    c.require_idle(t)
    if c.tip.feedback:
        raise Refused("switch the Z-Controller off first")
    high, low = c.tip.z_limits
    if not low <= z <= high:
        raise Refused(f"{z:g} m is outside the Z limits {low:g} to {high:g} m")
    c.clock.skip_to(c.tip.drive_z(t, z, c.tip.withdraw_rate))
    return ()


@handles("ZCtrl.SetpntSet")
def z_setpoint_set(c: Controller, setpoint: float) -> tuple[Any, ...]:
    if not setpoint > 0:
        raise Refused(f"the current setpoint must be positive, not {setpoint:g} A")
    require("a current setpoint", setpoint, "A", 0.0, c.tip.preamplifier.limit)
    c.tip.set_setpoint(c.bring_up(), setpoint)
    return ()


@handles("ZCtrl.SetpntGet")
def z_setpoint_get(c: Controller) -> tuple[Any, ...]:
    return (c.tip.setpoint,)


@handles("ZCtrl.GainSet")
def z_gain_set(c: Controller, p: float, time_constant: float, i: float) -> tuple[Any, ...]:
    if not (p > 0 and time_constant > 0):
        raise Refused("gain and time constant must be positive")
    require("an integral gain", p / time_constant, "m/s", 1e-30, 1e30)
    c.tip.set_gain(c.bring_up(), p, time_constant)
    return ()


@handles("ZCtrl.GainGet")
def z_gain_get(c: Controller) -> tuple[Any, ...]:
    return (c.tip.p_gain, c.tip.time_constant, c.tip.p_gain / c.tip.time_constant)


@handles("ZCtrl.SwitchOffDelaySet")
def z_delay_set(c: Controller, delay: float) -> tuple[Any, ...]:
    require("a switch-off delay", delay, "s", 0.0, LONGEST)
    c.tip.switch_off_delay = delay
    return ()


@handles("ZCtrl.SwitchOffDelayGet")
def z_delay_get(c: Controller) -> tuple[Any, ...]:
    return (c.tip.switch_off_delay,)


@handles("ZCtrl.TipLiftSet")
def z_lift_set(c: Controller, lift: float) -> tuple[Any, ...]:
    require("a tip lift", lift, "m", -c.tip.range_xyz[2], c.tip.range_xyz[2])
    c.tip.tip_lift = lift
    return ()


@handles("ZCtrl.TipLiftGet")
def z_lift_get(c: Controller) -> tuple[Any, ...]:
    return (c.tip.tip_lift,)


@handles("ZCtrl.HomePropsSet")
def z_home_set(c: Controller, mode: int, position: float) -> tuple[Any, ...]:
    c.home = (choice(mode, c.home[0]), position)
    return ()


@handles("ZCtrl.HomePropsGet")
def z_home_get(c: Controller) -> tuple[Any, ...]:
    return c.home


@handles("ZCtrl.Home")
def z_home(c: Controller) -> tuple[Any, ...]:
    t = c.bring_up()
    target = c.tip.z + c.home[1] if c.home[0] else c.home[1]
    target = min(max(target, c.tip.z_limits[1]), c.tip.z_limits[0])
    c.clock.skip_to(c.take_tip_away(t, target, c.tip.withdraw_rate))
    return ()


@handles("ZCtrl.Withdraw")
def z_withdraw(c: Controller, wait: int, timeout: int) -> Answer:
    t = c.bring_up()
    end = c.take_tip_away(t, c.tip.z_limits[0], c.tip.withdraw_rate)
    if wait and timeout >= 0:
        end = min(end, t + timeout / 1000)
    return busy(c, wait, end, c.closing)


@handles("ZCtrl.WithdrawRateSet")
def z_rate_set(c: Controller, rate: float) -> tuple[Any, ...]:
    require("a withdraw rate", rate, "m/s", 1e-12, 1.0)
    c.tip.withdraw_rate = rate
    return ()


@handles("ZCtrl.WithdrawRateGet")
def z_rate_get(c: Controller) -> tuple[Any, ...]:
    return (c.tip.withdraw_rate,)


@handles("ZCtrl.LimitsSet")
def z_limits_set(c: Controller, high: float, low: float) -> tuple[Any, ...]:
    half = c.tip.range_xyz[2] / 2
    if not -half <= low < high <= half:
        raise Refused(f"Z limits {low:g} to {high:g} m do not lie within +-{half:g} m")
    c.tip.z_limits = (high, low)
    return ()


@handles("ZCtrl.LimitsGet")
def z_limits_get(c: Controller) -> tuple[Any, ...]:
    return c.tip.z_limits


@handles("ZCtrl.LimitsEnabledSet")
def z_limits_enabled_set(c: Controller, on: int) -> tuple[Any, ...]:
    c.z_limits_enabled = bool(on)
    return ()


@handles("ZCtrl.LimitsEnabledGet")
def z_limits_enabled_get(c: Controller) -> tuple[Any, ...]:
    return (int(c.z_limits_enabled),)


@handles("ZCtrl.CtrlListGet")
def z_controllers(c: Controller) -> tuple[Any, ...]:
    return (["log Current"], 0)


@handles("ZCtrl.ActiveCtrlSet")
def z_active_set(c: Controller, index: int) -> tuple[Any, ...]:
    if index != 0:
        raise Refused(f"controller index {index} is not available")
    return ()


@handles("SafeTip.OnOffSet")
def safe_tip_set(c: Controller, on: int) -> tuple[Any, ...]:
    c.bring_up()
    c.safe_tip.on = switch(on, c.safe_tip.on)
    c.arm()
    return ()


@handles("SafeTip.OnOffGet")
def safe_tip_get(c: Controller) -> tuple[Any, ...]:
    return (int(c.safe_tip.on),)


@handles("SafeTip.SignalGet")
def safe_tip_signal(c: Controller) -> tuple[Any, ...]:
    return tuple(c.readings(c.bring_up(), CURRENT))


@handles("SafeTip.PropsSet")
def safe_tip_props_set(c: Controller, recover: int, pause: int, limit: float) -> tuple[Any, ...]:
    c.bring_up()
    c.safe_tip.auto_recovery, c.safe_tip.auto_pause = bool(recover), bool(pause)
    c.safe_tip.threshold = limit
    c.arm()
    return ()


@handles("SafeTip.PropsGet")
def safe_tip_props_get(c: Controller) -> tuple[Any, ...]:
    tip = c.safe_tip
    return (int(tip.auto_recovery), int(tip.auto_pause), tip.threshold)


_SHAPER_TIMES, _SHAPER_LIFTS = (0, 4, 6, 8, 9), (3, 7)


@handles("TipShaper.PropsSet")
def shaper_set(c: Controller, *values: float) -> tuple[Any, ...]:
    old = c.tip_shaper.values
    switches = {1: values[1], 10: values[10]}
    kept = list(values)
    for place, value in switches.items():
        kept[place] = switch(int(value), bool(old[place]))
    for place, value in enumerate(kept):
        if place in _SHAPER_TIMES:
            require("a time of the tip shaper", value, "s", 0.0, LONGEST)
        elif place in _SHAPER_LIFTS:
            require("a lift of the tip shaper", value, "m", -c.tip.range_xyz[2], c.tip.range_xyz[2])
        elif place not in switches:
            require("a bias of the tip shaper", value, "V", -c.max_bias, c.max_bias)
    c.tip_shaper.values = tuple(float(value) for value in kept)
    return ()


@handles("TipShaper.PropsGet")
def shaper_get(c: Controller) -> tuple[Any, ...]:
    values = c.tip_shaper.values
    return tuple(int(v) if i in (1, 10) else v for i, v in enumerate(values))


@handles("TipShaper.Start")
def shaper_start(c: Controller, wait: int, timeout: int) -> Answer:
    t = c.bring_up()
    c.require_idle(t, scan=True)
    delay, change, bias, lift, time1, bias2, settle, height, time2, pause, restore = (
        c.tip_shaper.values
    )
    # What is restored at the end is how the feedback was: a withdrawn tip stays withdrawn.
    tip, old, feedback = c.tip, c.tip.bias, c.tip.feedback
    c.tip_shaper.bias = old
    tip.set_feedback(t, False)

    def at(time: float, bias: float, change_z: float, seconds: float) -> None:
        def act() -> None:
            if change:
                tip.set_bias(time, bias)
            if change_z:
                tip.drive_z(time, tip.z + change_z, abs(change_z) / max(seconds, 1e-3))

        tip.schedule(time, "shaper", act)

    first = t + max(delay, tip.switch_off_delay)
    second = first + time1 + settle
    last = second + time2
    at(first, bias, lift, time1)
    at(first + time1, bias2, 0.0, 0.0)
    at(second, bias2, height, time2)
    at(last, old, 0.0, 0.0)

    def close() -> None:
        if restore and feedback:
            tip.set_feedback(last, True)

    tip.schedule(last, "shaper", close)
    tip.schedule(last + pause, "shaper")
    return busy(c, wait, last + pause, c.closing)
