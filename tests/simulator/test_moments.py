"""In the middle of an operation: what is read, and what commands do, at that moment."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bluesky_gpsts.nanonis import Client, CommandError
from bluesky_gpsts.simulator import Simulator
from bluesky_gpsts.simulator.scan import frame_positions

Start = Callable[..., Simulator]
Connect = Callable[..., Client]

CURRENT, BIAS, X, Y, Z, LOCKIN_X = 0, 24, 28, 29, 30, 86
FORWARD = 1
TIMING = (0.5, 0.0, 0.1, 10.0, 4e-3, 16e-3, 0.2, 0.3)
"""Averaging 0.5 s, then 100 points of 20 ms."""
START = 0.5 + 0.2 / 10.0 + 0.1
"""When the sweep's first point begins: averaged, ramped by 0.2 V, settled."""
DONE = START + 2.0
OPEN = DONE + 0.2 + 2.2 / 10.0
"""When the loop closes again."""


def signals(client: Client, *indices: int) -> list[float]:
    values: list[float] = client.call("Signals.ValsGet", list(indices), 1)[0].tolist()
    return values


def sweep(client: Client, z_offset: float = 0.0) -> None:
    """Start a sweep from 1.4 to -1.0 V at a bias of 1.2 V."""
    client.call("BiasSpectr.PropsSet", 0, 1, 2, 100, z_offset, 0, 0)
    client.call("BiasSpectr.LimitsSet", 1.4, -1.0)
    client.call("BiasSpectr.TimingSet", TIMING[0], z_offset, *TIMING[2:])
    client.call("BiasSpectr.Start", 0, "")


def scan(held: Any, client: Client) -> NDArray[np.float64]:
    """Start a scan of 8 lines, 1 s each way; returns its pixels (8, 16, 2), top edge first.

    The tip is at the corner at time 1 s, when the first line begins.
    """
    client.call("Scan.BufferSet", [CURRENT, Z, BIAS], 16, 8)
    client.call("Scan.SpeedSet", 0.0, 0.0, 1.0, 1.0, 2, 1.0)
    pixels = frame_positions(held.controller.scan.frame, 16, 8)
    client.call("FolMe.XYPosSet", *pixels[0, 0], 0)
    held.controller.clock.moment = 1.0
    client.call("Scan.Action", 0, 0)
    return pixels


def true_current(held: Any) -> float:
    """Current (A) of the moment, without noise."""
    controller = held.controller
    return float(controller.tip.snapshot(controller.clock.now())[4, 0])


# ---------------------------------------------------------------- readings


def test_a_sweep_is_seen_as_it_goes(held: Any, connect: Connect) -> None:
    client = connect(held)
    clock, sample, tip = held.controller.clock, held.sample, held.controller.tip
    sweep(client)
    status = []
    heights = []
    for moment, bias in (
        (0.4, 1.2),
        (0.51, 1.3),
        (START - 0.01, 1.4),
        (START + 0.02, 1.4),
        (START + 1.01, 0.2),
        (DONE, -1.0),
        (DONE + 0.1, -1.0),
        (DONE + 0.2 + 0.11, 0.1),
        (OPEN + 0.1, 1.2),
        (OPEN + 0.31, 1.2),
    ):
        clock.moment = moment
        assert client.call("Bias.Get")[0] == pytest.approx(bias, abs=2e-6)
        assert signals(client, BIAS)[0] == pytest.approx(bias, abs=2e-6)
        status.append((*client.call("ZCtrl.StatusGet"), *client.call("BiasSpectr.StatusGet")))
        heights.append(client.call("ZCtrl.ZPosGet")[0])
        place = tip.under(np.array([moment]))
        ground = sample.height(*place.T) + tip.drift.offset(moment)[:, 2]
        volts = np.array([client.call("Bias.Get")[0]], dtype=float)
        gap = tip.z - ground
        expected = sample.current(place[:, 0], place[:, 1], volts, gap)[0, 0]
        read = client.call("Current.Get")[0]
        assert read == pytest.approx(expected, rel=0.1, abs=0.2e-12)
        assert signals(client, CURRENT, Z) == [read, heights[-1]]
    assert status == [(2, 1), *[(3, 1)] * 7, (2, 1), (2, 0)]
    assert len(set(heights[1:8])) == 1
    assert heights[0] == pytest.approx(heights[1], abs=3e-12)


