"""What the instrument does not allow is refused, not clipped, and nothing is written."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bluesky_gpsts.devices import SIMULATOR_LIMITS, LimitError, NanonisSTM
from bluesky_gpsts.nanonis import ConnectFailed
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator import Simulator

NAN, INF = math.nan, math.inf

REFUSED = [
    ("bias", 5.01),
    ("bias", -5.01),
    ("bias", NAN),
    ("bias", INF),
    ("bias", 0.0),
    ("bias", 19.9e-3),
    ("bias", -19.9e-3),
    ("z_controller.setpoint", 2.1e-9),
    ("z_controller.setpoint", 0.4e-12),
    ("z_controller.setpoint", 0.0),
    ("z_controller.setpoint", -3e-11),
    ("z_controller.setpoint", NAN),
    ("z_controller.p_gain", 3.0),
    ("z_controller.p_gain", -1e-12),
    ("z_controller.feedback", 2),
    ("z_controller.feedback", NAN),
    ("tip.speed", 201e-9),
    ("tip.speed", 0.0),
    ("tip.speed", NAN),
    ("scan.center_x", 0.499e-6),
    ("scan.center_y", -0.499e-6),
    ("scan.width", 1.1e-6),
    ("scan.height", 0.0),
    ("scan.height", -1e-9),
    ("scan.angle", NAN),
    ("scan.pixels", 32.5),
    ("scan.line_time", 0.0),
    ("scan.line_time", INF),
    ("spectroscopy.start", 5.01),
    ("spectroscopy.end", -5.01),
    ("spectroscopy.end", NAN),
    ("spectroscopy.points", 100.5),
    ("spectroscopy.z_offset", -0.21e-9),
    ("spectroscopy.z_offset", NAN),
    ("spectroscopy.integration", NAN),
    ("lock_in.amplitude", 51e-3),
    ("lock_in.amplitude", -1e-3),
    ("lock_in.amplitude", NAN),
]


def signal_of(stm: NanonisSTM, name: str) -> Any:
    signal: Any = stm
    for part in name.split("."):
        signal = getattr(signal, part)
    return signal


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_setting_out_of_limits(bench: Any, name: str, value: float) -> None:
    signal, original = signal_of(bench.stm, name), bench.state()
    for way in (signal.put, signal.set, signal.check_value):
        with pytest.raises(LimitError) as refused:
            way(value)
        assert len(str(refused.value)) > 20
    assert bench.server.writes == []
    assert bench.state() == original


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bias", 5.0),
        ("bias", -5.0),
        ("z_controller.setpoint", 0.5e-12),
        ("tip.speed", 200e-9),
        ("spectroscopy.z_offset", -0.2e-9),
        ("spectroscopy.z_offset", 5e-9),
        ("lock_in.amplitude", 0.0),
        ("lock_in.amplitude", 50e-3),
    ],
)
def test_the_limit_itself_is_allowed(bench: Any, name: str, value: float) -> None:
    signal = signal_of(bench.stm, name)
    signal.put(value)
    assert signal.get() == pytest.approx(value, rel=1e-6)


def test_bias_and_setpoint_are_limited_together(bench: Any) -> None:
    """Over a band gap, each of them at its limit would bring the tip to the sample."""
    stm = bench.stm
    with pytest.raises(LimitError, match=r"setpoint of 2e-09 A at a bias of 1\.2 V is refused"):
        stm.z_controller.setpoint.put(2e-9)
    with pytest.raises(LimitError, match=r"setpoint of 3e-11 A at a bias of 0\.02 V is refused"):
        stm.bias.put(20e-3)
    assert bench.server.writes == []
    stm.z_controller.setpoint.put(2e-12)
    stm.bias.put(20e-3)
    assert stm.bias.get() == pytest.approx(20e-3, rel=1e-6)
    stm.z_controller.feedback.put(0)
    stm.z_controller.setpoint.put(2e-9)
    with pytest.raises(LimitError, match="would come too near"):
        stm.z_controller.feedback.put(1)
    stm.z_controller.setpoint.put(2e-12)
    stm.z_controller.feedback.put(1)
    assert bench.simulator.truth.crashes == 0


def test_message_says_what_is_allowed(bench: Any) -> None:
    with pytest.raises(LimitError, match=r"a bias of 7 V is refused.* -5 to 5 V"):
        bench.stm.bias.put(7.0)
    with pytest.raises(LimitError, match=r"drive the tip into the sample.*0\.02 V"):
        bench.stm.bias.put(0.001)


def test_small_bias_is_allowed_without_feedback(bench: Any) -> None:
    bench.stm.z_controller.feedback.put(0)
    bench.stm.bias.put(0.0)
    assert bench.stm.bias.get() == 0.0
    with pytest.raises(LimitError, match="while the feedback is on"):
        bench.stm.z_controller.feedback.put(1)
    assert bench.controller.tip.feedback is False


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0.0, 0.0, 0.75e-6, 0.75e-6, 45.0),
        Frame(0.0, 0.0, 0.99e-6, 0.2e-6, 10.0),
        Frame(0.4e-6, 0.0, 0.21e-6, 1e-9, 0.0),
        Frame(0.0, -0.4e-6, 0.21e-6, 1e-9, 90.0),
        Frame(0.0, 0.0, 0.0, 1e-9, 0.0),
    ],
)
def test_frame_with_a_corner_out_of_reach(bench: Any, frame: Frame) -> None:
    """The piezo reaches half a micrometre each way, less the margin; corners turn along."""
    original = bench.state()
    with pytest.raises(LimitError):
        bench.stm.scan.set(frame)
    assert bench.server.writes == []
    assert bench.state() == original


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0.0, 0.0, 0.75e-6, 0.75e-6, 0.0),
        Frame(0.0, 0.0, 0.99e-6, 0.2e-6, 0.0),
        Frame(0.4e-6, 0.0, 0.21e-6, 1e-9, 90.0),
    ],
)
def test_frame_within_reach(bench: Any, frame: Frame) -> None:
    bench.stm.scan.set(frame).wait(timeout=10)


def test_frame_that_only_the_turn_takes_out_of_reach(bench: Any) -> None:
    scan = bench.stm.scan
    scan.set(Frame(0.0, 0.0, 0.75e-6, 0.75e-6, 0.0)).wait(timeout=10)
    bench.server.commands.clear()
    with pytest.raises(LimitError, match="corner"):
        scan.angle.put(45.0)
    assert bench.server.writes == []


def test_frame_of_the_operator_out_of_reach_is_not_scanned(bench: Any) -> None:
    bench.client.call("Scan.FrameSet", 0.0, 0.0, 0.75e-6, 0.75e-6, 45.0)
    bench.server.commands.clear()
    with pytest.raises(LimitError, match="corner"):
        bench.stm.scan.trigger()
    assert bench.server.writes == []


@pytest.mark.parametrize(
    "target",
    [(0.4995e-6, 0.0), (0.0, -0.6e-6), (NAN, 0.0), (0.0, INF)],
)
def test_position_out_of_reach(bench: Any, target: tuple[float, float]) -> None:
    original = bench.state()
    with pytest.raises(LimitError, match="the position at|must be 2 finite numbers"):
        bench.stm.tip.set(target)
    with pytest.raises(LimitError):
        bench.stm.tip.check_value(target)
    assert bench.server.writes == []
    assert bench.state() == original
    assert bench.stm.tip.position == pytest.approx((0.0, 0.0), abs=1e-12)


def test_drift_takes_a_position_out_of_reach(bench: Any) -> None:
    bench.stm.tip.check_value((0.498e-6, 0.0))
    bench.stm.tip.offset_x.put(3e-9)
    with pytest.raises(LimitError):
        bench.stm.tip.set((0.498e-6, 0.0))
    assert bench.server.writes == []


def test_speed_of_the_operator_too_high(bench: Any) -> None:
    bench.client.call("FolMe.SpeedSet", 1e-6, 1)
    bench.server.commands.clear()
    with pytest.raises(LimitError, match="tip speed"):
        bench.stm.tip.set((1e-9, 0.0))
    assert bench.server.writes == []


@pytest.mark.parametrize(
    ("command", "values", "match"),
    [
        ("BiasSpectr.LimitsSet", (6.0, -1.0), "a bias of 6 V"),
        ("BiasSpectr.TimingSet", (0.1, -5e-10, 0.1, 10.0, 0.0, 0.01, 0.1, 0.1), "a z offset"),
    ],
)
def test_sweep_of_the_operator_out_of_limits_is_not_started(
    bench: Any, command: str, values: tuple[float, ...], match: str
) -> None:
    if command == "BiasSpectr.LimitsSet":
        bench.controller.sweep.start = values[0]
    else:
        bench.client.call(command, *values)
    bench.server.commands.clear()
    with pytest.raises(LimitError, match=match):
        bench.stm.spectroscopy.trigger()
    assert bench.server.writes == []
    assert bench.controller.sweeps == 0


def test_limits_are_required_for_a_real_host() -> None:
    with pytest.raises(ValueError, match=r"limits are required for 192\.0\.2\.7"):
        NanonisSTM(host="192.0.2.7")
    with pytest.raises(ValueError, match="limits are required for stm-pc"):
        NanonisSTM(host="stm-pc")
    limits = replace(SIMULATOR_LIMITS, bias=(-1.0, 1.0))
    assert NanonisSTM(host="stm-pc", limits=limits).instrument_limits is limits
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1"):
        assert NanonisSTM(host=host).instrument_limits == SIMULATOR_LIMITS


@pytest.mark.parametrize(
    "slip",
    [
        {"bias": (-50.0, 5.0)},
        {"bias": (5.0, -5.0)},
        {"bias": (-5.0, NAN)},
        {"setpoint": (1e-12, 2.0)},
        {"setpoint": (-1e-12, 1e-9)},
        {"smallest_bias": 0.0},
        {"bias_step": -0.05},
        {"bias_slew": NAN},
        {"speed": 200.0},
        {"approach": 0.2},
        {"modulation": 50.0},
        {"margin": INF},
    ],
)
def test_limits_that_no_instrument_has(slip: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"limits: {next(iter(slip))}"):
        replace(SIMULATOR_LIMITS, **slip)


def test_own_limits_apply(make_bench: Callable[..., Any]) -> None:
    bench = make_bench()
    stm = bench.stm
    stm.instrument_limits = replace(SIMULATOR_LIMITS, bias=(-1.5, 1.5))
    with pytest.raises(LimitError, match="-1.5 to 1.5 V"):
        stm.bias.put(1.6)


def test_values_at_the_limit_survive_the_controllers_32_bits(
    make_bench: Callable[..., Any],
) -> None:
    """1.1 and 200e-9 grow, and -0.02 shrinks, when they become 32-bit numbers."""
    bench = make_bench()
    stm = bench.stm
    stm.instrument_limits = replace(SIMULATOR_LIMITS, bias=(-1.3, 1.1))
    stm.bias.put(1.1)
    stm.z_controller.setpoint.put(1e-12)
    stm.bias.put(-0.02)
    assert bench.controller.tip.feedback is True
    stm.spectroscopy.start.put(1.1)
    stm.spectroscopy.end.put(-1.3)
    stm.spectroscopy.points.put(8)
    stm.spectroscopy.trigger().wait(timeout=30)
    stm.tip.speed.put(200e-9)
    stm.tip.set((1e-9, 0.0)).wait(timeout=30)


def test_three_ports_are_needed() -> None:
    with pytest.raises(ValueError, match="three different ports"):
        NanonisSTM(ports=(6501, 6502, 6502))


def test_no_controller_at_the_port(ws2: Any) -> None:
    with Simulator(ws2, time_scale=0) as simulator:
        ports = simulator.ports
    stm = NanonisSTM(ports=ports)
    with pytest.raises(ConnectFailed, match=rf"No Nanonis controller at 127\.0\.0\.1:{ports[0]}"):
        stm.connect()
    assert not stm.link.connected


def test_a_port_that_another_client_holds(bench: Any) -> None:
    ports = bench.simulator.ports
    second = NanonisSTM(ports=(ports[2], ports[1], ports[3]))
    for client in (second.link.main, second.link.data, second.link.emergency):
        client.timeout = 0.2
    with pytest.raises(ConnectFailed, match=rf"{ports[2]}.*does not answer.*one client only"):
        second.connect()
    assert not any(
        client.connected for client in (second.link.main, second.link.data, second.link.emergency)
    )
    assert bench.stm.bias.get() == pytest.approx(1.2), "the first client goes on"


@pytest.mark.parametrize("value", ["1", None, [1.0, 2.0], NAN, True, 1j, {}])
def test_what_is_no_number_is_refused_in_a_sentence(bench: Any, value: Any) -> None:
    stm = bench.stm
    for part in (stm.bias, stm.z_controller.setpoint, stm.tip.x, stm.scan.width, stm.lock_in.phase):
        for way in (part.set, part.put, part.check_value):
            with pytest.raises(LimitError, match=f"{part.name} must be a finite number, not"):
                way(value)
    for part, what in (
        (stm.tip, "stm_tip must be 2 finite numbers"),
        (stm.scan, "a frame must be a Frame"),
    ):
        for way in (part.set, part.check_value):
            with pytest.raises(LimitError, match=what):
                way([1.0] if value == [1.0, 2.0] else value)
    if value is not None:
        with pytest.raises(LimitError, match="a drift compensation must be 3 finite numbers"):
            stm.piezo.set(value)
    assert bench.server.writes == []


def test_what_bluesky_checks_before_a_plan(bench: Any) -> None:
    from bluesky import RunEngine
    from bluesky.plan_stubs import mv
    from bluesky.simulators import check_limits

    RunEngine({})
    stm = bench.stm
    check_limits(mv(stm.bias, 1.0, stm.tip, (1e-9, 0.0)))
    for signal, value in ((stm.bias, 7.0), (stm.tip, (1.0, 0.0)), (stm.tip.x, 1.0)):
        with pytest.raises(LimitError):
            check_limits(mv(signal, value))
    assert bench.server.writes == []
