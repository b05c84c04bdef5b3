"""Moves, images and sweeps: honest statuses, and a stop in the middle."""

import threading
from collections.abc import Callable
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.devices.background import Interrupted
from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.nanonis import ProtocolError
from bluesky_gpsts.simulator import Fault

# ---------------------------------------------------------------- moves of the tip


def test_move_is_done_when_the_tip_is_there(bench: Any, until: Any) -> None:
    tip = bench.stm.tip
    tip.speed.put(1e-9)
    bench.clock.hold = lambda: True
    status = tip.set((2e-9, -1e-9))
    until(lambda: bench.server.commands.count("FolMe.XYPosGet") > 3, "polling of the position")
    assert not status.done
    assert bench.server.writes[-2:] == ["FolMe.SpeedSet", "FolMe.XYPosSet"]
    bench.clock.advance(1.0)
    x, y = tip.position
    assert np.hypot(x, y) == pytest.approx(1e-9, rel=1e-6), "a second at 1 nm/s"
    assert y / x == pytest.approx(-0.5, rel=1e-6), "on a straight line"
    assert not status.done
    bench.clock.advance(10.0)
    status.wait(timeout=30)
    assert tip.position == pytest.approx((2e-9, -1e-9), abs=1e-13)


@pytest.mark.parametrize("success", [True, False])
def test_stop_of_a_move_in_the_middle(bench: Any, success: bool) -> None:
    """Stopped by the RunEngine a move is done with; stopped by anybody else it has failed."""
    tip = bench.stm.tip
    tip.speed.put(1e-9)
    bench.clock.hold = lambda: True
    status = tip.set((4e-9, 0.0))
    bench.clock.advance(1.0)
    tip.stop(success=success)
    error = status.exception(timeout=30)
    assert error is None if success else isinstance(error, Interrupted)
    bench.clock.advance(10.0)
    assert tip.position == pytest.approx((1e-9, 0.0), abs=1e-13)
    assert tip.target() == tip.position
    bench.clock.hold = lambda: False
    tip.set((2e-9, 0.0)).wait(timeout=30)
    assert tip.position == pytest.approx((2e-9, 0.0), abs=1e-13)


def test_nothing_is_sent_to_stop_a_tip_at_rest(bench: Any) -> None:
    """Bluesky stops at the end whatever was moved; nothing may follow a withdrawal of the tip."""
    bench.stm.tip.set((1e-9, 0.0)).wait(timeout=30)
    bench.server.commands.clear()
    for part in (bench.stm.tip, bench.stm.scan, bench.stm.spectroscopy, bench.stm):
        part.stop()
    assert bench.server.commands == []


def test_stop_of_a_move_while_the_main_connection_hangs(bench: Any, until: Any) -> None:
    """The stop goes over a connection of its own."""
    tip, main = bench.stm.tip, bench.stm.link.main
    main.timeout = 0.2
    bench.clock.hold = lambda: True
    status = tip.set((4e-9, 0.0))
    bench.server.commands.clear()
    bench.simulator.inject(Fault("silence", "FolMe.XYPosGet", times=2))
    until(lambda: "FolMe.XYPosGet" in bench.server.commands, "a look at the position")
    tip.stop(success=True)
    assert "FolMe.Stop" in bench.server.commands
    assert bench.server.commands.index("FolMe.Stop") == 1, "before the hanging look timed out"
    assert status.exception(timeout=30) is None or not main.connected


def test_axes_together_and_one_by_one(bench: Any) -> None:
    """Bluesky sets both axes at once: the second diverts the move that the first began."""
    stm, engine = bench.stm, RunEngine({})
    engine(bps.mv(stm.tip.x, 1e-9, stm.tip.y, 2e-9))
    assert stm.tip.position == pytest.approx((1e-9, 2e-9), abs=1e-13)
    engine(bps.mv(stm.tip.y, -1e-9))
    assert stm.tip.position == pytest.approx((1e-9, -1e-9), abs=1e-13)
    assert stm.tip.x.position == pytest.approx(1e-9, abs=1e-13)
    # Somebody moves the tip by hand: one axis must not bring the other back.
    bench.client.call("FolMe.XYPosSet", -1e-9, -2e-9, 1)
    engine(bps.mv(stm.tip.x, 0.5e-9))
    assert stm.tip.position == pytest.approx((0.5e-9, -2e-9), abs=1e-13)
    engine(bps.mv(stm.tip, (1.5e-9, 0.0)))
    assert stm.tip.position == pytest.approx((1.5e-9, 0.0), abs=1e-13)


