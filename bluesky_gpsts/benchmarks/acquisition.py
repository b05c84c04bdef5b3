"""Spectra that a map takes, by every way to choose them: medians over seeds, with p10 and p90.

The protocol of Thomas et al., npj Comput. Mater. 8, 99 (2022), Fig. S1 to S5, over seeds instead
of one run each: the Pearson correlation r of the map with the truth without noise, after every
spectrum, and the number of spectra from which on it stays at 0.95 or above. The map is the mean
of the Gaussian process; a raster is interpolated linearly as well. All strategies of a seed see
the same map and the same noise at every pixel.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluesky_gpsts.benchmarks.acquisition_rows import rows_of
from bluesky_gpsts.benchmarks.acquisition_store import Cell, Record, Store
from bluesky_gpsts.benchmarks.acquisition_text import text
from bluesky_gpsts.benchmarks.maps import (
    SIDE,
    SYNTHETIC,
    Truth,
    find_data,
    read_map,
    recorded_truth,
    truth_names,
    truth_of,
)
from bluesky_gpsts.benchmarks.maps.recorded import RecordedMap
from bluesky_gpsts.benchmarks.measuring import Sample, measure
from bluesky_gpsts.benchmarks.strategies import (
    BLIND,
    FARTHEST,
    GPCAM,
    STRATEGIES,
    Strategy,
    applies,
    unavailable,
)
from bluesky_gpsts.benchmarks.table import report

__all__ = ["LIMIT", "run", "text"]

LIMIT = 100
SEEDS = 10
QUICK_CASES = ("vacancy", "moire")
QUICK_STRATEGIES = (
    BLIND,
    "variance",
    "symmetry",
    "lattice",
    FARTHEST,
    "raster",
    GPCAM,
)

CONDITIONS = ((0.03, False), (0.10, True), (0.10, False))
"""Noise as a fraction of the map's range, and whether each spectrum tells its own variance."""

# Those that goals are about come first, so that a run that is cut short has measured them.
_FIRST = (
    *(BLIND, "symmetry", "lattice", "topograph", FARTHEST, GPCAM),
    *(name for name, strategy in STRATEGIES.items() if strategy.kind == "wrong prior"),
    *("library", "variance", "ucb", "raster", "raster (linear)", "Sobol", "random"),
)
_WITHOUT_VARIANCES = (BLIND, "symmetry", "lattice", "variance")

# Seconds of one run on a desktop computer: for the time left, not for a result.
_COSTS = {"blind": 1.0, "prior": 3.0, "wrong prior": 3.0, "design": 0.6, "gpCAM": 5.0}


@dataclass(frozen=True)
class Protocol:
    """What is run."""

    cases: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: int
    side: int
    limit: int
    conditions: tuple[tuple[float, bool], ...]


