"""Terraces of Si(100) 2x1: dimer rows that turn from terrace to terrace, and the edges between.

In a diamond lattice each layer lies half a surface cell beside the one above, across and along
in turn, and its dimers point the other way. Going down, terrace after terrace, the rows
therefore turn by 90 degrees each time, and two terraces with the same direction have rows that
are a quarter of a period apart (or three quarters: a layer may pair its atoms in two ways).

An edge is made of whole cells of two dimers by one row of the upper terrace, as on the real
surface. Edges along the upper rows (type A) are smooth, edges across them (type B) are rough
(Chadi, Phys. Rev. Lett. 59, 1691 (1987)).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from .constants import FloatArray

ATOM_DISTANCE = 0.384e-9
"""Distance (m) between dimers along a row."""

ROW_DISTANCE = 0.768e-9
"""Distance (m) between dimer rows."""

STEP_HEIGHT = 0.136e-9
"""Height (m) of a monatomic step."""

_CELL = ROW_DISTANCE
_PROFILE = 512
_EDGE_SIGMA = 0.10e-9
_REACH = 2.2e-9

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
SiteKey = tuple[int, int, int]
"""A dimer site: level of its terrace, number of its row, number along the row."""


@dataclass(frozen=True)
class Edge:
    """A step edge.

    Parameters
    ----------
    distance : float
        Mean position (m) along the direction of descent.
    profile : tuple of float
        Deviations (m) from it, at points one row distance apart along the edge; repeats.
    """

    distance: float
    profile: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Terraces:
    """A staircase of terraces; level 0 is the highest, and edge k separates k from k + 1.

    Parameters
    ----------
    angle : float
        Direction (rad) of the dimer rows on even levels; odd ones are turned by 90 degrees.
    origin : (float, float)
        Position (m) of a dimer of level 0.
    direction : float
        Direction (rad) of descent.
    edges : tuple of Edge
        Edges, ascending in distance.
    pairing : tuple of int
        0 or 1 for each level: which of two ways its atoms pair; levels beyond its end take 0.

    Raises
    ------
    ValueError
        If the edges are not in order.
    """

    angle: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)
    direction: float = 0.0
    edges: tuple[Edge, ...] = ()
    pairing: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the order of the edges."""
        distances = [edge.distance for edge in self.edges]
        if distances != sorted(distances):
            raise ValueError(f"edges are at {distances} m; give them in ascending order")

    def row_direction(self, level: int) -> float:
        """Direction (rad) of the dimer rows of a level, in [0, pi)."""
        return float((self.angle + 0.5 * np.pi * (level % 2)) % np.pi)

    def local(self, x: FloatArray, y: FloatArray, level: int) -> tuple[FloatArray, FloatArray]:
        """Distances (m) across and along the rows of a level from one of its dimers."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        px, py = x - self.origin[0], y - self.origin[1]
        first, second = c * px + s * py, c * py - s * px
        across0, along0 = self._shift(level)
        if level % 2:
            return first - across0, second - along0
        return second - across0, first - along0

    def position(self, level: int, row: FloatArray, along: FloatArray) -> FloatArray:
        """Positions (n, 2) in m of dimer sites of a level, by their numbers (n,)."""
        across0, along0 = self._shift(level)
        u = np.asarray(row) * ROW_DISTANCE + across0
        v = np.asarray(along) * ATOM_DISTANCE + along0
        first, second = (u, v) if level % 2 else (v, u)
        c, s = np.cos(self.angle), np.sin(self.angle)
        x = self.origin[0] + c * first - s * second
        y = self.origin[1] + s * first + c * second
        return np.stack([x, y], axis=-1)

    def level(self, x: FloatArray, y: FloatArray) -> IntArray:
        """Levels (n,) of the terraces at positions (n,) in m."""
        result = np.full(x.shape, len(self.edges), dtype=np.int64)
        if x.size == 0:
            return result
        c, s = np.cos(self.direction), np.sin(self.direction)
        descent = c * x + s * y
        for k in reversed(range(len(self.edges))):
            near, far = self._bounds[k]
            if descent.max() < near:
                result[:] = k
            elif descent.min() < far:
                result[self._upper(k, x, y)] = k
        return result

    def shares(self, x: FloatArray, y: FloatArray, blur: float) -> FloatArray:
        """Shares (levels, n) that each terrace has in what a tip of width `blur` (m) sees."""
        total = len(self.edges)
        result = np.zeros((total + 1, x.size))
        if x.size == 0:
            return result
        c, s = np.cos(self.direction), np.sin(self.direction)
        descent = c * x + s * y
        nearest, furthest = float(descent.min()), float(descent.max())
        left = np.ones(x.size)
        for k, (near, far) in enumerate(self._bounds):
            if nearest > far + _REACH:
                continue
            if furthest < near - _REACH:
                result[k] = left
                return result
            share = np.minimum(self._cover(k, x, y, blur, descent), 1.0)
            # An edge that comes too near the one above it does not reach beyond that.
            result[k] = np.maximum(share + left - 1.0, 0.0)
            left = left - result[k]
        result[total] = left
        return result

    def sites(self, left: float, right: float, bottom: float, top: float) -> list[FloatArray]:
        """Dimer sites in a rectangle (m).

        Returns
        -------
        list of (n, 4) arrays
            For each level: x, y (m), number of the row, number along the row. A site counts
            where the whole dimer lies on its terrace, free of the one above.
        """
        corners = np.array([[left, bottom], [left, top], [right, bottom], [right, top]])
        result = []
        for level in range(len(self.edges) + 1):
            u, v = self.local(corners[:, 0], corners[:, 1], level)
            rows = np.arange(np.floor(u.min() / _CELL), np.ceil(u.max() / _CELL) + 1)
            places = np.arange(
                np.floor(v.min() / ATOM_DISTANCE), np.ceil(v.max() / ATOM_DISTANCE) + 1
            )
            i, j = (grid.ravel() for grid in np.meshgrid(rows, places, indexing="ij"))
            at = self.position(level, i, j)
            inside = (at[:, 0] >= left) & (at[:, 0] < right)
            inside &= (at[:, 1] >= bottom) & (at[:, 1] < top)
            i, j, at = i[inside], j[inside], at[inside]
            keep = self.free(level, i, j)
            result.append(np.column_stack([at, i, j])[keep])
        return result

    def free(self, level: int, row: FloatArray, along: FloatArray) -> BoolArray:
        """Whether dimers (n,) of a level, by their numbers, lie open on its terrace."""
        keep = np.ones(np.shape(row), dtype=bool)
        for offset in (-0.15, 0.0, 0.15):
            at = self.position(level, np.asarray(row) + offset, along)
            keep &= self.level(at[:, 0], at[:, 1]) == level
        return keep

    def nearest(self, x: float, y: float) -> SiteKey:
        """Site nearest to a position (m), on the terrace that is there."""
        level = int(self.level(np.array([x]), np.array([y]))[0])
        u, v = self.local(np.array([x]), np.array([y]), level)
        return level, round(float(u[0]) / ROW_DISTANCE), round(float(v[0]) / ATOM_DISTANCE)

    def _shift(self, level: int) -> tuple[float, float]:
        """Offset (m) of a level's dimers from those of level 0, across and along its rows."""
        half = 0.5 * ATOM_DISTANCE
        paired = 2 * self.pairing[level] if level < len(self.pairing) else 0
        return half * (level // 2 + paired), half * ((level + 1) // 2)

    def _upper(self, k: int, x: FloatArray, y: FloatArray) -> BoolArray:
        """Whether positions belong to cells of the upper terrace of edge k."""
        u, v = self.local(x, y, k)
        return self._filled(k, np.round(u / _CELL), np.round(v / _CELL - 0.25))

    def _filled(self, k: int, row: FloatArray, pair: FloatArray) -> BoolArray:
        """Whether cells of level k, by row and pair of dimers, are on the upper side of edge k."""
        at = self.position(k, row, 2.0 * pair + 0.5)
        return self._beyond(k, at[..., 0], at[..., 1]) < 0.0

    def _beyond(self, k: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """Distance (m) beyond edge k, along the direction of descent."""
        c, s = np.cos(self.direction), np.sin(self.direction)
        profile = self._profiles[k]
        index = np.floor((c * y - s * x) / _CELL).astype(np.int64) % profile.size
        return np.asarray(c * x + s * y - self.edges[k].distance - profile[index])

    @cached_property
    def _profiles(self) -> list[FloatArray]:
        return [np.asarray(edge.profile, float) for edge in self.edges]

    @cached_property
    def _bounds(self) -> list[tuple[float, float]]:
        """Along the descent, from where to where (m) cells of both sides of an edge may lie."""
        ends = zip(self.edges, self._profiles, strict=True)
        return [
            (edge.distance + float(p.min()) - _CELL, edge.distance + float(p.max()) + _CELL)
            for edge, p in ends
        ]

    def _cover(
        self, k: int, x: FloatArray, y: FloatArray, blur: float, descent: FloatArray
    ) -> FloatArray:
        """Share (n,) of the upper terrace of edge k: its cells, convolved with a Gaussian."""
        low, high = self._bounds[k]
        result = (descent < low).astype(float)
        near = np.flatnonzero((descent > low - _REACH) & (descent < high + _REACH))
        if near.size == 0:
            return result
        u, v = self.local(x[near], y[near], k)
        row, pair = np.round(u / _CELL), np.round(v / _CELL - 0.25)
        width = np.sqrt(2.0 * (_EDGE_SIGMA**2 + blur**2))
        du, dv = u - row * _CELL, v - (pair + 0.25) * _CELL
        bounds = _CELL * np.array([-1.5, -0.5, 0.5, 1.5])
        shares_u = np.diff(erf((bounds[:, None] - du) / width), axis=0)
        shares_v = np.diff(erf((bounds[:, None] - dv) / width), axis=0)
        covered = np.zeros(near.size)
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                filled = self._filled(k, row + di, pair + dj)
                covered += filled * shares_u[di + 1] * shares_v[dj + 1]
        result[near] = covered / (shares_u.sum(axis=0) * shares_v.sum(axis=0))
        return result


def random_edge(rng: np.random.Generator, terraces: Terraces, level: int, distance: float) -> Edge:
    """Draw an edge below a level: smooth along its rows, rough across them.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    terraces : Terraces
        Gives the directions of rows and descent.
    level : int
        The upper terrace.
    distance : float
        Mean position (m) along the direction of descent.
    """
    rough = abs(np.cos(terraces.direction - terraces.row_direction(level)))
    kinks = 0.15e-9 + 0.75e-9 * rough * rng.uniform(0.6, 1.3)
    memory = 0.80
    profile = np.empty(_PROFILE)
    value = 0.0
    for index, kick in enumerate(rng.standard_normal(_PROFILE)):
        value = memory * value + np.sqrt(1.0 - memory**2) * kick
        profile[index] = kinks * value
    place = 2.0 * np.pi * np.arange(_PROFILE) / _PROFILE
    for waves in (5, 11, 19):
        size = 0.35e-9 * rng.uniform(0.2, 1.0)
        profile += size * np.sin(waves * place + rng.uniform(0.0, 2.0 * np.pi))
    # No edge strays so far that it meets the next one.
    return Edge(distance, tuple(float(p) for p in np.clip(profile, -1.8e-9, 1.8e-9)))
