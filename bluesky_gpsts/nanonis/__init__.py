"""The Nanonis TCP protocol and file formats; knows nothing of Bluesky.

`Client` talks to a controller (or to the simulator, it cannot tell). `files` reads and writes
.sxm images, .dat spectra and .3ds grids.
"""

from bluesky_gpsts.nanonis.client import Client
from bluesky_gpsts.nanonis.errors import (
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    NanonisError,
    NotConnected,
    ProtocolError,
    UnsupportedCommand,
)

__all__ = [
    "Client",
    "CommandError",
    "CommandTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "NanonisError",
    "NotConnected",
    "ProtocolError",
    "UnsupportedCommand",
]
