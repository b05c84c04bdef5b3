"""The connections that the devices of one microscope share."""

import operator
import threading
from typing import Any

from bluesky_gpsts.devices.gate import Gate
from bluesky_gpsts.devices.gatedclient import GatedClient
from bluesky_gpsts.nanonis import ConnectFailed, NanonisError

__all__ = ["Link", "known_ports"]


def known_ports(ports: Any) -> tuple[int, ...]:
    """Return three ports or more; text has them between commas.

    Raises
    ------
    ValueError
        If they are no whole numbers from 1 to 65535, or fewer than three different ones.
    """
    given = ports.split(",") if isinstance(ports, str) else ports
    try:
        numbers = tuple(operator.index(int(p) if isinstance(p, str) else p) for p in given)
    except (TypeError, ValueError):
        numbers = ()
    if len(set(numbers)) < max(3, len(numbers)) or not all(0 < n <= 65535 for n in numbers):
        raise ValueError(
            "three different ports of the controller or more are needed, whole numbers from 1 to "
            f"65535 such as (6501, 6502, 6503, 6504), not {ports!r}: a port serves one connection"
        )
    return numbers


class Link:
    """Connections by role, each on a port of its own.

    A connection is strictly serial, so a sweep that answers only at its end would block every
    other command. Hence three: `main` for everything short, `data` for commands that wait for
    data, and `emergency` for the watchdog, stop and withdraw, which must always get through.
    A fourth port stays free for another program, such as ``gpsts stop``.

    Parameters
    ----------
    host : str
        Name or address of the controller's computer.
    ports : tuple of int
        Three of the controller's ports or more: main, data, emergency (the last).
    gate : Gate
        What may be written.
    timeout : float
        Seconds a short command may take.
    """

    def __init__(self, host: str, ports: tuple[int, ...], gate: Gate, timeout: float = 5.0) -> None:
        ports = known_ports(ports)
        self.host, self.ports, self.gate = host, ports, gate
        self.main = GatedClient(gate, host, ports[0], timeout=timeout)
        self.data = GatedClient(gate, host, ports[1], timeout=timeout)
        self.emergency = GatedClient(gate, host, ports[-1], timeout=timeout)
        # A setting is written with its group: read, change one, write. Two at once would undo
        # each other.
        self.writing = threading.RLock()
        self._signals: dict[str, int] = {}

    def connect(self) -> None:
        """Open all connections.

        Raises
        ------
        ConnectFailed
            If one cannot be had; the others are closed again.
        """
        try:
            for client in (self.main, self.data, self.emergency):
                client.connect()
            (names,) = self.main.call("Signals.NamesGet")
        except NanonisError:
            self.close()
            raise
        self._signals = {name: index for index, name in reversed(list(enumerate(names)))}

    def close(self) -> None:
        """Close all connections."""
        for client in (self.main, self.data, self.emergency):
            client.close()

    @property
    def connected(self) -> bool:
        """Whether every connection is open."""
        return all(c.connected for c in (self.main, self.data, self.emergency))

    def recover(self) -> None:
        """Open again what broke; commands that were under way have an unknown outcome."""
        for client in (self.main, self.data, self.emergency):
            if not client.connected:
                client.connect()

    def has_signal(self, name: str) -> bool:
        """Whether the controller has a signal of that name."""
        return name in self._signals

    def signal(self, *names: str) -> int:
        """Index of the first of `names` that the controller has; indices differ by release.

        Raises
        ------
        ConnectFailed
            If none is among the controller's signals.
        """
        for name in names:
            if name in self._signals:
                return self._signals[name]
        raise ConnectFailed(
            f"the controller has no signal called {' or '.join(map(repr, names))}; "
            f"it has {', '.join(sorted(self._signals))}"
        )
