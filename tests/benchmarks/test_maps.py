"""The maps of the acquisition benchmark: reproducible, and read from real files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_gpsts.benchmarks.maps import (
    SYNTHETIC,
    read_map,
    read_wsxm,
    recorded_truth,
    truth_of,
)
from bluesky_gpsts.benchmarks.maps.recorded import LARGEST

RECORDED = ("recorded grid", "NbS2 a", "NbS2 b")


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_seed_gives_one_map(name: str) -> None:
    first, again, other = (truth_of(name, seed, 32) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.image is not None and again.image is not None
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.center, first.vectors) == (again.center, again.vectors)
    for key, maps in first.libraries.items():
        np.testing.assert_array_equal(maps, again.libraries[key])
    assert not np.array_equal(first.values, other.values)
    assert first.values.shape == (32, 32) and first.span > 0


@pytest.mark.parametrize("name", [name for name in SYNTHETIC if name != "interpolated"])
def test_a_map_does_not_depend_on_the_pixels(name: str) -> None:
    # Pixel 1 of 3 subpixels is where the coarse pixel is.
    coarse, fine = truth_of(name, 2, 16).values, truth_of(name, 2, 48).values[1::3, 1::3]
    np.testing.assert_allclose(coarse, fine, atol=1e-9)


def test_the_centre_is_that_of_the_survey_image() -> None:
    for seed in range(5):
        truth = truth_of("vacancy", seed)
        assert truth.center is not None
        weights = truth.values.ravel() / truth.values.sum()
        middle = weights @ truth.grid.xy
        error = np.abs(middle - truth.center) / truth.grid.width * 128
        # Two pixels, and the shift of the mean by lobes that differ.
        assert np.all(error < 2 + 3)


def test_the_lattice_is_that_of_the_moire() -> None:
    truth = truth_of("moire", 0, 64)
    assert truth.vectors is not None
    values = truth.values - truth.values.mean()
    pixel = truth.grid.width / 64
    for vector in truth.vectors:
        columns, rows = (round(part / pixel) for part in vector)
        a = values[max(0, -rows) : 64 - max(0, rows), max(0, -columns) : 64 - max(0, columns)]
        b = values[max(0, rows) :, max(0, columns) :][: a.shape[0], : a.shape[1]]
        if columns < 0:
            b = values[max(0, rows) :, :columns][: a.shape[0], : a.shape[1]]
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_maps(name: str, shared_data: Path) -> None:
    first, again = (truth_of(name, 1, 24, shared_data) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.span > 0
    shapes = {"recorded grid": (20, 20)}
    assert first.values.shape == shapes.get(name, (24, 24))


def test_wsxm_of_a_real_file(shared_data: Path) -> None:
    found = read_wsxm(shared_data / "maps" / "nbs2-dIdV-a.txt")
    assert found.values.shape == (512, 512)
    assert found.width == found.height == pytest.approx(15e-9)
    # The first number of the file is the upper left corner.
    assert found.values[-1, 0] == -0.0144766
    assert found.values[-1, 1] == -0.0152991


def test_orientations_keep_the_numbers(shared_data: Path) -> None:
    recorded = read_map(shared_data / "grids" / "grid-20x20-kpfm.3ds")
    maps = [recorded_truth(recorded, seed).values for seed in range(8)]
    for first in range(8):
        np.testing.assert_array_equal(np.sort(maps[first], None), np.sort(maps[0], None))
        for second in range(first):
            assert not np.array_equal(maps[first], maps[second])


def test_large_maps_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    values = np.random.default_rng(0).random((200, 130))
    np.save(path, values)
    truth = recorded_truth(read_map(path), 0)
    assert truth.values.shape == (50, 32) and max(truth.values.shape) <= LARGEST
    assert truth.values[0, 0] == pytest.approx(values[:4, :4].mean())
    assert truth.grid.width / truth.grid.height == pytest.approx(130 / 200)


def _wsxm(rows: str, pixels: str = "2", unit: str = "nm") -> str:
    return (
        f"# File Format = ASCII\n# x-pixels = {pixels}\n# y-pixels = 2\n# x-length = 3\n"
        f"# y-length = 4\n# x-unit = {unit}\n# z-unit = nA\n\n# Start of Data:\n{rows}"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "not a WSxM ASCII image"),
        (_wsxm("1 2\n"), "2 rows of 2 numbers; there are 1 rows"),
        (_wsxm("1 2\n3\n"), r"rows of \[1, 2\]"),
        (_wsxm("1 2\n3 x\n"), "could not convert"),
        (_wsxm("1 2\n3 nan\n"), "1 numbers are not finite"),
        (_wsxm("1 2\n3 4\n", unit="parsec"), "unknown unit of length 'parsec'"),
        (_wsxm("1 2\n3 4\n", pixels="two"), "invalid literal"),
    ],
)
def test_damaged_wsxm_files(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_wsxm(path)


def test_a_small_wsxm_file(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text(_wsxm("1 2\n3 4\n", unit="A"))
    found = read_wsxm(path)
    np.testing.assert_array_equal(found.values, [[3, 4], [1, 2]])
    assert (found.width, found.height) == pytest.approx((3e-10, 4e-9))


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(content: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.txt"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match="map.txt"):
            read_wsxm(path)


def test_arrays_that_are_no_maps(tmp_path: Path) -> None:
    for name, values, message in (
        ("cube", np.zeros((9, 9, 2)), "a map has two dimensions"),
        ("flat", np.zeros((9, 9)), "must be finite and not constant"),
        ("small", np.eye(4), "at least 8 x 8"),
        ("complex", 1j * np.eye(9), "complex numbers"),
    ):
        path = tmp_path / f"{name}.npy"
        np.save(path, values)
        with pytest.raises(ValueError, match=message):
            read_map(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_map(tmp_path / "none.npy")
