"""What the simulated controller answers, as a client that goes by the document sees it."""

import math
import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.nanonis import Client, CommandError, CommandTimeout, UnsupportedCommand
from bluesky_gpsts.nanonis.codec import (
    decode_fields,
    encode_error,
    encode_fields,
    pack_request,
    unpack_header,
)
from bluesky_gpsts.nanonis.commands import RELEASES, Field, command, command_names
from bluesky_gpsts.simulator import Fault, Sample, Simulator, start_process
from bluesky_gpsts.simulator.handlers import HANDLERS

Start = Callable[..., Simulator]
Connect = Callable[..., Client]

SHORT = 0.25
"""Time-out (s) where a test waits for it to pass."""

ERROR_FIELDS = (Field("u32", "status", ""), Field("str", "text", ""))
"""The block that closes every reply."""

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Bias.Set": (1.1,),
    "Bias.Pulse": (1, 0.01, 0.1, 1, 1),
    "BiasSpectr.ChsSet": ([0, 86],),
    "BiasSpectr.PropsSet": (0, 1, 2, 32, 0.0, 0, 0),
    "BiasSpectr.Start": (1, "sweep"),
    "BiasSpectr.LimitsSet": (1.0, -1.0),
    "BiasSpectr.TimingSet": (0.01, 0.0, 0.01, 1.0, 0.001, 0.001, 0.01, 0.01),
    "BiasSpectr.MLSModeSet": ("Linear",),
    "FolMe.XYPosSet": (1e-9, -1e-9, 1),
    "FolMe.SpeedSet": (50e-9, 1),
    "Scan.Action": (0, 1),
    "Scan.WaitEndOfScan": (-1,),
    "Scan.FrameSet": (0.0, 0.0, 2e-9, 2e-9, 0.0),
    "Scan.BufferSet": ([0, 30], 16, 8),
    "Scan.SpeedSet": (0.0, 0.0, 0.01, 0.01, 2, 1.0),
    "Scan.FrameDataGrab": (30, 1),
    "Util.AcqPeriodSet": (0.02,),
    "ZCtrl.OnOffSet": (1,),
    "ZCtrl.ZPosSet": (1e-9,),
    "ZCtrl.SetpntSet": (40e-12,),
    "ZCtrl.GainSet": (5e-12, 1e-4, 5e-8),
    "ZCtrl.Withdraw": (1, -1),
    "ZCtrl.WithdrawRateSet": (200e-9,),
    "ZCtrl.LimitsSet": (1e-7, -1e-7),
}


def arguments(name: str, release: int) -> tuple[Any, ...]:
    """Arguments that the simulator accepts."""
    fields = command(name, release).request
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    values = [[] if "[" in field.type else "" if field.type == "str" else 0 for field in fields]
    if name.startswith("LockIn."):
        values[0] = 1
    return tuple(values)


def known(name: str, release: int) -> bool:
    try:
        command(name, release)
    except UnsupportedCommand:
        return False
    return True


