"""When something breaks: the run is closed, nothing taken is lost, the tip is safe."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from bluesky_gpsts.devices import WriteRefused
from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.nanonis import CommandError, CommandTimeout, ConnectionLost, NanonisError
from bluesky_gpsts.plans import gp_sts, survey
from bluesky_gpsts.plans.stubs import in_run
from bluesky_gpsts.simulator import Fault


class Third:
    """Calls `action` when the third spectrum is documented."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if name == "event" and "figure_of_merit" in document["data"] and document["seq_num"] == 3:
            self.action()


def check_ended(documents: Any, bench: Any, spectra: int, reason: str) -> None:
    assert documents.all[-1][0] == "stop"
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "fail"
    assert reason in stop["reason"]
    assert "Status(" not in stop["reason"]
    assert len(documents.events("primary")) == stop["num_events"].get("primary", 0) == spectra
    assert bench.simulator.truth.crashes == 0


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Bluesky logs the traceback of every failed plan."""
    caplog.set_level(logging.CRITICAL, logger="bluesky")


def test_exception_in_a_callback(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    original = bench.state()

    def fail() -> None:
        raise ZeroDivisionError("a callback of the user's")

    engine.subscribe(Third(fail))
    with pytest.raises(ZeroDivisionError, match="of the user's"):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "a callback of the user's")
    assert bench.state() == original


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("drop", "BiasSpectr.Start"), ConnectionLost),
        (Fault("drop", "BiasSpectr.Start", after=500), ConnectionLost),
        (Fault("wrong name", "BiasSpectr.Start"), NanonisError),
    ],
    ids=["drop in the header", "drop in the data", "wrong name"],
)
def test_sweep_whose_reply_is_lost(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    fault: Fault,
    error: type[Exception],
) -> None:
    original = bench.state()
    engine.subscribe(Third(lambda: bench.simulator.inject(fault)))
    with pytest.raises(error, match=r"BiasSpectr\.Start"):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "BiasSpectr.Start")
    assert bench.state() == original
    assert bench.stm.link.connected
    assert bench.controller.sweeps == 4, "a sweep is not repeated of its own accord"
    documents.all.clear()
    engine(gp_sts(bench.stm, **{**small, "n_spectra": 1}))
    assert documents.of("stop")[0]["exit_status"] == "success"


def test_sweep_without_an_answer(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = bench.state()
    sts = bench.stm.spectroscopy
    monkeypatch.setattr(sts, "patience", 0.2)
    monkeypatch.setattr(sts, "check", lambda: 0.2)
    engine.subscribe(Third(lambda: bench.simulator.inject(Fault("silence", "BiasSpectr.Start"))))
    with pytest.raises(CommandTimeout, match=r"BiasSpectr\.Start: no complete reply"):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "no complete reply")
    assert bench.state() == original


def test_controller_that_stops_answering(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """Nothing comes from the main port any more: the tip is withdrawn over another."""
    link = bench.stm.link
    link.main.timeout = link.data.timeout = link.emergency.timeout = 0.2
    # A move that starts, whose position is never told, and settings that cannot be read.
    silence = [Fault("silence", name, times=100) for name in ("FolMe.XYPosGet", "Scan.FrameGet")]

    def hang() -> None:
        for fault in silence:
            bench.simulator.inject(fault)

    engine.subscribe(Third(hang))
    with pytest.raises(CommandTimeout):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "no complete reply")
    assert bench.server.writes[-1] == "ZCtrl.Withdraw"
    assert bench.controller.tip.feedback is False
    assert bench.controller.tip.z == pytest.approx(bench.controller.tip.z_limits[0])


def test_simulator_that_goes_away(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    link = bench.stm.link
    link.main.timeout = link.data.timeout = link.emergency.timeout = 0.5
    engine.subscribe(Third(bench.simulator.close))
    with pytest.raises(ConnectionError):
        engine(gp_sts(bench.stm, **small))
    assert documents.of("stop")[0]["exit_status"] == "fail"
    assert len(documents.events("primary")) == 3
    assert engine.state == "idle"


def test_safe_tip_event_between_two_spectra(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """The controller has withdrawn the tip: no more spectra, and nobody brings it back."""
    original = bench.state()
    engine.subscribe(Third(bench.simulator.trip_safe_tip))
    with pytest.raises(TipWithdrawn, match="find out why"):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "the tip was withdrawn")
    state = bench.state()
    assert {name for name in state if state[name] != original[name]} == {"ZCtrl.OnOffGet"}
    assert bench.client.call("ZCtrl.StatusGet") == (5,)


def test_move_that_the_controller_refuses(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """Somebody has started a scan by hand, and the controller refuses to move the tip."""
    original = bench.state()

    def scan_by_hand() -> None:
        bench.hold_image()
        bench.client.call("Scan.Action", 0, 1)

    engine.subscribe(Third(scan_by_hand))
    with pytest.raises(CommandError, match="a scan is running"):
        engine(gp_sts(bench.stm, **small))
    check_ended(documents, bench, 3, "a scan is running")
    assert bench.state() == original


def test_spectrum_that_is_not_finite(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is kept, it is not part of the map, and the run goes on."""
    original = bench.state()
    measured = bench.simulator.sample.__class__.lockin
    calls: list[int] = []

    def lockin(self: Any, *arguments: Any) -> np.ndarray:
        calls.append(1)
        answer = np.asarray(measured(self, *arguments))
        return np.full_like(answer, np.nan) if len(calls) == 3 else answer

    monkeypatch.setattr(bench.simulator.sample.__class__, "lockin", lockin)
    engine(gp_sts(bench.stm, **small))
    finite = np.isfinite(documents.columns("primary")["figure_of_merit"])
    assert len(finite) == 5 and 1 <= np.count_nonzero(~finite) < 5
    failures = np.array(documents.columns("decisions")["failure"])
    assert all("not finite" in text for text in failures[~finite])
    assert set(failures[finite]) == {""}
    assert bench.state() == original


