"""Where the sample is, by the drift checks so far and by what the controller compensates itself."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.images import DriftModel

__all__ = ["Whereabouts"]

FloatArray = npt.NDArray[np.float64]

# Beyond so many standard deviations from what was expected, the sample or the frame has jumped.
_JUMP = 5.0
# So many offsets, the reference included, must be known before any can be called a jump.
_KNOWN = 3
# A velocity is acted on if it is so many times as large as its standard deviation.
_CLEAR = 2.0


@dataclass(frozen=True)
class Whereabouts:
    """Offset (x, y, z) of the sample in the controller's coordinates since a reference image.

    The drift is what the checks show plus the way that the controller's compensation has gone
    meanwhile. A `DriftModel` predicts it, another one its height.

    Parameters
    ----------
    lateral, vertical : DriftModel
        What the checks have shown, along the surface and of its height.
    base : (x, y, z)
        Offset (m) at the models' start.
    followed, since, velocity : (x, y, z), float, (x, y, z)
        Way (m) that the compensation had gone at a time (s), and its velocity (m/s) from then on.
    set_at : (x, y, z)
        Offset (m) when it was set.
    """

    lateral: DriftModel
    vertical: DriftModel
    base: tuple[float, ...] = (0.0, 0.0, 0.0)
    followed: tuple[float, ...] = (0.0, 0.0, 0.0)
    since: float = 0.0
    velocity: tuple[float, ...] = (0.0, 0.0, 0.0)
    set_at: tuple[float, ...] = (0.0, 0.0, 0.0)

    @classmethod
    def at(cls, t: float) -> "Whereabouts":
        """Begin at the time (s) of a reference image."""
        return cls(DriftModel(start=t), DriftModel(start=t), since=t)

    def given(self, t: float) -> FloatArray:
        """Way (3,) in m that the controller's compensation has gone by the time t (s)."""
        return np.array(self.followed) + np.array(self.velocity) * (t - self.since)

    def offset(self, t: float) -> FloatArray:
        """Expected offset (3,) in m at the time t (s), in the controller's coordinates."""
        t = max(t, self.lateral.start)
        expected = [*self.lateral.predict(t)[0], self.vertical.predict(t)[0][0]]
        return np.asarray(np.array(self.base) + expected - self.given(t))

    def deviation(self, t: float) -> float:
        """Standard deviation (m) of the offset along the less certain lateral axis."""
        covariance = self.lateral.predict(max(t, self.lateral.start))[1]
        return math.sqrt(float(np.diag(covariance).max()))

    def drift_velocity(self, t: float) -> FloatArray:
        """Velocity (3,) of the sample in m/s, whatever is compensated."""
        t = max(t, self.lateral.start)
        return np.array([*self.lateral.velocity(t)[0], self.vertical.velocity(t)[0][0]])

    @property
    def checks(self) -> int:
        """Number of offsets that the models know."""
        return len(self.lateral.times)

    def measured(self, t: float, place: FloatArray, sigma: FloatArray) -> tuple["Whereabouts", str]:
        """Take a measured offset in.

        Parameters
        ----------
        t : float
            Time (s).
        place, sigma : (3,) array
            Offset in the controller's coordinates and its standard uncertainty (m).

        Returns
        -------
        Whereabouts
            What knows it.
        str
            What was made of it.
        """
        total = place + self.given(t)
        drift = total - self.base
        known = 1 + self.checks
        if known >= _KNOWN and self.lateral.surprise(t, drift[:2], sigma[:2]) > _JUMP:
            gone = math.hypot(*(place - self.offset(t))[:2])
            model = DriftModel(start=t)
            anew = replace(self, lateral=model, vertical=model, base=tuple(total))
            return anew, f"{gone * 1e9:.3g} nm from where it was expected: a jump, or a turn"
        # A DriftModel has two axes; the height counts for both, at twice the variance.
        height, doubt = np.full(2, drift[2]), math.sqrt(2.0) * sigma[2]
        lateral = self.lateral.add(t, drift[:2], sigma[:2])
        vertical = self.vertical.add(t, height, doubt)
        return replace(self, lateral=lateral, vertical=vertical), "offset measured"

    def useless(self, t: float, place: FloatArray, sigma: FloatArray) -> bool:
        """Whether the compensation has not even halved the drift since it was set.

        Parameters
        ----------
        t : float
            Time (s) of a check.
        place, sigma : (3,) array
            Offset and standard uncertainty (m).
        """
        way = math.hypot(*(np.array(self.velocity) * (t - self.since))[:2])
        left = math.hypot(*(place - self.set_at)[:2])
        doubt = math.hypot(*sigma[:2])
        return way > 3.0 * doubt and left - 2.0 * doubt > 0.5 * way

    def wanted(self, t: float) -> FloatArray:
        """Velocity (3,) in m/s that the controller should compensate; 0 where it is not clear."""
        velocity = np.zeros(3)
        for model, axes in ((self.lateral, slice(0, 2)), (self.vertical, slice(2, 3))):
            mean, covariance = model.velocity(max(t, model.start))
            if math.hypot(*mean) > _CLEAR * math.sqrt(float(np.diag(covariance).max())):
                velocity[axes] = mean[: axes.stop - axes.start]
        return velocity

    def compensated(self, t: float, velocity: FloatArray, place: FloatArray) -> "Whereabouts":
        """Tell of a new compensation.

        Parameters
        ----------
        t : float
            When it was set (s).
        velocity : (3,) array
            In m/s.
        place : (3,) array
            Latest offset (m).
        """
        return replace(
            self,
            followed=tuple(self.given(t)),
            since=t,
            velocity=tuple(velocity),
            set_at=tuple(place),
        )
