"""Simulators for tests: as fast as possible, or with a clock that the test sets."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.simulator import Sample, Simulator, open_sample
from bluesky_gpsts.simulator.clock import Clock


class HeldClock(Clock):
    """Time that stands still until the test sets `moment` (s).

    `waiting` is the number of connections that wait for a later moment.
    """

    def __init__(self) -> None:
        super().__init__(1.0)
        self.moment = 0.0
        self.waiting = 0

    def now(self) -> float:
        return self.moment

    def wait_until(self, moment: float, cancelled: threading.Event) -> bool:
        self.waiting += 1
        try:
            while self.moment < moment and not cancelled.wait(0.001):
                pass
            return not cancelled.is_set()
        finally:
            self.waiting -= 1


@pytest.fixture(scope="session")
def ws2() -> Sample:
    """A WS2 monolayer; samples hold no state, so that one serves every simulator."""
    return open_sample("ws2", 0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack: ExitStack, ws2: Sample) -> Callable[..., Simulator]:
    """Start a simulator that ends with the test."""

    def start(sample: str | Sample = ws2, **options: Any) -> Simulator:
        return stack.enter_context(Simulator(sample, **{"time_scale": 0, **options}))

    return start


@pytest.fixture
def connect(stack: ExitStack) -> Callable[..., Client]:
    """Connect a client to a simulator, on the port of that place, for the test."""

    def connect(simulator: Simulator, place: int = 0, **options: Any) -> Client:
        return stack.enter_context(Client(simulator.host, simulator.ports[place], **options))

    return connect


@pytest.fixture
def held(start: Callable[..., Simulator]) -> Simulator:
    """A simulator whose time stands still until ``held.controller.clock.moment`` is set."""
    simulator = start(time_scale=1)
    simulator.controller.clock = HeldClock()
    return simulator
