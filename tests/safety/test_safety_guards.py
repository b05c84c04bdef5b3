"""Each guard in turn is taken away: without it the treatment does harm, with it there is none."""

from dataclasses import fields
from typing import Any

import pytest
from bluesky import RunEngine
from guards import GUARDS, Guard
from vetoes import VETOES, Lawless

from bluesky_gpsts.benchmarks.safety_world import World
from bluesky_gpsts.devices import electronics
from bluesky_gpsts.devices.electronics import ZController


def harm(guard: Guard, samples: dict[str, Any], engine: RunEngine, lawless: bool) -> list[str]:
    """What has gone wrong after the treatment."""
    with World(samples[guard.sample], 0, engine, guard.limits, patience=2.0) as world:
        if lawless:
            known = {f.name: getattr(guard.limits, f.name) for f in fields(guard.limits)}
            world.stm.instrument_limits = Lawless(**known)
        guard.treat(world)
        return list(world.judge())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electronics, "_FEEDBACK_TIME", 0.2)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_every_guard_matters(
    guard: Guard,
    samples: dict[str, Any],
    session_engine: RunEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert harm(guard, samples, session_engine, lawless=False) == []
    guard.remove(monkeypatch)
    assert harm(guard, samples, session_engine, lawless=False) != []


@pytest.mark.parametrize("guard", VETOES, ids=lambda guard: guard.name)
def test_every_rule_before_the_run_engine_matters(
    guard: Guard,
    samples: dict[str, Any],
    session_engine: RunEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The devices check nothing here."""
    monkeypatch.setattr(ZController, "require_followed", lambda *a: None)
    assert harm(guard, samples, session_engine, lawless=True) == []
    guard.remove(monkeypatch)
    assert harm(guard, samples, session_engine, lawless=True) != []
