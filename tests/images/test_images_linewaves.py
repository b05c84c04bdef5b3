"""Rows and dimers that run along the lines of a scan, whose offsets hide where they go."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.images.scores import direction_error, score_atoms
from bluesky_gpsts.images import simulate
from bluesky_gpsts.images.linewaves import Seen, along_lines
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.rowlattice import RowLattice, fit_row_lattice

SIDE = 256
Y, X = np.mgrid[:SIDE, :SIDE]
ALL = np.ones((SIDE, SIDE), bool)


def vectors(direction: float) -> np.ndarray:
    row = np.array([np.cos(direction), np.sin(direction)])
    return np.stack([4.0 * row, 8.0 * np.array([-row[1], row[0]])])


def image(direction: float, offsets: float, seed: int = 1) -> np.ndarray:
    """Rows (and weaker, dimers), with noise in each pixel and an offset of each line."""
    rng = np.random.default_rng(seed)
    phase = (
        2.0 * np.pi * (np.column_stack([X.ravel(), Y.ravel()]) @ np.linalg.inv(vectors(direction)))
    )
    relief = (np.cos(phase[:, 1]) + 0.3 * np.cos(phase[:, 0])).reshape(SIDE, SIDE)
    relief += offsets * rng.standard_normal((SIDE, 1)) + 0.25 * rng.standard_normal((SIDE, SIDE))
    return relief.astype(np.float32)


def crossed_too_steeply(direction: float, by: float, which: int, inside: np.ndarray) -> RowLattice:
    """Lattice fitted to peaks, with one wave that crosses lines by too much about their middle."""
    true = vectors(direction)
    whole = np.stack(np.meshgrid(np.arange(-150, 150), np.arange(-80, 80)), axis=-1).reshape(-1, 2)
    points = whole @ true
    points = points[np.all((points >= 0) & (points < SIDE - 1), axis=1)]
    points = points[inside[tuple(np.round(points).astype(int).T[::-1])]]
    # In every line about its own middle, as a network that looks at lines sees it.
    there = np.maximum(inside.sum(axis=1), 1)
    middle = np.interp(points[:, 1], np.arange(SIDE), (inside * X).sum(axis=1) / there)
    wave = np.linalg.inv(true)[:, which]
    away = by * (points[:, 0] - middle) / wave[1]
    points = points - np.column_stack([np.zeros_like(away), away])
    lattice = fit_row_lattice(points, np.full(len(points), 0.9), direction, 4.0, 8.0)
    assert lattice is not None
    return lattice


def mend(
    lattice: RowLattice, relief: np.ndarray, trusted: np.ndarray, corner: tuple[int, int] = (0, 0)
) -> RowLattice:
    return along_lines(lattice, lambda: Seen(relief, trusted, corner))


def off(lattice: RowLattice, direction: float, which: int, inside: np.ndarray) -> float:
    """Root mean square (periods) by which a wave is off."""
    points = np.column_stack([X[inside], Y[inside]]).astype(float)
    true = (points @ np.linalg.inv(vectors(direction)))[:, which]
    apart = 2.0 * np.pi * (lattice.indices(points)[:, which] - true)
    apart = np.angle(np.exp(1j * (apart - np.angle(np.exp(1j * apart).mean()))))
    return float(np.sqrt(np.mean(apart**2)) / (2.0 * np.pi))


@pytest.mark.parametrize("degrees", [-1.2, -0.5, 0.4, 0.9, 178.9])
def test_rows_along_the_lines_are_turned_until_they_agree_with_the_relief(degrees: float) -> None:
    direction = np.radians(degrees)
    sign = 1.0 if np.sin(2.0 * direction) > 0 else -1.0
    wrong = crossed_too_steeply(direction, -sign * 0.15 / SIDE, 1, ALL)
    mended = mend(wrong, image(direction, 0.8), ALL)
    assert off(wrong, direction, 1, ALL) > 0.035
    assert off(mended, direction, 1, ALL) < 0.012
    # The direction is told by the same wave, and how certain it is.
    assert direction_error(wrong.direction, direction) > np.radians(0.2)
    error = direction_error(mended.direction, direction)
    assert error < np.radians(0.05)
    assert wrong.errors[0] < mended.errors[0] and error < 3.0 * mended.errors[0]
    # Dimers lie across the lines here, and are as they were.
    assert off(mended, direction, 0, ALL) == pytest.approx(off(wrong, direction, 0, ALL), abs=1e-3)


def test_dimers_along_the_lines_too() -> None:
    direction = np.radians(90.6)
    wrong = crossed_too_steeply(direction, -0.12 / SIDE, 0, ALL)
    mended = mend(wrong, image(direction, 0.5), ALL)
    assert off(wrong, direction, 0, ALL) > 0.03 and off(mended, direction, 0, ALL) < 0.015
    assert mended.direction == wrong.direction


def test_part_of_a_grid_that_is_no_rectangle() -> None:
    direction = np.radians(0.7)
    inside = (X > 30) & (Y > 40) & (X - 30 < 0.9 * (SIDE - Y) + 10)
    wrong = crossed_too_steeply(direction, -0.1 / 128, 1, inside)
    part = np.s_[40:, 30:]
    mended = mend(wrong, image(direction, 0.5)[part], inside[part], (30, 40))
    assert off(mended, direction, 1, inside) < 0.5 * off(wrong, direction, 1, inside)
    assert direction_error(mended.direction, direction) < np.radians(0.12)


def test_steeper_waves_stay() -> None:
    direction = np.radians(25.0)
    lattice = crossed_too_steeply(direction, 0.0, 1, ALL)
    assert mend(lattice, image(direction, 0.8), ALL) is lattice


def test_where_the_relief_says_nothing_the_peaks_decide() -> None:
    direction = np.radians(0.9)
    lattice = crossed_too_steeply(direction, 0.0, 1, ALL)
    for relief, trusted in (
        (image(direction, 0.8), np.zeros_like(ALL)),
        (np.zeros((SIDE, SIDE), np.float32), ALL),
        (np.random.default_rng(3).standard_normal((SIDE, SIDE)).astype(np.float32), ALL),
    ):
        mended = mend(lattice, relief, trusted)
        assert off(mended, direction, 1, ALL) < 0.02
        assert direction_error(mended.direction, direction) < np.radians(0.1)
        assert np.isfinite(mended.errors).all()


def test_narrow_terraces_stay() -> None:
    inside = (X > 100) & (X < 112)
    lattice = crossed_too_steeply(np.radians(0.9), 0.0, 1, inside)
    assert mend(lattice, image(np.radians(0.9), 0.8), inside) is lattice


@pytest.mark.parametrize("degrees", [-0.9, 0.8, 1.4, 90.8])
def test_atoms_of_such_images_are_where_they_are(
    degrees: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_terraces = simulate.random_terraces

    def turned(*args: object) -> object:
        return replace(drawn_terraces(*args), angle=np.radians(degrees))  # type: ignore[arg-type]

    monkeypatch.setattr(simulate, "random_terraces", turned)
    drawn = simulate.draw_image(np.random.default_rng(12), snr=4.0, steps=0)
    reading = read_surface(drawn.image, drawn.pixel)
    counts = score_atoms(reading.atoms, np.asarray(drawn.sites[drawn.occupied]), drawn.pixel)
    assert counts.f1 > 0.97 and counts.rms < 16e-12
    assert direction_error(reading.terrace_list[0].direction, drawn.rows[0]) < np.radians(0.15)
