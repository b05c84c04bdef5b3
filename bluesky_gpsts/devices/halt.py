"""Stop everything that a controller does, and take the tip away."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from bluesky_gpsts.nanonis import Client, CommandError, ConnectFailed, NanonisError

__all__ = ["SECONDS", "halt", "stop_controller", "withdraw"]

logger = logging.getLogger(__name__)

SECONDS = 2.0
"""Longest wait (s) for the answer to each command that stops something."""

# The tip goes first. The end of a sweep may close the loop again, hence once more at the end.
_STOPS = (
    ("ZCtrl.Withdraw", 0, -1),
    ("BiasSpectr.Stop",),
    ("Scan.Action", 1, 0),
    ("FolMe.Stop",),
    ("ZCtrl.Withdraw", 0, -1),
)
_QUIET = ("BiasSpectr.StatusGet", "Scan.StatusGet", "ZCtrl.OnOffGet")
_POLL = 0.02


def halt(client: Client, seconds: float = SECONDS) -> list[str]:
    """Withdraw the tip and stop sweep, scan and move.

    Parameters
    ----------
    client : Client
        An open connection that nobody waits on.
    seconds : float
        Longest wait (s) for each answer, and for the controller to come to rest.

    Returns
    -------
    list of str
        What the controller refused or still does; empty if all has stopped.

    Raises
    ------
    NanonisError
        If the connection breaks.
    """
    troubles = []
    for name, *values in _STOPS:
        try:
            client.call(name, *values, timeout=seconds)
        except CommandError as error:
            # Such as a module that is not open, which then does nothing either.
            troubles.append(str(error))
    deadline = time.monotonic() + seconds
    going = list(_QUIET)
    while going and time.monotonic() < deadline:
        going = [name for name in going if _still(client, name, seconds)]
        if going:
            time.sleep(_POLL)
    if "ZCtrl.OnOffGet" in going:
        client.call("ZCtrl.Withdraw", 0, -1, timeout=seconds)
    return troubles + [f"{name} says that it goes on" for name in going]


def withdraw(client: Client, seconds: float = SECONDS) -> list[str]:
    """Withdraw the tip and write nothing else, for a controller whose state nobody knows.

    Parameters
    ----------
    client : Client
        An open connection that nobody waits on.
    seconds : float
        Longest wait (s) for the answer.

    Returns
    -------
    list of str
        Empty.

    Raises
    ------
    NanonisError
        If it is refused or the connection breaks.
    """
    client.call("ZCtrl.Withdraw", 0, -1, timeout=seconds)
    return []


def _still(client: Client, name: str, seconds: float) -> bool:
    try:
        return bool(client.call(name, timeout=seconds)[0])
    except CommandError:
        return False


def stop_controller(
    host: str,
    ports: tuple[int, ...],
    seconds: float = SECONDS,
    action: Callable[[Client, float], list[str]] = halt,
) -> tuple[int, list[str]]:
    """Stop everything over whichever port answers first; the others may be in use.

    Parameters
    ----------
    host : str
        Name or address of the controller's computer.
    ports : tuple of int
        Ports to try, all at once.
    seconds : float
        Longest wait (s) for a port, and for each answer.
    action : callable
        `halt` or `withdraw`.

    Returns
    -------
    (int, list of str)
        The port, and what the controller refused or still does.

    Raises
    ------
    ConnectFailed
        If no port answers.
    """
    results: queue.Queue[tuple[int, list[str] | NanonisError]] = queue.Queue()

    def attempt(port: int) -> None:
        try:
            with Client(host, port, timeout=seconds) as client:
                results.put((port, action(client, seconds)))
        except NanonisError as error:
            results.put((port, error))

    # Daemons: a port that is in use answers never, and nobody waits for it.
    for port in ports:
        threading.Thread(target=attempt, args=(port,), daemon=True).start()
    errors = []
    for _ in ports:
        port, outcome = results.get()
        if not isinstance(outcome, NanonisError):
            return port, outcome
        errors.append(str(outcome))
    raise ConnectFailed(
        f"no port of {host} answers ({'; '.join(errors)}): STOP AND WITHDRAW AT THE CONTROLLER"
    )
