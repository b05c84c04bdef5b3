"""Spectra from files and runs, with and without labels."""

from pathlib import Path

import numpy as np
import pytest
from analysis_runs import Experiment, gp_sts_run

from bluesky_gpsts.analysis.labelled import (
    differential,
    read_file,
    read_folder,
    read_labelled_runs,
    read_labels,
)
from bluesky_gpsts.nanonis.files import (
    FileFormatError,
    Frame,
    Grid,
    Spectrum,
    read_dat,
    write_3ds,
    write_dat,
)
from bluesky_gpsts.spectra.folders import DataError

BIAS = np.linspace(-1.0, 1.0, 101)


def conductance(seed: int, bias: np.ndarray = BIAS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1e-10 * (1.0 + rng.random() * bias + np.exp(-(((bias - rng.random()) / 0.2) ** 2)))


def write(path: Path, seed: int, bias: np.ndarray = BIAS, **changes: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    didv = conductance(seed, bias)
    current = np.concatenate([[0.0], np.cumsum(0.5 * (didv[1:] + didv[:-1]) * np.diff(bias))])
    columns = {"Bias calc (V)": bias, "Current (A)": current, "LI Demod 1 X (A)": 0.02 * didv}
    write_dat(path, Spectrum({"Experiment": "bias spectroscopy"}, columns | changes))
    return path


def folder(root: Path, layout: dict[str, int]) -> Path:
    for name, seed in layout.items():
        write(root / name, seed)
    return root


@pytest.mark.parametrize("gain", [0.02, -3e6])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_lockin_is_calibrated_by_the_current(gain, turn):
    bias = BIAS[::turn]
    didv = np.stack([conductance(seed, bias) for seed in (1, 2)])
    steps = 0.5 * (didv[:, 1:] + didv[:, :-1]) * np.diff(bias)
    current = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0))) + 3e-12
    found, source = differential(bias, current, gain * didv)
    assert source == "lock-in"
    np.testing.assert_allclose(found, didv, rtol=1e-9)
    found, source = differential(bias, current, None)
    assert source == "current"
    np.testing.assert_allclose(found[:, 1:-1], didv[:, 1:-1], rtol=0.02)


def test_a_lockin_that_was_off_is_not_believed():
    didv = conductance(1)[None, :]
    current = np.cumsum(didv, axis=1) * (BIAS[1] - BIAS[0])
    noise = 1e-15 * np.random.default_rng(0).normal(size=didv.shape)
    for lockin in (noise, np.zeros_like(didv), np.full_like(didv, np.nan)):
        found, source = differential(BIAS, current, lockin)
        assert source == "current"
        np.testing.assert_allclose(found, np.gradient(current, BIAS, axis=1))


def test_a_point_spectrum(tmp_path):
    measured = read_file(write(tmp_path / "one.dat", 3))
    assert measured.name == "one.dat" and measured.shape is None and measured.source == "lock-in"
    np.testing.assert_allclose(measured.bias, BIAS)
    np.testing.assert_allclose(measured.didv, conductance(3)[None, :], rtol=1e-6)
    assert list(measured.numbers) == [0]


def test_an_aborted_grid_has_the_spectra_that_were_recorded(tmp_path):
    didv = np.stack([conductance(seed) for seed in range(6)]).reshape(2, 3, 101)
    current = np.cumsum(didv, axis=2) * (BIAS[1] - BIAS[0])
    channels = {"Current (A)": current, "LI Demod 1 X (A)": 0.02 * didv}
    parameters = {"Sweep Start": np.full((2, 3), -1.0), "Sweep End": np.full((2, 3), 1.0)}
    for recorded in (6, 4):
        grid = Grid({}, Frame(0, 0, 1e-9, 1e-9), "Bias (V)", BIAS, parameters, channels, recorded)
        path = tmp_path / f"{recorded}.3ds"
        write_3ds(path, grid)
        measured = read_file(path)
        assert measured.didv.shape == (recorded, 101) and measured.shape == (2, 3)
        ratio = measured.didv / didv.reshape(6, 101)[:recorded]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
        assert ratio[0, 0] == pytest.approx(1.0, rel=0.05)
    empty = tmp_path / "empty.3ds"
    write_3ds(empty, Grid({}, Frame(0, 0, 1e-9, 1e-9), "Bias (V)", BIAS, parameters, channels, 1))
    data = empty.read_bytes()
    header = data.index(b":HEADER_END:")
    (tmp_path / "none.3ds").write_bytes(data[: header + len(b":HEADER_END:\r\n")])
    with pytest.raises((DataError, FileFormatError)):
        read_file(tmp_path / "none.3ds")


