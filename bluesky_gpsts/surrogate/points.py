"""Reading points that come from outside: every number is checked before the model sees it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import Ledger, Measurement
from .settings import Settings

FloatArray = npt.NDArray[np.float64]

ID = "_id"
SPECTRUM = "spectrum"
BASELINE = "baseline"

# Drift and creep put a spectrum beside its pixel; at the border, that is outside the frame.
MARGIN = 0.05

# Beyond this a number is no outcome in any unit, and its square is near the largest there is.
LARGEST = 1e60


def read_points(points: Any) -> list[Mapping[str, Any]]:
    """Return points as a list.

    Raises
    ------
    ValueError
        If they are not a sequence of mappings.
    """
    listed = list(points) if isinstance(points, Iterable) else [points]
    if isinstance(points, Mapping) or not all(isinstance(point, Mapping) for point in listed):
        raise ValueError(
            f"The points are {points!r:.200}; give a list of dicts, such as those of suggest()."
        )
    return listed


def read_point(
    point: Mapping[str, Any], settings: Settings, ledger: Ledger, new_id: int
) -> Measurement:
    """Read an outcome.

    Parameters
    ----------
    point : mapping
        See `MapOptimizer.ingest`.
    settings : Settings
        Names of the keys, and the grid.
    ledger : Ledger
        The points that were suggested.
    new_id : int
        Id for a point that comes without one.

    Raises
    ------
    ValueError
        If something is missing, unknown or not a valid number.
    """
    identifier = point.get(ID, BASELINE)
    has_position = all(name in point for name in settings.parameters)
    if identifier == BASELINE:
        if not has_position:
            raise ValueError(
                f"Point {dict(point)!r} has no '{ID}' of a suggestion, so it needs its "
                f"coordinates {' and '.join(settings.parameters)} in metres."
            )
        identifier, label = new_id, "without an id"
    elif not _is_id(identifier) or identifier not in ledger.positions:
        raise ValueError(
            f"Point {identifier!r} was never suggested by this optimizer. Use the '{ID}' of a "
            "suggestion; for a point measured elsewhere leave it out and give the coordinates."
        )
    else:
        identifier, label = int(identifier), repr(identifier)
    if has_position:
        x, y = (_number(point, name, label) for name in settings.parameters)
        settings.grid.index_of(x, y, margin=MARGIN)
    else:
        x, y = ledger.positions[identifier]
    value = _number(point, settings.outcome, label, LARGEST)
    variance = math.nan
    name = f"{settings.outcome}_variance"
    if point.get(name) is not None:
        variance = _number(point, name, label, LARGEST**2)
        if variance < 0:
            raise ValueError(
                f"Point {label}: {name} is {variance:g}; a variance is not negative. Leave it "
                "out if it is not known."
            )
    spectrum = read_spectrum(point, ledger, label) if settings.components else None
    return Measurement(identifier, x, y, value, variance, spectrum)


def read_spectrum(point: Mapping[str, Any], ledger: Ledger, label: str) -> FloatArray:
    """Read the spectrum of an outcome.

    Raises
    ------
    ValueError
        If it is missing, not finite, or of another length than those before.
    """
    if SPECTRUM not in point:
        raise ValueError(
            f"Point {label} has no {SPECTRUM!r}, which an optimizer with components needs; give "
            "the whole spectrum, or components=0."
        )
    spectrum = np.array(point[SPECTRUM], dtype=float)
    if spectrum.ndim != 1 or len(spectrum) < 3 or not np.isfinite(spectrum).all():
        raise ValueError(
            f"Point {label}: the {SPECTRUM} has shape {spectrum.shape} and "
            f"{np.count_nonzero(~np.isfinite(spectrum))} values that are not finite; give three "
            "finite values or more in one dimension, or report the point with register_failures."
        )
    if np.abs(spectrum).max() > LARGEST:
        raise ValueError(
            f"Point {label}: the {SPECTRUM} has a value of size {np.abs(spectrum).max():g}; "
            f"{_TOO_LARGE.format(LARGEST)}"
        )
    if ledger.measured:
        first = ledger.measured[0].spectrum
        if first is not None and first.shape != spectrum.shape:
            raise ValueError(
                f"Point {label}: the {SPECTRUM} has {len(spectrum)} values and those before have "
                f"{len(first)}; take all of them on one bias axis."
            )
    return spectrum


def read_position(point: Mapping[str, Any], settings: Settings) -> tuple[float, float]:
    """Read the position of a point that somebody chose.

    Raises
    ------
    ValueError
        If a coordinate is missing, not finite, or outside the frame.
    """
    x, y = (_number(point, name, "to register") for name in settings.parameters)
    settings.grid.index_of(x, y)
    return x, y


def is_suggested(point: Mapping[str, Any], ledger: Ledger) -> bool:
    """Tell whether a point has the id of a suggestion."""
    return _is_id(point.get(ID)) and point[ID] in ledger.positions


def _is_id(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


_TOO_LARGE = "give values up to {:g} in another unit, or report the point with register_failures."


def _number(point: Mapping[str, Any], name: str, label: str, largest: float = math.inf) -> float:
    if name not in point:
        raise ValueError(f"Point {label} has no {name!r}; it has {sorted(map(str, point))}.")
    try:
        value = float(point[name])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"Point {label}: {name} is {point[name]!r}; give one finite number."
        ) from None
    if not math.isfinite(value):
        raise ValueError(
            f"Point {label}: {name} is {value}; give a finite number, or report the point with "
            "register_failures."
        )
    if abs(value) > largest:
        raise ValueError(f"Point {label}: {name} is {value:g}; {_TOO_LARGE.format(largest)}")
    return value
