"""The controller goes back to what it was, feedback last; or else the tip is withdrawn."""

from collections.abc import Callable
from typing import Any

import pytest

from bluesky_gpsts.devices import LimitError, electronics
from bluesky_gpsts.devices.settings import SETTINGS, read_settings
from bluesky_gpsts.nanonis import Client, CommandTimeout, NanonisError
from bluesky_gpsts.nanonis.commands import RELEASES
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator import Fault

SETS = {setting.set for setting in SETTINGS.values()}


def change_everything(bench: Any) -> None:
    """Leave no setting that a plan may change as it was, and the feedback off at another bias."""
    stm = bench.stm
    stm.scan.set(Frame(1e-9, -1e-9, 4e-9, 5e-9, 12.0)).wait(timeout=10)
    for signal, value in (
        (stm.scan.pixels, 48),
        (stm.scan.line_time, 0.3),
        (stm.tip.speed, 7e-9),
        (stm.spectroscopy.start, 0.9),
        (stm.spectroscopy.points, 55),
        (stm.spectroscopy.z_offset, -1e-11),
        (stm.spectroscopy.integration, 0.033),
        (stm.lock_in.on, 1),
        (stm.lock_in.amplitude, 0.011),
        (stm.lock_in.frequency, 811.0),
        (stm.lock_in.phase, 12.0),
        (stm.shaper.lift, -6e-10),
        (stm.z_controller.p_gain, 8e-12),
        (stm.z_controller.setpoint, 6e-11),
        (stm.bias, -0.7),
        (stm.z_controller.feedback, 0),
    ):
        signal.put(value)
    stm.piezo.set((1e-12, -2e-12, 0.5e-12)).wait(timeout=10)
    stm.link.main.call("BiasSpectr.ChsSet", [0])
    stm.link.main.call("BiasSpectr.AdvPropsSet", 2, 2, 1, 1)


@pytest.mark.parametrize("release", RELEASES)
def test_unstage_restores_everything_with_feedback_last(
    make_bench: Callable[..., Any], release: int
) -> None:
    bench = make_bench(protocol_release=release)
    original = bench.state()
    bench.stm.stage()
    change_everything(bench)
    assert bench.state() != original
    bench.server.commands.clear()
    bench.stm.unstage()
    writes = bench.server.writes
    assert bench.state() == original
    assert writes[-1] == "ZCtrl.OnOffSet"
    first_bias = writes.index("Bias.Set")
    last_setting = max(
        place
        for place, name in enumerate(writes)
        if name in SETS - {"Bias.Set", "ZCtrl.SetpntSet", "ZCtrl.OnOffSet"}
    )
    # The setpoint was raised, and is lowered before the bias changes: the gap only widens.
    assert last_setting < writes.index("ZCtrl.SetpntSet") < first_bias < len(writes) - 1
    assert writes.count("ZCtrl.OnOffSet") == 1
    assert bench.simulator.truth.crashes == 0


def test_every_group_of_settings_is_restored(bench: Any) -> None:
    snapshot = read_settings(bench.client)
    assert set(snapshot) == set(SETTINGS)
    bench.stm.stage()
    change_everything(bench)
    changed = read_settings(bench.client)
    same = {
        name
        for name in SETTINGS
        if [str(value) for value in changed[name]] == [str(value) for value in snapshot[name]]
    }
    assert same == {"scan_props"}, "the test must change every group for the next line to count"
    bench.stm.unstage()
    restored = read_settings(bench.client)
    for name in SETTINGS:
        assert [str(v) for v in restored[name]] == [str(v) for v in snapshot[name]], name


def test_nothing_is_written_where_nothing_changed(bench: Any) -> None:
    bench.stm.stage()
    bench.server.commands.clear()
    bench.stm.unstage()
    restored = {name for name in bench.server.writes if name in SETS}
    assert restored == set(), "a setting that is as it was is left alone"


def test_feedback_that_was_off_stays_off(bench: Any) -> None:
    bench.client.call("ZCtrl.OnOffSet", 0)
    original = bench.state()
    bench.stm.stage()
    bench.stm.bias.put(-0.5)
    bench.stm.unstage()
    assert bench.state() == original
    assert "ZCtrl.OnOffSet" not in bench.server.writes[1:]


def test_modules_are_stopped_first(bench: Any, until: Any) -> None:
    stm = bench.stm
    original = bench.state()
    stm.stage()
    stm.spectroscopy.points.put(32)
    bench.hold_sweep()
    status = stm.spectroscopy.trigger()
    until(lambda: bench.controller.sweeps == 1, "the sweep")
    bench.server.commands.clear()
    stm.unstage()
    assert bench.server.writes[0] == "BiasSpectr.Stop"
    assert status.exception(timeout=30) is None, "whoever unstages knows that it was stopped"
    assert bench.state() == original

    stm.stage()
    bench.hold_image()
    status = stm.scan.trigger()
    bench.server.commands.clear()
    stm.unstage()
    assert bench.server.writes[0] == "Scan.Action"
    assert status.exception(timeout=30) is None
    assert bench.state() == original


def test_image_of_the_operator_is_stopped_too(bench: Any) -> None:
    """What the controller does matters, not what this program thinks it does."""
    original = bench.state()
    bench.stm.stage()
    bench.hold_image()
    bench.client.call("Scan.Action", 0, 1)
    bench.stm.unstage()
    assert bench.state() == original


@pytest.mark.parametrize("role", ["main", "data", "emergency"])
def test_broken_connection_is_opened_again_and_all_restored(bench: Any, role: str) -> None:
    original = bench.state()
    bench.stm.stage()
    change_everything(bench)
    getattr(bench.stm.link, role).close()
    bench.stm.unstage()
    assert bench.state() == original
    assert bench.stm.link.connected


def quick(bench: Any) -> None:
    link = bench.stm.link
    link.main.timeout = link.data.timeout = link.emergency.timeout = 1.0


@pytest.mark.parametrize(
    "silent",
    [
        "BiasSpectr.StatusGet",
        "Scan.FrameSet",
        "Bias.Set",
        "ZCtrl.OnOffSet",
    ],
)
def test_controller_that_does_not_answer_gets_nothing_but_withdraw(bench: Any, silent: str) -> None:
    quick(bench)
    bench.stm.stage()
    change_everything(bench)
    bench.server.commands.clear()
    bench.simulator.inject(Fault("silence", silent, times=2))
    with pytest.raises(CommandTimeout, match=silent):
        bench.stm.unstage()
    writes = bench.server.writes
    assert writes[-1] == "ZCtrl.Withdraw"
    after = writes[writes.index(silent) + 1 :] if silent in writes else writes
    assert after == ["ZCtrl.Withdraw"]
    assert bench.controller.tip.feedback is False
    bench.server.commands.clear()
    bench.stm.unstage()
    assert bench.server.writes == [], "and nothing later either"


