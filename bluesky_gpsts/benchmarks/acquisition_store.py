"""Single runs of the acquisition benchmark, kept as they end."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bluesky_gpsts.benchmarks.measuring import Trace

WANTED = 0.95


@dataclass(frozen=True)
class Cell:
    """One entry of the table: a map, a strategy, the noise (fraction of the range)."""

    case: str
    strategy: str
    noise: float
    variances: bool

    @property
    def condition(self) -> tuple[float, bool]:
        """Noise, and whether spectra tell their own variance."""
        return self.noise, self.variances

    @property
    def title(self) -> str:
        """Map and condition, as tables name them."""
        told = ", measured variances" if self.variances else ""
        return f"{self.case}; {100 * self.noise:g} %{told}"


@dataclass(frozen=True)
class Record:
    """One run: a cell at one seed.

    Attributes
    ----------
    cell : Cell
        What was run.
    seed, side, limit : int
        Seed, candidates along a side, largest number of spectra.
    reached : int or None
        Spectra to a sustained r of 0.95, None if it was not reached.
    claimed : tuple of int and float, or None
        Spectra, and the real r, where the estimated correlation first said 0.95.
    estimates : bool
        Whether the strategy estimates its correlation.
    n : tuple of int
        Numbers of spectra.
    r : tuple of float
        Correlation at each.
    seconds : float
        Time the run took.
    """

    cell: Cell
    seed: int
    side: int
    limit: int
    reached: int | None
    claimed: tuple[int, float] | None
    estimates: bool
    n: tuple[int, ...]
    r: tuple[float, ...]
    seconds: float

    @classmethod
    def of(cls, cell: Cell, seed: int, side: int, limit: int, trace: Trace) -> "Record":
        """Sum up a run."""
        return cls(
            cell,
            seed,
            side,
            limit,
            trace.sustained(WANTED),
            trace.claimed(WANTED),
            trace.estimated is not None,
            trace.n,
            tuple(round(value, 5) for value in trace.r),
            trace.seconds,
        )

    def fits(self, side: int, limit: int) -> bool:
        """Whether the run is of this protocol."""
        return (self.side, self.limit) == (side, limit)

    def sustained(self, wanted: float) -> int:
        """Spectra from which on `r` stays at `wanted`; one above the limit if it never does."""
        found = Trace(self.n, self.r, None, 0.0).sustained(wanted)
        return self.limit + 1 if found is None else found

    def to_line(self) -> str:
        """Line of a results file."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> "Record":
        """Undo `to_line`."""
        values = json.loads(line)
        values["cell"] = Cell(**values["cell"])
        for name in ("n", "r", "claimed"):
            values[name] = None if values[name] is None else tuple(values[name])
        return cls(**values)


class Store:
    """Runs in memory and, where a file is given, as lines of it.

    Parameters
    ----------
    path : Path, optional
        File of JSON lines; made if it is not there.

    Raises
    ------
    ValueError
        If the file holds a line that is no run, other than a last one that was cut short.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._records: dict[tuple[Cell, int, int, int], Record] = {}
        if path is None or not path.exists():
            return
        content = path.read_text(encoding="utf-8")
        lines = content.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                self._keep(Record.from_line(line))
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines) and not content.endswith("\n"):
                    # The run that was being written when the computer stopped is run again.
                    whole = "".join(kept + "\n" for kept in lines[:-1])
                    path.write_text(whole, encoding="utf-8")
                    return
                raise ValueError(
                    f"line {number} of {path} is not a run of this benchmark ({error}); give "
                    "another file"
                ) from None

    def _keep(self, record: Record) -> None:
        self._records[(record.cell, record.seed, record.side, record.limit)] = record

    def has(self, cell: Cell, seed: int, side: int, limit: int) -> bool:
        """Whether a run is there."""
        return (cell, seed, side, limit) in self._records

    def add(self, record: Record) -> None:
        """Keep a run, on disk too."""
        self._keep(record)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(record.to_line() + "\n")

    def records(self) -> Iterator[Record]:
        """All runs, in the order in which they were kept."""
        yield from self._records.values()
