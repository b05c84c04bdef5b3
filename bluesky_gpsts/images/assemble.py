"""From the grid of the network back to the image: positions, maps, terraces, defects."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.decode import Decoded
from bluesky_gpsts.images.prepare import Prepared
from bluesky_gpsts.images.quality import Verdict
from bluesky_gpsts.images.rowlattice import RowLattice
from bluesky_gpsts.images.surface import Defect, SurfaceReading, Terrace
from bluesky_gpsts.images.surfacemodel import Maps
from bluesky_gpsts.images.terracemap import TerraceMap

__all__ = ["assemble", "at_right_angles", "placed"]

Labels = NDArray[np.int32]

_DEFECT, _FEWEST = 0.45, 5
_SKEW = 4e-3
"""Angle (rad) by which drift turns whole terraces, whatever their own errors."""


def assemble(
    shape: tuple[int, ...],
    pixel: tuple[float, float],
    prepared: Prepared,
    maps: Maps,
    terraces: TerraceMap,
    decoded: Decoded,
    verdict: Verdict,
    known: NDArray[np.bool_],
    sure: NDArray[np.float64],
    doubt: NDArray[np.float64],
) -> SurfaceReading:
    """Bring everything from the grid of the network to the image.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the image.
    pixel : (float, float)
        Width and height (m) of a pixel.
    prepared, maps, terraces, decoded, verdict
        What was made of it, step by step.
    known : (ny, nx) array of bool
        Where something was measured.
    sure : (N,) array
        Probability of an atom at each site of `decoded`.
    doubt : (N,) array
        Standard deviation of it.

    Returns
    -------
    SurfaceReading
    """
    rows, columns = _cells(shape, prepared.scale, terraces.labels.shape, 2)
    labels = terraces.labels[rows][:, columns]
    probability = _enlarged(maps.defect, shape)
    probability[~known] = 0.0
    defect_labels, defects = _defects(probability, labels, pixel[0] * pixel[1])
    sites = prepared.to_image(decoded.sites)
    # Half a pixel beyond the middle of the outermost pixels the image ends.
    inside = np.all((sites > -0.5) & (sites < (shape[1] - 0.5, shape[0] - 0.5)), axis=1)
    place = np.clip(np.round(sites).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    inside &= known[place[:, 1], place[:, 0]]
    counts = np.bincount(labels.ravel(), minlength=len(decoded.lattices) + 1)
    listed = at_right_angles(
        _terrace(number, float(counts[number]) * pixel[0] * pixel[1], lattice, prepared, pixel)
        for number, lattice in enumerate(decoded.lattices, start=1)
    )
    return SurfaceReading(
        verdict,
        pixel,
        sites[inside],
        sure[inside] > 0.5,
        sure[inside],
        doubt[inside],
        decoded.terrace[inside],
        decoded.placed[inside],
        labels,
        listed,
        (maps.step > 0.5)[rows][:, columns],
        probability,
        defect_labels,
        defects,
        decoded.resolved,
    )


def at_right_angles(terraces: Iterable[Terrace]) -> tuple[Terrace, ...]:
    """Enlarge the errors of directions that are not at right angles, which on Si(100) they are.

    A piezo that creeps or a sample that drifts bends the lattice of a small terrace, and its peaks
    agree with each other all the same. One that is off the others by more than twice its error is
    as uncertain as it is off.
    """
    listed = tuple(terraces)
    known = [terrace for terrace in listed if terrace.vectors is not None]
    if len(known) < 2:
        return listed
    # Four times the direction is the same for rows along and across.
    turns = np.array([np.exp(4j * terrace.direction) for terrace in known])
    certain = [terrace.area / (terrace.direction_error**2 + _SKEW**2) for terrace in known]
    apart = np.abs(np.angle(turns[:, None] / turns)) / 4.0
    # The median: what is far off has no say in where the others are.
    middle = int(np.argmin(apart @ certain))
    off = {terrace.number: float(way) for terrace, way in zip(known, apart[middle], strict=True)}
    return tuple(
        replace(terrace, direction_error=off[terrace.number])
        if off.get(terrace.number, 0.0) > 2.0 * terrace.direction_error
        else terrace
        for terrace in listed
    )


def placed(
    reading: SurfaceReading, box: tuple[slice, slice], shape: tuple[int, int]
) -> SurfaceReading:
    """Put the reading of a part into the frame of the whole image.

    Parameters
    ----------
    reading : SurfaceReading
        Of the part.
    box : (slice, slice)
        Rows and columns of the part.
    shape : (int, int)
        Rows and columns of the image.

    Returns
    -------
    SurfaceReading
        With zeros in the maps outside of the part.
    """
    corner = np.array([box[1].start, box[0].start], float)

    def whole(values: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros(shape, values.dtype)
        result[box] = values
        return result

    return replace(
        reading,
        sites=reading.sites + corner,
        terraces=whole(reading.terraces),
        terrace_list=tuple(replace(t, origin=t.origin + corner) for t in reading.terrace_list),
        steps=whole(reading.steps),
        defect_probability=whole(reading.defect_probability),
        defect_labels=whole(reading.defect_labels),
        defects=tuple(
            replace(d, x=d.x + float(corner[0]), y=d.y + float(corner[1])) for d in reading.defects
        ),
    )


def _terrace(
    number: int,
    area: float,
    lattice: RowLattice | None,
    prepared: Prepared,
    pixel: tuple[float, float],
) -> Terrace:
    if lattice is None:
        nan = float("nan")
        return Terrace(number, area, None, np.full(2, nan), nan, nan, 0.0)
    vectors = lattice.mean * prepared.scale * pixel
    x, y = vectors[0]
    return Terrace(
        number,
        area,
        vectors,
        prepared.to_image(lattice.nearest(lattice.origin)),
        float(np.arctan2(y, x) % np.pi),
        float(lattice.errors[0]),
        lattice.coherence,
    )


def _defects(
    probability: NDArray[np.float32], terraces: Labels, pixel_area: float
) -> tuple[Labels, tuple[Defect, ...]]:
    from scipy.ndimage import label

    labels, count = label(probability > _DEFECT)
    if not count:
        return labels.astype(np.int32), ()
    flat = labels.ravel()
    place = np.flatnonzero(flat)
    owner = flat[place]
    size = np.bincount(owner, minlength=count + 1)
    rows, columns = np.divmod(place, probability.shape[1])
    weight = probability.ravel()[place]
    total = np.bincount(owner, weight, count + 1)
    with np.errstate(invalid="ignore"):
        x = np.bincount(owner, weight * columns, count + 1) / total
        y = np.bincount(owner, weight * rows, count + 1) / total
    highest = np.zeros(count + 1)
    np.maximum.at(highest, owner, weight)
    kept = np.flatnonzero(size >= _FEWEST)
    kept = kept[kept > 0]
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    under = terraces[np.round(y[kept]).astype(int), np.round(x[kept]).astype(int)]
    told = (number, x, y, highest, size * pixel_area)
    values = zip(*(part[kept].tolist() for part in told), under.tolist(), strict=True)
    found = tuple(Defect(*value) for value in values)
    return number[labels], found


def _cells(
    shape: tuple[int, ...], scale: tuple[float, float], size: tuple[int, ...], step: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a grid, each cell `step` pixels of the network, under each pixel."""
    places = []
    for count, factor, limit in zip(shape, scale[::-1], size, strict=True):
        middle = (np.arange(count) + 0.5) / (factor * step)
        places.append(np.clip(middle.astype(np.intp), 0, limit - 1))
    return places[0], places[1]


def _enlarged(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bilinear interpolation of a map to the pixels of the image."""
    import torch
    from torch.nn.functional import interpolate

    source = torch.from_numpy(values)[None, None]
    size = (shape[0], shape[1])
    large = interpolate(source, size, mode="bilinear", align_corners=False, antialias=True)
    result: NDArray[np.float32] = large[0, 0].numpy()
    return result