def test_what_is_polled_in_a_sweep_is_what_it_records(held: Any, connect: Connect) -> None:
    client, other = connect(held), connect(held, 1)
    client.call("BiasSpectr.ChsSet", [CURRENT, BIAS, Z])
    sweep(client)
    seen = []
    for point in (10, 50, 99):
        held.controller.clock.moment = START + (point + 1) * 20e-3
        seen.append((point, signals(other, BIAS, Z), true_current(held)))
    held.controller.clock.moment = 10.0
    assert client.call("BiasSpectr.StatusGet") == (0,)
    running = held.controller.running
    names, data = running.table(held.controller.tip)
    assert names == ["Bias calc (V)", "Current (A)", "Bias (V)", "Z (m)"]
    for point, (bias, z), current in seen:
        assert data[2, point] == pytest.approx(bias, abs=1e-6)
        assert data[3, point] == pytest.approx(z, abs=1e-16)
        noise = float(held.controller.tip.preamplifier.sigma(16e-3, current))
        assert data[1, point] == pytest.approx(current, abs=5 * noise, rel=1e-3)
    np.testing.assert_allclose(data[2], data[0], rtol=0, atol=1e-9)


def test_a_scan_is_seen_as_it_goes(held: Any, connect: Connect) -> None:
    client = connect(held)
    pixels = scan(held, client)
    seen = []
    for line, way, pixel in ((0, 0, 3), (0, 1, 12), (2, 0, 8), (7, 1, 15)):
        moment = 1.0 + 2 * line + way + (pixel + 1) / 16
        held.controller.clock.moment = moment
        column = 15 - pixel if way else pixel
        place = client.call("FolMe.XYPosGet", 1)
        assert place == pytest.approx(tuple(pixels[line, column]), abs=1e-15)
        assert client.call("Scan.XYPosGet", 1) == pytest.approx(place, abs=1e-15)
        assert signals(client, X, Y) == pytest.approx(place, abs=1e-15)
        assert client.call("Current.Get")[0] == pytest.approx(30e-12, rel=0.1)
        assert client.call("ZCtrl.StatusGet") == (2,)
        seen.append((line, way, column, client.call("ZCtrl.ZPosGet")[0]))
    held.controller.clock.moment = 20.0
    planes = [client.call("Scan.FrameDataGrab", Z, direction)[1] for direction in (1, 0)]
    for line, way, column, z in seen:
        assert planes[way][line, column] == pytest.approx(z, abs=1e-14)
    assert len({z for *_, z in seen}) == 4


