"""Point spectra: real files, round trips, other readers, and files that are none."""

import pickle
from pathlib import Path

import nanonis_xarray
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanonispy2.read import Spec

from bluesky_gpsts.nanonis.files import FileFormatError, Spectrum, read_dat, scientific, write_dat


def made(**extra):
    rng = np.random.default_rng(2)
    header = {
        "Experiment": "bias spectroscopy",
        "Saved Date": "01.02.2026 03:04:05",
        "User": "",
        "X (m)": scientific(-119.837e-9),
        "Y (m)": "-7.10031E-9",
        "Z (m)": "N/A",
        "Bias Spectroscopy>Channels": "Current (A);LI Demod 1 X (A)",
    }
    columns = {
        "Bias calc (V)": np.linspace(-1, 1, 41),
        "Current (A)": rng.normal(size=41) * 1e-12,
        "Current [bwd] (A)": rng.normal(size=41) * 1e-12,
        "LI Demod 1 X (A)": rng.normal(size=41) * 1e-15,
        "LI Demod 1 X [bwd] (A)": rng.normal(size=41) * 1e-15,
    }
    return Spectrum(header | extra, columns)


def real_spectra(shared_data):
    paths = sorted((shared_data / "spectra").rglob("*.dat"))
    assert len(paths) == 28
    return paths


def test_all_real_spectra_equal_nanonispy2(shared_data):
    for path in real_spectra(shared_data):
        spectrum = read_dat(path)
        theirs = Spec(str(path))
        assert [name.strip("\r") for name in theirs.signals] == list(spectrum.columns)
        for name, column in theirs.signals.items():
            assert np.array_equal(spectrum.columns[name], column, equal_nan=True)
        assert spectrum.x == float(spectrum.header["X (m)"])
        assert 1e-10 < abs(spectrum.x) < 1e-6
        assert "Bias Spectroscopy>Num Pixel" in spectrum.header


def test_byte_order_mark_line_ends_comments_and_decimal_commas(shared_data):
    old = read_dat(shared_data / "spectra/STS_nanonis_generic_4_5.dat")  # UTF-8 mark, CRLF
    assert old.header["Experiment"] == "bias spectroscopy"
    assert old.columns["Current (A)"][0] == -299.844e-12
    new = read_dat(shared_data / "spectra/STS_nanonis_generic_5e_1.dat")
    assert new.header["Cutoff frq"] == "0,01"
    assert len(new.columns) == 21 and new.columns["Bias calc (V)"].shape == (4096,)
    bare = read_dat(shared_data / "spectra/dIdV_00024.dat")  # no tab at the end of lines, LF
    assert bare.header["Comment01"] == "top layer" and bare.header["User"] == ""


def test_positions():
    spectrum = made()
    assert (spectrum.x, spectrum.y) == (-119.837e-9, -7.10031e-9)
    assert np.isnan(spectrum.z)
    assert made(**{"Y (m)": "-7,10031E-9"}).y == -7.10031e-9
    with pytest.raises(ValueError, match=r"no entry 'X \(m\)'"):
        _ = Spectrum({}, spectrum.columns).x


def test_round_trip_nanonispy2_and_nanonis_xarray(tmp_path):
    spectrum = made()
    path = tmp_path / "made.dat"
    write_dat(path, spectrum)
    again = read_dat(path)
    assert again.header == spectrum.header
    theirs = Spec(str(path))
    assert theirs.header == spectrum.header
    dataset = nanonis_xarray.read_dat(path, quantify_vars=False)
    assert dataset.attrs["header"]["Experiment"] == "bias spectroscopy"
    for name, column in spectrum.columns.items():
        np.testing.assert_allclose(again.columns[name], column, rtol=6e-9, atol=0)
        assert np.array_equal(theirs.signals[name], again.columns[name])
        sense = "bw" if "[bwd]" in name else "fw"
        variable = name.split(" [")[0].split(" (")[0].lower().replace(" ", "_")
        if variable != "bias_calc":
            values = dataset[variable].sel(direction=sense).values
            assert np.array_equal(values, again.columns[name])
            assert dataset[variable].attrs["units"] == "A"
    assert np.array_equal(dataset["bias_calc"].values, again.columns["Bias calc (V)"])


def test_real_spectra_written_again_are_equal(shared_data, tmp_path):
    for path in real_spectra(shared_data)[:8]:
        spectrum = read_dat(path)
        write_dat(tmp_path / "copy.dat", spectrum)
        again = read_dat(tmp_path / "copy.dat")
        assert again.header == spectrum.header
        for name, column in spectrum.columns.items():
            assert np.array_equal(again.columns[name], column)


