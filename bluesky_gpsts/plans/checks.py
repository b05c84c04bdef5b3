"""Checks of a plan's arguments, before anything is written."""

import math
from typing import Any

__all__ = ["require_count", "require_positive", "require_seed"]


def require_seed(seed: Any) -> int:
    """Return a seed that is a whole number of 0 or above, or raise ValueError."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of 0 or above, not {seed!r}")
    return seed


def require_count(what: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least`, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} must be a whole number of {least} or above, not {value!r}")
    return value


def require_positive(what: str, value: Any, unit: str) -> float:
    """Return a finite number above zero, or raise ValueError."""
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{what} must be above 0 {unit}, not {value!r}")
    return number
