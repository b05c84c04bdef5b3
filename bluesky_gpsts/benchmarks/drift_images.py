"""Pairs of simulated images whose drift is known exactly: surfaces given as formulas.

Nothing is interpolated: a surface is evaluated at the shifted positions, so that the truth holds
to rounding. Lengths are in pixels, heights in units of the spread of the surface's own relief.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["DRIFT", "SIDE", "SURFACES", "Pair", "Surface", "draw_pair", "draw_surface"]

FloatArray = npt.NDArray[np.float64]

SIDE = 256
"""Pixels along a side."""

DRIFT = 10.0
"""Largest drift (pixels)."""

SURFACES = ("adsorbates", "terraces", "herringbone", "lattice with defects", "bare lattice")
"""Surfaces that can be drawn."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A relief as a sum of spots, waves, steps and ridges.

    Parameters
    ----------
    spots : (n, 4) array
        Position x, y, width (sigma) and height of Gaussian spots.
    waves : (m, 4) array
        Wave vector kx, ky (rad per pixel), phase and amplitude of cosines.
    steps : (k, 4) array
        Direction of the normal (rad), distance from the centre, width, height.
    ridges : (j, 4) array
        Direction of the normal (rad), period, phase, height of bent double ridges.
    side : int
        Pixels along a side.
    scale : float
        What the sum is divided by.
    """

    spots: FloatArray
    waves: FloatArray
    steps: FloatArray
    ridges: FloatArray
    side: int
    scale: float = 1.0

    def heights(self, dx: float = 0.0, dy: float = 0.0) -> FloatArray:
        """Relief (side, side) after it has moved by (dx, dy) pixels to larger x and y."""
        x = np.arange(self.side) - dx
        y = np.arange(self.side) - dy
        total = np.zeros((self.side, self.side))
        for cx, cy, width, height in self.spots:
            across = np.exp(-0.5 * ((x - cx) / width) ** 2)
            up = np.exp(-0.5 * ((y - cy) / width) ** 2)
            total += height * np.outer(up, across)
        for kx, ky, phase, amplitude in self.waves:
            # The real part of a product of two vectors is cheaper than a plane of cosines.
            wave = np.outer(np.exp(1j * (ky * y + phase)), np.exp(1j * kx * x))
            total += amplitude * wave.real
        middle = 0.5 * self.side
        for angle, distance, width, height in self.steps:
            along = (x - middle)[None, :] * np.cos(angle) + (y - middle)[:, None] * np.sin(angle)
            bent = 4.0 * np.sin(
                ((y - middle)[:, None] * np.cos(angle) - (x - middle)[None, :] * np.sin(angle)) / 19
            )
            total += height * 0.5 * (1.0 + np.tanh((along + bent - distance) / width))
        for angle, period, phase, height in self.ridges:
            along = (x - middle)[None, :] * np.cos(angle) + (y - middle)[:, None] * np.sin(angle)
            turned = (y - middle)[:, None] * np.cos(angle) - (x - middle)[None, :] * np.sin(angle)
            bent = along + 9.0 * np.abs((turned / 90.0 + phase) % 2.0 - 1.0)
            place = (bent / period + phase) % 1.0
            for centre in (0.33, 0.67):
                total += height * np.exp(-0.5 * ((place - centre) / 0.06) ** 2)
        return np.asarray(total / self.scale)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and the drift between them.

    Parameters
    ----------
    reference, image : (ny, nx) array
        The images, with noise, tilt and line jumps.
    dx, dy : float
        Where the surface went (pixels); NaN where the images show unrelated surfaces.
    """

    reference: FloatArray
    image: FloatArray
    dx: float
    dy: float


def draw_surface(name: str, seed: int, side: int = SIDE) -> Surface:
    """Draw a surface.

    Parameters
    ----------
    name : str
        One of `SURFACES`, or "featureless".
    seed : int
        Seed.
    side : int
        Pixels along a side.

    Returns
    -------
    Surface
        With a relief of standard deviation 1 in the frame (0 where featureless).

    Raises
    ------
    ValueError
        If there is no such surface.
    """
    rng = np.random.default_rng([seed, 71])
    none = np.zeros((0, 4))
    spots, waves, steps, ridges = none, none, none, none
    turn = rng.uniform(0.0, np.pi)
    if name == "adsorbates":
        spots = _spots(rng, side, int(rng.integers(20, 40)), (2.5, 6.0))
        waves = _lattice(rng, turn, rng.uniform(8.0, 12.0), 0.2)
    elif name == "terraces":
        spots = _spots(rng, side, int(rng.integers(20, 40)), (2.5, 5.0))
        waves = _lattice(rng, turn + 0.3, rng.uniform(8.0, 12.0), 0.2)
        steps = np.array([(turn, rng.uniform(-40.0, 40.0), 2.0, 1.0)])
    elif name == "herringbone":
        ridges = np.array([(turn, rng.uniform(36.0, 48.0), rng.uniform(), 1.0)])
        spots = _spots(rng, side, 2, (3.0, 5.0))
    elif name == "lattice with defects":
        waves = _lattice(rng, turn, rng.uniform(10.0, 16.0), 1.0)
        spots = _spots(rng, side, int(rng.integers(3, 6)), (4.0, 6.0)) * (1, 1, 1, 2.5)
    elif name == "bare lattice":
        waves = _lattice(rng, turn, rng.uniform(10.0, 16.0), 1.0)
    elif name != "featureless":
        known = ", ".join((*SURFACES, "featureless"))
        raise ValueError(f"no surface {name!r}; choose from {known}")
    surface = Surface(spots, waves, steps, ridges, side)
    spread = float(surface.heights().std())
    return Surface(spots, waves, steps, ridges, side, spread if spread > 0.0 else 1.0)


