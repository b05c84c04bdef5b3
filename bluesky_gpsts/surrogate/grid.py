"""The candidate grid: the pixels of a scan frame at which a spectrum may be taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_FLOATS = ("center_x", "center_y", "width", "height", "angle")
_INTEGERS = ("nx", "ny")


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a scan frame, in the order in which candidates are numbered.

    The candidate index runs along x first; row 0 is the bottom row of the unrotated frame, as in
    the Nanonis grid format.

    Attributes
    ----------
    center_x, center_y : float
        Centre of the frame in sample coordinates, in metres.
    width, height : float
        Size of the frame along its own axes, in metres.
    angle : float
        Rotation of the frame in degrees; positive is clockwise, as on a Nanonis controller.
    nx, ny : int
        Number of pixels along the frame's own axes.

    Raises
    ------
    ValueError
        If a number is not finite, or a size or a pixel count is not positive.
    """

    center_x: float
    center_y: float
    width: float
    height: float
    angle: float = 0.0
    nx: int = 128
    ny: int = 128

    def __post_init__(self) -> None:
        for name in _FLOATS:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"Grid {name} is {getattr(self, name)!r}; give a finite number.")
        for name in ("width", "height"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"Grid {name} is {getattr(self, name)!r} m; give a size above zero in metres."
                )
        for name in _INTEGERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"Grid {name} is {value!r}; give a whole number of at least 1.")

    @property
    def size(self) -> int:
        """Number of candidates, ``nx * ny``."""
        return self.nx * self.ny

    @cached_property
    def uv(self) -> FloatArray:
        """Pixel centres in the frame's own axes, from its centre: shape (M, 2), metres."""
        u = ((np.arange(self.nx) + 0.5) / self.nx - 0.5) * self.width
        v = ((np.arange(self.ny) + 0.5) / self.ny - 0.5) * self.height
        vv, uu = np.meshgrid(v, u, indexing="ij")
        return _read_only(np.column_stack([uu.ravel(), vv.ravel()]))

    @cached_property
    def xy(self) -> FloatArray:
        """Pixel centres in sample coordinates: shape (M, 2), metres."""
        return _read_only(self.to_sample(self.uv))

    @cached_property
    def unit(self) -> FloatArray:
        """Pixel centres in fractions of the frame, -0.5 to 0.5: shape (M, 2), no unit."""
        return _read_only(self.uv / (self.width, self.height))

    def to_sample(self, uv: npt.ArrayLike) -> FloatArray:
        """Rotate and shift frame coordinates into sample coordinates.

        Parameters
        ----------
        uv : array_like, shape (N, 2)
            Positions along the frame's own axes, from its centre, in metres.

        Returns
        -------
        ndarray, shape (N, 2)
            Positions x, y in metres.
        """
        u, v = np.asarray(uv, dtype=float).T
        cos, sin = self._rotation()
        return np.column_stack(
            [self.center_x + u * cos + v * sin, self.center_y - u * sin + v * cos]
        )

    def to_frame(self, xy: npt.ArrayLike) -> FloatArray:
        """Undo `to_sample`.

        Parameters
        ----------
        xy : array_like, shape (N, 2)
            Positions in sample coordinates, in metres.

        Returns
        -------
        ndarray, shape (N, 2)
            Positions u, v along the frame's own axes, from its centre, in metres.
        """
        x, y = (np.asarray(xy, dtype=float) - (self.center_x, self.center_y)).T
        cos, sin = self._rotation()
        return np.column_stack([x * cos - y * sin, x * sin + y * cos])

    def to_unit(self, xy: npt.ArrayLike) -> FloatArray:
        """Express sample coordinates in fractions of the frame, 0 at its centre: shape (N, 2)."""
        return self.to_frame(xy) / (self.width, self.height)

    def index_of(self, x: float, y: float, margin: float = 0.0) -> int:
        """Find the candidate nearest to a position.

        Parameters
        ----------
        x, y : float
            Position in sample coordinates, in metres.
        margin : float
            How far outside the frame the position may lie, as a fraction of the frame's size.

        Returns
        -------
        int
            Index of the candidate, 0 to ``size - 1``.

        Raises
        ------
        ValueError
            If the position is not finite or lies outside the frame by more than the margin.
        """
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"Position ({x!r}, {y!r}) m is not finite; give numbers in metres.")
        fu, fv = self.to_unit([(x, y)])[0]
        # A point on the border must count as inside after a rotation and its rounding.
        limit = 0.5 + margin + 1e-9
        if abs(fu) > limit or abs(fv) > limit:
            raise ValueError(
                f"Position ({x:g}, {y:g}) m is outside the frame of {self.width:g} x "
                f"{self.height:g} m at ({self.center_x:g}, {self.center_y:g}) m, turned by "
                f"{self.angle:g} degrees; give a position inside it."
            )
        return int(self.nearest(np.array([(fu, fv)]))[0])

    def nearest(self, unit: FloatArray) -> npt.NDArray[np.int64]:
        """Index of the candidate nearest to each position.

        Parameters
        ----------
        unit : ndarray, shape (N, 2)
            Positions as of `to_unit`, fractions of the frame; outside it the border counts.

        Returns
        -------
        ndarray of int, shape (N,)
            Indices.
        """
        place = (unit + 0.5) * (self.nx, self.ny)
        # Positions are far from the limits of an integer, and below zero counts as zero.
        cells = np.minimum(np.maximum(place, 0.0).astype(np.int64), (self.nx - 1, self.ny - 1))
        nearest: npt.NDArray[np.int64] = cells[:, 1] * self.nx + cells[:, 0]
        return nearest

    def as_map(self, values: npt.ArrayLike) -> FloatArray:
        """Arrange one value per candidate as an image.

        Parameters
        ----------
        values : array_like, shape (M,)
            One value per candidate, any unit.

        Returns
        -------
        ndarray, shape (ny, nx)
            The values; row 0 is the bottom row (plot with ``origin="lower"``).

        Raises
        ------
        ValueError
            If there are not exactly M values.
        """
        array = np.asarray(values, dtype=float)
        if array.shape != (self.size,):
            raise ValueError(
                f"A map of this grid needs {self.size} values in one dimension, not an array of "
                f"shape {array.shape}."
            )
        return array.reshape(self.ny, self.nx)

    def to_metadata(self) -> dict[str, float | int]:
        """Return the grid as a plain dict of numbers that fits into a document or JSON."""
        floats: dict[str, float | int] = {name: float(getattr(self, name)) for name in _FLOATS}
        return floats | {name: int(getattr(self, name)) for name in _INTEGERS}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Grid":
        """Rebuild a grid from `to_metadata`.

        Parameters
        ----------
        metadata : mapping
            Has every field of the grid; other keys are ignored.

        Raises
        ------
        ValueError
            If a field is missing or is not a valid number.
        """
        missing = [name for name in _FLOATS + _INTEGERS if name not in metadata]
        if missing:
            raise ValueError(
                f"Grid metadata lacks {', '.join(missing)}; it has {sorted(metadata)}. "
                "Use the dict that Grid.to_metadata returns."
            )
        try:
            floats = {name: float(metadata[name]) for name in _FLOATS}
            counts = {name: int(metadata[name]) for name in _INTEGERS}
        except (TypeError, ValueError) as error:
            raise ValueError(f"Grid metadata holds a value that is no number: {error}.") from error
        return cls(**floats, nx=counts["nx"], ny=counts["ny"])

    def _rotation(self) -> tuple[float, float]:
        radians = math.radians(self.angle)
        return math.cos(radians), math.sin(radians)


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array
