"""What the optimizer remembers of a point, and its form in JSON."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from .encoding import decode, encode

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decision:
    """Why a point was suggested.

    Attributes
    ----------
    id : int
        The suggestion's ``"_id"``.
    index : int
        Candidate on the grid.
    acquisition_value : float
        Score of the acquisition function; NaN where none was asked.
    posterior_mean, posterior_std : float
        Model at the point before it is measured, in the unit of the outcome; NaN for a point of
        the initial design.
    hyperparameters : ndarray, shape (4,)
        Signal variance (unit of the outcome squared), the two lengths along the frame's axes
        (metres), prior mean (unit of the outcome); NaN before the first outcome.
    default_noise_variance : float
        Noise variance of outcomes that came without one, in the unit of the outcome squared; NaN
        before the first outcome.
    n_data : int
        Number of outcomes that the model had.
    trained : bool
        False as long as the hyperparameters are the medians of their prior.
    reason : str
        ``"initial design"``, the name of the acquisition function, or ``"requested"``.
    structure : str
        JSON of the structure that the model used, with its hyperparameters; empty without one.
        ``hyperparameters`` are then those of the residual. `posterior_maps` takes it as it is.
    """

    id: int
    index: int
    acquisition_value: float
    posterior_mean: float
    posterior_std: float
    hyperparameters: FloatArray
    default_noise_variance: float
    n_data: int
    trained: bool
    reason: str
    structure: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold, with None for NaN."""
        return {name.name: _plain(getattr(self, name.name)) for name in fields(self)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Decision":
        """Undo `to_json`."""
        numbers = (
            "acquisition_value",
            "posterior_mean",
            "posterior_std",
            "default_noise_variance",
        )
        values = dict(state)
        for name in numbers:
            values[name] = _number(values[name])
        values["hyperparameters"] = np.array([_number(v) for v in state["hyperparameters"]])
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Measurement:
    """An outcome at a position.

    Attributes
    ----------
    id : int
        The point's ``"_id"``.
    x, y : float
        Where it was measured, in sample coordinates, in metres.
    value : float
        The outcome.
    variance : float
        Its noise variance, in its unit squared; NaN if not known.
    spectrum : ndarray, shape (n,), or None
        The whole spectrum, any unit, where spectra are modelled.
    """

    id: int
    x: float
    y: float
    value: float
    variance: float
    spectrum: FloatArray | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold, with None for NaN."""
        state = {name.name: _plain(getattr(self, name.name)) for name in fields(self)}
        state["spectrum"] = None if self.spectrum is None else encode(self.spectrum)
        return state

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Measurement":
        """Undo `to_json`."""
        spectrum = state["spectrum"]
        return cls(
            **state
            | {
                "variance": _number(state["variance"]),
                "spectrum": None if spectrum is None else decode(spectrum),
            }
        )


class Rows:
    """Rows of numbers that grow at their end, to be read as one array at any time.

    Parameters
    ----------
    width : int
        Numbers in a row.
    """

    def __init__(self, width: int) -> None:
        self._space = np.empty((64, width))
        self._count = 0

    def append(self, row: tuple[float, ...]) -> None:
        """Add a row."""
        if self._count == len(self._space):
            self._space = np.concatenate([self._space, np.empty_like(self._space)])
        self._space[self._count] = row
        self._count += 1

    @property
    def array(self) -> FloatArray:
        """All rows: shape (N, width)."""
        return self._space[: self._count]


@dataclass
class Ledger:
    """All points that an optimizer knows.

    Attributes
    ----------
    positions : dict
        Suggested position (x, y) in metres of every id that was given out.
    pending : dict
        Ids that are under way; the keys in order of suggestion, the values are always None.
    failed : list
        Ids that failed.
    measured : list of Measurement
        Outcomes in order of arrival.
    decisions : dict
        Decision of every id.
    classes : dict
        Probabilities (K,) of the classes, and novelty, of every id that a classifier has named.
    """

    positions: dict[int, tuple[float, float]] = field(default_factory=dict)
    pending: dict[int, None] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    measured: list[Measurement] = field(default_factory=list)
    decisions: dict[int, Decision] = field(default_factory=dict)
    classes: dict[int, tuple[FloatArray, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = {measurement.id for measurement in self.measured}
        self._next_id = max(self.positions, default=-1) + 1
        self._table, self._spots = Rows(4), Rows(2)
        for identifier in (*self.failed, *self._ids):
            self._spots.append(self.positions[identifier])
        for m in self.measured:
            self._spots.append((m.x, m.y))
            self._table.append((m.x, m.y, m.value, m.variance))

    @property
    def next_id(self) -> int:
        """Id for the next suggestion."""
        return self._next_id

    @property
    def spots(self) -> FloatArray:
        """Positions (x, y) that are not suggested again: shape (K, 2), metres.

        Those that are measured (both where they should have been and where they were), failed or
        under way, in order of time.
        """
        return self._spots.array

    @property
    def table(self) -> FloatArray:
        """x, y (metres), outcome and its variance of every measurement: shape (N, 4)."""
        return self._table.array

    @property
    def spectra(self) -> FloatArray | None:
        """Spectra of all measurements: shape (N, n); None where spectra are not modelled."""
        rows = [m.spectrum for m in self.measured if m.spectrum is not None]
        return np.array(rows) if rows and len(rows) == len(self.measured) else None

    def has_outcome(self, identifier: int) -> bool:
        """Whether there is an outcome of a point."""
        return identifier in self._ids

    def give_out(self, decision: Decision, x: float, y: float) -> None:
        """Remember that a point (position in metres) was suggested and is under way."""
        self.positions[decision.id] = (x, y)
        self.decisions[decision.id] = decision
        self.pending[decision.id] = None
        self._next_id = max(self._next_id, decision.id + 1)
        self._spots.append((x, y))

    def take(self, measurement: Measurement) -> None:
        """Remember an outcome, also that of a point that had been given up as failed."""
        m = measurement
        self.positions.setdefault(m.id, (m.x, m.y))
        self._next_id = max(self._next_id, m.id + 1)
        self._ids.add(m.id)
        self.pending.pop(measurement.id, None)
        if measurement.id in self.failed:
            self.failed.remove(measurement.id)
        self.measured.append(m)
        self._spots.append((m.x, m.y))
        self._table.append((m.x, m.y, m.value, m.variance))

    def fail(self, identifier: int) -> None:
        """Remember that a point could not be measured."""
        self.pending.pop(identifier, None)
        if identifier not in self.failed:
            self.failed.append(identifier)

    def forget(self, identifiers: Collection[int]) -> None:
        """Forget outcomes; their places may be suggested again."""
        gone = set(identifiers)
        self.measured = [m for m in self.measured if m.id not in gone]
        for identifier in gone:
            self.classes.pop(identifier, None)
        self.__post_init__()
        for identifier in self.pending:
            self._spots.append(self.positions[identifier])

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return {
            "positions": [[i, x, y] for i, (x, y) in self.positions.items()],
            "failed": list(self.failed),
            "measured": [measurement.to_json() for measurement in self.measured],
            "decisions": [decision.to_json() for decision in self.decisions.values()],
            "classes": [[i, p.tolist(), n] for i, (p, n) in self.classes.items()],
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Ledger":
        """Undo `to_json`; points that were under way are free again, as nobody measures them."""
        decisions = [Decision.from_json(entry) for entry in state["decisions"]]
        positions = {int(i): (float(x), float(y)) for i, x, y in state["positions"]}
        measured = [Measurement.from_json(entry) for entry in state["measured"]]
        failed = [int(i) for i in state["failed"]]
        return cls(
            positions=positions,
            failed=failed,
            measured=measured,
            decisions={decision.id: decision for decision in decisions},
            classes={int(i): (np.array(p, float), float(n)) for i, p, n in state["classes"]},
        )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value.tolist()]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
