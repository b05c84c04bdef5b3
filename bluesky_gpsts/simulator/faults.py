"""Faults on request: what a network, a busy controller or a bad day does to a reply."""

import threading
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fault", "Faults"]

Kind = Literal["delay", "drop", "fragment", "garble", "silence", "wrong name"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind : str
        "delay" (reply comes late), "drop" (connection cut in the middle of the reply), "fragment"
        (reply in one-byte writes), "garble" (wrong bytes from the middle of the reply on),
        "silence" (no reply), "wrong name" (reply to another command).
    command : str
        Command whose reply suffers, "" for any.
    seconds : float
        Delay in wall-clock seconds.
    after : int
        Bytes of the reply that get through before a drop, or right before the wrong ones.
    times : int
        How often it happens.
    """

    kind: Kind
    command: str = ""
    seconds: float = 0.0
    after: int = 20
    times: int = 1


class Faults:
    """Faults that are still to happen."""

    def __init__(self) -> None:
        self._waiting: list[list[Fault | int]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Let `fault` happen to the next replies it fits."""
        with self._lock:
            self._waiting.append([fault, fault.times])

    def take(self, command: str) -> Fault | None:
        """Fault that the reply to `command` suffers, if any."""
        with self._lock:
            for entry in self._waiting:
                fault, left = entry
                assert isinstance(fault, Fault) and isinstance(left, int)
                if fault.command in ("", command):
                    entry[1] = left - 1
                    if left <= 1:
                        self._waiting.remove(entry)
                    return fault
        return None