def test_a_move_is_seen_as_it_goes(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("FolMe.XYPosSet", 2e-9, -1e-9, 0)
    arrival = math.hypot(2e-9, 1e-9) / 20e-9
    heights = set()
    for share in (0.0, 0.25, 0.5, 1.0):
        held.controller.clock.moment = share * arrival
        assert client.call("FolMe.XYPosGet", 1) == pytest.approx((share * 2e-9, -share * 1e-9))
        heights.add(client.call("ZCtrl.ZPosGet")[0])
    assert len(heights) == 4


def test_the_tip_goes_to_the_frame_before_it_scans(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("Scan.Action", 0, 0)
    corner = frame_positions(held.controller.scan.frame, 128, 128)[0, 0]
    held.controller.clock.moment = 0.5 * float(np.hypot(*corner)) / 20e-9
    assert client.call("FolMe.XYPosGet", 1) == pytest.approx(tuple(0.5 * corner))
    assert client.call("Scan.StatusGet") == (1,)


@pytest.mark.parametrize("operation", ["scan", "sweep"])
def test_looking_on_changes_nothing(start: Start, connect: Connect, operation: str) -> None:
    def run(looks: int) -> NDArray[np.float64]:
        simulator = start(time_scale=1e9)
        controller = simulator.controller
        if operation == "scan":
            controller.scan.pixels = controller.scan.lines = 16
            controller.start_scan(0.0, False)
            assert controller.image is not None
            record, end = controller.image.record, controller.image.end
        else:
            sweep_run = controller.start_sweep(0.0)
            record, end = sweep_run.record, sweep_run.end
        for moment in np.linspace(0, end, looks + 2)[1:]:
            controller.tip.snapshot(float(moment))
        assert record.complete
        return record.rows

    np.testing.assert_allclose(run(200), run(0), rtol=0.01, atol=2e-14)


# ---------------------------------------------------------------- commands during a scan


def lines(client: Client, channel: int) -> NDArray[np.float64]:
    plane: NDArray[np.float64] = client.call("Scan.FrameDataGrab", channel, FORWARD)[1]
    return plane.astype(float)


def test_a_setpoint_acts_on_the_lines_to_come(held: Any, connect: Connect) -> None:
    client = connect(held)
    scan(held, client)
    # Within the backward way of the third line.
    held.controller.clock.moment = 1.0 + 2 * 3 - 0.5
    before = client.call("ZCtrl.ZPosGet")[0]
    client.call("ZCtrl.SetpntSet", 300e-12)
    held.controller.clock.moment += 0.02
    nearer = math.log(10) / (2 * held.sample.decay(1.2))
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(before - nearer, abs=0.01e-9)
    held.controller.clock.moment = 20.0
    mean = lines(client, CURRENT).mean(axis=1)
    np.testing.assert_allclose(mean[:3], 30e-12, rtol=0.05)
    np.testing.assert_allclose(mean[3:], 300e-12, rtol=0.05)
    heights = lines(client, Z).mean(axis=1)
    assert heights[:3].mean() - heights[3:].mean() == pytest.approx(nearer, abs=0.03e-9)


def test_a_bias_acts_on_the_lines_to_come(held: Any, connect: Connect) -> None:
    client = connect(held)
    scan(held, client)
    held.controller.clock.moment = 1.0 + 2 * 4
    client.call("Bias.Set", 0.9)
    held.controller.clock.moment = 20.0
    bias = lines(client, BIAS)
    np.testing.assert_allclose(bias[:4], 1.2, rtol=1e-6)
    np.testing.assert_allclose(bias[4:], 0.9, rtol=1e-6)
    np.testing.assert_allclose(lines(client, CURRENT)[:, 1:], 30e-12, rtol=0.2)
    heights = lines(client, Z).mean(axis=1)
    assert heights[4:].max() < heights[:4].min()


def test_a_scan_goes_on_at_constant_height_without_feedback(held: Any, connect: Connect) -> None:
    client = connect(held)
    scan(held, client)
    held.controller.clock.moment = 1.0 + 2 * 4
    client.call("ZCtrl.OnOffSet", 0)
    held.controller.clock.moment = 20.0
    heights, current = lines(client, Z), lines(client, CURRENT)
    assert np.ptp(heights[:4]) > 2e-12 and np.ptp(heights[4:]) == 0.0
    assert np.std(current[4:]) > 5 * np.std(current[:4])


def test_a_scan_without_feedback_is_a_map_of_the_current(start: Start, connect: Connect) -> None:
    simulator = start()
    client, tip = connect(simulator), simulator.controller.tip
    client.call("Scan.BufferSet", [CURRENT, Z, LOCKIN_X], 32, 32)
    client.call("LockIn.ModOnOffSet", 1, 1)
    client.call("ZCtrl.OnOffSet", 0)
    height = client.call("ZCtrl.ZPosGet")[0]
    client.call("Scan.Action", 0, 0)
    assert np.unique(lines(client, Z)).tolist() == [height]
    frame = simulator.controller.scan.frame
    x, y = frame_positions(frame, 32, 32).reshape(-1, 2).T
    gap = height - simulator.sample.height(x, y)
    volts = np.array([1.2])
    current = simulator.sample.current(x, y, volts, gap).reshape(32, 32)
    assert np.corrcoef(lines(client, CURRENT).ravel(), current.ravel())[0, 1] > 0.95
    first = simulator.sample.lockin(x, y, volts, 5e-3, gap).reshape(32, 32)
    assert np.corrcoef(lines(client, LOCKIN_X).ravel(), first.ravel())[0, 1] > 0.9
    assert tip.truth.crashes == 0


def test_settings_of_the_scan_concern_the_next_one(held: Any, connect: Connect) -> None:
    client = connect(held)
    pixels = scan(held, client)
    held.controller.clock.moment = 2.5
    client.call("Scan.FrameSet", 10e-9, 10e-9, 1e-9, 1e-9, 0.0)
    client.call("Scan.BufferSet", [Z], 64, 64)
    client.call("Scan.SpeedSet", 0.0, 0.0, 9.0, 9.0, 2, 1.0)
    held.controller.clock.moment = 17.0
    assert client.call("FolMe.XYPosGet", 1) == pytest.approx(tuple(pixels[7, 0]), abs=1e-15)
    assert np.isfinite(lines(client, CURRENT)).all()


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("FolMe.XYPosSet", (0.0, 0.0, 0)),
        ("BiasSpectr.Start", (0, "")),
        ("TipShaper.Start", (0, 0)),
        ("Scan.Action", (6, 0)),
    ],
)
def test_what_a_scan_refuses(
    held: Any, connect: Connect, command: str, values: tuple[Any, ...]
) -> None:
    client = connect(held)
    scan(held, client)
    with pytest.raises(CommandError, match="a scan is running"):
        client.call(command, *values)


