"""The surface state by fit, the noise of the current, and repeated spectra."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bluesky_gpsts.spectra.reference import compare_spectra
from bluesky_gpsts.spectra.surfacestate import current_noise, fit_surface_state

BIAS = np.linspace(1.0, -1.0, 256)


def curve(onset: float = -0.48, width: float = 0.02, height: float = 1.0) -> NDArray[np.float64]:
    step = 0.5 + np.arctan(2.0 * (BIAS - onset) / width) / np.pi
    return np.asarray(1.0 + 0.1 * BIAS + 0.2 * BIAS**2 + height * step)


def test_the_fit_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(2)
    for onset, height in ((-0.50, 1.0), (-0.46, 0.7), (-0.48, 1.8)):
        state = fit_surface_state(BIAS, 3e-11 * curve(onset, 0.03, height))
        below = 1.0 + 0.1 * onset + 0.2 * onset**2
        assert state.onset == pytest.approx(onset, abs=1e-4)
        assert state.width == pytest.approx(0.03, rel=0.01)
        assert state.height == pytest.approx(height / below, rel=0.01)
        assert state.roughness < 0.01 and state.noise < 0.01
    ratios, noises = [], []
    for _ in range(60):
        noisy = curve() + 0.15 * rng.standard_normal(BIAS.size)
        state = fit_surface_state(BIAS[::-1], noisy[::-1])
        ratios.append((state.onset + 0.48) / state.onset_error)
        noises.append(state.noise)
    assert np.mean(noises) == pytest.approx(0.15, rel=0.1)
    assert 0.6 < np.std(ratios) < 1.6, "the uncertainty is the scatter"


def test_no_step_and_a_bump() -> None:
    rng = np.random.default_rng(4)
    noise = 0.02 * rng.standard_normal(BIAS.size)
    none = fit_surface_state(BIAS, curve(height=0.0) + noise)
    assert none.height < 0.15
    bump = 0.8 * np.exp(-0.5 * ((BIAS - 0.2) / 0.08) ** 2)
    assert fit_surface_state(BIAS, curve() + bump + noise).roughness > 0.17
    assert fit_surface_state(BIAS, curve() + noise).roughness < 0.05


def test_noise_of_the_current() -> None:
    rng = np.random.default_rng(5)
    current = 30e-12 * BIAS * (1.0 + 0.3 * BIAS**2)
    for share in (0.01, 0.1):
        noisy = current * np.exp(share * rng.standard_normal(BIAS.size))
        assert current_noise(BIAS, noisy) == pytest.approx(share, rel=0.15)
    assert current_noise(BIAS, np.where(BIAS < -0.4, 1e-13, current)) == float("inf")


def test_repeated_spectra() -> None:
    rng = np.random.default_rng(6)

    def measured(values: NDArray[np.float64]) -> NDArray[np.float64]:
        gain = rng.normal(1.0, 0.05)
        return np.asarray(gain * values + 0.1 * rng.standard_normal(BIAS.size))

    same = [
        compare_spectra([measured(curve()) for _ in range(count)], measured(curve()), 0.01).changed
        for count in (1, 3)
        for _ in range(200)
    ]
    assert np.mean(same) < 0.04
    other = curve() + 0.4 * np.exp(-0.5 * ((BIAS - 0.2) / 0.1) ** 2)
    found = [compare_spectra(measured(curve()), measured(other)).changed for _ in range(50)]
    assert np.mean(found) > 0.95
    larger = compare_spectra(curve(), 1.4 * curve())
    assert not larger.changed and larger.gain == pytest.approx(1.4)


@pytest.mark.parametrize("factor", [0.0, 8.0])
def test_more_than_another_gap_does(factor: float) -> None:
    """A spectrum with far more structure, or with none, is not the same one times a number."""
    rng = np.random.default_rng(7)

    def measured(height: float) -> NDArray[np.float64]:
        return np.asarray(curve(height=height) + 0.03 * rng.standard_normal(BIAS.size))

    for _ in range(20):
        found = compare_spectra(measured(1.0), measured(factor))
        assert found.changed and found.ratio > 2.5


@pytest.mark.parametrize(
    ("bias", "didv", "message"),
    [
        (BIAS[:20], curve()[:20], "40 points or more"),
        (BIAS, curve()[:-1], "two arrays of one length"),
        (BIAS, np.full(256, np.nan), "NaN"),
        (np.linspace(1.0, -0.5, 256), curve(), "it must enclose"),
    ],
)
def test_unfit_spectra(bias: NDArray[np.float64], didv: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_surface_state(bias, didv)


def test_unfit_repetitions() -> None:
    with pytest.raises(ValueError, match="one bias axis"):
        compare_spectra(curve(), curve()[:-1])
    with pytest.raises(ValueError, match="false_alarm is 0"):
        compare_spectra(curve(), curve(), 0)
    with pytest.raises(ValueError, match="NaN"):
        compare_spectra(np.full(256, np.nan), curve())
    with pytest.raises(ValueError, match="give two alike"):
        current_noise(BIAS, curve()[:-1])
    with pytest.raises(ValueError, match="points tell of the noise"):
        current_noise(BIAS[:20], curve()[:20] * 0 + 1)
