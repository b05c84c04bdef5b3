"""What images are read with besides the default model."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.paper import PaperAtoms, PaperDefects, PaperTerraces
from bluesky_gpsts.images.registry import load_model
from bluesky_gpsts.images.terraces import level_plane

__all__ = ["PaperNetworks", "find_by_difference", "fourier_direction"]

Array = NDArray[np.float64]

_NARROW, _WIDE = 0.09e-9, 0.25e-9
_LOWEST = 0.25


@dataclass(frozen=True, eq=False)
class PaperNetworks:
    """The three networks of Ziatdinov et al., as shipped."""

    terraces: PaperTerraces = field(default_factory=lambda: load_model("paper-terraces")[0])
    atoms: PaperAtoms = field(default_factory=lambda: load_model("paper-atoms")[0])
    defects: PaperDefects = field(default_factory=lambda: load_model("paper-defects")[0])

    def read(self, image: NDArray[np.floating]) -> None:
        """Run all three, decoding included."""
        self.terraces.label(image)
        self.atoms.find(image)
        self.defects.find(image)


def find_by_difference(image: NDArray[np.floating], pixel: float) -> Array:
    """Atoms (N, 2), x and y in pixels: local maxima of a difference of two Gaussian filters.

    A parabola through each maximum and its neighbours gives the position between pixels.

    Parameters
    ----------
    image : (ny, nx) array
        Heights (m).
    pixel : float
        Size of a pixel (m).
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    flat = level_plane(image)
    relief = gaussian_filter(flat, _NARROW / pixel) - gaussian_filter(flat, _WIDE / pixel)
    usual = 1.4826 * float(np.median(np.abs(relief)))
    inner = np.zeros(relief.shape, bool)
    inner[1:-1, 1:-1] = True
    top = inner & (relief == maximum_filter(relief, 3)) & (relief > _LOWEST * usual)
    rows, columns = np.nonzero(top)
    middle = relief[rows, columns]

    def shift(before: Array, after: Array) -> Array:
        bend = before - 2.0 * middle + after
        return np.clip(np.where(bend < 0.0, 0.5 * (before - after) / bend, 0.0), -0.5, 0.5)

    return np.column_stack(
        [
            columns + shift(relief[rows, columns - 1], relief[rows, columns + 1]),
            rows + shift(relief[rows - 1, columns], relief[rows + 1, columns]),
        ]
    )


def fourier_direction(image: NDArray[np.floating], pixel: float) -> float:
    """Direction of the rows (rad) by the Fourier transform: the shorter lattice vector's.

    Parameters
    ----------
    image : (ny, nx) array
        Heights (m).
    pixel : float
        Size of a pixel (m).

    Raises
    ------
    ValueError
        If the image has no two periods.
    """
    from bluesky_gpsts.images.lattice import lattice_from_image

    flat = level_plane(image)
    low, high = np.percentile(flat, (2.0, 98.0))
    ny, nx = flat.shape
    vectors = lattice_from_image(np.clip(flat, low, high), nx * pixel, ny * pixel)
    x, y = min(vectors, key=lambda vector: float(np.hypot(*vector)))
    return float(np.arctan2(y, x) % np.pi)
