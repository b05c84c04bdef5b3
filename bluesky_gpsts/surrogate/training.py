"""Hyperparameters by maximum a posteriori (MAP): marginal likelihood times a log-normal prior.

With fewer than about twenty spectra the marginal likelihood alone does not determine a length
scale: its maximum is often at one that makes the map white noise or a constant. A prior that
knows the size of what is looked for, relative to the frame, removes those maxima.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import require_between
from .grid import Grid
from .kernels import Kernel
from .parts import Part

FloatArray = npt.NDArray[np.float64]


# Wide enough never to bind where the prior has any weight; they keep a line search from overflow.
_SIGNALS = (1e-4, 1e4)
_LENGTHS = (5e-3, 20.0)


@dataclass(frozen=True)
class Prior:
    """Log-normal prior on the hyperparameters, for standardised outcomes.

    Attributes
    ----------
    length : float
        Median of each length scale, as a fraction of the frame (no unit), 0.005 to 20.
    length_factor : float
        One standard deviation of a length scale, as a factor (no unit): two thirds of the prior
        lie between the median divided by it and times it. Above 1, below 100.
    signal_variance : float
        Median of the signal variance, relative to the variance of the outcomes (no unit), 0.0001
        to 10000.
    signal_factor : float
        One standard deviation of the signal variance, as a factor (no unit), as above.

    Raises
    ------
    ValueError
        If one is out of range.
    """

    length: float = 20 / 128
    length_factor: float = 1.8
    signal_variance: float = 1.0
    signal_factor: float = 3.0

    def __post_init__(self) -> None:
        require_between("length of the prior", self.length, *_LENGTHS, "of the frame")
        require_between("length_factor of the prior", self.length_factor, 1.0, 100.0)
        require_between("signal_variance of the prior", self.signal_variance, *_SIGNALS)
        require_between("signal_factor of the prior", self.signal_factor, 1.0, 100.0)

    @classmethod
    def learned(
        cls, grids: Sequence[Grid], hyperparameters: Sequence[npt.ArrayLike], frame: Grid
    ) -> "Prior":
        """Start warm: the prior from earlier runs on the same class of defect.

        Parameters
        ----------
        grids : sequence of Grid
            Frame of each earlier run.
        hyperparameters : sequence of array_like, each of shape (4,)
            Last hyperparameters of each, as its decisions record them (lengths in metres).
        frame : Grid
            Frame of the new run.

        Returns
        -------
        Prior
            Its length is the geometric mean of those found, as a fraction of the new frame; its
            width is their spread, no less than a factor 1.25, joined to that of the default as
            if that were one more run.

        Raises
        ------
        ValueError
            If there is none, or a length is not above zero.
        """
        table = np.array([np.asarray(vector, dtype=float) for vector in hyperparameters])
        if len(table) == 0 or len(table) != len(grids) or table.shape[1:] != (4,):
            raise ValueError(
                f"There are {len(table)} vectors of hyperparameters, shape {table.shape}, and "
                f"{len(grids)} frames; give one (4,) vector for each frame, and at least one."
            )
        if not (np.isfinite(table).all() and (table[:, 1:3] > 0).all()):
            raise ValueError("A length of an earlier run is not finite and above zero.")
        default = cls()
        lengths = np.log(table[:, 1:3].ravel() / np.sqrt(frame.width * frame.height))
        weight = len(table) / (len(table) + 1.0)
        middle = weight * lengths.mean() + (1 - weight) * np.log(default.length)
        spread = max(float(np.var(lengths)), np.log(1.25) ** 2)
        joined = weight * spread + (1 - weight) * np.log(default.length_factor) ** 2
        length = float(np.clip(np.exp(middle), 1.01 * _LENGTHS[0], 0.99 * _LENGTHS[1]))
        return cls(length=length, length_factor=float(np.exp(np.sqrt(joined))))

    @property
    def median(self) -> FloatArray:
        """Medians of signal variance and of the two lengths: shape (3,)."""
        return np.array([self.signal_variance, self.length, self.length])

    @property
    def log_sd(self) -> FloatArray:
        """Standard deviations of the logarithms: shape (3,)."""
        return np.log([self.signal_factor, self.length_factor, self.length_factor])


_LOG_BOUNDS = np.log([_SIGNALS, _LENGTHS, _LENGTHS])
_SDS = 6.0

# An optimum is kept to this step, so that rounding in BLAS, which differs from one machine to
# another, cannot reach the next suggestion through the hyperparameters.
_STEP = 1e-4

_MANY = 200

# Median of the variance of what a structure leaves over, relative to that of the outcomes.
_RESIDUAL = 0.1


@dataclass(frozen=True, eq=False)
class Space:
    """Hyperparameters as training moves them, and the prior on them.

    They are those of a kernel without the prior mean, logarithms where ``logarithmic``.

    Attributes
    ----------
    middle : ndarray, shape (P,)
        Middle of the Gaussian prior.
    sd : ndarray, shape (P,)
        Its standard deviations.
    logarithmic : ndarray of bool, shape (P,)
        Which of them are logarithms.
    bounds : ndarray, shape (P, 2)
        Lowest and highest.
    starts : tuple of ndarray, each of shape (P,)
        Where training starts.
    """

    middle: FloatArray
    sd: FloatArray
    logarithmic: npt.NDArray[np.bool_]
    bounds: FloatArray
    starts: tuple[FloatArray, ...]

    def to_point(self, hyperparameters: FloatArray) -> FloatArray:
        """Take logarithms where they are due: shape (P,)."""
        point = np.array(hyperparameters, dtype=float)
        point[self.logarithmic] = np.log(point[self.logarithmic])
        return point

    def from_point(self, point: FloatArray) -> FloatArray:
        """Undo `to_point`."""
        hyperparameters = np.array(point, dtype=float)
        hyperparameters[self.logarithmic] = np.exp(hyperparameters[self.logarithmic])
        return hyperparameters


def blind_space(prior: Prior) -> Space:
    """Space of signal variance and two lengths."""
    middle = np.log(prior.median)
    half = middle + np.log([1.0, 0.5, 0.5])
    return Space(middle, prior.log_sd, np.ones(3, dtype=bool), _LOG_BOUNDS, (middle, half))


def structured_space(prior: Prior, part: Part) -> Space:
    """Space of a free residual and of the part that a structure adds."""
    residual = np.log(prior.median * (_RESIDUAL, 1.0, 1.0))
    part_middle = np.where(part.logarithmic, np.log(np.abs(part.middle) + 1e-300), part.middle)
    middle = np.concatenate([residual, part_middle])
    sd = np.concatenate([prior.log_sd, part.sd])
    logarithmic = np.concatenate([np.ones(3, dtype=bool), part.logarithmic])
    part_bounds = np.column_stack([part_middle - _SDS * part.sd, part_middle + _SDS * part.sd])
    others = [
        np.concatenate([residual, np.where(part.logarithmic, np.log(np.abs(s) + 1e-300), s)])
        for s in part.starts
    ]
    short = middle.copy()
    for place, name in enumerate(part.names):
        if name.startswith("length"):
            short[3 + place] += np.log(0.5)
    bounds = np.concatenate([_LOG_BOUNDS, part_bounds])
    return Space(middle, sd, logarithmic, bounds, (middle, short, *others))


def full_vector(hyperparameters: FloatArray, mean: float = 0.0) -> FloatArray:
    """Put the prior mean where kernels and gpCAM expect it, in the fourth place."""
    return np.concatenate([hyperparameters[:3], [mean], hyperparameters[3:]])


def log_marginal_likelihood(
    point: FloatArray,
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    space: Space | None = None,
) -> tuple[float, FloatArray]:
    """Log marginal likelihood and its gradient.

    The constant mean is estimated by generalised least squares (GLS) on the way.

    Parameters
    ----------
    point : ndarray, shape (P,)
        Logarithms of signal variance and of the two length scales, or a point of ``space``.
    kernel : Kernel
        Covariance function.
    x : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    y : ndarray, shape (N,) or (N, K)
        Outcomes; K outputs that share the covariance count with the average of their logarithms.
    noise : ndarray, shape (N,)
        Noise variance of each outcome, in its unit squared.
    space : Space, optional
        That of signal variance and two lengths unless given.

    Returns
    -------
    value : float
        The log marginal likelihood.
    gradient : ndarray, shape (P,)
        Its derivative by the point. The mean is at its own optimum, so its change with the
        hyperparameters adds nothing to first order.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance is not positive definite.
    """
    logarithmic = np.ones(len(point), dtype=bool) if space is None else space.logarithmic
    natural = np.where(logarithmic, np.exp(np.where(logarithmic, point, 0.0)), point)
    hyperparameters = full_vector(natural)
    covariance = kernel.function(x, x, hyperparameters)
    covariance[np.diag_indices_from(covariance)] += noise
    factor = np.linalg.cholesky(covariance)
    # Mean, weights and trace all need the inverse of the factor, so it pays to have it.
    whiten = np.linalg.inv(factor)
    outputs = y.reshape(len(y), -1)
    white_y, white_one = whiten @ outputs, whiten.sum(axis=1)
    white_y -= np.outer(white_one, (white_one @ white_y) / (white_one @ white_one))
    inverse = whiten.T @ whiten
    weights = whiten.T @ white_y
    count = outputs.shape[1]
    constant = 0.5 * len(y) * np.log(2.0 * np.pi)
    value = -0.5 * np.sum(white_y * white_y) / count - np.log(np.diag(factor)).sum() - constant
    inner = weights @ weights.T / count - inverse
    derivative = np.delete(kernel.gradient(x, x, hyperparameters), 3, axis=0)
    gradient = 0.5 * (derivative.reshape(len(point), -1) @ inner.ravel())
    return float(value), gradient * np.where(logarithmic, natural, 1.0)


def log_posterior(
    point: FloatArray,
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    prior: Prior | Space,
) -> tuple[float, FloatArray]:
    """Log marginal likelihood plus log prior (up to a constant), and the gradient.

    The parameters are those of `log_marginal_likelihood`, and ``prior``. The prior is a density
    in the point, and 1 where it is highest.
    """
    space = blind_space(prior) if isinstance(prior, Prior) else prior
    value, gradient = log_marginal_likelihood(point, kernel, x, y, noise, space)
    deviation = (point - space.middle) / space.sd
    return value - 0.5 * float(deviation @ deviation), gradient - deviation / space.sd


def train(
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    prior: Prior | Space,
    starts: Sequence[FloatArray] = (),
) -> FloatArray:
    """Find the MAP hyperparameters; see `maximise`, of which this is the first result."""
    return maximise(kernel, x, y, noise, prior, starts)[0]


def maximise(
    kernel: Kernel,
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    prior: Prior | Space,
    starts: Sequence[FloatArray] = (),
) -> tuple[FloatArray, float]:
    """Find the MAP hyperparameters with L-BFGS-B from a few fixed starts.

    Parameters
    ----------
    kernel : Kernel
        Covariance function.
    x : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    y : ndarray, shape (N,) or (N, K)
        Standardised outcomes.
    noise : ndarray, shape (N,)
        Noise variance of each standardised outcome.
    prior : Prior or Space
        Prior on the hyperparameters.
    starts : sequence of ndarray, shape (P,)
        Further starting points, such as the last optimum, beside those of the prior.

    Returns
    -------
    hyperparameters : ndarray, shape (P,)
        Signal variance, the two length scales and what a structure adds.
    value : float
        Log posterior there.

    Raises
    ------
    ValueError
        If there is no data.
    """
    from scipy.optimize import minimize

    if len(x) == 0:
        raise ValueError("Training needs at least one outcome; ingest one first.")
    space = blind_space(prior) if isinstance(prior, Prior) else prior

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = log_posterior(point, kernel, x, y, noise, space)
        return -value, -gradient

    best = space.middle
    lowest = np.inf
    # In units of the prior's width all directions have a similar scale.
    scale = space.sd

    def scaled(position: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = objective(position * scale)
        return value, gradient * scale

    bounds = space.bounds / scale[:, None]
    known = tuple(space.to_point(start) for start in starts)
    # With many outcomes the posterior has one top that matters, near the last.
    begins = known if known and len(x) > _MANY else (*space.starts, *known)
    for start in begins:
        begin = np.clip(start, space.bounds[:, 0], space.bounds[:, 1]) / scale
        result = minimize(scaled, begin, jac=True, method="L-BFGS-B", bounds=bounds)
        # A later start has to be better by more than rounding, or the choice would hang on it.
        if result.fun < lowest - 1e-6:
            best, lowest = result.x * scale, float(result.fun)
    step = np.where(space.logarithmic, _STEP, _STEP * space.sd)
    return space.from_point(np.round(best / step) * step), -lowest
