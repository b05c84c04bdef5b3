"""Which unit cell describes which terrace, laid out over it along the phases of its waves."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.cellpicture import cell_phases, cell_picture, lay_out
from bluesky_gpsts.images.periods import Cell, find_cell

__all__ = ["Part", "cell_side", "find_parts", "lay_cell", "period_of"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Cells that a terrace has to have, to be looked at and to be searched for a cell of its own.
_FEWEST, _ENOUGH = 20, 60
_LEAST_FIT = 0.4


@dataclass(frozen=True, eq=False)
class Part:
    """A terrace with its cell: the box around it, and its pixels in that box."""

    box: tuple[slice, slice]
    own: Bools
    cell: Cell


def period_of(cell: Cell) -> float:
    """Length (pixels) of the longer vector of the cell."""
    return float(np.hypot(*cell.vectors.T).max())


def cell_side(cell: Cell) -> float:
    """Side (pixels) of a square as large as the cell, or the distance of rows."""
    rows = cell.symmetry == "rows"
    return period_of(cell) if rows else float(np.sqrt(abs(np.linalg.det(cell.vectors))))


def lay_cell(relief: Array, cell: Cell, weight: Bools) -> tuple[Array, Array, Array]:
    """Phases, picture of the cell, and that picture laid out."""
    phases = cell_phases(relief, cell, weight, period_of(cell))
    picture = cell_picture(relief, phases, weight, cell)
    return phases, picture, lay_out(picture, phases)


def find_parts(
    relief: Array, clean: Bools, terraces: NDArray[np.int32], cell: Cell
) -> tuple[Part, ...]:
    """Terraces on which a cell is found: that of the largest one, or one turned against it.

    On terraces of H-Si(100) the rows turn by 90 degrees from one to the next. One that is too small
    for a cell of its own takes that of another terrace, or is left alone if none describes it.

    Parameters
    ----------
    relief : (ny, nx) array
        Heights above the surroundings, any unit.
    clean : (ny, nx) array of bool
        Pixels that were measured and lie at no step.
    terraces : (ny, nx) array of int
        Number of the terrace of each pixel, from 1 on.
    cell : Cell
        That of the largest terrace.

    Returns
    -------
    tuple of Part
        The largest first.
    """
    from scipy.ndimage import find_objects, label

    pieces: list[tuple[int, tuple[slice, slice], Bools]] = []
    for number in range(1, int(terraces.max(initial=0)) + 1):
        # What is at one height need not be one terrace.
        connected, _ = label(clean & (terraces == number))
        for piece, box in enumerate(find_objects(connected), start=1):
            mask = connected[box] == piece
            pieces.append((int(mask.sum()), box, mask))
    pieces.sort(key=lambda one: -one[0])
    known, usual = [cell], 0.0
    found: list[Part] = []
    for area, box, own in pieces:
        cells = area / cell_side(cell) ** 2
        # On the largest one the cell was found, however few fit into it.
        if found and cells < _FEWEST:
            break
        candidates = [*known, *(_turned(candidate) for candidate in known if found)]
        if found and cells >= _ENOUGH and (new := find_cell(relief[box], own)) is not None:
            candidates.append(new)
        fits = [_fit(relief[box], own, candidate) for candidate in candidates]
        best = int(np.argmax(fits))
        usual = usual or fits[best]
        if not found or fits[best] >= _LEAST_FIT * usual:
            if best >= len(known):
                known.append(candidates[best])
            found.append(Part(box, own, candidates[best]))
    return tuple(found)


def _turned(cell: Cell) -> Cell:
    """The cell turned by 90 degrees."""
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return replace(cell, vectors=cell.vectors @ turn, waves=cell.waves @ turn)


def _fit(relief: Array, own: Bools, cell: Cell) -> float:
    """Correlation of a terrace with the picture of its cell, laid out over it."""
    expected = lay_cell(relief, cell, own)[2]
    usual = 1.4826 * float(np.median(np.abs(relief[own]))) or 1.0
    pair = np.clip(relief[own], -4.0 * usual, 4.0 * usual), expected[own]
    if min(np.std(pair[0]), np.std(pair[1])) == 0.0:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])
