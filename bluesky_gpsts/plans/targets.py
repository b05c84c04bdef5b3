"""Where to go next: defects of given classes, or sites for a pattern, on a survey image."""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Optional

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.callbacks.surface import FindDefects, Found
from bluesky_gpsts.callbacks.surfacerun import sample_vectors, to_sample
from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images.sites import Pattern, find_sites
from bluesky_gpsts.plans.checks import require_count, require_positive
from bluesky_gpsts.plans.stubs import off_loop
from bluesky_gpsts.plans.survey import frame_metadata, survey

__all__ = ["NoTargets", "Target", "defect_targets", "find_targets", "site_targets"]

_SURE = 0.8
_NO_TARGETS = ("nothing", "unresolved")
# Those visited are left out afterwards.
_ALL_SITES = 1_000_000


class NoTargets(RuntimeError):
    """The image could not be read; the text says why."""


@dataclass(frozen=True)
class Target:
    """A place worth going to.

    Attributes
    ----------
    x, y : float
        Position in the sample frame (m).
    label : str
        Class of the defect, or name of the pattern.
    probability : float
        Of the class; of a site, the lowest of its dimers.
    number : int
        Number of the defect in its image; 0 for a site.
    direction : float
        Direction of the dimer row there (rad, from x towards y, 0 to pi); NaN where unknown.
    step_distance : float
        From the nearest step (m); NaN for a defect.
    survey : str
        Uid of the survey.
    """

    x: float
    y: float
    label: str
    probability: float
    number: int
    direction: float
    step_distance: float
    survey: str


def find_targets(
    stm: NanonisSTM,
    finder: FindDefects,
    classes: Sequence[str] = (),
    pattern: Optional[Pattern] = None,  # noqa: UP045 - as in other plans
    count: int = 10,
    survey_uid: str = "",
    again: bool = False,
    least: float = 0.5,
    visited: Sequence[tuple[float, float]] = (),
    distance: float = 1e-9,
    timeout: float = 120.0,
    pixels: int = 256,
    line_time: float = 0.3,
) -> Generator[Msg, Any, list[Target]]:
    """Find the next defects, or sites for a pattern, that are worth going to.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; a survey is taken of its scan frame if the latest one is of another.
    finder : FindDefects
        The callback, subscribed to the RunEngine: ``surface`` of a session that was started with
        ``surface=True``.
    classes : sequence of str, or str
        Classes of defects that are wanted, or a single one; by default all but what the image
        does not resolve and what turned out to be nothing.
    pattern : Pattern, optional
        Look for sites for this pattern instead.
    count : int
        How many at most.
    survey_uid : str
        Survey to look at; the latest by default, if it is of the scan frame as it is now.
    again : bool
        Take a new survey whatever is there.
    least : float
        Least probability of the class.
    visited : sequence of (float, float)
        Places (m) that have been visited.
    distance : float
        How far (m) a target has to be from these.
    timeout : float
        Seconds to wait for the image to be read.
    pixels, line_time : int, float
        For a new survey: pixels of a line, and as many lines; seconds for a line.

    Returns
    -------
    list of Target
        Defects: nearest to the tip first. Sites: best first.

    Raises
    ------
    ValueError
        If an argument is out of range, or a class unknown.
    NoTargets
        If the image cannot be read, or does not resolve the dimers that a pattern is put on.
    TimeoutError
        If reading takes too long.
    """
    count = require_count("count", count, 1)
    timeout = require_positive("timeout", timeout, "s")
    distance = require_positive("distance", distance, "m", or_zero=True)
    if not 0.0 <= least <= 1.0:
        raise ValueError(f"least is {least!r}; give a probability from 0 to 1")
    if not isinstance(finder, FindDefects):
        raise ValueError(
            f"finder is {finder!r}, which reads no images; start the session with "
            "start(..., surface=True) and give its session.surface"
        )
    if pattern is not None and not isinstance(pattern, Pattern):
        raise ValueError(f"pattern is {pattern!r}; give a Pattern, such as THREE_DIMERS")
    wanted = _known_classes(classes, finder)
    uid = survey_uid or ("" if _moved(stm, finder) else finder.latest)
    if again or not uid:
        uid = yield from survey(stm, pixels=pixels, lines=pixels, line_time=line_time)
    with ThreadPoolExecutor(1, "targets") as executor:
        found = yield from off_loop(executor, lambda: finder.wait(uid, timeout))
        if found.reading is None or found.table is None:
            raise NoTargets(f"the survey {uid} gives no targets: {found.problem}")
        if pattern is not None:
            if not found.reading.resolved:
                raise NoTargets(f"the survey {uid} gives no sites: {found.reading.remark}")
            sites = yield from off_loop(executor, lambda: site_targets(found, pattern))
            return _unvisited(sites, visited, distance)[:count]
    x = yield from bps.rd(stm.tip.x)
    y = yield from bps.rd(stm.tip.y)
    defects = defect_targets(found, wanted, least)
    defects.sort(key=lambda target: float(np.hypot(target.x - x, target.y - y)))
    return _unvisited(defects, visited, distance)[:count]


