"""The microscope behind the ports: measured over TCP, compared with what is hidden from TCP."""

import itertools
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.codec import encode_fields
from bluesky_gpsts.nanonis.commands import command, command_names
from bluesky_gpsts.nanonis.files import Grid, read_3ds, write_3ds
from bluesky_gpsts.physics import Drift
from bluesky_gpsts.physics.ws2 import LATTICE_CONSTANT
from bluesky_gpsts.simulator import Sample, Simulator, open_sample
from bluesky_gpsts.simulator.computed import ComputedSample
from bluesky_gpsts.simulator.handlers import HANDLERS
from bluesky_gpsts.simulator.recorded import RecordedSample
from bluesky_gpsts.simulator.scan import frame_positions
from bluesky_gpsts.simulator.signals import SIGNALS

Array = NDArray[np.float64]
Start = Callable[..., Simulator]
Connect = Callable[..., Client]

FORWARD = 1
CURRENT, Z, LOCKIN_X = 0, 30, 86
SLOW = (0.05, 0.0, 0.05, 10.0, 1e-3, 0.1, 0.05, 0.1)
"""Timing of a sweep that averages each point for 0.1 s."""


class Drifting(ComputedSample):
    """A sample that drifts at 0.3 pm/s along x and -0.2 pm/s along y."""

    velocity = (0.3e-12, -0.2e-12, 0.0)

    def drift(self, seed: int) -> Drift:
        return Drift(self.velocity)


class Still(Drifting):
    """A sample that does not drift."""

    velocity = (0.0, 0.0, 0.0)


def picture(client: Client, channel: int = Z, pixels: int = 64, line_time: float = 0.5) -> Array:
    """Image of the frame, first row = top edge."""
    client.call("Scan.BufferSet", [CURRENT, Z], pixels, pixels)
    client.call("Scan.SpeedSet", 0.0, 0.0, line_time, line_time, 2, 1.0)
    client.call("Scan.Action", 0, 0)
    plane: Array = client.call("Scan.FrameDataGrab", channel, FORWARD)[1].astype(float)
    return plane


def beneath(simulator: Simulator) -> Array:
    """Point of the sample (2,) beneath the tip."""
    return simulator.controller.tip.under(np.array([simulator.controller.clock.now()]))[0]


def place_over(simulator: Simulator, client: Client, point: Array) -> None:
    """Move the tip until `point` of the sample is beneath it, creep and drift included."""
    target = np.array(point)
    for _ in range(3):
        client.call("FolMe.XYPosSet", *map(float, target), 1)
        target = target + (point - beneath(simulator))
    np.testing.assert_allclose(beneath(simulator), point, rtol=0, atol=5e-12)


# ---------------------------------------------------------------- feedback


@pytest.mark.parametrize("bias", [1.2, -1.8])
def test_feedback_holds_the_setpoint(held: Any, connect: Connect, bias: float) -> None:
    client = connect(held)
    client.call("ZCtrl.OnOffSet", 0)
    client.call("Bias.Set", bias)
    client.call("ZCtrl.OnOffSet", 1)
    heights = {}
    points = [(0.5e-9, 0.5e-9), (1e-9, -0.5e-9), (-1.2e-9, 0.7e-9)]
    for setpoint in (20e-12, 200e-12):
        client.call("ZCtrl.SetpntSet", setpoint)
        for x, y in points:
            client.call("FolMe.XYPosSet", x, y, 0)
            held.controller.clock.moment += 1.0
            read = []
            for _ in range(50):
                # One acquisition period gives one reading, however often it is asked for.
                held.controller.clock.moment += 0.02
                read.append(client.call("Current.Get")[0])
            assert client.call("Current.Get")[0] == read[-1]
            sigma = float(held.controller.tip.preamplifier.sigma(20e-3, setpoint))
            expected = math.copysign(setpoint, bias)
            assert np.mean(read) == pytest.approx(expected, abs=4 * sigma / 50**0.5, rel=0.002)
            assert np.std(read) == pytest.approx(sigma, rel=0.5)
            heights[setpoint, x] = client.call("ZCtrl.ZPosGet")[0]
    # Ten times the current: nearer by ln 10 / (2 kappa).
    nearer = math.log(10) / (2 * held.sample.decay(bias))
    for x, _ in points:
        assert heights[20e-12, x] - heights[200e-12, x] == pytest.approx(nearer, abs=5e-12)
    assert held.truth.crashes == 0


