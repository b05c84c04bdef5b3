"""Random commands, plans, faults and operators, each a kind and four numbers between 0 and 1."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import FailedStatus, Msg, RunEngineInterrupted

from bluesky_gpsts.benchmarks.safety_world import World
from bluesky_gpsts.devices import Alarm, LimitError, stop_controller
from bluesky_gpsts.devices.background import Interrupted
from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.nanonis import NanonisError
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans import survey
from bluesky_gpsts.simulator import Fault

__all__ = ["ACTIONS", "TROUBLES", "Step", "do"]

EXPECTED = (
    Alarm,
    FailedStatus,
    Interrupted,
    LimitError,
    NanonisError,
    OSError,
    RunEngineInterrupted,
    TimeoutError,
    TipWithdrawn,
    ValueError,
)
"""What a refusal, a fault or a withdrawn tip may raise; anything else is a finding."""


@dataclass(frozen=True)
class Step:
    """Something that happens.

    Attributes
    ----------
    kind : str
        One of `ACTIONS` or `TROUBLES`.
    numbers : tuple of float
        Four numbers between 0 and 1 that say how.
    """

    kind: str
    numbers: tuple[float, float, float, float]


def _span(u: float, low: float, high: float) -> float:
    return low + u * (high - low)


def _log(u: float, low: float, high: float) -> float:
    return float(low * (high / low) ** u)


def _pick(u: float, options: Any) -> Any:
    return options[min(int(u * len(options)), len(options) - 1)]


def _a_bias(u: float) -> float:
    """A bias (V): near zero, of the sign that holds, or of the other."""
    return _span(4 * u, -0.05, 0.05) if u < 0.25 else _span((u - 0.25) / 0.75, -6.0, 6.0)


def _settings(world: World) -> list[tuple[Any, Callable[[float], Any]]]:
    """Signals, and the values, allowed and not, that they are given."""
    stm = world.stm
    z, sts, scan = stm.z_controller, stm.spectroscopy, stm.scan
    return [
        (stm.bias, _a_bias),
        (stm.bias, _a_bias),
        (z.feedback, lambda u: int(u < 0.5)),
        (z.setpoint, lambda u: _log(u, 1e-14, 1e-8)),
        (z.setpoint, lambda u: _log(u, 1e-12, 2e-9)),
        (z.p_gain, lambda u: _log(u, 1e-12, 1e-4)),
        (stm.tip.speed, lambda u: _log(u, 1e-9, 1e-5)),
        (sts.start, _a_bias),
        (sts.end, _a_bias),
        (sts.z_offset, lambda u: _span(u, -4e-10, 4e-10)),
        (stm.lock_in.amplitude, lambda u: _span(u, 0.0, 0.1)),
        (stm.lock_in.on, lambda u: int(u < 0.5)),
        (scan.center_x, lambda u: _span(u, -6e-7, 6e-7)),
        (scan.width, lambda u: _log(u, 1e-9, 2e-6)),
        (scan.angle, lambda u: _span(u, 0.0, 360.0)),
        (scan.line_time, lambda u: _log(u, 1e-3, 1.0)),
    ]


def _one(world: World, u: float, v: float) -> tuple[Any, Any]:
    signal, value = _pick(u, _settings(world))
    return signal, value(v)


def _place(u: float, v: float) -> tuple[float, float]:
    """A place (m): mostly near, sometimes out of reach."""
    reach = 6e-7 if u > 0.8 else 2e-8
    return _span(u, -reach, reach), _span(v, -reach, reach)


# ---------------------------------------------------------------- plans


def _plan_set(world: World, u: tuple[float, ...]) -> Generator[Msg, Any, None]:
    signal, value = _one(world, u[0], u[1])
    yield from bps.mv(signal, value)


def _plan_together(world: World, u: tuple[float, ...]) -> Generator[Msg, Any, None]:
    """Settings that are not waited for one by one."""
    for a, b in ((u[0], u[1]), (u[2], u[3]), (u[1], u[0])):
        signal, value = _one(world, a, b)
        yield from bps.abs_set(signal, value, group="together")
    yield from bps.wait("together")


def _plan_staged(world: World, u: tuple[float, ...]) -> Generator[Msg, Any, None]:
    """A run as a user may write one: staged, settings, a move, a sweep or an image."""
    stm = world.stm

    @bpp.stage_decorator([stm])
    @bpp.run_decorator(md={"plan_name": "random"})
    def inner() -> Generator[Msg, Any, None]:
        for a, b in ((u[0], u[1]), (u[1], u[2]), (u[2], u[3])):
            signal, value = _one(world, a, b)
            yield from bps.mv(signal, value)
        yield from bps.mv(stm.tip, _place(u[3], u[0]))
        detector = stm.spectroscopy if u[3] < 0.6 else stm.scan
        yield from bps.trigger(detector, wait=True)
        yield from bps.create(name="primary")
        yield from bps.read(detector)
        yield from bps.save()
        if u[0] > 0.8:
            raise ValueError("a mistake in the plan")

    yield from inner()


def _plan_survey(world: World, u: tuple[float, ...]) -> Generator[Msg, Any, None]:
    yield from survey(world.stm, pixels=16, lines=2, line_time=_log(u[0], 0.01, 1.0))


def _plan_sweeps(world: World, u: tuple[float, ...]) -> Generator[Msg, Any, None]:
    """Staged sweeps at a few places, as in an autonomous map."""
    stm = world.stm

    @bpp.stage_decorator([stm])
    def inner() -> Generator[Msg, Any, None]:
        yield from bps.mv(
            stm.spectroscopy.start, _a_bias(u[0]), stm.spectroscopy.end, _a_bias(u[1])
        )
        for a, b in ((u[2], u[3]), (u[3], u[2])):
            yield from bps.mv(stm.tip, (_span(a, -1e-8, 1e-8), _span(b, -1e-8, 1e-8)))
            yield from bps.trigger(stm.spectroscopy, wait=True)

    yield from inner()


# ---------------------------------------------------------------- commands at the devices


def _put(world: World, u: tuple[float, ...]) -> None:
    signal, value = _one(world, u[0], u[1])
    signal.put(value)


def _move(world: World, u: tuple[float, ...]) -> None:
    world.stm.tip.set(_place(u[0], u[1])).wait(timeout=5)


def _sweep(world: World, u: tuple[float, ...]) -> None:
    world.stm.spectroscopy.trigger().wait(timeout=5)


def _image(world: World, u: tuple[float, ...]) -> None:
    if u[0] < 0.3:
        world.stm.scan.set(Frame(*_place(u[1], u[2]), 5e-9, 5e-9, 360 * u[3])).wait(timeout=5)
    world.stm.scan.trigger().wait(timeout=5)


def _drift(world: World, u: tuple[float, ...]) -> None:
    world.stm.piezo.set((_span(u[0], -2e-9, 2e-9), _span(u[1], -2e-9, 2e-9), 0.0))


def _emergency(world: World, u: tuple[float, ...]) -> None:
    world.stm.emergency_stop("a random stop")
    if not world.withdrawn():
        world.found.append("an emergency stop that did not withdraw the tip")


def _stop(world: World, u: tuple[float, ...]) -> None:
    world.operator.close()
    try:
        stop_controller("127.0.0.1", world.simulator.ports, 0.5)
    finally:
        world.operator.connect()
    if not world.withdrawn():
        world.found.append("gpsts stop did not withdraw the tip")


_PLANS = {
    "set": _plan_set,
    "set together": _plan_together,
    "staged": _plan_staged,
    "sweeps": _plan_sweeps,
    "survey": _plan_survey,
}
_RESTORING = ("staged", "sweeps", "survey")
_COMMANDS = {
    "put": _put,
    "move": _move,
    "sweep": _sweep,
    "image": _image,
    "drift compensation": _drift,
    "emergency stop": _emergency,
    "gpsts stop": _stop,
}

# ---------------------------------------------------------------- troubles

_KINDS = ("drop", "drop", "delay", "silence", "garble", "wrong name", "fragment")
_WHERE = (
    "",
    "",
    "Bias.Set",
    "Bias.Get",
    "ZCtrl.OnOffSet",
    "ZCtrl.OnOffGet",
    "ZCtrl.SetpntSet",
    "ZCtrl.Withdraw",
    "FolMe.XYPosSet",
    "BiasSpectr.Start",
    "BiasSpectr.StatusGet",
    "Scan.Action",
    "Scan.FrameDataGrab",
    "Signals.ValsGet",
)


def _fault(world: World, u: tuple[float, ...]) -> None:
    """A fault of the next replies, or of those of one command, from any byte on."""
    fault = Fault(
        kind=_pick(u[0], _KINDS),
        command=_pick(u[1], _WHERE),
        seconds=0.3 * u[2],
        after=int(80 * u[2]),
        times=1 + int(3 * u[3] ** 2),
    )
    world.script.events.append((int(40 * u[3]), partial(world.simulator.inject, fault)))


def _operator_between(world: World, u: tuple[float, ...]) -> None:
    """What an operator may set between two steps: nothing of it hurts by itself."""
    call, tip = world.operator.call, world.controller.tip
    volts = (1 if tip.bias > 0 else -1) * _span(u[1], 0.5, 2.0)
    safe = tip.setpoint / abs(volts) < 1e-9
    changes: list[Callable[[], Any]] = [
        lambda: call("Bias.Set", volts) if safe and abs(tip.bias) > 0.4 else None,
        lambda: call("ZCtrl.SetpntSet", _log(u[1], 1e-12, 2e-10)) if abs(tip.bias) > 0.4 else None,
        lambda: call("ZCtrl.OnOffSet", 0),
        lambda: call("BiasSpectr.AdvPropsSet", 2, 2, 0, 0),
        lambda: call("BiasSpectr.AdvPropsSet", 1, 2, 0, 0),
        lambda: call("BiasSpectr.LimitsSet", -2.4, 2.4),
        lambda: call("BiasSpectr.TimingSet", 0.01, -1e-9, 1e-3, 100.0, 5e-4, 1e-3, 1e-3, 0.01),
        lambda: call("FolMe.SpeedSet", 1e-5, int(u[1] < 0.5)),
        lambda: call("Scan.FrameSet", 4.5e-7, 0.0, 8e-8, 8e-8, 30.0),
        lambda: call("Scan.SpeedSet", 0.0, 0.0, 2e-4, 2e-4, 2, 1.0),
        lambda: call("SafeTip.OnOffSet", 2),
        lambda: call("SafeTip.PropsSet", 0, 0, 9e-9),
        lambda: call("ZCtrl.Withdraw", 1, -1),
    ]
    _pick(u[0], changes)()


def _event(world: World, u: tuple[float, ...]) -> None:
    """Something that happens in the middle of what comes next."""
    c = world.controller

    def quieter() -> None:
        # The gap only widens: narrower within the millisecond between reading and writing is
        # what no software on this side can see.
        with c.lock:
            world.touched |= {"bias", "setpoint"}
            c.tip.set_setpoint(c.bring_up(), min(c.tip.setpoint, max(c.tip.setpoint / 2, 1e-12)))

    def off() -> None:
        with c.lock:
            world.touched.add("feedback")
            c.tip.set_feedback(c.bring_up(), False)

    def withdraw() -> None:
        with c.lock:
            c.take_tip_away(c.bring_up(), c.tip.z_limits[0], c.tip.withdraw_rate)

    acts = (world.simulator.trip_safe_tip, quieter, off, withdraw, world.kill)
    world.script.events.append((int(50 * u[1]), _pick(u[0], acts)))


_TROUBLES = {"fault": _fault, "operator": _operator_between, "event": _event}

ACTIONS = (*_PLANS, *_COMMANDS)
TROUBLES = tuple(_TROUBLES)


def do(world: World, step: Step) -> list[str]:
    """Let a step happen; returns all that has gone wrong so far."""
    if step.kind in _TROUBLES:
        try:
            _TROUBLES[step.kind](world, step.numbers)
        except NanonisError as error:
            # A fault that was meant for the session has hit the operator.
            world.errors.append(f"{step.kind}: {error}")
            world.operator.connect()
        return world.found
    # What an earlier step began and did not wait for comes to its end first.
    with world.stm.link.writing:
        before = world.state() if step.kind in _RESTORING else None
    try:
        if step.kind in _PLANS:
            world.run(_PLANS[step.kind](world, step.numbers))
        else:
            _COMMANDS[step.kind](world, step.numbers)
    except EXPECTED as error:
        world.errors.append(f"{step.kind}: {type(error).__name__}: {error}")
    world.watch()
    if before is not None:
        before = {name: value for name, value in before.items() if name not in world.touched}
    found = world.judge(before)
    world.revive()
    return found
