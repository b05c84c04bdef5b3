"""Hyperparameters by maximum a posteriori (MAP): marginal likelihood times a log-normal prior.

With fewer than about twenty spectra the marginal likelihood alone does not determine a length
scale: its maximum is often at one that makes the map white noise or a constant. A prior that
knows the size of what is looked for, relative to the frame, removes those maxima.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .kernels import Kernel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """Log-normal prior on the hyperparameters, for standardised outcomes.

    Attributes
    ----------
    length : float
        Median of each length scale, as a fraction of the frame.
    length_factor : float
        One standard deviation of a length scale, as a factor.
    signal_variance : float
        Median of the signal variance, relative to the variance of the outcomes.
    signal_factor : float
        One standard deviation of the signal variance, as a factor.
    """

    length: float = 20 / 128
    length_factor: float = 1.8
    signal_variance: float = 1.0
    signal_factor: float = 3.0

    @property
    def median(self) -> FloatArray:
        """Medians of signal variance and of the two lengths: shape (3,)."""
        return np.array([self.signal_variance, self.length, self.length])

    @property
    def log_sd(self) -> FloatArray:
        """Standard deviations of the logarithms: shape (3,)."""
        return np.log([self.signal_factor, self.length_factor, self.length_factor])


# Wide enough never to bind where the prior has any weight; they keep a line search from overflow.
_LOG_BOUNDS = np.log([(1e-4, 1e4), (5e-3, 20.0), (5e-3, 20.0)])

# An optimum is kept to this step in the logarithm, so that rounding in BLAS, which differs from
# one machine to another, cannot reach the next suggestion through the hyperparameters.
_LOG_STEP = 1e-4


def log_marginal_likelihood(
    log_hyperparameters: FloatArray,
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
) -> tuple[float, FloatArray]:
    """Log marginal likelihood and its gradient.

    The constant mean is estimated by generalised least squares (GLS) on the way.

    Parameters
    ----------
    log_hyperparameters : ndarray, shape (3,)
        Logarithms of signal variance and of the two length scales.
    kernel : Kernel
        Covariance function.
    x : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    y : ndarray, shape (N,)
        Outcomes.
    noise : ndarray, shape (N,)
        Noise variance of each outcome, in its unit squared.

    Returns
    -------
    value : float
        The log marginal likelihood.
    gradient : ndarray, shape (3,)
        Its derivative by the logarithms. The mean is at its own optimum, so its change with the
        hyperparameters adds nothing to first order.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance is not positive definite.
    """
    hyperparameters = np.append(np.exp(log_hyperparameters), 0.0)
    covariance = kernel.function(x, x, hyperparameters)
    covariance[np.diag_indices_from(covariance)] += noise
    factor = np.linalg.cholesky(covariance)
    # Mean, weights and trace all need the inverse of the factor, so it pays to have it.
    whiten = np.linalg.inv(factor)
    white_y, white_one = whiten @ y, whiten.sum(axis=1)
    white_y -= white_one * (white_one @ white_y) / (white_one @ white_one)
    inverse = whiten.T @ whiten
    weights = whiten.T @ white_y
    constant = 0.5 * len(y) * np.log(2.0 * np.pi)
    value = -0.5 * (white_y @ white_y) - np.log(np.diag(factor)).sum() - constant
    inner = np.outer(weights, weights) - inverse
    derivative = kernel.gradient(x, x, hyperparameters)[:3]
    gradient = 0.5 * np.einsum("ij,kij->k", inner, derivative) * hyperparameters[:3]
    return float(value), gradient


def log_posterior(
    log_hyperparameters: FloatArray,
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    prior: Prior,
) -> tuple[float, FloatArray]:
    """Log marginal likelihood plus log prior (up to a constant), and the gradient.

    The parameters are those of `log_marginal_likelihood`, and ``prior``. The prior is a density
    in the logarithms.
    """
    value, gradient = log_marginal_likelihood(log_hyperparameters, kernel, x, y, noise)
    deviation = (log_hyperparameters - np.log(prior.median)) / prior.log_sd
    return value - 0.5 * float(deviation @ deviation), gradient - deviation / prior.log_sd


def train(
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    prior: Prior,
    starts: Sequence[FloatArray] = (),
) -> FloatArray:
    """Find the MAP hyperparameters with L-BFGS-B from a few fixed starts.

    Parameters
    ----------
    kernel : Kernel
        Covariance function.
    x : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    y : ndarray, shape (N,)
        Standardised outcomes.
    noise : ndarray, shape (N,)
        Noise variance of each standardised outcome.
    prior : Prior
        Prior on the hyperparameters.
    starts : sequence of ndarray, shape (3,)
        Further starting points, such as the last optimum, beside the median of the prior and
        half of its length.

    Returns
    -------
    ndarray, shape (3,)
        Signal variance and the two length scales.

    Raises
    ------
    ValueError
        If there is no data.
    """
    from scipy.optimize import minimize

    if len(x) == 0:
        raise ValueError("Training needs at least one outcome; ingest one first.")

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = log_posterior(point, kernel, x, y, noise, prior)
        return -value, -gradient

    first = prior.median
    best = np.log(first)
    lowest = np.inf
    for start in (first, first * (1.0, 0.5, 0.5), *starts):
        begin = np.clip(np.log(start), _LOG_BOUNDS[:, 0], _LOG_BOUNDS[:, 1])
        result = minimize(objective, begin, jac=True, method="L-BFGS-B", bounds=_LOG_BOUNDS)
        # A later start has to be better by more than rounding, or the choice would hang on it.
        if result.fun < lowest - 1e-6:
            best, lowest = result.x, float(result.fun)
    return np.exp(np.round(best / _LOG_STEP) * _LOG_STEP)
