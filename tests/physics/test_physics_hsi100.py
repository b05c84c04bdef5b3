"""Tests of H-Si(100): lattice, terraces, edges, defects, states, and the truth about them."""

import numpy as np
import pytest

from bluesky_gpsts.physics import Junction, Tip, build_surface
from bluesky_gpsts.physics.constants import FloatArray
from bluesky_gpsts.physics.hsi100 import (
    ATOM_DISTANCE,
    CONDUCTION_EDGE,
    KINDS,
    ROW_DISTANCE,
    STEP_HEIGHT,
    VALENCE_EDGE,
    Defect,
    HSi100,
)
from bluesky_gpsts.physics.hsi100_build import DENSITIES, Ground, random_terraces
from bluesky_gpsts.physics.hsi100_defects import HIDING, VACANT, make_defect
from bluesky_gpsts.physics.hsi100_lattice import Edge, Terraces, random_edge

BLUR = 0.06e-9
SETPOINT = 50e-12


def _square(x: float, y: float, half: float, n: int) -> tuple[FloatArray, FloatArray]:
    axis = np.linspace(-half, half, n)
    px, py = np.meshgrid(x + axis, y + axis)
    return px.ravel(), py.ravel()


def _one(kind: str, seed: int = 0) -> HSi100:
    terraces = Terraces(angle=0.4)
    defect = make_defect(kind, terraces, (0, 0, 0), np.random.default_rng(seed))
    return HSi100(terraces, (defect,))


def _relief(surface: HSi100, bias: float, x: FloatArray, y: FloatArray) -> FloatArray:
    """Topography (m) against that of the clean surface."""
    clean = Junction(HSi100(surface.terraces), Tip(blur=BLUR))
    here = Junction(surface, Tip(blur=BLUR))
    flat = clean.topography(x, y, bias, SETPOINT)
    return here.topography(x, y, bias, SETPOINT) - flat


def test_rows_and_dimers() -> None:
    """Maxima on the sites, two periods and no other, rows more than dimers."""
    terraces = Terraces(angle=0.3, origin=(0.1e-9, -0.2e-9))
    surface = HSi100(terraces)
    u = np.arange(400) * ROW_DISTANCE / 50
    c, s = np.cos(0.3), np.sin(0.3)
    along = surface.height(0.1e-9 + c * u, -0.2e-9 + s * u, BLUR)
    across = surface.height(0.1e-9 - s * u, -0.2e-9 + c * u, BLUR)
    np.testing.assert_allclose(along[25:], along[:-25], atol=1e-16)
    np.testing.assert_allclose(across[50:], across[:-50], atol=1e-16)
    assert np.argmax(along[:25]) == 0 and np.argmax(across[:50]) == 0
    assert 15e-12 < np.ptp(across) < 40e-12
    assert 0.15 < np.ptp(along) / np.ptp(across) < 0.6
    # A blunt tip resolves the rows, but no dimers in them; a worse one neither.
    dull = surface.height(c * u, s * u, 0.16e-9)
    assert np.ptp(dull) < 0.05 * np.ptp(across)
    assert np.ptp(surface.height(-s * u, c * u, 0.5e-9)) < 0.01 * np.ptp(across)


def test_the_lattice_is_a_sum_of_dimers() -> None:
    """Taking every dimer away one by one leaves a flat surface: series and spots agree."""
    terraces = Terraces(angle=1.1)
    gone = tuple(
        make_defect("missing_dimer", terraces, (0, i, j), np.random.default_rng(0))
        for i in range(-4, 5)
        for j in range(-8, 9)
    )
    bare = tuple(
        Defect(d.kind, d.x, d.y, d.sites, tuple(s for s in d.spots if s.lattice)) for d in gone
    )
    x, y = _square(0.0, 0.0, 0.4e-9, 15)
    for blur in (0.0, 0.1e-9):
        left = HSi100(terraces, bare).height(x, y, blur)
        assert np.ptp(left) < 0.02 * np.ptp(HSi100(terraces).height(x, y, blur)) + 1e-14


def test_terraces_turn_and_shift() -> None:
    """Rows turn by 90 degrees from level to level, and come back a quarter period beside."""
    terraces = Terraces(angle=0.2, direction=0.2, edges=(Edge(-9e-9), Edge(0.0), Edge(9e-9)))
    surface = HSi100(terraces)
    for level in range(3):
        turn = terraces.row_direction(level + 1) - terraces.row_direction(level)
        assert abs(turn) == pytest.approx(np.pi / 2)
    origin = terraces.position(0, np.zeros(1), np.zeros(1))[0]
    u, v = terraces.local(origin[:1], origin[1:], 2)
    assert (u[0] / ROW_DISTANCE) % 0.5 == pytest.approx(0.25)
    assert (v[0] / ATOM_DISTANCE) % 1.0 == pytest.approx(0.5)
    means = []
    for place in (-13.5e-9, -4.5e-9, 4.5e-9, 13.5e-9):
        x, y = _square(place * np.cos(0.2), place * np.sin(0.2), 2.304e-9, 61)
        means.append(surface.height(x, y, BLUR).mean())
    np.testing.assert_allclose(np.diff(means), -STEP_HEIGHT, atol=1e-12)
    with pytest.raises(ValueError, match="ascending"):
        Terraces(edges=(Edge(1e-9), Edge(-1e-9)))


