"""Covariance of what the survey image knows: one part of a sum, beside a free residual.

A part is a covariance function with its own hyperparameters: the first is its signal variance.
Positions are given in fractions of the frame; lengths are fractions of the frame's width, equal in
both directions, because a rotation must not stretch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .kernels import N_HYPERPARAMETERS, FloatArray, Kernel, Profile

PartFunction = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Part:
    """A covariance function, its derivative and the prior on its hyperparameters.

    Attributes
    ----------
    names : tuple of str, length P
        Names of the hyperparameters; the first is ``"signal_variance"``.
    middle : ndarray, shape (P,)
        Medians of their priors.
    sd : ndarray, shape (P,)
        Standard deviations: of the logarithm where ``logarithmic``, else of the number itself.
    logarithmic : ndarray of bool, shape (P,)
        Hyperparameters that are above zero and trained by their logarithm.
    function : callable
        ``function(x1, x2, hyperparameters)`` to covariances of shape (N, M).
    gradient : callable
        Its derivative by each hyperparameter: shape (P, N, M).
    variance : callable
        ``variance(x, hyperparameters)`` to the covariance with itself, shape (N,).
    starts : tuple of ndarray, each of shape (P,)
        Where training starts beside the medians.
    """

    names: tuple[str, ...]
    middle: FloatArray
    sd: FloatArray
    logarithmic: npt.NDArray[np.bool_]
    function: PartFunction
    gradient: PartFunction
    variance: Callable[[FloatArray, FloatArray], FloatArray]
    starts: tuple[FloatArray, ...] = ()


def add_part(residual: Kernel, part: Part) -> Kernel:
    """Sum of a free residual and a part.

    Hyperparameters: those of the residual, the fourth being the prior mean, then the part's.
    """
    first = N_HYPERPARAMETERS

    def function(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
        total = residual.function(x1, x2, hyperparameters[:first])
        total += part.function(x1, x2, hyperparameters[first:])
        return total

    def gradient(x1: FloatArray, x2: FloatArray, hyperparameters: FloatArray) -> FloatArray:
        return np.concatenate(
            [
                residual.gradient(x1, x2, hyperparameters[:first]),
                part.gradient(x1, x2, hyperparameters[first:]),
            ]
        )

    def variance(x: FloatArray, hyperparameters: FloatArray) -> FloatArray:
        return residual.variance(x, hyperparameters[:first]) + part.variance(
            x, hyperparameters[first:]
        )

    return Kernel(f"{residual.name} + structure", function, gradient, variance)


def rotations(order: int) -> FloatArray:
    """Matrices of the rotations of a point group Cn: shape (order, 2, 2)."""
    angle = 2.0 * np.pi * np.arange(order) / order
    cos, sin = np.cos(angle), np.sin(angle)
    return np.moveaxis(np.array([[cos, -sin], [sin, cos]]), -1, 0)


def symmetric_part(
    grid: Grid,
    profile: Profile,
    order: int,
    mirror: bool,
    center: FloatArray,
    center_sd: float,
    length: tuple[float, float],
) -> Part:
    """Sum of an isotropic kernel over the operations of a point group.

    Its draws are symmetric about the centre. Hyperparameters: signal variance, length, shift of
    the centre along the frame's axes and, with mirrors, the angle (rad) of one.

    Parameters
    ----------
    grid : Grid
        The frame.
    profile : callable
        See `bluesky_gpsts.surrogate.kernels.PROFILES`.
    order : int
        Of the rotation axis; 1 for none.
    mirror : bool
        Whether there are mirror lines through the centre.
    center : ndarray, shape (2,)
        Given centre, fractions of the frame.
    center_sd : float
        Its standard deviation, fraction of the frame's width.
    length : tuple of float
        Median and factor of the length.
    """
    aspect = np.array([1.0, grid.height / grid.width])
    turns = rotations(order)

    def operations(t: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not mirror:
            return turns, np.zeros_like(turns)
        cos, sin = np.cos(2.0 * t[4]), np.sin(2.0 * t[4])
        flip = np.array([[cos, sin], [sin, -cos]])
        change = 2.0 * np.array([[-sin, cos], [cos, sin]])
        return (
            np.concatenate([turns, turns @ flip]),
            np.concatenate([np.zeros_like(turns), turns @ change]),
        )

    def relative(x: FloatArray, t: FloatArray) -> FloatArray:
        return (x - center) * aspect - t[2:4]

    def function(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        one, two = relative(x1, t), relative(x2, t)
        total = np.zeros((len(x1), len(x2)))
        for operation in operations(t)[0]:
            total += profile(_squares(one, two @ operation.T) / t[1] ** 2)[0]
        total *= t[0]
        return total

    def gradient(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        one, two = relative(x1, t), relative(x2, t)
        out = np.zeros((len(t), len(x1), len(x2)))
        for operation, change in zip(*operations(t), strict=True):
            d = one[:, None, :] - (two @ operation.T)[None]
            q = np.einsum("nmi,nmi->nm", d, d) / t[1] ** 2
            shape, slope = profile(q)
            slope *= t[0]
            out[0] += shape
            out[1] += slope * q / t[1]
            # The difference is x1 - c - R (x2 - c): its derivative by c is R - 1.
            out[2:4] += np.moveaxis(d @ (np.eye(2) - operation), -1, 0) * slope / t[1] ** 2
            if mirror:
                out[4] += slope * np.einsum("nmi,mi->nm", d, two @ change.T) / t[1] ** 2
        return out

    def variance(x: FloatArray, t: FloatArray) -> FloatArray:
        here = relative(x, t)
        total = np.zeros(len(x))
        for operation in operations(t)[0]:
            d = here - here @ operation.T
            total += profile(np.einsum("ni,ni->n", d, d) / t[1] ** 2)[0]
        return np.asarray(t[0] * total)

    names = ["signal_variance", "length", "shift_u", "shift_v"]
    middle = [1.0, length[0], 0.0, 0.0]
    sd = [np.log(3.0), np.log(length[1]), center_sd, center_sd]
    starts: list[FloatArray] = []
    if mirror:
        names.append("mirror_angle")
        # A mirror turned by half a turn over the order of the axis is a mirror of the group too.
        step = np.pi / (2 * order)
        sd.append(step)
        middle.append(0.5 * step)
        starts = [np.array([*middle[:4], (k + 0.5) * step]) for k in (-1, 1)]
    return Part(
        tuple(names),
        np.array(middle),
        np.array(sd),
        np.array([True, True, *[False] * (len(names) - 2)]),
        function,
        gradient,
        variance,
        tuple(starts),
    )


def folded_part(
    grid: Grid,
    profile: Profile,
    reciprocal: FloatArray,
    error: float,
    length: tuple[float, float],
) -> Part:
    """Kernel of the position within the unit cell of a lattice.

    Positions are folded through the phases of the reciprocal vectors: a distance is the length of
    the difference of the points on the torus. Hyperparameters: signal variance, length (fraction
    of a period), and the deviations of the two reciprocal vectors from those given.

    Parameters
    ----------
    grid : Grid
        The frame.
    profile : callable
        See `bluesky_gpsts.surrogate.kernels.PROFILES`.
    reciprocal : ndarray, shape (2, 2)
        Rows are the reciprocal vectors in periods per width of the frame, along its axes.
    error : float
        Relative standard deviation of each.
    length : tuple of float
        Median and factor of the length.
    """
    aspect = np.array([1.0, grid.height / grid.width])
    # A third direction makes the distance nearly the same in all directions of a hexagonal
    # lattice: that of the shorter of the two diagonals.
    sign = -1.0 if reciprocal[0] @ reciprocal[1] > 0 else 1.0
    mix = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, sign]])

    def waves(t: FloatArray) -> FloatArray:
        return mix @ (reciprocal + t[2:6].reshape(2, 2))

    def function(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        b = waves(t)
        q = np.zeros((len(x1), len(x2)))
        phase1, phase2 = (x1 * aspect) @ b.T, (x2 * aspect) @ b.T
        for j in range(3):
            s = np.sin(np.pi * (phase1[:, j, None] - phase2[None, :, j]))
            q += s * s
        q *= 2.0 / (3.0 * (np.pi * t[1]) ** 2)
        return np.asarray(t[0] * profile(q)[0])

    def gradient(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        b = waves(t)
        factor = 2.0 / (3.0 * (np.pi * t[1]) ** 2)
        d = (x1 * aspect)[:, None, :] - (x2 * aspect)[None]
        phase = np.pi * d @ b.T
        q = factor * np.sum(np.sin(phase) ** 2, axis=-1)
        shape, slope = profile(q)
        slope *= t[0]
        out = np.empty((len(t), len(x1), len(x2)))
        out[0] = shape
        out[1] = slope * q / t[1]
        # dq/db_j = factor * sin(2 pi b_j d) pi d, through the two given vectors.
        by_wave = factor * np.pi * np.sin(2.0 * phase) @ mix
        out[2:6] = -0.5 * slope * np.einsum("nmj,nmi->jinm", by_wave, d).reshape(4, *shape.shape)
        return out

    def variance(x: FloatArray, t: FloatArray) -> FloatArray:
        return np.full(len(x), float(t[0]))

    size = np.repeat(np.linalg.norm(reciprocal, axis=1), 2) * error
    return Part(
        ("signal_variance", "length", "wave_1u", "wave_1v", "wave_2u", "wave_2v"),
        np.array([1.0, length[0], 0.0, 0.0, 0.0, 0.0]),
        np.array([np.log(3.0), np.log(length[1]), *size]),
        np.array([True, True, False, False, False, False]),
        function,
        gradient,
        variance,
    )


def feature_part(
    grid: Grid, profile: Profile, features: FloatArray, length: tuple[float, float]
) -> Part:
    """Kernel of what the survey image shows at a position, wherever it is.

    Hyperparameters: signal variance, and one length per feature in standard deviations of it.

    Parameters
    ----------
    grid : Grid
        The frame.
    profile : callable
        See `bluesky_gpsts.surrogate.kernels.PROFILES`.
    features : ndarray, shape (F, ny, nx)
        Maps of the features, each of mean 0 and variance 1.
    length : tuple of float
        Median and factor of the length.
    """
    count = len(features)

    def function(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        one, two = sample(grid, features, x1) / t[1:], sample(grid, features, x2) / t[1:]
        return np.asarray(t[0] * profile(_squares(one, two))[0])

    def gradient(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        one, two = sample(grid, features, x1) / t[1:], sample(grid, features, x2) / t[1:]
        squares = (one.T[:, :, None] - two.T[:, None, :]) ** 2
        shape, slope = profile(squares.sum(axis=0))
        out = np.empty((1 + count, len(x1), len(x2)))
        out[0] = shape
        out[1:] = t[0] * slope * squares / t[1:, None, None]
        return out

    def variance(x: FloatArray, t: FloatArray) -> FloatArray:
        return np.full(len(x), float(t[0]))

    return Part(
        ("signal_variance", *(f"length_{k}" for k in range(count))),
        np.array([1.0, *[length[0]] * count]),
        np.log([3.0, *[length[1]] * count]),
        np.ones(1 + count, dtype=bool),
        function,
        gradient,
        variance,
    )


def library_part(grid: Grid, components: FloatArray) -> Part:
    """Covariance of maps measured before: sum of products of their components.

    The components are those of the second moment, so that the mean of the maps, with an unknown
    amplitude, is among what is expected. Hyperparameter: signal variance.

    Parameters
    ----------
    grid : Grid
        The frame.
    components : ndarray, shape (K, ny, nx)
        Components, weighted with the roots of their variances.
    """

    def function(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        return np.asarray(t[0] * sample(grid, components, x1) @ sample(grid, components, x2).T)

    def gradient(x1: FloatArray, x2: FloatArray, t: FloatArray) -> FloatArray:
        return function(x1, x2, np.ones(1))[None]

    def variance(x: FloatArray, t: FloatArray) -> FloatArray:
        values = sample(grid, components, x)
        return np.asarray(t[0] * np.einsum("nk,nk->n", values, values))

    return Part(
        ("signal_variance",),
        np.ones(1),
        np.log([5.0]),
        np.ones(1, dtype=bool),
        function,
        gradient,
        variance,
    )


def sample(grid: Grid, maps: FloatArray, x: FloatArray) -> FloatArray:
    """Interpolate maps (K, ny, nx) linearly at positions (N, 2), fractions of the frame: (N, K)."""
    _, rows, columns = maps.shape
    if x is grid.unit:
        return maps.reshape(len(maps), -1).T
    column = np.clip((x[:, 0] + 0.5) * columns - 0.5, 0.0, columns - 1.0)
    row = np.clip((x[:, 1] + 0.5) * rows - 0.5, 0.0, rows - 1.0)
    left = np.minimum(column.astype(int), max(columns - 2, 0))
    below = np.minimum(row.astype(int), max(rows - 2, 0))
    right, above = np.minimum(left + 1, columns - 1), np.minimum(below + 1, rows - 1)
    a, b = column - left, row - below
    return np.asarray(
        (
            (1 - b) * ((1 - a) * maps[:, below, left] + a * maps[:, below, right])
            + b * ((1 - a) * maps[:, above, left] + a * maps[:, above, right])
        ).T
    )


def _squares(x1: FloatArray, x2: FloatArray) -> FloatArray:
    """Squared distances: shape (N, M)."""
    total = np.zeros((len(x1), len(x2)))
    for a, b in zip(x1.T, x2.T, strict=True):
        d = a[:, None] - b[None]
        d *= d
        total += d
    return total
