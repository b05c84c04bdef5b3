"""Microscopes to be treated badly."""

from collections.abc import Iterator

import pytest
from bluesky import RunEngine

from bluesky_gpsts.benchmarks.safety_world import hurried
from bluesky_gpsts.simulator import Sample, open_sample


@pytest.fixture(scope="session")
def samples() -> dict[str, Sample]:
    """Samples hold no state, so that one serves every simulator."""
    return {name: open_sample(name, 0) for name in ("ws2", "au111")}


@pytest.fixture(scope="session")
def session_engine() -> RunEngine:
    return RunEngine({})


@pytest.fixture(autouse=True)
def in_a_hurry() -> Iterator[None]:
    with hurried():
        yield
