"""The registry that the handlers enter themselves into, and what they share.

A handler takes the controller and the request's values and returns the values of the response, or
a `Busy` when the answer takes time. Enumerations follow the protocol document; note that in many
modules Set counts from 1 (0 = no change) where Get counts from 0.
"""

import threading
from collections.abc import Callable
from typing import Any

from bluesky_gpsts.simulator.controller import Busy, Controller

__all__ = ["HANDLERS", "Answer", "Handler", "busy", "choice", "handles", "switch"]

Answer = tuple[Any, ...] | Busy
Handler = Callable[..., Answer]

HANDLERS: dict[str, Handler] = {}


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


def busy(c: Controller, wait: int, until: float, event: threading.Event) -> Answer:
    """Answer at once, or when the operation is over."""
    c.clock.skip_to(until)
    return Busy(until, event, lambda reached: ()) if wait else ()
