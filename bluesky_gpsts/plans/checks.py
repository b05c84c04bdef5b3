"""Checks of a plan's arguments, before anything is written."""

import math
from typing import Any

from bluesky_gpsts.devices import NanonisSTM

__all__ = [
    "require_count",
    "require_feedback",
    "require_optimizer",
    "require_pair",
    "require_positive",
    "require_seed",
]


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


def require_positive(what: str, value: Any, unit: str, or_zero: bool = False) -> float:
    """Return a finite number above zero (or zero, where allowed), or raise ValueError."""
    number = _number(value)
    if not (number > 0 or (or_zero and number == 0)):
        least = "0 or above" if or_zero else "above 0"
        raise ValueError(f"{what} must be {least}, in {unit}, not {value!r}")
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


def require_feedback(stm: NanonisSTM) -> None:
    """Refuse to move a tip that no feedback keeps off the sample."""
    if not stm.z_controller.feedback.get():
        raise ValueError(
            f"the feedback of {stm.name} is off, and the tip would be moved blindly; approach the "
            "sample and switch the feedback on first"
        )


def _number(value: Any) -> float:
    """A finite number as it is, anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan
