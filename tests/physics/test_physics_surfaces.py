"""Tests of the surfaces: lattice, states, symmetry, herringbone, registry."""

import numpy as np
import pytest

from bluesky_gpsts.physics import (
    SURFACES,
    Junction,
    Surface,
    Tip,
    au111,
    build_surface,
    hsi100,
    window_sum,
    ws2,
)
from bluesky_gpsts.physics.constants import FloatArray


def _grid(width: float, n: int) -> tuple[FloatArray, FloatArray]:
    axis = (np.arange(n) + 0.5) / n * width - 0.5 * width
    x, y = np.meshgrid(axis, axis)
    return x.ravel(), y.ravel()


def _peaks(x: FloatArray, y: FloatArray) -> FloatArray:
    inner = (y[1:-1] > y[:-2]) & (y[1:-1] > y[2:])
    return x[1:-1][inner]


@pytest.mark.parametrize("name", sorted(SURFACES))
def test_surface_contract(name: str) -> None:
    """Shapes, signs, reproducibility; the seed matters."""
    surface = build_surface(name, 5)
    assert isinstance(surface, Surface)
    assert surface.name == name
    x, y = np.random.default_rng(0).uniform(-20e-9, 20e-9, (2, 5000))
    amplitudes = surface.components(x, y, 0.05e-9)
    spectra = surface.spectra(np.linspace(*surface.bias_limits, 2001))
    count = surface.clean.size
    assert amplitudes.shape == (5000, count) and spectra.shape == (count, 2001)
    assert surface.height(x, y).shape == (5000,)
    assert amplitudes.min() >= 0.0 and spectra.min() >= 0.0
    assert (amplitudes @ spectra).min() > 0.0
    low, high = surface.bias_limits
    assert low <= min(*surface.sweep, *surface.window, surface.imaging[0])
    assert high >= max(*surface.sweep, *surface.window, surface.imaging[0])
    assert build_surface(name, 5) == surface
    assert build_surface(name, 6) != surface


def test_clean_amplitudes_are_the_average() -> None:
    """`clean` agrees with the mean over a surface without defects."""
    x, y = np.random.default_rng(0).uniform(-100e-9, 100e-9, (2, 40000))
    for surface in (ws2.WS2(), au111.Au111(), hsi100.HSi100()):
        mean = surface.components(x, y).mean(axis=0)
        np.testing.assert_allclose(mean, surface.clean, atol=0.01)


def test_registry_errors() -> None:
    """Unknown names list the known ones."""
    with pytest.raises(ValueError, match="known surfaces: au111, hsi100, ws2"):
        build_surface("gold", 0)
    with pytest.raises(ValueError, match="seed is -1"):
        build_surface("ws2", -1)
    with pytest.raises(ValueError, match="sulfur_vacancy"):
        ws2.Defect("hole", 0.0, 0.0)


def test_ws2_lattice_constant() -> None:
    """The Fourier transform of the topograph peaks at 4 pi / (sqrt 3 a)."""
    surface = ws2.WS2(angle=0.3)
    n, width = 128, 5e-9
    x, y = _grid(width, n)
    z = Junction(surface).topography(x, y, *surface.imaging).reshape(n, n)
    corrugation = np.ptp(z)
    assert 1e-12 < corrugation < 10e-12
    window = np.hanning(n)[:, None] * np.hanning(n)
    power = np.abs(np.fft.fft2((z - z.mean()) * window, s=(1024, 1024))) ** 2
    frequency = np.fft.fftfreq(1024, width / n)
    row, column = np.unravel_index(np.argmax(power), power.shape)
    length = np.hypot(frequency[row], frequency[column])
    assert 2.0 / (np.sqrt(3.0) * length) == pytest.approx(3.15e-10, rel=0.01)


def test_tip_blur_damps_the_lattice() -> None:
    """By exp(-k^2 s^2 / 2)."""
    x, y = _grid(1e-9, 64)
    surface = ws2.WS2()
    blur = 0.08e-9
    k = 4 * np.pi / (np.sqrt(3.0) * ws2.LATTICE_CONSTANT)
    ratio = np.ptp(surface.height(x, y, blur)) / np.ptp(surface.height(x, y))
    assert ratio == pytest.approx(np.exp(-0.5 * (k * blur) ** 2), rel=1e-6)