def test_float32_survives_exactly(tmp_path):
    values = np.float32(np.random.default_rng(3).normal(size=500) * 1e-11).astype(float)
    header = {"Experiment": "bias spectroscopy"}
    write_dat(tmp_path / "f.dat", Spectrum(header, {"Current (A)": values}))
    again = read_dat(tmp_path / "f.dat").columns["Current (A)"]
    assert np.array_equal(again.astype(np.float32), values.astype(np.float32))


def test_an_aborted_spectrum_without_rows_and_repeated_names(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(b"Experiment\tx\t\r\n\r\n[DATA]\r\nA (V)\tA (V)\r\n")
    assert {k: v.shape for k, v in read_dat(path).columns.items()} == {
        "A (V)": (0,),
        "A (V) #2": (0,),
    }
    path.write_bytes(b"Caf\xe9\t1 \xb0\t\n[DATA]\nA (V)\n1,5E+0\nNaN\n\n-Inf\n")
    spectrum = read_dat(path)
    assert spectrum.header == {"Café": "1 °"}
    assert np.array_equal(spectrum.columns["A (V)"], [1.5, np.nan, -np.inf], equal_nan=True)


def test_many_equal_names_take_linear_time(tmp_path):
    path = tmp_path / "many.dat"
    path.write_bytes(b"[DATA]\n" + b"\t".join([b"A"] * 200_000) + b"\n")
    names = list(read_dat(path).columns)
    assert (names[0], names[-1], len(names)) == ("A", "A #200000", 200_000)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"A\tB\r\n1\t2\r\n3\r\n", "1 on line 5"),
        (b"A\tB\r\n1\t2\r\n3\tx\r\n", "'x' on line 5"),
        (b"A\tB\r\n1\t2\r\n3\t4", "cut off"),
        (b"A\tB\r\n1\t\r\n", "1 on line 4"),
        (b"A\t\tB\r\n1\t2\t3\r\n", "line 3"),
        (b"", "column names"),
    ],
)
def test_damaged_rows_are_named(tmp_path, body, words):
    path = tmp_path / "bad.dat"
    path.write_bytes(b"Experiment\tx\t\r\n[DATA]\r\n" + body)
    with pytest.raises(FileFormatError, match=words) as error:
        read_dat(path)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_file_of_another_kind_says_so(shared_data, tmp_path):
    words = r"is not a Nanonis .dat spectrum: no '\[DATA\]' line in the first 524296 bytes"
    with pytest.raises(FileFormatError, match="image_with_defects.dat " + words):
        read_dat(shared_data / "images/image_with_defects.dat")
    with pytest.raises(FileNotFoundError):
        read_dat(tmp_path / "absent.dat")


def test_what_would_break_a_file_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.dat"
    write_dat(path, made())
    before = path.read_bytes()
    bad = [
        made(Comment="two\nlines"),
        made(Comment="a\tb"),
        made(**{"a\tb": "1"}),
        made(**{"": "1"}),
    ]
    bad += [Spectrum({}, made().columns), Spectrum(made().header, {"A\tB": np.zeros(2)})]
    for spectrum in bad:
        with pytest.raises(ValueError):
            write_dat(path, spectrum)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    for columns in ({}, {"A": np.zeros(2), "B": np.zeros(3)}, {"A": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="columns"):
            Spectrum({}, columns)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dat")
    write_dat(folder / "good.dat", made())
    return folder


def only_format_errors(path: Path, raw: bytes):
    path.write_bytes(raw)
    try:
        spectrum = read_dat(path)
    except FileFormatError as error:
        assert path.name in str(error)
    else:
        assert sum(column.size for column in spectrum.columns.values()) <= len(raw)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damage_raises_a_format_error_or_reads(scratch, data):
    raw = bytearray((scratch / "good.dat").read_bytes())
    where = st.integers(0, len(raw) - 1)
    for at, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), max_size=4)):
        raw[at] = value
    cut = data.draw(st.one_of(st.just(len(raw)), where))
    only_format_errors(scratch / "bad.dat", bytes(raw[:cut]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(head=st.binary(max_size=200), tail=st.binary(max_size=200))
def test_random_bytes_raise_a_format_error(scratch, head, tail):
    only_format_errors(scratch / "bad.dat", head)
    only_format_errors(scratch / "bad.dat", head + b"\n[DATA]\nA\tB\n" + tail + b"\n")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=st.text("0123456789.,eE+-xnaifINF_j#\"'\t\r\n \x00", max_size=60))
def test_number_like_text_raises_a_format_error(scratch, text):
    only_format_errors(scratch / "bad.dat", f"\n[DATA]\nA\tB\n{text}\n".encode())
