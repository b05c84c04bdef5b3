"""Posterior at all candidates, updated in O(N M) when a point is added.

gpCAM 8.6 evaluates a list of M candidates through their M x M covariance: gigabytes and tens of
seconds for a frame of 128 x 128 pixels. With the Cholesky factor L of the data's covariance, the
rows of V = L^-1 K(data, candidates) hold all that mean and variance need, and a new point adds one
row to V without changing the others. Where the point is a candidate, its column of V is the new
row of L, so that nothing has to be solved.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .kernels import KernelFunction, constant_variance

FloatArray = npt.NDArray[np.float64]

_BLOCK = 64
_CHUNK = 512
_SOLVED = 128


class CandidateCache:
    """Gaussian process posterior on a fixed set of candidates.

    Equations 3 and 4 of Thomas et al., npj Comput. Mater. 8, 99 (2022), with a constant prior mean
    that is estimated again (generalised least squares) with every point. As in gpCAM, the variance
    takes that mean as known.

    Parameters
    ----------
    candidates : ndarray, shape (M, 2)
        Positions, fractions of the frame.
    kernel_function : callable
        Covariance function, see `bluesky_gpsts.surrogate.kernels`.
    hyperparameters : ndarray, shape (3,) or (P,)
        Those of the kernel; the fourth, the prior mean, is ignored.
    variance_function : callable
        Its value at a position with itself, see `Kernel.variance`.
    outputs : int
        Number of outcomes of a point, which share the covariance. The first is the one that
        `mean`, `at` and `leave_one_out` are about.
    """

    def __init__(
        self,
        candidates: FloatArray,
        kernel_function: KernelFunction,
        hyperparameters: FloatArray,
        variance_function: Callable[[FloatArray, FloatArray], FloatArray] = constant_variance,
        outputs: int = 1,
    ) -> None:
        # Kernels work along x and along y; each is one stretch of memory.
        self._candidates = np.asfortranarray(candidates)
        self._kernel = kernel_function
        self._variance_of = variance_function
        self._hyperparameters = np.concatenate([hyperparameters[:3], [0.0], hyperparameters[4:]])
        self._n = 0
        self._x = np.empty((0, 2))
        self._factor = np.empty((0, 0))
        # Rows of V in blocks: growing them copies nothing.
        self._blocks: list[FloatArray] = []
        self._noise = np.empty(0)
        self._white_y = np.empty((0, outputs))
        self._white_one = np.empty(0)
        # V^T L^-1 y and V^T L^-1 1: with both, a new prior mean costs one pass over M values.
        self._from_y = np.zeros((outputs, len(candidates)))
        self._from_one = np.zeros(len(candidates))
        self.prior_variance = variance_function(candidates, self._hyperparameters)
        self._variance = self.prior_variance.copy()

    def __len__(self) -> int:
        return self._n

    @property
    def outputs(self) -> int:
        """Number of outcomes of a point."""
        return len(self._from_y)

    @property
    def prior_means(self) -> FloatArray:
        """The GLS estimates of the constant means; 0 without data: shape (outputs,)."""
        one = self._white_one[: self._n]
        if not self._n:
            return np.zeros(self.outputs)
        return np.asarray(one @ self._white_y[: self._n] / (one @ one))

    @property
    def prior_mean(self) -> float:
        """The GLS estimate of the constant mean; 0 without data."""
        return float(self.prior_means[0])

    @property
    def mean(self) -> FloatArray:
        """Posterior mean at the candidates: shape (M,), unit of the outcomes."""
        return self._from_y[0] + self.prior_mean * (1.0 - self._from_one)

    @property
    def means(self) -> FloatArray:
        """Posterior mean of every outcome at the candidates: shape (outputs, M)."""
        return self._from_y + self.prior_means[:, None] * (1.0 - self._from_one)

    @property
    def variance(self) -> FloatArray:
        """Posterior variance at the candidates, without noise: shape (M,), unit squared."""
        return np.maximum(self._variance, 0.0)

    def at(self, index: int) -> tuple[float, float]:
        """Posterior mean and variance at one candidate, as `mean` and `variance` have them."""
        mean = self._from_y[0, index] + self.prior_mean * (1.0 - self._from_one[index])
        return float(mean), max(float(self._variance[index]), 0.0)

    @property
    def x(self) -> FloatArray:
        """Positions of the points, fractions of the frame: shape (N, 2)."""
        return self._x[: self._n]

    @property
    def noise(self) -> FloatArray:
        """Noise variance of each outcome: shape (N,)."""
        return self._noise[: self._n]

    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """Compare each outcome with what all others predict for it.

        Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2.

        Returns
        -------
        error : ndarray, shape (N,)
            Outcome minus prediction.
        variance : ndarray, shape (N,)
            Predicted variance of that, noise included.
        """
        from scipy.linalg import solve_triangular

        n = self._n
        white = solve_triangular(self._factor[:n, :n], np.eye(n), lower=True)
        variance = 1.0 / np.einsum("ki,ki->i", white, white)
        weights = (self._white_y[:n, 0] - self.prior_mean * self._white_one[:n]) @ white
        return weights * variance, variance

    def set_data(self, x: FloatArray, y: FloatArray, noise: FloatArray) -> None:
        """Replace all data; O(N^2 M).

        Parameters
        ----------
        x : ndarray, shape (N, 2)
            Positions, fractions of the frame.
        y : ndarray, shape (N,) or (N, outputs)
            Outcomes.
        noise : ndarray, shape (N,)
            Noise variance of each point.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the covariance is not positive definite.
        """
        from scipy.linalg import solve_triangular

        n = len(x)
        covariance = self._kernel(x, x, self._hyperparameters)
        covariance[np.diag_indices(n)] += noise
        factor = np.linalg.cholesky(covariance)
        self._n = 0
        self._reserve(n)
        self._n = n
        self._x[:n] = x
        self._noise[:n] = noise
        self._factor[:n, :n] = factor
        self._white_y[:n] = solve_triangular(factor, y.reshape(n, -1), lower=True)
        self._white_one[:n] = solve_triangular(factor, np.ones(n), lower=True)
        for start in range(0, len(self._candidates), _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = solve_triangular(
                factor,
                self._kernel(x, self._candidates[part], self._hyperparameters),
                lower=True,
                overwrite_b=True,
            )
            for number, block in enumerate(self._used()):
                block[:, part] = rows[number * _BLOCK : number * _BLOCK + len(block)]
            self._from_y[:, part] = self._white_y[:n].T @ rows
            self._from_one[part] = self._white_one[:n] @ rows
            self._variance[part] = self.prior_variance[part] - np.einsum("nm,nm->m", rows, rows)

    def add(
        self, x: FloatArray, y: float | FloatArray, noise: float, candidate: int | None = None
    ) -> None:
        """Add one point; O(N M), and O(N^2) where it is beside the candidates.

        Parameters
        ----------
        x : ndarray, shape (2,)
            Position, fractions of the frame.
        y : float, or ndarray of shape (outputs,)
            Outcome.
        noise : float
            Its noise variance, above zero.
        candidate : int, optional
            The nearest candidate, which is looked at for being that position.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the point makes the covariance singular, as a repeated one without noise does.
        """
        row, left, pivot = self._new_row(x, noise, candidate)
        n = self._n
        white_y = (y - left @ self._white_y[:n]) / pivot
        white_one = (1.0 - left @ self._white_one[:n]) / pivot
        self._put(x, row, left, pivot)
        self._noise[n] = noise
        self._white_y[n] = white_y
        self._white_one[n] = white_one
        scaled = np.empty_like(row)
        for total, value in zip(self._from_y, white_y, strict=True):
            total += np.multiply(row, value, out=scaled)
        self._from_one += np.multiply(row, white_one, out=scaled)
        self._variance -= np.multiply(row, row, out=scaled)

    def variance_after(self, x: FloatArray, noise: FloatArray) -> FloatArray:
        """Posterior variance if points were measured as well; the cache stays as it is.

        The variance does not depend on what would be found there, so no outcome is needed.

        Parameters
        ----------
        x : ndarray, shape (K, 2)
            Positions that are under way, fractions of the frame.
        noise : ndarray, shape (K,)
            Their noise variances.

        Returns
        -------
        ndarray, shape (M,)
            Posterior variance at the candidates.
        """
        keep = self._n
        variance = self._variance
        try:
            for position, noise_variance in zip(x, noise, strict=True):
                row, left, pivot = self._new_row(position, float(noise_variance), None)
                self._put(position, row, left, pivot)
                variance = variance - row * row
        finally:
            self._n = keep
        return np.maximum(variance, 0.0)

    def _used(self) -> Iterator[FloatArray]:
        """Blocks of rows of V, each of shape (up to _BLOCK, M)."""
        for number in range(-(-self._n // _BLOCK)):
            yield self._blocks[number][: self._n - number * _BLOCK]

    def _put(self, x: FloatArray, row: FloatArray, left: FloatArray, pivot: float) -> None:
        n = self._n
        self._reserve(n + 1)
        self._x[n] = x
        self._factor[n, :n] = left
        self._factor[n, n] = pivot
        self._blocks[n // _BLOCK][n % _BLOCK] = row
        self._n = n + 1

    def _new_row(
        self, x: FloatArray, noise: float, candidate: int | None
    ) -> tuple[FloatArray, FloatArray, float]:
        """Rows that a point adds to V and to L, and the pivot of the latter."""
        n = self._n
        position = x[None, :]
        row = self._kernel(position, self._candidates, self._hyperparameters)[0]
        if candidate is not None and np.abs(self._candidates[candidate] - x).max() < 1e-13:
            left = np.empty(n)
            for number, rows in enumerate(self._used()):
                left[number * _BLOCK : number * _BLOCK + len(rows)] = rows[:, candidate]
        elif n:
            covariance = self._kernel(self._x[:n], position, self._hyperparameters)[:, 0]
            left = self._solve(covariance)
        else:
            left = np.empty(0)
        for number, rows in enumerate(self._used()):
            row -= left[number * _BLOCK : number * _BLOCK + len(rows)] @ rows
        prior = float(self._variance_of(position, self._hyperparameters)[0])
        square = prior + noise - left @ left
        if square <= 0.0:
            raise np.linalg.LinAlgError(
                f"The point at {x.tolist()} makes the covariance singular; give it a noise "
                "variance above zero."
            )
        pivot = float(np.sqrt(square))
        row /= pivot
        return row, left, pivot

    def _solve(self, values: FloatArray) -> FloatArray:
        """L^-1 values: shape (N,), in blocks, as SciPy would copy the whole of L."""
        from scipy.linalg import solve_triangular

        answer = values.copy()
        for start in range(0, len(values), _SOLVED):
            part = slice(start, min(start + _SOLVED, len(values)))
            answer[part] -= self._factor[part, :start] @ answer[:start]
            answer[part] = solve_triangular(
                self._factor[part, part], answer[part], lower=True, check_finite=False
            )
        return answer

    def _reserve(self, n: int) -> None:
        """Make room for n points."""
        while len(self._blocks) * _BLOCK < n:
            self._blocks.append(np.empty((_BLOCK, len(self._candidates))))
        if n > len(self._x):
            used = self._n
            capacity = max(n, len(self._x) + len(self._x) // 2, _BLOCK)
            factor = np.zeros((capacity, capacity))
            factor[:used, :used] = self._factor[:used, :used]
            self._factor = factor
            self._x = np.concatenate([self._x[:used], np.empty((capacity - used, 2))])
            self._noise = np.concatenate([self._noise[:used], np.empty(capacity - used)])
            more = np.empty((capacity - used, self.outputs))
            self._white_y = np.concatenate([self._white_y[:used], more])
            self._white_one = np.concatenate([self._white_one[:used], np.empty(capacity - used)])
