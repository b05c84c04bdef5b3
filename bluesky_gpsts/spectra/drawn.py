"""Kinds of spectra drawn at random, for training alone.

A classifier that has seen only its own classes does not know what else there is. These kinds show
it: near misses of the classes, semiconductors and metals that do not exist. None of them is made
as those of `bluesky_gpsts.spectra.kinds.UNKNOWN` are, which are kept for judging: no near miss of
WS2 has both bands within 40 meV of where an oxygen substitution has them.
"""

import numpy as np

from bluesky_gpsts.physics import shapes
from bluesky_gpsts.physics.au111 import COMPONENTS as AU_COMPONENTS
from bluesky_gpsts.physics.au111 import Au111
from bluesky_gpsts.physics.ws2 import COMPONENTS as WS2_COMPONENTS
from bluesky_gpsts.physics.ws2 import VACANCY_STATES, WS2
from bluesky_gpsts.spectra.kinds import Density
from bluesky_gpsts.spectra.types import Array

__all__ = ["any_kind", "near_au", "near_ws2"]

_TWO_PEAKS = 0.06
_OXYGEN, _CLEAR = (0.06, -0.05), 0.04


def any_kind(rng: np.random.Generator, reach: float) -> Density:
    """Draw a semiconductor or a metal with some states.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    reach : float
        Energies are within +-reach (eV).

    Returns
    -------
    Density
    """
    edges: list[tuple[float, float, float]] = []
    floor, slope, curve = 0.0, 0.0, 0.0
    if rng.random() < 0.55:
        upper, lower = rng.uniform(0.1, 0.95) * reach, -rng.uniform(0.1, 0.95) * reach
        for onset, sign in ((upper, 1.0), (lower, -1.0)):
            height = float(np.exp(rng.normal(0.5, 0.7)))
            for _ in range(int(rng.integers(1, 4))):
                edges.append((onset, sign * float(rng.uniform(0.01, 0.12)), height))
                onset, height = onset + sign * rng.uniform(0.1, 0.5), height * rng.uniform(0.5, 3.0)
    else:
        floor, slope, curve = rng.uniform(0.2, 1.5), rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 1.0)
        for _ in range(int(rng.integers(0, 3))):
            sign = float(rng.choice((-1.0, 1.0)))
            onset = float(rng.uniform(-0.9, 0.9) * reach)
            edges.append((onset, sign * float(rng.uniform(0.004, 0.1)), float(rng.uniform(0.3, 2))))
    peaks = _peaks(rng, int(rng.integers(0, 5)), reach)

    def density(energy: Array) -> Array:
        e = np.asarray(energy, float)
        total = floor * np.exp(slope * np.tanh(e)) + curve * np.abs(e) + 1e-3
        for onset, width, height in edges:
            total = total + height * shapes.edge(e, onset, width)
        for centre, width, height in peaks:
            total = total + height * shapes.peak(e, centre, width)
        return np.maximum(total, 1e-4)

    return density


def near_ws2(rng: np.random.Generator) -> Density:
    """Draw a near miss of WS2 or of its vacancy.

    The gap is wider or narrower by 0.07 to 0.4 eV, or all is moved by more than 0.15 eV, or
    states lie in the gap that are not the two of the vacancy; up to a third is WS2 itself. Gaps
    whose edges both lie within 40 meV of an oxygen substitution's are left out.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Density
    """
    surface = WS2()
    case = int(rng.choice(4, p=(0.45, 0.15, 0.15, 0.25)))
    up = down = 0.0
    peaks: list[tuple[float, float, float]] = []
    if case in (0, 1):
        up, down = _other_gap(rng)
    elif case == 2:
        up = down = float(rng.uniform(0.15, 0.6) * rng.choice((-1.0, 1.0)))
    if case in (1, 3):
        peaks = _peaks(rng, int(rng.integers(1, 4)), 1.5)
        if _like_vacancy([centre for centre, _, _ in peaks]):
            peaks = peaks[:1]
    quench, mixed = rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.35) if case in (0, 1) else 0.0
    rows = [WS2_COMPONENTS.index(name) for name in ("gap", "conduction", "valence")]

    def density(energy: Array) -> Array:
        e = np.asarray(energy, float)
        gap, conduction, valence = surface.spectra(e)[rows]
        total = gap + mixed * (conduction + valence)
        total = total + (1.0 - mixed) * quench * surface.spectra(e - up)[rows[1]]
        total = total + (1.0 - mixed) * quench * surface.spectra(e - down)[rows[2]]
        for centre, width, height in peaks:
            total = total + height * shapes.peak(e, centre, width)
        return np.asarray(total)

    return density


def _other_gap(rng: np.random.Generator) -> tuple[float, float]:
    """Shifts (eV) of the conduction and the valence band, unlike an oxygen substitution's."""
    while True:
        change = float(np.exp(rng.uniform(np.log(0.07), np.log(0.4))) * rng.choice((-1.0, 1.0)))
        share = float(rng.uniform(0.0, 1.0))
        up, down = change * share, -change * (1.0 - share)
        if max(abs(up - _OXYGEN[0]), abs(down - _OXYGEN[1])) > _CLEAR:
            return up, down


def near_au(rng: np.random.Generator) -> Density:
    """Draw a near miss of Au(111): its surface state moved, weak or hidden by others.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Density
    """
    surface = Au111()
    case = int(rng.choice(3, p=(0.25, 0.5, 0.25)))
    move, strength = 0.0, float(rng.uniform(0.5, 1.0))
    peaks: list[tuple[float, float, float]] = []
    if case == 0:
        move = float(rng.uniform(0.08, 0.45) * rng.choice((-1.0, 1.0)))
    elif case == 1:
        strength = float(rng.uniform(0.0, 0.45))
    else:
        peaks = [
            (float(centre), float(width), float(0.4 + height))
            for centre, width, height in _peaks(rng, int(rng.integers(1, 4)), 1.0)
        ]
    stacking = AU_COMPONENTS.index(str(rng.choice(("fcc", "hcp", "ridge"))))

    def density(energy: Array) -> Array:
        e = np.asarray(energy, float)
        bulk = surface.spectra(e)[AU_COMPONENTS.index("bulk")]
        total = bulk + strength * surface.spectra(e - move)[stacking]
        for centre, width, height in peaks:
            total = total + height * shapes.peak(e, centre, width)
        return np.asarray(total)

    return density


def _peaks(rng: np.random.Generator, count: int, reach: float) -> list[tuple[float, float, float]]:
    """Centre (eV), width (eV) and height of some peaks."""
    centres = rng.uniform(-0.9 * reach, 0.9 * reach, count)
    widths = np.exp(rng.uniform(np.log(0.03), np.log(0.3), count))
    heights = np.exp(rng.normal(0.2, 0.8, count))
    return [
        (float(c), float(w), float(h)) for c, w, h in zip(centres, widths, heights, strict=True)
    ]


def _like_vacancy(centres: list[float]) -> bool:
    """Whether two peaks lie where those of the sulfur vacancy do."""
    return all(
        any(abs(centre - state) < _TWO_PEAKS for centre in centres) for state in VACANCY_STATES
    )
