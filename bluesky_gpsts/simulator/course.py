"""What the controller drives: quantities that run piecewise linearly in time."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Course"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """A quantity that is linear between knots, and constant before the first and after the last.

    Attributes
    ----------
    times : ndarray
        Times (k,) of the knots in s, ascending.
    values : ndarray
        Values (k, d) at the knots.
    """

    times: Array
    values: Array

    @classmethod
    def through(cls, *knots: tuple[float, ArrayLike]) -> Self:
        """Course through knots, each a time (s) and a value of one number or d."""
        times = np.array([time for time, _ in knots], dtype=np.float64)
        return cls(times, np.array([np.atleast_1d(value) for _, value in knots], dtype=np.float64))

    def at(self, times: Array) -> Array:
        """Values (n, d) at times (n,)."""
        columns = [np.interp(times, self.times, column) for column in self.values.T]
        return np.stack(columns, axis=-1)

    @property
    def end(self) -> float:
        """When it becomes constant (s)."""
        return float(self.times[-1])

    def _knots(self, begin: float, end: float) -> Array:
        first, last = np.searchsorted(self.times, [begin, end], side="right")
        return self.times[first:last]

    def instants(self, begin: float, end: float, step: float) -> Array:
        """Times after `begin` up to `end` (s), knots included, that resolve every `step` of it."""
        times = np.array([begin, *self._knots(begin, end), end])
        change = np.max(np.abs(np.diff(self.at(times), axis=0)), axis=1)
        parts = np.maximum(np.ceil(change / step), 1).astype(int)
        if np.all(parts == 1):
            return times[1:]
        pairs = zip(times[:-1], times[1:], parts, strict=True)
        return np.concatenate([np.linspace(a, b, n + 1)[1:] for a, b, n in pairs])

    def tail(self, begin: float) -> "Course":
        """What is left of it from time `begin` (s) on."""
        later = self.times > begin
        here = np.array([begin])
        return Course(
            np.concatenate([here, self.times[later]]),
            np.concatenate([self.at(here), self.values[later]]),
        )

    def delayed(self, seconds: float) -> "Course":
        """The same, later."""
        return Course(self.times + seconds, self.values)

    def then(self, other: "Course") -> "Course":
        """Course of this one, and after it of another that begins where and when this one ends."""
        return Course(
            np.concatenate([self.times, other.times[1:]]),
            np.concatenate([self.values, other.values[1:]]),
        )