def test_module_that_does_not_stop_means_withdraw(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.stm.stage()
    bench.stm.lock_in.amplitude.put(0.02)
    bench.hold_image()
    bench.client.call("Scan.Action", 0, 1)
    monkeypatch.setattr(bench.controller, "stop_scan", lambda t: None)
    bench.server.commands.clear()
    with pytest.raises(TimeoutError, match="goes on scanning or sweeping"):
        bench.stm.unstage()
    assert bench.server.writes == ["Scan.Action", "FolMe.Stop", "ZCtrl.Withdraw"]


def test_withdraw_needs_the_emergency_connection_alone(bench: Any) -> None:
    """The main port is gone for good; the tip is withdrawn over the last one."""
    quick(bench)
    link = bench.stm.link
    bench.stm.stage()
    change_everything(bench)
    bench.server.commands.clear()
    link.main.close()
    # Another program has taken the port.
    with Client("127.0.0.1", link.main.port), pytest.raises(NanonisError):
        bench.stm.unstage()
    assert bench.server.writes == ["ZCtrl.Withdraw"]


def test_bias_that_may_not_be_restored_means_withdraw(bench: Any) -> None:
    """The operator had been beyond the limits; the way back there is not ours to go."""
    bench.client.call("Bias.Set", 6.0)
    bench.stm.stage()
    bench.stm.bias.put(4.0)
    bench.server.commands.clear()
    with pytest.raises(LimitError, match="a bias of 6 V"):
        bench.stm.unstage()
    assert bench.server.writes[-1] == "ZCtrl.Withdraw"
    assert "Bias.Set" not in bench.server.writes


def test_tip_that_the_safe_tip_has_withdrawn_stays_so(bench: Any) -> None:
    bench.stm.stage()
    bench.stm.lock_in.amplitude.put(0.02)
    bench.clock.hold = lambda: True
    bench.simulator.trip_safe_tip()
    bench.clock.hold = lambda: False
    bench.stm.unstage()
    assert bench.controller.tip.feedback is False
    assert bench.client.call("ZCtrl.StatusGet") == (5,)
    assert bench.controller.lockin.amplitude == pytest.approx(5e-3)


def test_feedback_that_does_not_come_back_means_withdraw(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electronics, "_FEEDBACK_TIME", 0.05)
    bench.stm.stage()
    bench.stm.z_controller.feedback.put(0)
    monkeypatch.setattr(bench.controller.tip, "set_feedback", lambda t, on: t)
    with pytest.raises(TimeoutError, match="switching the feedback on"):
        bench.stm.unstage()
    assert bench.server.writes[-1] == "ZCtrl.Withdraw"


def test_staging_that_fails_leaves_the_controller_as_it_was(bench: Any) -> None:
    quick(bench)
    original = bench.state()
    bench.simulator.inject(Fault("drop", "BiasSpectr.AdvPropsSet"))
    with pytest.raises(ConnectionError):
        bench.stm.stage()
    bench.stm.unstage()
    assert bench.state() == original


def test_connect_and_disconnect(bench: Any) -> None:
    stm = bench.stm
    assert stm.link.connected
    stm.disconnect()
    assert not stm.link.connected
    assert stm.connect() is stm
    assert stm.bias.get() == pytest.approx(1.2)
    stm.disconnect()


def test_withdraw_takes_any_port_if_its_own_is_lost(bench: Any) -> None:
    """Nothing is known of the controller then: nothing is written but Withdraw."""
    quick(bench)
    bench.stm.halting = 0.3
    bench.stm.stage()
    change_everything(bench)
    bench.client.close()
    bench.server.commands.clear()
    bench.simulator.inject(Fault("silence", "Bias.Set"))
    bench.simulator.inject(Fault("drop", "ZCtrl.Withdraw", after=0))
    bench.controller.tip.set_feedback(bench.clock.now(), True)
    with pytest.raises(CommandTimeout):
        bench.stm.unstage()
    writes = bench.server.writes
    assert set(writes[writes.index("Bias.Set") + 1 :]) == {"ZCtrl.Withdraw"}
    assert writes.count("ZCtrl.Withdraw") >= 2
    assert bench.controller.tip.feedback is False


def test_what_the_operator_has_changed_stays_and_the_rest_goes_back(bench: Any) -> None:
    stm, call = bench.stm, bench.client.call
    stm.stage()
    stm.bias.put(0.9)
    stm.lock_in.amplitude.put(0.02)
    call("ZCtrl.OnOffSet", 0)
    stm.unstage()
    state = bench.state()
    assert state["ZCtrl.OnOffGet"] == [0], "switched off, and it stays off"
    assert state["Bias.Get"] == pytest.approx([1.2])
    assert state["LockIn.ModAmpGet"] == pytest.approx([5e-3])
    call("ZCtrl.OnOffSet", 1)
    stm.stage()
    stm.z_controller.setpoint.put(4e-12)
    call("Bias.Set", 0.1)
    stm.unstage()
    state = bench.state()
    assert state["Bias.Get"] == pytest.approx([0.1])
    assert state["ZCtrl.SetpntGet"] == pytest.approx([4e-12]), "30 pA do not go with 0.1 V"
    assert bench.simulator.truth.crashes == 0
    assert not stm.gate.alarm


@pytest.mark.parametrize("kind", ["silence", "drop", "garble"])
def test_write_whose_outcome_is_unknown_is_nobody_elses(bench: Any, kind: str) -> None:
    """The controller has carried it out, and its reply is lost: it is put back."""
    quick(bench)
    original = bench.state()
    bench.stm.stage()
    bench.simulator.inject(Fault(kind, "Bias.Set", times=1))
    with pytest.raises((NanonisError, ConnectionError)):
        bench.stm.bias.put(1.19)
    bench.stm.unstage()
    assert bench.state() == original


@pytest.mark.parametrize(
    ("told", "command"),
    [
        ("ZCtrl.GainGet", ("ZCtrl.GainSet", 1e-12, 2e-4, 5e-9)),
        ("FolMe.SpeedGet", ("FolMe.SpeedSet", 1e-9, 1)),
        ("BiasSpectr.LimitsGet", ("BiasSpectr.LimitsSet", 2.0, -2.0)),
        (
            "BiasSpectr.TimingGet",
            ("BiasSpectr.TimingSet", 0.3, 1e-10, 0.1, 2.0, 0.1, 0.2, 0.1, 0.2),
        ),
        ("LockIn.ModAmpGet", ("LockIn.ModAmpSet", 1, 0.017)),
        ("Scan.BufferGet", ("Scan.BufferSet", [0, 14], 96, 80)),
        ("Scan.SpeedGet", ("Scan.SpeedSet", 5e-9, 5e-9, 0.7, 0.7, 2, 1.0)),
        ("Piezo.DriftCompGet", ("Piezo.DriftCompSet", 1, 1e-12, 0.0, 0.0, 10.0)),
        (
            "TipShaper.PropsGet",
            ("TipShaper.PropsSet", 0.2, 2, 0.1, -2e-10, 1, 0.1, 1, 2e-10, 1, 1, 1),
        ),
    ],
)
def test_whatever_the_operator_has_changed_stays_so_and_is_named(
    bench: Any, told: str, command: tuple[Any, ...]
) -> None:
    stm = bench.stm
    original = bench.state()
    stm.stage()
    # Before: what this session writes afterwards to other groups changes nothing of it.
    bench.client.call(*command)
    stm.scan.set(Frame(1e-9, -1e-9, 4e-9, 5e-9, 12.0)).wait(timeout=10)
    for signal, value in (
        (stm.spectroscopy.points, 55),
        (stm.lock_in.frequency, 811.0),
        (stm.bias, 0.9),
    ):
        signal.put(value)
    stm.tip.set((1e-10, 0.0)).wait(timeout=10)
    chosen = bench.state()[told]
    found = stm.changed_by_others()
    (setting,) = found
    assert SETTINGS[setting].get == told
    assert f"the {setting.replace('_', ' ')} was " in found[setting]
    stm.unstage()
    after = bench.state()
    kept, before = after.pop(told), original.pop(told)
    if told == "Scan.SpeedGet":
        # The speed follows the frame, which is put back.
        kept, before, chosen = kept[2:], before[2:], chosen[2:]
    assert kept == chosen != before
    assert after == original
    assert stm.changed_by_others() == {} and not stm.gate.alarm


def test_what_this_session_has_changed_is_nobody_elses(bench: Any) -> None:
    stm = bench.stm
    stm.stage()
    change_everything(bench)
    stm.scan.pixels.put(48)
    assert stm.changed_by_others() == {}
