"""An image of a surface with the truth about it: what networks learn from and are judged by.

Positions are in pixels: x is the column and y the row, and (0, 0) is the middle of the first
pixel of the first row. Angles are from +x towards +y, that is clockwise on a screen that shows
the first row at the top.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DrawnDefect", "DrawnImage"]

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnDefect:
    """A defect in an image.

    Attributes
    ----------
    kind : str
        One of `bluesky_gpsts.physics.hsi100.KINDS`.
    x, y : float
        Column and row of its middle (pixels).
    sites : tuple of int
        Indices into `DrawnImage.sites` of the sites that it occupies or hides; sites beyond the
        image's edge are left out.
    """

    kind: str
    x: float
    y: float
    sites: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DrawnImage:
    """A constant-current image, and what there is to be found in it.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Heights (m) as measured: with tilt, line noise, drift and all.
    pixel : float
        Size of a pixel (m), in x and in y.
    sites : (n, 2) array
        Column and row (pixels) of every dimer site in the frame, vacant or not.
    occupied : (n,) bool array
        Whether a dimer is there to be seen: the truth for atoms. A dihydride, and a dimer with a
        dangling bond, count; a missing dimer does not, nor does one under a contaminant or in a
        region that is not resolved.
    site_terrace : (n,) int array
        Label of each site's terrace.
    terrace : (ny, nx) int array
        Label of the terrace, from 1 on; every pixel has one.
    steps : (ny, nx) bool array
        Pixels of the step edges: a band of about 0.8 nm.
    rows : (terraces,) array
        Direction of the dimer rows of the terrace of label i + 1 (rad), in [0, pi).
    defects : tuple of DrawnDefect
        The defects with a pixel in the image.
    defect_map : (ny, nx) int array
        0, or 1 + the index into `defects`.
    snr : float
        0.33 times the corrugation (m, peak to valley, of the clean lattice under this tip),
        divided by the standard deviation of the white noise (m).
    ruined : str
        Empty, or why the image is not worth reading: one of
        `bluesky_gpsts.images.simulate.RUINED`.
    blunt : bool
        Whether the tip shows the rows, but not the dimers in them.
    """

    image: FloatArray
    pixel: float
    sites: FloatArray
    occupied: BoolArray
    site_terrace: IntArray
    terrace: IntArray
    steps: BoolArray
    rows: FloatArray
    defects: tuple[DrawnDefect, ...]
    defect_map: IntArray
    snr: float
    ruined: str
    blunt: bool = False