def run(
    quick: bool = False,
    *,
    cases: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    seeds: int | None = None,
    side: int = SIDE,
    limit: int = LIMIT,
    noise: float | None = None,
    map_file: str | Path | None = None,
    data: Path | None = None,
    results: Path | None = None,
    figure: Path | None = None,
    report_only: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the comparison, or what is missing of it.

    Parameters
    ----------
    quick : bool
        One seed of two maps at 3 % noise with a few strategies: less than a minute.
    cases : sequence of str, optional
        Maps, by `bluesky_gpsts.benchmarks.maps.truth_names`; all unless given.
    strategies : sequence of str, optional
        Keys of `bluesky_gpsts.benchmarks.strategies.STRATEGIES`; all unless given.
    seeds : int, optional
        Seeds of each cell; 10 unless given, 1 if quick.
    side : int
        Candidates along a side of the synthetic maps; 43 is every third pixel of a frame of 128.
    limit : int
        Largest number of spectra.
    noise : float, optional
        Only this standard deviation of the noise, as a fraction of the range: 0.03 or 0.1.
    map_file : path, optional
        A .3ds, .npy or WSxM ASCII map to use instead of the cases.
    data : Path, optional
        Folder of the real measurements; beside the project unless given.
    results : Path, optional
        File of single runs (JSON lines), written as they end; those it holds are not run again.
    figure : Path, optional
        PNG file to draw.
    report_only : bool
        Measure nothing; report on what `results` holds.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "acquisition", with ``protocol``, ``notes`` (what was not run,
        and why) and ``seconds`` (of all single runs, earlier ones included).

    Raises
    ------
    ValueError
        If a name is unknown or a count is below 1.
    FileNotFoundError
        If a file is missing, or the real measurements are and a recorded case was asked for.
    """
    recorded = None if map_file is None else read_map(map_file)
    protocol, notes = _protocol(quick, cases, strategies, seeds, side, limit, recorded, data)
    if noise is not None:
        chosen = tuple(condition for condition in protocol.conditions if condition[0] == noise)
        if not chosen:
            known = ", ".join(f"{level:g}" for level in dict(CONDITIONS))
            raise ValueError(f"noise is {noise:g}; choose from {known} (quick: 0.03 only)")
        protocol = replace(protocol, conditions=chosen)
    if report_only and results is None:
        raise ValueError("to report on results, name their file: --results FILE")
    if report_only and results is not None and not results.exists():
        raise FileNotFoundError(f"there are no results to report on in {results}; measure first")
    store = Store(results)
    tasks, skipped = _tasks(protocol, recorded, data)
    if not report_only:
        _measure(protocol, tasks, store, recorded, data, progress)
    cells = {cell for cell, _ in tasks}
    records = [r for r in store.records() if r.cell in cells and r.fits(protocol.side, limit)]
    records = [r for r in records if r.seed < protocol.seeds]
    counts = Counter(record.cell for record in records)
    # A cell of fewer seeds than asked for would be compared with whole ones.
    partial = sum(count < protocol.seeds for count in counts.values())
    if partial:
        skipped.append(f"left out: {partial} cells of which some seeds have not been run yet")
    rows, more = rows_of([r for r in records if counts[r.cell] == protocol.seeds])
    packages = ("numpy", "scipy", "gpcam", "fvgp")
    result = report("acquisition", rows, seed=0, packages=packages)
    result["protocol"] = {
        "cases": list(protocol.cases),
        "seeds": protocol.seeds,
        "candidates per side": protocol.side,
        "limit": limit,
        "not reached is counted as": limit + 1,
    }
    missing = len(tasks) - len(records)
    if missing:
        skipped.append(f"not run yet: {missing} of {len(tasks)} single runs")
    result["notes"] = [*notes, *skipped, *more]
    result["seconds"] = sum(record.seconds for record in records)
    if figure is not None:
        from bluesky_gpsts.benchmarks.acquisition_figure import draw

        thumbnails = {
            case: _truth(case, 0, protocol.side, recorded, data) for case in protocol.cases
        }
        figure.write_bytes(draw(result, thumbnails))
    return result


def _protocol(
    quick: bool,
    cases: Sequence[str] | None,
    strategies: Sequence[str] | None,
    seeds: int | None,
    side: int,
    limit: int,
    recorded: RecordedMap | None,
    data: Path | None,
) -> tuple[Protocol, list[str]]:
    """Check and complete what was asked for."""
    notes: list[str] = []
    for name, value, least in (("limit", limit, 9), ("side", side, 8)):
        if value < least:
            raise ValueError(f"{name} is {value}; give {least} or more")
    count = (1 if quick else SEEDS) if seeds is None else seeds
    if count < 1:
        raise ValueError(f"seeds is {count}; give 1 or more")
    for name in strategies or ():
        if name not in STRATEGIES:
            raise ValueError(f"no strategy {name!r}; choose from {', '.join(STRATEGIES)}")
    if strategies is None:
        names = QUICK_STRATEGIES if quick else tuple(sorted(STRATEGIES, key=_rank))
    else:
        names = tuple(strategies)
        for name in names:
            reason = unavailable(STRATEGIES[name])
            if reason:
                raise ValueError(f"strategy {name!r} cannot be run: {reason}")
    if recorded is not None:
        if cases is not None:
            raise ValueError("give either a map file or cases, not both")
        chosen: tuple[str, ...] = (recorded.name,)
    elif cases is not None:
        for case in cases:
            if case not in truth_names():
                raise ValueError(f"no map {case!r}; choose from {', '.join(truth_names())}")
        chosen = tuple(cases)
        if not set(chosen) <= set(SYNTHETIC):
            find_data(data)
    elif quick:
        chosen = QUICK_CASES
    else:
        chosen = truth_names()
        try:
            find_data(data)
        except FileNotFoundError as error:
            notes.append(f"not run: recorded maps, because {error}")
            chosen = tuple(SYNTHETIC)
    conditions = CONDITIONS[:1] if quick else CONDITIONS
    return Protocol(chosen, names, count, side, limit, conditions), notes


def _rank(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _truth(
    case: str, seed: int, side: int, recorded: RecordedMap | None, data: Path | None
) -> Truth:
    if recorded is not None:
        return recorded_truth(recorded, seed)
    return truth_of(case, seed, side, data)


def _tasks(
    protocol: Protocol, recorded: RecordedMap | None, data: Path | None
) -> tuple[list[tuple[Cell, int]], list[str]]:
    """Cells with their seeds in the order of running, and why some are left out."""
    first = {case: _truth(case, 0, protocol.side, recorded, data) for case in protocol.cases}
    tasks: list[tuple[Cell, int]] = []
    notes: list[str] = []
    for name in protocol.strategies:
        strategy = STRATEGIES[name]
        reason = unavailable(strategy)
        if reason:
            notes.append(f"not run: {name}, because {reason}")
            continue
        for noise, variances in protocol.conditions:
            if noise > 0.05 and not variances and name not in _WITHOUT_VARIANCES:
                continue
            for case, truth in first.items():
                if applies(strategy, truth):
                    cell = Cell(case, name, noise, variances)
                    tasks += [(cell, seed) for seed in range(protocol.seeds)]
    # The conditions come before the strategies of less interest.
    later = set(STRATEGIES) - set(_FIRST)
    tasks.sort(key=lambda task: (task[0].strategy in later, CONDITIONS.index(task[0].condition)))
    return tasks, notes


def _measure(
    protocol: Protocol,
    tasks: list[tuple[Cell, int]],
    store: Store,
    recorded: RecordedMap | None,
    data: Path | None,
    progress: bool,
) -> None:
    """Run what the store does not hold yet."""
    from tqdm import tqdm

    left = [t for t in tasks if not store.has(*t, protocol.side, protocol.limit)]
    costs = [_COSTS[_strategy(cell).kind] for cell, _ in left]
    layout = "{desc:48.48} {percentage:3.0f} % |{bar:24}| {elapsed} < {remaining}"
    with tqdm(total=sum(costs), bar_format=layout, disable=not progress) as bar:
        for (cell, seed), cost in zip(left, costs, strict=True):
            bar.set_description(f"{cell.case}, {cell.strategy}, {seed}")
            truth = _truth(cell.case, seed, protocol.side, recorded, data)
            sample = Sample.draw(truth, cell.noise, cell.variances)
            trace = measure(_strategy(cell), sample, protocol.limit)
            store.add(Record.of(cell, seed, protocol.side, protocol.limit, trace))
            bar.update(cost)


def _strategy(cell: Cell) -> Strategy:
    return STRATEGIES[cell.strategy]
