"""Guards of the devices and what stands behind them, and treatments that do harm without them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.safety_steps import EXPECTED
from bluesky_gpsts.benchmarks.safety_world import LIMITS, World
from bluesky_gpsts.devices import Limits, NanonisSTM, Watchdog, electronics
from bluesky_gpsts.devices.electronics import ZController
from bluesky_gpsts.devices.gate import Gate
from bluesky_gpsts.devices.spectroscopy import BiasSpectroscopy
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator import Fault

Treatment = Callable[[World], Any]


@dataclass(frozen=True)
class Guard:
    """A guard.

    Attributes
    ----------
    name : str
        What it guards against.
    remove : callable
        Takes it away, given a pytest monkeypatch.
    treat : callable
        Treats a world, and does harm only without the guard.
    limits : Limits
        Limits of the world.
    sample : str
        Sample of the world.
    """

    name: str
    remove: Callable[[Any], Any]
    treat: Treatment
    limits: Limits = LIMITS
    sample: str = "ws2"


def attempt(action: Callable[[], Any]) -> None:
    """Do what may be refused or fail."""
    try:
        action()
    except EXPECTED:
        return


def without(owner: Any, name: str, value: Any = None) -> Callable[[Any], Any]:
    """Replace a method by one that does nothing."""
    return lambda patch: patch.setattr(owner, name, lambda *a, **k: value)


def unchecked(what: str) -> Callable[[Any], Any]:
    """Let `Limits.check` pass what is called `what`."""
    original = Limits.check

    def check(self: Limits, name: str, value: float, *rest: Any) -> float:
        return float(value) if name == what else original(self, name, value, *rest)

    return lambda patch: patch.setattr(Limits, "check", check)


def both(*removals: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Take several away."""
    return lambda patch: [remove(patch) for remove in removals]


def put(path: str, *values: float) -> Treatment:
    """Give a signal values, one after the other."""

    def treat(world: World) -> None:
        signal: Any = world.stm
        for part in path.split("."):
            signal = getattr(signal, part)
        for value in values:
            attempt(lambda value=value: signal.put(value))

    return treat


def sweep(world: World) -> None:
    attempt(lambda: world.stm.spectroscopy.trigger().wait(timeout=5))


def image(world: World) -> None:
    attempt(lambda: world.stm.scan.trigger().wait(timeout=5))


def move(world: World, x: float = 2e-9) -> None:
    attempt(lambda: world.stm.tip.set((x, 0.0)).wait(timeout=5))


def clean(world: World) -> None:
    """Move to a place without a defect, where a small bias brings the tip nearest."""
    sample, frame = world.simulator.sample, world.simulator.sample.conditions.frame
    places = np.random.default_rng(0).uniform(-1e-8, 1e-8, (200, 2)) + (frame.x, frame.y)
    gaps = sample.gap(places[:, 0], places[:, 1], 0.1, 1e-11)
    x, y = places[int(np.argmin(gaps))]
    world.stm.tip.set((float(x), float(y))).wait(timeout=5)


def then(*parts: Treatment) -> Treatment:
    """One treatment after the other."""

    def treat(world: World) -> None:
        for part in parts:
            part(world)

    return treat


def operator(command: str, *values: Any) -> Treatment:
    """The operator sends a command."""
    return lambda world: world.operator.call(command, *values)


def restored(treat: Treatment) -> Treatment:
    """A staged session in which `treat` happens, judged by what is there afterwards."""

    def whole(world: World) -> None:
        before = world.state()
        world.stm.stage()
        treat(world)
        attempt(world.stm.unstage)
        world.judge(before)

    return whole


def must_withdraw(world: World) -> None:
    if not world.withdrawn():
        world.found.append("the tip was not withdrawn")


def look(world: World) -> None:
    for _ in range(4):
        world.watch()
    must_withdraw(world)


def disobedient(world: World) -> None:
    """A controller whose feedback does not go off; then another sign of the bias."""
    tip_ = world.controller.tip
    original = tip_.set_feedback
    tip_.set_feedback = lambda t, on: original(t, True)  # type: ignore[method-assign]
    attempt(lambda: world.stm.bias.put(-1.2))


def raw(*command: Any) -> Treatment:
    """A command as a device with a mistake in it would send it."""

    def treat(world: World) -> None:
        world.stm.bias.get()
        world.stm.z_controller.feedback.get()
        attempt(lambda: world.stm.link.main.call(*command))

    return treat


def safe_tip_is_on(world: World) -> None:
    if not world.controller.safe_tip.on:
        world.found.append("the safe tip was switched off")


def tilted(world: World) -> None:
    attempt(lambda: world.stm.scan.set(Frame(1.9e-7, 0.0, 4e-8, 4e-8, 45.0)).wait(timeout=5))
    world.operator.call("Scan.SpeedSet", 0.0, 0.0, 1.0, 1.0, 2, 1.0)
    image(world)


