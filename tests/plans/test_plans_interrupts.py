"""Pause, resume, stop, abort, halt and Ctrl-C, in the middle of a sweep and of a decision."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky.preprocessors import pchain, plan_mutator
from bluesky.utils import Msg, RunEngineInterrupted, single_gen

from bluesky_gpsts.plans import gp_sts, survey
from bluesky_gpsts.surrogate import MapOptimizer

THIRD = 3


class Gate:
    """Holds up the optimizer's decision of a given number until the test opens it."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.number:
            self.entered.set()
            assert self.opened.wait(60)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate before the decision that follows the third spectrum."""
    gate, suggest = Gate(THIRD + 1), MapOptimizer.suggest

    def held(self: MapOptimizer, number: int | None = None) -> Any:
        gate()
        return suggest(self, number)

    monkeypatch.setattr(MapOptimizer, "suggest", held)
    yield gate
    gate.opened.set()


def check_complete(documents: Any, spectra: int = 5) -> None:
    """All spectra are there, each once, at places of their own."""
    events = documents.events("primary")
    assert [event["seq_num"] for event in events] == list(range(1, spectra + 1))
    places = {(event["data"]["stm_tip_x"], event["data"]["stm_tip_y"]) for event in events}
    assert len(places) == spectra
    assert {event["data"]["stm_spectroscopy_didv"].shape for event in events} == {(64,)}
    decisions = documents.columns("decisions")
    assert decisions["primary_seq_num"] == [float(n + 1) for n in range(spectra)]
    assert [event["seq_num"] for event in documents.events("decisions")] == list(
        range(1, spectra + 1)
    )
    (stop,) = documents.of("stop")
    assert stop["exit_status"] == "success"
    expected = {"baseline": 2, "primary": spectra, "decisions": spectra, "map": 1}
    assert stop["num_events"] == expected


# ---------------------------------------------------------------- pause and resume


def test_hard_pause_in_the_middle_of_a_sweep(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    original = bench.state()
    bench.hold_sweep(THIRD)
    when(lambda: bench.controller.sweeping(bench.clock.now()), engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(bench.stm, **small))
    assert engine.state == "paused"
    assert bench.client.call("BiasSpectr.StatusGet") == (0,), "the sweep was broken off"
    assert bench.client.call("ZCtrl.StatusGet") == (2,), "the feedback keeps the tip"
    assert len(documents.events("primary")) == 2
    engine.resume()
    check_complete(documents)
    assert bench.controller.sweeps == 6, "the third was taken again, from its beginning"
    assert bench.state() == original


def test_pause_changes_nothing_of_what_is_measured_where(
    make_bench: Callable[..., Any],
    engine: RunEngine,
    documents: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    engine(gp_sts(make_bench().stm, **{**small, "n_spectra": 4}))
    straight = documents.columns("decisions")
    documents.all.clear()
    bench = make_bench()
    bench.hold_sweep(2)
    when(lambda: bench.controller.sweeping(bench.clock.now()), engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(bench.stm, **{**small, "n_spectra": 4}))
    engine.resume()
    paused = documents.columns("decisions")
    # Until the model decides, the points do not depend on the noise of the repeated sweep.
    assert (paused["x"][:3], paused["y"][:3]) == (straight["x"][:3], straight["y"][:3])


@pytest.mark.parametrize("stream", ["decisions", "classes", "map"])
def test_hard_pause_right_after_an_event_does_not_repeat_it(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], stream: str
) -> None:
    names: list[str] = []

    def pause_once(message: Msg) -> tuple[Any, None]:
        if names[-1:] == ["pause now"] and message.command != "checkpoint":
            names.append("done")
            return pchain(single_gen(Msg("pause", defer=False)), single_gen(message)), None
        if message.command == "create":
            names.append(message.kwargs["name"])
        if message.command == "save" and names[-1] == stream and "done" not in names:
            names.append("pause now")
        return None, None

    with pytest.raises(RunEngineInterrupted):
        engine(plan_mutator(gp_sts(bench.stm, **small, classifier="linear"), pause_once))
    assert len(documents.events(stream)) == 1
    engine.resume()
    for kept in ("primary", "decisions", "classes"):
        numbers = documents.columns(kept).get("primary_seq_num", [1.0, 2.0, 3.0, 4.0, 5.0])
        assert sorted(numbers) == [1.0, 2.0, 3.0, 4.0, 5.0], kept
        assert len(documents.events(kept)) == 5
    assert len(documents.events("map")) == 1


def test_deferred_pause_in_the_middle_of_a_sweep(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    original = bench.state()
    bench.hold_sweep(THIRD)

    def pause_later() -> None:
        engine.request_pause(defer=True)
        bench.clock.hold = lambda: False

    when(lambda: bench.controller.sweeping(bench.clock.now()), pause_later)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(bench.stm, **small))
    assert engine.state == "paused"
    assert len(documents.events("primary")) == THIRD, "the sweep went on to its end"
    engine.resume()
    check_complete(documents)
    assert bench.controller.sweeps == 5
    assert bench.state() == original


@pytest.mark.parametrize("defer", [False, True])
def test_pause_in_the_middle_of_a_decision(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    gate: Gate,
    when: Callable[..., None],
    defer: bool,
) -> None:
    original = bench.state()

    def pause() -> None:
        engine.request_pause(defer=defer)
        if defer:
            gate.opened.set()

    when(gate.entered.is_set, pause)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(bench.stm, **small))
    assert engine.state == "paused"
    assert gate.opened.is_set() is defer, "a hard pause does not wait for the optimizer"
    assert len(documents.events("primary")) == THIRD
    gate.opened.set()
    engine.resume()
    check_complete(documents)
    assert gate.count == 5, "no decision was made twice"
    assert bench.controller.sweeps == 5
    assert bench.state() == original


def test_pause_twice(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    plan = gp_sts(bench.stm, **small)
    for number, go_on in ((2, lambda: engine(plan)), (1, engine.resume)):
        bench.hold_sweep(number)
        when(lambda: bench.controller.sweeping(bench.clock.now()), engine.request_pause)
        with pytest.raises(RunEngineInterrupted):
            go_on()
    engine.resume()
    check_complete(documents)


def test_pause_in_the_middle_of_an_image(
    engine: RunEngine, documents: Any, bench: Any, when: Callable[..., None]
) -> None:
    original = bench.state()
    bench.hold_image()
    when(lambda: bench.controller.scanning(bench.clock.now()), engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(survey(bench.stm, pixels=16, lines=8))
    assert bench.client.call("Scan.StatusGet") == (0,)
    engine.resume()
    assert len(documents.events("survey")) == 1
    assert bench.state() == original


# ---------------------------------------------------------------- stop, abort, halt


def interrupt(engine: RunEngine, plan: Any, how: str) -> None:
    """Run a plan that is stopped, aborted or halted, from a pause or while it runs."""
    with pytest.raises(RunEngineInterrupted):
        engine(plan)
    if engine.state == "paused":
        getattr(engine, how)()
    assert engine.state == "idle"


@pytest.mark.parametrize("paused", [True, False], ids=["from a pause", "while running"])
@pytest.mark.parametrize("moment", ["sweep", "decision"])
@pytest.mark.parametrize(
    ("how", "exit_status"), [("stop", "success"), ("abort", "abort"), ("halt", "abort")]
)
def test_end_in_the_middle(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    gate: Gate,
    when: Callable[..., None],
    how: str,
    exit_status: str,
    moment: str,
    paused: bool,
) -> None:
    original = bench.state()
    if moment == "sweep":
        bench.hold_sweep(THIRD)
    when(
        gate.entered.is_set
        if moment == "decision"
        else lambda: bench.controller.sweeping(bench.clock.now()),
        engine.request_pause if paused else getattr(engine, how),
    )
    interrupt(engine, gp_sts(bench.stm, **small), how)
    taken = THIRD if moment == "decision" else THIRD - 1
    assert len(documents.events("primary")) == taken
    assert len(documents.events("decisions")) == taken - (moment == "decision")
    assert documents.all[-1][0] == "stop"
    (stop,) = documents.of("stop")
    assert stop["num_events"]["primary"] == taken
    assert stop["exit_status"] == exit_status
    assert bench.state() == original
    assert bench.client.call("ZCtrl.StatusGet") == (2,)
    assert bench.simulator.truth.crashes == 0
    assert bench.stm.link.connected
    gate.opened.set()


def test_another_run_after_a_halt(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
) -> None:
    bench.hold_sweep(2)
    when(lambda: bench.controller.sweeping(bench.clock.now()), engine.halt)
    interrupt(engine, gp_sts(bench.stm, **small), "halt")
    documents.all.clear()
    engine(gp_sts(bench.stm, **small))
    check_complete(documents)


@pytest.mark.parametrize("how", ["stop", "abort", "halt"])
def test_end_in_the_middle_of_an_image(
    engine: RunEngine, documents: Any, bench: Any, when: Callable[..., None], how: str
) -> None:
    original = bench.state()
    bench.hold_image()
    when(lambda: bench.controller.scanning(bench.clock.now()), getattr(engine, how))
    interrupt(engine, survey(bench.stm, pixels=16, lines=8), how)
    assert bench.state() == original
    assert documents.all[-1][0] == "stop"
    assert documents.events("survey") == []


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill cannot deliver Ctrl-C there")
@pytest.mark.parametrize("go_on", [True, False], ids=["resume", "abort"])
def test_ctrl_c_twice_in_the_middle_of_a_sweep(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    when: Callable[..., None],
    go_on: bool,
) -> None:
    """The first Ctrl-C waits for the end of the sweep, the second breaks it off."""
    original = bench.state()
    bench.hold_sweep(THIRD)

    def ctrl_c_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        # Bluesky takes two within a tenth of a second for one.
        time.sleep(0.15)
        os.kill(os.getpid(), signal.SIGINT)

    when(lambda: bench.controller.sweeping(bench.clock.now()), ctrl_c_twice)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(bench.stm, **small))
    assert engine.state == "paused"
    assert bench.client.call("BiasSpectr.StatusGet") == (0,)
    if go_on:
        engine.resume()
        check_complete(documents)
    else:
        engine.abort()
        assert len(documents.events("primary")) == 2
        assert documents.of("stop")[0]["exit_status"] == "abort"
    assert bench.state() == original
