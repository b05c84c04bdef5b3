"""From single runs to the rows of the acquisition benchmark, with its goals."""

from collections.abc import Sequence

import numpy as np

from bluesky_gpsts.benchmarks.acquisition_store import WANTED, Cell, Record
from bluesky_gpsts.benchmarks.maps import SYNTHETIC
from bluesky_gpsts.benchmarks.strategies import BLIND, FARTHEST, GPCAM, STRATEGIES
from bluesky_gpsts.benchmarks.table import Row

REACH = "spectra to r 0.95"

_LOW, _HIGH = (0.03, False), (0.10, True)
GOALS: dict[tuple[str, str, tuple[float, bool]], tuple[float, float | None]] = {
    ("vacancy", BLIND, _LOW): (30, 40),
    ("two defects", BLIND, _LOW): (57, None),
    ("vacancy", "symmetry", _LOW): (12, 16),
    ("moire", "lattice", _LOW): (12, 16),
    ("herringbone", "topograph", _LOW): (60, None),
    ("vacancy", "symmetry", _HIGH): (45, None),
    ("vacancy", BLIND, _HIGH): (75, None),
}
"""Most spectra in the median, and at p90, by map, strategy and condition."""

TOLERANCE = 1.1
"""How many times the blind count a wrong prior may cost, and the better peer's on real maps."""

CALIBRATION = 0.93
"""Least real correlation, in nine of ten seeds, where the estimate says 0.95."""


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, p10 and p90 as measured values: of ten, the fifth, the second and the ninth.

    Nothing is interpolated, because a run that did not reach the goal has no number to
    interpolate with. Of fewer than ten, p10 and p90 are the lowest and the highest.
    """
    ordered = sorted(float(value) for value in values)
    count = len(ordered)
    return ordered[(count - 1) // 2], ordered[count // 10], ordered[count - 1 - count // 10]


def rows_of(records: Sequence[Record]) -> tuple[list[Row], list[str]]:
    """Rows of all cells, then those that compare cells; and what could not be compared."""
    cells: dict[Cell, list[Record]] = {}
    for record in records:
        cells.setdefault(record.cell, []).append(record)
    rows: list[Row] = []
    medians: dict[Cell, float] = {}
    for cell, runs in cells.items():
        counts = [run.limit + 1 if run.reached is None else run.reached for run in runs]
        median, low, high = quantiles(counts)
        medians[cell] = median
        goal, goal_high = GOALS.get((cell.case, cell.strategy, cell.condition), (None, None))
        for name, value, wanted in (
            ("median", median, goal),
            ("p10", low, None),
            ("p90", high, goal_high),
        ):
            rows.append(_row(cell, f"{REACH}, {name}", value, len(runs), wanted))
        last = quantiles([run.r[-1] for run in runs])[0]
        rows.append(_row(cell, f"r after {runs[0].n[-1]} spectra, median", last, len(runs), None))
    compared, notes = _ratios(cells, medians)
    calibrated, silent = _calibration(cells)
    return rows + compared + calibrated, notes + silent


def _row(cell: Cell, metric: str, value: float, n: int, goal: float | None) -> Row:
    return Row(cell.title, cell.strategy, metric, value, "", n, goal, at_most=True)


def _ratios(
    cells: dict[Cell, list[Record]], medians: dict[Cell, float]
) -> tuple[list[Row], list[str]]:
    """What a wrong prior costs, and how the blind strategy does against its peers."""
    rows: list[Row] = []
    notes: list[str] = []
    for cell, median in medians.items():
        if STRATEGIES[cell.strategy].kind == "wrong prior":
            metric = "times the blind median"
        elif cell.strategy == BLIND and cell.case not in SYNTHETIC:
            metric = f"times the better of {FARTHEST} and {GPCAM}"
        else:
            continue
        others = (FARTHEST, GPCAM) if cell.strategy == BLIND else (BLIND,)
        known = [medians[_beside(cell, name)] for name in others if _beside(cell, name) in medians]
        if len(known) < len(others):
            continue
        limit = cells[cell][0].limit
        if min(median, *known) > limit:
            # Two counts that are only known to be above the limit have no ratio; a level that
            # all of them reach has.
            group = [cell, *(_beside(cell, name) for name in others)]
            level = _common_level([cells[member] for member in group])
            notes.append(
                f"{cell.title}: none of {', '.join(member.strategy for member in group)} reaches "
                f"{WANTED} within {limit} spectra; they are compared at r = {level:.2f}"
            )
            counts = [
                quantiles([run.sustained(level) for run in cells[member]])[0] for member in group
            ]
            metric = f"{metric} at r = {level:.2f}"
            median, known = counts[0], counts[1:]
        rows.append(_row(cell, metric, median / min(known), len(cells[cell]), TOLERANCE))
    return rows, notes


def _common_level(groups: Sequence[Sequence[Record]]) -> float:
    """Highest r, to two digits, that the median run of every group keeps at the end."""
    lasts = [quantiles([run.r[-1] for run in runs])[0] for runs in groups]
    return float(np.floor(100 * min(lasts)) / 100)


def _beside(cell: Cell, strategy: str) -> Cell:
    return Cell(cell.case, strategy, cell.noise, cell.variances)


def _calibration(cells: dict[Cell, list[Record]]) -> tuple[list[Row], list[str]]:
    """How good the map is where the optimizer first says that r is 0.95."""
    rows, notes = [], []
    for cell, runs in cells.items():
        if not all(run.estimates for run in runs):
            continue
        claims = [run.claimed for run in runs if run.claimed is not None]
        if not claims:
            notes.append(f"{cell.title}, {cell.strategy}: the estimate never says 0.95")
            continue
        real = quantiles([r for _, r in claims])[1]
        rows.append(
            Row(
                cell.title,
                cell.strategy,
                "real r where 0.95 is estimated, p10",
                real,
                "",
                len(claims),
                CALIBRATION,
            )
        )
        at = quantiles([count for count, _ in claims])[0]
        rows.append(_row(cell, "estimate says 0.95 at, median", at, len(claims), None))
    return rows, notes
