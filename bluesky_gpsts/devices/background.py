"""Operations that take time, off the RunEngine's thread."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd.status import Status

__all__ = ["Interrupted", "POLL", "in_background", "poll_until"]

POLL = 0.01
"""Seconds between two looks at an operation that is under way."""


class Interrupted(Exception):
    """The operation was stopped on request before it was done."""


def in_background(device: Any, work: Callable[[], None]) -> Status:
    """Run `work` in a thread; the status finishes with it, or fails with its exception.

    An operation that was stopped on request counts as finished: whoever stopped it knows, and a
    failed status would end a plan that is only paused.
    """
    status = Status(obj=device)

    def run() -> None:
        try:
            work()
        except Interrupted:
            status.set_finished()
        except Exception as error:
            status.set_exception(error)
        else:
            status.set_finished()

    threading.Thread(target=run, name=f"{device.name}-work", daemon=True).start()
    return status


def poll_until(
    done: Callable[[], bool], seconds: float, what: str, stopped: threading.Event
) -> None:
    """Wait until `done()` says so.

    Raises
    ------
    TimeoutError
        If it does not within `seconds`.
    Interrupted
        If `stopped` is set meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if stopped.wait(POLL):
            raise Interrupted(what)
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{what} was not done after {seconds:.0f} s; look at the controller before going on"
            )
