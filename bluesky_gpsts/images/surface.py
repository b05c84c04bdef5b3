"""What is read of an image of H-Si(100)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.quality import Verdict
from bluesky_gpsts.images.rowlattice import ALONG, ROWS

__all__ = ["Defect", "SurfaceReading", "Terrace", "refused"]

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

_ALONG_LINES = np.radians(3.0)
_AGREE, _DISTORTED = 0.03, 0.05
"""Drift may make a lattice so much larger or smaller, and longer against its width (relative)."""


@dataclass(frozen=True, eq=False)
class Terrace:
    """A terrace and its lattice.

    Attributes
    ----------
    number : int
        Its number in `SurfaceReading.terraces`.
    area : float
        Area (m^2).
    vectors : (2, 2) array or None
        From dimer to dimer along a row, and from row to row; x and y (m), x along the lines of
        the image and y from its first line to its last. None where no lattice was found. Where the
        dimers are not resolved, the first is half the distance of the rows, along them.
    origin : (2,) array
        A site (pixels, x and y) in the middle of the terrace: with the vectors, where the rows are.
    direction : float
        Direction of the rows (rad), from +x towards +y, 0 to pi; NaN without a lattice.
    direction_error : float
        Standard error of it (rad); NaN without a lattice. Rows of terraces are at right angles to
        each other, and one that is not to the others is as uncertain as it is off.
    coherence : float
        1 if all peaks lie on the lattice, 0 if they lie anywhere.
    """

    number: int
    area: float
    vectors: Array | None
    origin: Array
    direction: float
    direction_error: float
    coherence: float


@dataclass(frozen=True)
class Defect:
    """A defect: a connected part of the mask.

    Attributes
    ----------
    number : int
        Its number in `SurfaceReading.defect_labels`.
    x, y : float
        Centre of mass (pixels).
    probability : float
        Highest probability of a defect in it.
    area : float
        Area (m^2).
    terrace : int
        Number of the terrace under its centre.
    """

    number: int
    x: float
    y: float
    probability: float
    area: float
    terrace: int


@dataclass(frozen=True, eq=False)
class SurfaceReading:
    """What was read of an image; nothing but the verdict if it was refused.

    Positions are in pixels, x the column and y the row, 0 the middle of the first pixel; times
    `pixel` they are metres.

    Attributes
    ----------
    verdict : Verdict
        Whether the image can be read, and why not.
    pixel : (float, float)
        Width and height (m) of a pixel, as given or as found.
    sites : (N, 2) array
        Every site of the lattice, with an atom (a dimer that is there to be seen) or vacant. Where
        the dimers are not resolved, these are places on the rows, arbitrary along them.
    occupied : (N,) array of bool
        Whether an atom is there.
    confidence : (N,) array
        Probability, from 0 to 1, that an atom is there, within 0.15 nm: mean of an ensemble that
        was taught on drawn images. Where the dimers are not resolved, how much a row is there.
    doubt : (N,) array
        Standard deviation of the members of the ensemble; 0 where the dimers are not resolved.
    site_terrace : (N,) array of int
        Number of the terrace.
    on_lattice : (N,) array of bool
        Whether the position is that of a lattice, not of a single peak.
    terraces : (ny, nx) array of int
        Number of the terrace of each pixel, from 1 on; 0 beyond an unfinished scan.
    terrace_list : tuple of Terrace
        The terraces in this order.
    steps : (ny, nx) array of bool
        Pixels of step edges.
    defect_probability : (ny, nx) array of float32
        Probability of a defect.
    defect_labels : (ny, nx) array of int
        0, or the number of the defect of each pixel.
    defects : tuple of Defect
        The defects in this order.
    resolved : bool
        Whether the dimers are resolved. If not, rows, terraces, steps and defects are known, but
        no atoms and no vacancies. False for an image that was refused.
    """

    verdict: Verdict
    pixel: tuple[float, float]
    sites: Array
    occupied: NDArray[np.bool_]
    confidence: Array
    doubt: Array
    site_terrace: Labels
    on_lattice: NDArray[np.bool_]
    terraces: Labels
    terrace_list: tuple[Terrace, ...]
    steps: NDArray[np.bool_]
    defect_probability: NDArray[np.float32]
    defect_labels: Labels
    defects: tuple[Defect, ...]
    resolved: bool

    @property
    def atoms(self) -> Array:
        """Positions (N, 2) of the atoms, pixels; none where dimers are not resolved."""
        return np.asarray(self.sites[self.occupied & self.resolved])

    @property
    def atom_confidence(self) -> Array:
        """Probability (N,) of each of `atoms`."""
        return np.asarray(self.confidence[self.occupied & self.resolved])

    @property
    def scale(self) -> float:
        """By how much the lattices found are larger than that of H-Si(100); NaN without one."""
        return float(np.sqrt(np.prod(self._cell() / (ALONG, ROWS))))

    def _cell(self) -> Array:
        """Length and width (m) of the cell, mean of the terraces (geometric); NaN without one."""
        known = [(t.area, t.vectors) for t in self.terrace_list if t.vectors is not None]
        if not known:
            return np.full(2, np.nan)
        areas, vectors = zip(*known, strict=True)
        lengths = np.linalg.norm(vectors, axis=2)
        return np.asarray(np.exp(np.average(np.log(lengths), axis=0, weights=areas)))

    @property
    def remark(self) -> str:
        """What to know of an image that was read: where its lattice contradicts what is known."""
        if not self.terrace_list:
            return ""
        return "; ".join(filter(None, (self._size_remark(), self._shape_remark())))

    def _shape_remark(self) -> str:
        if not self.resolved:
            advice = "" if self._size_remark() else f"; {self._sharper}"
            return (
                "the rows are resolved, the dimers in them are not: there are no atoms and no "
                "sites for patterns, defects are named by less, and whether the axes of the "
                f"scanner are calibrated alike cannot be seen{advice}"
            )
        along, across = self._cell()
        if not abs(np.log(across / along / (ROWS / ALONG))) >= _DISTORTED:
            return ""
        return (
            f"the cell is {1e9 * along:.3f} x {1e9 * across:.3f} nm, and not one to two: the image "
            "is distorted, by drift or because the axes of the scanner are not calibrated alike"
        )

    @property
    def _sharper(self) -> str:
        """What may resolve the dimers."""
        across = (abs(np.cos(t.direction)) for t in self.terrace_list if t.vectors is not None)
        if any(part < np.sin(_ALONG_LINES) for part in across):
            return (
                "dimers that lie along the lines of the scan hide in their offsets: turn the scan "
                "by some degrees, or take a sharper tip"
            )
        return "take a sharper tip"

    def _size_remark(self) -> str:
        scale = self.scale
        if not abs(scale - 1.0) > _AGREE:
            return ""
        given, right = (
            " x ".join(f"{1e9 * size / f:.4g}" for size in dict.fromkeys(self.pixel))
            for f in (1.0, scale)
        )
        off, way = 100.0 * abs(scale - 1.0), "large" if scale > 1.0 else "small"
        return (
            f"the pixel size is given as {given} nm, and the lattice says {right} nm: all lengths "
            f"are {off:.0f} % too {way}; give that size, or calibrate the scanner"
        )

    @property
    def vacancies(self) -> Array:
        """Positions (N, 2) of the vacant sites, pixels; none where dimers are not resolved."""
        return np.asarray(self.sites[~self.occupied & self.on_lattice & self.resolved])


def refused(shape: tuple[int, ...], pixel: tuple[float, float], reason: str) -> SurfaceReading:
    """Reading of an image (shape: rows, columns) that cannot be read, and why not."""
    nothing = np.zeros(0)
    return SurfaceReading(
        Verdict(False, 0.0, reason),
        pixel,
        np.zeros((0, 2)),
        nothing.astype(bool),
        nothing,
        nothing,
        nothing.astype(np.int32),
        nothing.astype(bool),
        np.zeros(shape, np.int32),
        (),
        np.zeros(shape, bool),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.int32),
        (),
        False,
    )
