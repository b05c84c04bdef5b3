"""Surfaces of H-Si(100) drawn at random: terraces, edges, and defects on free sites."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .constants import FloatArray
from .hsi100 import HSi100
from .hsi100_defects import HIDING, KINDS, Defect, make_defect
from .hsi100_lattice import Terraces, random_edge

DENSITIES: dict[str, float] = {
    "missing_dimer": 1.4e16,
    "missing_cluster": 0.6e16,
    "dihydride": 1.4e16,
    "dangling_bond": 0.8e16,
    "bare_dimer": 0.5e16,
    "lithography": 0.25e16,
    "water": 0.7e16,
    "contaminant": 0.2e16,
    "unresolved": 0.06e16,
}
"""Usual numbers of defects per area (1/m^2): tens in an image of 24 nm, as in the figures of
Ziatdinov et al."""

_APART = 0.85e-9
_HIDING_REACH = 6e-9
_CLEAN, _NEAR = 2.5e-9, 9.0e-9


def random_terraces(
    rng: np.random.Generator, distances: tuple[float, ...], aligned: float = 0.7
) -> Terraces:
    """Draw a staircase of any orientation.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    distances : tuple of float
        Mean positions (m) of the edges along the direction of descent, ascending.
    aligned : float
        Probability that the edges run within some 8 degrees of the rows, or across them.
    """
    angle = float(rng.uniform(0.0, 2.0 * np.pi))
    direction = float(rng.uniform(0.0, 2.0 * np.pi))
    if rng.random() < aligned:
        direction = angle + 0.5 * np.pi * int(rng.integers(4)) + np.radians(rng.normal(0.0, 8.0))
    x, y = rng.uniform(-1e-9, 1e-9, 2)
    levels = len(distances) + 1
    flat = Terraces(
        angle,
        (float(x), float(y)),
        float(direction),
        pairing=tuple(int(p) for p in rng.integers(0, 2, levels)),
    )
    edges = tuple(random_edge(rng, flat, k, d) for k, d in enumerate(distances))
    return replace(flat, edges=edges)


class Ground:
    """Terraces on which defects are put one after another, each on free sites.

    Parameters
    ----------
    terraces : Terraces
        The lattice.

    Attributes
    ----------
    defects : list of Defect
        What has been put there.
    """

    def __init__(self, terraces: Terraces) -> None:
        self.terraces = terraces
        self.defects: list[Defect] = []
        self._taken: FloatArray = np.zeros((0, 2))

    def put(
        self,
        kind: str,
        x: float,
        y: float,
        rng: np.random.Generator,
        apart: float = _APART,
        hole: float = 0.0,
    ) -> bool:
        """Put a defect near a position (m), if its sites are free; return whether they were.

        Parameters
        ----------
        kind : str
            One of KINDS.
        x, y : float
            Where (m).
        rng : numpy.random.Generator
            Source of its looks.
        apart : float
            Smallest distance (m) of its sites from those of others.
        hole : float
            Radius (m) of a circle about the origin in which it may not have a site.
        """
        site = self.terraces.nearest(x, y)
        defect = make_defect(kind, self.terraces, site, rng)
        if kind in HIDING:
            x, y, reach = defect.x, defect.y, _HIDING_REACH
            alone = HSi100(self.terraces, (defect,))
            places = _hidden(alone, x - reach, x + reach, y - reach, y + reach)
        else:
            level = site[0]
            rows = np.array([float(i) for _, i, _ in defect.sites])
            along = np.array([float(j) for _, _, j in defect.sites])
            if not self.terraces.free(level, rows, along).all():
                return False
            places = self.terraces.position(level, rows, along)
        if not self._clear(places, apart) or np.any(np.linalg.norm(places, axis=1) < hole):
            return False
        self._taken = np.concatenate([self._taken, places])
        self.defects.append(defect)
        return True

    def scatter(
        self,
        rng: np.random.Generator,
        densities: Mapping[str, float],
        half: tuple[float, float],
        hole: float = 0.0,
    ) -> None:
        """Scatter defects over a rectangle about the origin.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        densities : mapping of str to float
            Mean number per area (1/m^2) of each kind; a kind left out is not there.
        half : (float, float)
            Half width and half height (m) of the rectangle.
        hole : float
            Radius (m) of a circle about the origin that is left alone.

        Raises
        ------
        ValueError
            If a kind is unknown or a density negative.
        """
        check_densities(densities)
        area = 4.0 * half[0] * half[1]
        # The large ones first, while there is room for them.
        kinds = [kind for kind in reversed(KINDS) if densities.get(kind, 0.0) > 0.0]
        for kind in kinds:
            for _ in range(int(rng.poisson(densities[kind] * area))):
                x, y = (float(value) for value in rng.uniform(-1.0, 1.0, 2) * half)
                self.put(kind, x, y, rng, hole=hole)

    def cover(self, rng: np.random.Generator, density: float, half: tuple[float, float]) -> None:
        """Cover a rectangle about the origin with what hides the lattice, one over the other.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        density : float
            Number per area (1/m^2).
        half : (float, float)
            Half width and half height (m) of the rectangle.
        """
        for _ in range(round(4.0 * half[0] * half[1] * density)):
            x, y = (float(value) for value in rng.uniform(-1.0, 1.0, 2) * half)
            kind = HIDING[int(rng.random() < 0.3)]
            self.defects.append(make_defect(kind, self.terraces, self.terraces.nearest(x, y), rng))
        places = _hidden(self.surface(), -half[0], half[0], -half[1], half[1])
        self._taken = np.concatenate([self._taken, places])

    def surface(self) -> HSi100:
        """Return the surface with all that was put there."""
        return HSi100(self.terraces, tuple(self.defects))

    def _clear(self, places: FloatArray, apart: float) -> bool:
        if not len(places):
            return True
        low, high = places.min(axis=0) - apart, places.max(axis=0) + apart
        near = self._taken[np.all((self._taken > low) & (self._taken < high), axis=1)]
        gaps = np.linalg.norm(places[:, None] - near[None], axis=2)
        return bool(np.all(gaps >= apart))


def _hidden(surface: HSi100, left: float, right: float, bottom: float, top: float) -> FloatArray:
    """Positions (n, 2) of the sites in a rectangle (m) that a surface's defects hide."""
    sites = surface.sites(left, right, bottom, top)
    return np.column_stack([sites.x, sites.y])[~sites.occupied]


def check_densities(densities: Mapping[str, float]) -> None:
    """Check that densities of defects are of known kinds and not negative.

    Raises
    ------
    ValueError
        If they are not.
    """
    for kind, density in densities.items():
        if kind not in KINDS:
            raise ValueError(f"defect kind is {kind!r}; known kinds: {', '.join(KINDS)}")
        if not 0.0 <= density < np.inf:
            raise ValueError(f"density of {kind} is {density} per m^2; give a number of 0 or more")


def build(seed: int) -> HSi100:
    """Build a surface of H-Si(100) with a dangling bond near the origin.

    Parameters
    ----------
    seed : int
        Seed of orientation, terraces and defects.

    Returns
    -------
    HSi100
        The first defect is the dangling bond, within 0.6 nm of the origin, which is clean out to
        2.5 nm otherwise. One of each other kind lies within 9 nm, or not far beyond; more are
        scattered out to 50 nm. The terrace of the origin ends 9 to 13 nm away, up the stairs and
        down.
    """
    rng = np.random.default_rng([seed, 6])
    steps = rng.uniform(12e-9, 20e-9, (2, 3))
    first = rng.uniform(9e-9, 13e-9, 2)
    up = -(first[0] + np.concatenate([[0.0], np.cumsum(steps[0])]))
    down = first[1] + np.concatenate([[0.0], np.cumsum(steps[1])])
    distances = tuple(float(d) for d in (*up[::-1], *down))
    ground = Ground(random_terraces(rng, distances))
    while not ground.defects:
        x, y = rng.uniform(-0.3e-9, 0.3e-9, 2)
        ground.put("dangling_bond", float(x), float(y), rng)
    # The large ones first, while there is room for them.
    for kind in [kind for kind in reversed(KINDS) if kind != "dangling_bond"]:
        for attempt in itertools.count():
            # Where there is no room, further out.
            far = _NEAR * (1.0 + 1e-3 * attempt)
            radius = np.sqrt(rng.uniform(_CLEAN**2, far**2))
            turn = rng.uniform(0.0, 2.0 * np.pi)
            x, y = float(radius * np.cos(turn)), float(radius * np.sin(turn))
            if ground.put(kind, x, y, rng, apart=1.2e-9, hole=_CLEAN):
                break
    ground.scatter(rng, DENSITIES, (50e-9, 50e-9), hole=_NEAR)
    return ground.surface()
