"""How the rows of one terrace lie against those of another.

From one terrace to the next the rows turn by a right angle, and on every second terrace they lie a
quarter of their distance beside the ones two steps above; a tip vector that was right on one
terrace is off on the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.rowlattice import ALONG, ROWS
from bluesky_gpsts.images.surface import SurfaceReading, Terrace

__all__ = ["RowShift", "row_shifts"]

Array = NDArray[np.float64]

_NEAREST = 60
_FEWEST = 12
_BEND = 0.01


@dataclass(frozen=True)
class RowShift:
    """Rows of one terrace against another.

    Attributes
    ----------
    first, second : int
        Numbers of the terraces.
    turned : bool
        Whether the rows of the second run across those of the first.
    angle : float
        Angle (rad) from the direction of the first to that of the second, -pi/2 to pi/2; of turned
        ones from the direction across the first.
    shift : float
        How far the rows of the second lie beside those of the first where the two come nearest,
        in distances between rows, -1/2 to 1/2; of turned ones, beside the dimers of the first,
        -1/4 to 1/4. NaN where these are not resolved.
    error : float
        Standard error of it.
    """

    first: int
    second: int
    turned: bool
    angle: float
    shift: float
    error: float


def row_shifts(reading: SurfaceReading) -> list[RowShift]:
    """Compare the rows of all pairs of terraces with a lattice.

    Parameters
    ----------
    reading : SurfaceReading
        What was read of an image.

    Returns
    -------
    list of RowShift
        Ordered by the numbers of the terraces.
    """
    known = [t for t in reading.terrace_list if t.vectors is not None]
    found = []
    for index, first in enumerate(known):
        for second in known[index + 1 :]:
            shift = _compared(reading, first, second)
            if shift is not None:
                found.append(shift)
    return found


def _compared(reading: SurfaceReading, first: Terrace, second: Terrace) -> RowShift | None:
    from scipy.spatial import cKDTree

    points = [_sites(reading, terrace) for terrace in (first, second)]
    if min(map(len, points)) < _FEWEST:
        return None
    apart, index = cKDTree(points[1]).query(points[0])
    nearest = int(np.argmin(apart))
    middle = 0.5 * (points[0][nearest] + points[1][index[nearest]])
    near = [part[cKDTree(part).query(middle, min(len(part), _NEAREST))[1]] for part in points]
    difference = (second.direction - first.direction + 0.5 * np.pi) % np.pi - 0.5 * np.pi
    turned = abs(difference) > 0.25 * np.pi
    angle = difference - 0.5 * np.pi * np.sign(difference) if turned else difference
    # Across the rows of the second; the phases of both are told there.
    normal = np.array([-np.sin(second.direction), np.cos(second.direction)])
    assert first.vectors is not None and second.vectors is not None
    spacings = (
        np.hypot(*first.vectors[0 if turned else 1]),
        np.hypot(*second.vectors[1]),
    )
    phases, errors = [], []
    for part, spacing, terrace in zip(near, spacings, (first, second), strict=True):
        away = (part - middle) @ normal
        wave = np.exp(2j * np.pi * away / spacing)
        mean = complex(wave.mean())
        phases.append(float(np.angle(mean) / (2.0 * np.pi) * spacing))
        lever = float(np.hypot(*(part.mean(axis=0) - middle)))
        # The direction may be wrong, and the lattice bends between the two.
        errors.append(np.hypot(terrace.direction_error, _BEND) * lever / np.sqrt(2.0))
    period = ALONG if turned else ROWS
    shift = (phases[1] - phases[0] + 0.5 * period) % period - 0.5 * period
    if turned and not reading.resolved:
        shift = errors[0] = float("nan")
    return RowShift(
        first.number,
        second.number,
        bool(turned),
        float(angle),
        float(shift / ROWS),
        float(np.hypot(*errors) / ROWS),
    )


def _sites(reading: SurfaceReading, terrace: Terrace) -> Array:
    """Sites (N, 2) in m of the lattice of a terrace."""
    own = reading.on_lattice & (reading.site_terrace == terrace.number)
    return np.asarray(reading.sites[own] * np.array(reading.pixel))
