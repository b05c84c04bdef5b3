"""What the devices tell Bluesky, and that what is set is what the controller gets."""

import math
from collections.abc import Callable
from typing import Any

import bluesky.plans as bp
import matplotlib
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.callbacks.best_effort import BestEffortCallback
from ophyd import Kind

from bluesky_gpsts.devices import LimitError, NanonisSTM
from bluesky_gpsts.devices.electronics import Bias
from bluesky_gpsts.devices.signals import ArraySignal, SettingSignal
from bluesky_gpsts.nanonis.commands import RELEASES
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator import Fault

# A value other than the simulator's own, for every setting.
OTHER = {
    "bias": 0.6,
    "z_controller.feedback": 0,
    "z_controller.setpoint": 4.2e-11,
    "z_controller.p_gain": 7e-12,
    "z_controller.time_constant": 3.5e-4,
    "tip.speed": 1.25e-8,
    "scan.center_x": 1.5e-9,
    "scan.center_y": -2.5e-9,
    "scan.width": 5.5e-9,
    "scan.height": 4.5e-9,
    "scan.angle": 30.0,
    "scan.pixels": 64,
    "scan.lines": 40,
    "scan.line_time": 0.7,
    "scan.line_time_backward": 0.9,
    "spectroscopy.start": 1.1,
    "spectroscopy.end": -0.9,
    "spectroscopy.sweeps": 3,
    "spectroscopy.backward": 1,
    "spectroscopy.points": 77,
    "spectroscopy.z_averaging": 0.3,
    "spectroscopy.z_offset": -5e-11,
    "spectroscopy.initial_settling": 0.2,
    "spectroscopy.slew": 4.0,
    "spectroscopy.settling": 0.004,
    "spectroscopy.integration": 0.011,
    "spectroscopy.end_settling": 0.25,
    "spectroscopy.z_control": 0.35,
    "lock_in.on": 1,
    "lock_in.amplitude": 0.0125,
    "lock_in.frequency": 791.0,
    "lock_in.phase": 33.0,
    "shaper.delay": 0.01,
    "shaper.change_bias": 0,
    "shaper.bias": 0.3,
    "shaper.lift": -7e-10,
    "shaper.lift_time": 0.2,
    "shaper.bias_lift": 0.4,
    "shaper.settling": 0.15,
    "shaper.height": 3e-9,
    "shaper.height_time": 0.25,
    "shaper.end_wait": 0.35,
    "shaper.restore": 0,
}
# What else the controller tells otherwise when a setting changes.
FOLLOWS = {
    "scan.width": {"Scan.SpeedGet"},
}


def settings_of(stm: NanonisSTM) -> dict[str, SettingSignal]:
    return {
        found.dotted_name: found.item
        for found in stm.walk_signals()
        if isinstance(found.item, SettingSignal)
    }


@pytest.mark.parametrize("release", RELEASES)
def test_every_setting_goes_to_the_controller_and_back(
    make_bench: Callable[..., Any], release: int
) -> None:
    bench = make_bench(protocol_release=release)
    settings = settings_of(bench.stm)
    assert set(settings) == set(OTHER)
    original = bench.state()
    for name, signal in settings.items():
        before, value = signal.get(), OTHER[name]
        assert before != pytest.approx(value, rel=1e-6), name
        signal.set(value).wait(timeout=10)
        assert signal.get() == pytest.approx(value, rel=1e-6), name
        assert signal.read()[signal.name]["value"] == pytest.approx(value, rel=1e-6), name
        state = bench.state()
        changed = {command for command in state if state[command] != original[command]}
        assert changed == {signal.group.get} | FOLLOWS.get(name, set()), name
        signal.set(before).wait(timeout=10)
        assert bench.state() == original, name


@pytest.mark.parametrize("release", RELEASES)
def test_switches_are_not_flipped_by_writing_their_neighbours(
    make_bench: Callable[..., Any], release: int
) -> None:
    """Get counts 0 off, 1 on where Set counts 1 on, 2 off: both ways round must survive."""
    bench = make_bench(protocol_release=release)
    stm, sweep, scan = bench.stm, bench.controller.sweep, bench.controller.scan
    for flag in (True, False):
        sweep.save_all = sweep.backward = sweep.autosave = sweep.record_final_z = flag
        sweep.run_lockin, sweep.reset_bias, sweep.hold = flag, not flag, not flag
        scan.continuous = scan.bouncy = flag
        scan.autosave = scan.autopaste = int(flag)
        scan.series, scan.comment = "night 3", "do not touch"
        original = bench.state()
        stm.stage()
        assert sweep.hold and sweep.reset_bias, "the loop must be held in every sweep"
        assert not scan.continuous, "a continuous scan never ends"
        for name in ("points", "sweeps", "z_offset"):
            signal = getattr(stm.spectroscopy, name)
            signal.put(OTHER[f"spectroscopy.{name}"])
        assert sweep.backward is flag
        assert sweep.save_all is flag
        stm.unstage()
        assert bench.state() == original


