"""Tests of noise levels, drift sizes and creep."""

import numpy as np
import pytest

from bluesky_gpsts.physics import (
    REPORTED_DRIFT,
    Drift,
    HeightNoise,
    Preamplifier,
    creep,
    demodulate,
    random_drift,
)
from bluesky_gpsts.physics.constants import FloatArray


def test_preamplifier_noise() -> None:
    """sqrt(density^2 / 2t), plus shot noise when current flows."""
    amplifier = Preamplifier(noise_density=10e-15)
    rng = np.random.default_rng(0)
    measured, saturated = amplifier.measure(np.zeros(20000), 0.02, rng)
    assert measured.std() == pytest.approx(10e-15 / np.sqrt(2 * 0.02), rel=0.03)
    assert not saturated.any()
    assert float(amplifier.sigma(0.02, 1e-9)) == pytest.approx(
        np.sqrt((1e-28 + 2 * 1.602e-19 * 1e-9) / 0.04), rel=1e-3
    )
    with pytest.raises(ValueError, match="averaging time is 0 s"):
        amplifier.sigma(0)
    with pytest.raises(ValueError, match="gain"):
        Preamplifier(gain=0.0)


def test_preamplifier_range() -> None:
    """10 nA at 1e9 V/A; beyond it values are clipped and flagged."""
    amplifier = Preamplifier()
    assert amplifier.limit == pytest.approx(10e-9)
    current = np.array([-20e-9, -1e-9, 0.0, 9e-9, 11e-9])
    measured, saturated = amplifier.measure(current, 1e-3, np.random.default_rng(0))
    assert saturated.tolist() == [True, False, False, False, True]
    assert measured[[0, -1]].tolist() == [-amplifier.limit, amplifier.limit]


def test_demodulation() -> None:
    """Phase turns the signal, pick-up is in quadrature, noise is density / sqrt(t)."""
    rng = np.random.default_rng(1)
    x, y = demodulate(np.full(20000, 1e-12), 0.1, rng, 10e-15, phase=np.pi / 6, pickup=2e-12)
    assert x.mean() == pytest.approx(1e-12 * np.cos(np.pi / 6) - 1e-12, abs=1e-15)
    assert y.mean() == pytest.approx(0.5e-12 + 2e-12 * np.cos(np.pi / 6), abs=1e-15)
    for channel in (x, y):
        assert channel.std() == pytest.approx(10e-15 / np.sqrt(0.1), rel=0.03)


def test_height_noise() -> None:
    """A pure function of time and seed, of the stated sizes, with 1/f slope."""
    times: FloatArray = np.arange(100000, dtype=np.float64) * 5e-3
    white = HeightNoise(3, white=1e-12, flicker=0.0).series(times)
    assert white.std() == pytest.approx(1e-12, rel=0.01)
    assert abs(np.corrcoef(white[1:], white[:-1])[0, 1]) < 0.01
    both = HeightNoise(3)
    some = np.array([17, 4, 4000])
    np.testing.assert_array_equal(both.series(times[some]), both.series(times)[some])
    assert not np.allclose(both.series(times), HeightNoise(4).series(times), rtol=1e-3, atol=0)

    sizes, low, high = [], 0.0, 0.0
    for seed in range(20):
        pink = HeightNoise(seed, white=0.0, flicker=1e-12).series(times)
        sizes.append(np.mean(pink**2))
        power = np.abs(np.fft.rfft(pink * np.hanning(times.size))) ** 2
        frequency = np.fft.rfftfreq(times.size, 5e-3)
        low += power[(frequency > 0.05) & (frequency < 0.5)].sum()
        high += power[(frequency > 2.0) & (frequency < 20.0)].sum()
    assert np.sqrt(np.mean(sizes)) == pytest.approx(1e-12, rel=0.15)
    # 1/f has the same power in every decade.
    assert low / high == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("name", sorted(REPORTED_DRIFT))
def test_drift_has_the_reported_size(name: str) -> None:
    """After 30 minutes, over many seeds: 0.5 +- 0.2 angstrom (WS2), 1.1 +- 0.8 (Au)."""
    mean, std = REPORTED_DRIFT[name]
    ends = np.array([random_drift(seed, mean, std).offset(1800.0)[0] for seed in range(600)])
    sizes = np.hypot(ends[:, 0], ends[:, 1])
    assert sizes.mean() == pytest.approx(mean, rel=0.08)
    assert sizes.std() == pytest.approx(std, rel=0.12)
    assert np.abs(np.hypot(*ends[:, :2].mean(axis=0))) < 0.15 * mean
    assert 0.2 * mean < ends[:, 2].std() < 0.6 * mean


def test_drift_path() -> None:
    """It starts at zero, is smooth, turns, stays bounded, and depends on the seed alone."""
    times = np.linspace(0.0, 1800.0, 601)
    turns, longest = [], []
    for seed in range(100):
        drift = random_drift(seed, 0.5e-10, 0.2e-10)
        path = drift.offset(times)
        assert path.shape == (601, 3)
        np.testing.assert_array_equal(path[0], 0.0)
        np.testing.assert_array_equal(path[[7, 300]], drift.offset(times[[7, 300]]))
        speed = np.diff(path[:, :2], axis=0)
        assert np.hypot(*speed.T).max() < 5e-12
        heading = np.unwrap(np.arctan2(speed[:, 1], speed[:, 0]))
        turns.append(np.ptp(heading))
        longest.append(np.hypot(path[:, 0], path[:, 1]).max() / 0.5e-10)
    assert np.median(turns) > np.deg2rad(45)
    assert np.median(longest) < 2.0
    assert random_drift(1, 1e-10, 1e-10) == random_drift(1, 1e-10, 1e-10)
    assert random_drift(1, 1e-10, 1e-10) != random_drift(2, 1e-10, 1e-10)
    with pytest.raises(ValueError, match="must be above 0"):
        random_drift(0, 0.0, 1e-10)


def test_drift_terms() -> None:
    """Linear and relaxing parts add up."""
    drift = Drift((1e-13, 0.0, -2e-13), relaxation=(((0.0, 1e-10, 0.0), 100.0),))
    expected = [1e-11, 1e-10 * (1 - np.exp(-1)), -2e-11]
    np.testing.assert_allclose(drift.offset(100.0)[0], expected, rtol=1e-12)


def test_creep() -> None:
    """One percent of the move per decade of time, none before the move."""
    decades = creep(np.array([-5.0, 0.0, 10.0, 100.0, 1000.0]), 1e-9, strength=0.01)
    assert decades[0] == decades[1] == 0.0
    np.testing.assert_allclose(np.diff(decades[2:]), 1e-11, rtol=0.01)
    vector = creep(1.0, np.array([1e-9, -2e-9, 0.0]))
    assert vector[1] == pytest.approx(-2 * vector[0]) and vector[2] == 0.0
