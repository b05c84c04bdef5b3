"""A RunEngine, and a simulated microscope over real sockets for it."""

import asyncio
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine

sys.path.append(str(Path(__file__).parents[1] / "devices"))

from device_bench import bench, make_bench, until, wait_for, ws2  # noqa: E402

__all__ = ["bench", "make_bench", "until", "ws2"]

SMALL = {
    "n_spectra": 5,
    "n_points": 64,
    "n_initial": 3,
    "grid": (16, 16),
    "settle": 0.05,
    "settling": 1e-3,
    "integration": 1e-2,
}


class Documents:
    """What a RunEngine emitted."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        self.all.append((name, document))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [document for kind, document in self.all if kind == name]

    def events(self, stream: str) -> list[dict[str, Any]]:
        streams = {d["uid"]: d["name"] for d in self.of("descriptor")}
        return [e for e in self.of("event") if streams[e["descriptor"]] == stream]

    def columns(self, stream: str) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = defaultdict(list)
        for event in self.events(stream):
            for key, value in event["data"].items():
                columns[key].append(value)
        return columns


@pytest.fixture
def documents() -> Documents:
    return Documents()


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all engines: each of its own would keep a thread and three open files."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.call_soon_threadsafe(loop.stop)


@pytest.fixture
def engine(documents: Documents, loop: asyncio.AbstractEventLoop) -> RunEngine:
    engine = RunEngine({}, loop=loop, call_returns_result=True)
    engine.subscribe(documents)
    return engine


@pytest.fixture
def small() -> dict[str, Any]:
    """Arguments of a short gp_sts."""
    return dict(SMALL)


@pytest.fixture
def when() -> Iterator[Callable[[Callable[[], Any], Callable[[], Any]], None]]:
    """Do something in a thread once a condition holds; errors surface at the end of the test."""
    threads: list[threading.Thread] = []
    errors: list[BaseException] = []

    def when(condition: Callable[[], Any], action: Callable[[], Any]) -> None:
        def work() -> None:
            try:
                wait_for(condition, "the moment to interrupt")
                action()
            except BaseException as error:
                errors.append(error)

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    yield when
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert errors == []