def test_files_that_are_no_spectra_are_refused(tmp_path):
    with pytest.raises(DataError, match="give a Nanonis .dat or .3ds file"):
        read_file(tmp_path / "image.sxm")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing.dat")
    path = write(tmp_path / "still.dat", 1, np.zeros(5))
    with pytest.raises(DataError, match="its 5 bias values do not rise or fall throughout"):
        read_file(path)
    columns = {"Bias calc (V)": BIAS, "Z (m)": BIAS}
    write_dat(tmp_path / "z.dat", Spectrum({"Experiment": "x"}, columns))
    with pytest.raises(DataError, match=r"no channel 'Current \(A\)'; it has Bias calc \(V\), Z"):
        read_file(tmp_path / "z.dat")
    write_dat(tmp_path / "s.dat", Spectrum({"Experiment": "x"}, {"Z rel (m)": BIAS}))
    with pytest.raises(DataError, match=r"was swept in 'Z rel \(m\)'"):
        read_file(tmp_path / "s.dat")


def test_a_folder_for_each_class(tmp_path):
    root = folder(
        tmp_path,
        {
            "WS2/monday/1.dat": 1,
            "WS2/monday/2.dat": 2,
            "V_S/monday/3.dat": 3,
            "V_S/4.DAT": 4,
            ".hidden/5.dat": 5,
        },
    )
    write(root / "V_S" / "monday" / "wide.dat", 6, 2 * BIAS)
    (root / "notes.txt").write_text("not a class")
    sessions = {session.name: session for session in read_folder(root).sessions}
    assert set(sessions) == {"monday", "monday #2", str(Path("V_S/4.DAT"))}
    assert list(sessions["monday"].labels) == ["V_S", "WS2", "WS2"]
    np.testing.assert_allclose(sessions["monday"].didv[1], conductance(1), rtol=1e-6)
    assert sessions["monday #2"].bias[0] == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"a/1.dat": 1, "a/2.dat": 2, "b/3.dat": 3}, "class 'b' has only b.3.dat; it takes two"),
        ({"a/1.dat": 1, "a/2.dat": 2}, "two classes or more, and there is a;"),
        ({}, "two classes or more, and there is none"),
        ({"a/1.dat": 1, "a/2.dat": 2, "b/3.dat": 2, "b/4.dat": 4}, "there more than once: a.2.dat"),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, layout, message):
    with pytest.raises(DataError, match=message):
        read_folder(folder(tmp_path, layout))


