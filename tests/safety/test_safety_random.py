"""Random plans and commands, with faults, events and an operator; the simulator's truth judges."""

from typing import Any, ClassVar

import pytest
from bluesky import RunEngine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bluesky_gpsts.benchmarks import safety
from bluesky_gpsts.benchmarks.safety_steps import ACTIONS, TROUBLES, Step, do
from bluesky_gpsts.benchmarks.safety_world import World

number = st.floats(0.0, 1.0, exclude_max=True, width=32)
numbers = st.tuples(number, number, number, number)


class Treatment(RuleBasedStateMachine):
    """A microscope under anything that a plan, a user, a network and an operator may do."""

    sample: ClassVar[Any] = None
    engine: ClassVar[Any] = None

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.sample, 0, self.engine)

    def teardown(self) -> None:
        self.world.close()

    @rule(kind=st.sampled_from(ACTIONS), numbers=numbers)
    def act(self, kind: str, numbers: tuple[float, float, float, float]) -> None:
        do(self.world, Step(kind, numbers))

    @rule(kind=st.sampled_from(TROUBLES), numbers=numbers)
    def trouble(self, kind: str, numbers: tuple[float, float, float, float]) -> None:
        do(self.world, Step(kind, numbers))

    @invariant()
    def nothing_has_gone_wrong(self) -> None:
        assert self.world.found == []


@pytest.mark.parametrize("name", ["ws2", "au111"])
def test_random_treatment_does_no_harm(
    samples: dict[str, Any], session_engine: RunEngine, name: str
) -> None:
    Treatment.sample, Treatment.engine = samples[name], session_engine
    run_state_machine_as_test(
        Treatment,
        settings=settings(
            max_examples=20,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_benchmark_counts_what_it_did() -> None:
    result = safety.run(actions=40, seed=7, progress=False)
    rows = {row["metric"]: row for row in result["rows"]}
    assert rows["plans and commands"]["value"] >= 40
    assert rows["crashes"]["met"] and rows["smallest gap"]["met"]
    assert rows["worlds where something went wrong"]["value"] == 0
