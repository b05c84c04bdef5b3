"""Images with any lattice: the cell, the atoms, and what breaks the lattice."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_gpsts.images.anylattice import LatticeReading, read_lattice
from bluesky_gpsts.images.heightsteps import levels_of
from bluesky_gpsts.nanonis.files import read_sxm
from bluesky_gpsts.simulator import open_sample


def lattice(
    a: tuple[float, float],
    b: tuple[float, float],
    size: int = 160,
    noise: float = 0.15,
    holes: int = 6,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image of Gaussian atoms, of which some are missing, their places, and which are missing."""
    rng = np.random.default_rng(seed)
    reach = np.arange(-80, 81)
    i, j = np.meshgrid(reach, reach)
    places = np.array([3.3, 2.1]) + i.reshape(-1, 1) * np.array(a) + j.reshape(-1, 1) * np.array(b)
    places = places[np.all((places > -9) & (places < size + 9), axis=1)]
    inner = np.flatnonzero(np.all((places > 15) & (places < size - 15), axis=1))
    gone = rng.choice(inner, holes, replace=False)
    width = 0.28 * min(np.hypot(*a), np.hypot(*b))
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size))
    for k, (px, py) in enumerate(places):
        if k not in gone:
            near = np.s_[max(0, int(py) - 12) : int(py) + 13, max(0, int(px) - 12) : int(px) + 13]
            image[near] += np.exp(-((x[near] - px) ** 2 + (y[near] - py) ** 2) / 2 / width**2)
    image += noise * rng.normal(size=image.shape) + 0.01 * x - 0.02 * y
    missing = np.zeros(len(places), bool)
    missing[gone] = True
    inside = np.all((places >= 0) & (places <= size - 1), axis=1)
    return image, places[inside], missing[inside]


def hits(found: np.ndarray, true: np.ndarray, tolerance: float) -> int:
    if not len(found) or not len(true):
        return 0
    return int(
        (np.hypot(*np.moveaxis(true[:, None] - found[None], -1, 0)).min(1) < tolerance).sum()
    )


@pytest.mark.parametrize(
    ("a", "b", "symmetry"),
    [
        ((8.0, 1.0), (-1.0, 8.0), "square"),
        ((8.0, 1.0), (3.13, 7.43), "hexagonal"),
        ((6.5, 0.5), (-1.0, 11.0), "rectangular"),
        ((7.0, 0.6), (2.1, 9.3), "oblique"),
    ],
)
def test_cell_atoms_and_missing_atoms(a, b, symmetry: str) -> None:
    image, places, missing = lattice(a, b)
    read = read_lattice(image)
    assert read.cell is not None and read.cell.symmetry == symmetry
    found = sorted(np.hypot(*read.cell.vectors.T))
    assert found == pytest.approx(sorted([np.hypot(*a), np.hypot(*b)]), rel=0.02)
    assert read.motif.shape == (1, 2)
    there, gone = places[~missing], places[missing]
    assert hits(read.atoms, there, 1.0) > 0.97 * len(there)
    assert hits(there, read.atoms, 1.0) > 0.97 * len(read.atoms)
    assert hits(read.vacant, gone, 1.5) >= 5 and len(read.vacant) <= 8
    centres = np.array([(d.x, d.y) for d in read.defects if d.deviation < 0])
    assert hits(centres, gone, 2.5) >= 5
    assert read.terraces.max() == 1 and not read.steps.any()
    for defect in read.defects:
        assert (read.labels == defect.number).sum() == defect.area


def test_a_step_is_found_and_the_lattice_on_both_sides() -> None:
    image, places, _ = lattice((8.0, 1.0), (3.13, 7.43), holes=1)
    size = image.shape[0]
    upper = (np.arange(size)[None] + 0.3 * np.arange(size)[:, None]) < 95
    read = read_lattice(image + 6.0 * upper)
    assert read.terraces.max() == 2
    edge = np.abs(np.arange(size)[None] + 0.3 * np.arange(size)[:, None] - 95) < 8
    assert read.steps.any() and not read.steps[~edge].any()
    assert hits(read.atoms, places, 1.2) > 0.85 * len(places)


def test_levels_that_are_not_apart_are_one_terrace() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(128, 128))
    known = np.ones(noise.shape, bool)
    assert levels_of(noise, known)[0].max() == 1
    terraces, steps, heights = levels_of(noise + 30.0 * (np.arange(128)[None] > 60), known)
    assert terraces.max() == 2 and steps.any() and np.ptp(heights) == pytest.approx(30.0, rel=0.05)


def test_rows_alone_have_defects() -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:160, :160]
    image = np.cos(2 * np.pi * (0.1 * x + 0.08 * y)) + 0.3 * rng.normal(size=x.shape)
    image += 6.0 * np.exp(-((x - 70) ** 2 + (y - 90) ** 2) / 18.0)
    read = read_lattice(image)
    assert read.cell is not None and read.cell.symmetry == "rows"
    assert np.hypot(*read.cell.vectors[1]) == pytest.approx(1 / np.hypot(0.1, 0.08), rel=0.02)
    (defect,) = read.defects
    assert (defect.x, defect.y) == pytest.approx((70, 90), abs=1.5) and defect.deviation > 0
    assert len(read.atoms) == 0


@pytest.mark.parametrize(("name", "distance"), [("ws2", 0.318e-9), ("au111", 0.288e-9)])
def test_surfaces_of_the_simulator(name: str, distance: float) -> None:
    """Hexagonal, with the distance that the sample has."""
    sample = open_sample(name, 2)
    side, pixels = 6e-9, 200
    place = (np.arange(pixels) + 0.5) / pixels * side - 0.5 * side
    x, y = np.meshgrid(place, place[::-1])
    junction, conditions = sample.junction, sample.conditions
    image = junction.topography(x.ravel(), y.ravel(), conditions.bias, conditions.setpoint)
    image = image.reshape(pixels, pixels)
    image += 0.2e-12 * np.random.default_rng(5).normal(size=image.shape)
    read = read_lattice(image)
    assert read.cell is not None
    lengths = np.hypot(*read.cell.vectors.T) * side / pixels
    np.testing.assert_allclose(lengths, distance, rtol=0.05)
    assert read.cell.symmetry == "hexagonal"


def dat(path: Path) -> np.ndarray:
    data = path.read_bytes()
    return np.frombuffer(data[8:], "<f8").reshape(np.frombuffer(data[:8], "<u4"))


def test_real_images(shared_data: Path) -> None:
    folder = shared_data / "images"
    fese = read_lattice(read_sxm(folder / "FeSe_topography.sxm").channels["Z"]["forward"])
    assert fese.cell is not None and fese.cell.symmetry == "square"
    assert np.hypot(*fese.cell.vectors[0]) * 20 / 224 == pytest.approx(0.38, abs=0.02)
    assert 22 <= len(fese.defects) <= 36

    seven = read_lattice(dat(folder / "image_with_defects.dat"))
    assert seven.cell is not None and seven.cell.symmetry == "hexagonal"
    assert len(seven.motif) == 12  # the adatoms of a 7x7 cell
    assert len(seven.vacant) > 10 and any(d.deviation > 12 for d in seven.defects)

    step = read_lattice(dat(folder / "image_with_step_edge_and_atoms.dat"))
    assert step.terraces.max() == 2 and len(step.motif) == 12
    assert read_lattice(dat(folder / "image_with_step_edge.dat")).terraces.max() == 2

    from matplotlib.image import imread

    rows = read_lattice(imread(folder / "full_scan_1.jpg"))
    assert rows.cell is not None
    assert 25 <= sum(d.deviation > 15 for d in rows.defects) <= 90


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_each_terrace_has_a_cell_of_its_own(seed: int) -> None:
    """On H-Si(100) the rows turn by 90 degrees from one terrace to the next."""
    from scipy.spatial import cKDTree

    from bluesky_gpsts.images.simulate import draw_image

    drawn = draw_image(np.random.default_rng(seed), pixels=300, pixel=0.09e-9, snr=4.0, steps=1)
    reading = read_lattice(drawn.image)
    assert reading.terraces.max() == 2
    column, row = np.clip(np.round(reading.atoms).astype(int), 0, 299).T
    owner = reading.terraces[row, column]
    distance = cKDTree(drawn.sites).query(reading.atoms)[0] * drawn.pixel
    for number in (1, 2):
        assert np.sum(owner == number) > 400
        assert np.mean(distance[owner == number] < 0.15e-9) > 0.9


