"""Whole spectra as outcomes: their principal components, which share the covariance of the map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .encoding import decode, encode

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Basis:
    """Principal components of the spectra so far, as far as they stand out from the noise.

    Attributes
    ----------
    level : ndarray, shape (n,)
        Mean spectrum, in the unit of the spectra.
    shapes : ndarray, shape (K, n)
        Components, of length 1.
    scales : ndarray, shape (K,)
        Standard deviation of each component's scores, in the unit of the spectra, descending.
    """

    level: FloatArray
    shapes: FloatArray
    scales: FloatArray

    @classmethod
    def of(cls, spectra: FloatArray, most: int) -> "Basis":
        """Find the components.

        Noise that is white along the bias axis gives the covariance of N spectra of n points
        eigenvalues of up to (1 + sqrt(n / N))^2 times its variance (Marchenko and Pastur, 1967);
        only larger ones are kept. The noise is taken from second differences along the axis.

        Parameters
        ----------
        spectra : ndarray, shape (N, n)
            Any unit, one bias axis.
        most : int
            Largest number of components.
        """
        count, length = spectra.shape
        level = spectra.mean(axis=0)
        # Spectra in ampere per volt are near 1e-10; their squares would lose digits.
        size = float(np.abs(spectra - level).max())
        if size == 0.0:
            return cls(level, np.empty((0, length)), np.empty(0))
        rest = (spectra - level) / size
        second = np.diff(rest, n=2, axis=1)
        noise = float(np.mean(second**2)) / 6.0 if second.size else 0.0
        _, values, shapes = np.linalg.svd(rest, full_matrices=False)
        variances = values**2 / count
        floor = max(noise * (1.0 + np.sqrt(length / count)) ** 2, 1e-9 * float(variances[0]))
        keep = min(most, int(np.sum(variances > floor)))
        # The sign of a component is free; this one does not hang on the linear algebra.
        signs = np.sign(shapes[:keep, :].sum(axis=1))
        signs[signs == 0.0] = 1.0
        return cls(level, shapes[:keep] * signs[:, None], size * np.sqrt(variances[:keep]))

    def scores(self, spectra: FloatArray) -> FloatArray:
        """Scores of spectra (N, n) in units of each component's deviation: shape (N, K)."""
        return (spectra - self.level) @ self.shapes.T / self.scales

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return {name: encode(values) for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Basis":
        """Undo `to_json`."""
        return cls(*(decode(state[name]) for name in ("level", "shapes", "scales")))


def signal_of(means: FloatArray, scales: FloatArray) -> FloatArray:
    """How far the expected spectrum is from the commonest, at each candidate.

    Parameters
    ----------
    means : ndarray, shape (K, M)
        Expected scores.
    scales : ndarray, shape (K,)
        See `Basis`.

    Returns
    -------
    ndarray, shape (M,)
        Root of the sum over the bias axis of the squared difference, in the unit of the spectra.
    """
    away = (means - np.median(means, axis=1)[:, None]) * scales[:, None]
    return np.sqrt(np.einsum("km,km->m", away, away))
