"""The guard before the RunEngine, and an alarm in the middle of a run."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky import RunEngine
from bluesky.utils import Msg, RunEngineInterrupted

from bluesky_gpsts.cli import main
from bluesky_gpsts.devices import Alarm, LimitError, Watchdog
from bluesky_gpsts.plans import gp_sts, survey
from bluesky_gpsts.plans.safety import abort_on_alarm, conditioning, guard


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="bluesky")


@pytest.fixture
def watched(engine: RunEngine, bench: Any) -> Iterator[RunEngine]:
    """The RunEngine as a session has it."""
    with Watchdog(bench.stm, abort_on_alarm(engine), interval=0.002) as watchdog:
        engine.preprocessors.append(guard(bench.stm, watchdog))
        yield engine


def test_plans_run_as_before(
    watched: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    original = bench.state()
    watched(survey(bench.stm, pixels=16, lines=4))
    result = watched(gp_sts(bench.stm, **small))
    assert "5 points" in result.plan_result
    assert [stop["exit_status"] for stop in documents.of("stop")] == ["success", "success"]
    assert bench.state() == original


def test_message_that_is_refused_never_runs(watched: RunEngine, bench: Any) -> None:
    run: list[Msg] = []
    watched.msg_hook = run.append
    with pytest.raises(LimitError, match="a bias of 7 V is refused"):
        watched(bps.mv(bench.stm.bias, 7.0))
    assert [msg.command for msg in run] == []
    assert bench.server.writes == []


@pytest.mark.parametrize("guarding", [True, False])
@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("bias", "1"),
        ("bias", None),
        ("bias", [1.0, 2.0]),
        ("bias", float("nan")),
        ("bias", 7.0),
        ("z_controller.setpoint", "x"),
        ("z_controller.feedback", 0.5),
        ("tip", 5.0),
        ("tip", ("a", 0.0)),
        ("tip.x", None),
        ("scan", 3.0),
        ("scan.width", -1e-9),
        ("piezo", 1.0),
        ("lock_in.phase", "x"),
    ],
)
def test_what_cannot_be_set_is_told_in_a_sentence(
    engine: RunEngine, bench: Any, part: str, value: Any, guarding: bool
) -> None:
    """With the guard and without it."""
    if guarding:
        engine.preprocessors.append(guard(bench.stm))
    signal = bench.stm
    for name in part.split("."):
        signal = getattr(signal, name)
    with pytest.raises(LimitError, match="must be|is refused|is 1"):
        engine(bps.mv(signal, value))
    assert bench.server.writes == []


def test_plan_may_go_on_after_a_refusal(watched: RunEngine, bench: Any) -> None:
    def careful() -> Any:
        try:
            yield from bps.mv(bench.stm.bias, 7.0)
        except LimitError:
            yield from bps.mv(bench.stm.bias, 1.0)

    watched(careful())
    assert bench.stm.bias.get() == pytest.approx(1.0)


def test_what_no_rule_allows(watched: RunEngine, bench: Any) -> None:
    with pytest.raises(LimitError, match="no rule allows it"):
        watched([Msg("configure", bench.stm.scan, {})])


def test_pulses_only_within_a_plan_that_says_so(
    watched: RunEngine, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pulse:
        name, parent, root = "stm_pulse", None, bench.stm
        given = 0

        def trigger(self) -> Any:
            type(self).given += 1
            return bench.stm.lock_in.on.set(0)

        def read(self) -> dict[str, Any]:
            return {}

        def describe(self) -> dict[str, Any]:
            return {}

    pulse = Pulse()
    # In place of the component, which setting an attribute would not do.
    monkeypatch.setitem(bench.stm._signals, "pulse", pulse)
    with pytest.raises(LimitError, match="only within a plan that conditions the tip"):
        watched([Msg("trigger", pulse, group="p"), Msg("wait", None, group="p")])
    assert Pulse.given == 0
    watched(
        conditioning([Msg("trigger", pulse, group="p"), Msg("wait", None, group="p")], bench.stm)
    )
    assert Pulse.given == 1
    assert not bench.stm.gate.may_condition


def check_alarm(documents: Any, bench: Any, words: str) -> None:
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "abort"
    assert words in stop["reason"]
    (event,) = documents.events("alarm")
    assert words in event["data"]["alarm_reason"] and event["data"]["alarm_time"] > 0
    assert documents.all[-1][0] == "stop"
    assert bench.controller.tip.feedback is False
    assert bench.simulator.truth.crashes == 0


@pytest.mark.parametrize("moment", ["sweep", "image"])
def test_alarm_in_the_middle_of_a_run(
    watched: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
    moment: str,
) -> None:
    if moment == "sweep":
        bench.hold_sweep(2)
        plan, busy = gp_sts(bench.stm, **small), bench.controller.sweeping
    else:
        bench.hold_image()
        plan, busy = survey(bench.stm, pixels=16, lines=4), bench.controller.scanning

    when(lambda: busy(bench.clock.now()), bench.simulator.trip_safe_tip)
    with pytest.raises((RunEngineInterrupted, Exception)):
        watched(plan)
    check_alarm(documents, bench, "safe tip has withdrawn the tip")
    with pytest.raises(Alarm, match="safe tip has withdrawn.*reset_alarm"):
        watched(survey(bench.stm, pixels=16, lines=4))


def test_stop_from_another_program_ends_the_run(
    watched: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    """Three ports are in use by the session; the command takes the fourth."""
    bench.client.close()
    bench.hold_sweep(2)
    ports = ",".join(map(str, bench.simulator.ports))

    def stop() -> None:
        assert main(["stop", "--ports", ports]) == 0

    when(lambda: bench.controller.sweeping(bench.clock.now()), stop)
    with pytest.raises((RunEngineInterrupted, Exception)):
        watched(gp_sts(bench.stm, **small))
    check_alarm(documents, bench, "withdrawn from outside: by gpsts stop")


def test_alarm_between_create_and_save(watched: RunEngine, documents: Any, bench: Any) -> None:
    @bpp.run_decorator(md={})
    def plan() -> Any:
        yield from bps.create(name="primary")
        bench.stm.emergency_stop("in the middle of an event")
        yield from bps.mv(bench.stm.bias, 1.0)
        yield from bps.save()

    with pytest.raises(Exception, match="in the middle of an event"):
        watched(plan())
    check_alarm(documents, bench, "in the middle of an event")


def test_limits_of_the_gate_are_its_own(engine: RunEngine, bench: Any) -> None:
    """Whoever changes the limits of the devices does not change those of the guard."""
    bench.stm.instrument_limits = replace(bench.stm.instrument_limits, bias=(-9.0, 9.0))
    engine.preprocessors.append(guard(bench.stm))
    with pytest.raises(LimitError, match="allows -5 to 5 V"):
        engine(bps.mv(bench.stm.bias, 7.0))


def check_left(bench: Any, original: dict[str, Any], command: tuple[Any, ...]) -> None:
    """What the operator has set is as he set it, and all else as it was."""
    name, *values = command
    told = {"ZCtrl.SetpntSet": "ZCtrl.SetpntGet"}.get(name, f"{name[:-3]}Get")
    after = bench.state()
    assert after.pop(told) == pytest.approx(values)
    original.pop(told)
    if told == "Scan.FrameGet":
        # The controller keeps the time of a line.
        assert after.pop("Scan.SpeedGet")[2:] == original.pop("Scan.SpeedGet")[2:]
    assert after == original
    assert bench.simulator.truth.crashes == 0


def change_after(engine: RunEngine, bench: Any, number: int, command: tuple[Any, ...]) -> None:
    """Let an operator send a command after a spectrum."""

    def change(kind: str, document: dict[str, Any]) -> None:
        if kind == "event" and document["data"].get("primary_seq_num") == number:
            bench.client.call(*command)

    engine.subscribe(change)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("Bias.Set", 1.0), "bias"),
        (("ZCtrl.SetpntSet", 2e-11), "setpoint"),
        (("ZCtrl.OnOffSet", 0), "feedback"),
        (("Scan.FrameSet", 1e-9, 0.0, 8e-9, 8e-9, 0.0), "frame"),
        (("ZCtrl.GainSet", 1e-12, 2e-4, 5e-9), "gain"),
        (("BiasSpectr.LimitsSet", 2.0, -2.0), "sweep limits"),
    ],
)
def test_operator_who_changes_something_after_the_last_spectrum(
    watched: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    command: tuple[Any, ...],
    name: str,
) -> None:
    """The data are good; what he has set stays, and the run says so."""
    original = bench.state()
    change_after(watched, bench, 5, command)
    watched(gp_sts(bench.stm, **small))
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "success"
    assert "5 points" in stop["reason"] and f"; the {name} was " in stop["reason"]
    assert "somebody has changed it at the controller" in stop["reason"]
    check_left(bench, original, command)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("Bias.Set", 1.0), "bias"),
        (("ZCtrl.SetpntSet", 2e-11), "setpoint"),
        (("Scan.FrameSet", 1e-9, 0.0, 8e-9, 8e-9, 0.0), "frame"),
    ],
)
def test_operator_who_changes_something_in_the_middle_of_a_run(
    watched: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    command: tuple[Any, ...],
    name: str,
) -> None:
    original = bench.state()
    change_after(watched, bench, 2, command)
    with pytest.raises(LimitError, match=f"the {name} was .* somebody has changed it"):
        watched(gp_sts(bench.stm, **small))
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "fail" and f"the {name} was" in stop["reason"]
    assert len(documents.events("primary")) == 2
    check_left(bench, original, command)


@pytest.mark.parametrize("guarding", [True, False])
def test_operator_who_switches_the_feedback_off_is_named(
    engine: RunEngine, bench: Any, guarding: bool
) -> None:
    if guarding:
        engine.preprocessors.append(guard(bench.stm))

    def plan(switch: Callable[[], Any]) -> Any:
        yield from bps.null()
        switch()
        yield from bps.mv(bench.stm.tip, (1e-9, 0.0))

    def by_hand() -> None:
        bench.client.call("ZCtrl.OnOffSet", 0)

    with pytest.raises(LimitError, match="off, which somebody has switched off at the controller:"):
        engine(bpp.stage_wrapper(plan(by_hand), [bench.stm]))
    bench.client.call("ZCtrl.OnOffSet", 1)
    own = bench.stm.z_controller.feedback
    with pytest.raises(LimitError, match="while the feedback is off: nothing"):
        engine(bpp.stage_wrapper(plan(lambda: own.put(0)), [bench.stm]))
