"""Operations that take time, off the RunEngine's thread."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd.status import Status

__all__ = ["Interrupted", "Operation", "POLL", "in_background", "poll_until"]

logger = logging.getLogger(__name__)

POLL = 0.01
"""Seconds between two looks at an operation that is under way."""

STOPPING = 5.0


class Interrupted(Exception):
    """The operation was stopped before it was done."""


class Operation:
    """One operation of a device: whether it is to stop, and whether it has ended.

    Parameters
    ----------
    what : str
        What it is, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.expected = False

    def run(self, device: Any, work: Callable[[], None]) -> Status:
        """Run `work` in a thread; the status ends with it.

        Stopped by the RunEngine, which takes the operation up again later or not at all, it
        counts as finished. Stopped by anybody else it fails, because what the device holds then
        is not what the plan asked for.
        """
        status = Status(obj=device)

        def run() -> None:
            error: Exception | None = None
            try:
                work()
            except Interrupted as interrupted:
                error = None if self.expected else interrupted
            except Exception as failure:
                error = failure
            finally:
                self.ended.set()
            if error is None:
                status.set_finished()
            else:
                status.set_exception(error)

        threading.Thread(target=run, name=f"{device.name}-work", daemon=True).start()
        return status

    def stop(self, command: Callable[[], Any], expected: bool) -> None:
        """Stop the operation: send `command` until it has ended.

        Once is not enough: a stop that overtakes the start, on a connection of its own, is lost.
        """
        self.expected = expected
        self.stopped.set()
        deadline = time.monotonic() + STOPPING
        while not self.ended.is_set():
            if time.monotonic() > deadline:
                logger.error("%s goes on %g s after being stopped", self.what, STOPPING)
                return
            command()
            self.ended.wait(POLL)

    def check(self) -> None:
        """Raise Interrupted if the operation is to stop."""
        if self.stopped.is_set():
            raise Interrupted(f"{self.what} was stopped before it was done")


def in_background(device: Any, work: Callable[[], None]) -> Status:
    """Run `work`, which cannot be stopped, in a thread; the status ends with it."""
    return Operation(device.name).run(device, work)


def poll_until(done: Callable[[], bool], seconds: float, operation: Operation) -> None:
    """Wait until `done()` says so.

    Raises
    ------
    TimeoutError
        If it does not within `seconds`.
    Interrupted
        If the operation is stopped meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not done():
        operation.stopped.wait(POLL)
        operation.check()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{operation.what} was not done after {seconds:.0f} s; look at the controller "
                "before going on"
            )