def test_a_paused_scan_goes_on_where_it_was(held: Any, connect: Connect) -> None:
    client = connect(held)
    pixels = scan(held, client)
    held.controller.clock.moment = 1.0 + 2 * 2 + 0.5
    client.call("Scan.Action", 2, 0)
    there = client.call("FolMe.XYPosGet", 1)
    assert there == pytest.approx(tuple(pixels[2, 7]), abs=1e-15)
    client.call("FolMe.XYPosSet", 0.0, 0.0, 0)
    held.controller.clock.moment = 50.0
    assert client.call("FolMe.XYPosGet", 1) == (0.0, 0.0)
    client.call("Scan.Action", 3, 0)
    arrival = 50.0 + math.hypot(*there) / 20e-9
    held.controller.clock.moment = arrival
    assert client.call("FolMe.XYPosGet", 1) == pytest.approx(there, abs=1e-15)
    held.controller.clock.moment = arrival + 0.25
    assert client.call("FolMe.XYPosGet", 1) == pytest.approx(tuple(pixels[2, 11]), abs=1e-15)
    held.controller.clock.moment = arrival + 11.5
    assert client.call("Scan.StatusGet") == (0,)
    assert np.isfinite(lines(client, Z)).all()


# ---------------------------------------------------------------- commands during a sweep


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("Bias.Set", (1.0,)),
        ("Bias.Pulse", (0, 0.01, 0.1, 1, 1)),
        ("FolMe.XYPosSet", (1e-9, 0.0, 0)),
        ("ZCtrl.ZPosSet", (0.0,)),
        ("Scan.Action", (0, 0)),
        ("TipShaper.Start", (0, 0)),
        ("BiasSpectr.Start", (0, "")),
    ],
)
def test_what_a_sweep_refuses(
    held: Any, connect: Connect, command: str, values: tuple[Any, ...]
) -> None:
    client = connect(held)
    sweep(client)
    held.controller.clock.moment = START + 1.0
    with pytest.raises(CommandError, match="bias spectroscopy is running"):
        client.call(command, *values)
    held.controller.clock.moment = 10.0
    assert held.truth.crashes == 0 and held.controller.running.record.complete


def test_feedback_switched_off_in_a_sweep_stays_off(held: Any, connect: Connect) -> None:
    client = connect(held)
    sweep(client)
    held.controller.clock.moment = START + 1.0
    z = client.call("ZCtrl.ZPosGet")
    client.call("ZCtrl.OnOffSet", 0)
    with pytest.raises(CommandError, match="bias spectroscopy is running"):
        client.call("ZCtrl.OnOffSet", 1)
    held.controller.clock.moment = 10.0
    assert client.call("ZCtrl.OnOffGet") == (0,)
    assert client.call("ZCtrl.StatusGet") == (1,) and client.call("ZCtrl.ZPosGet") == z


