"""Atoms and defects of an image with any lattice: what repeats, and what breaks the repetition.

The image is cut at its steps; the unit cell comes from its Fourier transform; the mean picture of
the cell, laid out over the image along the phases of its strongest waves (which follow drift and
creep), is what the image would be without defects. Where it is not, there is a defect. Nothing is
learned, so that it works on WS2, Au(111), FeSe, Si(111)-7x7 and on rows alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.heightsteps import levels_of
from bluesky_gpsts.images.periods import Cell, find_cell
from bluesky_gpsts.images.prepare import check_image, plain_image
from bluesky_gpsts.images.terracecells import Part, cell_side, find_parts, lay_cell, period_of
from bluesky_gpsts.images.terraces import level_plane

__all__ = ["Blemish", "LatticeReading", "read_lattice"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_AROUND = 1.5
_SMOOTH, _SLOW = 0.2, 2.5
_DEVIATION, _CORE = 3.5, 5.5
_FAR = 8.0
_SMALLEST = 0.08
_TOP = 0.35
_ROUNDS = 3
_LARGEST, _SQUARE = 2**23, 1024
_SEARCH = (0.03, 0.01)
"""Surroundings, as shares of the image, of what may be a lattice: a reconstruction may hide it."""


@dataclass(frozen=True)
class Blemish:
    """A defect: a connected part of the image that is not as the lattice says.

    Attributes
    ----------
    number : int
        Its number in `LatticeReading.labels`.
    x, y : float
        Centre (pixels).
    area : float
        Area (pixels).
    deviation : float
        Mean deviation from the lattice, in standard deviations of what is left of good places;
        negative for a depression.
    """

    number: int
    x: float
    y: float
    area: float
    deviation: float


@dataclass(frozen=True, eq=False)
class LatticeReading:
    """What was read of an image; positions in pixels, x the column and y the row.

    Attributes
    ----------
    cell : Cell or None
        The unit cell of the largest terrace; None if it has no lattice.
    atoms : (N, 2) array
        Maxima of the lattice: places of atoms that are there.
    vacant : (M, 2) array
        Places of atoms that lie in a depression.
    motif : (A, 2) array
        Places of the maxima in the unit cell, fractions of its vectors.
    defects : tuple of Blemish
        What breaks the lattice.
    labels : (ny, nx) array of int
        0, or the number of the defect of each pixel.
    terraces : (ny, nx) array of int
        Number of the terrace of each pixel, from 1 on, the largest first; 0 where not scanned.
    steps : (ny, nx) array of bool
        Pixels of step edges.
    expected : (ny, nx) array
        What the lattice says, in the unit of the image, above the mean of the surroundings.
    residual : (ny, nx) array
        What the image has beyond that, in standard deviations of good places.
    """

    cell: Cell | None
    atoms: Array
    vacant: Array
    motif: Array
    defects: tuple[Blemish, ...]
    labels: NDArray[np.int32]
    terraces: NDArray[np.int32]
    steps: Bools
    expected: Array
    residual: Array


def read_lattice(image: ArrayLike) -> LatticeReading:
    """Read an image with any lattice.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m) or grey values; NaN where not scanned; colours become grey.

    Returns
    -------
    LatticeReading
        Without atoms and defects if there is no lattice to be found.

    Raises
    ------
    ValueError
        If it is no image of 16 x 16 pixels or more with a known pixel in it, or has more than
        eight million pixels.
    """
    values = plain_image(image)
    check_image(values)
    if values.shape[0] * values.shape[1] > _LARGEST:
        raise ValueError(
            f"the image has {values.shape[0]} x {values.shape[1]} pixels, too many to be laid out "
            f"at once; cut it into parts of at most {_LARGEST} pixels in all"
        )
    grey = values.astype(float)
    grey = grey[:, :, :3].mean(axis=2) if grey.ndim == 3 else grey
    known = np.isfinite(grey)
    # The largest value comes first: squares of the largest numbers are none.
    top = float(np.abs(grey[known]).max()) or 1.0
    unit = top * float(np.std(grey[known] / top)) or 1.0
    flat = level_plane(grey / unit)
    flat = np.where(known, flat, 0.0)
    terraces, steps, heights = levels_of(flat, known)
    largest = known & (terraces == 1) & ~steps
    middle = _window(largest)
    cell: Cell | None = None
    for share in _SEARCH:
        relief = _relief(flat - heights, known, terraces, share * min(flat.shape))
        found = find_cell(relief[middle], largest[middle])
        cell = found if cell is None or (found and found.symmetry != "rows") else cell
        if cell is not None and cell.symmetry != "rows":
            break
    nothing = np.zeros(flat.shape)
    if cell is None:
        none = np.zeros((0, 2))
        labels = np.zeros(flat.shape, np.int32)
        return LatticeReading(None, none, none, none, (), labels, terraces, steps, nothing, nothing)
    relief = _relief(flat - heights, known, terraces, _AROUND * period_of(cell))
    parts = find_parts(relief, known & ~steps, terraces, cell)
    clean = np.zeros(flat.shape, bool)
    for part in parts:
        clean[part.box] |= part.own
    weight, expected = clean, nothing
    motif, spacing = np.zeros((0, 2)), cell_side(cell)
    laid: list[tuple[Array, Array, Array]] = []
    for _ in range(_ROUNDS):
        expected = np.zeros(flat.shape)
        laid = [lay_cell(relief[p.box], p.cell, weight[p.box] & p.own) for p in parts]
        for part, (_, _, own) in zip(parts, laid, strict=True):
            expected[part.box][part.own] = own[part.own]
        if cell.symmetry != "rows":
            motif = _motif(laid[0][1])
            spacing = cell_side(cell) / float(np.sqrt(max(1, len(motif))))
        residual = _residual(relief - expected, clean, weight, spacing)
        # What stands out is not to shape the picture of the cell.
        weight = clean & (np.abs(residual) < 3.0)
    labels, defects = _defects(residual, spacing)
    pictures = [(phases, picture) for phases, picture, _ in laid]
    atoms, vacant = _all_atoms(parts, pictures, len(motif) or None, residual, labels)
    return LatticeReading(
        cell,
        atoms,
        vacant,
        motif,
        defects,
        labels,
        terraces,
        steps,
        expected * unit,
        residual,
    )


def _window(largest: Bools) -> tuple[slice, ...]:
    """Rows and columns about the middle of the largest terrace: enough to tell a cell."""
    if not largest.any():
        return slice(None), slice(None)
    parts = []
    for axis, size in enumerate(largest.shape):
        count = largest.sum(axis=1 - axis)
        centre = float(count @ np.arange(size)) / float(count.sum())
        first = int(np.clip(centre - _SQUARE / 2, 0, max(0, size - _SQUARE)))
        parts.append(slice(first, min(size, first + _SQUARE)))
    return tuple(parts)


def _relief(flat: Array, known: Bools, terraces: NDArray[np.int32], sigma: float) -> Array:
    """Heights above the mean of the surroundings on the same terrace, outliers counting little."""
    from scipy.ndimage import gaussian_filter

    result = np.zeros(flat.shape)
    for number in range(1, int(terraces.max(initial=0)) + 1):
        own = known & (terraces == number)
        if not own.any():
            continue
        middle = float(np.median(flat[own]))
        usual = 1.4826 * float(np.median(np.abs(flat[own] - middle))) + 1e-9
        limited = np.clip(flat - middle, -2.5 * usual, 2.5 * usual)
        weight = gaussian_filter(own.astype(float), sigma, truncate=3.0)
        mean = gaussian_filter(np.where(own, limited, 0.0), sigma, truncate=3.0) / np.maximum(
            weight, 1e-6
        )
        result[own] = (flat - middle - mean)[own]
    return result


def _residual(rest: Array, clean: Bools, weight: Bools, spacing: float) -> Array:
    """What is left, less lines and slow unevenness, in standard deviations of good places."""
    from scipy.ndimage import gaussian_filter

    left = np.where(clean, rest, 0.0)
    lines = np.where(weight, left, np.nan)
    enough = weight.sum(axis=1) > 0.25 * weight.shape[1]
    if enough.any():
        left[enough] -= np.nanmedian(lines[enough], axis=1)[:, None]
    wide = _SLOW * spacing
    around = gaussian_filter(weight.astype(float), wide)
    left -= gaussian_filter(np.where(weight, left, 0.0), wide) / np.maximum(around, 0.05)
    sigma = max(0.7, _SMOOTH * spacing)
    share = gaussian_filter(clean.astype(float), sigma)
    smooth = gaussian_filter(np.where(clean, left, 0.0), sigma) / np.maximum(share, 1e-3)
    middle = float(np.median(smooth[weight]))
    off = np.abs(smooth - middle)
    spread = 1.4826 * float(np.median(off[weight])) or 1.0
    # Where the lattice is laid out less well, on a small terrace or under a worse tip, more is left
    # of good places, too; for normal noise the mean of its size is sqrt(2 / pi) times its spread.
    usual = np.where(weight, np.minimum(off, 3.0 * spread), 0.0)
    near = gaussian_filter(weight.astype(float), _FAR * spacing)
    local = np.sqrt(np.pi / 2) * gaussian_filter(usual, _FAR * spacing) / np.maximum(near, 0.05)
    return np.where(clean, (smooth - middle) / np.maximum(spread, local), 0.0)


def _defects(residual: Array, spacing: float) -> tuple[NDArray[np.int32], tuple[Blemish, ...]]:
    """Connected parts that deviate, each with a place in it that deviates strongly."""
    from scipy.ndimage import label

    labels = np.zeros(residual.shape, np.int32)
    found: list[Blemish] = []
    for sign in (1.0, -1.0):
        parts, count = label(sign * residual > _DEVIATION)
        if not count:
            continue
        flat = parts.ravel()
        place = np.flatnonzero(flat)
        owner = flat[place]
        values = sign * residual.ravel()[place]
        area = np.bincount(owner, minlength=count + 1)
        highest = np.zeros(count + 1)
        np.maximum.at(highest, owner, values)
        rows, columns = np.divmod(place, residual.shape[1])
        total = np.bincount(owner, values, count + 1)
        x = np.bincount(owner, values * columns, count + 1)
        y = np.bincount(owner, values * rows, count + 1)
        least = max(4.0, _SMALLEST * spacing**2)
        for part in range(1, count + 1):
            if area[part] >= least and highest[part] >= _CORE:
                number = len(found) + 1
                labels[parts == part] = number
                found.append(
                    Blemish(
                        number,
                        float(x[part] / total[part]),
                        float(y[part] / total[part]),
                        float(area[part]),
                        float(sign * total[part] / area[part]),
                    )
                )
    return labels, tuple(found)


def _motif(picture: Array, most: int | None = None) -> Array:
    """Maxima (A, 2) of the picture of a cell, the highest first, fractions of the two vectors."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    bins = picture.shape[0]
    soft = gaussian_filter(picture, 1.0, mode="wrap")
    reach = max(3, 2 * (bins // 16) + 1)
    span = float(np.ptp(soft)) or 1.0
    top = (soft == maximum_filter(soft, reach, mode="wrap")) & (
        soft > soft.min() + (1.0 - _TOP) * span
    )
    rows, columns = np.nonzero(top)
    order = np.argsort(-soft[rows, columns])[:most]
    rows, columns = rows[order], columns[order]
    return np.column_stack([columns + 0.5, rows + 0.5]) / bins


def _all_atoms(
    parts: tuple[Part, ...],
    pictures: list[tuple[Array, Array]],
    most: int | None,
    residual: Array,
    labels: NDArray[np.int32],
) -> tuple[Array, Array]:
    """Atoms that are there, and that are gone, of all terraces, from their phases and pictures.

    The picture of a small terrace is noisy; of the same material it has no more atoms than `most`,
    those of the largest.
    """
    there, gone = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for part, (phases, picture) in zip(parts, pictures, strict=True):
        if part.cell.symmetry == "rows":
            continue
        box, motif = part.box, _motif(picture, most)
        corner = (box[1].start, box[0].start)
        for places, several in zip(
            _atoms(motif, phases, part.cell, part.own, residual[box], labels[box]),
            (there, gone),
            strict=True,
        ):
            several.append(places + corner)
    return np.concatenate(there), np.concatenate(gone)


def _atoms(
    motif: Array,
    phases: Array,
    cell: Cell,
    clean: Bools,
    residual: Array,
    labels: NDArray[np.int32],
) -> tuple[Array, Array]:
    """Places of the motif over the image: of atoms that are there, and of those that are gone."""
    none = np.zeros((0, 2))
    if not len(motif):
        return none, none
    ny, nx = clean.shape
    corners = phases[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    low, high = np.floor(corners.min(axis=1)) - 1.0, np.ceil(corners.max(axis=1)) + 1.0
    cells = np.stack(
        np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)), axis=-1
    ).reshape(-1, 2)
    wanted = (cells[:, None] + motif[None]).reshape(-1, 2)
    inverse = np.linalg.inv(cell.waves)
    # The phase field is nearly a plane: a few steps of Newton find where it has a value.
    places = wanted @ inverse.T
    for _ in range(4):
        column = np.clip(np.round(places[:, 0]).astype(int), 0, nx - 1)
        row = np.clip(np.round(places[:, 1]).astype(int), 0, ny - 1)
        bend = phases[:, row, column] - cell.waves @ np.stack([column, row])
        places = (wanted - bend.T) @ inverse.T
    inside = np.all((places > -0.5) & (places < (nx - 0.5, ny - 0.5)), axis=1)
    places = places[inside]
    column, row = np.round(places).astype(int).T
    column, row = np.clip(column, 0, nx - 1), np.clip(row, 0, ny - 1)
    good = clean[row, column]
    gone = good & (labels[row, column] > 0) & (residual[row, column] < 0.0)
    return places[good & ~gone], places[gone]
