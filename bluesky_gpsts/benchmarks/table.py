"""Rows, report and table that all benchmarks share."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bluesky_gpsts import __version__

__all__ = ["Row", "machine", "report", "table", "versions"]


@dataclass(frozen=True)
class Row:
    """One measured number.

    Parameters
    ----------
    case : str
        What was done, such as "decode 512 x 512".
    method : str
        Who did it: a method of ours, or the name and version of a peer.
    metric : str
        What was measured, such as "CPU time".
    value : float
        The number; the median where there were several.
    unit : str
        Its unit, "" for a pure number.
    n : int
        How many measurements it stands for, 1 or more.
    goal : float, optional
        Where there is a goal, what the value must reach.
    at_most : bool
        Whether the goal is an upper limit; otherwise it is a lower one.

    Raises
    ------
    ValueError
        If `n` is below 1, or the value is not finite: a benchmark that failed has no row.
    """

    case: str
    method: str
    metric: str
    value: float
    unit: str
    n: int
    goal: float | None = None
    at_most: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n < 1:
            raise ValueError(f"{self.case}, {self.method}: n is {self.n}; it must be 1 or more")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.case}, {self.method}: {self.metric} is {self.value}")

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return bool(self.value <= self.goal if self.at_most else self.value >= self.goal)

    def as_dict(self) -> dict[str, Any]:
        """Row for a report: ``goal`` and ``met`` are there only where there is a goal."""
        row: dict[str, Any] = {
            "case": self.case,
            "method": self.method,
            "metric": self.metric,
            "value": float(self.value),
            "unit": self.unit,
            "n": int(self.n),
        }
        if self.goal is not None:
            row |= {"goal": float(self.goal), "met": self.met}
        return row


def machine() -> dict[str, Any]:
    """Describe the computer: system, architecture, processor, number of cores."""
    return {
        "system": platform.platform(),
        "architecture": platform.machine(),
        "processor": platform.processor() or "unknown",
        "cores": os.cpu_count() or 1,
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of this package and of the distributions named, where installed."""
    found = {"python": platform.python_version(), "bluesky-gpsts": __version__}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def report(
    bench: str, rows: Sequence[Row], *, seed: int, packages: Sequence[str] = ("numpy",)
) -> dict[str, Any]:
    """Result of a benchmark, ready for JSON.

    Parameters
    ----------
    bench : str
        Name of the benchmark.
    rows : sequence of Row
        What was measured.
    seed : int
        Seed of everything random in it.
    packages : sequence of str
        Distributions whose versions matter.

    Returns
    -------
    dict
        ``bench``, ``machine``, ``versions``, ``seed`` and ``rows`` (a list of dicts).
    """
    return {
        "bench": bench,
        "machine": machine(),
        "versions": versions(*packages),
        "seed": seed,
        "rows": [row.as_dict() for row in rows],
    }


def table(result: dict[str, Any]) -> str:
    """Text table of a report's rows, one line each, with the goals where there are any."""
    head = ("case", "method", "metric", "value", "unit", "n", "goal", "met")
    lines = [head]
    for row in result["rows"]:
        goal = f"{row['goal']:.4g}" if "goal" in row else ""
        met = {True: "yes", False: "NO", None: ""}[row.get("met")]
        value = f"{row['value']:.4g}"
        cells = (row["case"], row["method"], row["metric"], value, row["unit"], str(row["n"]))
        lines.append((*cells, goal, met))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            cell.rjust(width) if column in (3, 5, 6) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)