def test_a_setpoint_in_a_sweep_acts_when_the_loop_closes(held: Any, connect: Connect) -> None:
    client = connect(held)
    sweep(client)
    held.controller.clock.moment = START + 1.0
    z = client.call("ZCtrl.ZPosGet")[0]
    client.call("ZCtrl.SetpntSet", 300e-12)
    held.controller.clock.moment = OPEN - 0.01
    assert client.call("ZCtrl.ZPosGet")[0] == z
    held.controller.clock.moment = OPEN + 0.3
    assert true_current(held) == pytest.approx(300e-12, rel=0.01)


@pytest.mark.parametrize(("revert", "feedback"), [(1, 0), (2, 0), (1, 1)])
def test_a_z_offset_is_reverted(held: Any, connect: Connect, revert: int, feedback: int) -> None:
    client = connect(held)
    client.call("BiasSpectr.ZOffRevertSet", revert)
    client.call("ZCtrl.OnOffSet", feedback)
    z = client.call("ZCtrl.ZPosGet")[0]
    sweep(client, z_offset=50e-12)
    held.controller.clock.moment = START + 1.0
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(z + 50e-12, abs=3e-12)
    held.controller.clock.moment = 10.0
    left = 50e-12 if revert == 2 else 0.0
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(z + left, abs=3e-12)


def test_stopping_a_sweep_brings_the_bias_back_before_the_loop_closes(
    held: Any, connect: Connect
) -> None:
    client = connect(held)
    sweep(client)
    # In the gap of the semiconductor, where a loop that closes would crash.
    held.controller.clock.moment = START + 1.1
    assert abs(client.call("Bias.Get")[0]) < 0.1
    client.call("BiasSpectr.Stop")
    assert client.call("Bias.Get")[0] == pytest.approx(1.2)
    assert client.call("ZCtrl.StatusGet") == (2,) and client.call("BiasSpectr.StatusGet") == (0,)
    held.controller.clock.moment = 10.0
    assert true_current(held) == pytest.approx(30e-12, rel=0.01)
    assert held.truth.crashes == 0


# ---------------------------------------------------------------- taking the tip away


@pytest.mark.parametrize("operation", ["scan", "sweep", "shaper"])
@pytest.mark.parametrize("how", ["ZCtrl.Withdraw", "ZCtrl.Home", "safe tip"])
def test_the_tip_goes_away_at_once(held: Any, connect: Connect, operation: str, how: str) -> None:
    client = connect(held)
    if operation == "scan":
        scan(held, client)
    elif operation == "sweep":
        sweep(client)
    else:
        client.call("TipShaper.PropsSet", 0.0, 1, 0.5, -1e-10, 1.0, 0.5, 9.0, 1e-10, 1.0, 0.1, 1)
        client.call("TipShaper.Start", 0, -1)
    held.controller.clock.moment = START + 1.0
    z, there = client.call("ZCtrl.ZPosGet")[0], client.call("FolMe.XYPosGet", 1)
    if how == "safe tip":
        held.trip_safe_tip()
    else:
        client.call(how, *((0, -1) if how == "ZCtrl.Withdraw" else ()))
    assert client.call("ZCtrl.StatusGet") == (5 if how == "safe tip" else 6,)
    assert client.call("ZCtrl.OnOffGet") == (0,)
    assert client.call("Scan.StatusGet") == client.call("BiasSpectr.StatusGet") == (0,)
    assert client.call("Bias.Get")[0] == pytest.approx(1.2)
    held.controller.clock.moment += 0.1
    rise = client.call("ZCtrl.ZPosGet")[0] - z
    assert rise > 100e-9 if how == "safe tip" else rise == pytest.approx(10e-9, abs=1e-12)
    held.controller.clock.moment = 50.0
    assert client.call("FolMe.XYPosGet", 1) == there
    assert client.call("ZCtrl.OnOffGet") == (0,) and abs(true_current(held)) < 1e-15
    assert held.truth.crashes == 0


