"""Defects of H-Si(100) 2x1: what each kind looks like, made of Gaussian spots.

Kinds and looks follow Ziatdinov et al., "Robust multi-scale multi-feature deep learning for
atomic and defect identification in Scanning Tunneling Microscopy on H-Si(100) 2x1 surface":
depressions are missing dimers and dihydrides, protrusions are dangling bonds and bare dimers
(spurious or written by lithography), water and what else lies on the surface.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .constants import FloatArray
from .hsi100_lattice import SiteKey, Terraces

KINDS = (
    "missing_dimer",
    "missing_cluster",
    "dihydride",
    "dangling_bond",
    "bare_dimer",
    "lithography",
    "water",
    "contaminant",
    "unresolved",
)
"""Kinds of defects."""

VACANT = ("missing_dimer", "missing_cluster")
"""Kinds whose sites have no dimer."""

HIDING = ("contaminant", "unresolved")
"""Kinds under which no dimer can be seen."""

DIMER_SIGMA = (0.17e-9, 0.12e-9)
"""Width (m) of a dimer, across and along its row: standard deviations of a Gaussian."""

DIMER_HEIGHT = 36e-12
"""Height (m) of a single dimer; in the lattice, neighbours overlap."""

_HYDROGEN = 0.13e-9


class Spot(NamedTuple):
    """A Gaussian change of the surface; the amounts are those in its middle, without blur.

    Parameters
    ----------
    x, y : float
        Middle (m).
    angle : float
        Direction of its first axis (rad).
    first, second : float
        Standard deviations (m) along the axis and across it.
    height : float
        Geometric height (m).
    lattice : float
        Dimers added to the lattice; -1 takes one away.
    valence, conduction : float
        Relative change of the valence and of the conduction band.
    bond, bare : float
        Amplitudes of the states of a dangling bond and of a bare dimer.
    hiding : float
        How far the lattice is hidden: by a factor exp(-4 hiding).
    mark : float
        Where the marks of a defect's spots add up to 0.25 or more, there is the defect.
    """

    x: float
    y: float
    angle: float
    first: float
    second: float
    height: float = 0.0
    lattice: float = 0.0
    valence: float = 0.0
    conduction: float = 0.0
    bond: float = 0.0
    bare: float = 0.0
    hiding: float = 0.0
    mark: float = 0.0


CHANNELS = ("height", "lattice", "valence", "conduction", "bond", "bare", "hiding", "mark")
"""What a spot changes, in the order of its last parameters."""

MARKED = 0.25
"""Sum of marks from which on a position belongs to a defect."""


@dataclass(frozen=True)
class Defect:
    """A defect.

    Parameters
    ----------
    kind : str
        One of KINDS.
    x, y : float
        Middle (m).
    sites : tuple of (level, row, along)
        Sites that it occupies; none for the kinds that hide what is below their marks.
    spots : tuple of Spot
        What it looks like.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """

    kind: str
    x: float
    y: float
    sites: tuple[SiteKey, ...]
    spots: tuple[Spot, ...]

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS:
            raise ValueError(f"defect kind is {self.kind!r}; known kinds: {', '.join(KINDS)}")


@dataclass(frozen=True)
class _Frame:
    """A terrace's axes at one of its sites; lengths in m."""

    x: float
    y: float
    along: float

    def spot(self, across: float, along: float, widths: tuple[float, float], **of: float) -> Spot:
        """Spot at a distance (m) across and along the row, with widths across and along it."""
        c, s = np.cos(self.along), np.sin(self.along)
        # Across is the axis that follows `along` counter-clockwise.
        x, y = self.x + c * along - s * across, self.y + s * along + c * across
        return Spot(float(x), float(y), self.along + 0.5 * np.pi, *widths, **of)


def make_defect(kind: str, terraces: Terraces, site: SiteKey, rng: np.random.Generator) -> Defect:
    """Draw a defect of a kind at a site.

    Parameters
    ----------
    kind : str
        One of KINDS.
    terraces : Terraces
        The lattice.
    site : (level, row, along)
        Where it starts; a defect of several dimers goes on from there.
    rng : numpy.random.Generator
        Source of its size, side and strength.

    Returns
    -------
    Defect

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"defect kind is {kind!r}; known kinds: {', '.join(KINDS)}")
    level, row, along = site
    offsets = _OFFSETS[kind](rng) if kind in _OFFSETS else ((0, 0),)
    sites = tuple((level, row + i, along + j) for i, j in offsets)
    direction = terraces.row_direction(level)
    places = terraces.position(
        level,
        np.array([float(i) for _, i, _ in sites]),
        np.array([float(j) for _, _, j in sites]),
    )
    frames = [_Frame(float(x), float(y), direction) for x, y in places]
    spots = tuple(_LOOKS[kind](frames, rng))
    x, y = (float(value) for value in places.mean(axis=0))
    if kind == "dangling_bond":
        x, y = spots[0].x, spots[0].y
    elif kind in HIDING:
        marked = [spot for spot in spots if spot.mark > 0.0]
        x = float(np.mean([spot.x for spot in marked]))
        y = float(np.mean([spot.y for spot in marked]))
    return Defect(kind, x, y, () if kind in HIDING else sites, spots)


def spot_table(spots: tuple[Spot, ...]) -> FloatArray:
    """Spots as a table (n, 13), in the order of Spot's parameters."""
    return np.array(spots, float).reshape(-1, 5 + len(CHANNELS))


def _strength(rng: np.random.Generator, spread: float = 0.2) -> float:
    return float(rng.uniform(1.0 - spread, 1.0 + spread))


