"""Tilt correction line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bluesky_gpsts.images import flatten_lines


def test_lines_lose_mean_and_slope() -> None:
    x = np.arange(40.0)
    image = np.array([2.0 + 0.5 * x, -7.0 - 0.1 * x, np.full(40, 3.0)])
    np.testing.assert_allclose(flatten_lines(image), 0, atol=1e-12)


def test_structure_stays() -> None:
    """A bump in the middle of each line keeps its height above its foot."""
    x = np.arange(101.0)
    bump = np.exp(-(((x - 50) / 3) ** 2))
    tilted = bump + 0.02 * x + np.arange(5.0)[:, None]
    flat = flatten_lines(tilted * 1e-9)
    for line in flat:
        assert line[50] - line[30] == pytest.approx(1e-9, rel=1e-6)
        assert line[30] == pytest.approx(line[70], abs=1e-22)


def test_same_as_least_squares_of_numpy() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(7, 33)) * 1e-10
    x = np.arange(33)
    expected = [line - np.polyval(np.polyfit(x, line, 1), x) for line in image]
    np.testing.assert_allclose(flatten_lines(image), expected, rtol=1e-9, atol=1e-22)


def test_unscanned_pixels_stay_unknown_and_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(6, 32)) + 0.3 * np.arange(32)
    image[0, 5:9] = np.nan
    image[1, 1:] = np.nan
    image[2] = np.nan
    flat = flatten_lines(image)
    np.testing.assert_array_equal(np.isnan(flat), np.isnan(image))
    known = np.isfinite(image[0])
    x = np.arange(32)[known]
    fit = np.polyval(np.polyfit(x, image[0, known], 1), x)
    np.testing.assert_allclose(flat[0, known], image[0, known] - fit, atol=1e-12)
    assert flat[1, 0] == 0.0
    np.testing.assert_allclose(flat[3:].mean(axis=1), 0, atol=1e-12)


@given(
    hnp.arrays(
        float,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-1e-6, 1e-6) | st.just(np.nan),
    )
)
def test_any_image(image: np.ndarray) -> None:
    before = image.copy()
    flat = flatten_lines(image)
    np.testing.assert_array_equal(image, before)
    assert flat.shape == image.shape
    np.testing.assert_array_equal(np.isnan(flat), np.isnan(image))
    known = np.isfinite(image)
    count = known.sum(axis=1)
    means = np.where(known, flat, 0.0).sum(axis=1) / np.maximum(count, 1)
    np.testing.assert_allclose(means, 0, atol=1e-20)
    # Done twice it is the same as done once.
    np.testing.assert_allclose(flatten_lines(flat), flat, atol=1e-20)
