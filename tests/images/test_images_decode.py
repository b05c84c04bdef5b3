"""Lattices fitted to peaks, terraces from maps, and sites judged by the atom map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from bluesky_gpsts.benchmarks.images.scores import (
    Counts,
    calibration_error,
    direction_error,
    match,
    score_atoms,
    score_defects,
    score_terraces,
)
from bluesky_gpsts.images.decode import decode
from bluesky_gpsts.images.prepare import CHANNELS, Prepared
from bluesky_gpsts.images.rowlattice import fit_row_lattice
from bluesky_gpsts.images.surfacemodel import Maps
from bluesky_gpsts.images.terracemap import TerraceMap, map_terraces

SIDE = 256
FLAT = Prepared(
    np.zeros((CHANNELS, SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), bool), (SIDE, SIDE), (1, 1)
)
"""An image without relief."""


def lattice_points(direction: float, bend: float = 0.0, side: int = SIDE) -> np.ndarray:
    """Dimers 4 pixels apart in rows 8 apart, bent by creep at the beginning of the scan."""
    along = 4.0 * np.array([np.cos(direction), np.sin(direction)])
    across = 8.0 * np.array([-np.sin(direction), np.cos(direction)])
    whole = np.stack(np.meshgrid(np.arange(-80, 81), np.arange(-40, 41)), axis=-1).reshape(-1, 2)
    points = whole @ np.array([along, across]) + side / 2 + 0.7
    points = points + bend * np.exp(-points[:, 1:] / 40.0) * np.array([1.0, 0.3])
    return points[np.all((points >= 0) & (points < side), axis=1)]


def seen(points: np.ndarray, seed: int, noise: float = 0.4) -> np.ndarray:
    """What a network makes of them: noise, a tenth missed, some that are none."""
    rng = np.random.default_rng(seed)
    found = points + noise * rng.standard_normal(points.shape)
    found = found[rng.random(len(found)) > 0.1]
    return np.concatenate([found, rng.uniform(0, SIDE, (60, 2))])


@pytest.mark.parametrize("direction", [0.0, 0.3, 1.2, 1.5707963, 2.9])
def test_a_straight_lattice_is_found_to_a_hundredth_of_a_row(direction: float) -> None:
    true = lattice_points(direction)
    peaks = seen(true, 1)
    fitted = fit_row_lattice(peaks, np.full(len(peaks), 0.8), direction + 0.08, 4.2, 7.8)
    assert fitted is not None
    sites = fitted.sites((-0.5, -0.5), (SIDE - 0.5, SIDE - 0.5))
    pairs, apart = match(sites, true, 1.5)
    assert np.sqrt(np.mean(apart**2)) < 0.12
    assert len(pairs) >= 0.99 * max(len(sites), len(true))
    assert direction_error(fitted.direction, direction) < np.radians(0.05)
    assert direction_error(fitted.direction, direction) < 5.0 * fitted.errors[0]
    np.testing.assert_allclose(np.hypot(*fitted.mean.T), [4.0, 8.0], rtol=2e-3)


@pytest.mark.parametrize("direction", [0.0, 0.3, 1.2, 1.5707963, 2.9])
@pytest.mark.parametrize("bend", [0.0, 3.0])
def test_rows_are_found_from_peaks_anywhere_along_them(direction: float, bend: float) -> None:
    rng = np.random.default_rng(2)
    row = np.array([np.cos(direction), np.sin(direction)])
    true = lattice_points(direction, bend)
    peaks = seen(true + rng.uniform(-2.0, 2.0, (len(true), 1)) * row, 1, noise=0.3)
    lengths = np.full(len(peaks), 0.8)
    assert fit_row_lattice(peaks[:8], lengths[:8], direction, 4.0, 8.0, lines=True) is None
    fitted = fit_row_lattice(peaks, lengths, direction + 0.08, 4.2, 7.8, lines=True)
    assert fitted is not None
    assert direction_error(fitted.direction, direction) < np.radians(0.1 if bend == 0.0 else 1.0)
    period = np.hypot(*fitted.mean.T)
    np.testing.assert_allclose(period, [4.0, 8.0], rtol=5e-3 if bend == 0.0 else 0.05)
    assert fitted.coherence > 0.7
    # The sites lie on the rows, wherever they lie along them.
    sites = fitted.sites((20.0, 20.0), (SIDE - 20.0, SIDE - 20.0))
    line = np.concatenate([true + share * 4.0 * row for share in np.arange(-0.5, 0.5, 0.05)])
    apart = cKDTree(line).query(sites)[0]
    assert np.sqrt(np.mean(apart**2)) < 0.25 and len(sites) > 0.8 * (SIDE - 40) ** 2 / 32


@pytest.mark.parametrize("direction", [0.3, 1.2, 2.9])
def test_a_bent_lattice_is_followed(direction: float) -> None:
    """Creep of a dimer: no straight lattice would fit."""
    true = lattice_points(direction, bend=4.0)
    peaks = seen(true, 2)
    fitted = fit_row_lattice(peaks, np.full(len(peaks), 0.8), direction, 4.0, 8.0)
    assert fitted is not None
    pairs, apart = match(fitted.sites((-0.5, -0.5), (SIDE - 0.5, SIDE - 0.5)), true, 1.5)
    assert len(pairs) > 0.99 * len(true) and np.sqrt(np.mean(apart**2)) < 0.12
    straight = np.round((true - fitted.origin) @ np.linalg.inv(fitted.mean)) @ fitted.mean
    assert np.mean(np.hypot(*(straight + fitted.origin - true).T) < 1.0) < 0.95


@pytest.mark.parametrize("lines", [False, True])
def test_a_very_large_terrace_is_fitted_from_parts_of_it(lines: bool) -> None:
    side = 1700
    along, across = (
        4.0 * np.array([np.cos(0.4), np.sin(0.4)]),
        8.0 * np.array([-np.sin(0.4), np.cos(0.4)]),
    )
    whole = np.stack(np.meshgrid(np.arange(-500, 501), np.arange(-300, 301)), axis=-1)
    points = whole.reshape(-1, 2) @ np.array([along, across]) + side / 2
    points = points[np.all((points >= 0) & (points < side), axis=1)]
    rng = np.random.default_rng(6)
    noise = 0.3 * rng.standard_normal(points.shape)
    peaks = points + noise + (rng.uniform(-2, 2, len(points))[:, None] * along / 4 if lines else 0)
    assert len(peaks) > 80_000
    fitted = fit_row_lattice(peaks, np.full(len(peaks), 0.8), 0.45, 4.1, 7.9, lines=lines)
    assert fitted is not None and fitted.coherence > 0.7
    off = fitted.indices(points)[:, 1] - np.round(fitted.indices(points)[:, 1])
    assert np.sqrt(np.mean(off**2)) < 0.03
    assert direction_error(fitted.direction, 0.4) < 1e-4


@pytest.mark.parametrize("left", range(0, 160, 20))
def test_a_narrow_terrace_has_its_lattice_wherever_it_lies(left: int) -> None:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:2000:4, left : left + 64 : 8].reshape(2, -1).astype(float)
    peaks = np.column_stack([x, y]) + 0.2 * rng.standard_normal((len(x), 2))
    for length in (700, 1400, 2000):
        own = peaks[peaks[:, 1] < length]
        fitted = fit_row_lattice(own, np.ones(len(own)), np.pi / 2, 4.0, 8.0)
        assert fitted is not None and fitted.coherence > 0.9


@pytest.mark.parametrize("bend", [0.0, 2.0, 6.0])
def test_errors_of_directions_grow_with_what_drift_bends(bend: float) -> None:
    ratios, errors = [], []
    for seed in range(12):
        direction = 0.2 + 0.2 * seed
        true = lattice_points(direction, bend=bend)
        peaks = seen(true, seed)
        fitted = fit_row_lattice(peaks, np.full(len(peaks), 0.8), direction, 4.0, 8.0)
        assert fitted is not None
        errors.append(fitted.errors[0])
        # Creep moves the later lines less: their lattice is the one that is meant.
        ratios.append(direction_error(fitted.direction, direction) / fitted.errors[0])
    assert np.sqrt(np.mean(np.square(ratios))) < 3.0
    assert np.median(errors) < np.radians(0.05 + 0.3 * bend)
    assert np.median(errors) > np.radians(0.01 * bend)


def test_whole_indices_are_sites() -> None:
    peaks = lattice_points(0.4)
    fitted = fit_row_lattice(peaks, np.ones(len(peaks)), 0.4, 4.0, 8.0)
    assert fitted is not None and fitted.coherence > 0.999
    indices = fitted.indices(fitted.sites((10.0, 10.0), (200.0, 200.0)))
    np.testing.assert_allclose(indices, np.round(indices), atol=1e-6)


def test_peaks_without_a_lattice_have_none() -> None:
    rng = np.random.default_rng(3)
    for count in (0, 5, 11):
        assert fit_row_lattice(rng.uniform(0, 99, (count, 2)), np.ones(count), 0, 4, 8) is None
    anywhere = rng.uniform(0, SIDE, (1500, 2))
    fitted = fit_row_lattice(anywhere, np.ones(1500), 0.2, 4.0, 8.0)
    assert fitted is None or fitted.coherence < 0.5
    line = np.column_stack([np.arange(0.0, 200.0, 4.0), np.full(50, 7.0)])
    assert fit_row_lattice(line, np.ones(50), 0.0, 4.0, 8.0) is None


def direction_map(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(2 * angle), np.sin(2 * angle)]).astype(np.float32)


def test_terraces_of_three_stripes() -> None:
    """The outer two have equal directions, and must not become one."""
    column = np.arange(128)[None, :] + np.zeros((128, 1))
    true = 1 + (column > 50).astype(int) + (column > 90)
    angle = np.where(true == 2, 0.3 + np.pi / 2, 0.3)
    step = (np.minimum(np.abs(column - 50.5), np.abs(column - 90.5)) < 3).astype(np.float32)
    found = map_terraces(step, direction_map(angle))
    right, merged = score_terraces(found.labels, true, 100)
    assert right > 0.99 and not merged and found.directions.size == 3
    for number in (1, 2, 3):
        under = int(np.bincount(true[found.labels == number]).argmax())
        expected = 0.3 + np.pi / 2 if under == 2 else 0.3
        assert direction_error(found.directions[number - 1], expected) < 0.01


def test_a_terrace_alone_and_no_terrace_at_all() -> None:
    whole = map_terraces(np.zeros((40, 30), np.float32), direction_map(np.full((40, 30), 1.0)))
    assert np.all(whole.labels == 1) and direction_error(whole.directions[0], 1.0) < 1e-3
    steps = map_terraces(np.ones((40, 30), np.float32), direction_map(np.full((40, 30), 1.0)))
    assert np.all(steps.labels == 1)


def maps_of(points: np.ndarray, visible: np.ndarray) -> Maps:
    """What a network without fault says of atoms."""
    y, x = np.mgrid[:SIDE, :SIDE]
    apart, _ = cKDTree(points[visible]).query(np.column_stack([x.ravel(), y.ravel()]))
    atom = np.exp(-0.5 * apart**2).reshape(SIDE, SIDE).astype(np.float32)
    return Maps(
        atom,
        points[visible],
        np.full(int(visible.sum()), 0.9),
        np.zeros((SIDE, SIDE), np.float32),
        np.zeros((SIDE // 2, SIDE // 2), np.float32),
        direction_map(np.full((SIDE // 2, SIDE // 2), 0.4)),
        np.array([1.0, 0, 0, 0, 0]),
    )


def test_every_site_is_judged() -> None:
    points = lattice_points(0.4)
    visible = np.random.default_rng(4).random(len(points)) > 0.05
    maps = maps_of(points, visible)
    found = decode(FLAT, maps, map_terraces(maps.step, maps.direction))
    assert found.placed.mean() > 0.99 and np.all(found.terrace == 1)
    pairs, apart = match(found.sites, points, 1.0)
    assert len(pairs) >= len(points) - 8 and np.sqrt(np.mean(apart**2)) < 0.05
    assert np.mean((found.score > 0.4)[pairs[:, 0]] == visible[pairs[:, 1]]) > 0.995


def test_peaks_beside_the_lattice_are_kept_as_they_are() -> None:
    points = lattice_points(0.4)
    hidden = np.hypot(*(points - 128).T) < 25
    stray = np.array([[128.0, 128.0], [135.0, 121.0]])
    everything = np.concatenate([points, stray])
    visible = np.concatenate([~hidden, [True, True]])
    maps = maps_of(everything, visible)
    terraces = TerraceMap(np.ones((128, 128), np.int32), np.array([0.4]))
    found = decode(FLAT, maps, terraces)
    near = cKDTree(found.sites[found.score > 0.4]).query(stray)[0]
    assert np.all(near < 2.0)
    # Others are at the border, where the lattice's site is outside of the image.
    inner = np.all((found.sites > 3) & (found.sites < SIDE - 4), axis=1)
    assert (~found.placed[inner]).sum() <= 2


def test_nothing_to_decode() -> None:
    maps = maps_of(np.array([[128.0, 128.0]]), np.array([True]))
    found = decode(FLAT, maps, map_terraces(maps.step, maps.direction))
    assert found.lattices == (None,) and len(found.sites) == 1 and not found.placed.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**32))
def test_pairs_are_one_to_one_and_within_the_tolerance(a: int, b: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, true = rng.uniform(0, 10, (a, 2)), rng.uniform(0, 10, (b, 2))
    pairs, apart = match(found, true, 1.5)
    assert len(set(pairs[:, 0].tolist())) == len(set(pairs[:, 1].tolist())) == len(pairs)
    assert np.all(apart <= 1.5)
    np.testing.assert_allclose(np.hypot(*(found[pairs[:, 0]] - true[pairs[:, 1]]).T), apart)


def test_scores_of_known_readings() -> None:
    true = np.array([[10.0, 10.0], [20.0, 10.0], [30.0, 10.0]])
    found = np.array([[10.5, 10.0], [20.0, 10.5], [50.0, 50.0]])
    counts = score_atoms(found, true, 1e-10)
    assert counts.hits == 2 and counts.f1 == pytest.approx(2 / 3)
    assert counts.rms == pytest.approx(0.5e-10)
    assert Counts.pooled([counts, counts]).f1 == counts.f1
    assert Counts.pooled([]).f1 == 1.0
    mask = np.zeros((40, 40), bool)
    mask[5:8, 5:8] = mask[20:24, 30:33] = True
    labels = np.zeros((40, 40), int)
    labels[5:8, 6:9] = 1
    labels[35:38, 5:8] = 2
    defects, overlap = score_defects(labels, mask)
    assert (defects.hits, defects.found, defects.true) == (1, 2, 2)
    assert overlap == pytest.approx(6 / 33)
    terrace = np.ones((40, 40), int)
    terrace[:, 20:] = 2
    right, merged = score_terraces(np.ones((40, 40), int), terrace, 10)
    assert right == 0.5 and merged
    assert score_terraces(3 - terrace, terrace, 10) == (1.0, False)
    sure = np.array([0.9, 0.9, 0.1, 0.1])
    right = np.array([True, True, False, True])
    assert calibration_error(sure, right) == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)