def test_setting_whose_reply_is_lost(engine: RunEngine, documents: Any, bench: Any) -> None:
    original = bench.state()
    bench.simulator.inject(Fault("drop", "Scan.BufferSet"))
    with pytest.raises(ConnectionLost, match=r"Scan\.BufferSet"):
        engine(survey(bench.stm, pixels=32, lines=16))
    assert documents.all == [], "the run had not begun"
    assert bench.state() == original


def test_lost_connection_in_the_middle_of_an_image(
    engine: RunEngine, documents: Any, bench: Any
) -> None:
    original = bench.state()
    bench.simulator.inject(Fault("drop", "Scan.FrameDataGrab", after=300, times=2))
    with pytest.raises(ConnectionLost, match=r"Scan\.FrameDataGrab"):
        engine(survey(bench.stm, pixels=32, lines=16))
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "fail" and "FrameDataGrab" in stop["reason"]
    assert bench.state() == original


def test_a_plan_that_cannot_be_resumed_says_why_it_ended(engine: RunEngine, documents: Any) -> None:
    def plan() -> Iterator[Any]:
        yield from bps.clear_checkpoint()
        yield from bps.pause()
        yield from bps.null()
        return ""

    with pytest.raises(RunEngineInterrupted):
        engine(in_run(plan(), {}))
    (end,) = documents.of("stop")
    assert end["reason"] == (
        "interrupted where a plan cannot be resumed, such as with the tip in contact"
    )


def test_a_move_in_a_session_that_only_reads_says_so(engine: RunEngine, bench: Any) -> None:
    bench.stm.gate.mode = "read_only"
    with pytest.raises(WriteRefused, match="stm_bias is not written: this session only reads"):
        engine(bps.mv(bench.stm.bias, 0.5))
    assert bench.server.writes == []


def test_survey_that_an_operator_stops_says_how_much_there_is(
    engine: RunEngine, documents: Any, bench: Any, when: Callable[..., None]
) -> None:
    bench.hold_image()

    def stop() -> None:
        bench.clock.advance(6.0)
        bench.client.call("Scan.Action", 1, 0)

    when(lambda: bench.controller.scanning(bench.clock.now()), stop)
    result = engine(survey(bench.stm, pixels=32, lines=24, line_time=0.25))
    (event,), (end,) = documents.events("survey"), documents.of("stop")
    whole = int(np.isfinite(event["data"]["stm_scan_forward"]).all(axis=1).sum())
    assert 0 < whole < 24 and end["exit_status"] == "success"
    assert f"the image has {whole} of 24 lines: it was stopped at the controller" in end["reason"]
    assert result.plan_result == documents.of("start")[0]["uid"]
    engine(survey(bench.stm, pixels=32, lines=24))
    assert documents.of("stop")[1]["reason"] == ""
