"""Scan images: real files, round trips, other readers, and files that are none."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanonispy2.read import Scan

from bluesky_gpsts.nanonis.files import FileFormatError, Frame, Image, read_sxm, write_sxm

REAL = [f"drift/img_0{n}.sxm" for n in (244, 246, 247, 249, 251, 253, 255)]
REAL += ["images/FeSe_topography.sxm", "spectra/line-hBN-defect/img_0070.sxm"]


def bits(a):
    return np.ascontiguousarray(np.asarray(a, ">f4")).view(">u4")


def correlation(a, b):
    ok = np.isfinite(a) & np.isfinite(b)
    return np.corrcoef(a[ok], b[ok])[0, 1]


def made(direction="down", **header):
    rng = np.random.default_rng(1)
    planes = rng.normal(size=(3, 3, 5)) * 1e-12
    planes[0, 2] = np.nan
    channels = {"Z": {"forward": planes[0], "backward": planes[1]}}
    channels["LI_Demod_1_X"] = {"forward": planes[2], "backward": planes[2] * 3}
    frame = Frame(-1.23456789012e-7, 3e-9, 5e-9, 3e-9, 33.3456)
    return Image(
        {"SCAN_DIR": direction, "BIAS": "0.1", **header},
        frame,
        channels,
        {"Z": "m", "LI_Demod_1_X": "A"},
    )


@pytest.mark.parametrize("name", REAL)
def test_real_images_equal_nanonispy2_up_to_orientation(shared_data, name):
    image = read_sxm(shared_data / name)
    theirs = Scan(str(shared_data / name))
    assert list(image.channels) == list(theirs.signals)
    flip = -1 if theirs.header["scan_dir"] == "up" else 1
    for channel, planes in theirs.signals.items():
        mine = image.channels[channel]
        assert np.array_equal(bits(mine["forward"]), bits(planes["forward"][::flip]))
        assert np.array_equal(bits(mine["backward"]), bits(planes["backward"][::flip, ::-1]))
    np.testing.assert_allclose((image.frame.x, image.frame.y), theirs.header["scan_offset"])
    assert (image.nx, image.ny) == tuple(theirs.header["scan_pixels"])
    assert image.units["Z"] == "m"
    assert image.header["Scan>series name"]


def test_forward_and_backward_show_the_same_surface(shared_data):
    z = read_sxm(shared_data / "images/FeSe_topography.sxm").channels["Z"]
    assert correlation(z["forward"], z["backward"]) > 0.95
    z = read_sxm(shared_data / "spectra/line-hBN-defect/img_0070.sxm").channels["Z"]
    assert correlation(z["forward"], z["backward"]) > 0.8
    assert correlation(z["forward"], z["backward"][:, ::-1]) < 0.5


def test_scans_up_and_down_show_the_same_surface(shared_data):
    up = read_sxm(shared_data / "drift/img_0246.sxm")
    down = read_sxm(shared_data / "drift/img_0247.sxm")
    assert (up.header["SCAN_DIR"], down.header["SCAN_DIR"]) == ("up", "down")
    # Constant height, and only the upper half was recorded: the last lines of the upward scan.
    a, b = (image.channels["Current"]["forward"] for image in (up, down))
    rows = np.isfinite(a).all(axis=1)
    assert np.array_equal(rows, np.isfinite(b).all(axis=1)) and rows[0] and not rows[-1]
    assert correlation(a, b) > 0.95
    assert correlation(a[rows][::-1], b[rows]) < 0.75


def test_unscanned_lines_stay_nan(shared_data):
    image = read_sxm(shared_data / "drift/img_0244.sxm")
    missing = np.isnan(image.channels["Z"]["forward"]).all(axis=1)
    # The first lines of this upward scan, the bottom ones, are missing.
    assert missing.any() and missing[-1] and not missing[0]


def test_the_angle_has_the_digits_of_the_scan_module(shared_data):
    assert read_sxm(shared_data / "drift/img_0244.sxm").frame.angle == 101.051


@pytest.mark.parametrize("name", REAL[:1] + REAL[-2:])
def test_real_images_written_again_hold_the_same_bytes(shared_data, tmp_path, name):
    image = read_sxm(shared_data / name)
    write_sxm(tmp_path / "copy.sxm", image)
    old, new = (shared_data / name).read_bytes(), (tmp_path / "copy.sxm").read_bytes()
    assert old.partition(b"\x1a\x04")[2] == new.partition(b"\x1a\x04")[2]
    again = read_sxm(tmp_path / "copy.sxm")
    assert again.frame == image.frame
    changed = {"SCAN_PIXELS", "SCAN_RANGE", "SCAN_OFFSET", "SCAN_ANGLE", "Scan>Scanfield"}
    assert set(again.header) == set(image.header)
    for key in set(image.header) - changed:
        assert again.header[key] == image.header[key]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_round_trip_and_nanonispy2(tmp_path, direction):
    image = made(direction, COMMENT="two\nlines, 1 Å", User="ä")
    path = tmp_path / "made.sxm"
    write_sxm(path, image)
    again = read_sxm(path)
    theirs = Scan(str(path))
    flip = -1 if direction == "up" else 1
    for name, planes in image.channels.items():
        for sense, plane in planes.items():
            assert np.array_equal(bits(again.channels[name][sense]), bits(plane))
        assert np.array_equal(
            bits(theirs.signals[name]["forward"][::flip]), bits(planes["forward"])
        )
        mirrored = theirs.signals[name]["backward"][::flip, ::-1]
        assert np.array_equal(bits(mirrored), bits(planes["backward"]))
    assert again.frame == image.frame
    assert again.units == image.units
    assert again.header["COMMENT"] == theirs.header["comment"] == "two\nlines, 1 Å"
    assert tuple(theirs.header["scan_range"]) == (5e-9, 3e-9)
    assert theirs.header["bias"] == 0.1


def test_one_direction_only_and_names_with_spaces(tmp_path):
    plane = np.arange(6.0).reshape(2, 3)
    image = Image({}, Frame(0, 0, 1e-9, 1e-9), {"LI X": {"backward": plane}}, {"LI X": "A"})
    write_sxm(tmp_path / "one.sxm", image)
    again = read_sxm(tmp_path / "one.sxm")
    assert list(again.channels) == ["LI_X"]
    assert list(again.channels["LI_X"]) == ["backward"]
    assert np.array_equal(again.channels["LI_X"]["backward"], plane)


def test_rows_run_from_the_top_and_the_angle_is_clockwise():
    image = made()
    assert np.all(np.diff(image.y) < 0) and np.all(np.diff(image.x) > 0)
    assert image.y[0] == pytest.approx(1e-9) and image.x[0] == pytest.approx(-2e-9)
    x, y = Frame(1.0, 2.0, 1.0, 1.0, 90.0).absolute(1.0, 0.0)
    assert (x, y) == (pytest.approx(1.0), pytest.approx(1.0))  # right turns to down
    assert image.positions()[0].shape == (3, 5)


def test_decimal_commas_and_cp1252(tmp_path):
    write_sxm(tmp_path / "a.sxm", made(COMMENT="1 A"))
    raw = (tmp_path / "a.sxm").read_bytes()
    head, end, data = raw.partition(b":SCANIT_END:")
    head = head.replace(b"5.0E-9 3.0E-9", b"5,0E-9 3,0E-9").replace(b"1 A", b"1 \xc5")
    (tmp_path / "b.sxm").write_bytes(head.replace(b"\n", b"\r\n") + end + data)
    image = read_sxm(tmp_path / "b.sxm")
    assert image.frame == made().frame
    assert image.header["COMMENT"] == "1 Å"


def test_a_file_of_another_kind_says_so(shared_data, tmp_path):
    path = shared_data / "images/full_scan_1.jpg"
    with pytest.raises(FileFormatError) as error:
        read_sxm(path)
    expected = "full_scan_1.jpg is not a Nanonis .sxm image: no ':SCANIT_END:' line in the first "
    assert str(error.value) == expected + f"{path.stat().st_size} bytes"
    assert error.value.path == path
    with pytest.raises(FileNotFoundError):
        read_sxm(tmp_path / "absent.sxm")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"5 3\n", b"99999 99999\n", "expected 159996800016 bytes"),
        (b"5 3\n", b"5 0\n", "positive integers"),
        (b"5 3\n", b"5\n", "SCAN_PIXELS"),
        (b":SCAN_RANGE:\n", b":SCAN_RANG:\n", "'SCAN_RANGE'"),
        (b"\ndown\n", b"\nleft\n", "'up' or 'down'"),
        (b"\tboth\t", b"\tboat\t", "Direction"),
        (b"FLOAT ", b"INT ", "FLOAT MSBFIRST"),
        (b"3.33456E+1", b"nan", "SCAN_ANGLE"),
        (b":NANONIS_VERSION:", b"NANONIS", "on line 1"),
        (b"\tName\t", b"\tTitle\t", "Name, Unit and Direction"),
    ],
)
def test_damaged_headers_are_named_and_nothing_is_allocated(tmp_path, old, new, words):
    path = tmp_path / "bad.sxm"
    write_sxm(path, made())
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new, 1))
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=words):
        read_sxm(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_what_would_break_a_file_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.sxm"
    bad = [made(COMMENT=":BIAS:\n1"), made(SCAN_DIR="sideways"), made(**{"a\tb": "1"})]
    huge = made()
    huge.channels["Z"]["forward"][0, 0] = 1e39
    for image in [*bad, huge]:
        with pytest.raises(ValueError):
            write_sxm(path, image)
    with pytest.raises(FileNotFoundError):
        write_sxm(tmp_path / "absent" / "x.sxm", made())
    assert list(tmp_path.iterdir()) == []
    plane = np.zeros((2, 2))
    for channels, units in [
        ({}, {}),
        ({"Z": {}}, {"Z": "m"}),
        ({"Z": {"forward": plane, "backward": plane[:1]}}, {"Z": "m"}),
        ({"Z": {"sideways": plane}}, {"Z": "m"}),
        ({"Z": {"forward": plane}}, {}),
    ]:
        with pytest.raises(ValueError):
            Image({}, Frame(0, 0, 1, 1), channels, units)
    with pytest.raises(ValueError, match="frame"):
        Frame(0, 0, -1, 1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sxm")
    write_sxm(folder / "good.sxm", made())
    return folder


def only_format_errors(path: Path, raw: bytes):
    path.write_bytes(raw)
    try:
        image = read_sxm(path)
    except FileFormatError as error:
        assert str(path.name) in str(error)
    else:
        assert image.nx * image.ny * 4 <= len(raw)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damage_raises_a_format_error_or_reads(scratch, data):
    raw = bytearray((scratch / "good.sxm").read_bytes())
    where = st.integers(0, len(raw) - 1)
    for at, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), max_size=4)):
        raw[at] = value
    cut = data.draw(st.one_of(st.just(len(raw)), where))
    only_format_errors(scratch / "bad.sxm", bytes(raw[:cut]))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(head=st.binary(max_size=200), tail=st.binary(max_size=200))
def test_random_bytes_raise_a_format_error(scratch, head, tail):
    only_format_errors(scratch / "bad.sxm", head)
    only_format_errors(scratch / "bad.sxm", head + b"\n:SCANIT_END:\n\n\n\x1a\x04" + tail)
