"""Atoms and vacancies from the maps of the network: terrace by terrace, on a lattice.

Every terrace gets a lattice of its own, fitted to the peaks of the atom map; every site of it is
then judged occupied or vacant by the map there. Positions are those of the lattice, which hundreds
of peaks agree on, so they are far more certain than a single peak. Peaks that no lattice explains
are kept as they are.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.linewaves import Seen, along_lines
from bluesky_gpsts.images.prepare import GRID, Prepared
from bluesky_gpsts.images.rowlattice import ALONG, ROWS, RowLattice, fit_row_lattice
from bluesky_gpsts.images.surfacemodel import Maps
from bluesky_gpsts.images.terracemap import TerraceMap

__all__ = ["Decoded", "decode"]

Array = NDArray[np.float64]

_PEAK, _LONELY = 0.3, 0.5
_COHERENT, _DIMERS = 0.35, 0.7
_BESIDE = 0.8
_DEFECT = 0.2


@dataclass(frozen=True, eq=False)
class Decoded:
    """Sites of an image, on the grid of the network.

    Attributes
    ----------
    sites : (N, 2) array
        x and y (pixels of the grid) of every site, occupied or not.
    score : (N,) array
        The atom map there, from 0 to 1.
    terrace : (N,) array of int
        Number of the terrace.
    placed : (N,) array of bool
        Whether the position is the lattice's, not a single peak's.
    lattices : tuple of RowLattice or None
        One for each terrace; None where there is none.
    resolved : bool
        Whether the dimers are resolved, not only their rows.
    """

    sites: Array
    score: Array
    terrace: NDArray[np.int32]
    placed: NDArray[np.bool_]
    lattices: tuple[RowLattice | None, ...]
    resolved: bool


def decode(prepared: Prepared, maps: Maps, terraces: TerraceMap) -> Decoded:
    """Find all sites and judge them.

    Where the dimers are not resolved, sites lie on the rows, and anywhere along them.

    Parameters
    ----------
    prepared : Prepared
        The image.
    maps : Maps
        What the network says of it.
    terraces : TerraceMap
        The terraces.

    Returns
    -------
    Decoded
    """
    from scipy.ndimage import find_objects

    height, width = maps.atom.shape
    strong = maps.heights > _PEAK
    peaks, strengths = maps.peaks[strong], maps.heights[strong]
    owner = _label(terraces.labels, peaks)
    order = np.argsort(owner, kind="stable")
    cuts = np.searchsorted(owner[order], np.arange(1, terraces.directions.size + 2))
    groups = [order[a:b] for a, b in pairwise(cuts.tolist())]
    parts = [(peaks[mine], strengths[mine]) for mine in groups]
    fits, resolved = _fits(parts, terraces.directions, maps.resolved)
    lattices: list[RowLattice | None] = []
    sites, numbers = [np.zeros((0, 2))], [np.zeros(0, np.int32)]
    boxes = find_objects(terraces.labels, terraces.directions.size)
    for number, lattice in enumerate(fits, start=1):
        if lattice is not None and lattice.coherence < _COHERENT:
            lattice = None
        box = boxes[number - 1]
        if lattice is None or box is None:
            lattices.append(lattice)
            continue
        rows, columns = (
            slice(2 * half.start, min(size, 2 * half.stop))
            for half, size in zip(box, (height, width), strict=True)
        )
        own = terraces.labels[box] == number
        lattice = along_lines(lattice, partial(_seen, prepared, maps, rows, columns, own))
        lattices.append(lattice)
        low, high = (columns.start - 0.5, rows.start - 0.5), (columns.stop - 0.5, rows.stop - 0.5)
        found = lattice.sites(low, high)
        found = found[_label(terraces.labels, found) == number]
        sites.append(found)
        numbers.append(np.full(len(found), number, np.int32))
    placed = np.concatenate(sites)
    terrace = np.concatenate(numbers)
    score = _highest(maps.atom, placed)
    # A peak beside a site that is judged vacant is that site's, or nobody's.
    lonely = ~_beside(placed, peaks, (height, width))
    lonely &= strengths > _LONELY
    return Decoded(
        np.concatenate([placed, peaks[lonely]]),
        np.concatenate([score, strengths[lonely]]),
        np.concatenate([terrace, owner[lonely]]).astype(np.int32),
        np.concatenate([np.ones(len(placed), bool), np.zeros(int(lonely.sum()), bool)]),
        tuple(lattices),
        resolved,
    )


def _fits(
    parts: list[tuple[Array, Array]], directions: Array, resolved: bool
) -> tuple[list[RowLattice | None], bool]:
    """Lattices of the peaks of each terrace, and whether the dimers are resolved after all.

    Where dimers lie along the lines of the scan, the network often sees nothing but rows at first
    sight; but its peaks lie where dimers are, and not anywhere along the rows.
    """

    def fitted(lines: bool) -> list[RowLattice | None]:
        return [
            fit_row_lattice(*part, direction, ALONG / GRID, ROWS / GRID, lines=lines)
            for part, direction in zip(parts, directions.tolist(), strict=True)
        ]

    dimers = fitted(lines=False)
    sizes = np.array([len(points) for points, _ in parts], float)
    if not resolved and sizes.any():
        found = [0.0 if lattice is None else lattice.coherence for lattice in dimers]
        resolved = float(np.average(found, weights=sizes)) > _DIMERS
    return (dimers, True) if resolved else (fitted(lines=True), False)


def _beside(sites: Array, peaks: Array, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a site is within 3.5 pixels, along x and y, of each peak (N,)."""
    reach = round(_BESIDE * ALONG / GRID)
    padded = np.zeros([size + 2 * reach for size in shape], bool)
    (x, y), (column, row) = (
        np.clip(np.round(points).astype(int).T, 0, np.subtract(shape[::-1], 1)[:, None])
        for points in (sites, peaks)
    )
    padded[y + reach, x + reach] = True
    rows = np.logical_or.reduce([padded[k : k + shape[0]] for k in range(2 * reach + 1)])
    near = np.logical_or.reduce([rows[:, k : k + shape[1]] for k in range(2 * reach + 1)])
    return near[row, column]


def _seen(
    prepared: Prepared, maps: Maps, rows: slice, columns: slice, own: NDArray[np.bool_]
) -> Seen:
    """Relief of a part of the grid, and where it is a terrace's (at half resolution) own."""
    trusted = prepared.known[rows, columns] & (maps.defect[rows, columns] < _DEFECT)
    trusted &= own.repeat(2, axis=0).repeat(2, axis=1)[: trusted.shape[0], : trusted.shape[1]]
    return Seen(prepared.channels[0, rows, columns], trusted, (columns.start, rows.start))


def _highest(atom: NDArray[np.float32], points: Array) -> Array:
    """Highest value (N,) of the 3 x 3 pixels about points."""
    height, width = atom.shape
    column, row = np.round(points).astype(int).T
    columns = [np.clip(column + k, 0, width - 1) for k in (-1, 0, 1)]
    rows = [np.clip(row + k, 0, height - 1) * width for k in (-1, 0, 1)]
    flat = atom.ravel()
    return np.max([flat[y + x] for y in rows for x in columns], axis=0).astype(float)


def _label(labels: NDArray[np.int32], points: Array) -> NDArray[np.int32]:
    """Number of the terrace under points of the grid; labels are at half its resolution."""
    cell = np.floor((points + 0.5) / 2.0).astype(int)
    height, width = labels.shape
    return labels[np.clip(cell[:, 1], 0, height - 1), np.clip(cell[:, 0], 0, width - 1)]
