"""Seconds and memory for one more point and the next choice, beside what others do.

All methods know the same N outcomes and the same fixed hyperparameters; each takes one outcome in
(tell) and chooses the best of 16384 candidates (ask). They alternate in one process with one BLAS
thread; times are CPU seconds of the process. Peak memory is that of a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.latency_methods import FEWEST, METHODS, Problem, missing
from bluesky_gpsts.benchmarks.stock import quiet_gpcam
from bluesky_gpsts.benchmarks.table import Row, report

__all__ = ["CANDIDATES", "COUNTS", "run"]

COUNTS = (10, 30, 100, 300, 1000, 3000)
CANDIDATES = 128
"""Candidates along a side: 16384 in all."""

OURS, LIST, BOUNDS = "bluesky-gpsts", "gpCAM list", "gpCAM bounds"
LIST_GOAL, BOUNDS_GOAL, MEMORY_GOAL, GROWTH_GOAL = 1000.0, 10.0, 500.0, 1.1
GOAL_AT, MEMORY_AT = 100, 1000

_GOALS = ((LIST, LIST_GOAL), (BOUNDS, BOUNDS_GOAL))

# The list of candidates needs M x M numbers several times over.
_LIST_MEMORY = 12.0
# A method that has used so much CPU time (s) at one N is not repeated there.
_ENOUGH = 10.0
_CHILD_SECONDS = 600.0


def run(
    quick: bool = False,
    *,
    counts: Sequence[int] | None = None,
    side: int | None = None,
    repeats: int | None = None,
    methods: Sequence[str] | None = None,
    memory: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure all methods.

    Parameters
    ----------
    quick : bool
        N = 10, 30 and 100, and gpCAM's list on 64 x 64 candidates at N = 100 only.
    counts : sequence of int, optional
        Numbers of outcomes, ascending.
    side : int, optional
        Candidates along a side; 128, or 64 if quick.
    repeats : int, optional
        Repetitions of each method; 5, or 3 if quick, fewer of those that take over 10 s.
    methods : sequence of str, optional
        Keys of `bluesky_gpsts.benchmarks.latency_methods.METHODS`; all that are installed
        unless given.
    memory : bool
        Measure peak memory too.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "latency", times in s and memory in MB, with ``notes`` on what
        was not run, and why.

    Raises
    ------
    ValueError
        If a method is unknown or a count is below 1.
    RuntimeError
        If a process that measures memory fails.
    """
    from tqdm import tqdm

    counts = tuple(sorted(counts)) if counts else (COUNTS[:3] if quick else COUNTS)
    side = side or (64 if quick else CANDIDATES)
    repeats = repeats or (3 if quick else 5)
    if counts[0] < FEWEST:
        raise ValueError(f"counts start at {counts[0]}; give {FEWEST} or more")
    for name in methods or ():
        if name not in METHODS:
            raise ValueError(f"no method {name!r}; choose from {', '.join(METHODS)}")
    notes: list[str] = []
    names = []
    for name in methods or METHODS:
        reason = missing(name)
        if reason:
            notes.append(f"not run: {name}, because {reason}")
        else:
            names.append(name)
    times: dict[tuple[str, int], list[float]] = {}
    problem = Problem(side)
    with quiet_gpcam(0):
        states = {name: METHODS[name](problem) for name in names}
        for name in names:
            # What is imported or compiled at the first call is not part of any later one.
            if name != LIST:
                states[name].fill(FEWEST)
                states[name].step()
        with tqdm(total=len(counts) * len(names), disable=not progress) as bar:
            for count in counts:
                for name in names:
                    states[name].fill(count)
                for repeat in range(repeats):
                    for name in names:
                        if sum(times.get((name, count), ())) > _ENOUGH:
                            continue
                        if name == LIST and (reason := _too_large(side)):
                            if repeat == 0:
                                notes.append(f"not run: {name} at N = {count}, because {reason}")
                            continue
                        bar.set_description(f"N = {count}, {name}")
                        begin = time.process_time()
                        states[name].step()
                        times.setdefault((name, count), []).append(time.process_time() - begin)
                        if repeat == 0:
                            bar.update()
    size = side * side
    rows = _time_rows(times, names, counts, size)
    if memory:
        at = max((count for count in counts if count <= MEMORY_AT), default=counts[0])
        for name in names:
            if name == LIST and _too_large(side):
                continue
            peak = peak_memory(name, at, side)
            goal = MEMORY_GOAL if name == OURS and at == MEMORY_AT else None
            case = f"N = {at}, {size} candidates"
            rows.append(Row(case, name, "peak memory", peak, "MB", 1, goal, at_most=True))
    packages = ("numpy", "scipy", "gpcam", "fvgp", "scikit-learn", "botorch")
    result = report("latency", rows, seed=0, packages=packages)
    result["notes"] = notes
    return result


def _too_large(side: int) -> str | None:
    """Why gpCAM's list does not fit into this computer; None if it does."""
    import psutil

    # Four matrices of M x M live at the same time.
    needed = 4 * 8 * side**4 / 2**30
    free = psutil.virtual_memory().available / 2**30
    if needed > min(_LIST_MEMORY, free):
        return f"it needs about {needed:.0f} GB and {free:.0f} GB are free"
    return None


def _time_rows(
    times: dict[tuple[str, int], list[float]],
    names: Sequence[str],
    counts: Sequence[int],
    size: int,
) -> list[Row]:
    rows = []
    medians = {key: float(np.median(values)) for key, values in times.items()}
    for count in counts:
        case = f"N = {count}, {size} candidates"
        for name in names:
            if (name, count) in medians:
                value, n = medians[name, count], len(times[name, count])
                rows.append(Row(case, name, "tell and ask, CPU time", value, "s", n))
        for name, goal in _GOALS:
            if (name, count) not in medians or (OURS, count) not in medians:
                continue
            full = count == GOAL_AT and size == CANDIDATES**2
            ratio = medians[name, count] / medians[OURS, count]
            rows.append(
                Row(
                    case,
                    OURS,
                    f"times faster than {name}",
                    ratio,
                    "",
                    len(times[name, count]),
                    goal if full else None,
                )
            )
    known = [count for count in counts if (OURS, count) in medians]
    if len(known) >= 2 and known[-1] >= 10 * 100:
        # Below that the time does not depend on N: it is that of calling things at all.
        first = max(count for count in known if count <= known[-1] / 2.5)
        steps = np.log(known[-1] / first)
        growth = float(np.log(medians[OURS, known[-1]] / medians[OURS, first]) / steps)
        case = f"N = {first} to {known[-1]}, {size} candidates"
        rows.append(
            Row(case, OURS, "exponent of the growth with N", growth, "", 1, GROWTH_GOAL, True)
        )
    return rows


def peak_memory(name: str, count: int, side: int) -> float:
    """Peak resident memory (MB) of a process that takes `count` outcomes in and chooses once.

    Raises
    ------
    RuntimeError
        If that process fails.
    """
    command = [sys.executable, "-m", "bluesky_gpsts.benchmarks.latency_memory"]
    done = subprocess.run(
        [*command, name, str(count), str(side)],
        capture_output=True,
        text=True,
        timeout=_CHILD_SECONDS,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(
            f"memory of {name} at N = {count}: the process ended with {done.returncode}: {last[0]}"
        )
    return float(done.stdout.split()[-1])
