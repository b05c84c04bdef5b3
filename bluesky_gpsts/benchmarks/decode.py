"""Decoding of one image: this package against nanonis-spm, in one process.

Both get the same reply to ``Scan.FrameDataGrab`` over a loopback connection and give out the same
values. Time is the CPU time of the calling thread, so that neither the network nor another
process counts. Two cases: the decoding alone, from the reply's bytes to values, and the whole
call, with framing and reception.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.table import Row, report
from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.codec import (
    HEADER_SIZE,
    decode_reply,
    encode_error,
    encode_fields,
    pack_reply,
    unpack_header,
)
from bluesky_gpsts.nanonis.commands import RELEASES, command

__all__ = ["GOAL", "decode_ours", "decode_theirs", "frame_reply", "run"]

GOAL = 50.0
"""How many times faster than nanonis-spm the decoding has to be."""

SIZE = 512
SEED = 0
_COMMAND = "Scan.FrameDataGrab"
_CHANNEL, _FORWARD = 30, 1


def frame_reply(size: int = SIZE, seed: int = SEED) -> bytes:
    """Body of a reply that carries an image, its error block included.

    Parameters
    ----------
    size : int
        Pixels and lines.
    seed : int
        Seed of the heights, which are normal with 10 pm.
    """
    heights = 1e-11 * np.random.default_rng(seed).standard_normal((size, size))
    return encode_fields(command(_COMMAND).response, ("Z (m)", heights, 1)) + encode_error()


def decode_ours(body: bytes) -> NDArray[Any]:
    """Image (lines, pixels) in a reply's body, in m, by this package."""
    image: NDArray[Any] = decode_reply(command(_COMMAND), body)[1]
    return image


def decode_theirs(body: bytes) -> NDArray[Any]:
    """Image (lines, pixels) in a reply's body, in m, by nanonis-spm.

    Raises
    ------
    ModuleNotFoundError
        If nanonis-spm is not installed.
    """
    # What its Scan_FrameDataGrab has decoded by quickSend; no connection is used.
    layout = ["i", "*-c", "i", "i", "2f", "I"]
    _, _, values = _peer().Nanonis(None).parseGeneralResponse(body, layout)
    return np.asarray(values[4])


def run(quick: bool = False) -> dict[str, Any]:
    """Measure both, alternating, and compare their medians.

    Parameters
    ----------
    quick : bool
        Two repeats instead of seven.

    Returns
    -------
    dict
        Report of the benchmark "decode", times in s.

    Raises
    ------
    ModuleNotFoundError
        If nanonis-spm is not installed.
    RuntimeError
        If the two decode different values.
    """
    peer = _peer()
    repeats = 2 if quick else 7
    body = frame_reply()
    if not np.array_equal(decode_ours(body), decode_theirs(body)):
        raise RuntimeError("the two clients decode different values from one reply")
    with _server(body) as port, _server(body) as other_port:
        client = Client("127.0.0.1", port, release=RELEASES[-1])
        connection = socket.create_connection(("127.0.0.1", other_port), timeout=30)
        # The peer never notices the end of a connection: close it before the server does.
        with client, connection:
            theirs = peer.Nanonis(connection)
            cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
                "decode": (lambda: decode_ours(body), lambda: decode_theirs(body)),
                "whole call": (
                    lambda: client.call(_COMMAND, _CHANNEL, _FORWARD),
                    lambda: theirs.Scan_FrameDataGrab(_CHANNEL, _FORWARD),
                ),
            }
            rows = [row for name, pair in cases.items() for row in _compare(name, *pair, repeats)]
    return report("decode", rows, seed=SEED, packages=("numpy", "nanonis-spm"))


def _compare(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> list[Row]:
    """Rows of one case."""
    case = f"{name} {SIZE} x {SIZE}"
    # Clocks of CPU time are coarse on some systems: many of our decodings make one measurement.
    batch = 400
    times = np.empty((repeats, 2))
    for row in times:
        row[0] = _cpu_time(ours, batch)
        row[1] = _cpu_time(theirs, 1)
    mine, peer = (float(median) for median in np.median(times, axis=0))
    goal = GOAL if name == "decode" else None
    return [
        Row(case, "bluesky-gpsts", "CPU time", mine, "s", repeats * batch),
        Row(case, "nanonis-spm", "CPU time", peer, "s", repeats),
        Row(case, "bluesky-gpsts", "times faster than nanonis-spm", peer / mine, "", repeats, goal),
    ]


def _cpu_time(work: Callable[[], Any], times: int) -> float:
    """CPU seconds of this thread for one piece of work, on average."""
    begin = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - begin) / times


def _peer() -> ModuleType:
    try:
        import nanonis_spm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the benchmark 'decode' compares with nanonis-spm, which is not installed: "
            "pip install nanonis-spm==1.0.9"
        ) from error
    module: ModuleType = nanonis_spm
    return module


@contextmanager
def _server(body: bytes) -> Iterator[int]:
    """Port that answers every request of one client with `body`."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listener, body), daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
        thread.join(timeout=10)


def _serve(listener: socket.socket, body: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        while True:
            header = _exactly(connection, HEADER_SIZE)
            if len(header) < HEADER_SIZE:
                return  # The client has closed the connection.
            name, size, _ = unpack_header(header)
            _exactly(connection, size)
            connection.sendall(pack_reply(name, body))


def _exactly(connection: socket.socket, size: int) -> bytes:
    """`size` bytes, or fewer where the stream ends."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data
