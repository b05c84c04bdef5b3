"""Features of each defect, and its picture in the frame of the lattice.

The features are those of Ziatdinov et al.: height at the defect against the dimers, area against
the unit cell, circularity. Beside them every defect gets a picture, turned into the frame of its
terrace's lattice and brought to a common scale, so that defects of images of any rotation and
pixel size can be compared and averaged.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.relief import Relief, frame_of, relief_of
from bluesky_gpsts.images.surface import SurfaceReading

__all__ = ["ACROSS", "ALONG_ROW", "PATCH", "DefectTable", "average_patch", "measure_defects"]

Array = NDArray[np.float64]
Labels = NDArray[np.integer]

ALONG_ROW, ACROSS = 8.0, 3.0
"""Size of a picture: so many dimers along the row, so many rows across it."""

PATCH = (24, 32)
"""Its pixels, across and along: 8 from row to row, 4 from dimer to dimer."""

_REACH = 3.5
_CORE = 0.6


@dataclass(frozen=True, eq=False)
class DefectTable:
    """Defects of one image or of several, row by row.

    Attributes
    ----------
    numbers : (N,) array of int
        Number of each in the labels of its image.
    places : (N, 2) array
        Centre, x and y (pixels).
    height : (N,) array
        Mean height in the middle of the defect above that of the dimers around (corrugations).
    area : (N,) array
        Area (unit cells of one dimer).
    circularity : (N,) array
        4 pi area / circumference^2: 1 for a disc, less for anything else.
    contrast : (N,) array
        Mean height of the whole defect above that of the clean surface (corrugations).
    length, width : (N,) arrays
        Extent along the rows (dimers) and across (rows): standard deviations times sqrt(12).
    terrace : (N,) array of int
        Number of the terrace.
    patches : (N, 2, 24, 32) array
        Relief (corrugations) and probability of a defect, in the frame of the lattice: first axis
        across the rows, second along them. The middle is a dimer or half-way between two.
    """

    numbers: NDArray[np.int64]
    places: Array
    height: Array
    area: Array
    circularity: Array
    contrast: Array
    length: Array
    width: Array
    terrace: NDArray[np.int64]
    patches: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def depression(self) -> NDArray[np.bool_]:
        """Whether each lies lower than the clean surface."""
        return np.asarray(self.contrast < 0.0)

    @property
    def published(self) -> Array:
        """The three features (N, 3) of Ziatdinov et al.: height, area, circularity."""
        return np.column_stack([self.height, self.area, self.circularity])

    @property
    def shape(self) -> Array:
        """Numbers (N, 6) about the form, each of the order of one."""
        return np.column_stack(
            [
                np.arcsinh(self.height),
                np.log1p(self.area),
                self.circularity,
                np.arcsinh(self.contrast),
                np.log1p(self.length),
                np.log1p(self.width),
            ]
        )

    def take(self, which: ArrayLike) -> Self:
        """Rows of it: by number, or where a mask is true."""
        chosen = np.asarray(which)
        return type(self)(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @classmethod
    def joined(cls, tables: "list[DefectTable]") -> Self:
        """Rows of several tables, one after another."""
        if not tables:
            raise ValueError("there is no table to join; give one or more")
        return cls(
            **{
                f.name: np.concatenate([getattr(table, f.name) for table in tables])
                for f in fields(cls)
            }
        )


def measure_defects(
    image: ArrayLike, reading: SurfaceReading, labels: ArrayLike | None = None
) -> DefectTable:
    """Measure the defects of an image.

    Parameters
    ----------
    image : (ny, nx) array_like
        The image that was read: heights (m), or grey values.
    reading : SurfaceReading
        What was read of it.
    labels : (ny, nx) array_like of int, optional
        0, or the number of the defect of each pixel; those of the reading by default.

    Returns
    -------
    DefectTable
        A row per number, in their order.

    Raises
    ------
    ValueError
        If the image was refused, or shapes do not match.
    """
    relief = relief_of(image, reading)
    given = reading.defect_labels if labels is None else np.asarray(labels)
    if given.shape != reading.terraces.shape or given.dtype.kind not in "iu":
        raise ValueError(
            f"the labels have shape {given.shape} and type {given.dtype}; give whole numbers of "
            f"shape {reading.terraces.shape}"
        )
    numbers = np.unique(given[given > 0]).astype(np.int64)
    number = np.zeros(int(given.max(initial=0)) + 1, np.int32)
    number[numbers] = np.arange(1, len(numbers) + 1)
    compact = number[np.maximum(given, 0)]
    mask = reading.defect_probability if labels is None else (compact > 0).astype(np.float32)
    return _measured(relief, reading, compact, numbers, mask)


def _measured(
    relief: Relief,
    reading: SurfaceReading,
    labels: NDArray[np.int32],
    numbers: NDArray[np.int64],
    mask: NDArray[np.float32],
) -> DefectTable:
    from scipy.ndimage import distance_transform_cdt

    count = len(numbers)
    values = np.where(np.isfinite(relief.values), relief.values, 0.0)
    if not count:
        none, nowhere = np.zeros(0), np.zeros((0, 2))
        pictures = np.zeros((0, 2, *PATCH), np.float32)
        return DefectTable(numbers, nowhere, none, none, none, none, none, none, numbers, pictures)
    inside = np.flatnonzero(labels)
    # Pixels in the order of their defects.
    inside = inside[np.argsort(labels.ravel()[inside], kind="stable")]
    of = labels.ravel()[inside] - 1
    pixels = np.bincount(of, minlength=count)
    weight = np.maximum(mask.ravel()[inside], 1e-3).astype(float)

    def mean(of_each: Array, weights: Array) -> Array:
        total = np.bincount(of, weights * of_each, minlength=count)
        return np.asarray(total / np.bincount(of, weights, minlength=count))

    rows, columns_of = np.divmod(inside, labels.shape[1])
    places = np.column_stack([mean(columns_of, weight), mean(rows, weight)])
    terrace = _terraces(reading.terraces.ravel()[inside], of, count)
    found, which = np.unique(terrace, return_inverse=True)
    frames = np.array([frame_of(reading, int(number)).vectors for number in found])[which]
    offset = np.column_stack([columns_of, rows]) - places[of]
    own = np.einsum("ni,nij->nj", offset, np.linalg.inv(frames)[of])
    spread = [np.sqrt(12.0 * mean(own[:, axis] ** 2, weight) + 1e-12) for axis in (0, 1)]
    here, equal = values.ravel()[inside], np.ones(len(inside))
    starts = np.concatenate([[0], np.cumsum(pixels)[:-1]])
    # Pixels from the edge, diagonally too; the Euclidean distance takes nine times as long.
    deep = distance_transform_cdt(labels > 0, "chessboard").ravel()[inside]
    core = (deep >= _CORE * np.maximum.reduceat(deep, starts)[of]).astype(float)
    around = np.maximum(_circumferences(labels, count), 1e-9)
    middle = _snapped(reading, terrace, places, frames)
    return DefectTable(
        numbers,
        places,
        mean(here, core) - relief.dimers,
        pixels / np.abs(np.linalg.det(frames)),
        np.minimum(1.0, 4.0 * np.pi * pixels / around**2),
        mean(here, equal),
        spread[0],
        spread[1],
        terrace,
        _patches(values, mask, middle, frames),
    )


def _terraces(under: Labels, of: Labels, count: int) -> NDArray[np.int64]:
    """Terrace (count,) on which most pixels of each defect lie."""
    kinds = int(under.max()) + 1
    table = np.bincount(of * kinds + under, minlength=count * kinds).reshape(count, kinds)
    return table.argmax(axis=1).astype(np.int64)


def _circumferences(labels: NDArray[np.int32], count: int) -> Array:
    """Circumference (count,) of each label in pixels, by Crofton's formula in four directions."""
    padded = np.zeros(np.add(labels.shape, 2), labels.dtype)
    padded[1:-1, 1:-1] = labels
    total = np.zeros(count + 1)
    steps = (
        (padded[:, 1:], padded[:, :-1], 1.0),
        (padded[1:], padded[:-1], 1.0),
        (padded[1:, 1:], padded[:-1, :-1], 0.5**0.5),
        (padded[1:, :-1], padded[:-1, 1:], 0.5**0.5),
    )
    for one, other, weight in steps:
        changed = one != other
        for side in (one, other):
            total += weight * np.bincount(side[changed], minlength=count + 1)
    return np.asarray(0.125 * np.pi * total[1:])


