"""The four TCP ports of the simulated controller."""

import logging
import selectors
import socket
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bluesky_gpsts.nanonis.codec import (
    HEADER_SIZE,
    decode_fields,
    encode_error,
    encode_fields,
    pack_reply,
    unpack_header,
)
from bluesky_gpsts.nanonis.commands import Command, Field, command
from bluesky_gpsts.nanonis.errors import ProtocolError, UnsupportedCommand
from bluesky_gpsts.simulator.controller import COMMAND_TIME, Busy, Controller, Refused
from bluesky_gpsts.simulator.faults import Faults
from bluesky_gpsts.simulator.handlers import HANDLERS, takes_time

__all__ = ["ErrorStyle", "Server"]

logger = logging.getLogger(__name__)

ErrorStyle = Literal["native", "padded"]

_MODULES = {
    "AutoApproach": "Auto Approach",
    "AtomTrack": "Atom Tracking",
    "BiasSpectr": "Bias Spectroscopy (multi-segment mode, safe conditions)",
    "Motor": "Motor Control",
    "MPass": "Multi Pass",
    "Pattern": "Grid Spectroscopy",
    "UserOut": "User Outputs",
    "ZSpectr": "Z Spectroscopy",
}


def _empty(field: Field) -> Any:
    """Value of nothing, for error replies that are padded to the full layout."""
    if "[" in field.type:
        return []
    return "" if field.type == "str" else 0


def _require_numbers(fields: Sequence[Field], values: Sequence[Any]) -> None:
    """Refuse what is not a number, except where the protocol gives it a meaning."""
    for field, value in zip(fields, values, strict=True):
        if field.type.startswith(("f32", "f64")) and field.type != "f32?":
            for number in np.ravel(value):
                if not np.isfinite(number):
                    raise Refused(f"{field.name} must be a finite number, not {number}")


class Server:
    """Listeners on several ports, with one controller behind them.

    Each port serves one client: a later one is accepted by the operating system but never
    answered, as on the instrument.

    Parameters
    ----------
    controller : Controller
        What carries the commands out.
    host : str
        Address to listen on.
    ports : tuple of int
        Ports; 0 takes a free one.
    error_style : {"native", "padded"}
        "native" answers a refused command with the error block alone, as the instrument does;
        "padded" fills in the return values before it, which some clients need.
    faults : Faults
        Faults to happen to replies.
    """

    def __init__(
        self,
        controller: Controller,
        host: str,
        ports: tuple[int, ...],
        error_style: ErrorStyle,
        faults: Faults,
    ) -> None:
        if error_style not in ("native", "padded"):
            raise ValueError(f"error_style must be 'native' or 'padded', not {error_style!r}")
        self.controller = controller
        self.error_style = error_style
        self.faults = faults
        self._listeners: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        try:
            for port in ports:
                self._listeners.append(self._listen(host, port))
        except OSError:
            self.close()
            raise
        for listener in self._listeners:
            self._spawn(self._accept, listener)

    @staticmethod
    def _listen(host: str, port: int) -> socket.socket:
        try:
            return socket.create_server((host, port))
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot listen on {host}:{port} ({error.strerror or error}); another simulator "
                "or Nanonis may be running: stop it or choose other ports",
            ) from error

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports in use."""
        return tuple(int(listener.getsockname()[1]) for listener in self._listeners)

    def close(self) -> None:
        """Stop listening, drop every connection and wait for the threads."""
        self.controller.close()
        with self._lock:
            sockets = [*self._listeners, *self._open]
        for item in sockets:
            try:
                item.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("%s was already down", item)
            item.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    def _spawn(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        active: socket.socket | None = None
        while not self.controller.closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            if active is not None and self._alive(active):
                logger.info("port %s has a client already: %s", listener, connection)
                continue
            active = connection
            self._spawn(self._serve, connection)

    def _alive(self, connection: socket.socket) -> bool:
        """Whether the client at the other end is still there."""
        try:
            # A connection that is closed in between would look like one with nothing to say.
            # Not select.select: it takes no descriptor above 1023.
            with self._lock, selectors.DefaultSelector() as selector:
                selector.register(connection, selectors.EVENT_READ)
                return not selector.select(0) or connection.recv(1, socket.MSG_PEEK) != b""
        except (OSError, ValueError):  # closed by now
            return False

    def _serve(self, connection: socket.socket) -> None:
        try:
            while True:
                header = self._receive(connection, HEADER_SIZE)
                name, size, respond = unpack_header(header)
                body = self._receive(connection, size)
                text = name.rstrip(b"\0").decode("ascii")
                reply = pack_reply(name, self._answer(text, body))
                if respond and not self._send(connection, text, reply):
                    return
        except (OSError, EOFError, ProtocolError) as error:
            logger.debug("connection ended: %s", error)
        finally:
            with self._lock:
                self._open.discard(connection)
                connection.close()

    @staticmethod
    def _receive(connection: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = connection.recv(min(size - len(data), 1 << 16))
            if not piece:
                raise EOFError("closed by the client")
            data += piece
        return bytes(data)

    def _send(self, connection: socket.socket, name: str, reply: bytes) -> bool:
        """Send a reply, or what a fault leaves of it; False ends the connection."""
        fault = self.faults.take(name)
        if fault is None:
            connection.sendall(reply)
        elif fault.kind == "delay":
            self.controller.closing.wait(fault.seconds)
            connection.sendall(reply)
        elif fault.kind == "drop":
            connection.sendall(reply[: fault.after])
            connection.shutdown(socket.SHUT_RDWR)
            return False
        elif fault.kind == "fragment":
            for index in range(len(reply)):
                connection.sendall(reply[index : index + 1])
        elif fault.kind == "garble":
            wrong = bytes(byte ^ 0x5A for byte in reply[fault.after :])
            connection.sendall(reply[: fault.after] + wrong)
        elif fault.kind == "wrong name":
            connection.sendall(b"Wrong.Name".ljust(32, b"\0") + reply[32:])
        return True

    def _answer(self, name: str, body: bytes) -> bytes:
        """Reply body to a command."""
        try:
            layout = command(name, self.controller.release)
        except UnsupportedCommand:
            return encode_error(1, f"Error in command: {name.lower()}: the command is not known")
        handler = HANDLERS.get(name)
        if handler is None:
            module = name.partition(".")[0]
            title = _MODULES.get(module, module)
            text = f"Cannot access the {title} module. \nPlease make sure it is running."
            return self._error(layout, text)
        try:
            values = decode_fields(layout.request, body)
        except ProtocolError:
            return self._error(layout, "Error trying to read the Message from the Client.")
        try:
            _require_numbers(layout.request, values)
            with self.controller.lock:
                answer = handler(self.controller, *values)
                if takes_time(name):
                    self.controller.clock.pass_by(COMMAND_TIME)
            while isinstance(answer, Busy):
                self.controller.clock.wait_until(answer.until, answer.cancelled)
                if self.controller.closing.is_set():
                    raise EOFError("the simulator is closing")
                with self.controller.lock:
                    answer = answer.result()
        except Refused as refusal:
            return self._error(layout, f"Error in command: {name.lower()}: {refusal}")
        return encode_fields(layout.response, answer) + encode_error()

    def _error(self, layout: Command, text: str) -> bytes:
        padding = b""
        if self.error_style == "padded":
            padding = encode_fields(layout.response, [_empty(f) for f in layout.response])
        return padding + encode_error(1, text)
