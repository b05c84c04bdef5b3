"""The latency benchmark: its report, and that all methods solve one problem; not the times."""

import json
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.benchmarks import latency
from bluesky_gpsts.benchmarks.latency_methods import METHODS, Problem, StockChunks, missing


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return latency.run(counts=(12, 20), side=16, repeats=2, memory=False, progress=False)


def test_the_report(result: dict[str, Any]) -> None:
    assert result["bench"] == "latency"
    assert json.loads(json.dumps(result)) == result
    installed = {name for name in METHODS if missing(name) is None}
    assert {"bluesky-gpsts", "gpCAM list", "gpCAM bounds"} <= installed
    timed = [row for row in result["rows"] if row["metric"] == "tell and ask, CPU time"]
    assert {row["method"] for row in timed} == installed
    assert {row["case"] for row in timed} == {
        "N = 12, 256 candidates",
        "N = 20, 256 candidates",
    }
    for name in set(METHODS) - installed:
        assert any(note.startswith(f"not run: {name}, because") for note in result["notes"])
    # The goals are for 16384 candidates.
    assert not [row for row in result["rows"] if "goal" in row]


def test_peak_memory_is_that_of_a_process() -> None:
    small = latency.peak_memory("bluesky-gpsts", 12, 16)
    assert 20 < small < 4000


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="memory of nobody at N = 12: .*nobody"):
        latency.peak_memory("nobody", 12, 16)


def test_every_method_goes_on_from_where_it_was_filled() -> None:
    problem = Problem(12)
    method = StockChunks(problem)
    method.fill(12)
    method.step()
    method.step()
    np.testing.assert_array_equal(method._gp.x_data, problem.unit[:14])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"methods": ("abacus",)}, "no method 'abacus'"), ({"counts": (1,)}, "counts start at 1")],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latency.run(**wrong, progress=False)
