"""Standardisation of the outcomes, and the noise variance of each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_FLOOR = 1e-3
# The square of a number below this is lost in the smallest numbers there are.
_NOTHING = 1e-60


@dataclass(frozen=True)
class Scaling:
    """Shift and factor that bring outcomes to mean 0 and variance 1.

    Outcomes are of any size (a current in ampere is of order 1e-12); the hyperparameters and
    their prior are for standardised ones.

    Attributes
    ----------
    offset, scale : float
        ``standardised = (outcome - offset) / scale``, both in the unit of the outcomes.
    default_variance : float
        Noise variance of an outcome that came without one, in its unit squared.
    """

    offset: float
    scale: float
    default_variance: float

    @classmethod
    def of(cls, values: FloatArray, relative_noise: float) -> "Scaling":
        """Choose the scaling for some outcomes; a range below 1e-60 counts as none.

        Parameters
        ----------
        values : ndarray, shape (N,)
            Outcomes, at least one.
        relative_noise : float
            Standard deviation of the noise of an outcome that came without a variance, as a
            fraction of the range of the outcomes.
        """
        size = float(np.abs(values).max())
        scale = size * float(np.std(values / size)) if size > 0 else 0.0
        span = float(np.ptp(values))
        if scale <= max(1e-9 * size, _NOTHING):
            # Equal outcomes have no spread of their own; their size is the only scale there is.
            scale = span = size if size > _NOTHING else 1.0
        return cls(float(np.mean(values)), scale, (relative_noise * span) ** 2)

    def standardise(self, values: FloatArray) -> FloatArray:
        """Bring outcomes to mean 0 and variance 1: shape (N,), no unit."""
        return (values - self.offset) / self.scale

    def standardised_noise(self, variances: FloatArray) -> FloatArray:
        """Noise variances of standardised outcomes, from those of `noise_variances`."""
        return noise_variances(variances, self.default_variance) / self.scale**2


def noise_variances(measured: npt.ArrayLike, default: float) -> FloatArray:
    """Noise variances that the model works with.

    Parameters
    ----------
    measured : array_like, shape (N,)
        Measured variances, in the unit of the outcomes squared; NaN where there is none.
    default : float
        Variance for those, in the same unit.

    Returns
    -------
    ndarray, shape (N,)
        The variances. None is below a thousandth of the default: a repeated point without noise
        would make the covariance singular.
    """
    array = np.asarray(measured, dtype=float)
    return np.maximum(np.where(np.isnan(array), default, array), _FLOOR * default)
