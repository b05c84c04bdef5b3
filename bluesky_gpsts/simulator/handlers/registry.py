"""The registry that the handlers enter themselves into, and what they share.

A handler takes the controller and the request's values and returns the values of the response, or
a `Busy` when the answer takes time. Enumerations follow the protocol document; note that in many
modules Set counts from 1 (0 = no change) where Get counts from 0.
"""

import threading
from collections.abc import Callable
from typing import Any

from bluesky_gpsts.nanonis.commands import is_idempotent
from bluesky_gpsts.simulator.controller import COMMAND_TIME, Busy, Controller, Refused

__all__ = [
    "HANDLERS",
    "Answer",
    "Handler",
    "busy",
    "choice",
    "handles",
    "require",
    "switch",
    "takes_time",
]

Answer = tuple[Any, ...] | Busy
Handler = Callable[..., Answer]

HANDLERS: dict[str, Handler] = {}

_READING = ("Scan.FrameDataGrab", "Scan.WaitEndOfScan", "Scan.Save", "BiasSpectr.Open")


def takes_time(name: str) -> bool:
    """Whether a command changes something, so that the controller needs a moment for it."""
    return not is_idempotent(name) and name not in _READING


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for commands."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def switch(value: int, old: bool) -> bool:
    """Set enumeration 0 no change, 1 on, 2 off."""
    return {0: old, 1: True, 2: False}.get(value, old)


def choice(value: int, old: int) -> int:
    """Set enumeration that counts from 1, with 0 for no change, stored from 0."""
    return old if value == 0 else value - 1


def require(what: str, value: float, unit: str, low: float, high: float) -> None:
    """Refuse a value outside `low` to `high`, which is what the controller can hold and show."""
    if not low <= value <= high:
        raise Refused(f"{what} of {value:g} {unit} is outside {low:g} to {high:g} {unit}")


def busy(c: Controller, wait: int, until: float, event: threading.Event) -> Answer:
    """Answer at once, or when the operation is over and the loop has settled after it."""
    c.clock.skip_to(until)
    return Busy(until + COMMAND_TIME, event, lambda: ()) if wait else ()
