"""Kinds of spectra: where on a surface each is found, and a surface for kinds made of a formula."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bluesky_gpsts.physics import Surface
from bluesky_gpsts.physics.au111 import HCP_SHARE, PERIOD, Au111, Impurity
from bluesky_gpsts.physics.shapes import peak
from bluesky_gpsts.physics.ws2 import WS2, Defect
from bluesky_gpsts.spectra.types import Array

__all__ = [
    "APART",
    "CLASSES",
    "FORMULAS",
    "KINDS",
    "RANGES",
    "UNKNOWN",
    "Density",
    "Kind",
    "Patches",
    "place",
    "surface_of",
]

CLASSES = ("Au fcc", "Au hcp", "V_S", "WS2")
"""The four classes of Thomas et al., npj Comput. Mater. 8, 99 (2022)."""

UNKNOWN = ("CrW", "CH", "O_S", "Au impurity", "Au step", "molecule", "crashed tip")
"""Kinds that no shipped classifier has seen: what a novelty score is judged by."""

RANGES = {"au111": (1.0, -1.0), "ws2": (1.4, -1.8)}
"""First and last bias (V) of a sweep on each surface, as in the paper."""

Density = Callable[[Array], Array]
"""Density of states (m,) at energies (m,) in eV; positive, 1 is the step of a band."""

APART = 12e-9
"""Distance (m) between patches, and between the defects."""

_IMPURITY, _STEP = (60e-9, 0.0), 30e-9
_DEFECTS = {
    "V_S": "sulfur_vacancy",
    "O_S": "oxygen_substitution",
    "CH": "ch_substitution",
    "CrW": "tungsten_site",
}


@dataclass(frozen=True)
class Kind:
    """A kind of spectrum.

    Parameters
    ----------
    name : str
        Its label.
    surface : str
        Key of RANGES: what it is found on.
    """

    name: str
    surface: str


KINDS = {
    name: Kind(name, "au111" if "Au" in name or name in ("molecule", "crashed tip") else "ws2")
    for name in CLASSES + UNKNOWN
}


@dataclass(frozen=True)
class Patches:
    """A plane in patches 12 nm wide along x, each with a density of states of its own.

    It is a `bluesky_gpsts.physics.Surface`: kinds that are a formula go through the same tip,
    barrier and lock-in as the others.

    Parameters
    ----------
    densities : tuple of Density
        Density of states of each patch; patch k is centred at x = 12 nm k.
    bias_limits : (float, float)
        Lowest and highest bias (V).
    """

    densities: tuple[Density, ...]
    bias_limits: tuple[float, float] = (-2.5, 2.5)
    name: str = "patches"
    work_function: float = 5.0
    sweep: tuple[float, float] = (1.0, -1.0)
    window: tuple[float, float] = (-0.5, 0.5)
    imaging: tuple[float, float] = (1.0, 30e-12)

    @property
    def clean(self) -> Array:
        """Amplitudes (K,) of an average over the patches."""
        return np.full(len(self.densities), 1.0 / len(self.densities))

    def components(self, x: Array, y: Array, blur: float = 0.0) -> Array:
        """Amplitudes (n, K) at positions (n,) in m: 1 for the patch, 0 for all others."""
        patch = np.clip(np.round(np.asarray(x) / APART), 0, len(self.densities) - 1)
        return (patch[:, None] == np.arange(len(self.densities))).astype(float)

    def spectra(self, energy: Array) -> Array:
        """Densities of states (K, m) at energies (m,) in eV, at least 1e-4."""
        return np.maximum([density(energy) for density in self.densities], 1e-4)

    def height(self, x: Array, y: Array, blur: float = 0.0) -> Array:
        """Height (n,) in m: flat."""
        return np.zeros(np.shape(x))


def place(kind: str, count: int, spread: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Positions where spectra of a kind are taken, on the surface from `surface_of`.

    Parameters
    ----------
    kind : str
        Key of KINDS, but those in FORMULAS.
    count : int
        How many.
    spread : float
        How far from the middle of the feature: 0 on it, 1 as in a session, more is harder.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    x, y : (count,) arrays
        Positions (m).
    """
    radius, turn = np.sqrt(rng.random(count)), rng.uniform(0.0, 2.0 * np.pi, count)
    if kind in ("Au fcc", "Au hcp"):
        share = HCP_SHARE if kind == "Au hcp" else 1.0 - HCP_SHARE
        half = np.minimum(0.20 + 0.17 * spread, 0.46) * share * PERIOD
        middle = 0.0 if kind == "Au hcp" else 0.5 * PERIOD
        return middle + half * rng.uniform(-1.0, 1.0, count), rng.uniform(-2e-9, 2e-9, count)
    if kind == "Au impurity":
        return _IMPURITY[0] + 0.2e-9 * radius * np.cos(turn), 0.2e-9 * radius * np.sin(turn)
    if kind == "Au step":
        return _STEP + rng.uniform(-0.25e-9, 0.25e-9, count), rng.uniform(-2e-9, 2e-9, count)
    if kind == "WS2":
        return rng.uniform(-4e-9, 4e-9, count), rng.uniform(6e-9, 10e-9, count)
    # A vacancy's states reach further than what the other defects do to the bands.
    reach = (0.25e-9 + 0.25e-9 * spread) if kind == "V_S" else 0.12e-9
    middle = APART * list(_DEFECTS).index(kind)
    return middle + reach * radius * np.cos(turn), reach * radius * np.sin(turn)