def test_blur_equals_a_convolution() -> None:
    """Blurred amplitudes equal the average over a Gaussian of positions."""
    surface = ws2.WS2(defects=(ws2.Defect("sulfur_vacancy", 0.0, 0.0),))
    gold = au111.Au111(impurities=(au111.Impurity(3e-9, 0.0),), step_distance=6e-9, bend=0.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = np.outer(weights, weights).ravel() / weights.sum() ** 2
    dx, dy = (values.ravel() for values in np.meshgrid(nodes, nodes))
    blur = 0.1e-9
    for model, columns in ((surface, slice(5, 7)), (gold, slice(2, 3))):
        for px, py in ((0.1e-9, 0.2e-9), (0.9e-9, -0.4e-9)):
            around = model.components(px + blur * dx, py + blur * dy)[:, columns]
            at = model.components(np.array([px]), np.array([py]), blur)[0, columns]
            np.testing.assert_allclose(at, weights @ around, rtol=2e-2, atol=2e-3)


def test_vacancy_states() -> None:
    """Two states in the gap, 0.25 eV apart; band edges; nothing in the gap elsewhere."""
    surface = ws2.build(4)
    junction = Junction(surface)
    vacancy = surface.defects[0]
    bias = np.linspace(-1.8, 1.4, 3201)
    on = junction.conductance(np.array([vacancy.x]), np.array([vacancy.y]), bias)[0]
    off = Junction(ws2.WS2()).conductance(np.zeros(1), np.zeros(1), bias)[0]
    gap = (bias > 0.1) & (bias < 0.85)
    peaks = _peaks(bias[gap], on[gap])
    np.testing.assert_allclose(peaks, ws2.VACANCY_STATES, atol=0.005)
    assert np.ptp(peaks) == pytest.approx(0.25, abs=0.005)
    in_gap = (bias > -1.4) & (bias < 0.75)
    edge = off[np.argmin(np.abs(bias - 0.95))]
    assert 1e-5 < off[in_gap].min() / edge and off[in_gap].max() / edge < 1e-3
    rising = np.gradient(off, bias)
    low = (bias > 0.8) & (bias < 1.0)
    assert bias[low][np.argmax(rising[low])] == pytest.approx(ws2.CONDUCTION_EDGE, abs=0.01)
    high = (bias > -1.66) & (bias < -1.5)
    assert bias[high][np.argmin(rising[high])] == pytest.approx(ws2.VALENCE_EDGE, abs=0.01)


def test_other_defects() -> None:
    """Oxygen has no state in the gap, CH has some above the valence band, tungsten three."""
    bias = np.linspace(-1.5, 0.9, 2401)
    found = {}
    for kind in ws2.KINDS[1:]:
        surface = ws2.WS2(defects=(ws2.Defect(kind, 0.0, 0.0),))
        x = np.array([0.2e-9])
        curve = Junction(surface).conductance(x, np.zeros(1), bias)[0]
        peaks = _peaks(bias, curve)
        floor = np.median(curve)
        found[kind] = [p for p in peaks if curve[np.argmin(np.abs(bias - p))] > 100 * floor]
    assert found["oxygen_substitution"] == []
    assert len(found["ch_substitution"]) == 2
    assert all(-1.35 < p < -1.1 for p in found["ch_substitution"])
    assert len(found["tungsten_site"]) == 3
    assert all(0.55 < p < 0.9 for p in found["tungsten_site"])


def _vacancy_ring(surface: ws2.WS2, radius: float) -> FloatArray:
    vacancy = surface.defects[0]
    angle = vacancy.angle + np.deg2rad(90.0 + np.arange(0, 360, 5))
    x, y = vacancy.x + radius * np.cos(angle), vacancy.y + radius * np.sin(angle)
    return surface.components(x, y)[:, 5] + surface.components(x, y)[:, 6]


def test_vacancy_has_three_lobes() -> None:
    """Exact three-fold symmetry for equal lobes, within tolerance for drawn ones."""
    perfect = ws2.WS2(defects=(ws2.Defect("sulfur_vacancy", 0.2e-9, -0.1e-9, 0.7, 1.05),))
    ring = _vacancy_ring(perfect, 0.42e-9)
    np.testing.assert_allclose(ring, np.roll(ring, 24), rtol=1e-10)
    assert ring[0] == ring.max() and ring[0] / ring.min() > 1.5
    for seed in range(10):
        ring = _vacancy_ring(ws2.build(seed), 0.42e-9)
        lobes = ring[[0, 24, 48]]
        assert np.ptp(lobes) / lobes.mean() < 0.35
        third = np.abs(np.fft.rfft(ring - ring.mean()))
        assert np.argmax(third) == 3


def test_vacancy_width_and_place() -> None:
    """1.2 to 1.6 nm across, near the origin, alone in a 3 nm frame."""
    for seed in range(20):
        surface = ws2.build(seed)
        vacancy, *others = surface.defects
        assert vacancy.kind == "sulfur_vacancy"
        assert max(abs(vacancy.x), abs(vacancy.y)) <= 0.45e-9
        assert all(np.hypot(d.x, d.y) > 2.7e-9 for d in others)
        near = {d.kind for d in others if np.hypot(d.x, d.y) < 6.3e-9}
        assert near == set(ws2.KINDS)
    surface = ws2.WS2(defects=(ws2.Defect("sulfur_vacancy", 0.0, 0.0),))
    x, y = _grid(3e-9, 150)
    density = surface.components(x, y)[:, 5]
    area = np.count_nonzero(density > 0.3 * density.max()) * (3e-9 / 150) ** 2
    assert 1.0e-9 < 2.0 * np.sqrt(area / np.pi) < 1.6e-9


def test_vacancies_sit_on_sulfur_sites() -> None:
    """And tungsten defects do not."""
    for seed in range(5):
        surface = ws2.build(seed)
        bare = ws2.WS2(surface.angle, surface.origin)
        for defect in surface.defects:
            height = bare.height(np.array([defect.x]), np.array([defect.y]))[0]
            expected = -0.5 if defect.kind == "tungsten_site" else 1.0
            assert height == pytest.approx(expected * 1.5e-12, rel=1e-6)


def test_ws2_topograph_shows_a_dark_halo() -> None:
    """At the imaging bias the vacancy is a depression with three bumps, some 10 pm deep."""
    surface = ws2.WS2(defects=(ws2.Defect("sulfur_vacancy", 0.0, 0.0),))
    junction = Junction(surface, Tip(blur=0.15e-9))
    z = junction.topography(np.array([0.0, 2.5e-9]), np.zeros(2), *surface.imaging)
    assert 5e-12 < z[1] - z[0] < 40e-12


def test_gold_onset() -> None:
    """The surface state starts at -0.48 V, within 10 to 20 mV, in fcc and hcp regions."""
    gold = au111.Au111(bend=0.0)
    junction = Junction(gold)
    x = np.array([0.0, 0.5 * au111.PERIOD])
    bias = np.linspace(-0.6, -0.3, 3001)
    curves = junction.conductance(x, np.zeros(2), bias)
    slope = np.gradient(curves, bias, axis=1)
    onsets = bias[np.argmax(slope, axis=1)]
    np.testing.assert_allclose(onsets, -0.48, atol=0.01)
    fcc = curves[1]
    base, top = fcc[bias < -0.52].min(), fcc[bias < -0.44].max()
    level = (fcc - base) / (top - base)
    rise = bias[np.argmax(level > 0.9)] - bias[np.argmax(level > 0.1)]
    assert 0.010 < rise < 0.025
    overall = curves.sum(axis=1)
    window = (bias > -0.52) & (bias < -0.40)
    inside = curves[:, window].sum(axis=1)
    assert inside[0] / inside[1] > 1.15 > overall[0] / overall[1]
    assert bias[np.argmax(curves[0])] == pytest.approx(-0.47, abs=0.01)


def test_herringbone_period_and_widths() -> None:
    """6.34 nm, ridges 20 pm high, fcc to hcp 60 to 40."""
    gold = au111.Au111(bend=0.0)
    x = np.arange(0.0, 20 * au111.PERIOD, 0.02e-9)
    y = np.zeros(x.shape)
    height = gold.height(x, y, blur=0.2e-9)
    crests = _peaks(x, height)
    gaps = np.diff(crests)
    narrow, wide = gaps[gaps < 3e-9], gaps[gaps > 3e-9]
    assert narrow.mean() + wide.mean() == pytest.approx(6.34e-9, rel=5e-3)
    assert wide.mean() / (narrow.mean() + wide.mean()) == pytest.approx(0.60, abs=0.03)
    assert 15e-12 < np.ptp(height) < 25e-12
    middle = 0.5 * (crests[:-1] + crests[1:])
    hcp = gold.hcp_share(middle, np.zeros(middle.shape))
    assert np.all(hcp[gaps < 3e-9] > 0.95) and np.all(hcp[gaps > 3e-9] < 0.05)


def test_zigzag_keeps_the_period_across_the_stripes() -> None:
    """In a straight part the stripes run 30 degrees off, still 6.34 nm apart."""
    gold = au111.Au111(elbow_distance=40e-9)
    along = np.arange(0.0, 19e-9, 0.01e-9)
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    x, y = along * c, -along * s
    hcp = gold.hcp_share(x, y)
    rising = along[1:][(hcp[1:] > 0.5) & (hcp[:-1] <= 0.5)]
    assert np.diff(rising).mean() == pytest.approx(6.34e-9, rel=0.05)


def test_gold_step_and_impurity() -> None:
    """A 0.235 nm step down, and an impurity without surface state."""
    for seed in range(5):
        gold = au111.build(seed)
        c, s = np.cos(gold.step_direction), np.sin(gold.step_direction)
        across = gold.step_distance + np.array([-1.5e-9, 1.5e-9])
        z = gold.height(across * c, across * s)
        assert z[0] - z[1] == pytest.approx(2.35e-10, abs=0.8e-10)
        spot = gold.impurities[0]
        assert 4e-9 <= np.hypot(spot.x, spot.y) <= 8e-9
        at = gold.components(np.array([spot.x]), np.array([spot.y]))[0]
        assert at[1:4].sum() < 0.1 and at[4] == pytest.approx(1.0)


def test_maps_are_smooth_enough_to_learn() -> None:
    """Away from the vacancy the atoms move the window map by a few percent of its range."""
    surface = ws2.build(0)
    junction = Junction(surface)
    x, y = _grid(3e-9, 128)
    values = window_sum(junction, x, y, surface.window, *surface.imaging)
    vacancy = surface.defects[0]
    away = np.hypot(x - vacancy.x, y - vacancy.y) > 1.2e-9
    assert np.ptp(values[away]) < 0.03 * np.ptp(values)
