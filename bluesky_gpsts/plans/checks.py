"""Checks of a plan's arguments, before anything is written."""

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from bluesky_gpsts.devices import NanonisSTM

__all__ = [
    "chosen",
    "plain",
    "require_count",
    "require_feedback",
    "require_metadata",
    "require_name",
    "require_optimizer",
    "require_pair",
    "require_positive",
    "require_seed",
    "require_within",
]

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return a start document's content with numbers of NumPy as those of Python."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def require_metadata(md: Any) -> dict[str, Any]:
    """Return more entries for a start document, none for None, or raise ValueError."""
    if md is None:
        return {}
    if not isinstance(md, Mapping) or not all(isinstance(key, str) for key in md):
        raise ValueError(f"md must be a dict whose keys are text, not {md!r}")
    return dict(md)


def require_name(what: str, value: Any) -> str:
    """Return text, or raise ValueError: functions go by their names."""
    if callable(value):
        raise ValueError(
            f"{what} must be a name, which the documents of the run can hold, not {value!r}; put "
            "the function into a module and give 'module:function'"
        )
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {value!r}")
    return value


def require_seed(seed: Any) -> int:
    """Return a seed that is a whole number of 0 or above, or raise ValueError."""
    return require_count("seed", seed, 0)


def require_count(what: str, value: Any, least: int, most: float = math.inf) -> int:
    """Return a whole number of at least `least`, at most `most`, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{what} must be a whole number of {least} or above, not {value!r}")
    if int(value) > most:
        raise ValueError(f"{what} is {value!r}; give at most {most:g}")
    return int(value)


def require_positive(what: str, value: Any, unit: str, or_zero: bool = False) -> float:
    """Return a finite number above zero (or zero, where allowed), or raise ValueError."""
    number = _number(value)
    if not (number > 0 or (or_zero and number == 0)):
        least = "0 or above" if or_zero else "above 0"
        raise ValueError(f"{what} must be {least}, in {unit}, not {value!r}")
    return number


def require_within(what: str, value: Any, unit: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`, or raise ValueError."""
    number = _number(value)
    if not low <= number <= high:
        raise ValueError(f"{what} must lie in {low:g} to {high:g} {unit}, not {value!r}")
    return number


def require_pair(what: str, value: Any, unit: str) -> tuple[float, float]:
    """Return two finite numbers, or raise ValueError."""
    numbers = [_number(item) for item in value] if isinstance(value, tuple | list) else []
    if len(numbers) != 2 or any(math.isnan(number) for number in numbers):
        raise ValueError(f"{what} must be two numbers, in {unit}, not {value!r}")
    return numbers[0], numbers[1]


def require_optimizer(optimizer: Any) -> Any:
    """Return an object with the methods that the plan calls, or raise ValueError."""
    missing = [
        name
        for name in ("suggest", "ingest", "should_stop")
        if not callable(getattr(optimizer, name, None))
    ]
    if missing:
        raise ValueError(
            f"the optimizer, a {type(optimizer).__name__}, has no method {', '.join(missing)}; "
            "pass one with suggest, ingest and should_stop, or None"
        )
    return optimizer


def chosen(kind: type[T], what: str, given: Any) -> T | None:
    """Return the options that a plan's argument gives.

    Parameters
    ----------
    kind : type
        A dataclass that checks its fields.
    what : str
        Name of the argument.
    given : kind, dict or None
        A dict has fields of `kind`; an empty one asks for the defaults.

    Raises
    ------
    ValueError
        If it is something else, or a field is unknown or out of range.
    """
    if given is None or isinstance(given, kind):
        return given
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, Mapping) or not set(given) <= set(names):
        raise ValueError(f"{what} must be a dict with some of {', '.join(names)}, not {given!r}")
    return kind(**given)


def require_feedback(stm: NanonisSTM) -> None:
    """Refuse to move a tip that no feedback keeps off the sample, and after an alarm."""
    stm.require_no_alarm()
    if not stm.z_controller.feedback.get():
        raise ValueError(
            f"the feedback of {stm.name} is off, and the tip would be moved blindly; approach the "
            "sample and switch the feedback on first"
        )


def _number(value: Any) -> float:
    """A finite number as it is, anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan
