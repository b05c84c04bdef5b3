"""Spectroscopy grids: real files, round trips, other readers, and files that are none."""

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanonispy2.read import Grid as TheirGrid

from bluesky_gpsts.nanonis.files import FileFormatError, Frame, Grid, read_3ds, write_3ds

REAL = {"grids/grid-20x20-kpfm.3ds": 400, "grids/grid-truncated.3ds": 88}
SEGMENTS = (
    "Segment Start (V), Segment End (V), Settling (s), Integration (s), Steps (xn), "
    "Lockin, Init. Settling (s)"
)


def bits(a):
    return np.ascontiguousarray(np.asarray(a, ">f4")).view(">u4")


def made(n_recorded=12, sweep=None, **header):
    rng = np.random.default_rng(4)
    sweep = np.linspace(-1.0, 0.7, 18) if sweep is None else sweep
    parameters = {name: rng.normal(size=(3, 4)) * 1e-9 for name in ("X (m)", "Y (m)", "Z (m)")}
    channels = {
        name: rng.normal(size=(3, 4, sweep.size)) * 1e-12
        for name in ("Current (A)", "LI Demod 1 X (A)")
    }
    for values in (*parameters.values(), *channels.values()):
        values.reshape(12, -1)[n_recorded:] = np.nan
    return Grid(
        header={"Comment": 'a "b" c', "Bias Spectroscopy>Num Pixel": "18", **header},
        frame=Frame(1.106620e-7, -3.3e-8, 4e-9, 3e-9, 22.44028),
        sweep_signal="Bias (V)",
        sweep=sweep,
        parameters=parameters,
        channels=channels,
        n_recorded=n_recorded,
    )


def same(a, b):
    for ours, theirs in ((a.channels, b.channels), (a.parameters, b.parameters)):
        assert set(theirs) <= set(ours)
        for name, values in theirs.items():
            assert np.array_equal(np.float32(ours[name]), np.float32(values), equal_nan=True)
    assert (a.frame, a.sweep_signal, a.n_recorded) == (b.frame, b.sweep_signal, b.n_recorded)
    np.testing.assert_allclose(a.sweep, b.sweep, rtol=0, atol=1e-7 * np.abs(b.sweep).max())


@pytest.mark.parametrize(("name", "recorded"), REAL.items())
def test_real_grids_equal_nanonispy2(shared_data, name, recorded):
    grid = read_3ds(shared_data / name)
    theirs = TheirGrid(str(shared_data / name))
    assert (grid.nx, grid.ny) == tuple(theirs.header["dim_px"])
    assert grid.n_recorded == recorded == grid.recorded.sum()
    assert grid.complete == (recorded == grid.nx * grid.ny)
    assert list(grid.channels) == theirs.header["channels"]
    for channel, values in grid.channels.items():
        assert values.shape == (grid.ny, grid.nx, grid.sweep.size)
        assert np.array_equal(
            bits(values[grid.recorded]), bits(theirs.signals[channel])[grid.recorded]
        )
        assert np.isnan(values[~grid.recorded]).all()
    for i, values in enumerate(grid.parameters.values()):
        assert np.array_equal(
            bits(values[grid.recorded]), bits(theirs.signals["params"][..., i])[grid.recorded]
        )
    # They compute the axis in float32.
    span = np.abs(grid.sweep).max()
    assert np.abs(grid.sweep - theirs.signals["sweep_signal"]).max() < 3e-7 * span
    assert (grid.frame.x, grid.frame.y) == tuple(theirs.header["pos_xy"])
    assert grid.sweep_signal == theirs.header["sweep_signal"]


@pytest.mark.parametrize("name", REAL)
def test_pixel_centres_are_where_the_controller_says(shared_data, name):
    grid = read_3ds(shared_data / name)
    x, y = grid.positions()
    step = grid.frame.width / grid.nx
    ok = grid.recorded
    assert np.abs(grid.parameters["X (m)"] - x)[ok].max() < 0.01 * step
    assert np.abs(grid.parameters["Y (m)"] - y)[ok].max() < 0.01 * step


def test_a_sweep_is_read_from_the_file(shared_data):
    grid = read_3ds(shared_data / "grids/grid-20x20-kpfm.3ds")
    np.testing.assert_allclose(grid.sweep, np.linspace(0.2, -0.1, 128), rtol=0, atol=1e-8)
    np.testing.assert_allclose(grid.channels["Bias (V)"][3, 5], grid.sweep, rtol=0, atol=1e-4)
    aborted = read_3ds(shared_data / "grids/grid-truncated.3ds")
    assert aborted.sweep_signal == "Z (m)"
    assert np.array_equal(aborted.pixel_sweep(2, 23), aborted.sweep)
    with pytest.raises(ValueError, match="88 of 1024"):
        aborted.pixel_sweep(2, 24)


@pytest.mark.parametrize("name", REAL)
def test_real_grids_written_again_hold_the_same_bytes(shared_data, tmp_path, name):
    grid = read_3ds(shared_data / name)
    write_3ds(tmp_path / "copy.3ds", grid)
    old = (shared_data / name).read_bytes().partition(b":HEADER_END:\r\n")[2]
    new = (tmp_path / "copy.3ds").read_bytes().partition(b":HEADER_END:\r\n")[2]
    width = 4 * (len(grid.parameters) + len(grid.channels) * grid.sweep.size)
    assert new == old[: grid.n_recorded * width]
    again = read_3ds(tmp_path / "copy.3ds")
    assert set(again.header) == set(grid.header)
    for key in set(grid.header) - {"Grid settings"}:
        assert again.header[key] == grid.header[key]


@pytest.mark.parametrize("recorded", [12, 5])
def test_round_trip_and_nanonispy2(tmp_path, recorded):
    grid = made(recorded)
    path = tmp_path / "made.3ds"
    write_3ds(path, grid)
    again = read_3ds(path)
    same(again, grid)
    assert list(again.parameters)[:3] == ["Sweep Start", "Sweep End", "X (m)"]
    assert again.header["Comment"] == 'a "b" c'
    theirs = TheirGrid(str(path))
    for name, values in grid.channels.items():
        assert np.array_equal(
            bits(theirs.signals[name])[grid.recorded], bits(values)[grid.recorded]
        )
    np.testing.assert_allclose(theirs.signals["sweep_signal"], grid.sweep, rtol=0, atol=1e-7)
    assert np.array_equal(theirs.signals["topo"][0], np.float32(grid.parameters["Z (m)"][0]))
    assert tuple(theirs.header["pos_xy"]) == (grid.frame.x, grid.frame.y)
    assert theirs.header["angle"] == grid.frame.angle


def test_a_partial_last_pixel_is_dropped(tmp_path):
    path = tmp_path / "cut.3ds"
    write_3ds(path, made())
    raw = path.read_bytes()
    pixel = 4 * (5 + 2 * 18)
    path.write_bytes(raw[: -3 * pixel + 7])
    grid = read_3ds(path)
    assert (grid.n_recorded, grid.complete) == (9, False)
    assert np.isnan(grid.channels["Current (A)"][2, 1:]).all()
    assert np.isnan(grid.parameters["Z (m)"][2, 1:]).all()
    assert np.array_equal(
        np.float32(grid.channels["Current (A)"][2, 0]),
        np.float32(made().channels["Current (A)"][2, 0]),
    )


def test_a_grid_without_any_pixel_takes_its_axis_from_the_header(tmp_path):
    path = tmp_path / "none.3ds"
    limits = {
        "Bias Spectroscopy>Sweep Start (V)": "-1E+0",
        "Bias Spectroscopy>Sweep End (V)": "700E-3",
    }
    write_3ds(path, made(0, **limits))
    grid = read_3ds(path)
    assert grid.n_recorded == 0
    np.testing.assert_allclose(grid.sweep, made().sweep, rtol=1e-12)
    path.write_bytes(
        path.read_bytes().replace(b"Bias Spectroscopy>Sweep Start", b"Bias Spectroscopy>Start")
    )
    with pytest.raises(FileFormatError, match="limits of the sweep"):
        read_3ds(path)