def stop_and_go_on(world: World) -> None:
    world.stm.emergency_stop("a test")
    attempt(lambda: world.stm.z_controller.feedback.put(1))
    must_withdraw(world)


def silent_restore(world: World) -> None:
    world.stm.stage()
    world.stm.bias.put(0.8)
    world.simulator.inject(Fault("silence", "Bias.Set", times=3))
    before = {"bias": 1.2, "feedback": 1.0}
    attempt(world.stm.unstage)
    world.judge(before)


def failing_reads(world: World) -> None:
    world.simulator.inject(Fault("garble", "Signals.ValsGet", times=100))
    look(world)


def trip(world: World) -> None:
    world.simulator.trip_safe_tip()


def told(world: World) -> None:
    """The session reads of what has happened, and the watchdog as well."""
    for _ in range(2):
        world.stm.z_controller.status.get()


def at_rest(world: World) -> None:
    """The tip comes to the end of its way."""
    world.controller.clock.pass_by(10.0)


def overcurrent(world: World) -> None:
    """The loop is off, and the operator raises the bias until the current is large."""
    call = world.operator.call
    clean(world)
    world.stm.bias.put(-0.9)
    call("SafeTip.OnOffSet", 2)
    call("ZCtrl.SetpntSet", 8e-11)
    world.controller.clock.pass_by(1.0)
    call("ZCtrl.OnOffSet", 0)
    call("Bias.Set", 4.9)
    world.truth.unguarded = 0.0
    for _ in range(4):
        world.watch()
    must_withdraw(world)
    world.truth.unguarded = 0.0


def read_only(world: World) -> None:
    world.stm.gate.mode = "read_only"
    attempt(lambda: world.stm.bias.put(1.0))
    world.judge({"bias": 1.2})


def dry_run(world: World) -> None:
    world.stm.gate.mode = "dry_run"
    attempt(lambda: world.stm.bias.put(1.0))
    attempt(lambda: world.stm.tip.set((4e-9, 0.0)).wait(timeout=5))
    world.judge({"bias": 1.2})


def operator_in_a_run(world: World) -> None:
    """A sweep of a run, at a bias that the operator has changed."""
    world.stm.stage()
    world.operator.call("Bias.Set", 0.9)
    taken = world.controller.sweeps
    sweep(world)
    if world.controller.sweeps > taken:
        world.found.append("a sweep at a bias that the run knows nothing of")
    world.stm.unstage()


SMALL_CURRENT = put("z_controller.setpoint", 6e-13)
PULSES = replace(LIMITS, pulse=4.0, pulse_width=0.1, depth=1e-9, conditioning_per_hour=2)
NO_SAFE_TIP = replace(LIMITS, safe_tip=False)
PULSE = raw("Bias.Pulse", 1, 0.01, 3.0, 1, 2)


def not_crossing(patch: Any) -> None:
    patch.setattr(Gate, "_check_crossing", lambda *a: None)


def everything_allowed(patch: Any) -> None:
    patch.setattr(Gate, "admit", lambda self, name, values: True)