def _moved(stm: NanonisSTM, finder: FindDefects) -> bool:
    """Whether the scan frame is another one than that of the latest survey."""
    now, then = frame_metadata(stm), finder.latest_frame
    return now.keys() != then.keys() or any(
        not np.isclose(now[key], then[key], rtol=1e-6, atol=1e-12) for key in now
    )


def _known_classes(classes: Any, finder: FindDefects) -> tuple[str, ...]:
    """Classes that are wanted, or ValueError."""
    single = isinstance(classes, str) or not isinstance(classes, Iterable)
    names = (classes,) if single else tuple(classes)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"classes is {classes!r}; give names of classes, or leave it out for all: "
            f"{', '.join(finder.classes)}"
        )
    unknown = set(names) - set(finder.classes)
    if unknown:
        raise ValueError(
            f"the classes {', '.join(sorted(unknown))} are unknown; known: "
            f"{', '.join(finder.classes)}"
        )
    return names


def defect_targets(found: Found, classes: Sequence[str] = (), least: float = 0.0) -> list[Target]:
    """Defects of given classes whose probability is at least `least`.

    By default of all classes but "nothing" and "unresolved", which are no place to go to.
    """
    if found.reading is None or found.table is None:
        return []
    directions = _directions(found)
    return [
        Target(
            float(x),
            float(y),
            str(name),
            float(sure),
            int(number),
            directions.get(int(terrace), float("nan")),
            float("nan"),
            found.survey,
        )
        for (x, y), name, sure, number, terrace in zip(
            found.places,
            found.names,
            found.probabilities,
            found.table.numbers,
            found.table.terrace,
            strict=True,
        )
        if sure >= least and (name in classes if classes else name not in _NO_TARGETS)
    ]


def site_targets(found: Found, pattern: Pattern) -> list[Target]:
    """Sites for a pattern, best first; a defect whose class is not sure forbids a site."""
    if found.reading is None or found.table is None:
        return []
    named = zip(found.table.numbers, found.names, found.probabilities, strict=True)
    classes = {int(number): str(name) for number, name, sure in named if sure >= _SURE}
    directions = _directions(found)
    # A library has classes of its own.
    known = sorted(set(classes.values()))
    sites = find_sites(found.image, found.reading, pattern, classes, count=_ALL_SITES, known=known)
    places = to_sample([(site.x, site.y) for site in sites], found.image.shape, found.frame)
    return [
        Target(
            float(x),
            float(y),
            pattern.name,
            site.confidence,
            0,
            directions.get(site.terrace, float("nan")),
            site.step_distance,
            found.survey,
        )
        for (x, y), site in zip(places, sites, strict=True)
    ]


def _directions(found: Found) -> dict[int, float]:
    """Direction of the rows (rad) in the sample frame of each terrace with a lattice."""
    assert found.reading is not None
    known = {}
    for terrace in found.reading.terrace_list:
        if terrace.vectors is not None:
            x, y = sample_vectors(terrace.vectors[:1], found.frame)[0]
            known[terrace.number] = float(np.arctan2(y, x) % np.pi)
    return known


def _unvisited(
    targets: list[Target], visited: Sequence[tuple[float, float]], distance: float
) -> list[Target]:
    """Those that are farther than a distance (m) from all places visited."""
    return [
        target
        for target in targets
        if all(np.hypot(target.x - x, target.y - y) > distance for x, y in visited)
    ]