def test_shares_agree_with_levels() -> None:
    """What the tip sees is the terrace that is there, but for a band at the edges."""
    terraces = random_terraces(np.random.default_rng(3), (-6e-9, 1e-9, 8e-9))
    x, y = _square(0.0, 0.0, 14e-9, 180)
    shares, level = terraces.shares(x, y, BLUR), terraces.level(x, y)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert shares.min() >= -1e-12
    assert set(level) == {0, 1, 2, 3}
    assert np.mean(shares.argmax(axis=0) == level) > 0.985
    assert np.mean(shares.max(axis=0) > 0.99) > 0.85


def test_edges_along_rows_are_smooth_and_across_rows_rough() -> None:
    terraces = Terraces(direction=0.0)
    spread: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(6):
        for level in (0, 1):
            edge = random_edge(np.random.default_rng(seed), terraces, level, 5e-9)
            spread[level].append(float(np.std(np.diff(edge.profile))))
    # Descent along x: the rows of level 0 run into the edge (B), those of level 1 along it (A).
    assert min(spread[0]) > 2.0 * max(spread[1])


def test_upper_dimers_end_at_the_edge_and_cover_the_lower_ones() -> None:
    terraces = random_terraces(np.random.default_rng(8), (0.0,))
    surface = HSi100(terraces)
    sites = surface.sites(-8e-9, 8e-9, -8e-9, 8e-9)
    np.testing.assert_array_equal(terraces.level(sites.x, sites.y), sites.level)
    assert sites.occupied.all() and (sites.defect == -1).all()
    area = (16e-9) ** 2 / (ROW_DISTANCE * ATOM_DISTANCE)
    assert 0.93 * area < sites.x.size <= 1.01 * area
    places = np.column_stack([sites.x, sites.y])
    for level in (0, 1):
        own = places[sites.level == level]
        gaps = np.linalg.norm(own[:, None] - own[None], axis=2) + np.eye(len(own))
        assert gaps.min() == pytest.approx(ATOM_DISTANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_looks_of_defects(kind: str) -> None:
    """Depressions are low, protrusions high, and all of it lies where the defect is said to be."""
    surface = _one(kind)
    defect = surface.defects[0]
    half = 7e-9 if kind in HIDING else 3e-9
    x, y = _square(defect.x, defect.y, half, 121)
    filled = _relief(surface, -2.0, x, y)
    marked = surface.marked(x, y) == 0
    assert 0.1e-18 < marked.mean() * (2 * half) ** 2 < 60e-18
    low, high = filled.min(), filled.max()
    if kind in (*VACANT, "dihydride"):
        assert low < -30e-12 and high < 0.6 * -low
    elif kind != "unresolved":
        assert high > 60e-12 and -low < 0.7 * high
    strongest = np.argmax(np.abs(filled)) if kind != "unresolved" else np.argmax(marked)
    assert marked[strongest]
    outside = np.abs(filled[~marked])
    assert outside.max() < 0.75 * np.abs(filled).max()
    if kind in HIDING:
        clean = HSi100(surface.terraces)
        across = np.linspace(-0.5, 0.5, 41) * ROW_DISTANCE
        angle = surface.terraces.angle + np.pi / 2
        line = defect.x + across * np.cos(angle), defect.y + across * np.sin(angle)
        dimers = surface.components(*line, BLUR)[:, 1]
        assert np.ptp(dimers) < 0.4 * np.ptp(clean.components(*line, BLUR)[:, 1])


def test_a_missing_dimer_is_deeper_than_a_dihydride() -> None:
    depth = {}
    for kind in ("missing_dimer", "dihydride"):
        seeds = [_relief(_one(kind, k), -2.0, *_square(0.0, 0.0, 1e-9, 41)) for k in range(5)]
        depth[kind] = [-float(relief.min()) for relief in seeds]
    assert min(depth["missing_dimer"]) > 1.3 * max(depth["dihydride"])


def test_a_dangling_bond_sits_on_one_side_with_a_halo() -> None:
    """Off the middle of its dimer; around it bright in filled states, dark in empty ones."""
    surface = _one("dangling_bond")
    defect = surface.defects[0]
    site = surface.terraces.position(0, np.zeros(1), np.zeros(1))[0]
    assert 0.1e-9 < np.hypot(defect.x - site[0], defect.y - site[1]) < 0.2e-9
    turn = np.linspace(0.0, 2 * np.pi, 60)
    x, y = defect.x + 1.1e-9 * np.cos(turn), defect.y + 1.1e-9 * np.sin(turn)
    middle = np.array([defect.x]), np.array([defect.y])
    assert _relief(surface, -2.0, x, y).mean() > 10e-12
    assert _relief(surface, 1.8, x, y).mean() < -10e-12
    assert _relief(surface, -2.0, *middle)[0] > 80e-12
    assert _relief(surface, 1.8, *middle)[0] > 10e-12


def test_states() -> None:
    """A gap of 1.2 eV, with the states of dangling bonds and bare dimers in it."""
    assert 1.1 <= CONDUCTION_EDGE - VALENCE_EDGE <= 1.3
    bias = np.linspace(-1.8, 1.2, 601)
    gap = (bias > VALENCE_EDGE + 0.25) & (bias < CONDUCTION_EDGE - 0.2)
    spectra = {}
    for kind in ("clean", "dangling_bond", "bare_dimer", "contaminant"):
        surface = HSi100() if kind == "clean" else _one(kind)
        at = (0.0, 0.0) if kind == "clean" else (surface.defects[0].x, surface.defects[0].y)
        place = np.array([at[0]]), np.array([at[1]])
        junction = Junction(surface)
        gaps = junction.setpoint_gap(*place, -2.0, SETPOINT)
        spectra[kind] = junction.conductance(*place, bias, gaps)[0]
    for kind in ("clean", "contaminant"):
        assert spectra[kind][gap].max() < 3e-3 * spectra[kind].max()
    assert spectra["dangling_bond"][gap].max() > 100 * spectra["clean"][gap].max()
    peak = bias[gap][np.argmax(spectra["dangling_bond"][gap])]
    assert peak == pytest.approx(-0.5, abs=0.06)
    assert np.interp(-0.7, bias, spectra["bare_dimer"]) > 100 * np.interp(
        -0.7, bias, spectra["clean"]
    )


@pytest.mark.parametrize("seed", range(4))
def test_built_surface(seed: int) -> None:
    """A dangling bond at the origin, clean around it, and one of each kind in reach."""
    surface = build_surface("hsi100", seed)
    assert isinstance(surface, HSi100)
    first, *others = surface.defects
    assert first.kind == "dangling_bond" and np.hypot(first.x, first.y) < 0.7e-9
    x, y = _square(0.0, 0.0, 1.7e-9, 31)
    assert set(surface.marked(x, y)) == {-1, 0}
    near = {d.kind for d in others if np.hypot(d.x, d.y) < 12e-9}
    assert near >= set(KINDS) - {"dangling_bond"}
    assert len(surface.defects) > 300
    origin = np.zeros(1)
    middle = int(surface.terraces.level(origin, origin)[0])
    assert 0 < middle < len(surface.terraces.edges)


def test_truth_and_height_agree() -> None:
    """Dimers that are said to be there stand out; those that are said to be missing do not."""
    surface = build_surface("hsi100", 1)
    assert isinstance(surface, HSi100)
    sites = surface.sites(-20e-9, 20e-9, -20e-9, 20e-9)
    kinds = np.array([d.kind for d in surface.defects] + [""])[sites.defect]
    level = -STEP_HEIGHT * sites.level
    height = surface.height(sites.x, sites.y, BLUR) - level
    shares = surface.terraces.shares(sites.x, sites.y, BLUR).max(axis=0)
    inner = shares > 0.99
    usual = np.median(height[sites.occupied & inner])
    missing = np.isin(kinds, VACANT) & inner
    assert missing.sum() > 20 and not sites.occupied[missing].any()
    assert (height[missing] < usual - 50e-12).all()
    clean = (kinds == "") & inner
    assert np.mean(np.abs(height[clean] - usual) < 8e-12) > 0.97
    assert sites.occupied[clean].all()
    hidden = np.isin(kinds, HIDING)
    assert hidden.sum() > 20 and not sites.occupied[hidden].any()
    for index, defect in enumerate(surface.defects[:40]):
        own = sites.defect == index
        if defect.kind not in HIDING and own.any():
            assert (surface.marked(sites.x[own], sites.y[own]) == index).all()


def test_defects_keep_apart() -> None:
    ground = Ground(random_terraces(np.random.default_rng(1), (2e-9,)))
    ground.scatter(np.random.default_rng(2), DENSITIES, (30e-9, 30e-9))
    owners = [site for defect in ground.defects for site in defect.sites]
    assert len(owners) == len(set(owners)) and len(ground.defects) > 50
    assert {d.kind for d in ground.defects} == set(KINDS)


def test_bad_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="'hole'; known kinds: missing_dimer"):
        make_defect("hole", Terraces(), (0, 0, 0), rng)
    with pytest.raises(ValueError, match="known kinds"):
        Defect("hole", 0.0, 0.0, (), ())
    with pytest.raises(ValueError, match="density of water is -1"):
        Ground(Terraces()).scatter(rng, {"water": -1.0}, (1e-9, 1e-9))
    with pytest.raises(ValueError, match="'hole'; known kinds"):
        Ground(Terraces()).scatter(rng, {"hole": 1.0}, (1e-9, 1e-9))