def test_withdrawing_frees_whoever_waits_for_a_sweep(held: Any, connect: Connect) -> None:
    client, other = connect(held), connect(held, 3)
    client.call("BiasSpectr.PropsSet", 0, 1, 2, 100, 0.0, 0, 0)
    client.call("BiasSpectr.TimingSet", *TIMING)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(client.call("BiasSpectr.Start", 1, "")))
    thread.start()
    pause = threading.Event()
    while held.controller.clock.waiting == 0:
        pause.wait(0.001)
    held.controller.clock.moment = START + 1.0
    other.call("ZCtrl.Withdraw", 0, -1)
    thread.join(timeout=5)
    names, data, _ = got[0]
    assert data.shape[0] == len(names) and 40 < data.shape[1] < 60
    assert np.isfinite(data).all()


@pytest.mark.parametrize("looks", [0, 300])
def test_the_safe_tip_acts_at_the_moment_of_the_current(
    start: Start, connect: Connect, looks: int
) -> None:
    simulator = start(time_scale=0 if not looks else 1e9)
    controller = simulator.controller
    client = connect(simulator)
    client.call("BiasSpectr.PropsSet", 0, 1, 2, 200, -0.1e-9, 0, 0)
    client.call("BiasSpectr.LimitsSet", 1.2, 1.4)
    client.call("SafeTip.PropsSet", 0, 0, 350e-12)
    client.call("SafeTip.OnOffSet", 1)
    t = controller.bring_up()
    run = controller.start_sweep(t)
    for moment in np.linspace(t, run.end, looks + 2)[1:]:
        controller.tip.update(float(moment))
    assert controller.safe_tip.tripped and not controller.sweeping(run.end)
    taken = run.record.taken
    assert 0 < taken < 200
    # The last sample is the one that was too large, and nothing larger has flown.
    current = np.abs(run.record.rows[4, :taken])
    assert np.all(current[:-1] <= 350e-12)
    assert 350e-12 < simulator.truth.largest_current < 370e-12
    assert controller.tip.z > 100e-9 and controller.tip.bias == pytest.approx(1.2)
    assert client.call("ZCtrl.StatusGet") == (5,)


# ---------------------------------------------------------------- pulses and the tip shaper


@pytest.mark.parametrize("hold", [1, 2])
def test_a_pulse_lasts(held: Any, connect: Connect, hold: int) -> None:
    client = connect(held)
    held.controller.clock.moment = 1.0
    client.call("Bias.Pulse", 0, 0.1, 1.5, hold, 2)
    held.controller.clock.moment = 1.001
    client.call("Bias.Get")
    z = held.controller.tip.z
    held.controller.clock.moment = 1.05
    assert client.call("Bias.Get")[0] == pytest.approx(1.5)
    assert client.call("ZCtrl.StatusGet") == (3 if hold == 1 else 2,)
    client.call("Current.Get")
    assert (held.controller.tip.z == z) == (hold == 1)
    with pytest.raises(CommandError, match="pulse is running"):
        client.call("Bias.Set", 1.0)
    held.controller.clock.moment = 1.2
    assert client.call("Bias.Get")[0] == pytest.approx(1.2)
    assert client.call("ZCtrl.StatusGet") == (2,)
    assert true_current(held) == pytest.approx(30e-12, rel=0.01)


def test_the_tip_shaper_takes_its_time(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("TipShaper.PropsSet", 0.5, 1, 2.0, -0.1e-9, 1.0, -2.0, 1.0, 1e-9, 2.0, 1.0, 1)
    z = held.controller.tip.z
    client.call("TipShaper.Start", 0, -1)
    for moment, bias, change, status in (
        (0.25, 1.2, 0.0, 1),
        (1.0, 2.0, -0.05e-9, 1),
        (2.0, -2.0, -0.1e-9, 1),
        (3.5, -2.0, 0.4e-9, 1),
        (5.0, 1.2, None, 2),
    ):
        held.controller.clock.moment = moment
        assert client.call("Bias.Get")[0] == pytest.approx(bias), moment
        assert client.call("ZCtrl.StatusGet") == (status,), moment
        if change is not None:
            assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(z + change, abs=3e-12), moment
    assert held.truth.crashes == 0


def test_the_tip_is_lifted_where_the_feedback_is_switched_off(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("ZCtrl.TipLiftSet", 0.3e-9)
    z = client.call("ZCtrl.ZPosGet")[0]
    client.call("ZCtrl.OnOffSet", 0)
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(z + 0.3e-9, abs=3e-12)
