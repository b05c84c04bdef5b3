"""Where the class of the surface is uncertain or new, from the classes of the spectra so far."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Weight of knowing nothing, against a spectrum at the very place.
_UNKNOWN = 0.1


@dataclass(frozen=True, eq=False)
class Named:
    """Spectra that a classifier has named.

    Attributes
    ----------
    unit : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    probabilities : ndarray, shape (N, K)
        Of each class.
    novelty : ndarray, shape (N,)
        0 to 1: whether a spectrum is of none of the classes.
    lengths : ndarray, shape (2,)
        How far a spectrum speaks for its surroundings: the length scales of the map, as
        fractions of the frame.
    """

    unit: FloatArray
    probabilities: FloatArray
    novelty: FloatArray
    lengths: FloatArray

    def uncertainty(self, unit: FloatArray) -> FloatArray:
        """How uncertain or new the class is at other positions.

        Each spectrum speaks for its surroundings with a Gaussian weight; where none is near,
        all classes are equally probable and novelty is one half. With the entropy H of the
        averaged probabilities, relative to its maximum, and the averaged novelty n, the
        uncertainty is 1 - (1 - H)(1 - n).

        Parameters
        ----------
        unit : ndarray, shape (M, 2)
            Positions, fractions of the frame.

        Returns
        -------
        ndarray, shape (M,)
            0 to 1.
        """
        squares = np.zeros((len(unit), len(self.unit)))
        for axis in range(2):
            away = (unit[:, axis, None] - self.unit[None, :, axis]) / self.lengths[axis]
            squares += away * away
        weights = np.exp(-0.5 * squares)
        total = weights.sum(axis=1) + _UNKNOWN
        count = self.probabilities.shape[1]
        mean = (weights @ self.probabilities + _UNKNOWN / count) / total[:, None]
        mean /= mean.sum(axis=1, keepdims=True)
        entropy = -np.sum(mean * np.log(np.maximum(mean, 1e-300)), axis=1) / np.log(max(count, 2))
        novelty = (weights @ self.novelty + 0.5 * _UNKNOWN) / total
        return np.asarray(1.0 - (1.0 - entropy) * (1.0 - novelty))
