"""Physics of scanning tunnelling microscopy, arrays in and arrays out, SI units, seeded.

One source for the simulated microscope, for training data and for prior libraries:

* surfaces: `SURFACES` and `build_surface`; `ws2`, `au111`, `hsi100`; the protocol `Surface`;
* tunnelling: `Junction` (current, dI/dV, lock-in signal, feedback), `window_sum`, `Tip`;
* tips that change: `treat`, `worn_tip`, `faults`, `quality`;
* the rest of a microscope: `Preamplifier`, `demodulate`, `HeightNoise`, `Drift`, `creep`.

Energies are in eV relative to the sample's Fermi level; the bias is applied to the sample.
"""

from collections.abc import Callable

from . import au111, hsi100_build, ws2
from .barrier import decay
from .drift import REPORTED_DRIFT, Drift, creep, random_drift
from .merit import window_sum
from .noise import HeightNoise, Preamplifier, demodulate
from .surface import Metal, Surface
from .tip import Tip, random_tip, sharp
from .tiplife import Treatment, faults, quality, treat, worn_tip
from .tunnelling import REFERENCE_CURRENT, REFERENCE_GAP, Junction

SURFACES: dict[str, Callable[[int], Surface]] = {
    "ws2": ws2.build,
    "au111": au111.build,
    "hsi100": hsi100_build.build,
}
"""Builders of surfaces by name; each takes a seed."""


def build_surface(name: str, seed: int) -> Surface:
    """Build a surface by name.

    Parameters
    ----------
    name : str
        A key of SURFACES.
    seed : int
        Seed, 0 or above; the same seed gives the same surface.

    Returns
    -------
    Surface

    Raises
    ------
    ValueError
        If the name is unknown or the seed negative.
    """
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; known surfaces: {', '.join(sorted(SURFACES))}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give a whole number of 0 or above")
    return SURFACES[name](seed)


__all__ = [
    "REFERENCE_CURRENT",
    "REFERENCE_GAP",
    "REPORTED_DRIFT",
    "SURFACES",
    "Drift",
    "HeightNoise",
    "Junction",
    "Metal",
    "Preamplifier",
    "Surface",
    "Tip",
    "Treatment",
    "build_surface",
    "creep",
    "decay",
    "demodulate",
    "faults",
    "quality",
    "random_drift",
    "random_tip",
    "sharp",
    "treat",
    "window_sum",
    "worn_tip",
]