class Wire:
    """A bare socket to the simulator, to see the bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, name: str, body: bytes = b"", respond: bool = True) -> None:
        self.connection.sendall(pack_request(name, body, respond))

    def receive(self) -> tuple[str, bytes]:
        name, size, _ = unpack_header(self._exactly(40))
        return name.rstrip(b"\0").decode(), self._exactly(size)

    def ask(self, name: str, body: bytes = b"") -> bytes:
        self.send(name, body)
        echoed, reply = self.receive()
        assert echoed == name
        return reply

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


@contextmanager
def wire(simulator: Simulator, place: int = 0) -> Iterator[Wire]:
    with socket.create_connection((simulator.host, simulator.ports[place]), 5) as connection:
        yield Wire(connection)


# ---------------------------------------------------------------- every command


@pytest.mark.parametrize("release", RELEASES)
def test_every_handler_answers_by_the_table(start: Start, connect: Connect, release: int) -> None:
    client = connect(start(protocol_release=release))
    assert client.release == release
    client.call("Scan.BufferSet", [0, 30], 16, 8)
    client.call("Scan.Action", 0, 0)
    client.call("BiasSpectr.PropsSet", 0, 1, 0, 16, 0.0, 0, 0)
    asked = 0
    for name in sorted(set(HANDLERS) | set(ARGUMENTS)):
        assert name in command_names(), f"{name} is not in the table"
        if not known(name, release):
            continue
        client.call("ZCtrl.OnOffSet", 0 if name == "ZCtrl.ZPosSet" else 1)
        values = client.call(name, *arguments(name, release))
        assert len(values) == len(command(name, release).response), name
        asked += 1
    assert asked > 90


@pytest.mark.parametrize("style", ["native", "padded"])
@pytest.mark.parametrize("release", RELEASES)
def test_every_other_command_is_refused(start: Start, style: str, release: int) -> None:
    others = [n for n in command_names() if n not in HANDLERS and known(n, release)]
    assert len(others) > 40
    with wire(start(protocol_release=release, error_style=style)) as line:
        for name in others:
            layout = command(name, release)
            body = line.ask(name, encode_fields(layout.request, arguments(name, release)))
            padding = layout.response if style == "padded" else ()
            *values, status, text = decode_fields((*padding, *ERROR_FIELDS), body)
            assert status == 1 and not any(np.any(value) for value in values), name
            assert "Please make sure it is running" in text, name


@pytest.mark.parametrize("style", ["native", "padded"])
def test_refusals_of_implemented_commands(start: Start, connect: Connect, style: str) -> None:
    client = connect(start(error_style=style))
    for name, values, words in (
        ("Bias.Set", (99.0,), "Error in command: bias.set: 99 V"),
        ("Scan.FrameDataGrab", (30, 1), "Error in command: scan.framedatagrab: no scan data"),
        ("ZCtrl.ZPosSet", (0.0,), "switch the Z-Controller off first"),
        ("Signals.ValGet", (128, 0), "signal index 128"),
        ("LockIn.ModAmpGet", (2,), "modulator 2"),
        ("ZCtrl.SetpntSet", (0.0,), "must be positive"),
        ("FolMe.XYPosSet", (1.0, 0.0, 1), "outside the piezo range"),
        ("BiasSpectr.LimitsSet", (-1.0, 5.0), "outside"),
        ("BiasSpectr.PropsSet", (0, 10**9, 0, 0, 0.0, 0, 0), "1000000000 sweeps"),
        ("Scan.BufferSet", ([0], 10**9, 16), "1000000000 x 16"),
        ("Scan.Action", (17, 0), "action 17"),
        ("BiasSpectr.MLSModeSet", ("MLS",), "'MLS' is not available"),
        ("BiasSpectr.AltZCtrlSet", (1, 1e-12, 0.1), "not available"),
        ("LockIn.ModAmpSet", (1, 1.0), "outside 0 to 0.1 V"),
        ("ZCtrl.GainSet", (1e20, 1e-20, 0.0), "an integral gain of 1e+40 m/s"),
        ("Scan.SpeedSet", (0.0, 0.0, 1e-30, 0.1, 2, 1.0), "a line time"),
    ):
        with pytest.raises(CommandError) as caught:
            client.call(name, *values)
        assert words in caught.value.text
        assert caught.value.status == 1
    assert client.connected and client.call("Bias.Get")[0] == pytest.approx(1.2)


@pytest.mark.parametrize("style", ["native", "padded"])
def test_unknown_commands(start: Start, style: str) -> None:
    with wire(start(error_style=style, protocol_release=10862)) as line:
        for name in ("Foo.Bar", "bias.get", "Util.VersionGet"):
            text = f"Error in command: {name.lower()}: the command is not known"
            assert line.ask(name) == encode_error(1, text)


def test_bodies_that_do_not_fit(start: Start) -> None:
    with wire(start()) as line:
        complaint = encode_error(1, "Error trying to read the Message from the Client.")
        for name in HANDLERS:
            right = encode_fields(command(name).request, arguments(name, 14718))
            assert line.ask(name, right + b"\0") == complaint, name
            if right:
                assert line.ask(name, right[:-1]) == complaint, name
        # Three clients count the bytes of a list of texts in three ways; the count decides.
        names = b"".join(struct.pack(">i", len(n)) + n for n in (b"Bias", b"Current"))
        for total in (len(names), 8, len(names) + 8):
            body = struct.pack(">IIIii", 0, 0, 0, 0, 0) + struct.pack(">ii", total, 2) + names
            assert line.ask("Scan.PropsSet", body + bytes(4)) == encode_error()


def test_numbers_that_are_none(start: Start) -> None:
    # Our own client refuses them before they are sent; other clients do not.
    with wire(start()) as line:
        for name in ("Bias.Set", "ZCtrl.SetpntSet", "Util.AcqPeriodSet"):
            status, text = decode_fields(ERROR_FIELDS, line.ask(name, struct.pack(">f", math.nan)))
            assert status == 1 and "nan" in text
        frame = struct.pack(">fffff", 0, 0, 1e-9, 1e-9, math.nan)
        assert decode_fields(ERROR_FIELDS, line.ask("Scan.FrameSet", frame))[0] == 1
        (bias,) = struct.unpack(">f", line.ask("Bias.Get")[:4])
        assert bias == pytest.approx(1.2)


def raw(fields: tuple[Field, ...], values: list[Any]) -> bytes:
    """Body with numbers that our own client would refuse to send."""
    codes = {"f32": ">f", "f32?": ">f", "f64": ">d"}
    return b"".join(
        struct.pack(codes[field.type], value)
        if field.type in codes
        else encode_fields((field,), (value,))
        for field, value in zip(fields, values, strict=True)
    )


EXTREMES = (3e38, -3e38, 1e-45, 0.0, math.nan, math.inf, -math.inf, 1e20, 1e-20)


@pytest.mark.parametrize("name", sorted(n for n in HANDLERS if not n.endswith("Get")))
def test_no_number_ends_the_connection(start: Start, name: str) -> None:
    fields = command(name).request
    places = [place for place, field in enumerate(fields) if field.type.startswith("f")]
    answers = [name[:-3] + "Get" if name.endswith("Set") else "Signals.ValsGet"]
    answers += ["Signals.ValsGet", "FolMe.XYPosGet", "Scan.SpeedGet", "SafeTip.SignalGet"]
    with wire(start()) as line:
        for number in EXTREMES if places else ():
            for chosen in (places, *([place] for place in places)):
                values = list(arguments(name, 14718))
                for place in chosen:
                    values[place] = number
                reply = line.ask(name, raw(fields, values))
                if not math.isfinite(number):
                    assert decode_fields(ERROR_FIELDS, reply)[0] == 1
                for answer in filter(HANDLERS.__contains__, answers):
                    layout = command(answer)
                    asked = [[0, 24, 30, 86] if "[" in f.type else 1 for f in layout.request]
                    body = line.ask(answer, encode_fields(layout.request, asked))
                    shown = decode_fields((*layout.response, *ERROR_FIELDS), body)
                    assert shown[-2:] == (0, ""), answer


def test_no_reply_where_none_is_wanted(start: Start) -> None:
    with wire(start()) as line:
        line.send("Bias.Set", struct.pack(">f", 0.75), respond=False)
        line.send("Bias.Get")
        assert line.receive() == ("Bias.Get", struct.pack(">f", 0.75) + encode_error())


def test_what_is_no_request_ends_the_connection(start: Start) -> None:
    simulator = start()
    with wire(simulator) as line:
        line.connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(40))
        with pytest.raises((EOFError, ConnectionError)):
            line.receive()
    with wire(simulator) as line:
        assert line.ask("Bias.Get")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("module", "before", "after", "place"),
    [
        ("BiasSpectr.Props", (), (3, 0, 64, 0.0, 1, 0), 0),
        ("BiasSpectr.Props", (0, 3), (64, 0.0, 1, 0), 2),
        ("BiasSpectr.AdvProps", (), (0, 0, 0), 0),
        ("BiasSpectr.AdvProps", (0,), (0, 0), 1),
        ("BiasSpectr.AdvProps", (0, 0), (0,), 2),
        ("BiasSpectr.AdvProps", (0, 0, 0), (), 3),
        ("BiasSpectr.ZOffRevert", (), (), 0),
        ("Scan.Props", (), (0, 0, "", "", [], 0), 0),
        ("Scan.Props", (0,), (0, "", "", [], 0), 1),
        ("SafeTip.OnOff", (), (), 0),
        ("Piezo.DriftComp", (), (0.0, 0.0, 0.0, 10.0), 0),
        ("TipShaper.Props", (0.0,), (1.0, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.1, 0), 1),
        ("TipShaper.Props", (0.0, 0, 1.0, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.1), (), 10),
    ],
)
def test_set_counts_from_one_where_get_counts_from_zero(
    start: Start,
    connect: Connect,
    module: str,
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    place: int,
) -> None:
    client = connect(start())

    def state(value: int) -> Any:
        client.call(f"{module}Set", *before, value, *after)
        return client.call(f"{module}Get")[place]

    assert [state(value) for value in (1, 0, 2, 0, 1)] == [1, 1, 0, 0, 1]


def test_saving_has_three_states(start: Start, connect: Connect) -> None:
    client = connect(start())

    def state(autosave: int, autopaste: int) -> tuple[int, int]:
        client.call("Scan.PropsSet", 0, 0, autosave, "name", "words", [], autopaste)
        got = client.call("Scan.PropsGet")
        assert got[3:5] == ("name", "words")
        return got[2], got[8]

    assert [state(1, 3), state(0, 0), state(2, 2), state(3, 1)] == [(0, 2), (0, 2), (1, 1), (2, 0)]


@pytest.mark.parametrize(
    ("module", "rest"),
    [("ZCtrl.OnOff", ()), ("ZCtrl.LimitsEnabled", ()), ("SafeTip.Props", (0, 1e-9))],
)
def test_switches_that_are_plain(
    start: Start, connect: Connect, module: str, rest: tuple[Any, ...]
) -> None:
    client = connect(start())
    for value in (1, 0, 1):
        client.call(f"{module}Set", value, *rest)
        assert client.call(f"{module}Get")[0] == value


def test_settings_come_back(start: Start, connect: Connect) -> None:
    client = connect(start())
    for name, values in (
        ("Scan.Frame", (1e-9, -2e-9, 4e-9, 3e-9, 30.0)),
        ("BiasSpectr.Limits", (-0.5, 0.75)),
        ("BiasSpectr.Timing", (0.01, 1e-10, 0.02, 5.0, 0.001, 0.002, 0.03, 0.04)),
        ("Piezo.Tilt", (1.5, -2.0)),
        ("ZCtrl.Limits", (1e-7, -5e-8)),
        ("ZCtrl.TipLift", (2e-9,)),
        ("ZCtrl.SwitchOffDelay", (0.05,)),
        ("FolMe.Speed", (30e-9, 0)),
        ("BiasSpectr.MLSMode", ("Linear",)),
        ("Util.AcqPeriod", (0.04,)),
    ):
        client.call(f"{name}Set", *values)
        got = client.call(f"{name}Get")
        for sent, back in zip(values, got, strict=True):
            assert back == (sent if isinstance(sent, str) else pytest.approx(sent, rel=1e-6)), name
    client.call("LockIn.ModAmpSet", 1, 2.5e-3)
    assert client.call("LockIn.ModAmpGet", 1)[0] == pytest.approx(2.5e-3)
    # Lines go in steps of 16 pixels; nothing changes where nothing is given.
    client.call("Scan.BufferSet", [30], 100, 33)
    client.call("Scan.BufferSet", [], 0, 0)
    channels, pixels, lines = client.call("Scan.BufferGet")
    assert (channels.tolist(), pixels, lines) == ([30], 96, 33)


def test_home_is_absolute_or_relative(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("ZCtrl.HomePropsSet", 1, 20e-9)
    assert client.call("ZCtrl.HomePropsGet") == (0, pytest.approx(20e-9))
    client.call("ZCtrl.Home")
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(20e-9)
    assert client.call("ZCtrl.OnOffGet") == (0,)
    client.call("ZCtrl.HomePropsSet", 2, 5e-9)
    assert client.call("ZCtrl.HomePropsGet")[0] == 1
    client.call("ZCtrl.Home")
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(25e-9)


# ---------------------------------------------------------------- ports


def test_four_ports_share_one_world(start: Start, connect: Connect) -> None:
    simulator = start()
    assert len(set(simulator.ports)) == 4
    clients = [connect(simulator, place) for place in range(4)]
    for number, client in enumerate(clients):
        client.call("Bias.Set", 0.5 + number / 4)
        assert [other.call("Bias.Get")[0] for other in clients] == [0.5 + number / 4] * 4


def test_a_port_serves_one_client(start: Start, connect: Connect) -> None:
    simulator = start()
    first = connect(simulator)
    second = connect(simulator, release=14718)  # accepted: no question is asked yet
    with pytest.raises(CommandTimeout):
        second.call("Bias.Set", 5.0, timeout=SHORT)
    assert first.call("Bias.Get")[0] == pytest.approx(1.2)
    first.close()
    # The port is free again for a new client.
    assert connect(simulator).call("Bias.Get")[0] == pytest.approx(1.2)


def test_a_port_serves_one_client_among_a_thousand_open_files(
    start: Start, connect: Connect
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with ExitStack() as files:
        while files.enter_context(open(os.devnull, "rb")).fileno() < 1024:
            pass
        test_a_port_serves_one_client(start, connect)


def test_a_port_in_use_is_told(start: Start, ws2: Sample) -> None:
    port = start().ports[0]
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}.*choose other ports"):
        Simulator(ws2, ports=(0, port))


def test_bad_options(ws2: Sample) -> None:
    with pytest.raises(ValueError, match="error_style must be 'native' or 'padded', not 'nice'"):
        Simulator(ws2, error_style="nice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time_scale must be 0 or positive, not -1"):
        Simulator(ws2, time_scale=-1)


def test_a_blocking_command_blocks_its_port_alone(held: Any, connect: Connect) -> None:
    one, other = connect(held, 0), connect(held, 1)
    one.call("FolMe.SpeedSet", 1e-9, 1)
    arrived = threading.Event()

    def move() -> None:
        one.call("FolMe.XYPosSet", 1e-9, 0.0, 1)
        arrived.set()

    thread = threading.Thread(target=move)
    thread.start()
    wait_for(lambda: held.controller.clock.waiting == 1)
    held.controller.clock.moment = 0.5
    assert other.call("FolMe.XYPosGet", 1)[0] == pytest.approx(0.5e-9)
    assert not arrived.is_set()
    held.controller.clock.moment = 1.5
    thread.join(timeout=5)
    assert arrived.is_set()
    assert other.call("FolMe.XYPosGet", 1)[0] == pytest.approx(1e-9)


def wait_for(condition: Callable[[], bool]) -> None:
    """Until another thread has come so far."""
    pause = threading.Event()
    for _ in range(5000):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("the other thread did not come so far within 5 s")


def test_a_process_of_its_own() -> None:
    with start_process("ws2", seed=1, time_scale=0) as running:
        assert len(running.ports) == 4
        with Client(running.host, running.ports[3]) as client:
            assert client.call("Bias.Get")[0] == pytest.approx(1.2)
    assert running.process.returncode == 0


def test_a_process_that_does_not_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        start_process("graphene")
    assert "unknown sample 'graphene'" in capfd.readouterr().err


# ---------------------------------------------------------------- scanning


def image(client: Client, lines: int = 8) -> None:
    client.call("Scan.BufferSet", [0, 30], 16, lines)
    client.call("Scan.SpeedSet", 0.0, 0.0, 1.0, 1.0, 2, 1.0)


@pytest.mark.parametrize("up", [0, 1], ids=["down", "up"])
def test_rows_appear_in_their_time(held: Any, connect: Connect, up: int) -> None:
    client = connect(held)
    image(client)
    client.call("Scan.Action", 0, up)
    whole = None
    for moment, rows in ((0.0, 0), (1.9, 0), (2.1, 1), (9.0, 4), (16.1, 8)):
        held.controller.clock.moment = moment
        name, plane, direction = client.call("Scan.FrameDataGrab", 30, 1)
        assert (name, direction, plane.shape) == ("Z (m)", up, (8, 16))
        done = np.isfinite(plane).all(axis=1)
        assert np.isnan(plane[~done]).all()
        # The first row is the top edge, whichever way the scan goes.
        expected = [row >= 8 - rows if up else row < rows for row in range(8)]
        assert done.tolist() == expected
        assert client.call("Scan.StatusGet") == (int(rows < 8),)
        whole = plane
    assert whole is not None and np.isfinite(whole).all()


def test_stopping_a_scan_leaves_the_rest_unscanned(held: Any, connect: Connect) -> None:
    client = connect(held)
    image(client)
    client.call("Scan.Action", 0, 0)
    held.controller.clock.moment = 5.0
    client.call("Scan.Action", 1, 0)
    assert client.call("Scan.StatusGet") == (0,)
    held.controller.clock.moment = 100.0
    plane = client.call("Scan.FrameDataGrab", 30, 0)[1]
    assert np.isfinite(plane[:2]).all() and np.isnan(plane[2:]).all()
    # The tip stays where it was, and follows commands again at once.
    x, y = client.call("FolMe.XYPosGet", 1)
    assert 0 < y < 1.5e-9 and abs(x) <= 1.5e-9


def test_a_pause_stops_time_for_the_scan(held: Any, connect: Connect) -> None:
    client = connect(held)
    image(client)

    def rows() -> int:
        plane = client.call("Scan.FrameDataGrab", 0, 1)[1]
        return int(np.isfinite(plane).all(axis=1).sum())

    client.call("Scan.Action", 0, 0)
    held.controller.clock.moment = 5.0
    client.call("Scan.Action", 2, 0)
    held.controller.clock.moment = 105.0
    assert rows() == 2 and client.call("Scan.StatusGet") == (0,)
    client.call("Scan.Action", 3, 0)
    held.controller.clock.moment = 106.5
    assert rows() == 3 and client.call("Scan.StatusGet") == (1,)
    client.call("Scan.Action", 2, 0)
    held.controller.clock.moment = 500.0
    client.call("Scan.Action", 1, 0)
    assert rows() == 3


def test_waiting_for_the_end_of_a_scan(held: Any, connect: Connect) -> None:
    client, other = connect(held), connect(held, 1)
    image(client)
    assert client.call("Scan.WaitEndOfScan", -1) == (0, "")
    client.call("Scan.Action", 0, 0)
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(client.call("Scan.WaitEndOfScan", 1000))
    )
    thread.start()
    wait_for(lambda: held.controller.clock.waiting == 1)
    held.controller.clock.moment = 1.5
    thread.join(timeout=5)
    assert results == [(1, "")]
    thread = threading.Thread(target=lambda: results.append(client.call("Scan.WaitEndOfScan", -1)))
    thread.start()
    wait_for(lambda: held.controller.clock.waiting == 1)
    other.call("Scan.Action", 1, 0)
    thread.join(timeout=5)
    assert results[1:] == [(0, "")]


# ---------------------------------------------------------------- spectroscopy


def test_stop_frees_whoever_waits_for_a_sweep(held: Any, connect: Connect) -> None:
    client, other = connect(held), connect(held, 1)
    client.call("BiasSpectr.PropsSet", 0, 1, 2, 1000, 0.0, 0, 0)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(client.call("BiasSpectr.Start", 1, "")))
    thread.start()
    wait_for(lambda: held.controller.clock.waiting == 1)
    held.controller.clock.moment = 4.0
    assert other.call("BiasSpectr.StatusGet") == (1,)
    assert other.call("ZCtrl.StatusGet") == (3,)
    with pytest.raises(CommandError, match="is running"):
        other.call("BiasSpectr.Start", 0, "")
    assert not results
    other.call("BiasSpectr.Stop")
    thread.join(timeout=5)
    names, data, _ = results[0]
    assert names[0] == "Bias calc (V)" and 100 < data.shape[1] < 900
    assert np.isfinite(data).all()
    assert other.call("BiasSpectr.StatusGet") == (0,)
    assert other.call("ZCtrl.StatusGet") == (2,)
    assert other.call("Bias.Get")[0] == pytest.approx(1.2)


def test_withdrawing_in_a_stopped_sweep_stays_withdrawn(held: Any, connect: Connect) -> None:
    client, other = connect(held), connect(held, 1)
    thread = threading.Thread(target=lambda: client.call("BiasSpectr.Start", 1, ""))
    thread.start()
    wait_for(lambda: held.controller.clock.waiting == 1)
    held.controller.clock.moment = 0.5
    # Both come before the waiting client has noticed: the lock is held.
    with held.controller.lock:
        held.controller.tip.update(0.5)
        HANDLERS["BiasSpectr.Stop"](held.controller)
        HANDLERS["ZCtrl.Withdraw"](held.controller, 0, 0)
    thread.join(timeout=5)
    held.controller.clock.moment = 10.0
    assert other.call("ZCtrl.OnOffGet") == (0,)
    assert other.call("ZCtrl.ZPosGet")[0] == pytest.approx(other.call("ZCtrl.LimitsGet")[0])


def test_a_sweep_without_data_is_polled(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("BiasSpectr.PropsSet", 0, 1, 2, 16, 0.0, 0, 0)
    names, data, parameters = client.call("BiasSpectr.Start", 0, "")
    assert (names, data.size, parameters.size) == ([], 0, 0)
    assert client.call("BiasSpectr.StatusGet") == (1,)
    held.controller.clock.moment = 60.0
    assert client.call("BiasSpectr.StatusGet") == (0,)


def test_columns_of_a_sweep(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("BiasSpectr.ChsSet", [0, 86])
    client.call("BiasSpectr.PropsSet", 1, 2, 1, 16, 0.0, 0, 0)
    client.call("BiasSpectr.LimitsSet", -1.0, 1.0)
    names, data, parameters = client.call("BiasSpectr.Start", 1, "")
    assert data.shape == (len(names), 16)
    assert names[:2] == ["Bias calc (V)", "Current (A)"]
    assert {"Current [bwd] (A)", "LI Demod 1 X (A)", "Current [00002] (A)"} <= set(names)
    np.testing.assert_allclose(data[0], np.linspace(-1, 1, 16), rtol=1e-6, atol=1e-9)
    fixed, own = client.call("BiasSpectr.PropsGet")[5], client.call("BiasSpectr.PropsGet")[4]
    assert len(parameters) == len(fixed) + len(own)
    assert parameters[:2].tolist() == [-1.0, 1.0]


# ---------------------------------------------------------------- faults


def test_delay(start: Start, connect: Connect) -> None:
    simulator = start()
    client = connect(simulator)
    simulator.inject(Fault("delay", "Bias.Set", seconds=60.0))
    with pytest.raises(CommandTimeout):
        client.call("Bias.Set", 0.5, timeout=SHORT)
    # Late, not lost: the command was carried out.
    assert connect(simulator, 1).call("Bias.Get") == (0.5,)


@pytest.mark.parametrize("after", [0, 20, 41])
def test_drop(start: Start, after: int) -> None:
    simulator = start()
    simulator.inject(Fault("drop", after=after))
    with wire(simulator) as line:
        line.send("Bias.Get")
        data = b""
        while piece := line.connection.recv(100):
            data += piece
    assert len(data) == after
    with wire(simulator) as line:
        assert len(line.ask("Bias.Get")) == 12


def test_silence_fragments_and_a_wrong_name(start: Start) -> None:
    simulator = start()
    simulator.inject(Fault("silence", "Bias.Get"))
    simulator.inject(Fault("wrong name", "Bias.Get"))
    simulator.inject(Fault("fragment", "Bias.Get", times=2))
    with wire(simulator) as line:
        line.send("Bias.Get")
        line.send("Current.Get")
        assert line.receive()[0] == "Current.Get"
        line.send("Bias.Get")
        assert line.receive()[0] == "Wrong.Name"
        bodies = {line.ask("Bias.Get") for _ in range(3)}
        assert bodies == {struct.pack(">f", 1.2) + encode_error()}


# ---------------------------------------------------------------- safe tip


@pytest.mark.parametrize("busy", ["nothing", "scan", "sweep"])
def test_a_safe_tip_event_withdraws_the_tip(held: Any, connect: Connect, busy: str) -> None:
    client = connect(held)
    image(client, lines=100)
    client.call("SafeTip.PropsSet", 0, 1, 5e-9)
    if busy == "scan":
        client.call("Scan.Action", 0, 0)
    if busy == "sweep":
        client.call("BiasSpectr.PropsSet", 0, 1, 2, 1200, 0.0, 0, 0)
        client.call("BiasSpectr.Start", 0, "")
    held.controller.clock.moment = 5.0
    before = client.call("ZCtrl.ZPosGet")[0]
    held.trip_safe_tip()
    held.controller.clock.moment = 5.1
    assert client.call("ZCtrl.StatusGet") == (5,)
    assert client.call("ZCtrl.OnOffGet") == (0,)
    assert client.call("Scan.StatusGet") == (0,)
    assert client.call("ZCtrl.ZPosGet")[0] > before + 100e-9
    assert abs(client.call("Current.Get")[0]) < 1e-12
    held.controller.clock.moment = 10.0
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(client.call("ZCtrl.LimitsGet")[0])
    client.call("ZCtrl.OnOffSet", 1)
    held.controller.clock.moment = 11.0
    assert client.call("ZCtrl.StatusGet") == (2,)
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(before, abs=0.1e-9)
    assert held.truth.crashes == 0


def test_too_large_a_current_trips_the_safe_tip(start: Start, connect: Connect) -> None:
    client = connect(start())
    client.call("SafeTip.PropsSet", 0, 1, 1e-9)
    client.call("ZCtrl.SetpntSet", 2e-9)
    client.call("FolMe.XYPosSet", 1e-9, 0.0, 1)
    assert client.call("Current.Get")[0] == pytest.approx(2e-9, rel=0.1)
    client.call("SafeTip.OnOffSet", 1)
    client.call("Current.Get")
    assert client.call("ZCtrl.StatusGet") == (5,)


def test_withdrawing_from_a_scan(held: Any, connect: Connect) -> None:
    client = connect(held)
    image(client, lines=100)
    client.call("Scan.Action", 0, 0)
    held.controller.clock.moment = 5.0
    client.call("ZCtrl.Withdraw", 0, -1)
    assert client.call("ZCtrl.StatusGet") == (6,)
    assert client.call("Scan.StatusGet") == (0,)
    held.controller.clock.moment = 10.0
    assert client.call("ZCtrl.StatusGet") == (1,)
    assert client.call("ZCtrl.ZPosGet")[0] == pytest.approx(client.call("ZCtrl.LimitsGet")[0])


def test_the_switch_off_delay_shows_in_the_status(held: Any, connect: Connect) -> None:
    client = connect(held)
    client.call("ZCtrl.SwitchOffDelaySet", 0.5)
    client.call("ZCtrl.OnOffSet", 0)
    held.controller.clock.moment = 0.25
    assert client.call("ZCtrl.StatusGet") == (4,) and client.call("ZCtrl.OnOffGet") == (1,)
    held.controller.clock.moment = 0.75
    assert client.call("ZCtrl.StatusGet") == (1,) and client.call("ZCtrl.OnOffGet") == (0,)