def _snapped(
    reading: SurfaceReading, terrace: NDArray[np.int64], places: Array, frames: Array
) -> Array:
    """Dimer, or middle between two dimers or two rows, that is nearest to each place (pixels)."""
    from scipy.spatial import KDTree

    snapped = places.copy()
    for number in np.unique(terrace):
        own = reading.on_lattice & (reading.site_terrace == number)
        if not own.any():
            continue
        these = np.flatnonzero(terrace == number)
        sites, frame = reading.sites[own], frames[these[0]]
        tree = KDTree(sites, balanced_tree=False, compact_nodes=False)
        near = sites[tree.query(places[these])[1]]
        index = (places[these] - near) @ np.linalg.inv(frame)
        close = np.abs(index).max(axis=1) <= _REACH
        snapped[these[close]] = (near + 0.5 * np.round(2.0 * index) @ frame)[close]
    return snapped


def _patches(
    values: Array, mask: NDArray[np.float32], middles: Array, frames: Array
) -> NDArray[np.float32]:
    """Pictures (N, 2, across, along) about places (pixels), in the frames of the lattice."""
    import torch
    from torch.nn.functional import grid_sample

    across = (np.arange(PATCH[0]) - 0.5 * (PATCH[0] - 1)) * (ACROSS / PATCH[0])
    along = (np.arange(PATCH[1]) - 0.5 * (PATCH[1] - 1)) * (ALONG_ROW / PATCH[1])
    index = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
    size = np.array(values.shape[::-1])
    # Of grid_sample: the edges of the image are at -1 and 1.
    corners = 2.0 * frames / size
    places = index.astype(np.float32) @ corners.astype(np.float32)
    places += ((2.0 * middles + 1.0) / size - 1.0).astype(np.float32)[:, None]
    grid = torch.from_numpy(places)
    layers = torch.from_numpy(np.stack([values, mask]).astype(np.float32))[None]
    seen = grid_sample(
        layers,
        grid.reshape(1, -1, PATCH[1], 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    pictures = seen.numpy().reshape(2, len(middles), *PATCH).swapaxes(0, 1)
    # Beyond the edge of the image there is nothing to be seen.
    away = np.abs(places)
    inside = np.maximum(away[..., 0], away[..., 1]) < 1.0
    pictures *= inside.reshape(-1, 1, *PATCH)
    return np.ascontiguousarray(pictures)


def average_patch(patches: ArrayLike) -> Array:
    """Averaged picture of a class: each is first flipped so that its weight lies the same way.

    The lattice is its own mirror image along and across the rows; what sits on one side of a dimer
    sits on either side as often. What sticks out comes to lie towards the end of both axes.

    Parameters
    ----------
    patches : (N, 2, ny, nx) array_like
        Pictures from `measure_defects`.

    Returns
    -------
    (2, ny, nx) array
        Zeros without a picture.
    """
    pictures = np.asarray(patches, float)
    if pictures.ndim != 4 or pictures.shape[1] != 2:
        raise ValueError(f"the pictures have shape {pictures.shape}; give (N, 2, ny, nx)")
    if not len(pictures):
        return np.zeros(pictures.shape[1:])
    middle = np.median(pictures, axis=0)
    symmetric = 0.25 * sum(np.flip(middle, axes) for axes in ((), (1,), (2,), (1, 2)))
    mean = pictures.copy()
    target = _one_sided(mean[:, 0] - symmetric[0])
    for _ in range(3):
        turns = [np.flip(pictures, axes) for axes in ((), (2,), (3,), (2, 3))]
        fit = np.stack([((turn[:, 0] - symmetric[0]) * target).sum(axis=(1, 2)) for turn in turns])
        best = fit.argmax(axis=0)
        mean = np.choose(best[:, None, None, None], turns)
        target = mean[:, 0].mean(axis=0) - symmetric[0]
    result = np.asarray(mean.mean(axis=0))
    for axis in (0, 1):
        size = result.shape[1 + axis]
        lever = np.arange(size) - 0.5 * (size - 1)
        rest = (result[0] - symmetric[0]) * result[1]
        if rest.sum(axis=1 - axis) @ lever < 0.0:
            result = np.flip(result, 1 + axis)
    return result


def _one_sided(rest: Array) -> Array:
    """The strongest of pictures (N, ny, nx): where to begin with flipping."""
    return np.asarray(rest[np.argmax((rest**2).sum(axis=(1, 2)))])