def test_a_folder_that_is_not_there_and_a_file_that_is_bad(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        read_folder(tmp_path / "missing")
    root = folder(tmp_path, {"a/1.dat": 1, "a/2.dat": 2, "b/3.dat": 3, "b/4.dat": 4})
    bad = BIAS.copy()
    bad[3] = np.nan
    write(root / "b" / "5.dat", 5, **{"Current (A)": bad})
    level = {"Current (A)": 1e-11 * BIAS, "LI Demod 1 X (A)": np.full_like(BIAS, 2e-13)}
    write(root / "b" / "6.dat", 6, **level)
    (root / "b" / "7.dat").write_bytes(b"Experiment\tx\t\r\n")
    found = read_folder(root)
    assert len(found.sessions) == 4
    nan, constant, damaged = found.left_out
    assert nan.startswith(str(Path("b/5.dat"))) and "NaN" in nan
    assert constant.startswith(str(Path("b/6.dat"))) and "constant" in constant
    assert damaged.startswith(str(Path("b/7.dat"))) and "no '[DATA]' line" in damaged
    (root / "b" / "3.dat").unlink()
    with pytest.raises(DataError, match=r"'b' has only b.4.dat; .* left out: b.5.dat: 3 of"):
        read_folder(root)


def test_files_that_are_of_no_class_or_no_spectra_are_named(tmp_path):
    root = folder(tmp_path, {"a/1.dat": 1, "a/2.dat": 2, "b/3.dat": 3, "b/4.dat": 4, "5.dat": 5})
    (root / "a" / "monday").mkdir()
    for name in ("picture.sxm", "monday/notes.txt", ".hidden"):
        (root / "a" / name).write_text("")
    z = {"Z rel (m)": BIAS, "Current (A)": BIAS}
    write_dat(root / "b" / "z.dat", Spectrum({"Experiment": "x"}, z))
    found = read_folder(root)
    assert len(found.sessions) == 4
    readable = "is no file of spectra that can be read; give a Nanonis .dat or .3ds file"
    assert found.left_out == (
        "5.dat: lies in no class folder",
        f"{Path('a/monday/notes.txt')} {readable}",
        f"{Path('a/picture.sxm')} {readable}",
        f"{Path('b/z.dat')} was swept in 'Z rel (m)'; give a file that was swept in bias",
    )


@pytest.fixture(scope="module")
def runs(keep):
    make = Experiment(n_spectra=4, n_points=120, pixels=(4, 4))
    return [keep(gp_sts_run(make)[0]) for _ in range(2)]


def table(path: Path, rows: list[tuple[str, object, str]]) -> Path:
    lines = ["uid,seq_num,class", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labelled_runs_are_sessions(catalog, runs, tmp_path):
    first, second = runs
    rows = [(first, 3, "V_S"), (first, 1, "WS2"), (second, 2, "WS2"), (second, 4, "V_S")]
    # The two runs are of one seed, and so equal; labels of different spectra are fine.
    sessions = read_labelled_runs(
        catalog, read_labels(table(tmp_path / "labels.csv", rows))
    ).sessions
    assert [session.name for session in sessions] == [first, second]
    assert [list(session.labels) for session in sessions] == [["V_S", "WS2"], ["WS2", "V_S"]]
    from bluesky_gpsts.catalog import spectra

    expected = spectra(catalog[first])["didv"].values[[2, 0]]
    np.testing.assert_array_equal(sessions[0].didv, expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 1, "a"), (0, 2, "a"), (0, 3, "b")], "class 'b' has only spectrum 3 of"),
        ([(0, 1, "a"), (0, 2, "a"), (0, 3, "b"), (0, 9, "b")], "has no spectrum 9; it has 4"),
        ([(0, 1, "a"), (0, 2, "a"), (0, 3, "b"), (1, 1, "b")], "there more than once"),
        ([(0, "one", "a")], "line 2: uid .* seq_num 'one', class 'a'; give a uid"),
        ([(0, 1, "")], "class ''; give a uid"),
    ],
)
def test_labels_that_cannot_be_trained_on(catalog, runs, tmp_path, rows, message):
    named = [(runs[place], number, label) for place, number, label in rows]
    with pytest.raises(DataError, match=message):
        read_labelled_runs(catalog, read_labels(table(tmp_path / "labels.csv", named)))


def test_a_table_without_its_columns(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("uid,class\n")
    with pytest.raises(DataError, match="lacks the column seq_num; it needs uid, seq_num, class"):
        read_labels(path)
    with pytest.raises(DataError, match="there is no file .*none.csv"):
        read_labels(tmp_path / "none.csv")


def test_real_spectra_are_calibrated_by_their_currents(shared_data):
    paths = sorted((shared_data / "spectra").rglob("dIdV*.dat"))
    assert len(paths) == 26
    for path in paths:
        measured = read_file(path)
        assert measured.source == "lock-in" and np.isfinite(measured.didv).all()
        current = read_dat(path).columns["Current (A)"]
        change = np.trapezoid(measured.didv[0], measured.bias)
        assert change == pytest.approx(current[-1] - current[0], rel=0.25)
    grid = read_file(shared_data / "grids" / "grid-20x20-kpfm.3ds")
    assert grid.didv.shape == (400, 128) and grid.shape == (20, 20) and grid.source == "current"
    with pytest.raises(DataError, match=r"was swept in 'Z \(m\)'"):
        read_file(shared_data / "grids" / "grid-truncated.3ds")
