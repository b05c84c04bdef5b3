"""The client, against a server that does exactly what a test says, and against the simulator."""

import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.nanonis import (
    Client,
    CommandError,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    NanonisError,
    NotConnected,
    ProtocolError,
    UnsupportedCommand,
)
from bluesky_gpsts.nanonis.codec import encode_error, encode_fields, pack_reply
from bluesky_gpsts.nanonis.commands import command
from bluesky_gpsts.simulator import Fault, Simulator

SHORT = 0.25
"""Time-out (s) where a test waits for it to pass."""

Behaviour = Callable[["Exchange"], None]


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, connection: socket.socket, done: threading.Event) -> None:
        self.connection = connection
        self.done = done
        header = self._exactly(40)
        self.name = header[:32].rstrip(b"\0").decode("ascii")
        self.respond = struct.unpack(">H", header[36:38])[0]
        self.body = self._exactly(struct.unpack(">i", header[32:36])[0])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def reply(self, *values: Any, name: str | None = None, release: int = 14718) -> bytes:
        """Complete reply to the request."""
        body = encode_fields(command(self.name, release).response, values) + encode_error()
        return pack_reply((name or self.name).encode(), body)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        raise EOFError


class Script:
    """A server that answers the n-th request it gets with the n-th behaviour."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.received: list[tuple[str, bytes]] = []
        self.connections = 0
        self.done = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while True:
                exchange = Exchange(connection, self.done)
                self.received.append((exchange.name, exchange.body))
                if not self.behaviours:
                    exchange.hang_up()
                self.behaviours.pop(0)(exchange)
        except (OSError, EOFError):
            connection.close()

    def stop_listening(self) -> None:
        shut(self.listener)

    def close(self) -> None:
        self.done.set()
        for item in (self.listener, *self.open):
            shut(item)
        for thread in self.threads:
            thread.join(timeout=5)


def shut(item: socket.socket) -> None:
    """Close a socket so that a thread that waits on it wakes up."""
    try:
        item.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # The other side has closed it already.
    item.close()


@pytest.fixture
def play() -> Iterator[Callable[..., tuple[Script, Client]]]:
    """Start a script and connect a client to it, which knows its release already."""
    scripts: list[Script] = []
    clients: list[Client] = []

    def start(*behaviours: Behaviour, **options: Any) -> tuple[Script, Client]:
        script = Script(*behaviours)
        scripts.append(script)
        client = Client("127.0.0.1", script.port, **{"release": 14718, **options})
        clients.append(client)
        return script, client.connect()

    yield start
    for client in clients:
        client.close()
    for script in scripts:
        script.close()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator("ws2", time_scale=0) as running:
        yield running


def answer(*values: Any, **options: Any) -> Behaviour:
    return lambda exchange: exchange.send(exchange.reply(*values, **options))


def silence(exchange: Exchange) -> None:
    exchange.done.wait()


def hang_up_after(count: int) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        whole = exchange.reply(*([1.5] if exchange.name.endswith("Get") else []))
        exchange.send(whole[:count])
        exchange.hang_up()

    return behave


def raw(data: bytes) -> Behaviour:
    return lambda exchange: exchange.send(data)


# ---------------------------------------------------------------- good replies


def test_a_reply_in_single_bytes(play: Any) -> None:
    def drip(exchange: Exchange) -> None:
        for byte in exchange.reply(1.5):
            exchange.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange.send(bytes([byte]))

    _, client = play(drip)
    assert client.call("Bias.Get") == (1.5,)


def test_replies_do_not_run_into_each_other(play: Any) -> None:
    # Header of the second reply arrives together with the tail of the first.
    def both(exchange: Exchange) -> None:
        first = exchange.reply(1.5)
        second = pack_reply(b"Current.Get", struct.pack(">f", 2.5) + encode_error())
        exchange.send(first + second[:30])

    def rest(exchange: Exchange) -> None:
        exchange.send(exchange.reply(2.5)[30:])

    _, client = play(both, rest)
    assert client.call("Bias.Get") == (1.5,)
    # The header's first 30 bytes were "Current.Get" and NULs already.
    assert client.call("Current.Get") == (2.5,)


def test_the_request_is_complete(play: Any) -> None:
    script, client = play(answer(), answer())
    client.call("FolMe.XYPosSet", 1e-9, -2e-9, 1)
    client.call("BiasSpectr.ChsSet", [0, 86])
    assert script.received == [
        ("FolMe.XYPosSet", struct.pack(">ddI", 1e-9, -2e-9, 1)),
        ("BiasSpectr.ChsSet", struct.pack(">iii", 2, 0, 86)),
    ]


def test_the_echoed_name_may_differ_in_case(play: Any) -> None:
    _, client = play(answer(1.5, name="BIAS.get"))
    assert client.call("Bias.Get") == (1.5,)


def test_texts_in_cp1252_and_utf8(play: Any) -> None:
    def windows(exchange: Exchange) -> None:
        path = "D:\\Messungen\\Größe 5 µm".encode("cp1252")
        exchange.send(pack_reply(exchange.name.encode(), _text(path) + encode_error()))

    def unicode(exchange: Exchange) -> None:
        path = "D:\\測定".encode()
        exchange.send(pack_reply(exchange.name.encode(), _text(path) + encode_error()))

    script, client = play(windows, unicode, answer())
    assert client.call("Util.SessionPathGet") == ("D:\\Messungen\\Größe 5 µm",)
    assert client.call("Util.SessionPathGet") == ("D:\\測定",)
    client.call("Util.SessionPathSet", "µm", 0)
    assert script.received[-1][1] == _text(b"\xb5m") + bytes(4)


def _text(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def test_a_refusal_leaves_the_connection_open(play: Any) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.send(pack_reply(exchange.name.encode(), encode_error(1, "no: 99 V")))

    script, client = play(refuse, answer(0.5))
    with pytest.raises(CommandError, match="refused Bias.Set .*no: 99 V"):
        client.call("Bias.Set", 99.0)
    assert client.call("Bias.Get") == (0.5,)
    assert script.connections == 1


# ---------------------------------------------------------------- broken replies


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41], ids=lambda n: f"after {n} bytes")
def test_end_of_stream(play: Any, count: int) -> None:
    script, client = play(hang_up_after(count))
    with pytest.raises(ConnectionLost, match=r"Bias\.Set: connection to 127\.0\.0\.1:\d+ lost"):
        client.call("Bias.Set", 0.5)
    assert not client.connected
    with pytest.raises(NotConnected, match="not sent"):
        client.call("Bias.Set", 0.5)
    assert [name for name, _ in script.received] == ["Bias.Set"]


def test_time_out(play: Any) -> None:
    script, client = play(silence)
    with pytest.raises(CommandTimeout, match=r"Bias\.Set: no complete reply .* within 0\.25 s"):
        client.call("Bias.Set", 0.5, timeout=SHORT)
    assert not client.connected
    with pytest.raises(NotConnected):
        client.call("Bias.Get")
    assert len(script.received) == 1


def test_a_dripping_reply_does_not_stretch_the_time_out(play: Any) -> None:
    # Every byte comes within the time-out of a single receive, the whole never does.
    def drip(exchange: Exchange) -> None:
        for byte in exchange.reply():
            exchange.send(bytes([byte]))
            if exchange.done.wait(SHORT / 4):
                return

    _, client = play(drip)
    with pytest.raises(CommandTimeout):
        client.call("Bias.Set", 0.5, timeout=SHORT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pack_reply(b"Bias.Get", struct.pack(">f", 1) + encode_error()), "reply to Bias.Get"),
        (b"HTTP/1.1 400 Bad Request\r\nServer: something else\r\n\r\n", "unreadable command name"),
        (pack_reply(b"Bias.Set", b""), "reply to Bias.Set"),
        (pack_reply(b"Bias.Set", encode_error() + b"x"), "reply to Bias.Set"),
    ],
    ids=["wrong name", "not Nanonis", "empty body", "one byte too many"],
)
def test_malformed_replies(play: Any, data: bytes, words: str) -> None:
    _, client = play(raw(data))
    with pytest.raises(ProtocolError, match=words) as caught:
        client.call("Bias.Set", 0.5)
    assert not client.connected
    assert isinstance(caught.value.raw, bytes)
    with pytest.raises(NotConnected):
        client.call("Bias.Set", 0.5)


@pytest.mark.parametrize("size", [100_000_001, 2**31 - 1, -1])
def test_an_oversized_body_is_refused_before_anything_is_allocated(play: Any, size: int) -> None:
    _, client = play(raw(struct.pack(">32siI", b"Bias.Set", size, 0)))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=f"body of {size} bytes; 0 to 100000000"):
            client.call("Bias.Set", 0.5)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert not client.connected


def test_the_limit_of_a_body_can_be_set(play: Any) -> None:
    _, client = play(raw(struct.pack(">32siI", b"Bias.Set", 9, 0)), max_body=8)
    with pytest.raises(ProtocolError, match="0 to 8"):
        client.call("Bias.Set", 0.5)


# ---------------------------------------------------------------- repetition


def test_reading_is_repeated_once(play: Any) -> None:
    script, client = play(hang_up_after(20), answer(1.5))
    assert client.call("Bias.Get") == (1.5,)
    assert script.connections == 2 and client.connected
    assert [name for name, _ in script.received] == ["Bias.Get"] * 2


def test_reading_is_not_repeated_twice(play: Any) -> None:
    script, client = play(hang_up_after(20), hang_up_after(20), answer(1.5))
    with pytest.raises(ConnectionLost):
        client.call("Bias.Get")
    assert len(script.received) == 2 and not client.connected


def test_reading_is_repeated_after_a_wrong_name_and_a_time_out(play: Any) -> None:
    wrong = answer(1.5, name="Current.Get")
    script, client = play(wrong, answer(2.5), silence, answer(3.5))
    assert client.call("Bias.Get") == (2.5,)
    assert client.call("Bias.Get", timeout=SHORT) == (3.5,)
    assert script.connections == 3


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Bias.Set", (0.5,)),
        ("Bias.Pulse", (1, 0.1, 3.0, 1, 2)),
        ("BiasSpectr.Start", (1, "")),
        ("Motor.StartMove", (5, 10, 0, 1)),
        ("Scan.WaitEndOfScan", (1000,)),
        # Reads the step counters, and may set them back.
        ("Motor.StepCounterGet", (1, 0, 0)),
    ],
)
@pytest.mark.parametrize("kind", ["lost", "late", "garbled"])
def test_nothing_else_is_sent_twice(
    play: Any, kind: str, name: str, values: tuple[Any, ...]
) -> None:
    def lose(exchange: Exchange) -> None:
        exchange.hang_up()

    behaviour = {"lost": lose, "late": silence, "garbled": raw(bytes(40))}[kind]
    script, client = play(behaviour, behaviour)
    with pytest.raises((ConnectionLost, CommandTimeout, ProtocolError)):
        client.call(name, *values, timeout=SHORT if kind == "late" else 5)
    assert not client.connected
    assert [got for got, _ in script.received] == [name]
    assert script.connections == 1


def test_when_the_server_is_gone_the_first_error_is_told(play: Any) -> None:
    def die(exchange: Exchange) -> None:
        script.stop_listening()
        exchange.hang_up()

    script, client = play(die)
    with pytest.raises(ConnectionLost, match="Bias.Get"):
        client.call("Bias.Get")
    assert not client.connected


def test_connect_after_a_break(play: Any) -> None:
    script, client = play(hang_up_after(0), answer())
    with pytest.raises(ConnectionLost):
        client.call("Bias.Set", 0.5)
    client.connect().call("Bias.Set", 0.5)
    assert client.connected and script.connections == 2


# ---------------------------------------------------------------- connecting


def test_the_release_is_asked_for(simulator: Simulator) -> None:
    with Client("127.0.0.1", simulator.ports[0]) as client:
        assert client.release == 14718
    with pytest.raises(NotConnected, match="not been connected"):
        _ = Client("127.0.0.1", simulator.ports[0]).release


def test_a_controller_without_version_is_an_old_one() -> None:
    with (
        Simulator("ws2", time_scale=0, protocol_release=10862) as old,
        Client("127.0.0.1", old.ports[0]) as client,
    ):
        assert client.release == 10862
        assert client.call("BiasSpectr.ChsGet")[0].tolist() == [0, 86, 87]
        with pytest.raises(UnsupportedCommand, match="R13742"):
            client.call("Scan.XYPosGet", 0)


def test_a_release_that_is_given_is_not_asked_for(play: Any) -> None:
    script, client = play(answer(1.5), release=13742)
    assert client.release == 13742 and client.call("Bias.Get") == (1.5,)
    assert script.received == [("Bias.Get", b"")]


def test_a_busy_port(simulator: Simulator) -> None:
    port = simulator.ports[1]
    with Client("127.0.0.1", port):
        second = Client("127.0.0.1", port, timeout=SHORT)
        with pytest.raises(ConnectFailed, match="Another program may hold this port.*four ports"):
            second.connect()
        assert not second.connected


def test_a_server_that_is_no_controller() -> None:
    script = Script(raw(b"220 mail.example.org ESMTP ready; who are you, really?\r\n"))
    try:
        client = Client("127.0.0.1", script.port, timeout=SHORT)
        with pytest.raises(ConnectFailed, match="does not answer as a Nanonis controller"):
            client.connect()
        assert not client.connected
    finally:
        script.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", None), ("127.0.0.1", 65536), ("127.0.0.1", -1), ("a" * 64 + ".invalid", 6501)],
)
def test_nothing_there(host: str, port: int | None) -> None:
    client = Client(host, free_port() if port is None else port, timeout=2)
    with pytest.raises(ConnectFailed, match=f"No Nanonis controller at {host}:.*Check the host"):
        client.connect()
    assert not client.connected


def test_closing_is_harmless(simulator: Simulator) -> None:
    client = Client("127.0.0.1", simulator.ports[0]).connect()
    assert "connected" in repr(client)
    client.close()
    client.close()
    assert "closed" in repr(client)
    with pytest.raises(NotConnected, match="connect()"):
        client.call("Bias.Get")


def test_all_errors_have_one_base() -> None:
    for kind in (CommandTimeout, ConnectFailed, ConnectionLost, NotConnected, ProtocolError):
        assert issubclass(kind, NanonisError)
    assert issubclass(CommandTimeout, TimeoutError) and issubclass(ConnectionLost, ConnectionError)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Bias.Set", (float("nan"),)),
        ("Bias.Set", (1e39,)),
        ("Bias.Set", ("high",)),
        ("Bias.Set", (None,)),
        ("Bias.Set", ()),
        ("Bias.Set", (0.1, 0.2)),
        ("Scan.Action", (65536, 0)),
        ("Scan.Action", (0, -1)),
        ("BiasSpectr.ChsSet", (["Current (A)"],)),
        ("Util.SessionPathSet", ("\ud800", 0)),
    ],
)
def test_arguments_are_checked_before_anything_is_sent(
    play: Any, name: str, values: tuple[Any, ...]
) -> None:
    script, client = play(answer(1.5))
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        client.call(name, *values)
    assert client.connected and client.call("Bias.Get") == (1.5,)
    assert script.received == [("Bias.Get", b"")]


def test_unknown_commands_are_not_sent(play: Any) -> None:
    script, client = play()
    with pytest.raises(UnsupportedCommand, match="Bias.Gett"):
        client.call("Bias.Gett")
    assert script.received == []


# ---------------------------------------------------------------- with the simulator


def test_faults_of_the_simulator(simulator: Simulator) -> None:
    with Client("127.0.0.1", simulator.ports[2]) as client:
        client.call("Bias.Set", 0.75)
        for fault in (
            Fault("fragment", "Bias.Get"),
            Fault("drop", "Bias.Get"),
            Fault("drop", "Bias.Get", after=45),
            Fault("wrong name", "Bias.Get"),
            Fault("delay", "Bias.Get", seconds=0.01),
        ):
            simulator.inject(fault)
            assert client.call("Bias.Get") == (0.75,), fault
        simulator.inject(Fault("silence", "Bias.Get"))
        assert client.call("Bias.Get", timeout=SHORT) == (0.75,)
        simulator.inject(Fault("drop", "Bias.Set"))
        with pytest.raises(ConnectionLost):
            client.call("Bias.Set", 0.8)
        assert not client.connected
        # The outcome of the command was unknown to the client: here it was carried out.
        assert client.connect().call("Bias.Get")[0] == pytest.approx(0.8)
        client.call("Bias.Set", 1.2)


def test_many_threads_on_one_client_get_their_own_replies(simulator: Simulator) -> None:
    with Client("127.0.0.1", simulator.ports[3]) as client:

        def ask(number: int) -> bool:
            kind = number % 4
            if kind == 0:
                names = client.call("Signals.NamesGet")[0]
                return len(names) == 128 and names[30] == "Z (m)"
            if kind == 1:
                return client.call("Signals.ValGet", 24, 0) == (np.float32(1.2),)
            if kind == 2:
                values = client.call("Signals.ValsGet", [24] * (number % 7), 0)[0]
                return values.tolist() == [np.float32(1.2)] * (number % 7)
            try:
                client.call("Bias.Set", 10.0 + number)
            except CommandError as error:
                return f"{10 + number} V" in error.text
            return False

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(400)))
        assert client.connected
