"""The common grid and the checks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_gpsts.spectra.preprocess import CHANNELS, GRID, channels, find_problems
from bluesky_gpsts.spectra.simulate import simulate


def _smooth(points, reverse=False):
    bias = np.linspace(-1.0, 1.0, points)
    if reverse:
        bias = bias[::-1]
    return bias, 1e-10 * (1.0 + bias**2 + np.exp(-(((bias - 0.3) / 0.1) ** 2)))[None]


@pytest.mark.parametrize("points", [150, 512, 1200, 4096])
def test_number_of_points_and_direction_hardly_change_what_is_read(points):
    reference = channels(*_smooth(2000))
    for reverse in (False, True):
        found = channels(*_smooth(points, reverse))
        assert found.shape == (1, CHANNELS, GRID) and found.dtype == np.float32
        assert np.abs(found - reference)[:, :2, 4:-4].max() < 0.03


def test_gain_does_not_change_what_is_read_and_an_offset_only_the_level():
    bias, didv = _smooth(1200)
    plain, louder, raised = (channels(bias, y) for y in (didv, 7.0 * didv, didv + 3e-10))
    np.testing.assert_allclose(louder, plain, atol=2e-3)
    np.testing.assert_allclose(raised[:, 1:], plain[:, 1:], atol=2e-3)
    assert (raised[:, 0] > plain[:, 0] + 0.1).all()


def test_a_spike_of_one_point_is_taken_out():
    bias, didv = _smooth(1200)
    spiky = didv.copy()
    spiky[0, 500] += 5e-9
    assert np.abs(channels(bias, spiky) - channels(bias, didv)).max() < 0.02


def test_rows_do_not_depend_on_each_other():
    (session,) = simulate(1, {"V_S": 6}, sessions=1)
    together = channels(session.bias, session.didv)
    one = np.concatenate([channels(session.bias, row[None]) for row in session.didv])
    np.testing.assert_allclose(together, one, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.floats(-14.0, -4.0))
def test_any_numbers_give_finite_channels_or_a_problem(seed, points, exponent):
    rng = np.random.default_rng(seed)
    bias = np.cumsum(rng.uniform(1e-4, 0.02, points))
    didv = 10.0**exponent * rng.standard_cauchy((3, points))
    problems = find_problems(bias, didv)
    assert len(problems) == 3
    good = np.array([not text for text in problems])
    if good.any():
        assert np.isfinite(channels(bias, didv[good])).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one row of n values"):
        find_problems(np.arange(5.0), np.ones((2, 4)))
