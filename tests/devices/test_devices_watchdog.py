"""The watchdog: what it takes for an alarm, and what it does then."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from bluesky_gpsts.devices import Watchdog
from bluesky_gpsts.simulator import Fault


@pytest.fixture
def watchdog(bench: Any) -> Watchdog:
    watchdog = Watchdog(bench.stm, patience=0.2)
    watchdog.prepare()
    return watchdog


def raise_current(bench: Any) -> None:
    """Over the band gap the tip is near; there the loop is opened, and the bias raised."""
    bench.stm.bias.put(-0.9)
    bench.client.call("ZCtrl.OnOffSet", 0)
    bench.client.call("Bias.Set", 4.9)


def test_all_is_well(watchdog: Watchdog) -> None:
    assert [watchdog.look() for _ in range(5)] == [""] * 5


def test_current_above_the_limit_three_times_in_a_row(bench: Any, watchdog: Watchdog) -> None:
    raise_current(bench)
    assert [bool(watchdog.look()) for _ in range(3)] == [False, False, True]
    bench.client.call("Bias.Set", -0.9)
    assert watchdog.look() == "", "and all over again"
    bench.client.call("Bias.Set", 4.9)
    assert watchdog.look() == ""


def test_large_current_is_meant_while_the_tip_is_conditioned(
    bench: Any, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_current(bench)
    monkeypatch.setattr(type(bench.stm.gate), "conditions", True)
    assert [watchdog.look() for _ in range(5)] == [""] * 5


def test_a_tip_shaper_that_lifts_the_tip_does_not_withdraw_it(
    bench: Any, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever status a controller tells meanwhile; one at the top has been withdrawn."""
    (top, _) = bench.client.call("ZCtrl.LimitsGet")
    told = (0.0, 0.5e-9, 6)
    monkeypatch.setattr(watchdog, "_read", lambda: told)
    assert "by another program" in watchdog.look()
    monkeypatch.setattr(type(bench.stm.gate), "conditions", True)
    assert watchdog.look() == ""
    told = (0.0, top, 6)
    assert "by another program" in watchdog.look()


def test_height_out_of_range(bench: Any, watchdog: Watchdog) -> None:
    known = bench.stm.instrument_limits
    bench.stm.instrument_limits = replace(known, z=(1e-8, 195e-9))
    assert "is below 1e-08 m" in [watchdog.look() for _ in range(3)][-1]
    bench.stm.instrument_limits = replace(known, z=(-195e-9, 1e-10))
    assert "is above 1e-10 m, with the feedback on" in watchdog.look()
    bench.client.call("ZCtrl.OnOffSet", 0)
    assert watchdog.look() == "", "a tip that is taken away is not too high"


def test_safe_tip_event_is_an_alarm_at_once(bench: Any, watchdog: Watchdog) -> None:
    bench.simulator.trip_safe_tip()
    assert "safe tip has withdrawn" in watchdog.look()


def test_tip_that_somebody_else_withdraws(bench: Any, watchdog: Watchdog) -> None:
    bench.client.call("ZCtrl.Withdraw", 1, -1)
    assert "by another program" in watchdog.look()
    watchdog.prepare()
    assert watchdog.look() == "", "one that was withdrawn to begin with is no alarm"
    bench.client.call("ZCtrl.OnOffSet", 1)
    bench.clock.advance(1.0)
    assert watchdog.look() == ""
    bench.client.call("ZCtrl.Withdraw", 1, -1)
    assert "by another program" in watchdog.look()


@pytest.mark.parametrize(
    "fault", [Fault("silence", times=9), Fault("drop", after=0, times=9), Fault("garble", times=9)]
)
def test_reading_that_fails_is_an_alarm(bench: Any, watchdog: Watchdog, fault: Fault) -> None:
    bench.simulator.inject(fault)
    assert "cannot read the controller" in watchdog.look()


def test_alarm_withdraws_and_tells(bench: Any, until: Any) -> None:
    told: list[tuple[str, str]] = []

    def tell(reason: str) -> None:
        told.append((reason, threading.current_thread().name))

    with Watchdog(bench.stm, tell, interval=0.001) as watchdog:
        with watchdog.watching():
            until(lambda: watchdog.looks > 3, "a look")
            assert told == []
            bench.simulator.trip_safe_tip()
            until(lambda: told, "the alarm")
    assert "safe tip" in told[0][0] and told[0][1] == "stm-watchdog"
    assert "safe tip" in bench.stm.gate.alarm
    assert bench.controller.tip.feedback is False


def test_nobody_watches_without_a_plan(bench: Any) -> None:
    with Watchdog(bench.stm, interval=0.001) as watchdog:
        with watchdog.watching():
            pass
        bench.server.commands.clear()
        looks = watchdog.looks
        bench.clock.advance(1.0)
    assert watchdog.looks <= looks + 1


def test_watchdog_that_does_not_run(bench: Any) -> None:
    with (
        pytest.raises(RuntimeError, match="session has been closed.*before a plan"),
        Watchdog(bench.stm).watching(),
    ):
        pass