def _cluster(rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Two to six vacancies: they grow by neighbours, across the row and along it."""
    places = [(0, 0)]
    size = int(rng.integers(2, 7))
    while len(places) < size:
        i, j = places[int(rng.integers(len(places)))]
        step = (0, 1) if rng.random() < 0.6 else (1, 0)
        sign = 1 if rng.random() < 0.5 else -1
        place = (i + sign * step[0], j + sign * step[1])
        if place not in places:
            places.append(place)
    return tuple(places)


def _patch(rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    return tuple((0, j) for j in range(int(rng.integers(3, 5))))


_OFFSETS: dict[str, Callable[[np.random.Generator], tuple[tuple[int, int], ...]]] = {
    "missing_cluster": _cluster,
    "lithography": _patch,
    "water": lambda rng: ((0, 0), (0, 1)),
}


def _missing(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    spots = []
    for frame in frames:
        depth = 62e-12 * _strength(rng)
        spots.append(
            frame.spot(0.0, 0.0, DIMER_SIGMA, lattice=-1.0, valence=-0.25, conduction=-0.25)
        )
        spots.append(frame.spot(0.0, 0.0, (0.22e-9, 0.18e-9), height=-depth, mark=1.0))
    return spots


def _dihydride(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """The bond of the dimer is broken: two atoms far apart, with a dark line between them."""
    frame, strength = frames[0], _strength(rng)
    single, depth, height = (0.13e-9, 0.12e-9), 16e-12 * strength, 30e-12 * strength
    spots = [
        frame.spot(0.0, 0.0, DIMER_SIGMA, lattice=-1.0, valence=-0.20, conduction=-0.10),
        frame.spot(0.0, 0.0, (0.16e-9, 0.17e-9), height=-depth, mark=0.6),
    ]
    for side in (-0.25e-9, 0.25e-9):
        spots.append(frame.spot(side, 0.0, single, height=height, mark=0.4))
    return spots


def _dangling_bond(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """One hydrogen is missing; the charge on the bond bends the bands around it."""
    frame, strength = frames[0], _strength(rng)
    side = _HYDROGEN if rng.random() < 0.5 else -_HYDROGEN
    return [
        frame.spot(
            side,
            0.0,
            (0.20e-9, 0.19e-9),
            bond=strength,
            conduction=3.0 * strength,
            height=12e-12,
            mark=1.0,
        ),
        frame.spot(side, 0.0, (1.1e-9, 1.1e-9), valence=0.7 * strength, conduction=-0.45),
    ]


def _bare(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """Dimers without hydrogen: their pi and pi* states, on both atoms."""
    strength = _strength(rng)
    spots = []
    for frame in frames:
        own = strength * _strength(rng, 0.08)
        for side in (-0.15e-9, 0.15e-9):
            spots.append(
                frame.spot(side, 0.0, (0.17e-9, 0.16e-9), bare=own, conduction=1.5 * own, mark=0.6)
            )
    return spots


def _water(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """H and OH on one side of two neighbouring dimers: a knob beside a dent."""
    side = _HYDROGEN if rng.random() < 0.5 else -_HYDROGEN
    knob, dent = (frames[0], frames[1]) if rng.random() < 0.5 else (frames[1], frames[0])
    height = 75e-12 * _strength(rng)
    return [
        knob.spot(side, 0.0, (0.19e-9, 0.16e-9), height=height, valence=0.3, mark=1.0),
        dent.spot(side, 0.0, (0.17e-9, 0.15e-9), height=-0.5 * height, mark=0.8),
    ]


def _contaminant(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """Something on the surface, of no particular shape, much higher than the dimers."""
    frame, spots = frames[0], []
    size = rng.uniform(0.25e-9, 0.6e-9)
    height = rng.uniform(90e-12, 300e-12)
    for _ in range(int(rng.integers(3, 7))):
        u, v = rng.normal(0.0, 0.8 * size, 2)
        widths = (float(size * rng.uniform(0.6, 1.2)), float(size * rng.uniform(0.6, 1.2)))
        own = float(height * rng.uniform(0.4, 1.0))
        spots.append(frame.spot(float(u), float(v), widths, height=own, hiding=1.0, mark=0.8))
    return spots


def _unresolved(frames: list[_Frame], rng: np.random.Generator) -> list[Spot]:
    """A region without order: the rows are hidden under a rough layer."""
    frame, spots = frames[0], []
    length, width = rng.uniform(1.0e-9, 2.2e-9, 2)
    for _ in range(int(rng.integers(5, 9))):
        u, v = rng.normal(0.0, 1.0, 2) * (width, length) * 0.6
        size = float(rng.uniform(0.5, 0.8) * min(length, width))
        spots.append(
            frame.spot(float(u), float(v), (size, size), height=14e-12, hiding=0.8, mark=0.7)
        )
    area = length * width
    for _ in range(round(5.0 * area / (0.5e-9) ** 2)):
        u, v = rng.normal(0.0, 1.0, 2) * (width, length) * 0.75
        widths = (float(rng.uniform(0.15e-9, 0.4e-9)), float(rng.uniform(0.15e-9, 0.4e-9)))
        spots.append(frame.spot(float(u), float(v), widths, height=float(rng.normal(0, 22e-12))))
    return spots


_LOOKS: dict[str, Callable[[list[_Frame], np.random.Generator], list[Spot]]] = {
    "missing_dimer": _missing,
    "missing_cluster": _missing,
    "dihydride": _dihydride,
    "dangling_bond": _dangling_bond,
    "bare_dimer": _bare,
    "lithography": _bare,
    "water": _water,
    "contaminant": _contaminant,
    "unresolved": _unresolved,
}
