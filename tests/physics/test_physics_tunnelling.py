"""Tests of the junction: barrier, tables, lock-in, temperature, feedback, tips."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.integrate import quad

from bluesky_gpsts.physics import Junction, Surface, Tip, au111, decay, random_tip, window_sum, ws2
from bluesky_gpsts.physics.barrier import wkb_transmission
from bluesky_gpsts.physics.constants import BOLTZMANN_EV, FloatArray
from bluesky_gpsts.physics.tunnelling import REFERENCE_CURRENT, REFERENCE_GAP

ORIGIN = np.zeros(1)


def _flat(energy: FloatArray) -> FloatArray:
    return np.ones(energy.shape)


@dataclass(frozen=True)
class Uniform:
    """A surface that is the same everywhere, with a density of states of the test's choice."""

    dos: Callable[[FloatArray], FloatArray] = _flat
    name: str = "uniform"
    work_function: float = 4.5
    bias_limits: tuple[float, float] = (-1.0, 1.0)
    sweep: tuple[float, float] = (1.0, -1.0)
    window: tuple[float, float] = (0.0, 0.5)
    imaging: tuple[float, float] = (1.0, 30e-12)
    clean: FloatArray = field(default_factory=lambda: np.ones(1), compare=False)

    def components(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """One amplitude of 1."""
        return np.ones((x.size, 1))

    def spectra(self, energy: FloatArray) -> FloatArray:
        """The one spectrum."""
        return self.dos(energy)[None, :]

    def height(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """A step of 0.2 nm, upwards at x = 0."""
        return np.where(x > 0.0, 0.2e-9, 0.0)


def test_current_falls_by_a_decade_per_angstrom() -> None:
    """For 4 to 5 eV, as in every textbook."""
    for work_function in (4.0, 4.5, 5.0):
        per_decade = np.log(10.0) / (2.0 * float(decay(work_function, 0.0)))
        assert 0.095e-9 < per_decade < 0.115e-9
    assert decay(4.5, 0.0) == pytest.approx(10.87e9, rel=1e-3)
    assert decay(4.5, 2.0) == pytest.approx(float(decay(4.5, -2.0)))
    assert decay(4.5, 2.0) < decay(4.5, 0.0)
    with pytest.raises(ValueError, match="keep .bias. under 9 V"):
        decay(4.5, 9.0)


def test_junction_current_follows_the_gap() -> None:
    """The gap acts through the decay constant at each bias."""
    junction = Junction(ws2.build(0))
    bias = np.array([-1.7, 1.2])
    near = junction.current(ORIGIN, ORIGIN, bias)
    far = junction.current(ORIGIN, ORIGIN, bias, 0.1e-9)
    expected = np.exp(-2.0 * decay(4.5, bias) * 0.1e-9)
    np.testing.assert_allclose(far / near, expected[None, :], rtol=1e-12)


@pytest.mark.parametrize("bias", [-0.83, -0.1117, 0.3, 0.97])
def test_tables_equal_the_energy_integral(bias: float) -> None:
    """The interpolated tables agree with adaptive quadrature of the same integrand."""
    tip = Tip(background=((0.3, 0.15, 0.3), (-0.6, 0.2, -0.2)), slope=0.2)

    def dos(energy: FloatArray) -> FloatArray:
        return np.asarray(0.05 + np.exp(-0.5 * ((energy - 0.25) / 0.02) ** 2))

    def integral(to: float) -> float:
        def integrand(energy: float) -> float:
            e = np.array([energy])
            barrier = wkb_transmission(e, to, REFERENCE_GAP, 4.5)
            return float((dos(e) * tip.dos(e - to) * barrier)[0])

        points = sorted(p for p in (0.2, 0.25, 0.3) if 0.0 < p < to)
        return quad(integrand, 0.0, to, points=points or None, epsabs=1e-12, limit=200)[0]

    junction = Junction(Uniform(dos), tip, temperature=0.0)
    measured = float(junction.current(ORIGIN, ORIGIN, np.array([bias]))[0, 0])
    expected = REFERENCE_CURRENT * integral(bias) / integral(1.0)
    assert measured == pytest.approx(expected, rel=2e-4)


def test_reference_current() -> None:
    """Clean surfaces carry 100 pA at their imaging bias and the reference gap."""
    surface = ws2.WS2()
    x, y = np.random.default_rng(0).uniform(-2e-9, 2e-9, (2, 4000))
    current = Junction(surface).current(x, y, np.array([surface.imaging[0]]))
    assert current.mean() == pytest.approx(REFERENCE_CURRENT, rel=5e-3)
    gold = au111.Au111()
    ends = Junction(gold).current(10 * x, 10 * y, np.array([-1.0, 1.0])).mean(axis=0)
    np.testing.assert_allclose(ends, [-100e-12, 100e-12], rtol=0.1)


@pytest.mark.parametrize("build", [ws2.build, au111.build])
def test_current_has_the_sign_of_the_bias(build: Callable[[int], Surface]) -> None:
    """Also in the gap, where feedback still finds something to hold."""
    junction = Junction(build(1), random_tip(np.random.default_rng(1), 1.0))
    x, y = np.random.default_rng(2).uniform(-9e-9, 9e-9, (2, 200))
    bias = np.linspace(-2.5, 2.5, 1001)
    current = junction.current(x, y, bias)
    assert np.all(np.sign(current) == np.sign(np.where(np.abs(bias) < 1e-12, 0.0, bias)))
    assert np.all(np.isfinite(junction.conductance(x, y, bias)))


def test_conductance_is_the_derivative_of_the_current() -> None:
    """At the reference gap and away from it."""
    junction = Junction(ws2.build(3))
    x = y = np.array([0.0, 0.3e-9])
    bias = np.array([-1.7, -1.0, 0.44, 0.7, 1.0, 1.3])
    for dz in (0.0, np.array([0.1e-9, -0.05e-9])):
        h = 1e-3
        above = junction.current(x, y, bias + h, dz)
        below = junction.current(x, y, bias - h, dz)
        expected = (above - below) / (2 * h)
        got = junction.conductance(x, y, bias, dz)
        np.testing.assert_allclose(got, expected, rtol=5e-3, atol=1e-3 * expected.max())


def test_lockin_is_the_first_harmonic() -> None:
    """Against Fourier analysis of the current in time, and against dI/dV for small amplitude."""
    junction = Junction(ws2.build(3))
    vacancy = ws2.build(3).defects[0]
    x, y = np.array([vacancy.x]), np.array([vacancy.y])
    phases = 2 * np.pi * np.arange(400) / 400
    for amplitude in (5e-3, 20e-3):
        for bias in (0.43, 0.45, 0.7, 0.95):
            for dz in (0.0, 0.08e-9):
                current = junction.current(x, y, bias + amplitude * np.sin(phases), dz)[0]
                expected = 2.0 * np.mean(current * np.sin(phases))
                got = float(junction.lockin(x, y, np.array([bias]), amplitude, dz)[0, 0])
                assert got == pytest.approx(expected, rel=2e-3)
    small = junction.lockin(x, y, np.array([0.43]), 0.5e-3) / 0.5e-3
    np.testing.assert_allclose(small, junction.conductance(x, y, np.array([0.43])), rtol=2e-3)


def _width(bias: FloatArray, signal: FloatArray) -> float:
    half = np.flatnonzero(signal > 0.5 * signal.max())
    return float(bias[half[-1]] - bias[half[0]])


@pytest.mark.parametrize("temperature", [4.5, 20.0])
def test_thermal_broadening(temperature: float) -> None:
    """A sharp level appears 3.53 k_B T wide."""
    level = Uniform(lambda e: 1e-6 + np.exp(-0.5 * ((e - 0.3) / 0.2e-3) ** 2))
    bias = 0.3 + np.linspace(-0.02, 0.02, 8001)
    signal = Junction(level, temperature=temperature).conductance(ORIGIN, ORIGIN, bias)[0]
    expected = np.hypot(3.53 * BOLTZMANN_EV * temperature, 2.355 * 0.2e-3)
    assert _width(bias, signal) == pytest.approx(expected, rel=0.06)


def test_modulation_broadening() -> None:
    """A sharp level appears sqrt(3) times the peak amplitude wide, the known instrument width."""
    level = Uniform(lambda e: 1e-6 + np.exp(-0.5 * ((e - 0.3) / 0.3e-3) ** 2))
    bias = 0.3 + np.linspace(-0.05, 0.05, 8001)
    signal = Junction(level).lockin(ORIGIN, ORIGIN, bias, 10e-3)[0]
    assert _width(bias, signal) == pytest.approx(np.sqrt(3.0) * 10e-3, rel=0.03)


@pytest.mark.parametrize("build", [ws2.build, au111.build])
def test_setpoint_gap_is_the_inverse_of_the_current(build: Callable[[int], Surface]) -> None:
    """Feedback ends at the setpoint, at both polarities and in the gap."""
    junction = Junction(build(2))
    x, y = np.random.default_rng(2).uniform(-3e-9, 3e-9, (2, 50))
    for bias in (-1.7, 0.3, 1.0):
        for setpoint in (1e-12, 30e-12, 1e-9):
            dz = junction.setpoint_gap(x, y, bias, setpoint)
            current = junction.current(x, y, np.array([bias]), dz)[:, 0]
            np.testing.assert_allclose(current, np.sign(bias) * setpoint, rtol=1e-10)
    z = junction.topography(x, y, 1.0, 30e-12)
    dz = junction.setpoint_gap(x, y, 1.0, 30e-12)
    np.testing.assert_allclose(z, junction.height(x, y) + REFERENCE_GAP + dz, rtol=1e-14)


def test_window_sum_is_the_integral_of_the_conductance() -> None:
    """The difference of currents equals the sum of dI/dV over a fine sweep."""
    surface = ws2.build(0)
    junction = Junction(surface)
    vacancy = surface.defects[0]
    x, y = np.array([vacancy.x, 1.4e-9]), np.array([vacancy.y, -1.4e-9])
    low, high = surface.window
    total = window_sum(junction, x, y, (low, high), *surface.imaging)
    bias = np.linspace(low, high, 2801)
    dz = junction.setpoint_gap(x, y, *surface.imaging)
    curve = junction.conductance(x, y, bias, dz)
    np.testing.assert_allclose(total, np.trapezoid(curve, bias, axis=1), rtol=1e-3)


def test_second_apex_shows_a_step_twice() -> None:
    """The apex over the higher terrace takes the current over."""
    tip = Tip(apexes=((0.0, 0.0, 0.9), (1e-9, 0.0, 0.1)))
    z = Junction(Uniform(), tip).topography(
        np.array([-3e-9, -0.5e-9, 3e-9]), np.zeros(3), 1.0, 30e-12
    )
    rise = z - z[0]
    kappa = float(decay(4.5, 0.0))
    shadow = np.log(0.9 + 0.1 * np.exp(2 * kappa * 0.2e-9)) / (2 * float(decay(4.5, 1.0)))
    np.testing.assert_allclose(rise[1:], [shadow, 0.2e-9], rtol=1e-6)


def test_tip_density_of_states() -> None:
    """It is one at the Fermi level, positive, reproducible, and visible in spectra."""
    energy = np.linspace(-3, 3, 601)
    for seed in range(20):
        tip = random_tip(np.random.default_rng(seed))
        assert tip == random_tip(np.random.default_rng(seed))
        assert tip.dos(energy).min() > 0.0
        assert tip.dos(np.zeros(1))[0] == pytest.approx(1.0)
    bias = np.linspace(-0.9, 0.9, 181)
    plain = Junction(Uniform()).conductance(ORIGIN, ORIGIN, bias)
    bumpy = Junction(Uniform(), Tip(background=((-0.5, 0.2, 0.3),)))
    ratio = bumpy.conductance(ORIGIN, ORIGIN, bias) / plain
    assert np.ptp(ratio) > 0.05


def test_bad_values_are_named() -> None:
    """Each error says what was wrong and what is allowed."""
    junction = Junction(Uniform())
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: junction.current(ORIGIN, ORIGIN, np.array([1.2])), "holds from -1 to 1 V"),
        (lambda: junction.current(ORIGIN, ORIGIN, np.array([np.nan])), "holds from"),
        (lambda: junction.lockin(ORIGIN, ORIGIN, ORIGIN, 0.2), "at most 0.1 V"),
        (lambda: junction.lockin(ORIGIN, ORIGIN, ORIGIN, 0.0), "above 0"),
        (lambda: junction.setpoint_gap(ORIGIN, ORIGIN, 0.0, 1e-12), "set a bias first"),
        (lambda: junction.setpoint_gap(ORIGIN, ORIGIN, 1.0, 0.0), "setpoint is 0.0 A"),
        (lambda: window_sum(junction, ORIGIN, ORIGIN, (0.5, 0.1), 1.0, 1e-12), "lower end first"),
        (lambda: Junction(Uniform(), temperature=-1.0), "give 0 to 400 K"),
        (lambda: Junction(Uniform(bias_limits=(0.1, 1.0))), "enclose 0 V"),
        (lambda: Tip(blur=-1.0), "tip blur"),
        (lambda: Tip(apexes=()), "at least one"),
        (lambda: Tip(background=((0.0, 0.01, 0.1),)), "at least 0.05 eV"),
        (lambda: Tip(background=((0.0, 0.2, -1.0),)), "more than -1"),
    ]
    for call, text in cases:
        with pytest.raises(ValueError, match=text):
            call()
