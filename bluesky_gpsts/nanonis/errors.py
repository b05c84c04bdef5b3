"""What can go wrong between a client and a Nanonis controller."""

__all__ = [
    "CommandError",
    "CommandTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "NanonisError",
    "NotConnected",
    "ProtocolError",
    "UnsupportedCommand",
]


class NanonisError(Exception):
    """Base of all errors of this package."""


class CommandError(NanonisError):
    """The controller refused a command.

    Attributes
    ----------
    command : str
        Name of the command, such as ``"Bias.Set"``.
    status : int
        Status word of the error block (1 on every release seen).
    text : str
        The controller's own words.
    """

    def __init__(self, command: str, status: int, text: str) -> None:
        reason = text or "no reason given"
        super().__init__(f"Nanonis refused {command} (status {status}): {reason}")
        self.command = command
        self.status = status
        self.text = text


class UnsupportedCommand(NanonisError):
    """The command is not in the table, or not in the controller's release."""


class ProtocolError(NanonisError):
    """Bytes that are not a Nanonis message.

    Attributes
    ----------
    raw : bytes
        The first 4096 bytes of what arrived.
    """

    def __init__(self, message: str, raw: bytes = b"") -> None:
        super().__init__(message)
        self.raw = bytes(raw[:4096])


class ConnectFailed(NanonisError, ConnectionError):
    """No usable connection could be made."""


class ConnectionLost(NanonisError, ConnectionError):
    """The connection broke in the middle of a command; its outcome is unknown."""


class NotConnected(NanonisError, ConnectionError):
    """The connection is closed; a broken one is never used again."""


class CommandTimeout(NanonisError, TimeoutError):
    """No complete reply came in time; the outcome of the command is unknown."""
