"""Tip shaper and bias pulse: forbidden unless allowed, counted, and left to end."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ophyd.utils.errors import WaitTimeoutError

from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError
from bluesky_gpsts.nanonis import CommandError

ALLOWED = replace(
    SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.2, depth=1.5e-9, conditioning_per_hour=3
)


@pytest.fixture
def open_bench(bench: Any) -> Any:
    """A bench whose limits allow conditioning."""
    bench.stm.instrument_limits = bench.stm.gate.limits = ALLOWED
    return bench


def test_both_are_forbidden_unless_the_limits_allow_them(bench: Any) -> None:
    bench.stm.pulse.value.put(3.0)
    for device in (bench.stm.shaper, bench.stm.pulse):
        with pytest.raises(LimitError, match="the limits forbid"):
            device.trigger()
    assert bench.server.writes == []
    assert bench.simulator.truth.crashes == 0


def test_an_indentation_touches_and_comes_back(open_bench: Any) -> None:
    stm, truth = open_bench.stm, open_bench.simulator.truth
    height = stm.z_controller.z.get()
    before = open_bench.state()
    stm.stage()
    stm.shaper.lift.put(-1.2e-9)
    stm.shaper.height.put(2e-9)
    stm.shaper.trigger().wait(timeout=20)
    stm.unstage()
    assert (truth.crashes, truth.indentations) == (0, 1)
    assert stm.gate.conditioned == 1 and not stm.gate.conditions
    assert open_bench.state() == before, "its settings are put back too"
    assert stm.z_controller.z.get() == pytest.approx(height, abs=1.5e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lift": -2e-9}, "an indentation of 2e-09 m is refused"),
        ({"lift": -1e-9, "height": -1e-9}, "an indentation of 2e-09 m is refused"),
        ({"restore": 0}, "would leave the feedback off"),
    ],
)
def test_an_indentation_that_is_not_allowed(
    open_bench: Any, settings: dict[str, float], message: str
) -> None:
    shaper = open_bench.stm.shaper
    for name, value in settings.items():
        getattr(shaper, name).put(value)
    with pytest.raises(LimitError, match=message):
        shaper.trigger()
    assert open_bench.simulator.truth.crashes == 0
    assert "TipShaper.Start" not in open_bench.server.commands


def test_a_bias_out_of_range_is_refused_when_it_is_set(open_bench: Any) -> None:
    with pytest.raises(LimitError, match="a bias of 6 V is refused"):
        open_bench.stm.shaper.bias.put(6.0)
    # Somebody else may have set it at the controller.
    values = list(open_bench.client.call("TipShaper.PropsGet"))
    values[1], values[2], values[10] = 1, 6.0, 1
    open_bench.client.call("TipShaper.PropsSet", *values)
    with pytest.raises(LimitError, match="a bias of 6 V is refused"):
        open_bench.stm.shaper.trigger()


def test_the_safe_tip_would_take_the_contact_for_a_crash(open_bench: Any) -> None:
    open_bench.client.call("SafeTip.OnOffSet", 1)
    with pytest.raises(LimitError, match="safe tip is on"):
        open_bench.stm.shaper.trigger()


@pytest.mark.parametrize(
    ("value", "width", "message"),
    [
        (4.5, 0.05, "a bias pulse of 4.5 V is refused"),
        (-4.5, 0.05, "a bias pulse of -4.5 V is refused"),
        (3.0, 0.5, "a pulse width of 0.5 s is refused"),
    ],
)
def test_a_pulse_that_is_not_allowed(
    open_bench: Any, value: float, width: float, message: str
) -> None:
    pulse = open_bench.stm.pulse
    pulse.value.put(value)
    pulse.width.put(width)
    with pytest.raises(LimitError, match=message):
        pulse.trigger()
    assert open_bench.server.writes == []


def test_the_hour_holds_so_many_of_both(open_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stm = open_bench.stm
    stm.pulse.value.put(-3.0)
    stm.shaper.lift.put(-1e-9)
    stm.pulse.trigger().wait(timeout=20)
    stm.shaper.trigger().wait(timeout=20)
    stm.pulse.trigger().wait(timeout=20)
    for device in (stm.pulse, stm.shaper):
        with pytest.raises(LimitError, match=r"allows 3 in an hour.*in 60 min"):
            device.trigger()
    now = time.monotonic()
    monkeypatch.setattr(stm.gate, "_clock", lambda: now + 3601.0)
    assert stm.gate.conditioned == 0
    stm.pulse.trigger().wait(timeout=20)
    assert open_bench.server.commands.count("Bias.Pulse") == 3


def test_not_without_feedback_nor_with_a_withdrawn_tip(open_bench: Any) -> None:
    stm = open_bench.stm
    stm.pulse.value.put(3.0)
    stm.z_controller.feedback.put(0)
    for device in (stm.pulse, stm.shaper):
        with pytest.raises(LimitError, match="the feedback is off"):
            device.trigger()
    stm.z_controller.feedback.put(1)
    open_bench.simulator.trip_safe_tip()
    for device in (stm.pulse, stm.shaper):
        with pytest.raises(TipWithdrawn):
            device.trigger()


def test_what_the_controller_refuses_is_told(open_bench: Any) -> None:
    open_bench.hold_image()
    open_bench.client.call("Scan.Action", 0, 1)
    status = open_bench.stm.shaper.trigger()
    with pytest.raises(CommandError, match="a scan is running"):
        status.wait(timeout=20)
    open_bench.client.call("Scan.Action", 1, 0)


def test_stopping_waits_for_the_end_rather_than_leave_the_tip_in_the_sample(
    open_bench: Any, until: Callable[[Callable[[], Any], str], None]
) -> None:
    stm, clock = open_bench.stm, open_bench.clock
    stm.shaper.lift.put(-1.2e-9)
    end = open_bench.controller.clock.now() + 0.3
    clock.hold = lambda: clock.now() < end
    status = stm.shaper.trigger()
    until(lambda: open_bench.controller.tip.pending("shaper"), "the indentation")
    with pytest.raises(WaitTimeoutError):
        status.wait(timeout=0.1)
    assert stm.gate.conditions
    clock.advance(1.0)
    clock.hold = lambda: False
    stm.stop(success=True)
    status.wait(timeout=20)
    assert open_bench.client.call("ZCtrl.OnOffGet") == (1,)
    assert open_bench.client.call("ZCtrl.StatusGet") == (2,)
    assert open_bench.simulator.truth.indentations == 1
