"""Every write goes through one gate: modes, alarm, audit log, and what is nobody's business."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluesky_gpsts.devices import SIMULATOR_LIMITS, Alarm, DryRun, Gate, LimitError, NanonisSTM
from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.nanonis import CommandTimeout
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator import Fault


@pytest.fixture
def session(bench: Any) -> Any:
    """Start another session on the bench's simulator."""
    with ExitStack() as stack:

        def session(**options: Any) -> NanonisSTM:
            bench.stm.disconnect()
            ports = bench.simulator.ports
            stm = NanonisSTM(ports=(ports[0], ports[1], ports[3]), **options).connect()
            stack.callback(stm.disconnect)
            bench.server.commands.clear()
            return stm

        yield session


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_read_only_session_writes_nothing(bench: Any, session: Callable[..., Any]) -> None:
    stm, original = session(mode="read_only"), bench.state()
    for action in (
        lambda: stm.bias.put(1.0),
        lambda: stm.tip.set((1e-9, 0.0)).wait(timeout=5),
        lambda: stm.spectroscopy.trigger().wait(timeout=5),
        lambda: stm.scan.trigger().wait(timeout=5),
        lambda: stm.piezo.set(None),
    ):
        with pytest.raises(LimitError, match="only reads; start one with mode='normal'"):
            action()
    stm.stage()
    assert stm.bias.get() == pytest.approx(1.2)
    stm.unstage()
    assert bench.server.writes == []
    assert bench.state() == original
    stm.emergency_stop("it can still be stopped")
    assert bench.controller.tip.feedback is False


