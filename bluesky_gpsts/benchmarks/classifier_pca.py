"""The plain method beside the networks: principal components and logistic regression."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plain", "fit_plain"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plain:
    """A fitted model: scores are ``((x - mean) @ axes) @ weights + offset``."""

    mean: FloatArray
    axes: FloatArray
    weights: FloatArray
    offset: FloatArray

    def probabilities(self, x: FloatArray) -> FloatArray:
        """Probability (N, K) of each class for spectra (N, D)."""
        from scipy.special import softmax

        return np.asarray(softmax((x - self.mean) @ self.axes @ self.weights + self.offset, axis=1))


def fit_plain(x: FloatArray, y: NDArray[np.int64], components: int = 30) -> Plain:
    """Fit principal components, each scaled to unit variance, and a logistic regression on them.

    Parameters
    ----------
    x : (N, D) array
        Spectra, scaled alike.
    y : (N,) array of int
        Classes, from 0.
    components : int
        Largest number of components.

    Returns
    -------
    Plain
        At the minimum of the cross entropy, summed over the spectra, plus half the squared weights.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    mean = x.mean(axis=0)
    _, sizes, shapes = np.linalg.svd(x - mean, full_matrices=False)
    keep = min(components, int(np.sum(sizes > 1e-9 * sizes[0])))
    axes = shapes[:keep].T * (np.sqrt(len(x)) / sizes[:keep])
    scores, kinds = (x - mean) @ axes, int(y.max()) + 1
    wanted = np.eye(kinds)[y]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        table = flat.reshape(keep + 1, kinds)
        logits = scores @ table[:-1] + table[-1]
        error = softmax(logits, axis=1) - wanted
        slope = np.vstack([scores.T @ error + table[:-1], error.sum(axis=0)])
        value = (logsumexp(logits, axis=1) - (wanted * logits).sum(axis=1)).sum()
        return float(value + 0.5 * np.sum(table[:-1] ** 2)), slope.ravel()

    found = minimize(loss, np.zeros((keep + 1) * kinds), jac=True, method="L-BFGS-B")
    if not found.success:
        raise RuntimeError(f"the logistic regression did not converge: {found.message}")
    table = found.x.reshape(keep + 1, kinds)
    return Plain(mean, axes, table[:-1], table[-1])
