"""Checks of arguments, each with a sentence that says what is allowed."""

import math
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_count(name: str, value: Any, lowest: int) -> None:
    """Raise ValueError unless the value is a whole number of at least the lowest."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < lowest:
        raise ValueError(f"{name} is {value!r}; give a whole number of at least {lowest}.")


def require_positive(name: str, value: Any, what: str = "a number") -> None:
    """Raise ValueError unless the value is a finite number above zero."""
    if not (is_number(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; give {what} above zero.")


def require_between(name: str, value: Any, low: float, high: float, unit: str = "") -> None:
    """Raise ValueError unless the value is a number between the low and the high one."""
    if not (is_number(value) and low < value < high):
        raise ValueError(
            f"{name} is {value!r}; give a number between {low:g} and {high:g}{unit and ' ' + unit}."
        )


def require_pair(name: str, value: Any, what: str) -> tuple[float, float]:
    """Return two finite numbers, or raise ValueError."""
    try:
        first, second = value
    except (TypeError, ValueError):
        first = second = None
    if not (is_number(first) and is_number(second)):
        raise ValueError(f"{name} is {value!r}; give {what}.")
    return float(first), float(second)


def require_flag(name: str, value: Any) -> None:
    """Raise ValueError unless the value is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; give True or False.")
