"""Where a pattern of dimers can be written: sites, ranked, with their distances to steps.

A pattern of few dimers must avoid depressions and adsorbates, and may be written over missing
hydrogen; a large electrode is not affected by depressions (Ziatdinov et al.). What a class is not
sure of forbids a site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.relief import frame_of, relief_of
from bluesky_gpsts.images.rowlattice import ALONG
from bluesky_gpsts.images.surface import SurfaceReading

__all__ = ["ELECTRODE", "THREE_DIMERS", "WRITABLE", "Pattern", "Site", "find_sites"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

WRITABLE = ("dangling_bond", "bare_dimer", "lithography")
"""Classes that are but missing hydrogen, and can be written over."""

_DEPRESSIONS = ("missing_dimer", "missing_cluster", "dihydride")

_DOUBT = 0.12
_FRINGE = 0.25e-9
_STRAY = 4.0
_NEIGHBOUR = 0.3
_SURE = 0.5
_CAP = 3e-9


@dataclass(frozen=True)
class Pattern:
    """A rectangle of dimers to be written.

    Attributes
    ----------
    name : str
        What it is.
    along, across : int
        Dimers along the row, and rows.
    allowed : tuple of str
        Classes of defects that it may be written over; all others forbid a site.
    margin : float
        Least distance (m) of its dimers from what is forbidden.
    step_margin : float
        Least distance (m) of its dimers from step edges.

    Raises
    ------
    ValueError
        If it has no dimers, or a distance is negative.
    """

    name: str
    along: int
    across: int
    allowed: tuple[str, ...] = WRITABLE
    margin: float = 0.55e-9
    step_margin: float = 1.2e-9

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.along < 1 or self.across < 1:
            raise ValueError(
                f"the pattern {self.name!r} has {self.along} x {self.across} dimers; give 1 or more"
            )
        if not (0.0 <= self.margin < np.inf and 0.0 <= self.step_margin < np.inf):
            raise ValueError(
                f"the pattern {self.name!r} keeps {self.margin} m from defects and "
                f"{self.step_margin} m from steps; give 0 or more"
            )


THREE_DIMERS = Pattern("three dimers", 3, 1)
"""The pattern for one dopant atom."""

ELECTRODE = Pattern("electrode", 14, 6, (*WRITABLE, *_DEPRESSIONS))
"""A small source or drain electrode, 5.4 by 4.6 nm."""


@dataclass(frozen=True, eq=False)
class Site:
    """A place for a pattern.

    Attributes
    ----------
    x, y : float
        Its middle (pixels).
    dimers : (along, across, 2) array
        Positions (pixels) of its dimers.
    direction : float
        Direction of the row (rad), from +x towards +y, 0 to pi.
    direction_error : float
        Standard error of it (rad).
    terrace : int
        Number of the terrace.
    step_distance : float
        From the nearest step edge (m); infinite without one in the image.
    defect_distance : float
        From the nearest pixel that is forbidden (m); infinite without one.
    confidence : float
        Lowest probability of its dimers.
    """

    x: float
    y: float
    dimers: Array
    direction: float
    direction_error: float
    terrace: int
    step_distance: float
    defect_distance: float
    confidence: float


def find_sites(
    image: ArrayLike,
    reading: SurfaceReading,
    pattern: Pattern = THREE_DIMERS,
    classes: Mapping[int, str] | None = None,
    count: int = 100,
    known: Sequence[str] | None = None,
) -> list[Site]:
    """Find where a pattern fits.

    Parameters
    ----------
    image : (ny, nx) array_like
        The image that was read.
    reading : SurfaceReading
        What was read of it.
    pattern : Pattern
        What is to be written.
    classes : mapping of int to str, optional
        Class of each defect by its number, where it is sure; a defect without one forbids a site.
    count : int
        How many to give at most.
    known : sequence of str, optional
        Names that a class may have, such as those of a library; those of the package by default.
        Those of ``pattern.allowed`` always are.

    Returns
    -------
    list of Site
        The best first: those farthest from steps and from what is forbidden (up to 3 nm), and
        among these the surest. No two share a dimer.

    Raises
    ------
    ValueError
        If the image was refused or does not resolve the dimers, `count` is below 1, `pattern` is
        none, or a class is unknown.
    """
    if count < 1:
        raise ValueError(f"count is {count} sites; give 1 or more")
    if not isinstance(pattern, Pattern):
        raise ValueError(f"pattern is {pattern!r}; give a Pattern, such as THREE_DIMERS")
    named = dict(classes or {})
    _check_names(named, pattern, known)
    if reading.verdict.readable and not reading.resolved:
        raise ValueError(f"where a pattern fits is not known: {reading.remark}")
    relief = relief_of(image, reading)
    forbidden, free = _forbidden(reading, pattern, named)
    from_defects = _distance(forbidden, reading.pixel)
    from_steps = _distance(reading.steps | _borders(reading.terraces), reading.pixel)
    good = _good_dimers(reading, relief.values, pattern, free)
    place = _pixels(reading)
    here = from_defects[place], from_steps[place]
    good &= (here[0] >= pattern.margin) & (here[1] >= pattern.step_margin)
    found: list[tuple[tuple[float, float], NDArray[np.intp], Site]] = []
    for terrace in reading.terrace_list:
        if terrace.vectors is None:
            continue
        own = np.flatnonzero((reading.site_terrace == terrace.number) & reading.on_lattice)
        if not own.size:
            continue
        for members in _rectangles(reading, own, terrace.number, pattern, good):
            dimers = reading.sites[members]
            middle = dimers.mean(axis=(0, 1))
            step = float(here[1][members].min())
            defect = float(here[0][members].min())
            sure = float(reading.confidence[members].min())
            site = Site(
                float(middle[0]),
                float(middle[1]),
                dimers,
                terrace.direction,
                terrace.direction_error,
                terrace.number,
                step,
                defect,
                sure,
            )
            found.append(((min(step, defect, _CAP), sure), members, site))
    found.sort(key=lambda one: one[0], reverse=True)
    taken = np.zeros(len(reading.sites), bool)
    chosen: list[Site] = []
    for _, members, site in found:
        if len(chosen) == count:
            break
        if not taken[members].any():
            taken[members] = True
            chosen.append(site)
    return chosen


def _check_names(named: Mapping[int, str], pattern: Pattern, known: Sequence[str] | None) -> None:
    """Refuse a class that is none: a mistyped one would forbid sites without a word."""
    if known is None:
        from bluesky_gpsts.images.patchtraining import CLASSES

        known = CLASSES
    names = dict.fromkeys([*known, *pattern.allowed])
    unknown = sorted({str(name) for name in named.values()} - set(names))
    if unknown:
        raise ValueError(
            f"no class of defects is called {', '.join(map(repr, unknown))}; give one of "
            f"{', '.join(names)}, or say in `known` which others there are"
        )


def _forbidden(
    reading: SurfaceReading, pattern: Pattern, classes: Mapping[int, str]
) -> tuple[Bools, Bools]:
    """Pixels that must not be written on, and those of defects that may be written over."""
    from scipy.ndimage import distance_transform_edt

    labels = reading.defect_labels
    allowed = np.zeros(len(reading.defects) + 1, bool)
    for number, name in classes.items():
        if not 1 <= number <= len(reading.defects):
            raise ValueError(
                f"there is no defect {number}; the reading has 1 to {len(reading.defects)}"
            )
        allowed[number] = name in pattern.allowed
    bad = (labels > 0) & ~allowed[labels]
    free = (labels > 0) & allowed[labels]
    if labels.any():
        # The rim of a defect, where its probability falls off, is part of it.
        apart, (i, j) = distance_transform_edt(
            labels == 0, sampling=(reading.pixel[1], reading.pixel[0]), return_indices=True
        )
        rim = (apart > 0.0) & (apart < _FRINGE)
        free |= rim & allowed[labels[i, j]]
    if not set(_DEPRESSIONS) <= set(pattern.allowed):
        bad |= (reading.defect_probability > _DOUBT) & ~free
    return bad, free


def _good_dimers(reading: SurfaceReading, relief: Array, pattern: Pattern, free: Bools) -> Bools:
    """Sites (N,) that look like a dimer, or like a defect that may be written over."""
    place = _pixels(reading)
    if set(_DEPRESSIONS) <= set(pattern.allowed):
        return np.ones(len(reading.sites), bool)
    heights = relief[place]
    dimers = reading.occupied & reading.on_lattice & np.isfinite(heights)
    if not dimers.any():
        return np.zeros(len(reading.sites), bool)
    middle = float(np.median(heights[dimers]))
    usual = 1.4826 * float(np.median(np.abs(heights[dimers] - middle))) + 0.05
    typical = np.abs(np.nan_to_num(heights, nan=np.inf) - middle) < _STRAY * usual
    sure = reading.occupied & (reading.confidence > _SURE)
    return np.asarray((sure & typical) | free[place])


def _rectangles(
    reading: SurfaceReading, own: NDArray[np.intp], terrace: int, pattern: Pattern, good: Bools
) -> list[NDArray[np.intp]]:
    """Sites (along, across) of every rectangle of good ones, from neighbour to neighbour."""
    from scipy.spatial import cKDTree

    sites = reading.sites[own]
    tree = cKDTree(sites)
    frame = frame_of(reading, terrace).vectors
    tolerance = _NEIGHBOUR * ALONG / max(reading.pixel)
    beside = []
    for vector in frame:
        apart, index = tree.query(sites + vector, distance_upper_bound=tolerance)
        beside.append(np.where(np.isfinite(apart), index, -1))
    along, across = (np.append(part, -1) for part in beside)
    usable = np.append(good[own], False)
    table = np.empty((len(own), pattern.along, pattern.across), np.intp)
    row = np.arange(len(own))
    for j in range(pattern.across):
        member = row
        for i in range(pattern.along):
            table[:, i, j] = member
            member = along[member]
        row = across[row]
    whole = usable[table].all(axis=(1, 2))
    return list(own[table[whole]])


def _pixels(reading: SurfaceReading) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of the sites."""
    ny, nx = reading.terraces.shape
    column, row = np.round(reading.sites).astype(np.intp).T.reshape(2, -1)
    return np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)


def _borders(terraces: NDArray[np.int32]) -> Bools:
    """Pixels beside another terrace."""
    edge = np.zeros(terraces.shape, bool)
    edge[:, 1:] |= terraces[:, 1:] != terraces[:, :-1]
    edge[1:] |= terraces[1:] != terraces[:-1]
    return edge


def _distance(mask: Bools, pixel: tuple[float, float]) -> Array:
    """Distance (m) of each pixel from those of a mask."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(distance_transform_edt(~mask, sampling=(pixel[1], pixel[0])))
