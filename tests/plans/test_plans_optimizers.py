"""Optimizers of one's own, stopping rules, and work off the RunEngine's loop."""

import math
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, Msg, RunEngineInterrupted

from bluesky_gpsts.plans import gp_sts
from bluesky_gpsts.plans.stubs import in_run, off_loop, plain_errors


class Raster:
    """The least that the plan takes: bluesky-adaptive's protocols and nothing more."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.points: list[dict[str, Any]] = []
        self.threads: set[str] = set()

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        self.threads.add(threading.current_thread().name)
        number = len(self.points)
        return [{"_id": f"point {number}", "x": 1e-10 * number, "y": -2e-10}]

    def ingest(self, points: list[dict[str, Any]]) -> None:
        self.points += points

    def get_best_points(self) -> list[Any]:
        return []

    def should_stop(self) -> tuple[bool, str | None]:
        return len(self.points) >= self.count, "the raster is complete"


def test_optimizer_of_ones_own(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    raster = Raster(3)
    result = engine(gp_sts(bench.stm, **small, optimizer=raster))
    assert result.plan_result == documents.of("stop")[0]["reason"] == "the raster is complete"
    assert documents.of("start")[0]["plan_args"]["optimizer"] == "Raster"
    spectra, decisions = documents.columns("primary"), documents.columns("decisions")
    np.testing.assert_allclose(spectra["stm_tip_x"], [0.0, 1e-10, 2e-10], atol=1e-13)
    assert decisions["y"] == [-2e-10] * 3
    assert decisions["reason"] == ["Raster"] * 3
    for name in ("acquisition_value", "posterior_mean", "posterior_std", "n_data", "trained"):
        assert np.isnan(decisions[name]).all(), "it does not tell, so nobody knows"
    assert np.isnan(decisions["hyperparameters"]).all()
    assert [set(point) for point in raster.points] == [
        {"_id", "figure_of_merit", "figure_of_merit_variance"}
    ] * 3
    assert [point["_id"] for point in raster.points] == ["point 0", "point 1", "point 2"]
    assert [point["figure_of_merit"] for point in raster.points] == spectra["figure_of_merit"]
    assert raster.threads == {"optimizer_0"}, "off the RunEngine's thread, one at a time"


def test_optimizer_of_ones_own_conforms_to_the_protocols() -> None:
    from bluesky_adaptive.protocols import Optimizer, SupportsStoppingCriteria

    assert isinstance(Raster(1), Optimizer)
    assert isinstance(Raster(1), SupportsStoppingCriteria)


def test_budget_ends_an_optimizer_that_never_stops(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    result = engine(gp_sts(bench.stm, **{**small, "n_spectra": 2}, optimizer=Raster(10**9)))
    assert result.plan_result == "2 spectra were taken"
    assert len(documents.events("primary")) == 2


def test_optimizer_that_fails(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    original = bench.state()

    class Failing(Raster):
        def ingest(self, points: list[dict[str, Any]]) -> None:
            super().ingest(points)
            if len(self.points) == 2:
                raise ArithmeticError("the matrix is singular")

    with pytest.raises(ArithmeticError, match="singular"):
        engine(gp_sts(bench.stm, **small, optimizer=Failing(5)))
    (stop,) = documents.of("stop")
    assert (stop["exit_status"], stop["reason"]) == ("fail", "the matrix is singular")
    assert len(documents.events("primary")) == 2, "the spectrum it failed over is documented"
    assert bench.state() == original


def test_optimizer_that_suggests_a_place_out_of_reach(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    original = bench.state()

    class Far(Raster):
        def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
            return [{"_id": 0, "x": 1e-3, "y": 0.0}]

    with pytest.raises(ValueError, match="the position at x"):
        engine(gp_sts(bench.stm, **small, optimizer=Far(1)))
    assert documents.of("stop")[0]["exit_status"] == "fail"
    assert bench.state() == original


def test_target_std_stops_early_and_says_so(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    result = engine(
        gp_sts(bench.stm, **{**small, "n_spectra": 40, "n_initial": 4}, target_std=100.0)
    )
    reason = documents.of("stop")[0]["reason"]
    assert result.plan_result == reason
    assert "wanted 100" in reason and "standard deviation" in reason
    assert len(documents.events("primary")) == 4, "as soon as the initial points are there"
    assert documents.of("start")[0]["plan_args"]["target_std"] == 100.0


def test_all_candidates_measured_ends_the_plan(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    result = engine(gp_sts(bench.stm, **{**small, "n_spectra": 10, "grid": (2, 2)}))
    assert "all 4 candidates" in result.plan_result
    assert len(documents.events("primary")) == 4


# ---------------------------------------------------------------- building blocks


@pytest.fixture
def executor() -> Generator[ThreadPoolExecutor, None, None]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_off_loop_returns_the_result(engine: RunEngine, executor: ThreadPoolExecutor) -> None:
    threads: list[int] = []

    def work() -> int:
        threads.append(threading.get_ident())
        return 42

    def plan() -> Generator[Msg, Any, int]:
        threads.append(threading.get_ident())
        return (yield from off_loop(executor, work))

    assert engine(plan()).plan_result == 42
    assert threads[0] != threads[1]


def test_off_loop_raises_in_the_plan(engine: RunEngine, executor: ThreadPoolExecutor) -> None:
    def work() -> None:
        raise LookupError("nothing there")

    def plan() -> Generator[Msg, Any, str]:
        try:
            yield from off_loop(executor, work)
        except LookupError as error:
            return f"caught {error}"
        return "nothing"

    assert engine(plan()).plan_result == "caught nothing there"


def test_off_loop_is_not_repeated_by_a_replay(
    engine: RunEngine, executor: ThreadPoolExecutor, when: Any
) -> None:
    """Paused in the middle, the plan goes back to its checkpoint; the work goes on meanwhile."""
    calls: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def work() -> int:
        calls.append(1)
        begun.set()
        assert go_on.wait(60)
        return len(calls)

    messages: list[str] = []
    engine.msg_hook = lambda message: messages.append(message.command)

    def plan() -> Generator[Msg, Any, int]:
        yield from bps.checkpoint()
        yield from bps.null()
        return (yield from off_loop(executor, work))

    when(begun.is_set, engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(plan())
    go_on.set()
    assert engine.resume().plan_result == 1
    assert calls == [1]
    assert messages.count("wait_for") == 2, "the message was replayed, the work was not"


def test_the_engine_stays_responsive_during_the_work(
    engine: RunEngine, executor: ThreadPoolExecutor, when: Any
) -> None:
    begun, never = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        never.wait(60)

    def plan() -> Generator[Msg, Any, None]:
        yield from bps.checkpoint()
        yield from off_loop(executor, work)

    when(begun.is_set, engine.abort)
    with pytest.raises(RunEngineInterrupted):
        engine(plan())
    assert engine.state == "idle" and not never.is_set()
    never.set()


def test_plain_errors(engine: RunEngine) -> None:
    class Cause(Exception):
        pass

    def failing(cause: BaseException | None) -> Generator[Msg, Any, None]:
        yield from bps.null()
        raise FailedStatus("a status") from cause

    with pytest.raises(Cause, match="what was wrong"):
        engine(plain_errors(failing(Cause("what was wrong"))))
    with pytest.raises(FailedStatus):
        engine(plain_errors(failing(None)))


def test_in_run_tells_why_it_ended(engine: RunEngine, documents: Any) -> None:
    def plan(reason: str) -> Generator[Msg, Any, str]:
        yield from bps.null()
        if not reason:
            raise LookupError("nothing to do")
        return reason

    assert engine(in_run(plan("done"), {"a": 1})).plan_result == "done"
    with pytest.raises(LookupError):
        engine(in_run(plan(""), {}))
    assert [(d["exit_status"], d["reason"]) for d in documents.of("stop")] == [
        ("success", "done"),
        ("fail", "nothing to do"),
    ]
    assert documents.of("start")[0]["a"] == 1
    assert math.isfinite(documents.of("stop")[0]["time"])
