"""Anisotropic Matérn kernels, written as gpCAM expects them.

Source: Thomas et al., npj Comput. Mater. 8, 99 (2022), equation 5, with one length scale per
direction of the frame. Positions are fractions of the frame, so all hyperparameters are of order
one. The hyperparameters are the vector

    [signal variance, length along u, length along v, prior mean]

of which a kernel uses the first three; the prior mean is there because gpCAM passes one vector to
kernel and mean function alike. The same function object goes into gpCAM and into the candidate
cache, so that the two cannot disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
KernelFunction = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
Profile = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

N_HYPERPARAMETERS = 4


def constant_variance(x: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Variance of a stationary kernel, the signal variance: shape (N,)."""
    return np.full(len(x), float(hyperparameters[0]))


@dataclass(frozen=True)
class Kernel:
    """A covariance function and its derivative.

    Attributes
    ----------
    name : str
        Name under which `get_kernel` finds it.
    function : callable
        ``function(x1, x2, hyperparameters)``: arrays of shape (N, 2) and (M, 2), fractions of the
        frame, to covariances of shape (N, M).
    gradient : callable
        Derivative of ``function`` by each hyperparameter: shape (4, N, M), or with further
        hyperparameters (P, N, M). The fourth is zero.
    variance : callable
        ``variance(x, hyperparameters)``: the covariance of each position with itself, shape (N,).
    """

    name: str
    function: KernelFunction
    gradient: KernelFunction
    variance: Callable[[FloatArray, FloatArray], FloatArray] = constant_variance


def matern_12(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Matérn kernel with nu = 1/2 (exponential): continuous, nowhere smooth; shape (N, M)."""
    r = _distance(x1, x2, hyperparameters)
    np.negative(r, out=r)
    np.exp(r, out=r)
    r *= hyperparameters[0]
    return r


def matern_32(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Matérn kernel with nu = 3/2: once differentiable; shape (N, M)."""
    a = _distance(x1, x2, hyperparameters)
    a *= np.sqrt(3.0)
    covariance = np.exp(-a)
    a += 1.0
    covariance *= a
    covariance *= hyperparameters[0]
    return covariance


def matern_52(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Matérn kernel with nu = 5/2: twice differentiable; shape (N, M)."""
    a = _distance(x1, x2, hyperparameters)
    a *= np.sqrt(5.0)
    covariance = np.negative(a)
    np.exp(covariance, out=covariance)
    polynomial = a / 3.0
    polynomial += 1.0
    polynomial *= a
    polynomial += 1.0
    covariance *= polynomial
    covariance *= hyperparameters[0]
    return covariance


def _profile_12(q: FloatArray) -> tuple[FloatArray, FloatArray]:
    r = np.sqrt(q)
    shape = np.exp(-r)
    # Along a direction the derivative tends to zero at r = 0, where the quotient has no value.
    return shape, np.divide(shape, r, out=np.zeros_like(r), where=r > 0)


def _profile_32(q: FloatArray) -> tuple[FloatArray, FloatArray]:
    a = np.sqrt(3.0 * q)
    decay = np.exp(-a)
    return (1.0 + a) * decay, 3.0 * decay


def _profile_52(q: FloatArray) -> tuple[FloatArray, FloatArray]:
    a = np.sqrt(5.0 * q)
    decay = np.exp(-a)
    return (1.0 + a * (1.0 + a / 3.0)) * decay, 5.0 / 3.0 * (1.0 + a) * decay


def _gradient(profile: Profile) -> KernelFunction:
    def gradient(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
        squares = _scaled_squares(x1, x2, hyperparameters)
        shape, slope = profile(squares[0] + squares[1])
        derivative = np.zeros((N_HYPERPARAMETERS, *shape.shape))
        derivative[0] = shape
        derivative[1] = hyperparameters[0] * slope * squares[0] / hyperparameters[1]
        derivative[2] = hyperparameters[0] * slope * squares[1] / hyperparameters[2]
        return derivative

    return gradient


PROFILES: dict[str, Profile] = {
    "matern-1/2": _profile_12,
    "matern-3/2": _profile_32,
    "matern-5/2": _profile_52,
}
"""Kernel of variance 1 as a function of the squared distance q in length scales.

Each returns the kernel k and -2 dk/dq, in the shape of q.
"""

KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("matern-1/2", matern_12, _gradient(_profile_12)),
        Kernel("matern-3/2", matern_32, _gradient(_profile_32)),
        Kernel("matern-5/2", matern_52, _gradient(_profile_52)),
    )
}


def get_kernel(name: str) -> Kernel:
    """Return a kernel by its name.

    Raises
    ------
    ValueError
        If there is no such kernel; the message lists those there are.
    """
    try:
        return KERNELS[name]
    except (KeyError, TypeError):
        raise ValueError(f"No kernel {name!r}; choose one of {', '.join(KERNELS)}.") from None


def prior_mean(x: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Return the constant prior mean as gpCAM's ``prior_mean_function``: shape (N,)."""
    return np.full(len(x), hyperparameters[3])


def prior_mean_gradient(x: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Return the derivative of `prior_mean` by each hyperparameter: shape (P, N)."""
    gradient = np.zeros((len(hyperparameters), len(x)))
    gradient[3] = 1.0
    return gradient


def _scaled_squares(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    """Squared distance along each direction in length scales: shape (2, N, M)."""
    scaled1 = x1 / hyperparameters[1:3]
    scaled2 = x2 / hyperparameters[1:3]
    difference = scaled1.T[:, :, None] - scaled2.T[:, None, :]
    difference *= difference
    return difference


def _distance(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
    squares = _scaled_squares(x1, x2, hyperparameters)
    squares[0] += squares[1]
    return np.sqrt(squares[0], out=squares[0])