def test_several_settings_of_one_group_at_once(bench: Any) -> None:
    """Bluesky sets them together; written in parallel they would undo each other."""
    scan = bench.stm.scan
    for number in range(10):
        statuses = [
            scan.pixels.set(16 * (number + 1)),
            scan.lines.set(7 + number),
            scan.line_time.set(0.1 * (number + 1)),
            scan.line_time_backward.set(0.2 * (number + 1)),
        ]
        for status in statuses:
            status.wait(timeout=10)
        assert (scan.pixels.get(), scan.lines.get()) == (16 * (number + 1), 7 + number)
        assert scan.line_time.get() == pytest.approx(0.1 * (number + 1))
        assert scan.line_time_backward.get() == pytest.approx(0.2 * (number + 1))


def test_line_time_can_be_set_whatever_the_controller_keeps_constant(bench: Any) -> None:
    bench.controller.scan.keep_constant = 1
    before = bench.state()["Scan.SpeedGet"]
    bench.stm.scan.line_time.put(0.25)
    assert bench.stm.scan.line_time.get() == pytest.approx(0.25)
    bench.stm.scan.line_time.put(before[2])
    assert bench.state()["Scan.SpeedGet"] == before


def test_what_the_controller_makes_of_a_value_is_reported(bench: Any) -> None:
    with pytest.raises(LimitError, match=r"stm_scan_pixels was set to 20.*made it 16"):
        bench.stm.scan.pixels.put(20)
    status = bench.stm.scan.pixels.set(37)
    assert isinstance(status.exception(timeout=10), LimitError)


def test_a_controller_that_tells_scan_properties_malformed_is_still_usable(bench: Any) -> None:
    """Some leave out columns of this one reply; nothing of it is written then."""
    scan = bench.controller.scan
    scan.series, scan.continuous = "night 3", True
    original = bench.state()
    bench.simulator.inject(Fault("wrong name", "Scan.PropsGet", times=4))
    bench.stm.stage()
    bench.stm.spectroscopy.points.put(99)
    bench.stm.unstage()
    assert "Scan.PropsSet" not in bench.server.writes
    assert bench.state() == original


@pytest.mark.parametrize("part", ["", "scan", "spectroscopy", "tip", "z_controller", "lock_in"])
def test_describe_fits_what_is_read(bench: Any, part: str) -> None:
    stm = bench.stm
    if part == "spectroscopy":
        stm.spectroscopy.points.put(16)
        stm.spectroscopy.trigger().wait(timeout=30)
    if part == "scan":
        stm.scan.pixels.put(16)
        stm.scan.lines.put(3)
        stm.scan.trigger().wait(timeout=30)
    device = getattr(stm, part) if part else stm
    for describe, read in (
        (device.describe(), device.read()),
        (device.describe_configuration(), device.read_configuration()),
    ):
        assert list(describe) == list(read)
        for key, reading in read.items():
            entry = describe[key]
            assert entry["source"] == f"nanonis:{key}"
            value = reading["value"]
            if isinstance(value, np.ndarray):
                assert entry["dtype"] == "array"
                assert entry["shape"] == list(value.shape)
                assert entry["dtype_numpy"] == "<f8" == value.dtype.str
            else:
                assert (entry["dtype"], entry["shape"]) == ("number", [])
                assert type(value) is float
                assert isinstance(entry["precision"], int)
            assert reading["timestamp"] > 1.6e9


def test_units_are_si(bench: Any) -> None:
    units = {
        name: signal.describe()[signal.name].get("units", "")
        for name, signal in ((found.dotted_name, found.item) for found in bench.stm.walk_signals())
    }
    assert units["bias"] == "V"
    assert units["current.value"] == units["z_controller.setpoint"] == "A"
    assert units["spectroscopy.didv"] == "A/V"
    assert units["spectroscopy.slew"] == "V/s"
    assert units["tip.speed"] == units["piezo.drift_x"] == "m/s"
    assert units["scan.angle"] == units["lock_in.phase"] == "deg"
    assert {units[f"tip.{name}"] for name in ("x", "y", "piezo_x", "piezo_y")} == {"m"}
    bare = {name for name, unit in units.items() if not unit}
    assert bare == {
        "z_controller.feedback",
        "z_controller.status",
        "scan.pixels",
        "scan.lines",
        "spectroscopy.sweeps",
        "spectroscopy.backward",
        "spectroscopy.points",
        "lock_in.on",
        "piezo.drift_compensation",
        "safe_tip.on",
        "shaper.change_bias",
        "shaper.restore",
    }


def test_precision_shows_what_matters(bench: Any) -> None:
    """A picometre, a tenth of a picoampere and a tenth of a millivolt must be visible."""
    for signal, step in (
        (bench.stm.tip.x, 1e-12),
        (bench.stm.z_controller.z, 1e-12),
        (bench.stm.current.value, 1e-13),
        (bench.stm.bias, 1e-4),
        (bench.stm.z_controller.setpoint, 1e-13),
        (bench.stm.scan.pixels, 1),
    ):
        precision = signal.describe()[signal.name]["precision"]
        assert 10.0**-precision <= step * (1 + 1e-9)
    assert bench.stm.scan.pixels.describe()["stm_scan_pixels"]["precision"] == 0


def test_hints_and_kinds(bench: Any) -> None:
    stm = bench.stm
    assert stm.hints["fields"] == [
        "stm_bias",
        "stm_current_value",
        "stm_z_controller_z",
        "stm_tip_x",
        "stm_tip_y",
    ]
    assert stm.spectroscopy.hints["fields"] == [], "no table shows an array"
    arrays = [f.item for f in stm.walk_signals() if isinstance(f.item, ArraySignal)]
    assert {signal.kind for signal in arrays} == {Kind.normal}
    for name, signal in settings_of(stm).items():
        kind = Kind.hinted if isinstance(signal, Bias) else Kind.config
        # The tip shaper's window may be closed, so that it is no part of the baseline.
        assert signal.kind == (Kind.normal if name.startswith("shaper.") else kind)
    assert {signal.name for signal in stm.settings()} >= {
        "stm_z_controller_setpoint",
        "stm_spectroscopy_points",
        "stm_scan_width",
        "stm_lock_in_amplitude",
        "stm_safe_tip_threshold",
    }


def test_table_and_plots_of_best_effort_callback(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    stm, engine = bench.stm, RunEngine({})
    engine.subscribe(BestEffortCallback())
    try:
        engine(bp.scan([stm.current, stm.z_controller], stm.bias, 1.0, 0.5, 3))
        titles = [plt.figure(number).get_label() for number in plt.get_fignums()]
    finally:
        plt.close("all")
    assert titles == ["stm_current_value stm_z_controller_z vs stm_bias"]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == [
        "seq_num",
        "time",
        "stm_bias",
        "stm_current_value",
        "stm_z_controller_z",
    ]
    assert [row.strip("|").split("|")[2].strip() for row in rows[1:]] == [
        "1.0000",
        "0.7500",
        "0.5000",
    ]
    assert all(float(row.strip("|").split("|")[3]) > 1e-12 for row in rows[1:])


def test_subscribers_see_a_setting_change(bench: Any) -> None:
    seen: list[Any] = []
    signal = bench.stm.z_controller.setpoint
    signal.subscribe(lambda value, **kwargs: seen.append(value), run=False)
    signal.put(5e-11)
    assert seen == [5e-11]


def test_what_can_only_be_read_cannot_be_set(bench: Any) -> None:
    with pytest.raises(PermissionError, match="stm_current_value"):
        bench.stm.current.value.put(1.0)
    assert bench.server.writes == []


def test_frame_as_a_whole(bench: Any) -> None:
    frame = Frame(1e-9, -2e-9, 6e-9, 4e-9, 20.0)
    bench.stm.scan.set(frame).wait(timeout=10)
    got = bench.stm.scan.frame()
    for name in ("x", "y", "width", "height", "angle"):
        assert getattr(got, name) == pytest.approx(getattr(frame, name), rel=1e-6)


@pytest.mark.parametrize("release", RELEASES)
def test_drift_compensation(make_bench: Callable[..., Any], release: int) -> None:
    bench = make_bench(protocol_release=release)
    piezo = bench.stm.piezo
    piezo.set((1e-12, -2e-12, 0.0)).wait(timeout=10)
    assert bench.controller.compensation_on
    assert piezo.drift_compensation.get() == 1
    assert piezo.drift_x.get() == pytest.approx(1e-12)
    assert piezo.drift_y.get() == pytest.approx(-2e-12)
    with pytest.raises(LimitError, match="a drift compensation of 1e-08 m/s is refused"):
        piezo.set((1e-8, 0.0, 0.0))
    assert bench.controller.compensation_velocity[1] == pytest.approx(-2e-12)
    piezo.set(None).wait(timeout=10)
    assert piezo.drift_compensation.get() == 0
    assert not bench.controller.compensation_on


def test_readings_are_the_controllers(bench: Any) -> None:
    stm = bench.stm
    assert stm.piezo.range_x.get() == pytest.approx(bench.controller.tip.range_xyz[0])
    assert math.isclose(stm.z_controller.z.get(), bench.controller.tip.z, rel_tol=1e-6)
    assert stm.current.value.get() == pytest.approx(stm.z_controller.setpoint.get(), rel=0.2)
    assert stm.safe_tip.on.get() == 0
    assert stm.z_controller.status.get() == 2
