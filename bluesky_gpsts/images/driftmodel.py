"""Where the sample is between two drift checks, and how sure that is."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = ["DriftModel"]

FloatArray = npt.NDArray[np.float64]

_FACTORS = np.logspace(-1.5, 2.5, 17)
_SETTLES = (100.0, 400.0, 1600.0, 6400.0)
_STEADY = (0.1, 0.5, 0.9)
_SPREAD = 1.0
_LATEST = 40


@dataclass(frozen=True)
class DriftModel:
    """Offset of the sample since a reference image, as a Gaussian process of time.

    offset(t) = v (t - start) + integral of w + sum over moves of c log10(1 + (t - t_move) / onset)

    The steady velocity v, a velocity w that is forgotten after some time (an Ornstein-Uhlenbeck
    process) and a creep c of each move are unknown, Gaussian and independent in x and y. How fast
    the drift is (0.03 to 300 times the scale), how much of it is steady, and after what time the
    rest is forgotten is chosen by the marginal likelihood of the latest forty offsets. The model
    is a value: `add` and `moved` return another one. Times are what the caller says.

    Parameters
    ----------
    start : float
        Time of the reference image (s); the offset is zero then.
    scale : float
        Expected size of the drift velocity (m/s). The default is the larger of the drifts that
        Thomas et al., npj Comput. Mater. 8, 99 (2022) report, 1.1 angstrom in 30 minutes.
    creep : float
        Expected share of a move by which the piezo goes on per decade of time.
    onset : float
        Time (s) from which the decades count.
    times : tuple of float
        When offsets were measured (s).
    offsets, sigmas : tuple of (x, y)
        What they were, and their standard uncertainties (m).
    moves : tuple of (time, length)
        When the frame was moved (s), and how far (m).

    Attributes
    ----------
    factor, steady, settle : float
        What was learnt: the speed in units of `scale`, the steady share of its variance, and the
        time (s) after which the rest is forgotten.

    Raises
    ------
    ValueError
        If a scale is not above zero.
    """

    start: float = 0.0
    scale: float = 6.1e-14
    creep: float = 0.01
    onset: float = 0.1
    times: tuple[float, ...] = ()
    offsets: tuple[tuple[float, float], ...] = ()
    sigmas: tuple[tuple[float, float], ...] = ()
    moves: tuple[tuple[float, float], ...] = ()
    factor: float = field(init=False, default=1.0)
    steady: float = field(init=False, default=0.5)
    settle: float = field(init=False, default=1600.0)

    def __post_init__(self) -> None:
        """Check the scales and learn the size of the drift."""
        for name in ("scale", "creep", "onset"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}; give a number above 0")
        if self.times:
            best = max(product(_FACTORS.tolist(), _STEADY, _SETTLES), key=self._evidence())
            for name, value in zip(("factor", "steady", "settle"), best, strict=True):
                object.__setattr__(self, name, value)

    def add(self, t: float, offset: npt.ArrayLike, sigma: npt.ArrayLike) -> "DriftModel":
        """Take a measured offset in.

        Parameters
        ----------
        t : float
            Time (s), not before the reference image.
        offset : (2,) array_like
            Offset x, y since the reference image (m).
        sigma : float or (2,) array_like
            Its standard uncertainty (m).

        Returns
        -------
        DriftModel
            The model that knows it.

        Raises
        ------
        ValueError
            If a number is not finite, sigma is not above zero, or t is before the reference.
        """
        x, y = self._pair("offset", offset)
        sx, sy = self._pair("sigma", np.broadcast_to(np.asarray(sigma, dtype=float), (2,)))
        if not (sx > 0.0 and sy > 0.0):
            raise ValueError(f"sigma is ({sx}, {sy}) m; it must be above 0")
        self._check_time(t)
        return replace(
            self,
            times=(*self.times, float(t)),
            offsets=(*self.offsets, (x, y)),
            sigmas=(*self.sigmas, (sx, sy)),
        )

    def moved(self, t: float, length: float) -> "DriftModel":
        """Tell of a move of the frame, after which the piezo creeps.

        Parameters
        ----------
        t : float
            When it ended (s).
        length : float
            How far it went (m); the sign does not matter.

        Returns
        -------
        DriftModel
            The model that knows it.

        Raises
        ------
        ValueError
            If a number is not finite.
        """
        if not (np.isfinite(t) and np.isfinite(length)):
            raise ValueError(f"a move of {length} m at {t} s is not finite")
        return replace(self, moves=(*self.moves, (float(t), abs(float(length)))))

    def predict(self, t: float) -> tuple[FloatArray, FloatArray]:
        """Offset at a time.

        Parameters
        ----------
        t : float
            Time (s), not before the reference image.

        Returns
        -------
        offset : (2,) array
            Expected offset x, y since the reference image (m).
        covariance : (2, 2) array
            Its covariance (m^2).

        Raises
        ------
        ValueError
            If t is before the reference image or not finite.
        """
        self._check_time(t)
        now = np.array([float(t)])
        return self._posterior(self._kernel(now, self._at), self._kernel(now, now))

    def velocity(self, t: float) -> tuple[FloatArray, FloatArray]:
        """Drift velocity at a time, for the controller's own compensation.

        Parameters
        ----------
        t : float
            Time (s), not before the reference image.

        Returns
        -------
        velocity : (2,) array
            Expected velocity x, y (m/s).
        covariance : (2, 2) array
            Its covariance (m^2/s^2).

        Raises
        ------
        ValueError
            If t is before the reference image or not finite.
        """
        self._check_time(t)
        speed2 = (self.factor * self.scale) ** 2
        tau, other = float(t) - self.start, self._at - self.start
        gap = tau - other
        # The derivative of the kernel by its first argument.
        bend = np.sign(gap) * np.exp(-np.abs(gap) / self.settle) - np.exp(-tau / self.settle)
        bend = self.settle * (bend + np.where(gap < 0.0, 2.0, np.where(gap == 0.0, 1.0, 0.0)))
        cross = speed2 * (self.steady * other + (1.0 - self.steady) * bend)
        own = speed2
        for when, length in self.moves:
            since = float(t) - when
            if since >= 0.0:
                slope = self.creep * length / (np.log(10.0) * (since + self.onset))
                cross = cross + slope * self._creep(self._at, when, length)
                own += slope * slope
        return self._posterior(cross[None, :], np.array([[own]]))

    def uncertain(self, t: float, limit: float) -> bool:
        """Whether the standard uncertainty of the offset exceeds a limit along either axis.

        Parameters
        ----------
        t : float
            Time (s), not before the reference image.
        limit : float
            Length (m).

        Returns
        -------
        bool
            True if it is time for another check.

        Raises
        ------
        ValueError
            If t is before the reference image, or the limit is not above zero.
        """
        if not limit > 0.0:
            raise ValueError(f"the limit is {limit} m; give one above 0")
        return bool(np.sqrt(np.diag(self.predict(t)[1]).max()) > limit)

    def surprise(self, t: float, offset: npt.ArrayLike, sigma: npt.ArrayLike) -> float:
        """How far a measured offset is from what was expected, in standard deviations.

        Parameters
        ----------
        t : float
            Time (s), not before the reference image.
        offset : (2,) array_like
            Offset (m).
        sigma : float or (2,) array_like
            Its standard uncertainty (m).

        Returns
        -------
        float
            Mahalanobis distance; above about 5 the sample, or the frame, has jumped.

        Raises
        ------
        ValueError
            If a number is not finite.
        """
        place = np.array(self._pair("offset", offset))
        noise = np.array(self._pair("sigma", np.broadcast_to(np.asarray(sigma, float), (2,))))
        expected, covariance = self.predict(t)
        gap = place - expected
        return float(np.sqrt(gap @ np.linalg.solve(covariance + np.diag(noise**2), gap)))

    @property
    def _at(self) -> FloatArray:
        return np.array(self.times, dtype=float)

    def _check_time(self, t: float) -> None:
        if not (np.isfinite(t) and t >= self.start):
            raise ValueError(
                f"time {t} s is not after that of the reference image, {self.start} s; times are "
                "finite and count on one clock"
            )

    @staticmethod
    def _pair(name: str, values: npt.ArrayLike) -> tuple[float, float]:
        pair = np.asarray(values, dtype=float)
        if pair.shape != (2,) or not np.isfinite(pair).all():
            raise ValueError(f"{name} is {values!r}; give finite x and y in m")
        return float(pair[0]), float(pair[1])

    def _creep(self, t: FloatArray, when: float, length: float) -> FloatArray:
        decades = np.log10(1.0 + np.maximum(t - when, 0.0) / self.onset)
        return np.asarray(self.creep * length * decades)

    def _kernel(self, t: FloatArray, s: FloatArray) -> FloatArray:
        moving = (self.factor * self.scale) ** 2 * self._drift(t, s, self.steady, self.settle)
        return moving + self._after_moves(t, s)

    def _drift(self, t: FloatArray, s: FloatArray, steady: float, settle: float) -> FloatArray:
        """Covariance of the way gone at a velocity of variance 1."""
        a, b = (t - self.start)[:, None], (s - self.start)[None, :]
        lost = np.exp(-a / settle) + np.exp(-b / settle) - np.exp(-np.abs(a - b) / settle) - 1.0
        bent = settle**2 * (2.0 * np.minimum(a, b) / settle + lost)
        return np.asarray(steady * a * b + (1.0 - steady) * bent)

    def _after_moves(self, t: FloatArray, s: FloatArray) -> FloatArray:
        total = np.zeros((len(t), len(s)))
        for when, length in self.moves:
            total += np.outer(self._creep(t, when, length), self._creep(s, when, length))
        return total

    def _posterior(self, cross: FloatArray, own: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, variance = np.zeros(2), np.full(2, own[0, 0])
        if self.times:
            prior = self._kernel(self._at, self._at)
            for axis in range(2):
                noise = np.array([sigma[axis] for sigma in self.sigmas])
                measured = np.array([offset[axis] for offset in self.offsets])
                weights = np.linalg.solve(prior + np.diag(noise**2), cross[0])
                mean[axis] = weights @ measured
                variance[axis] = max(float(own[0, 0] - weights @ cross[0]), 0.0)
        return mean, np.diag(variance)

    def _evidence(self) -> Callable[[tuple[float, float, float]], float]:
        """Log marginal likelihood, as a function of factor, steady share and time to settle."""
        at = self._at[-_LATEST:]
        still = self._after_moves(at, at)
        noises = np.array(self.sigmas[-_LATEST:]) ** 2
        measured = np.array(self.offsets[-_LATEST:])
        drifts = {
            shape: self._drift(at, at, *shape) * self.scale**2
            for shape in product(_STEADY, _SETTLES)
        }

        def level(choice: tuple[float, float, float]) -> float:
            factor, *shape = choice
            prior = still + factor**2 * drifts[shape[0], shape[1]]
            # A wide log-normal prior of the factor.
            total = -0.5 * (float(np.log10(factor)) / _SPREAD) ** 2
            for axis in range(2):
                lower = np.linalg.cholesky(prior + np.diag(noises[:, axis]))
                white = np.linalg.solve(lower, measured[:, axis])
                total -= 0.5 * float(white @ white) + float(np.log(np.diag(lower)).sum())
            return total

        return level
