"""Kernels, training, candidate cache and replay against gpCAM and against first principles."""

import numpy as np
import pytest
from gpcam import GPOptimizer
from scipy.special import gamma, kv

from bluesky_gpsts.surrogate import KERNELS, Grid, Prior, noise_variances, posterior_maps
from bluesky_gpsts.surrogate.candidates import CandidateCache
from bluesky_gpsts.surrogate.kernels import get_kernel, prior_mean, prior_mean_gradient
from bluesky_gpsts.surrogate.scaling import Scaling
from bluesky_gpsts.surrogate.training import log_marginal_likelihood, log_posterior, train

GRID = Grid(0.0, 0.0, 4e-9, 3e-9, 20.0, 13, 11)
HYPERPARAMETERS = np.array([1.3, 0.2, 0.35, 0.4])
NU = {"matern-1/2": 0.5, "matern-3/2": 1.5, "matern-5/2": 2.5}


def make_data(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 2)) - 0.5
    y = np.sin(7 * x[:, 0]) + x[:, 1] ** 2 + 0.1 * rng.normal(size=n)
    return x, y, rng.uniform(0.01, 0.05, n)


def make_gp(kernel, x, y, noise, hyperparameters):
    return GPOptimizer(
        x,
        y,
        init_hyperparameters=np.asarray(hyperparameters, dtype=float),
        noise_variances=noise,
        kernel_function=kernel.function,
        kernel_function_grad=kernel.gradient,
        prior_mean_function=prior_mean,
        prior_mean_function_grad=prior_mean_gradient,
    )


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_the_matern_formula(name):
    x1, x2 = make_data(6)[0], make_data(5, seed=1)[0]
    difference = (x1[:, None] - x2[None]) / HYPERPARAMETERS[1:3]
    r = np.sqrt((difference**2).sum(axis=-1))
    nu = NU[name]
    a = np.sqrt(2 * nu) * r
    expected = HYPERPARAMETERS[0] * 2 ** (1 - nu) / gamma(nu) * a**nu * kv(nu, a)
    np.testing.assert_allclose(get_kernel(name).function(x1, x2, HYPERPARAMETERS), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_gradient_agrees_with_differences(name):
    kernel = get_kernel(name)
    x = make_data(6)[0]
    analytic = kernel.gradient(x, x, HYPERPARAMETERS)
    for i in range(4):
        step = np.zeros(4)
        step[i] = 1e-6
        numeric = (
            kernel.function(x, x, HYPERPARAMETERS + step)
            - kernel.function(x, x, HYPERPARAMETERS - step)
        ) / 2e-6
        np.testing.assert_allclose(analytic[i], numeric, atol=1e-8)


def test_unknown_kernel_lists_the_known():
    with pytest.raises(ValueError, match="matern-1/2, matern-3/2, matern-5/2"):
        get_kernel("rbf")


@pytest.mark.parametrize("name", KERNELS)
def test_posterior_gradient_agrees_with_differences(name):
    kernel, point = get_kernel(name), np.log([0.8, 0.15, 0.3])
    args = (kernel, *make_data(20), Prior())
    _, analytic = log_posterior(point, *args)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        high, low = log_posterior(point + step, *args)[0], log_posterior(point - step, *args)[0]
        assert analytic[i] == pytest.approx((high - low) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_marginal_likelihood_is_that_of_gpcam(name):
    kernel, data = get_kernel(name), make_data(25)
    point = np.array([0.8, 0.15, 0.3])
    cache = CandidateCache(GRID.unit, kernel.function, point)
    cache.set_data(*data)
    gp = make_gp(kernel, *data, np.append(point, cache.prior_mean))
    ours = log_marginal_likelihood(np.log(point), kernel, *data)[0]
    assert ours == pytest.approx(gp.log_likelihood(), rel=1e-10)
    # The estimated mean is where gpCAM's likelihood is highest.
    for shift in (-1e-3, 1e-3):
        assert gp.log_likelihood(np.append(point, cache.prior_mean + shift)) < ours


def test_training_finds_the_top_of_the_posterior():
    kernel, data, prior = get_kernel("matern-5/2"), make_data(30), Prior()
    best = train(kernel, *data, prior)
    top, slope = log_posterior(np.log(best), kernel, *data, prior)
    assert np.abs(slope).max() < 0.02
    rng = np.random.default_rng(3)
    for start in np.log(best) + rng.normal(scale=1.5, size=(200, 3)):
        assert log_posterior(start, kernel, *data, prior)[0] < top
    np.testing.assert_array_equal(train(kernel, *data, prior), best)


def test_one_outcome_leaves_the_lengths_at_their_prior():
    found = train(
        get_kernel("matern-5/2"), np.zeros((1, 2)), np.zeros(1), np.full(1, 0.01), Prior()
    )
    np.testing.assert_allclose(found[1:], 20 / 128, rtol=1e-3)


@pytest.mark.parametrize("name", KERNELS)
def test_cache_equals_gpcam_while_it_grows(name):
    kernel = get_kernel(name)
    x, y, noise = make_data(140)
    cache = CandidateCache(GRID.unit, kernel.function, HYPERPARAMETERS)
    cache.set_data(x[:3], y[:3], noise[:3])
    for i in range(3, 140):
        cache.add(x[i], y[i], noise[i])
        if i in (3, 60, 139):
            n = i + 1
            gp = make_gp(kernel, x[:n], y[:n], noise[:n], [*HYPERPARAMETERS[:3], cache.prior_mean])
            mean = gp.posterior_mean(GRID.unit)["m(x)"]
            variance = gp.posterior_covariance(GRID.unit, variance_only=True)["v(x)"]
            np.testing.assert_allclose(cache.mean, mean, atol=1e-8)
            np.testing.assert_allclose(cache.variance, variance, atol=1e-8)
    rebuilt = CandidateCache(GRID.unit, kernel.function, HYPERPARAMETERS)
    rebuilt.set_data(x, y, noise)
    np.testing.assert_allclose(rebuilt.mean, cache.mean, atol=1e-10)
    np.testing.assert_allclose(rebuilt.variance, cache.variance, atol=1e-10)


def test_points_under_way_lower_the_variance_for_now():
    kernel = get_kernel("matern-5/2")
    x, y, noise = make_data(20)
    cache = CandidateCache(GRID.unit, kernel.function, HYPERPARAMETERS)
    cache.set_data(x[:17], y[:17], noise[:17])
    mean, variance = cache.mean, cache.variance
    after = cache.variance_after(x[17:], noise[17:])
    np.testing.assert_array_equal(cache.mean, mean)
    np.testing.assert_array_equal(cache.variance, variance)
    cache.add(x[17], y[17], noise[17])
    cache.add(x[18], y[18], noise[18])
    cache.add(x[19], y[19], noise[19])
    np.testing.assert_allclose(after, cache.variance, atol=1e-12)


def test_a_repeated_point_without_noise_is_refused():
    cache = CandidateCache(GRID.unit, get_kernel("matern-1/2").function, HYPERPARAMETERS)
    cache.add(np.zeros(2), 1.0, 0.0)
    with pytest.raises(np.linalg.LinAlgError, match="noise variance above zero"):
        cache.add(np.zeros(2), 1.0, 0.0)
    assert len(cache) == 1


@pytest.mark.parametrize("name", KERNELS)
def test_replay_equals_gpcam_in_physical_units(name):
    amplitude, offset = 2e-12, 5e-12
    x, y, noise = make_data(30)
    xy = GRID.to_sample(x * (GRID.width, GRID.height))
    gp = make_gp(get_kernel(name), x, y, noise, HYPERPARAMETERS)
    mean, std = posterior_maps(
        GRID,
        *xy.T,
        offset + amplitude * y,
        amplitude**2 * noise,
        [
            HYPERPARAMETERS[0] * amplitude**2,
            HYPERPARAMETERS[1] * GRID.width,
            HYPERPARAMETERS[2] * GRID.height,
            offset + amplitude * HYPERPARAMETERS[3],
        ],
        name,
    )
    assert mean.shape == std.shape == (11, 13)
    expected = gp.posterior_mean(GRID.unit)["m(x)"]
    variance = gp.posterior_covariance(GRID.unit, variance_only=True)["v(x)"]
    np.testing.assert_allclose((mean.ravel() - offset) / amplitude, expected, atol=1e-8)
    np.testing.assert_allclose((std.ravel() / amplitude) ** 2, variance, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [1.0, 2.0, 3.0]}, "3 values at 2 positions"),
        ({"values": [1.0, np.nan]}, r"check points \[1\]"),
        ({"variances": 0.0}, "variances above zero"),
        ({"hyperparameters": [1.0, 0.0, 1e-9, 0.0]}, "two lengths"),
        ({"kernel": "cubic"}, "No kernel 'cubic'"),
    ],
)
def test_replay_refuses_bad_input(change, message):
    good = {
        "x": [0.0, 1e-10],
        "y": [0.0, 0.0],
        "values": [1.0, 2.0],
        "variances": 0.01,
        "hyperparameters": [1.0, 1e-9, 1e-9, 0.0],
    }
    with pytest.raises(ValueError, match=message):
        posterior_maps(GRID, **(good | change))


@pytest.mark.parametrize("size", [1e-50, 1e-12, 1.0, 1e9])
def test_scaling_brings_any_size_to_one(size):
    values = size * np.array([1.0, 2.0, 4.0])
    scaling = Scaling.of(values, 0.03)
    standard = scaling.standardise(values)
    assert standard.mean() == pytest.approx(0.0, abs=1e-12)
    assert standard.std() == pytest.approx(1.0)


def test_equal_outcomes_are_scaled_by_their_size():
    assert Scaling.of(np.full(4, 2e-12), 0.03).scale == 2e-12
    assert Scaling.of(np.zeros(4), 0.03).scale == 1.0
    # The variances of such outcomes would be 0.
    assert Scaling.of(1e-200 * np.arange(1.0, 5.0), 0.03).scale == 1.0


def test_unknown_variances_get_the_default_and_none_is_zero():
    np.testing.assert_allclose(noise_variances([np.nan, 0.0, 5.0], 2.0), [2.0, 0.002, 5.0])
