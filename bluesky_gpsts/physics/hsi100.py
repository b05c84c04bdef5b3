"""Hydrogen-terminated Si(100) 2x1: rows of dimers on terraces, and their defects.

The surface has a gap of 1.2 eV between its bands and, where hydrogen is missing, states in it:
a dangling bond is dark in the gap but for its own two levels, a bare dimer has the pi and pi*
states of clean silicon (Hamers, Tromp and Demuth, Phys. Rev. Lett. 56, 1972 (1986); Haider et
al., Phys. Rev. Lett. 102, 046805 (2009)). A dangling bond on n-type silicon is charged and bends
the bands for about a nanometre around it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import shapes
from .constants import FloatArray
from .hsi100_defects import (
    CHANNELS,
    DIMER_HEIGHT,
    DIMER_SIGMA,
    HIDING,
    KINDS,
    MARKED,
    VACANT,
    Defect,
    spot_table,
)
from .hsi100_lattice import (
    ATOM_DISTANCE,
    ROW_DISTANCE,
    STEP_HEIGHT,
    BoolArray,
    IntArray,
    SiteKey,
    Terraces,
)

__all__ = [
    "ATOM_DISTANCE",
    "COMPONENTS",
    "CONDUCTION_EDGE",
    "KINDS",
    "ROW_DISTANCE",
    "STEP_HEIGHT",
    "VALENCE_EDGE",
    "Defect",
    "HSi100",
    "Sites",
    "Terraces",
]

VALENCE_EDGE = -0.95
"""Onset of the valence band (eV)."""

CONDUCTION_EDGE = 0.25
"""Onset of the conduction band (eV)."""

BOND_STATES = (-0.50, 0.05)
"""Energies (eV) of the occupied and of the empty state of a dangling bond."""

BARE_STATES = (-0.70, 0.45)
"""Energies (eV) of the pi and pi* states of a bare dimer."""

GAP_FLOOR = 2e-4
"""Density of states in the gap, relative to that at the conduction edge."""

COMPONENTS = ("gap", "valence", "conduction", "bond", "bare")
"""Names of the K components, in order."""

# How far the bands follow the dimers: the filled states sit on them.
_VALENCE_CORRUGATION, _CONDUCTION_CORRUGATION = 0.35, 0.10
_SMALLEST_BAND = 0.05
_CUTOFF = 4.5
# Densities of states at the peaks, relative to the step at the conduction edge.
_BOND_STATES, _BARE_STATES = 20.0, 9.0


@dataclass(frozen=True, eq=False)
class Sites:
    """Dimer sites.

    Attributes
    ----------
    x, y : (n,) arrays
        Positions (m).
    level : (n,) array
        Levels of their terraces, 0 the highest.
    occupied : (n,) bool array
        Whether a dimer is there to be seen: not where it is missing or hidden.
    defect : (n,) array
        Index of the defect that occupies or hides the site; -1 for none.
    """

    x: FloatArray
    y: FloatArray
    level: IntArray
    occupied: BoolArray
    defect: IntArray


@dataclass(frozen=True)
class HSi100:
    """H-Si(100) 2x1 (see `bluesky_gpsts.physics.surface.Surface`).

    Parameters
    ----------
    terraces : Terraces
        The lattice and the step edges.
    defects : tuple of Defect
        The defects.
    """

    terraces: Terraces = field(default_factory=Terraces)
    defects: tuple[Defect, ...] = ()
    name: str = "hsi100"
    work_function: float = 4.5
    bias_limits: tuple[float, float] = (-3.0, 3.0)
    sweep: tuple[float, float] = (1.2, -1.8)
    window: tuple[float, float] = (-0.75, -0.25)
    imaging: tuple[float, float] = (-2.0, 50e-12)

    @cached_property
    def clean(self) -> FloatArray:
        """Amplitudes (K,) of the surface far from defects, averaged over the lattice."""
        return np.array([1.0, 1.0, 1.0, 0.0, 0.0])

    def components(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Amplitudes (n, K), in the order of COMPONENTS, at positions (n,) in m."""
        return self.relief(x, y, blur)[1]

    def height(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Geometric height (n,) in m: terraces, dimers and what lies on them."""
        return self.relief(x, y, blur)[0]

    def relief(
        self, x: FloatArray, y: FloatArray, blur: float = 0.0
    ) -> tuple[FloatArray, FloatArray]:
        """Height (n,) in m and amplitudes (n, K) at positions (n,) in m, in one go."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        changes = dict(zip(CHANNELS, self._changes(x, y, blur), strict=True))
        shares = self.terraces.shares(x, y, blur)
        dimers = np.zeros(x.shape)
        height = changes["height"]
        for level, share in enumerate(shares):
            seen = np.flatnonzero(share > 1e-4)
            if seen.size:
                u, v = self.terraces.local(x[seen], y[seen], level)
                dimers[seen] += share[seen] * _lattice(u, v, blur)
                height[seen] -= STEP_HEIGHT * level * share[seen]
        pattern = (dimers + changes["lattice"]) * np.exp(-4.0 * changes["hiding"])
        valence = 1.0 + _VALENCE_CORRUGATION * pattern + changes["valence"]
        conduction = 1.0 + _CONDUCTION_CORRUGATION * pattern + changes["conduction"]
        amplitudes = np.stack(
            [
                np.ones(x.shape),
                np.maximum(valence, _SMALLEST_BAND),
                np.maximum(conduction, _SMALLEST_BAND),
                changes["bond"],
                changes["bare"],
            ],
            axis=1,
        )
        return height + DIMER_HEIGHT * pattern, amplitudes

    def spectra(self, energy: FloatArray) -> FloatArray:
        """Spectra (K, m), in the order of COMPONENTS; 1 is the step at the conduction edge."""
        e = np.asarray(energy, float)
        # The tanh keeps the slopes bounded.
        valence = 1.3 * shapes.edge(e, VALENCE_EDGE, -0.03)
        valence = valence * (1.0 + 0.5 * np.tanh(VALENCE_EDGE - e))
        conduction = shapes.edge(e, CONDUCTION_EDGE, 0.03)
        conduction = conduction * (1.0 + 0.5 * np.tanh(e - CONDUCTION_EDGE))
        filled, empty = BOND_STATES
        pi, pi_star = BARE_STATES
        bond = shapes.peak(e, filled, 0.22, 0.02) + 0.3 * shapes.peak(e, empty, 0.18, 0.02)
        bare = shapes.peak(e, pi, 0.34, 0.02) + 0.6 * shapes.peak(e, pi_star, 0.30, 0.02)
        floor = np.full(e.shape, GAP_FLOOR)
        return np.stack([floor, valence, conduction, _BOND_STATES * bond, _BARE_STATES * bare])

    def sites(self, left: float, right: float, bottom: float, top: float) -> Sites:
        """Dimer sites in a rectangle of the sample frame (m), vacant or not.

        Parameters
        ----------
        left, right, bottom, top : float
            Its edges (m).
        """
        levels = self.terraces.sites(left, right, bottom, top)
        table = np.concatenate(levels)
        level = np.repeat(np.arange(len(levels)), [len(part) for part in levels])
        owners = self._owners
        keys = zip(level.tolist(), table[:, 2].tolist(), table[:, 3].tolist(), strict=True)
        defect = np.array([owners.get((n, int(i), int(j)), -1) for n, i, j in keys], dtype=np.int64)
        unseen = np.array([d.kind in VACANT for d in self.defects] + [False])[defect]
        hiding = [k for k, one in enumerate(self.defects) if one.kind in HIDING]
        hider = self._marked(table[:, 0], table[:, 1], hiding)
        defect = np.where(hider >= 0, hider, defect)
        return Sites(table[:, 0], table[:, 1], level, ~unseen & (hider < 0), defect)

    def marked(self, x: FloatArray, y: FloatArray) -> IntArray:
        """Index (n,) of the defect that is at each position (n,) in m; -1 for none."""
        return self._marked(x, y, range(len(self.defects)))

    def _marked(self, x: FloatArray, y: FloatArray, among: Iterable[int]) -> IntArray:
        """As `marked`, among some of the defects."""
        result = np.full(x.shape, -1, dtype=np.int64)
        order = np.argsort(y, kind="stable")
        ordered = y[order]
        best = np.full(x.shape, MARKED)
        for index in among:
            defect = self.defects[index]
            spots = tuple(spot for spot in defect.spots if spot.mark > 0.0)
            if not spots:
                continue
            table = spot_table(spots)
            reach = 3.0 * float(table[:, 3:5].max())
            low, high = np.searchsorted(
                ordered, [table[:, 1].min() - reach, table[:, 1].max() + reach]
            )
            near = order[low:high]
            near = near[
                (x[near] > table[:, 0].min() - reach) & (x[near] < table[:, 0].max() + reach)
            ]
            if near.size == 0:
                continue
            marks = _spread(table, x[near], y[near], 0.0)[CHANNELS.index("mark")]
            here = marks >= best[near]
            result[near[here]] = index
            best[near[here]] = marks[here]
        return result

    @cached_property
    def _table(self) -> FloatArray:
        return spot_table(tuple(spot for defect in self.defects for spot in defect.spots))

    @cached_property
    def _owners(self) -> dict[SiteKey, int]:
        return {site: k for k, defect in enumerate(self.defects) for site in defect.sites}

    def _changes(self, x: FloatArray, y: FloatArray, blur: float) -> FloatArray:
        """Sums (channels, n) of what the spots change."""
        table = self._table
        if x.size == 0 or table.size == 0:
            return np.zeros((len(CHANNELS), x.size))
        reach = _CUTOFF * np.sqrt(table[:, 3:5].max(axis=1) ** 2 + blur**2)
        near = (table[:, 0] > x.min() - reach) & (table[:, 0] < x.max() + reach)
        near &= (table[:, 1] > y.min() - reach) & (table[:, 1] < y.max() + reach)
        return _spread(table[near], x, y, blur)


def _lattice(across: FloatArray, along: FloatArray, blur: float) -> FloatArray:
    """Gaussian dimers on all sites of a terrace, less their mean, at distances (n,) in m.

    The sum over the lattice is a product of two Fourier series, of which the first terms are
    all that a Gaussian leaves.
    """
    wide, mean_across = _series(across, ROW_DISTANCE, DIMER_SIGMA[0], blur, 3)
    long, mean_along = _series(along, ATOM_DISTANCE, DIMER_SIGMA[1], blur, 2)
    return wide * long - mean_across * mean_along


def _series(
    u: FloatArray, period: float, sigma: float, blur: float, terms: int
) -> tuple[FloatArray, float]:
    """Sum of Gaussians of height 1 and width sigma (m), a period apart and blurred; its mean."""
    k = 2.0 * np.pi / period
    variance = sigma**2 + blur**2
    mean = float(np.sqrt(2.0 * np.pi) * sigma / period)
    total = np.ones(u.shape)
    for m in range(1, terms + 1):
        total += 2.0 * np.exp(-0.5 * (m * k) ** 2 * variance) * np.cos(m * k * u)
    return mean * total, mean


def _spread(table: FloatArray, x: FloatArray, y: FloatArray, blur: float) -> FloatArray:
    """Sums (channels, n) of Gaussian spots, rows of a table (m, 5 + channels)."""
    order = np.argsort(y, kind="stable")
    px, py = x[order], y[order]
    total = np.zeros((len(CHANNELS), x.size))
    for x0, y0, angle, first, second, *amounts in table.tolist():
        v1, v2 = first**2 + blur**2, second**2 + blur**2
        reach = _CUTOFF * np.sqrt(max(v1, v2))
        low, high = np.searchsorted(py, [y0 - reach, y0 + reach])
        dx, dy = px[low:high] - x0, py[low:high] - y0
        inside = np.flatnonzero(np.abs(dx) < reach)
        if inside.size == 0:
            continue
        dx, dy = dx[inside], dy[inside]
        c, s = np.cos(angle), np.sin(angle)
        u, v = c * dx + s * dy, c * dy - s * dx
        value = np.exp(-0.5 * (u * u / v1 + v * v / v2)) * (first * second / np.sqrt(v1 * v2))
        for channel, amount in enumerate(amounts):
            if amount != 0.0:
                total[channel, low + inside] += amount * value
    result = np.empty_like(total)
    result[:, order] = total
    return result
