"""The truth about a drawn image: where the lattice, terraces and defects of a surface are in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bluesky_gpsts.images.drawn import DrawnDefect, DrawnImage
from bluesky_gpsts.physics import creep
from bluesky_gpsts.physics.hsi100 import HSi100

__all__ = ["Track", "truth"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BAND = 0.4e-9
_TURNS = 12
_ONSET = 0.05


@dataclass(frozen=True, eq=False)
class Track:
    """The way of the tip over a sample that drifts while the image is taken.

    Attributes
    ----------
    shape : (int, int)
        Lines and pixels per line.
    pixel : float
        Size of a pixel (m).
    velocity : (2,) array
        Drift (m) during the image, in x and y.
    creep : (2,) array
        Creep (m) per decade of time, in x and y.
    """

    shape: tuple[int, int]
    pixel: float
    velocity: Array
    creep: Array

    def times(self) -> Array:
        """Times (ny, nx) of the pixels; 1 is the whole image, forward and backward."""
        return self._time(*self._grid())

    def positions(self) -> tuple[Array, Array]:
        """Positions x and y (ny, nx) of the pixels on the sample (m), y downwards."""
        column, row = self._grid()
        offset = self._offset(self._time(column, row))
        ny, nx = self.shape
        x = (column - 0.5 * (nx - 1)) * self.pixel + offset[0]
        y = (row - 0.5 * (ny - 1)) * self.pixel + offset[1]
        return x, y

    def pixels(self, x: Array, y: Array) -> Array:
        """Columns and rows (n, 2) in which positions (n,) of the sample (m) appear."""
        ny, nx = self.shape
        column, row = x / self.pixel + 0.5 * (nx - 1), y / self.pixel + 0.5 * (ny - 1)
        place = np.stack([column, row])
        # The drift during an image is a few per cent of it: the iteration converges at once.
        for _ in range(_TURNS):
            place = np.stack([column, row]) - self._offset(self._time(*place)) / self.pixel
        return place.T

    def direction(self, angle: float, rows: Array) -> float:
        """Direction (rad) in [0, pi) that a direction of the sample has, in the mean of lines."""
        step = 1e-4
        times = self._time(np.full(rows.shape, 0.5 * self.shape[1]), rows)
        speed = ((self._offset(times + step) - self._offset(times)) / step).mean(axis=1)
        ny, nx = self.shape
        slopes = np.array([0.5 / (nx * ny), 1.0 / ny])
        jacobian = self.pixel * np.eye(2) + np.outer(speed, slopes)
        u, v = np.linalg.solve(jacobian, [np.cos(angle), np.sin(angle)])
        return float(np.arctan2(v, u) % np.pi)

    def _grid(self) -> tuple[Array, Array]:
        row, column = np.indices(self.shape, dtype=np.float64)
        return column, row

    def _time(self, column: Array, row: Array) -> Array:
        ny, nx = self.shape
        return np.asarray((row + 0.5 * column / nx) / ny)

    def _offset(self, times: Array) -> Array:
        """Displacement (2, ...) in m at times."""
        late = np.stack([creep(times, float(jump), 1.0, _ONSET) for jump in self.creep])
        return np.multiply.outer(self.velocity, times) + late


def truth(
    surface: HSi100,
    track: Track,
    image: NDArray[np.float32],
    snr: float,
    ruined: str,
    blunt: bool = False,
) -> DrawnImage:
    """Put an image and the truth about it together.

    Parameters
    ----------
    surface : HSi100
        What is there.
    track : Track
        Where the pixels lie on it.
    image : (ny, nx) float32 array
        What was measured (m).
    snr, ruined, blunt
        See `DrawnImage`.
    """
    x, y = track.positions()
    shape = track.shape
    level = surface.terraces.level(x.ravel(), y.ravel()).reshape(shape)
    terrace, levels = _label(level)
    sites = surface.sites(
        float(x.min()) - track.pixel,
        float(x.max()) + track.pixel,
        float(y.min()) - track.pixel,
        float(y.max()) + track.pixel,
    )
    places = track.pixels(sites.x, sites.y)
    owner = _terrace_of(places, sites.level, terrace, level)
    kept = np.flatnonzero(owner > 0)
    marked = surface.marked(x.ravel(), y.ravel()).reshape(shape)
    defects, defect_map = _defects(surface, track, marked, sites.defect[kept])
    directions = []
    for label, n in enumerate(levels, start=1):
        rows = np.flatnonzero((terrace == label).any(axis=1)).astype(float)
        directions.append(track.direction(surface.terraces.row_direction(n), rows))
    return DrawnImage(
        image=image,
        pixel=track.pixel,
        sites=places[kept],
        occupied=sites.occupied[kept],
        site_terrace=owner[kept],
        terrace=terrace,
        steps=_bands(level, track.pixel),
        rows=np.array(directions),
        defects=defects,
        defect_map=defect_map,
        snr=snr,
        ruined=ruined,
        blunt=blunt,
    )


def _label(level: IntArray) -> tuple[IntArray, list[int]]:
    """Label (ny, nx) of each connected piece of a level, from 1 on, and the levels of labels."""
    terrace = np.zeros(level.shape, dtype=np.int64)
    levels: list[int] = []
    for n in np.unique(level):
        pieces, count = ndimage.label(level == n, structure=np.ones((3, 3)))
        terrace = np.where(pieces > 0, pieces + len(levels), terrace)
        levels += [int(n)] * count
    return terrace, levels


def _terrace_of(places: Array, levels: IntArray, terrace: IntArray, level: IntArray) -> IntArray:
    """Label (n,) of the terrace of sites; 0 outside the image, or where no pixel shows it."""
    ny, nx = terrace.shape
    column, row = (np.round(places[:, k]).astype(np.int64) for k in (0, 1))
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    result = np.zeros(len(places), dtype=np.int64)
    for dy, dx in sorted(np.ndindex(3, 3), key=lambda d: abs(d[0] - 1) + abs(d[1] - 1)):
        i, j = np.clip(row + dy - 1, 0, ny - 1), np.clip(column + dx - 1, 0, nx - 1)
        found = inside & (result == 0) & (level[i, j] == levels)
        result[found] = terrace[i, j][found]
    return result


def _bands(level: IntArray, pixel: float) -> NDArray[np.bool_]:
    """Pixels within 0.4 nm of an edge between levels."""
    edge = np.zeros(level.shape, dtype=bool)
    edge[:, 1:] |= level[:, 1:] != level[:, :-1]
    edge[1:, :] |= level[1:, :] != level[:-1, :]
    if not edge.any():
        return edge
    return np.asarray(ndimage.distance_transform_edt(~edge) * pixel <= _BAND)


def _defects(
    surface: HSi100, track: Track, marked: IntArray, owner: IntArray
) -> tuple[tuple[DrawnDefect, ...], IntArray]:
    """Defects with a pixel in the image, and their map."""
    seen = np.unique(marked[marked >= 0])
    number = np.zeros(len(surface.defects) + 1, dtype=np.int64)
    number[seen] = np.arange(1, len(seen) + 1)
    here = [surface.defects[index] for index in seen.tolist()]
    middles = np.array([(defect.x, defect.y) for defect in here]).reshape(-1, 2)
    places = track.pixels(middles[:, 0], middles[:, 1]).tolist()
    defects = []
    for index, defect, (x, y) in zip(seen.tolist(), here, places, strict=True):
        sites = tuple(int(k) for k in np.flatnonzero(owner == index))
        defects.append(DrawnDefect(defect.kind, x, y, sites))
    return tuple(defects), number[marked]
