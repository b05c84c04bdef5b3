"""Plans that are rehearsed: checked as if they ran, with nothing sent and nothing filed."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest
from bluesky import RunEngine
from bluesky.utils import Msg, RunEngineInterrupted
from device_bench import wait_for
from ophyd import Signal

from bluesky_gpsts import startup
from bluesky_gpsts.devices import SIMULATOR_LIMITS, Alarm, LimitError, NanonisSTM
from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.plans import check_tip, condition_tip, gp_sts, rehearse, survey, withdraw
from bluesky_gpsts.plans.safety import guard
from bluesky_gpsts.simulator import Simulator

ALLOWED = replace(
    SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.1, depth=2e-9, conditioning_per_hour=100
)


class Dry:
    """A dry run on a simulated microscope, and what it says."""

    def __init__(self, engine: RunEngine, bench: Any, stm: NanonisSTM, log: Path) -> None:
        self.engine, self.bench, self.stm, self.log = engine, bench, stm, log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


@pytest.fixture
def dry(engine: RunEngine, bench: Any, tmp_path: Path) -> Iterator[Dry]:
    with ExitStack() as stack:
        bench.stm.disconnect()
        ports, log = bench.simulator.ports, tmp_path / "audit.jsonl"
        stm = NanonisSTM(
            ports=(ports[0], ports[1], ports[3]), mode="dry_run", audit=log, limits=ALLOWED
        ).connect()
        stack.callback(stm.disconnect)
        engine.preprocessors.append(guard(stm))
        bench.server.commands.clear()
        yield Dry(engine, bench, stm, log)


@pytest.mark.parametrize("plan", [survey, gp_sts, check_tip, condition_tip])
def test_plans_are_checked_and_file_nothing(
    dry: Dry, documents: Any, capsys: pytest.CaptureFixture[str], plan: Callable[..., Any]
) -> None:
    original, threads = dry.bench.state(), threading.active_count()
    dry.stm.tip.offset_x.put(1e-9)
    result = dry.engine(plan(dry.stm))
    assert result.run_start_uids == () and documents.all == []
    assert result.exit_status == "success"
    assert dry.bench.server.writes == [] and dry.bench.state() == original
    told = capsys.readouterr().out
    assert "would measure: a" in told
    assert "Dry run: allowed as far as to the first data that the plan goes on by" in told
    assert "Nothing was written, nothing measured, and no run filed." in told
    assert any(line["event"] == "dry run" for line in dry.lines())
    assert dry.stm.tip.offset_x.get() == 1e-9
    assert dry.stm.gate.planned == {} and dry.stm.bias.get() == pytest.approx(1.2)
    assert dry.engine(bps.null()).exit_status == "success"
    # Those that end do so in their own time.
    wait_for(lambda: threading.active_count() <= threads + 1, "the end of the threads")


def test_fixed_plan_is_checked_to_its_end(
    dry: Dry, documents: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tip, sts = dry.stm.tip, dry.stm.spectroscopy
    dry.engine(bp.grid_scan([sts], tip.x, -5e-9, 5e-9, 3, tip.y, -5e-9, 5e-9, 3))
    told = capsys.readouterr().out
    assert told.count("stm_spectroscopy would measure: a sweep of") == 9
    assert "the whole plan is allowed" in told
    with pytest.raises(LimitError, match="the position at x = 600 nm"):
        dry.engine(bp.list_scan([sts], tip.x, [0.0, 1e-9, 6e-7]))
    assert documents.all == [] and dry.bench.server.writes == []


def test_later_messages_are_judged_by_earlier_ones(dry: Dry) -> None:
    stm = dry.stm

    def plan(*values: Any) -> Any:
        yield from bps.mv(stm.z_controller.setpoint, 1e-11)
        for signal, value in values:
            yield from bps.mv(signal, value)
        return (yield from bps.rd(stm.bias))

    dry.engine(plan((stm.bias, 0.11), (stm.bias, -0.2), (stm.spectroscopy.end, 0.0)))
    with pytest.raises(LimitError, match="1e-11 A at a bias of 0.09 V"):
        dry.engine(plan((stm.bias, 0.09)))
    with pytest.raises(LimitError, match="while the feedback is off"):
        dry.engine(plan((stm.z_controller.feedback, 0), (stm.tip, (1e-9, 0.0))))
    assert stm.bias.get() == pytest.approx(1.2), "and it is forgotten"
    assert dry.bench.server.writes == []


def test_rehearsal_in_a_session_that_measures(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine.preprocessors.append(guard(bench.stm))
    bench.server.commands.clear()
    told: list[str] = []
    checked = engine(rehearse(gp_sts(bench.stm, **small), bench.stm, told.append)).plan_result
    assert checked > 10 and bench.server.writes == [] and documents.all == []
    assert any(line.strip().startswith("stm_tip would be set to (") for line in told)
    with pytest.raises(LimitError, match="a bias of 9 V"):
        engine(rehearse(gp_sts(bench.stm, bias_range=(9.0, -1.0)), bench.stm))
    assert bench.stm.gate.mode == "normal"
    engine(gp_sts(bench.stm, **small))
    assert documents.of("stop")[0]["exit_status"] == "success"


def test_other_devices_are_not_moved(dry: Dry, capsys: pytest.CaptureFixture[str]) -> None:
    class Heater:
        name, parent = "heater", None
        asked: list[float] = []

        def set(self, value: float) -> Any:
            raise AssertionError("moved in a dry run")

        def check_value(self, value: float) -> None:
            self.asked.append(value)

        def read(self) -> dict[str, Any]:
            return {"heater": {"value": 4.2, "timestamp": 0.0}}

        def describe(self) -> dict[str, Any]:
            return {"heater": {"dtype": "number", "shape": [], "source": "test"}}

    heater = Heater()

    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.abs_set(heater, 5.0, wait=True)
        assert (yield from bps.rd(heater)) == 4.2
        yield from bps.trigger_and_read([heater])

    dry.engine(plan())
    assert heater.asked == [5.0]
    assert "heater, another device, would be set to 5.0" in capsys.readouterr().out


def test_plan_that_fails_is_put_to_its_end(dry: Dry) -> None:
    @bpp.stage_decorator([dry.stm])
    def plan() -> Any:
        yield from bps.mv(dry.stm.bias, 0.9)
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        dry.engine(plan())
    dry.engine([Msg("stage", dry.stm)])
    assert dry.stm.gate.planned == {}
    dry.stm.stage()
    dry.stm.gate.raise_alarm("for a test")
    with pytest.raises(Alarm):
        dry.engine(survey(dry.stm))


def test_session_that_is_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        Simulator("ws2", time_scale=0.0) as simulator,
        startup.start(
            host="127.0.0.1",
            ports=simulator.ports,
            mode="dry_run",
            catalog=tmp_path / "catalog",
        ) as session,
    ):
        assert session.RE(survey(session.stm)) == ()
        assert session.RE(gp_sts(session.stm)) == ()
        assert list(session.catalog.runs()) == []
        assert simulator.controller.images == simulator.controller.sweeps == 0
    assert "no run filed" in capsys.readouterr().out


def test_rehearsal_within_a_plan_leaves_what_that_has_noted(engine: RunEngine, bench: Any) -> None:
    stm, told = bench.stm, []
    engine.preprocessors.append(guard(stm))
    original = bench.state()

    @bpp.stage_decorator([stm])
    def plan() -> Any:
        yield from bps.mv(stm.bias, 0.9)
        yield from rehearse(survey(stm, pixels=16, lines=4), stm, told.append)
        yield from rehearse(bps.mv(stm.bias, -0.5, stm.scan.pixels, 64), stm, told.append)
        assert stm.bias.get() == pytest.approx(0.9) and stm.changed_by_others() == {}
        yield from bps.mv(stm.tip, (1e-9, 0.0))

    engine(plan())
    assert len([line for line in told if line.startswith("Dry run")]) == 2
    assert bench.state() == original and not stm.staged


def test_settings_go_back_at_the_end_of_a_rehearsed_plan_as_of_a_real_one(dry: Dry) -> None:
    bias = dry.stm.bias

    def plan() -> Any:
        yield from bpp.stage_wrapper(bps.mv(bias, 0.9), [dry.stm])
        assert (yield from bps.rd(bias)) == pytest.approx(1.2)

    dry.engine(plan())


def test_pauses_are_left_out_of_a_rehearsal(engine: RunEngine, bench: Any) -> None:
    stm, told = bench.stm, []

    def plan() -> Any:
        yield from bps.mv(stm.bias, -1.0)
        yield from bps.pause()
        yield from bps.checkpoint()
        yield from bps.mv(stm.tip, (1e-9, 0.0))

    assert engine(rehearse(plan(), stm, told.append)).exit_status == "success"
    assert "the whole plan is allowed" in told[-1]


def test_whoever_interrupts_a_rehearsal_finds_the_microscope_as_it_is(
    engine: RunEngine, bench: Any, when: Callable[..., None]
) -> None:
    stm, seen = bench.stm, []

    def plan() -> Any:
        yield from bps.mv(stm.bias, -1.0)
        while True:
            yield from bps.sleep(1.0)

    engine.msg_hook = seen.append
    when(lambda: seen, lambda: engine.request_pause(defer=False))
    with pytest.raises(RunEngineInterrupted):
        engine(rehearse(plan(), stm))
    engine.msg_hook = None
    assert engine.state == "paused" and stm.gate.mode == "normal"
    assert stm.bias.get() == pytest.approx(1.2)
    stm.bias.put(1.1)
    engine.abort()
    assert stm.gate.mode == "normal" and stm.gate.planned == {}
    assert stm.bias.get() == pytest.approx(1.1)


def test_rehearsal_knows_that_the_plan_withdraws_the_tip(engine: RunEngine, bench: Any) -> None:
    stm, feedback = bench.stm, bench.stm.z_controller.feedback
    engine.preprocessors.append(guard(stm))
    look = {"pixels": 16, "lines": 4}

    def both() -> Any:
        yield from withdraw(stm)
        yield from survey(stm, **look)

    def again() -> Any:
        yield from withdraw(stm)
        yield from bps.mv(stm.tip, (1e-9, 0.0))
        yield from bps.mv(feedback, 1)
        yield from survey(stm, **look)

    def off() -> Any:
        yield from bps.mv(feedback, 1, stm.bias, 1.0)
        yield from bps.mv(feedback, 0)
        yield from bps.mv(stm.tip, (1e-9, 0.0))

    with pytest.raises(ValueError, match="the feedback of stm is off"):
        engine(rehearse(both(), stm))
    with pytest.raises(TipWithdrawn):
        engine(rehearse(bpp.stage_wrapper(again(), [stm]), stm))
    told: list[str] = []
    engine(rehearse(again(), stm, told.append))
    assert "stm_z_controller_withdrawal would be triggered" in told[0]
    assert not stm.z_controller.withdrawn() and feedback.get() == 1
    engine(withdraw(stm))
    bench.clock.advance(10.0)
    engine(rehearse(bpp.pchain(bps.mv(feedback, 1), survey(stm, **look)), stm, told.append))
    assert "allowed as far as" in told[-1]
    with pytest.raises(LimitError, match="while the feedback is off"):
        engine(rehearse(off(), stm))


def test_soft_signals_of_the_user_are_put_back(dry: Dry) -> None:
    signal = Signal(name="note", value=1)

    def plan() -> Any:
        yield from bps.mv(signal, 7)
        assert (yield from bps.rd(signal)) == 7

    dry.engine(plan())
    assert signal.get() == 1


def test_refusal_that_the_plan_catches_is_told(
    dry: Dry, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan() -> Any:
        try:
            yield from bps.mv(dry.stm.bias, 99.0)
        except LimitError:
            yield from bps.trigger_and_read([dry.stm.tip, dry.stm.current])

    dry.engine(bpp.run_wrapper(plan()))
    told = capsys.readouterr().out
    assert "comes to its end, but 1 of its messages was refused (a bias of 99 V" in told
    assert "whole plan is allowed" not in told and "triggered" not in told
