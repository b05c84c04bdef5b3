"""A simulated microscope over real sockets, driven by the devices under test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from device_bench import Bench, wait_for

from bluesky_gpsts.simulator import Sample, open_sample


@pytest.fixture(scope="session")
def ws2() -> Sample:
    """A WS2 monolayer; samples hold no state, so that one serves every simulator."""
    return open_sample("ws2", 0)


@pytest.fixture
def make_bench(ws2: Sample) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda **options: Bench(stack, ws2, **options)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def until() -> Callable[[Callable[[], Any], str], None]:
    return wait_for