def test_an_image_of_few_cells_is_read() -> None:
    """Sixteen of them: fewer than a further terrace would have to have."""
    y, x = np.mgrid[:64, :64] / 15.5
    image = np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y)
    reading = read_lattice(image + 0.02 * np.random.default_rng(1).standard_normal(image.shape))
    assert reading.cell is not None and len(reading.atoms) >= 16


def test_what_is_hidden_by_a_mask_was_not_measured() -> None:
    from bluesky_gpsts.images.simulate import draw_image

    drawn = draw_image(np.random.default_rng(4), pixels=200, pixel=0.09e-9, snr=4.0, steps=0)
    hidden = np.zeros(drawn.image.shape, bool)
    hidden[120:] = True
    masked = read_lattice(np.ma.array(drawn.image, mask=hidden))
    unknown = read_lattice(np.where(hidden, np.nan, drawn.image))
    np.testing.assert_array_equal(masked.atoms, unknown.atoms)
    assert len(masked.atoms) and masked.atoms[:, 1].max() < 121


def test_the_largest_numbers_are_read_as_small_ones_are() -> None:
    from bluesky_gpsts.images.simulate import draw_image

    drawn = draw_image(np.random.default_rng(4), pixels=128, pixel=0.09e-9, snr=4.0, steps=0)
    image = drawn.image.astype(float) / np.abs(drawn.image).max()
    small, large = read_lattice(image), read_lattice(1e305 * image)
    assert len(small.atoms) and len(large.atoms) == len(small.atoms)


def test_bad_input(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        read_lattice(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="no pixel is finite"):
        read_lattice(np.full((32, 32), np.nan))
    nothing = read_lattice(np.zeros((32, 48)))
    assert nothing.cell is None and nothing.defects == ()
    noise = read_lattice(np.random.default_rng(6).normal(size=(100, 140)))
    assert isinstance(noise, LatticeReading) and noise.cell is None
    image, _, _ = lattice((8.0, 1.0), (-1.0, 8.0))
    part = image.copy()
    part[100:] = np.nan
    read = read_lattice(part)
    assert read.cell is not None and read.cell.symmetry == "square"
    stencil = read_lattice(image > 0.0)
    assert stencil.cell is not None and stencil.cell.symmetry == "square"
    assert (read.atoms[:, 1] < 100).all() and read.terraces[100:].max() == 0


def test_a_large_image_is_read_and_a_huge_one_refused() -> None:
    image, places, missing = lattice((8.0, 1.0), (-1.0, 8.0), size=400)
    read = read_lattice(np.pad(image, ((0, 0), (0, 1000)), constant_values=np.nan))
    assert read.terraces[:, 400:].max() == 0
    there = places[~missing]
    assert read.cell is not None and hits(read.atoms, there, 1.0) > 0.9 * len(there)
    with pytest.raises(ValueError, match="cut it into parts"):
        read_lattice(np.zeros((3000, 3000), np.float32))


def test_the_command_reads_any_lattice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from bluesky_gpsts.cli import main

    image, _, _ = lattice((8.0, 1.0), (-1.0, 8.0))
    file, out, figure = tmp_path / "a.npy", tmp_path / "a.json", tmp_path / "a.png"
    np.save(file, image)
    options = ["--lattice", "any", "--json", str(out), "--figure", str(figure)]
    assert main(["images", str(file), *options]) == 0
    assert "square lattice, 8.0" in capsys.readouterr().out
    assert json.loads(out.read_text())["symmetry"] == "square"
    assert figure.read_bytes().startswith(b"\x89PNG")
    np.save(file, np.random.default_rng(0).normal(size=(64, 64)))
    assert main(["images", str(file), "--lattice", "any"]) == 1
    assert "no lattice" in capsys.readouterr().out
