"""Creep of the piezo: it goes on after each move."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import creep

__all__ = ["Creeping"]

Array = NDArray[np.float64]

_MOVES = 12


class Creeping:
    """The moves so far, and how much further they have crept."""

    def __init__(self) -> None:
        self._moves: list[tuple[float, Array]] = []
        # Where the way to a recorded path begins and ends, and when it does.
        self._way: tuple[Array, Array, float] | None = None

    def move(self, end: float, jump: Array) -> None:
        """Remember a move by `jump` (2,) in m that ends at a time (s)."""
        self._moves.append((end, jump))
        if len(self._moves) > _MOVES:
            # Long after, two moves are as one; forgetting one would shift the sample at once.
            (_, first), (later, second), *others = self._moves
            self._moves = [(later, first + second), *others]

    def follow(self, here: Array, corner: Array, arrival: float) -> None:
        """Remember a path that begins with the way from `here` to `corner` (2,) in m."""
        self.move(arrival, corner - here)
        self._way = here, corner, arrival

    def halt(self, t: float, here: Array, end: float, target: Array) -> None:
        """Stop a move or path at `here` (2,), which would have ended at `target` and time `end`."""
        if self._way is not None:
            origin, corner, arrival = self._way
            if t < arrival:
                self._moves[-1] = (t, here - origin)
            else:
                # A path creeps as the one move from its beginning to its end would.
                self.move(min(t, end), here - corner)
            self._way = None
        elif self._moves and self._moves[-1][0] > t:
            # What is left of the move does not creep, for it has not been made.
            _, jump = self._moves[-1]
            self._moves[-1] = (t, jump - (target - here))

    def lag(self, t: Array) -> Array:
        """How far (n, 2) in m the piezo has crept by times `t` (n,)."""
        total = np.zeros((len(t), 2))
        for end, jump in self._moves:
            if np.any(jump):
                total += creep(np.maximum(t - end, 0.0)[:, None], jump[None, :])
        return total