def draw_pair(
    name: str,
    seed: int,
    snr: float,
    *,
    tilt: bool = True,
    tip_change: bool = False,
    unrelated: bool = False,
    side: int = SIDE,
) -> Pair:
    """Draw a reference and an image after a drift of 0 to 10 pixels in any direction.

    Parameters
    ----------
    name : str
        The surface; see `draw_surface`.
    seed : int
        Seed of surface, drift and all disturbances.
    snr : float
        Standard deviation of the relief over that of the white noise of each image.
    tilt : bool
        Add a tilt of up to 20 across the frame, another one in each image, and line jumps: an
        offset of standard deviation 0.5 in every line and of 3 in one line of twenty.
    tip_change : bool
        From a random line in the middle half of the image on, the tip has a second apex: the
        image is 0.5 to 0.8 of itself plus the rest seen 2 to 6 pixels away, at another height.
    unrelated : bool
        The image shows another place.
    side : int
        Pixels along a side.

    Returns
    -------
    Pair
        The images.

    Raises
    ------
    ValueError
        If there is no such surface, or the SNR is not above 0.
    """
    if not snr > 0.0:
        raise ValueError(f"the signal-to-noise ratio is {snr}; give one above 0")
    surface = draw_surface(name, seed, side)
    rng = np.random.default_rng([seed, 72])
    size, direction = rng.uniform(0.0, DRIFT), rng.uniform(0.0, 2.0 * np.pi)
    dx, dy = float(size * np.cos(direction)), float(size * np.sin(direction))
    reference = surface.heights()
    image = (draw_surface(name, seed + 10**6, side) if unrelated else surface).heights(dx, dy)
    if tip_change:
        begin = int(rng.integers(side // 4, side - side // 4))
        share, far = rng.uniform(0.5, 0.8), rng.uniform(2.0, 6.0)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        ghost = surface.heights(dx + far * np.cos(angle), dy + far * np.sin(angle))
        image[begin:] = share * image[begin:] + (1.0 - share) * ghost[begin:] + rng.normal()
    both = []
    for heights in (reference, image):
        heights = heights + rng.normal(size=heights.shape) / snr
        if tilt:
            slope = rng.uniform(-10.0, 10.0, size=2)
            axis = np.arange(side) / side - 0.5
            heights = heights + slope[0] * axis + slope[1] * axis[:, None]
            jumps = 0.5 * rng.normal(size=side)
            jumps += np.where(rng.uniform(size=side) < 0.05, 3.0 * rng.normal(size=side), 0.0)
            heights = heights + jumps[:, None]
        both.append(heights)
    nowhere = unrelated or name == "featureless"
    return Pair(both[0], both[1], float("nan") if nowhere else dx, float("nan") if nowhere else dy)


def _spots(
    rng: np.random.Generator, side: int, count: int, widths: tuple[float, float]
) -> FloatArray:
    """Spots about as high as each other, three of ten of them pits, some beyond the edge."""
    place = rng.uniform(-0.1 * side, 1.1 * side, size=(count, 2))
    width = rng.uniform(*widths, size=count)
    height = rng.uniform(0.6, 1.4, size=count) * np.where(rng.uniform(size=count) < 0.3, -1, 1)
    return np.column_stack([place, width, height])


def _lattice(rng: np.random.Generator, turn: float, period: float, amplitude: float) -> FloatArray:
    """Three waves of a hexagonal lattice."""
    k = 2.0 * np.pi / period
    phases = rng.uniform(0.0, 2.0 * np.pi, size=3)
    angles = turn + np.arange(3) * np.pi / 3.0
    return np.column_stack([k * np.cos(angles), k * np.sin(angles), phases, np.full(3, amplitude)])