def test_diverted_move_ends_with_the_new_one(bench: Any) -> None:
    tip = bench.stm.tip
    bench.clock.hold = lambda: True
    first = tip.set((3e-9, 0.0))
    second = tip.set((0.0, 3e-9))
    bench.clock.hold = lambda: False
    bench.clock.advance(100.0)
    first.wait(timeout=30)
    second.wait(timeout=30)
    assert tip.position == pytest.approx((0.0, 3e-9), abs=1e-13)
    bench.clock.hold = lambda: True
    statuses = [tip.set((3e-9, 0.0)), tip.set((0.0, 0.0))]
    tip.stop()
    assert all(isinstance(status.exception(timeout=30), Interrupted) for status in statuses)


def test_drift_offset_links_sample_and_piezo(bench: Any) -> None:
    tip = bench.stm.tip
    tip.offset_x.put(0.3e-9)
    tip.offset_y.put(-0.2e-9)
    tip.set((1e-9, 1e-9)).wait(timeout=30)
    assert bench.client.call("FolMe.XYPosGet", 1) == pytest.approx((1.3e-9, 0.8e-9), abs=1e-13)
    reading = {name: entry["value"] for name, entry in tip.read().items()}
    assert reading == {
        "stm_tip_x": pytest.approx(1e-9, abs=1e-13),
        "stm_tip_y": pytest.approx(1e-9, abs=1e-13),
        "stm_tip_piezo_x": pytest.approx(1.3e-9, abs=1e-13),
        "stm_tip_piezo_y": pytest.approx(0.8e-9, abs=1e-13),
    }
    configuration = tip.read_configuration()
    assert configuration["stm_tip_offset_x"]["value"] == 0.3e-9
    tip.x.set(0.0).wait(timeout=30)
    assert tip.position == pytest.approx((0.0, 1e-9), abs=1e-13)


def test_move_uses_its_own_speed_not_the_scans(bench: Any) -> None:
    bench.client.call("FolMe.SpeedSet", 5e-9, 0)
    bench.stm.tip.set((1e-9, 0.0)).wait(timeout=30)
    assert bench.client.call("FolMe.SpeedGet") == (pytest.approx(5e-9), 1)


def test_lost_connection_fails_the_move(bench: Any, until: Any) -> None:
    bench.clock.hold = lambda: True
    status = bench.stm.tip.set((1e-9, 0.0))
    bench.simulator.close()
    assert isinstance(status.exception(timeout=30), ConnectionError)


# ---------------------------------------------------------------- images


def test_image_has_its_first_row_at_the_top_and_its_first_column_at_the_left(bench: Any) -> None:
    scan = bench.stm.scan
    scan.pixels.put(32)
    scan.lines.put(24)
    frame = scan.frame()
    # A sample so steep that height tells the place: 3 nm over the frame upwards, 1 to the right.
    bench.controller.tip.equilibrium = lambda where, times: (
        1e-9 * where[:, 0] / frame.width + 3e-9 * where[:, 1] / frame.height
    )
    scan.trigger().wait(timeout=30)
    for image in (scan.forward.get(), scan.backward.get()):
        assert image.shape == (24, 32)
        assert image.dtype == np.float64
        rows, columns = image.mean(axis=1), image.mean(axis=0)
        assert rows[0] - rows[-1] == pytest.approx(3e-9 * 23 / 24, rel=0.05)
        assert columns[-1] - columns[0] == pytest.approx(1e-9 * 31 / 32, rel=0.1)


