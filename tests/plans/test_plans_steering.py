"""What steers: failed spectra, figures of merit of one's own, whole spectra, what is known."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.plans import gp_sts
from bluesky_gpsts.surrogate import Grid, MapOptimizer, Prior, Symmetry, Topograph

OWN = """
import numpy as np

calls = []

def peak(bias, didv):
    return float(didv.max()), 1e-24

def moody(bias, didv):
    calls.append(1)
    if len(calls) == 2:
        raise ArithmeticError("no peak here")
    if len(calls) == 3:
        return np.nan
    return float(didv.max())

def broken(mean, variance):
    raise ArithmeticError("no score at all")

def hopeless(bias, didv):
    raise ArithmeticError("no peak at all")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    name = f"own_merit_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_merit_of_ones_own(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], own: str
) -> None:
    engine(gp_sts(bench.stm, **small, merit=f"{own}:peak"))
    columns = documents.columns("primary")
    didv = documents.of("start")[0]["columns"]["didv"]
    expected = [float(np.max(spectrum)) for spectrum in columns[didv]]
    assert columns["figure_of_merit"] == expected
    assert set(columns["figure_of_merit_variance"]) == {1e-24}


def test_a_failed_point_is_recorded_and_the_run_goes_on(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], own: str
) -> None:
    engine(gp_sts(bench.stm, **small, merit=f"{own}:moody"))
    merits = documents.columns("primary")["figure_of_merit"]
    assert np.isfinite(merits).tolist() == [True, False, False, True, True]
    decisions = documents.columns("decisions")
    assert "ArithmeticError: no peak here" in decisions["failure"][1]
    assert "must return a finite number" in decisions["failure"][2]
    assert [bool(text) for text in decisions["failure"]] == [False, True, True, False, False]
    # Every point is another one, and the model knows of three outcomes less two at the end.
    assert len(set(zip(decisions["x"], decisions["y"], strict=True))) == 5
    assert decisions["n_data"][-1] == 2.0
    assert documents.of("stop")[0]["exit_status"] == "success"


def test_five_failures_in_a_row_end_the_run(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], own: str
) -> None:
    original = bench.state()
    with pytest.raises(RuntimeError, match="5 spectra in a row cannot be used.*no peak at all"):
        engine(gp_sts(bench.stm, **{**small, "n_spectra": 9}, merit=f"{own}:hopeless"))
    assert len(documents.events("primary")) == 5
    assert documents.of("stop")[0]["exit_status"] == "fail"
    assert bench.state() == original


def test_whole_spectra_steer(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """The run's documents alone rebuild the optimizer and its next choice."""
    engine(gp_sts(bench.stm, **{**small, "n_spectra": 8}, components=3))
    start = documents.of("start")[0]
    columns, decisions = documents.columns("primary"), documents.columns("decisions")
    grid = Grid.from_metadata({**start["frame"], **start["grid"]})
    again = MapOptimizer(grid, acquisition="weighted", n_initial=3, seed=0, components=3)
    again.replay(
        decisions["x"][:7],
        decisions["y"][:7],
        columns["figure_of_merit"][:7],
        columns["figure_of_merit_variance"][:7],
        columns[start["columns"]["didv"]][:7],
    )
    (point,) = again.suggest()
    assert (point["x"], point["y"]) == (decisions["x"][7], decisions["y"][7])
    assert again._model.cache.outputs > 1


def test_a_symmetry_as_plain_data(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    plain = {"structure": "symmetry", "kind": "C3", "center": [1e-10, 0.0]}
    engine(gp_sts(bench.stm, **small, structure=plain, prior={"length": 0.1}))
    known = documents.of("start")[0]["plan_args"]["structure"]
    assert known == Symmetry("C3", (1e-10, 0.0)).describe()
    assert any("C3" in text for text in documents.columns("decisions")["structure"])


def test_a_prior_as_an_object(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **small, prior=Prior(length=0.1)))
    (start,) = documents.of("start")
    assert start["plan_args"]["prior"]["length"] == start["optimizer"]["prior"]["length"] == 0.1


def test_an_acquisition_function_that_raises_is_reported_once(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    own: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the plan, with its own words, and not by asyncio as well."""
    with pytest.raises(ValueError, match="broken raised ArithmeticError: no score at all"):
        engine(gp_sts(bench.stm, **small, acquisition=f"{own}:broken"))
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert "no score at all" in documents.of("stop")[0]["reason"]


def test_a_topograph_goes_into_the_run(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    image = np.random.default_rng(0).normal(size=(16, 16)).cumsum(axis=1)
    engine(gp_sts(bench.stm, **small, structure=Topograph(image)))
    (event,) = documents.events("structure")
    np.testing.assert_array_equal(event["data"]["structure_images"], image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"merit": "nothing"}, "the figure of merit 'nothing' cannot be had"),
        ({"merit": "math:pi"}, "not a function"),
        ({"structure": "C3"}, "structure is 'C3'; give a structure of bluesky_gpsts.surrogate"),
        ({"structure": {"structure": "disc"}}, "No structure 'disc'"),
        ({"structure": {"structure": "topograph", "sha256": "0"}}, "give the image"),
        ({"prior": {"width": 1.0}}, "the prior has no 'width'"),
        ({"structure": {"structure": "symmetry", "centre": [0, 0]}}, "has no 'centre'"),
        ({"structure": {"structure": "symmetry", "center": "ab"}}, "is 'ab'; give two finite"),
        ({"prior": {"length": -1.0}}, "length of the prior is -1.0"),
        ({"prior": {"length_factor": 0.5}}, "length_factor of the prior is 0.5; give a number"),
        ({"prior": 3}, "prior is 3; give a bluesky_gpsts.surrogate.Prior, or a dict"),
        ({"components": -1}, "components must be a whole number of 0 or above"),
    ],
)
def test_bad_arguments(
    engine: RunEngine, documents: Any, bench: Any, arguments: dict[str, Any], message: str
) -> None:
    bench.server.commands.clear()
    with pytest.raises(ValueError) as caught:
        engine(gp_sts(bench.stm, **arguments))
    assert message in str(caught.value)
    assert bench.server.writes == []
    assert documents.all == []