def test_dry_run_checks_and_writes_nothing(
    bench: Any, session: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    stm, original = session(mode="dry_run", audit=log), bench.state()
    stm.stage()
    stm.bias.put(-0.8)
    stm.z_controller.setpoint.set(4e-11).wait(timeout=5)
    stm.spectroscopy.points.put(11)
    stm.tip.set((2e-9, 0.0)).wait(timeout=5)
    stm.scan.set(Frame(1e-9, 0.0, 4e-9, 4e-9)).wait(timeout=5)
    stm.piezo.set((1e-12, 0.0, 0.0)).wait(timeout=5)
    with pytest.raises(LimitError):
        stm.bias.put(7.0)
    with pytest.raises(LimitError, match="while the feedback is on"):
        stm.bias.put(0.0)
    for device, what in ((stm.spectroscopy, "a sweep of"), (stm.scan, "an image of")):
        with pytest.raises(DryRun, match=f"{what} .* s is allowed and was not taken.*RE\\(plan\\)"):
            device.trigger()
    stm.unstage()
    assert bench.server.writes == []
    assert bench.state() == original
    told = [(line["command"], line["new"]) for line in lines(log) if line["event"] == "dry run"]
    assert ("Bias.Set", [-0.8]) in told
    assert any(command == "BiasSpectr.Start" for command, _ in told)


def test_dry_run_reads_what_the_controller_has(bench: Any, session: Callable[..., Any]) -> None:
    stm = session(mode="dry_run")
    seen: list[float] = []
    stm.bias.subscribe(lambda value, **_: seen.append(value), run=False)
    stm.bias.put(-0.8)
    stm.spectroscopy.points.put(11)
    stm.tip.set((2e-9, 0.0)).wait(timeout=5)
    assert stm.bias.get() == stm.bias.read()["stm_bias"]["value"] == pytest.approx(1.2)
    assert stm.spectroscopy.points.get() == bench.client.call("BiasSpectr.PropsGet")[3]
    assert stm.tip.where() == pytest.approx((0.0, 0.0), abs=1e-12)
    bench.client.call("Bias.Set", 0.9)
    assert stm.bias.get() == pytest.approx(0.9)
    assert -0.8 not in seen


def test_what_a_dry_run_did_not_do_is_not_counted(bench: Any, session: Callable[..., Any]) -> None:
    limits = replace(SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.1, conditioning_per_hour=1)
    stm = session(mode="dry_run", limits=limits)
    stm.pulse.value.put(3.0)
    for _ in range(2):
        with stm.gate.planning():
            stm.pulse.trigger().wait(timeout=5)
    assert stm.gate.conditioned == 0 and bench.server.writes == []


def test_audit_log_has_every_write_with_old_and_new_value(
    bench: Any, session: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    stm = session(audit=log)
    stm.z_controller.setpoint.put(4e-11)
    with pytest.raises(LimitError):
        stm.link.main.call("SafeTip.OnOffSet", 2)
    stm.link.main.timeout = 0.2
    bench.simulator.inject(Fault("silence", "LockIn.ModAmpSet"))
    with pytest.raises(CommandTimeout):
        stm.lock_in.amplitude.put(0.01)
    entries = lines(log)
    assert [entry["event"] for entry in entries] == ["write", "refused", "write", "failed"]
    assert {entry["command"] for entry in entries} == {
        "ZCtrl.SetpntSet",
        "SafeTip.OnOffSet",
        "LockIn.ModAmpSet",
    }
    first, refused, unknown, failed = entries
    assert first["old"] == [pytest.approx(3e-11)] and first["new"] == [4e-11]
    assert unknown["old"] == [pytest.approx(5e-3)] and unknown["new"] == [1, 0.01]
    assert "may send" in refused["error"] and "CommandTimeout" in failed["error"]
    assert all("@" in entry["who"] and "T" in entry["time"] for entry in entries)
    assert [entry["command"] for entry in entries if entry["event"] == "write"] == (
        bench.server.writes
    )


@pytest.mark.parametrize(
    "command",
    [
        ("Bias.CalibrSet", 1.0, 0.0),
        ("Piezo.RangeSet", 1e-6, 1e-6, 1e-6),
        ("Motor.FreqAmpSet", 1000.0, 100.0, 0),
        ("Motor.StartMove", 5, 1, 0, 0),
        ("AutoApproach.OnOffSet", 1),
        ("SafeTip.OnOffSet", 2),
        ("Util.Quit", 0, "", "", 0),
        ("ZCtrl.LimitsSet", 1e-7, -1e-7),
    ],
)
def test_what_a_program_may_not_send(bench: Any, command: tuple[Any, ...]) -> None:
    with pytest.raises(LimitError, match="is not a command that this program may send"):
        bench.stm.link.main.call(*command)
    assert bench.server.writes == []


def test_alarm_forbids_writing_until_a_person_has_looked(bench: Any) -> None:
    stm = bench.stm
    stm.stage()
    stm.bias.put(0.8)
    assert stm.emergency_stop("for a test") == []
    assert bench.controller.tip.feedback is False
    bench.server.commands.clear()
    for action in (
        lambda: stm.bias.put(1.0),
        lambda: stm.z_controller.feedback.put(1),
        lambda: stm.tip.set((1e-9, 0.0)),
    ):
        with pytest.raises((Alarm, LimitError, TipWithdrawn)):
            action()
    stm.unstage()
    assert bench.server.writes == [], "and nothing is restored"
    with pytest.raises(Alarm, match="for a test.*stm.reset_alarm"):
        stm.stage()
    stm.reset_alarm()
    stm.stage()


def test_emergency_stop_reaches_the_controller_over_any_port(bench: Any) -> None:
    """The emergency connection is cut, its port taken, and the main one too: one port is left."""
    stm, ports = bench.stm, bench.simulator.ports
    stm.halting = 0.5
    bench.client.close()
    bench.simulator.inject(Fault("drop", "ZCtrl.Withdraw"))
    assert stm.emergency_stop("for a test") == []
    assert bench.controller.tip.feedback is False
    assert bench.server.writes.count("ZCtrl.Withdraw") >= 2
    assert len(ports) == 4


def test_emergency_stop_in_the_middle_of_a_sweep(bench: Any, until: Any) -> None:
    stm = bench.stm
    bench.hold_sweep()
    status = stm.spectroscopy.trigger()
    until(lambda: bench.controller.sweeps == 1, "the sweep")
    stm.emergency_stop("for a test")
    with pytest.raises(Exception, match="broken off|columns|withdrawn"):
        status.wait(timeout=10)
    assert bench.controller.tip.feedback is False
    assert bench.client.call("BiasSpectr.StatusGet") == (0,)


def test_pulses_and_indentations_are_counted() -> None:
    now = [0.0]
    limits = replace(
        SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.1, depth=1e-9, conditioning_per_hour=2
    )
    gate = Gate(limits, clock=lambda: now[0])
    pulse = ("Bias.Pulse", (1, 0.05, 3.0, 1, 2))
    assert gate.admit(*pulse)
    with pytest.raises(LimitError, match="how deep has not been read"):
        gate.admit("TipShaper.Start", (1, 1000))
    shape = [0.1, 1, 0.5, -0.8e-9, 0.1, 0.5, 0.1, 1e-9, 0.1, 0.1, 1]
    gate.remember("TipShaper.PropsGet", (), shape)
    assert gate.admit("TipShaper.Start", (1, 1000))
    with pytest.raises(LimitError, match="allows 2 in an hour"):
        gate.admit(*pulse)
    now[0] = 3601.0
    assert gate.admit(*pulse)
    for wrong in ((1, 0.05, 4.5, 1, 2), (1, 0.2, 3.0, 1, 2), (1, 0.05, 3.0, 1, 1)):
        with pytest.raises(LimitError):
            gate.admit("Bias.Pulse", wrong)
    gate.remember("TipShaper.PropsGet", (), [0.1, 1, 0.5, -0.8e-9, 0.1, 0.5, 0.1, -1e-9, 0, 0, 1])
    with pytest.raises(LimitError, match="indentation of 1.8e-09"):
        gate.admit("TipShaper.Start", (1, 1000))


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="'normal', 'read_only' or 'dry_run', not 'readonly'"):
        NanonisSTM(mode="readonly")  # type: ignore[arg-type]