def surface_of(kinds: tuple[str, ...], rng: np.random.Generator) -> Surface:
    """Surface on which `place` finds the kinds, all of one name in RANGES.

    Parameters
    ----------
    kinds : tuple of str
        Keys of KINDS that physics models.
    rng : numpy.random.Generator
        Source of the defects' orientation and lobes.

    Returns
    -------
    Surface
    """
    if KINDS[kinds[0]].surface == "au111":
        spot = Impurity(*_IMPURITY, radius=float(rng.uniform(0.3e-9, 0.45e-9)))
        return Au111(bend=0.0, step_distance=_STEP, impurities=(spot,))
    angle = float(rng.uniform(0.0, 2.0 * np.pi))
    defects = []
    for index, kind in enumerate(_DEFECTS.values()):
        lobes = 1.0 + rng.uniform(-0.15, 0.15, 3)
        balance = (float(lobes[0]), float(lobes[1]), float(lobes[2]))
        defects.append(
            Defect(kind, APART * index, 0.0, angle, float(rng.uniform(0.9, 1.1)), balance)
        )
    return WS2(angle=angle, defects=tuple(defects))


def molecule(rng: np.random.Generator) -> Density:
    """Draw a molecule on a metal: an occupied and an empty orbital with a vibronic shoulder each.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of energies, widths and heights.

    Returns
    -------
    Density
    """
    homo, lumo = -rng.uniform(0.45, 0.9), rng.uniform(0.35, 0.9)
    widths, heights = rng.uniform(0.08, 0.2, 2), rng.uniform(1.5, 4.0, 2)
    vibron = rng.uniform(0.14, 0.2)

    def density(energy: Array) -> Array:
        total = np.full(np.shape(energy), 0.3)
        for sign, centre, width, high in zip((-1, 1), (homo, lumo), widths, heights, strict=True):
            total += high * peak(energy, centre, width)
            total += 0.4 * high * peak(energy, centre + sign * vibron, width)
        return total

    return density


def crashed_tip(rng: np.random.Generator) -> Density:
    """Draw what a tip shows that picked up a piece of the sample: no surface state, uneven.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the bumps.

    Returns
    -------
    Density
    """
    count = int(rng.integers(2, 6))
    centres, widths = rng.uniform(-1.0, 1.0, count), rng.uniform(0.15, 0.5, count)
    heights, slope = rng.uniform(-0.3, 0.7, count), rng.uniform(-0.4, 0.4)
    curve = rng.uniform(0.2, 1.2)

    def density(energy: Array) -> Array:
        total = 0.7 + slope * np.tanh(energy) + curve * np.abs(energy)
        for centre, width, height in zip(centres, widths, heights, strict=True):
            total = total + height * np.exp(-0.5 * ((energy - centre) / width) ** 2)
        return np.maximum(total, 0.05)

    return density


FORMULAS: dict[str, Callable[[np.random.Generator], Density]] = {
    "molecule": molecule,
    "crashed tip": crashed_tip,
}
"""Kinds that are drawn as a formula, one per data set."""