@pytest.mark.parametrize("success", [True, False])
def test_stop_of_an_image_in_the_middle(bench: Any, until: Any, success: bool) -> None:
    scan = bench.stm.scan
    scan.pixels.put(16)
    scan.lines.put(8)
    bench.hold_image()
    status = scan.trigger()
    assert bench.client.call("Scan.StatusGet") == (1,)
    bench.clock.advance(1.0)
    assert not status.done
    scan.stop(success=success)
    error = status.exception(timeout=30)
    assert error is None if success else isinstance(error, Interrupted)
    assert bench.client.call("Scan.StatusGet") == (0,)
    assert scan.forward.get().size == 0, "half an image is none"
    scan.trigger().wait(timeout=30)
    assert np.isfinite(scan.forward.get()).all()


def test_image_stopped_at_the_controller_is_an_error(bench: Any) -> None:
    bench.hold_image()
    status = bench.stm.scan.trigger()
    bench.client.call("Scan.Action", 1, 0)
    error = status.exception(timeout=30)
    assert isinstance(error, ProtocolError)
    assert "stopped at the controller" in str(error)


def test_continuous_scan_is_switched_off_before_an_image(bench: Any) -> None:
    bench.controller.scan.continuous = True
    bench.controller.scan.channels = (0,)
    bench.stm.scan.prepare()
    assert bench.controller.scan.continuous is False
    assert len(bench.controller.scan.channels) == 2, "the height is recorded"
    bench.stm.scan.lines.put(2)
    bench.stm.scan.trigger().wait(timeout=30)


# ---------------------------------------------------------------- sweeps


def small_sweep(bench: Any, points: int = 32) -> Any:
    sts = bench.stm.spectroscopy
    sts.prepare()
    sts.start.put(1.0)
    sts.end.put(-1.0)
    sts.points.put(points)
    bench.server.commands.clear()
    return sts


def test_sweep_brings_all_channels(bench: Any) -> None:
    sts = small_sweep(bench, 128)
    bench.stm.lock_in.on.put(1)
    sts.integration.put(0.2)
    sts.trigger().wait(timeout=30)
    np.testing.assert_allclose(sts.bias.get(), np.linspace(1.0, -1.0, 128), atol=1e-6)
    for signal in (sts.current, sts.lockin_x, sts.lockin_y, sts.didv):
        assert signal.get().shape == (128,)
        assert np.isfinite(signal.get()).all()
    amplitude = bench.stm.lock_in.amplitude.get()
    np.testing.assert_allclose(sts.didv.get(), sts.lockin_x.get() / amplitude)
    # The lock-in's dI/dV is the slope of the current.
    rise = np.trapezoid(sts.didv.get(), sts.bias.get())
    assert rise == pytest.approx(sts.current.get()[-1] - sts.current.get()[0], rel=0.1)


def test_without_modulation_the_current_is_differentiated(bench: Any) -> None:
    sts = small_sweep(bench)
    bench.stm.lock_in.on.put(0)
    sts.trigger().wait(timeout=30)
    np.testing.assert_allclose(
        sts.didv.get(), np.gradient(sts.current.get(), sts.bias.get()), rtol=1e-12
    )


def test_forward_and_backward_sweep_are_averaged(bench: Any) -> None:
    sts = small_sweep(bench)
    sts.backward.put(1)
    sts.trigger().wait(timeout=30)
    _, names = bench.client.call("BiasSpectr.ChsGet")
    assert sts.current.get().shape == (32,)
    assert sts.duration.get() > 64 * (sts.settling.get() + sts.integration.get())
    assert len(names) == 3


def test_duration_is_the_controllers(bench: Any) -> None:
    sts = small_sweep(bench)
    for backward, sweeps in ((0, 1), (1, 1), (1, 3)):
        sts.backward.put(backward)
        sts.sweeps.put(sweeps)
        expected = bench.controller.sweep.duration(bench.controller.tip.bias)
        assert sts.check() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("success", [True, False])
