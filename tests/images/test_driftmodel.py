"""The drift between checks, with its uncertainty."""

import numpy as np
import pytest

from bluesky_gpsts.images import DriftModel
from bluesky_gpsts.physics.drift import creep, random_drift

STEP = 1200.0


def test_a_steady_drift_is_predicted() -> None:
    velocity = np.array([2e-13, -1e-13])
    model = DriftModel(start=100.0)
    for t in (700.0, 1300.0, 1900.0, 2500.0):
        model = model.add(t, velocity * (t - 100.0), 1e-12)
    offset, covariance = model.predict(3100.0)
    np.testing.assert_allclose(offset, velocity * 3000.0, atol=4.0 * np.sqrt(covariance[0, 0]))
    assert np.sqrt(covariance[0, 0]) < 5e-11
    speed, spread = model.velocity(2500.0)
    np.testing.assert_allclose(speed, velocity, atol=4.0 * np.sqrt(spread[0, 0]))


def test_the_velocity_is_the_slope_of_the_prediction() -> None:
    model = DriftModel().moved(500.0, 1e-7)
    for t, x in ((300.0, 1e-11), (900.0, 5e-11), (1500.0, 4e-11)):
        model = model.add(t, (x, -x), 1e-12)
    for t in (200.0, 900.5, 1200.0, 2000.0):
        slope = (model.predict(t + 0.5)[0] - model.predict(t - 0.5)[0]) / 1.0
        np.testing.assert_allclose(model.velocity(t)[0], slope, rtol=1e-3, atol=1e-18)


@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
def test_the_uncertainty_is_right_whatever_the_size_of_the_drift(size: float) -> None:
    """Errors of predictions one step ahead, in units of what the model expects."""
    ratios = []
    for seed in range(12):
        drift = random_drift(seed, size * 1.1e-10, size * 0.8e-10)
        rng = np.random.default_rng(seed)
        model = DriftModel()
        for k in range(1, 12):
            t = k * STEP / 4.0
            truth = drift.offset(t)[0, :2]
            if k > 4:
                offset, covariance = model.predict(t)
                ratios.extend((truth - offset) / np.sqrt(np.diag(covariance)))
            model = model.add(t, truth + 2e-12 * rng.normal(size=2), 2e-12)
    ratios = np.array(ratios)
    assert 0.2 < np.sqrt(np.mean(ratios**2)) < 2.0
    assert np.mean(np.abs(ratios) < 2.0) > 0.85


def test_predictions_beat_the_last_offset() -> None:
    mine, last = [], []
    for seed in range(12):
        drift = random_drift(seed, 1.1e-9, 0.8e-9)
        model = DriftModel()
        for k in range(1, 10):
            t = k * 60.0
            truth = drift.offset(t)[0, :2]
            if k > 3:
                mine.append(np.hypot(*(model.predict(t)[0] - truth)))
                last.append(np.hypot(*(drift.offset(t - 60.0)[0, :2] - truth)))
            model = model.add(t, truth, 2e-12)
    assert np.median(mine) < 0.6 * np.median(last)


def test_creep_after_a_move_is_learnt() -> None:
    jump = 5e-8
    truth = [(t, float(creep(t - 100.0, jump))) for t in (110.0, 130.0, 200.0, 400.0, 900.0)]
    with_move, without = DriftModel().moved(100.0, jump), DriftModel()
    for t, x in truth[:4]:
        with_move = with_move.add(t, (x, 0.0), 2e-12)
        without = without.add(t, (x, 0.0), 2e-12)
    t, x = truth[4]
    assert abs(with_move.predict(t)[0][0] - x) < 0.05 * x
    assert abs(without.predict(t)[0][0] - x) > abs(with_move.predict(t)[0][0] - x)
    # Just after a move nothing is certain; before it everything was.
    calm = DriftModel().add(50.0, (0.0, 0.0), 1e-12)
    assert calm.moved(100.0, jump).uncertain(110.0, 1e-10)
    assert not calm.uncertain(110.0, 1e-10)


def test_uncertainty_grows_until_the_next_check() -> None:
    model = DriftModel().add(600.0, (1e-11, 0.0), 1e-12)
    spreads = [model.predict(t)[1][0, 0] for t in (600.0, 900.0, 1800.0, 7200.0)]
    assert spreads == sorted(spreads)
    limit = np.sqrt(spreads[2])
    assert not model.uncertain(1700.0, limit)
    assert model.uncertain(1900.0, limit)
    assert not model.add(1800.0, (3e-11, 0.0), 1e-12).uncertain(1900.0, limit)
    np.testing.assert_array_equal(DriftModel().predict(0.0)[0], [0.0, 0.0])


def test_a_jump_surprises() -> None:
    model = DriftModel()
    for k in range(1, 6):
        model = model.add(600.0 * k, (2e-11 * k, -1e-11 * k), 2e-12)
    assert model.surprise(3600.0, (1.2e-10, -6e-11), 2e-12) < 2.0
    assert model.surprise(3600.0, (6e-10, -6e-11), 2e-12) > 5.0


def test_a_model_is_a_value() -> None:
    model = DriftModel()
    model.add(1.0, (1e-12, 0.0), 1e-12)
    model.moved(1.0, 1e-9)
    assert model.times == ()
    assert model.moves == ()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: DriftModel(scale=0.0), "scale is 0"),
        (lambda: DriftModel().add(1.0, (np.nan, 0.0), 1e-12), "finite x and y"),
        (lambda: DriftModel().add(1.0, (0.0, 0.0), 0.0), "above 0"),
        (lambda: DriftModel(start=5.0).add(1.0, (0.0, 0.0), 1e-12), "one clock"),
        (lambda: DriftModel().predict(np.inf), "finite"),
        (lambda: DriftModel().uncertain(1.0, 0.0), "limit is 0"),
        (lambda: DriftModel().moved(np.nan, 1.0), "not finite"),
    ],
)
def test_wrong_arguments(act, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