@pytest.mark.parametrize("shared", [True, False])
def test_multi_line_segments(tmp_path, shared):
    parts = [np.linspace(0.3, 0.0, 30), np.linspace(0.0, -0.5, 10)]
    sweep = np.concatenate([parts[0], parts[1][1:] if shared else parts[1]])
    value = "300E-3,0E+0,10E-3,100E-3,30,0E+0,0E+0;0E+0,-500E-3,10E-3,100E-3,10,0E+0,0E+0"
    grid = made(sweep=sweep, Filetype="MLS", **{SEGMENTS: value})
    write_3ds(tmp_path / "mls.3ds", grid)
    again = read_3ds(tmp_path / "mls.3ds")
    np.testing.assert_allclose(again.sweep, sweep, rtol=0, atol=1e-15)
    assert np.array_equal(again.pixel_sweep(0, 0), again.sweep)
    wrong = dataclasses.replace(
        grid, header=grid.header | {SEGMENTS: value.replace(",30,", ",33,")}
    )
    with pytest.raises(ValueError, match="add up to"):
        write_3ds(tmp_path / "wrong.3ds", wrong)
    with pytest.raises(ValueError, match="equal steps"):
        write_3ds(tmp_path / "wrong.3ds", dataclasses.replace(grid, header={}))
    assert not (tmp_path / "wrong.3ds").exists()


def test_every_pixel_may_have_its_own_sweep(tmp_path):
    grid = made()
    start = np.full((3, 4), -1.0)
    start[1, 2] = -0.5
    limits = {"Sweep Start": start, "Sweep End": np.full((3, 4), 0.7)}
    write_3ds(tmp_path / "own.3ds", dataclasses.replace(grid, parameters=limits | grid.parameters))
    again = read_3ds(tmp_path / "own.3ds")
    assert again.sweep[0] == -1.0
    assert again.pixel_sweep(1, 2)[0] == -0.5


def test_rows_run_from_the_bottom_and_the_angle_is_clockwise():
    grid = dataclasses.replace(made(), frame=Frame(1e-9, 2e-9, 4e-9, 3e-9, 90.0))
    np.testing.assert_allclose(grid.x, [-1.5e-9, -0.5e-9, 0.5e-9, 1.5e-9])
    np.testing.assert_allclose(grid.y, [-1e-9, 0, 1e-9], atol=1e-24)
    x, y = grid.positions()
    # A quarter turn clockwise brings the bottom row to the left and its first pixel to the top.
    assert x[0, 0] == pytest.approx(0.0, abs=1e-20) and y[0, 0] == pytest.approx(3.5e-9)


def test_comments_of_several_lines_and_decimal_commas(tmp_path):
    path = tmp_path / "c.3ds"
    write_3ds(path, made(Comment="first"))
    raw = path.read_bytes().replace(b"Comment=first", b'Comment="first\r\nsecond"')
    raw = raw.replace(b"1.10662E-7;-3.3E-8", b"1,10662E-7;-3,3E-8")
    path.write_bytes(raw.replace(b"Points=18", b'Points="18"'))
    grid = read_3ds(path)
    assert grid.header["Comment"] == "first\nsecond"
    assert grid.frame == made().frame
    with pytest.raises(ValueError, match="line end"):
        write_3ds(path, grid)


def test_a_long_comment_takes_linear_time(tmp_path):
    path = tmp_path / "long.3ds"
    write_3ds(path, made(Comment="first"))
    path.write_bytes(path.read_bytes().replace(b"Comment=first", b"Comment=a" + b"\r\nb" * 300_000))
    assert len(read_3ds(path).header["Comment"]) == 600_001


def test_a_file_of_another_kind_says_so(shared_data, tmp_path):
    path = shared_data / "images/full_scan_1.jpg"
    size = path.stat().st_size
    words = "full_scan_1.jpg is not a Nanonis .3ds grid: no ':HEADER_END:' line in the first "
    with pytest.raises(FileFormatError) as error:
        read_3ds(path)
    assert str(error.value) == words + f"{size} bytes"
    with pytest.raises(FileNotFoundError):
        read_3ds(tmp_path / "absent.3ds")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"4 x 3"', b'"99999999 x 99999999"', "damaged"),
        (b'"4 x 3"', b'"4 x 2"', "at most 4 x 2 pixels"),
        (b'"4 x 3"', b'"4 by 3"', r"'4 by 3' in entry 'Grid dim' \(line 1\)"),
        (b"Points=18", b"Points=999999999", "Experiment size"),
        (b"(bytes)=144", b"(bytes)=145", "4 bytes x 2 channels x 18 points"),
        (b"(4 byte)=5", b"(4 byte)=6", "the number of names"),
        (b"Channels=", b"Chanels=", "'Channels'"),
        (b"2.244028E+1", b"2.24.4028E+1", "5 finite numbers"),
        (b"2.244028E+1", b"Inf", "5 finite numbers"),
    ],
)
def test_damaged_headers_are_named_and_nothing_is_allocated(tmp_path, old, new, words):
    path = tmp_path / "bad.3ds"
    write_3ds(path, made())
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new, 1))
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=words):
        read_3ds(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_reading_takes_a_small_multiple_of_the_file(shared_data):
    path = shared_data / "grids/grid-20x20-kpfm.3ds"
    tracemalloc.start()
    read_3ds(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4.5 * path.stat().st_size


def test_what_would_break_a_file_is_refused_and_leaves_nothing(tmp_path):
    grid = made()
    huge = made()
    huge.channels["Current (A)"][0, 0, 0] = 1e39
    bad = [
        huge,
        made(**{"a=b": "1"}),
        made(Comment="two\nlines"),
        dataclasses.replace(grid, channels={"a;b": grid.channels["Current (A)"]}),
        dataclasses.replace(grid, sweep=grid.sweep**2),
    ]
    for g in bad:
        with pytest.raises(ValueError):
            write_3ds(tmp_path / "x.3ds", g)
    assert list(tmp_path.iterdir()) == []
    for change in (
        {"channels": {}},
        {"sweep": grid.sweep[1:]},
        {"n_recorded": 13},
        {"parameters": {"X (m)": np.zeros(12)}},
    ):
        with pytest.raises(ValueError):
            dataclasses.replace(grid, **change)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    write_3ds(folder / "good.3ds", made())
    sweep = np.concatenate([np.linspace(0.3, 0.0, 8), np.linspace(0.0, -0.5, 10)])
    value = "300E-3,0,0,0,8,0,0;0,-500E-3,0,0,10,0,0"
    write_3ds(folder / "mls.3ds", made(7, sweep, Filetype="MLS", **{SEGMENTS: value}))
    return folder


def only_format_errors(path: Path, raw: bytes):
    path.write_bytes(raw)
    try:
        grid = read_3ds(path)
    except FileFormatError as error:
        assert path.name in str(error)
    else:
        assert grid.n_recorded * len(grid.channels) * grid.sweep.size * 4 <= len(raw)


@pytest.mark.parametrize("name", ["good.3ds", "mls.3ds"])
@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damage_raises_a_format_error_or_reads(scratch, name, data):
    raw = bytearray((scratch / name).read_bytes())
    end = raw.index(b":HEADER_END:") + 14
    # Most of the damage goes where it can do harm: into the header.
    where = st.one_of(st.integers(0, end - 1), st.integers(0, len(raw) - 1))
    for at, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), max_size=4)):
        raw[at] = value
    cut = data.draw(st.one_of(st.just(len(raw)), where))
    only_format_errors(scratch / "bad.3ds", bytes(raw[:cut]))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(head=st.binary(max_size=200), tail=st.binary(max_size=200))
def test_random_bytes_raise_a_format_error(scratch, head, tail):
    only_format_errors(scratch / "bad.3ds", head)
    only_format_errors(scratch / "bad.3ds", head + b"\n:HEADER_END:\r\n" + tail)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    dim=st.text("0123456789 x-", max_size=8),
    points=st.text("0123456789-.", max_size=4),
    segments=st.text("0123456789,;.-eENan", max_size=30),
)
def test_claimed_sizes_raise_a_format_error(scratch, dim, points, segments):
    raw = (scratch / "mls.3ds").read_bytes().replace(b"4 x 3", dim.encode())
    raw = raw.replace(b"Points=18", b"Points=" + points.encode())
    raw = raw.replace(b"300E-3,0,0,0,8,0,0", segments.encode())
    only_format_errors(scratch / "bad.3ds", raw)
