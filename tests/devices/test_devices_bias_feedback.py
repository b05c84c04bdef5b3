"""Bias and feedback: never near zero bias with the feedback on, and off only when confirmed."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.devices import LimitError, electronics
from bluesky_gpsts.nanonis import CommandError, ConnectionLost
from bluesky_gpsts.simulator import Fault
from bluesky_gpsts.simulator.microscope import CRASH_GAP


class Watcher:
    """Every bias that the tip sees, and whether the feedback was on then."""

    def __init__(self, bench: Any) -> None:
        self.seen: list[tuple[float, bool]] = []
        tip = bench.controller.tip
        original = tip.set_bias

        def set_bias(t: float, bias: float) -> None:
            # Time goes on between two commands, and the feedback follows the new bias.
            original(t, bias)
            tip.update(bench.clock.now())
            bench.clock.advance(5e-3)
            tip.update(bench.clock.now())
            self.seen.append((bias, tip.feedback))

        tip.set_bias = set_bias


@pytest.mark.parametrize("target", [-1.0, -0.02, 0.02, 2.0, -5.0])
def test_change_of_bias_does_no_harm(bench: Any, target: float) -> None:
    watcher, limits = Watcher(bench), bench.stm.instrument_limits
    setpoint = bench.controller.tip.setpoint
    if abs(target) < 0.1:
        # At the usual setpoint the tip would come too near.
        bench.stm.z_controller.setpoint.put(1e-12)
    for bias in (target, 1.2):
        bench.stm.bias.put(bias)
        assert bench.stm.bias.get() == pytest.approx(bias, rel=1e-6)
        assert bench.controller.tip.feedback is True
    assert all(abs(bias) >= limits.smallest_bias - 1e-9 for bias, on in watcher.seen if on)
    with_feedback = [1.2] + [bias for bias, on in watcher.seen if on]
    same_sign = [
        abs(after - before)
        for before, after in zip(with_feedback, with_feedback[1:], strict=False)
        if before * after > 0
    ]
    assert max(same_sign, default=0.0) <= limits.bias_step * (1 + 1e-5)
    truth = bench.simulator.truth
    assert truth.crashes == 0
    assert truth.smallest_gap > CRASH_GAP
    assert truth.largest_current < 20 * setpoint


def test_change_of_sign_switches_the_feedback_off_and_on(bench: Any) -> None:
    watcher = Watcher(bench)
    bench.stm.bias.put(-0.8)
    assert watcher.seen == [(pytest.approx(-0.8), False)]
    assert bench.server.writes == [
        "ZCtrl.OnOffSet",
        "ZCtrl.ZPosSet",
        "Bias.Set",
        "ZCtrl.OnOffSet",
    ]
    assert bench.controller.tip.feedback is True


def test_without_feedback_the_bias_goes_through_zero_in_steps(bench: Any) -> None:
    bench.stm.z_controller.feedback.put(0)
    watcher = Watcher(bench)
    bench.stm.bias.put(-0.3)
    values = [1.2] + [bias for bias, on in watcher.seen]
    assert not any(on for _, on in watcher.seen)
    assert np.all(np.abs(np.diff(values)) <= bench.stm.instrument_limits.bias_step * (1 + 1e-5))
    assert bench.controller.tip.feedback is False
    assert "ZCtrl.OnOffSet" not in bench.server.writes[1:]


def test_what_would_happen_without_the_guard(bench: Any) -> None:
    """The simulator does punish a vanishing bias; else the tests above would show nothing."""
    bench.client.call("Bias.Set", 0.0)
    for _ in range(200):
        bench.clock.advance(5e-3)
        bench.client.call("Bias.Get")
    assert bench.simulator.truth.crashes > 0


def test_feedback_is_off_only_when_reading_says_so(bench: Any, until: Any) -> None:
    """The controller acknowledges at once and switches off after its delay."""
    bench.controller.tip.switch_off_delay = 0.5
    bench.clock.hold = lambda: True
    status = bench.stm.z_controller.feedback.set(0)
    until(lambda: bench.server.commands.count("ZCtrl.OnOffGet") > 3, "polling of the feedback")
    assert not status.done
    assert bench.client.call("ZCtrl.StatusGet") == (4,), "switching off"
    bench.clock.advance(1.0)
    status.wait(timeout=30)
    assert bench.controller.tip.feedback is False
    assert bench.stm.z_controller.feedback.get() == 0


def test_bias_waits_for_the_delay_before_it_changes_sign(bench: Any, until: Any) -> None:
    bench.controller.tip.switch_off_delay = 0.5
    watcher = Watcher(bench)
    bench.clock.hold = lambda: bench.clock.now() < 1.0
    status = bench.stm.bias.set(-1.0)
    until(lambda: bench.server.commands.count("ZCtrl.OnOffGet") > 3, "polling of the feedback")
    assert watcher.seen == [] and not status.done
    bench.clock.advance(1.0)
    status.wait(timeout=30)
    assert watcher.seen == [(pytest.approx(-1.0), False)]


def test_feedback_that_does_not_switch_is_an_error(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electronics, "_FEEDBACK_TIME", 0.05)
    bench.controller.tip.switch_off_delay = 1e6
    bench.clock.hold = lambda: True
    with pytest.raises(TimeoutError, match="switching the feedback off was not done"):
        bench.stm.bias.put(-1.0)
    assert "Bias.Set" not in bench.server.writes
    assert bench.controller.tip.bias == pytest.approx(1.2)


def test_refused_bias_leaves_the_feedback_on(bench: Any) -> None:
    bench.controller.max_bias = 2.0
    with pytest.raises(CommandError, match=r"Bias\.Set"):
        bench.stm.bias.put(-3.0)
    assert bench.controller.tip.feedback is True
    assert bench.controller.tip.bias == pytest.approx(1.2)


def test_after_a_lost_connection_the_feedback_stays_off(bench: Any) -> None:
    """Nobody knows the bias then, and with the feedback on a wrong one is a crash."""
    bench.simulator.inject(Fault("drop", "Bias.Set"))
    with pytest.raises(ConnectionLost, match=r"Bias\.Set"):
        bench.stm.bias.put(-1.0)
    assert bench.server.writes[-1] == "Bias.Set"
    assert bench.controller.tip.feedback is False


def test_two_threads_do_not_mix_their_changes_of_bias(bench: Any) -> None:
    before = threading.active_count()
    targets = [-0.7, 0.9, -0.4, 1.1]
    statuses = [bench.stm.bias.set(target) for target in targets]
    for status in statuses:
        status.wait(timeout=30)
    assert bench.controller.tip.bias in [pytest.approx(target) for target in targets]
    assert bench.controller.tip.feedback is True
    assert bench.simulator.truth.crashes == 0
    assert threading.active_count() < before + 50


def test_withdraw_goes_over_the_free_connection(bench: Any) -> None:
    bench.stm.link.main.close()
    bench.stm.z_controller.withdraw()
    assert bench.server.writes == ["ZCtrl.Withdraw"]
    assert bench.controller.tip.feedback is False


def setpoints(bench: Any) -> list[float]:
    """Setpoints as the controller was told them, from the log of the gate."""
    lines = bench.stm.gate.audit.read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [e["new"][0] for e in entries if e.get("command") == "ZCtrl.SetpntSet"]


def test_setpoint_goes_in_steps_with_the_feedback_on(bench: Any, tmp_path: Path) -> None:
    stm = bench.stm
    stm.gate.audit = tmp_path / "audit.jsonl"
    stm.stage()
    stm.z_controller.setpoint.put(1e-12)
    down = setpoints(bench)
    assert down[-1] == 1e-12 and len(down) == 5
    ratios = [a / b for a, b in zip([3e-11, *down], down, strict=False)]
    assert all(1.0 < ratio <= 2.001 for ratio in ratios), ratios
    stm.unstage()
    back = setpoints(bench)[5:]
    assert back[-1] == pytest.approx(3e-11) and len(back) == 5 and back == sorted(back)
    stm.z_controller.feedback.put(0)
    stm.z_controller.setpoint.put(1e-12)
    assert len(setpoints(bench)) == 11, "with the feedback off nothing moves"
    with pytest.raises(LimitError):
        stm.z_controller.setpoint.put(1e-8)
    assert len(setpoints(bench)) == 11
