"""What a map to benchmark on consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.surrogate import Grid

FloatArray = npt.NDArray[np.float64]
Vectors = tuple[tuple[float, float], tuple[float, float]]

PIXEL = 1.0 / 128.0
"""A pixel of the survey image, as a fraction of the frame."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A map without noise, and what the survey image tells about it before any spectrum.

    Attributes
    ----------
    name : str
        Name of the case.
    seed : int
        What it was made from.
    grid : Grid
        The candidates.
    values : ndarray, shape (ny, nx)
        The outcome at each candidate, row 0 at the bottom, any unit.
    image : ndarray, shape (ny, nx), or None
        Survey image on the same pixels, any unit.
    symmetry : str, optional
        Point group of the defect, such as "C3".
    center : tuple of float, optional
        The defect as the survey image shows it (m, sample coordinates), with an error of up to
        2 pixels of a survey image of 128 pixels along either axis.
    vectors : pair of pairs of float, optional
        Lattice vectors (m) as from the survey image's Fourier transform, wrong by 1 % in length
        and 0.6 degrees in direction (standard deviations).
    libraries : mapping of str to ndarray (K, ny, nx)
        Maps of other defects: "right" holds the class of this one, "wrong" does not.
    """

    name: str
    seed: int
    grid: Grid
    values: FloatArray
    image: FloatArray | None = None
    symmetry: str | None = None
    center: tuple[float, float] | None = None
    vectors: Vectors | None = None
    libraries: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a map that cannot be a truth."""
        shape = (self.grid.ny, self.grid.nx)
        if self.values.shape != shape:
            raise ValueError(f"{self.name}: the map has shape {self.values.shape}, not {shape}")
        if not np.isfinite(self.values).all() or np.ptp(self.values) == 0:
            raise ValueError(f"{self.name}: the map must be finite and not constant")
        if self.image is not None and self.image.shape != shape:
            raise ValueError(f"{self.name}: the image has shape {self.image.shape}, not {shape}")

    @property
    def span(self) -> float:
        """Range of the map, in its unit."""
        return float(np.ptp(self.values))
