"""Space-filling first points, before there is anything to learn from."""

from collections.abc import Iterator

import numpy as np

from .grid import Grid

# Root of t^3 = t + 1: the sequence that it generates fills a square evenly at every length
# (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018), so that a design
# of any number of points can be prolonged where points fail.
_PLASTIC = 1.324717957244746
_STEP = np.array([1.0 / _PLASTIC, 1.0 / _PLASTIC**2])

_BLOCK = 256


def space_filling(grid: Grid, seed: int) -> Iterator[int]:
    """Walk over the grid in an order whose every beginning fills the frame evenly.

    Parameters
    ----------
    grid : Grid
        The candidates.
    seed : int
        Shifts the sequence; the same seed gives the same order.

    Yields
    ------
    int
        Index of a candidate. Indices repeat; the sequence has no end and reaches every candidate.
    """
    shift = np.random.default_rng(seed).random(2)
    start = 0
    while True:
        counts = np.arange(start, start + _BLOCK)[:, None]
        fractions = (shift + counts * _STEP) % 1.0
        columns = (fractions[:, 0] * grid.nx).astype(int)
        rows = (fractions[:, 1] * grid.ny).astype(int)
        yield from (rows * grid.nx + columns).tolist()
        start += _BLOCK