GUARDS = [
    Guard("a bias out of range", unchecked("a bias"), put("bias", 5.5)),
    Guard(
        "a small bias with feedback on",
        lambda patch: patch.setattr(Limits, "check_bias", lambda self, b, feedback=False: float(b)),
        then(SMALL_CURRENT, put("bias", 0.01)),
    ),
    Guard(
        "a small bias with a large setpoint",
        without(Limits, "check_junction"),
        then(clean, put("bias", 0.03)),
    ),
    Guard(
        "a setpoint too large for the bias",
        without(Limits, "check_junction"),
        then(clean, put("bias", 0.31), put("z_controller.setpoint", 1.9e-9)),
    ),
    Guard(
        "feedback switched on at such a pair",
        without(Limits, "check_junction"),
        then(
            clean,
            put("z_controller.feedback", 0),
            put("bias", 0.03),
            put("z_controller.feedback", 1),
            lambda world: world.controller.clock.pass_by(1.0),
        ),
    ),
    Guard(
        "a change of sign with feedback on",
        both(without(ZController, "switch_feedback"), without(ZController, "lift"), not_crossing),
        put("bias", -1.2),
    ),
    Guard("zero passed by any other way", not_crossing, raw("Bias.Set", -1.2)),
    Guard(
        "feedback not confirmed off",
        both(without(electronics, "poll_until"), without(ZController, "lift"), not_crossing),
        disobedient,
    ),
    Guard(
        "the gap of the old bias at the new one",
        without(ZController, "lift"),
        then(
            clean,
            operator("SafeTip.OnOffSet", 2),
            put("bias", -0.9),
            put("z_controller.setpoint", 8e-11),
            put("bias", 4.9),
        ),
        limits=NO_SAFE_TIP,
    ),
    Guard(
        "a setpoint out of range",
        unchecked("a setpoint"),
        then(put("z_controller.feedback", 0), put("z_controller.setpoint", 9e-9)),
    ),
    Guard("a gain out of range", unchecked("a P-gain"), put("z_controller.p_gain", 1e-3)),
    Guard("a modulation out of range", unchecked("a modulation"), put("lock_in.amplitude", 0.09)),
    Guard(
        "a drift compensation out of range",
        unchecked("a drift compensation"),
        lambda world: attempt(lambda: world.stm.piezo.set((5e-9, 0.0, 0.0))),
    ),
    Guard(
        "a tip speed out of range",
        unchecked("a tip speed"),
        then(put("tip.speed", 1e-6), move),
    ),
    Guard(
        "a tip speed that the operator set",
        unchecked("a tip speed"),
        then(operator("FolMe.SpeedSet", 1e-6, 0), move),
    ),
    Guard("a place out of range", without(Limits, "check_position"), lambda w: move(w, 3e-7)),
    Guard(
        "a frame whose corner is out of range",
        lambda patch: patch.setattr(Limits, "check_frame", lambda self, frame, reach: frame),
        tilted,
    ),
    Guard(
        "an image that is too fast",
        unchecked("a scan speed"),
        then(operator("Scan.SpeedSet", 0.0, 0.0, 5e-4, 5e-4, 2, 1.0), image),
    ),
    Guard(
        "a move without feedback",
        without(ZController, "require_followed"),
        then(put("z_controller.feedback", 0), move),
    ),
    Guard(
        "an approach out of range",
        unchecked("a z offset"),
        then(SMALL_CURRENT, put("spectroscopy.z_offset", -0.21e-9), sweep),
    ),
    Guard(
        "an approach from a narrow gap",
        without(Limits, "check_junction"),
        then(clean, put("bias", -1.0), put("spectroscopy.z_offset", -0.15e-9), sweep),
    ),
    Guard(
        "a sweep with too large a current",
        without(Limits, "check_end_current"),
        then(
            operator("SafeTip.OnOffSet", 2),
            put("bias", 0.2),
            put("z_controller.setpoint", 2e-9),
            put("spectroscopy.end", 2.4),
            sweep,
        ),
        limits=replace(NO_SAFE_TIP, conductance=1e-8),
        sample="au111",
    ),
    Guard(
        "a sweep with the loop not held",
        lambda patch: patch.setattr(BiasSpectroscopy, "_require_hold", lambda *a: None),
        then(operator("BiasSpectr.AdvPropsSet", 1, 2, 2, 2), sweep),
    ),
    Guard(
        "a sweep without the safe tip",
        without(ZController, "require_safe_tip"),
        then(
            clean,
            put("bias", -0.9),
            put("z_controller.setpoint", 8e-11),
            operator("SafeTip.OnOffSet", 2),
            put("spectroscopy.start", 2.4),
            put("spectroscopy.end", -2.4),
            sweep,
        ),
    ),
    Guard(
        "a sweep with a withdrawn tip",
        without(ZController, "require_tip"),
        then(trip, at_rest, told, sweep),
    ),
    Guard(
        "feedback switched on after the safe tip",
        both(
            without(ZController, "withdrawn", False),
            without(ZController, "_require_no_event"),
            without(NanonisSTM, "changed_by_others", {}),
        ),
        restored(trip),
    ),
    Guard("settings that stay", without(NanonisSTM, "restore"), restored(put("bias", 0.8))),
    Guard(
        "a controller that cannot be restored",
        without(NanonisSTM, "emergency_withdraw"),
        silent_restore,
    ),
    Guard("writing after an alarm", without(Gate, "raise_alarm", True), stop_and_go_on),
    Guard(
        "an emergency stop that stops",
        lambda patch: patch.setattr("bluesky_gpsts.devices.stm.halt", lambda *a: []),
        lambda world: [world.stm.emergency_stop("a test"), must_withdraw(world)],
    ),
    Guard(
        "an operator who changes something",
        without(NanonisSTM, "require_unchanged"),
        operator_in_a_run,
    ),
    Guard("a large current", without(Watchdog, "_breach", ""), overcurrent, limits=NO_SAFE_TIP),
    Guard(
        "a reading that fails",
        lambda patch: patch.setattr(Watchdog, "_failed", lambda self, error: ""),
        failing_reads,
    ),
    Guard(
        "commands that are nobody's business",
        everything_allowed,
        then(raw("SafeTip.OnOffSet", 2), safe_tip_is_on),
    ),
    Guard("pulses that the limits forbid", without(Gate, "_check_conditioning"), PULSE),
    Guard(
        "more pulses than in an hour",
        without(Gate, "check_count"),
        then(PULSE, PULSE, PULSE),
        limits=PULSES,
    ),
    Guard("writing in a session that reads", everything_allowed, read_only),
    Guard("writing in a dry run", everything_allowed, dry_run),
]
