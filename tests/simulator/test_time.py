"""Simulated time where it is not real: what takes some, what takes none, and what has settled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.commands import command
from bluesky_gpsts.plans import gp_sts, survey
from bluesky_gpsts.simulator import Simulator
from bluesky_gpsts.simulator.controller import COMMAND_TIME
from bluesky_gpsts.simulator.handlers import HANDLERS

Start = Callable[..., Simulator]
Connect = Callable[..., Client]


def true_current(simulator: Simulator) -> float:
    """Current (A) of the moment, without noise."""
    controller = simulator.controller
    return float(controller.tip.snapshot(controller.clock.now())[4, 0])


def read_all(client: Client) -> None:
    """Every reading command, and a picture if there is one."""
    for name in HANDLERS:
        if name.endswith("Get"):
            fields = command(name).request
            client.call(name, *([0, 30, 86] if "[" in field.type else 1 for field in fields))


def test_reading_takes_no_time(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    client.call("Scan.BufferSet", [0, 30], 16, 16)
    client.call("Scan.Action", 0, 0)
    before = simulator.controller.clock.now()
    read_all(client)
    client.call("Scan.FrameDataGrab", 30, 1)
    client.call("Scan.WaitEndOfScan", -1)
    assert simulator.controller.clock.now() == before
    client.call("ZCtrl.SetpntSet", 40e-12)
    assert simulator.controller.clock.now() == pytest.approx(before + COMMAND_TIME)


@pytest.mark.parametrize("sample", ["ws2", "au111"])
def test_the_loop_has_settled_after_a_command(start: Start, connect: Connect, sample: str) -> None:
    simulator = start(sample)
    client = connect(simulator)
    for setpoint in (30e-12, 300e-12, 3e-12, 50e-12):
        client.call("ZCtrl.SetpntSet", setpoint)
        assert true_current(simulator) == pytest.approx(setpoint, rel=0.01)
    for bias in (1.2, 0.8, 1.0):
        client.call("Bias.Set", bias)
        assert true_current(simulator) == pytest.approx(50e-12, rel=0.01)
    client.call("FolMe.SpeedSet", 20e-9, 1)
    for target in ((1.3e-9, 0.2e-9), (-1e-9, 0.9e-9), (5e-9, -5e-9), (0.1e-9, 0.0), (0.0, 0.0)):
        client.call("FolMe.XYPosSet", *target, 1)
        assert true_current(simulator) == pytest.approx(50e-12, rel=0.01)
    assert simulator.truth.crashes == 0


def test_the_loop_has_settled_when_a_move_is_reported_done(held: Any, connect: Connect) -> None:
    tip = held.controller.tip
    answer = HANDLERS["FolMe.XYPosSet"](held.controller, 1.3e-9, 0.2e-9, 1)
    assert not isinstance(answer, tuple) and answer.until > tip.path.end
    assert float(tip.snapshot(answer.until)[4, 0]) == pytest.approx(30e-12, rel=0.01)


def test_the_lag_of_the_loop_does_not_depend_on_the_steps(start: Start) -> None:
    heights = []
    for looks in (0, 7, 500):
        simulator = start(time_scale=1e9)
        tip = simulator.controller.tip
        arrival = tip.move(0.0, (2e-9, 1e-9), 100e-9)
        for moment in np.linspace(0, 0.8 * arrival, looks + 2)[1:]:
            tip.update(float(moment))
        # A tip that moves lags behind: it has not settled here.
        current = float(tip.snapshot(0.8 * arrival)[4, 0])
        assert abs(current / 30e-12 - 1) > 0.015
        heights.append(tip.z)
    assert np.ptp(heights) < 0.2e-12


def session(simulator: Simulator, client: Client, look: Callable[[], None]) -> list[Any]:
    """Everything that a short session measures, with `look` called between the commands."""
    got: list[Any] = []

    def call(name: str, *values: Any) -> Any:
        look()
        answer = client.call(name, *values)
        look()
        return answer

    call("Scan.BufferSet", [0, 30], 32, 32)
    call("Scan.Action", 0, 1)
    got += [call("Scan.FrameDataGrab", channel, 1)[1].tobytes() for channel in (0, 30)]
    call("LockIn.ModOnOffSet", 1, 1)
    for point in ((0.5e-9, 0.0), (0.0, 0.5e-9)):
        call("FolMe.XYPosSet", *point, 1)
        call("ZCtrl.SetpntSet", 40e-12)
        got.append(call("BiasSpectr.Start", 1, "")[1].tobytes())
        got.append(call("Signals.ValsGet", [0, 30, 86, 87], 0)[0].tobytes())
    got.append(simulator.controller.clock.now())
    return got


def test_looking_on_from_elsewhere_changes_no_bit(start: Start, connect: Connect) -> None:
    alone = start(seed=5)
    expected = session(alone, connect(alone), lambda: None)
    watched = start(seed=5)
    other = connect(watched, 3)
    assert session(watched, connect(watched), lambda: read_all(other)) == expected


def test_the_lock_in_is_read_outside_of_sweeps(held: Any, connect: Connect) -> None:
    client, tip = connect(held), held.controller.tip
    client.call("Bias.Set", 0.9)
    client.call("LockIn.ModAmpSet", 1, 20e-3)

    def read(count: int) -> Any:
        rows = []
        for _ in range(count):
            held.controller.clock.moment += 0.02
            rows.append(client.call("Signals.ValsGet", [86, 87], 1)[0])
        return np.array(rows, dtype=float).T

    off = read(50)
    client.call("LockIn.ModOnOffSet", 1, 1)
    in_phase, quadrature = read(50)
    where = tip.under(np.array([held.controller.clock.now()]))
    gap = held.sample.gap(where[:, 0], where[:, 1], 0.9, tip.setpoint)
    volts = np.array([0.9])
    true = held.sample.lockin(where[:, 0], where[:, 1], volts, 20e-3, gap)[0, 0]
    sigma = tip.preamplifier.noise_density / np.sqrt(20e-3)
    assert true > 10 * sigma
    for values, mean in ((off[0], 0.0), (off[1], 0.0), (in_phase, true), (quadrature, 0.0)):
        assert np.mean(values) == pytest.approx(mean, abs=4 * sigma / np.sqrt(50), rel=0.01)
        assert np.std(values) == pytest.approx(sigma, rel=0.5)


@pytest.mark.parametrize("sample", ["ws2", "au111"])
def test_a_normal_run_is_safe_for_the_tip(start: Start, sample: str) -> None:
    simulator = start(sample)
    stm = NanonisSTM(ports=simulator.ports).connect()
    try:
        engine = RunEngine({})
        engine(survey(stm))
        engine(gp_sts(stm, n_spectra=10))
        assert stm.link.main.call("ZCtrl.StatusGet") == (2,)
    finally:
        stm.disconnect()
    assert simulator.truth.crashes == 0
    assert simulator.truth.smallest_gap > 0.3e-9
    assert true_current(simulator) == pytest.approx(30e-12, rel=0.01)