def test_without_feedback_the_height_stays(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("ZCtrl.OnOffSet", 0)
    assert client.call("ZCtrl.OnOffGet") == (0,) and client.call("ZCtrl.StatusGet") == (1,)
    before = client.call("ZCtrl.ZPosGet")[0]
    client.call("ZCtrl.ZPosSet", before + 0.2e-9)
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(before + 0.2e-9, abs=1e-15)
    # Two angstroms away the current has fallen a hundredfold.
    assert abs(client.call("Current.Get")[0]) < 1e-12
    client.call("ZCtrl.OnOffSet", 1)
    client.call("FolMe.XYPosSet", 1e-9, 0.0, 1)
    assert client.call("Current.Get")[0] == pytest.approx(30e-12, rel=0.02)


def test_bias_near_zero_with_feedback_on_crashes_the_tip(start: Start, connect: Connect) -> None:
    for bias, crashes in ((0.0, 1), (1e-3, 1), (0.5, 0)):
        simulator = start()
        client = connect(simulator)
        client.call("Bias.Set", bias)
        assert simulator.truth.crashes == crashes
        assert (simulator.truth.smallest_gap < 0.15e-9) == bool(crashes)


@pytest.mark.parametrize("step", [3.0, 0.25, 0.05])
@pytest.mark.parametrize("sample", ["ws2", "au111"])
def test_a_bias_through_zero_with_feedback_on_crashes_the_tip(
    start: Start, connect: Connect, sample: str, step: float
) -> None:
    for feedback in (1, 0):
        simulator = start(sample)
        client = connect(simulator)
        client.call("ZCtrl.OnOffSet", feedback)
        for bias in np.arange(1.2 - step, -1.81, -step):
            client.call("Bias.Set", bias)
        assert client.call("Bias.Get")[0] == pytest.approx(-1.8)
        assert simulator.truth.crashes == feedback


def test_no_bias_with_feedback_on_crashes_the_tip_into_a_metal(
    start: Start, connect: Connect, recorded: tuple[Grid, Sample]
) -> None:
    for sample in ("au111", recorded[1]):
        simulator = start(sample)
        client = connect(simulator)
        client.call("Bias.Set", 0.0)
        assert simulator.truth.crashes == 1


@pytest.mark.parametrize("sample", ["ws2", "au111"])
def test_a_swept_bias_with_feedback_on_crashes_the_tip(
    start: Start, connect: Connect, sample: str
) -> None:
    for hold, crashes in ((1, False), (2, True)):
        simulator = start(sample)
        client = connect(simulator)
        client.call("BiasSpectr.AdvPropsSet", 1, hold, 0, 0)
        client.call("BiasSpectr.PropsSet", 0, 1, 2, 64, 0.0, 0, 0)
        client.call("BiasSpectr.Start", 1, "")
        assert (simulator.truth.crashes > 0) == crashes


def test_a_normal_session_does_not_crash(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    picture(client, pixels=32)
    client.call("LockIn.ModOnOffSet", 1, 1)
    for point in ((1e-9, 0.0), (-1e-9, 1e-9), (0.0, 0.0)):
        client.call("FolMe.XYPosSet", *point, 1)
        client.call("BiasSpectr.Start", 1, "")
        for bias in (-1.8, 1.2):
            # Through zero as it should be done: feedback off, jump, on.
            client.call("ZCtrl.OnOffSet", 0)
            client.call("Bias.Set", bias)
            client.call("ZCtrl.OnOffSet", 1)
            client.call("FolMe.XYPosSet", 0.1e-9, 0.0, 1)
    client.call("ZCtrl.Withdraw", 1, -1)
    assert simulator.truth.crashes == 0
    assert simulator.truth.smallest_gap > 0.4e-9
    assert 30e-12 < simulator.truth.largest_current < 1e-9


def test_a_poke_is_a_contact_that_is_meant(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    client.call("TipShaper.PropsSet", 0.0, 2, 0.0, -1.5e-9, 0.1, 0.0, 0.1, 2e-9, 0.1, 0.1, 1)
    client.call("TipShaper.Start", 1, -1)
    assert simulator.truth.smallest_gap < 0
    assert (simulator.truth.crashes, simulator.truth.indentations) == (0, 1)
    assert client.call("ZCtrl.StatusGet") == (2,)


# ---------------------------------------------------------------- images


def test_an_image_shows_the_lattice(start: Start, connect: Connect) -> None:
    client = connect(start())
    pixels, size = 192, 6e-9
    client.call("Scan.FrameSet", 0.0, 0.0, size, size, 0.0)
    plane = picture(client, pixels=pixels, line_time=0.2)
    window = np.outer(np.hanning(pixels), np.hanning(pixels))
    padded = 1024
    power = np.abs(np.fft.rfft2((plane - np.median(plane)) * window, (padded, padded)))
    step = size / pixels
    k = np.hypot(np.fft.fftfreq(padded, step)[:, None], np.fft.rfftfreq(padded, step)[None, :])
    power[(k < 2e9) | (k > 8e9)] = 0.0
    period = 2 / math.sqrt(3) / k.flat[power.argmax()]
    assert period == pytest.approx(LATTICE_CONSTANT, rel=0.02)


def test_an_image_is_the_surface(start: Start, connect: Connect, ws2: Any) -> None:
    simulator = start(Still(ws2.junction, ws2.conditions))
    client = connect(simulator)
    plane = picture(client, line_time=2.0)
    backward = client.call("Scan.FrameDataGrab", Z, 0)[1].astype(float)
    frame = simulator.controller.scan.frame
    x, y = frame_positions(frame, 64, 64).reshape(-1, 2).T
    sample, conditions = simulator.sample, simulator.sample.conditions
    gap = sample.gap(x, y, conditions.bias, conditions.setpoint)
    model = (sample.height(x, y) + gap).reshape(64, 64)
    assert np.corrcoef(plane.ravel(), model.ravel())[0, 1] > 0.95
    # Rows or columns the other way round do not fit.
    for flipped in (plane[::-1], plane[:, ::-1], plane.T):
        assert np.corrcoef(flipped.ravel(), model.ravel())[0, 1] < 0.8
    assert np.corrcoef(plane.ravel(), backward.ravel())[0, 1] > 0.9
    current = client.call("Scan.FrameDataGrab", CURRENT, FORWARD)[1]
    assert np.mean(current) == pytest.approx(conditions.setpoint, rel=0.01)


def test_the_frame_turns_clockwise(start: Start, connect: Connect, ws2: Any) -> None:
    client = connect(start(Still(ws2.junction, ws2.conditions)))
    straight = picture(client, line_time=2.0)
    client.call("Scan.FrameSet", 0.0, 0.0, 3e-9, 3e-9, 90.0)
    turned = picture(client, line_time=2.0)
    # A frame turned clockwise sees the sample turned the other way.
    assert np.corrcoef(np.rot90(straight, 1).ravel(), turned.ravel())[0, 1] > 0.8
    assert np.corrcoef(np.rot90(straight, -1).ravel(), turned.ravel())[0, 1] < 0.7


# ---------------------------------------------------------------- sweeps


def test_a_sweep_gives_the_figure_of_merit(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    sample, conditions = simulator.sample, simulator.sample.conditions
    low, high = conditions.window
    points, integration, amplitude = 600, 0.5, 5e-3
    client.call("BiasSpectr.ChsSet", [LOCKIN_X])
    client.call("BiasSpectr.PropsSet", 0, 1, 2, points, 0.0, 0, 0)
    client.call("BiasSpectr.LimitsSet", high, low)
    client.call("BiasSpectr.TimingSet", 0.05, 0.0, 0.0, 10.0, 1e-3, integration, 0.0, 0.0)
    client.call("BiasSpectr.AdvPropsSet", 1, 1, 0, 1)
    client.call("LockIn.ModAmpSet", 1, amplitude)
    got, true = [], []
    for x, y in itertools.product((-0.8e-9, 0.0, 0.8e-9), repeat=2):
        client.call("FolMe.XYPosSet", x, y, 1)
        _, (bias, harmonic), _ = client.call("BiasSpectr.Start", 1, "")
        got.append(-np.trapezoid(harmonic.astype(float) / amplitude, bias.astype(float)))
        where = beneath(simulator)[:, None]
        true.append(
            sample.figure_of_merit(*where, conditions.window, conditions.bias, conditions.setpoint)
        )
    noise = 10e-15 / math.sqrt(integration) / amplitude * (high - low) / math.sqrt(points)
    # The gap's own noise, 0.6 pm of 1.1 angstrom, and the drift in six minutes change the rest.
    truth = np.ravel(true)
    np.testing.assert_allclose(got, truth, rtol=0.05, atol=5 * noise)
    assert truth.max() > 20 * noise
    assert np.corrcoef(got, truth)[0, 1] > 0.99


def test_the_lock_in_is_off_unless_it_runs(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("BiasSpectr.ChsSet", [LOCKIN_X])
    client.call("BiasSpectr.TimingSet", *SLOW)

    def size(run: int) -> float:
        client.call("BiasSpectr.AdvPropsSet", 0, 0, 0, run)
        return float(np.abs(client.call("BiasSpectr.Start", 1, "")[1][1]).max())

    assert size(2) < 0.2e-12 < 0.8e-12 < size(1)


def test_a_shifted_reference_turns_x_into_y(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("BiasSpectr.TimingSet", *SLOW)
    client.call("BiasSpectr.AdvPropsSet", 1, 1, 0, 1)
    _, (_, _, x0, y0), _ = client.call("BiasSpectr.Start", 1, "")
    client.call("LockIn.DemodPhasSet", 1, -90.0)
    _, (_, _, x1, y1), _ = client.call("BiasSpectr.Start", 1, "")
    assert np.corrcoef(x0, y1)[0, 1] > 0.95
    assert np.std(y0) < 0.2 * np.std(x0) and np.std(x1) < 0.2 * np.std(y1)


def test_a_retracted_tip_sees_less_current(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)

    def current(offset: float) -> float:
        client.call("BiasSpectr.PropsSet", 0, 1, 2, 64, offset, 0, 0)
        return float(client.call("BiasSpectr.Start", 1, "")[1][1][0])

    ratio = current(0.0) / current(0.1e-9)
    kappa = simulator.sample.decay(simulator.sample.conditions.bias)
    assert math.log(ratio) == pytest.approx(2 * kappa * 0.1e-9, rel=0.1)


# ---------------------------------------------------------------- recorded grids


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Iterator[tuple[Grid, Sample]]:
    path = shared_data / "grids" / "grid-20x20-kpfm.3ds"
    yield read_3ds(path), open_sample(str(path), 0)


@pytest.mark.parametrize("pixel", [(0, 0), (3, 16), (10, 10), (19, 5), (19, 19)])
def test_a_replayed_spectrum_is_the_recorded_one(
    start: Start, connect: Connect, recorded: tuple[Grid, Sample], pixel: tuple[int, int]
) -> None:
    grid, sample = recorded
    simulator = start(sample)
    client = connect(simulator)
    row, column = pixel
    u = ((column + 0.5) / grid.nx - 0.5) * grid.frame.width
    v = ((row + 0.5) / grid.ny - 0.5) * grid.frame.height
    place_over(simulator, client, np.array([float(part) for part in grid.frame.absolute(u, v)]))
    client.call("BiasSpectr.PropsSet", 0, 1, 2, len(grid.sweep), 0.0, 0, 0)
    _, data, _ = client.call("BiasSpectr.Start", 1, "")
    np.testing.assert_allclose(data[0], grid.sweep, rtol=0, atol=1e-7)
    true = grid.channels["Current (A)"][row, column]
    preamplifier = simulator.controller.tip.preamplifier.sigma(5e-3, true)
    # Noise of the height, 0.3 pm white and 0.5 pm 1/f, reaches the current as 2 kappa dz.
    height = 2 * sample.decay(sample.conditions.bias) * math.hypot(0.3e-12, 0.5e-12) * np.abs(true)
    assert np.all(np.abs(data[1] - true) < 6 * np.hypot(preamplifier, height))


def test_a_replayed_image_is_the_recorded_height(
    start: Start, connect: Connect, recorded: tuple[Grid, Sample], tmp_path: Path
) -> None:
    # The grid was taken at constant height: give it a surface.
    grid, _ = recorded
    rows, columns = np.mgrid[: grid.ny, : grid.nx]
    surface = 20e-12 * np.sin(columns / 3) + 3e-12 * rows
    path = tmp_path / "surface.3ds"
    write_3ds(path, replace(grid, parameters={**grid.parameters, "Z (m)": surface}))
    client = connect(start(str(path)))
    # 16 x 16 pixels at the lower left of the grid, one upon one.
    step_x, step_y = grid.frame.width / grid.nx, grid.frame.height / grid.ny
    assert grid.frame.angle == 0
    x = grid.frame.x + (16 - grid.nx) / 2 * step_x
    y = grid.frame.y + (16 - grid.ny) / 2 * step_y
    client.call("Scan.FrameSet", x, y, 16 * step_x, 16 * step_y, 0.0)
    plane = picture(client, pixels=16, line_time=5.0)
    difference = plane - surface[:16, :16][::-1]
    assert np.std(difference) < 1.5e-12
    assert np.abs(difference - difference.mean()).max() < 6e-12


def test_a_recorded_sample_names_its_file(recorded: tuple[Grid, Sample]) -> None:
    grid, sample = recorded
    assert isinstance(sample, RecordedSample)
    assert sample.name == "grid-20x20-kpfm.3ds" and sample.conditions.frame == grid.frame
    assert sample.conditions.points == len(grid.sweep)


def test_what_cannot_be_replayed(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="swept in bias|grid was aborted"):
        open_sample(str(shared_data / "grids" / "grid-truncated.3ds"), 0)
    with pytest.raises(FileNotFoundError, match="no file .*missing.3ds"):
        open_sample(str(tmp_path / "missing.3ds"), 0)
    with pytest.raises(ValueError, match="unknown sample 'graphene'.*au111.*ws2.*3ds"):
        open_sample("graphene", 0)


# ---------------------------------------------------------------- drift


def shift(before: Array, after: Array, step: float) -> Array:
    """Movement (2,) of the picture along x and y (m), by least squares on the gradient."""
    slope_y, slope_x = np.gradient((before + after) / 2, step)
    # The first row is the top edge: y grows against the rows.
    columns = np.stack([-slope_x.ravel(), slope_y.ravel(), np.ones(before.size)], axis=1)
    solution, *_ = np.linalg.lstsq(columns, (after - before).ravel(), rcond=None)
    return np.asarray(solution[:2])


@pytest.mark.parametrize(("factor", "left"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 2.0)])
def test_drift_and_its_compensation(
    start: Start, connect: Connect, ws2: Any, factor: float, left: float
) -> None:
    simulator = start(Drifting(ws2.junction, ws2.conditions))
    client = connect(simulator)
    vx, vy, _ = Drifting.velocity
    client.call("Piezo.DriftCompSet", 1, factor * vx, factor * vy, 0.0, 10.0)
    # The piezo creeps after its way to the first image.
    picture(client, line_time=0.4)
    before = picture(client, line_time=0.4)
    after = picture(client, line_time=0.4)
    # From the start of one image to that of the next: 64 lines there and back.
    elapsed = 64 * 0.8
    moved = shift(before, after, 3e-9 / 64)
    np.testing.assert_allclose(moved, left * elapsed * np.array([vx, vy]), rtol=0, atol=8e-12)
    t = simulator.controller.clock.now()
    np.testing.assert_allclose(simulator.drift, np.array(Drifting.velocity) * t, rtol=1e-9)


def test_drift_moves_what_lies_beneath_the_tip(start: Start, connect: Connect, ws2: Any) -> None:
    simulator = start(Drifting(ws2.junction, ws2.conditions))
    client = connect(simulator)
    first = beneath(simulator)
    picture(client)
    client.call("Scan.Action", 6, 0)
    x, y = client.call("FolMe.XYPosGet", 1)
    assert (x, y) == (0.0, 0.0)
    # The sample has gone to the right, so that the tip is over what lay to the left.
    moved = beneath(simulator) - first
    drift = simulator.drift[:2]
    assert np.all(np.sign(moved) == -np.sign(drift))
    # The piezo creeps by some per cent of its way to the frame and back.
    np.testing.assert_allclose(moved, -drift, rtol=0, atol=6e-11)


def test_drift_has_the_reported_size() -> None:
    for name, mean in (("ws2", 0.5e-10), ("au111", 1.1e-10)):
        sample = open_sample(name, 0)
        sizes = [np.hypot(*sample.drift(seed).offset(1800.0)[0, :2]) for seed in range(100)]
        assert np.mean(sizes) == pytest.approx(mean, rel=0.25)


# ---------------------------------------------------------------- seeds


def session(start: Start, connect: Connect, seed: int) -> list[Any]:
    """Everything that a short session measures."""
    client = connect(start("ws2", seed=seed))
    got: list[Any] = [client.call("Current.Get"), picture(client, pixels=32).tobytes()]
    client.call("BiasSpectr.AdvPropsSet", 1, 1, 0, 1)
    for point in ((0.5e-9, 0.0), (0.0, 0.5e-9)):
        client.call("FolMe.XYPosSet", *point, 1)
        got.append(client.call("BiasSpectr.Start", 1, "")[1].tobytes())
        got.append(client.call("ZCtrl.ZPosGet"))
    got.append(picture(client, CURRENT, pixels=16).tobytes())
    return got


def test_one_seed_gives_one_measurement(start: Start, connect: Connect) -> None:
    first = session(start, connect, 3)
    assert session(start, connect, 3) == first
    for one, other in zip(first, session(start, connect, 4), strict=True):
        assert one != other


# ---------------------------------------------------------------- hidden truth


def test_the_truth_is_in_no_reply(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    picture(client, pixels=16)
    client.call("BiasSpectr.Start", 1, "")
    tip = simulator.controller.tip
    replies: dict[str, bytes] = {}
    for name in HANDLERS:
        layout = command(name)
        if name.endswith(("Get", "Grab")):
            first = Z if name.endswith("Grab") else 1
            values: list[Any] = [first, *[0] * len(layout.request)][: len(layout.request)]
            pairs = zip(layout.request, values, strict=True)
            values = [[0, 24, 30] if "[" in field.type else value for field, value in pairs]
            replies[name] = encode_fields(layout.response, client.call(name, *values))
    assert len(replies) > 60
    hidden = [tip.truth.smallest_gap, tip.truth.largest_current, *simulator.drift]
    for name, body in replies.items():
        for value in map(float, hidden):
            assert struct.pack(">f", value) not in body, name
            assert struct.pack(">d", value) not in body, name
    for word in ("truth", "gap", "crash", "ldos"):
        assert not any(word in name.lower() for name in (*command_names(), *SIGNALS))
