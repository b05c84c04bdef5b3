"""A blocking, thread-safe client of the Nanonis TCP interface."""

import logging
import socket
import threading
import time
from typing import Any, Self

from bluesky_gpsts.nanonis.codec import (
    HEADER_SIZE,
    MAX_BODY,
    decode_reply,
    encode_fields,
    pack_request,
    unpack_header,
)
from bluesky_gpsts.nanonis.commands import RELEASES, Command, command, is_idempotent
from bluesky_gpsts.nanonis.errors import (
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    NanonisError,
    NotConnected,
    ProtocolError,
)

__all__ = ["Client"]

logger = logging.getLogger(__name__)


class Client:
    """One connection to a Nanonis controller.

    The protocol is strictly serial on a connection: a lock is held over request and reply, so any
    number of threads may share a client. A connection that broke, timed out or carried a malformed
    frame is closed and never used again; reading commands are then repeated once on a new
    connection, everything else is left to the caller, because its outcome is unknown.

    Parameters
    ----------
    host : str
        Name or address of the controller's computer.
    port : int
        One of the controller's ports (6501 to 6504 by default). A port serves one client only.
    timeout : float
        Seconds that a command may take unless `call` says otherwise.
    release : int or None
        Release of the real-time engine, such as 14718; None asks the controller.
    max_body : int
        Largest reply accepted, in bytes.

    Examples
    --------
    >>> with Client("localhost", 6501) as client:          # doctest: +SKIP
    ...     (bias,) = client.call("Bias.Get")
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6501,
        *,
        timeout: float = 5.0,
        release: int | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.max_body = max_body
        self._wanted_release = release
        self._release = release
        self._socket: socket.socket | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "closed"
        return f"<nanonis.Client {self.host}:{self.port} {state}>"

    @property
    def connected(self) -> bool:
        """Whether the connection is open and in step."""
        return self._socket is not None

    @property
    def release(self) -> int:
        """Release of the controller's real-time engine.

        Raises
        ------
        NotConnected
            If the controller has not been asked yet.
        """
        if self._release is None:
            raise NotConnected(f"{self.host}:{self.port} has not been connected yet")
        return self._release

    def connect(self) -> Self:
        """Open the connection, or a new one in place of a broken one, and learn the release.

        Raises
        ------
        ConnectFailed
            If nothing answers: a wrong host or port, or a port that another client holds.
        """
        with self._lock:
            self.close()
            try:
                connection = socket.create_connection((self.host, self.port), self.timeout)
            except (OSError, OverflowError, UnicodeError) as error:
                raise ConnectFailed(
                    f"No Nanonis controller at {self.host}:{self.port} ({error}). Check the host "
                    "and the port (6501 to 6504 unless changed in Nanonis under Options, TCP "
                    "Programming Interface)."
                ) from error
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connection
            if self._wanted_release is None:
                try:
                    self._release = self._negotiate()
                except (CommandTimeout, ConnectionLost, ProtocolError) as error:
                    self.close()
                    raise ConnectFailed(
                        f"{self.host}:{self.port} accepts connections but does not answer as a "
                        f"Nanonis controller ({error}). Another program may hold this port, "
                        "which serves one client only: close it or use another of the four ports."
                    ) from error
            return self

    def close(self) -> None:
        """Close the connection; harmless if it is closed."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def call(self, name: str, *values: Any, timeout: float | None = None) -> tuple[Any, ...]:
        """Send a command and return the values of its reply.

        Parameters
        ----------
        name : str
            Command name, such as ``"Scan.FrameGet"``.
        *values
            Arguments in the order of the command table, SI units (angles in degrees).
        timeout : float, optional
            Seconds until the complete reply must be there.

        Returns
        -------
        tuple
            One item for each field of the response; arrays are ndarrays.

        Raises
        ------
        CommandError
            If the controller refuses the command.
        CommandTimeout, ConnectionLost, ProtocolError
            If no usable reply came. The connection is closed and the outcome unknown, unless the
            command only reads and its one repetition succeeded.
        NotConnected
            If the connection is closed.
        UnsupportedCommand
            If the command is unknown or the controller's release does not have it.
        ValueError
            If an argument does not fit.
        """
        layout = command(name, self.release)
        try:
            body = encode_fields(layout.request, values)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name}: {error}") from error
        seconds = self.timeout if timeout is None else timeout
        with self._lock:
            try:
                return self._exchange(layout, body, seconds)
            except (CommandTimeout, ConnectionLost, ProtocolError) as error:
                if not is_idempotent(name):
                    raise
                logger.warning("%s failed (%s); repeating it on a new connection", name, error)
                try:
                    self.connect()
                except NanonisError:
                    raise error from None
                return self._exchange(layout, body, seconds)

    def _negotiate(self) -> int:
        """Release of the controller; one without ``Util.VersionGet`` is the oldest supported."""
        try:
            reply = self._exchange(command("Util.VersionGet"), b"", self.timeout)
        except CommandError:
            return RELEASES[0]
        return int(reply[3])

    def _exchange(self, layout: Command, body: bytes, seconds: float) -> tuple[Any, ...]:
        if self._socket is None:
            raise NotConnected(
                f"{layout.name} was not sent: the connection to {self.host}:{self.port} is closed; "
                "call connect() and check the controller's state first"
            )
        deadline = time.monotonic() + seconds
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(pack_request(layout.name, body))
            header = self._receive(HEADER_SIZE, deadline)
            name, size, _ = unpack_header(bytes(header), self.max_body)
            echoed = name.rstrip(b"\0").decode("ascii")
            if echoed.lower() != layout.name.lower():
                raise ProtocolError(f"asked {layout.name}, got a reply to {echoed}", bytes(header))
            reply = self._receive(size, deadline)
            return decode_reply(layout, reply)
        except CommandError:
            raise
        except TimeoutError as error:
            self.close()
            raise CommandTimeout(
                f"{layout.name}: no complete reply from {self.host}:{self.port} "
                f"within {seconds:g} s"
            ) from error
        except ProtocolError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise ConnectionLost(
                f"{layout.name}: connection to {self.host}:{self.port} lost ({error})"
            ) from error
        except BaseException:
            # KeyboardInterrupt in the middle of a reply leaves the stream out of step.
            self.close()
            raise

    def _receive(self, size: int, deadline: float) -> bytearray:
        """Exactly `size` bytes, or an error."""
        assert self._socket is not None
        buffer = bytearray(size)
        view = memoryview(buffer)
        received = 0
        while received < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            count = self._socket.recv_into(view[received:])
            if count == 0:
                raise ConnectionError(f"closed by the other side after {received} of {size} bytes")
            received += count
        return buffer
