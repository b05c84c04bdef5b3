"""The guard before the RunEngine, standing alone: the devices here know no limits."""

from collections.abc import Callable
from typing import Any

import bluesky.plan_stubs as bps
from guards import Guard, Treatment, attempt, clean, operator, then, without

from bluesky_gpsts.benchmarks.safety_world import World
from bluesky_gpsts.devices import Limits
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.veto import Veto


class Lawless(Limits):
    """Limits that allow everything, for devices without a check."""

    def check(self, what: str, value: float, *rest: Any) -> float:
        return float(value)

    def check_bias(self, bias: float, feedback: bool = False) -> float:
        return float(bias)

    def check_junction(self, *a: Any, **k: Any) -> None:
        return None

    check_end_current = check_position = check_junction  # type: ignore[assignment]

    def check_frame(self, frame: Frame, piezo_range: Any) -> Frame:
        return frame


def plan(*messages: Callable[[World], Any]) -> Treatment:
    """A plan of settings, moves and triggers, each waited for."""

    def treat(world: World) -> None:
        def whole() -> Any:
            for message in messages:
                yield from message(world)

        attempt(lambda: world.run(whole()))

    return treat


def mv(path: str, value: Any) -> Callable[[World], Any]:
    def message(world: World) -> Any:
        signal: Any = world.stm
        for part in path.split("."):
            signal = getattr(signal, part)
        return bps.mv(signal, value)

    return message


def trigger(path: str) -> Callable[[World], Any]:
    return lambda world: bps.trigger(getattr(world.stm, path), wait=True)


def together(world: World) -> Any:
    """Feedback switched on while the bias, which is still to change, is on its way to zero."""
    z = world.stm.z_controller
    yield from bps.abs_set(world.stm.bias, 0.03, group="both")
    yield from bps.abs_set(z.feedback, 1, group="both")
    yield from bps.wait("both")


VETOES = [
    Guard("bias", without(Veto, "_bias"), plan(mv("bias", 5.5))),
    Guard("bias and setpoint", without(Veto, "_bias"), then(clean, plan(mv("bias", 0.03)))),
    Guard(
        "setpoint",
        without(Veto, "_setpoint"),
        plan(mv("z_controller.feedback", 0), mv("z_controller.setpoint", 9e-9)),
    ),
    Guard(
        "feedback",
        without(Veto, "_feedback"),
        then(
            clean,
            plan(mv("z_controller.feedback", 0), mv("bias", 0.03), mv("z_controller.feedback", 1)),
            lambda world: world.controller.clock.pass_by(1.0),
        ),
    ),
    Guard(
        "settings that are not waited for",
        without(Veto, "_feedback"),
        then(
            clean,
            plan(mv("z_controller.feedback", 0), together),
            lambda world: world.controller.clock.pass_by(1.0),
        ),
    ),
    Guard("gain", without(Veto, "_gain"), plan(mv("z_controller.p_gain", 1e-3))),
    Guard("modulation", without(Veto, "_modulation"), plan(mv("lock_in.amplitude", 0.09))),
    Guard("speed", without(Veto, "_speed"), plan(mv("tip.speed", 1e-6), mv("tip", (2e-9, 0.0)))),
    Guard(
        "speed of the operator",
        without(Veto, "_speed"),
        then(operator("FolMe.SpeedSet", 1e-6, 1), plan(mv("tip", (2e-9, 0.0)))),
    ),
    Guard("place", without(Veto, "_move"), plan(mv("tip", (3e-7, 0.0)))),
    Guard(
        "move without feedback",
        without(Veto, "_followed"),
        plan(mv("z_controller.feedback", 0), mv("tip", (2e-9, 0.0))),
    ),
    Guard(
        "frame",
        without(Veto, "_frame"),
        plan(
            mv("scan.center_x", 1.9e-7),
            mv("scan.width", 8e-8),
            mv("scan.line_time", 1.0),
            trigger("scan"),
        ),
    ),
    Guard(
        "image",
        without(Veto, "_image"),
        then(operator("Scan.SpeedSet", 0.0, 0.0, 5e-4, 5e-4, 2, 1.0), plan(trigger("scan"))),
    ),
    Guard(
        "sweep",
        without(Veto, "_sweep"),
        then(
            operator("BiasSpectr.TimingSet", 0.01, -1e-9, 1e-3, 100.0, 5e-4, 1e-3, 1e-3, 0.01),
            plan(trigger("spectroscopy")),
        ),
    ),
]