def test_stop_of_a_sweep_in_the_middle(bench: Any, until: Any, success: bool) -> None:
    sts = small_sweep(bench)
    bench.hold_sweep()
    status = sts.trigger()
    until(lambda: bench.controller.sweeps == 1, "the sweep")
    bench.clock.advance(0.2)
    assert bench.client.call("BiasSpectr.StatusGet") == (1,)
    assert bench.client.call("ZCtrl.StatusGet") == (3,), "the loop is held"
    assert not status.done
    sts.stop(success=success)
    error = status.exception(timeout=30)
    assert error is None if success else isinstance(error, Interrupted)
    assert bench.client.call("BiasSpectr.StatusGet") == (0,)
    assert bench.client.call("Bias.Get") == (pytest.approx(1.2),)
    assert bench.client.call("ZCtrl.StatusGet") == (2,), "feedback on"
    assert sts.didv.get().size == 0, "half a spectrum is none"
    assert bench.stm.link.connected, "all connections are still in step"
    sts.trigger().wait(timeout=30)
    assert sts.didv.get().shape == (32,)


def test_stop_that_overtakes_the_start(
    bench: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is still on its way over one connection when the stop arrives over another."""
    sts, data = small_sweep(bench), bench.stm.link.data
    gate, send = threading.Event(), data.call

    def late(*arguments: Any, **options: Any) -> Any:
        gate.wait()
        return send(*arguments, **options)

    monkeypatch.setattr(data, "call", late)
    bench.hold_sweep()
    status = sts.trigger()
    stopper = threading.Thread(target=sts.stop, kwargs={"success": True})
    stopper.start()
    try:
        until(lambda: "BiasSpectr.Stop" in bench.server.commands, "the stop")
        assert bench.controller.sweeps == 0
    finally:
        gate.set()
    assert status.exception(timeout=30) is None
    stopper.join(timeout=30)
    assert not stopper.is_alive()
    assert bench.client.call("BiasSpectr.StatusGet") == (0,)


def test_sweep_broken_off_at_the_controller_is_an_error(bench: Any, until: Any) -> None:
    sts = small_sweep(bench)
    bench.hold_sweep()
    status = sts.trigger()
    until(lambda: bench.controller.sweeps == 1, "the sweep")
    bench.clock.advance(0.3)
    bench.client.call("BiasSpectr.Stop")
    error = status.exception(timeout=30)
    assert isinstance(error, ProtocolError)
    assert "of 32 points" in str(error)


@pytest.mark.parametrize("kind", ["drop", "wrong name", "silence"])
def test_lost_reply_fails_the_sweep(bench: Any, kind: Any, monkeypatch: Any) -> None:
    sts = small_sweep(bench, 8)
    monkeypatch.setattr(sts, "patience", 0.0)
    monkeypatch.setattr(sts, "check", lambda: 0.2)
    bench.simulator.inject(Fault(kind, "BiasSpectr.Start"))
    error = sts.trigger().exception(timeout=30)
    assert type(error).__name__ in ("ConnectionLost", "ProtocolError", "CommandTimeout")
    assert "BiasSpectr.Start" in str(error)
    assert not bench.stm.link.data.connected, "a connection out of step is never used again"
    assert bench.server.commands.count("BiasSpectr.Start") == 1, "and nothing is sent twice"


def test_a_withdrawn_tip_takes_neither_spectra_nor_images(bench: Any) -> None:
    bench.clock.hold = lambda: True
    bench.simulator.trip_safe_tip()
    for part in (bench.stm.spectroscopy, bench.stm.scan):
        with pytest.raises(TipWithdrawn, match="approach again"):
            part.trigger()
    assert bench.server.writes == []


def test_stop_of_the_microscope_stops_what_is_under_way(
    make_bench: Callable[..., Any], until: Any
) -> None:
    bench = make_bench()
    sts = small_sweep(bench)
    bench.hold_sweep()
    status = sts.trigger()
    until(lambda: bench.controller.sweeps == 1, "the sweep")
    bench.stm.stop()
    assert isinstance(status.exception(timeout=30), Interrupted)
    assert bench.client.call("BiasSpectr.StatusGet") == (0,)
