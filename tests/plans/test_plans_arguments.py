"""Bad arguments: one clear sentence, nothing written, no run opened."""

import ast
import inspect
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans import gp_sts, survey

BAD = [
    ({"seed": "3"}, "seed must be a whole number of 0 or above, not '3'"),
    ({"seed": 3.0}, "seed must be a whole number of 0 or above, not 3.0"),
    ({"seed": True}, "seed must be a whole number of 0 or above, not True"),
    ({"seed": -1}, "seed must be a whole number of 0 or above, not -1"),
    ({"seed": None}, "seed must be a whole number of 0 or above, not None"),
    ({"n_spectra": 0}, "n_spectra must be a whole number of 1 or above, not 0"),
    ({"n_spectra": 2.5}, "n_spectra must be a whole number"),
    ({"n_points": 10**9}, "n_points is 1000000000; give at most 1e+06"),
    ({"grid": (10**5, 10**5)}, "grid is 100000; give at most 1024"),
    ({"target_range": (1.0,)}, "target_range"),
    ({"n_initial": 0}, "n_initial must be a whole number"),
    ({"n_points": 7}, "n_points must be a whole number of 8 or above, not 7"),
    ({"n_points": 8}, "points of the spectrum lie in the window"),
    ({"window": (0.0, 1.5)}, "reaches outside the bias range -1.8 to 1.4 V"),
    ({"window": (-2.0, 0.0)}, "reaches outside the bias range -1.8 to 1.4 V"),
    ({"window": (0.5, 0.5)}, "the window 0.5 to 0.5 V is empty"),
    ({"window": (0.7, 0.0)}, "the window 0.7 to 0 V is empty"),
    ({"window": (0.0, math.nan)}, "window must be two numbers, in V"),
    ({"window": (0.0,)}, "window must be two numbers, in V"),
    ({"window": 0.7}, "window must be two numbers, in V"),
    ({"window": "ab"}, "window must be two numbers, in V"),
    ({"bias_range": (5.5, -1.8)}, "a bias of 5.5 V is refused"),
    ({"bias_range": (1.4, -9.0)}, "a bias of -9 V is refused"),
    ({"bias_range": (1.4, math.inf)}, "bias_range must be two numbers, in V"),
    ({"bias_range": (0.3, 0.3)}, "reaches outside the bias range"),
    ({"acquisition": "best"}, "best"),
    ({"acquisition": lambda m, v: v}, "put the function into a module and give 'module:function'"),
    ({"acquisition": ["x"]}, "acquisition must be text, not ['x']"),
    ({"cost": abs}, "cost must be a name, which the documents of the run can hold"),
    ({"kernel": "gauss"}, "gauss"),
    ({"kernel": 3}, "kernel must be text, not 3"),
    ({"merit": 3}, "merit must be text, not 3"),
    ({"survey": 3}, "survey must be text, not 3"),
    ({"md": 3}, "md must be a dict whose keys are text, not 3"),
    ({"md": {1: 2}}, "md must be a dict whose keys are text"),
    ({"n_spectra": np.int64(0)}, "n_spectra must be a whole number of 1 or above"),
    ({"n_spectra": np.float64(5)}, "n_spectra must be a whole number of 1 or above"),
    ({"n_spectra": np.True_}, "n_spectra must be a whole number of 1 or above"),
    ({"grid": (0, 16)}, "grid must be a whole number of 2 or above, not 0"),
    ({"grid": (16, 0)}, "grid must be a whole number of 2 or above, not 0"),
    ({"grid": (16.0, 16)}, "grid must be a whole number"),
    ({"grid": (16,)}, "grid must be two numbers"),
    ({"grid": 16}, "grid must be two numbers"),
    ({"target_std": 0.0}, "target_std is 0.0"),
    ({"target_std": -0.1}, "target_std is -0.1"),
    ({"settle": 0.0}, "settle must be above 0, in s"),
    ({"settling": -1e-3}, "settling must be 0 or above, in s"),
    ({"integration": 0.0}, "integration must be above 0, in s"),
    ({"integration": math.nan}, "integration must be above 0, in s"),
    ({"integration": "fast"}, "integration must be above 0, in s, not 'fast'"),
    ({"modulation": -1e-3}, "modulation must be 0 or above, in V"),
    ({"modulation": 0.2}, "a modulation of 0.2 V is refused"),
    ({"optimizer": object()}, "a object, has no method suggest, ingest, should_stop"),
]


def check_refused(engine: RunEngine, documents: Any, bench: Any, plan: Any, message: str) -> None:
    original = bench.state()
    bench.server.commands.clear()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        engine(plan)
    assert "\n" not in str(caught.value)
    assert bench.server.writes == []
    assert documents.all == []
    assert bench.state() == original
    assert engine.state == "idle"


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_argument_of_gp_sts(
    engine: RunEngine, documents: Any, bench: Any, arguments: dict[str, Any], message: str
) -> None:
    check_refused(engine, documents, bench, gp_sts(bench.stm, **arguments), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": 0}, "pixels must be a whole number of 16 or above"),
        ({"pixels": 100}, "pixels must be a multiple of 16, not 100"),
        ({"pixels": 64.0}, "pixels must be a whole number"),
        ({"lines": 0}, "lines must be a whole number of 1 or above"),
        ({"line_time": 0.0}, "line_time must be above 0, in s"),
        ({"line_time": math.inf}, "line_time must be above 0, in s"),
        ({"md": [1]}, "md must be a dict whose keys are text, not [1]"),
    ],
)
def test_bad_argument_of_survey(
    engine: RunEngine, documents: Any, bench: Any, arguments: dict[str, Any], message: str
) -> None:
    check_refused(engine, documents, bench, survey(bench.stm, **arguments), message)


@pytest.mark.parametrize("plan", [gp_sts, survey])
def test_frame_outside_the_piezo(
    engine: RunEngine, documents: Any, bench: Any, plan: Callable[..., Any]
) -> None:
    frame = Frame(0.0, 0.0, 0.75e-6, 0.75e-6, 45.0)
    bench.client.call("Scan.FrameSet", frame.x, frame.y, frame.width, frame.height, frame.angle)
    check_refused(engine, documents, bench, plan(bench.stm), "the frame's corner at x")


@pytest.mark.parametrize("plan", [gp_sts, survey])
def test_feedback_that_is_off(
    engine: RunEngine, documents: Any, bench: Any, plan: Callable[..., Any]
) -> None:
    bench.client.call("ZCtrl.OnOffSet", 0)
    check_refused(engine, documents, bench, plan(bench.stm), "the feedback of stm is off")


def test_what_the_controller_refuses_is_undone(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """A number of points that only the controller knows to be too high."""
    original = bench.state()
    with pytest.raises(Exception, match=r"BiasSpectr\.PropsSet.*70000 points are out of range"):
        engine(gp_sts(bench.stm, **{**small, "n_points": 70000}))
    assert documents.all == []
    assert bench.state() == original


# ---------------------------------------------------------------- fit for the queue server


@pytest.mark.parametrize("plan", [gp_sts, survey])
def test_signature_fits_the_queue_server(plan: Callable[..., Any]) -> None:
    """It needs real types for annotations, and defaults that survive as literals."""
    parameters = inspect.signature(plan).parameters
    assert next(iter(parameters)) == "stm"
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameter.annotation is not inspect.Parameter.empty, name
        assert not isinstance(parameter.annotation, str), name
        if name != "stm":
            default = parameter.default
            assert ast.literal_eval(repr(default)) == default, name
    assert not isinstance(inspect.signature(plan).return_annotation, str)
    assert inspect.isgeneratorfunction(plan)


@pytest.mark.parametrize("plan", [gp_sts, survey])
def test_docstring_describes_every_parameter(plan: Callable[..., Any]) -> None:
    text = inspect.getdoc(plan)
    assert text is not None
    sections = dict(
        zip(
            re.findall(r"^(\w+)\n-+$", text, flags=re.M),
            re.split(r"^\w+\n-+$", text, flags=re.M)[1:],
            strict=True,
        )
    )
    assert list(sections) == ["Parameters", "Returns", "Raises"]
    described = re.findall(r"^(\w+) : (.+)\n((?:    .+\n?)+)", sections["Parameters"], flags=re.M)
    assert [name for name, _, _ in described] == list(inspect.signature(plan).parameters)
    for name, kind, description in described:
        assert kind.strip() and len(description.strip()) > 10, name


@pytest.mark.parametrize("plan", [gp_sts, survey])
def test_plan_can_be_made_before_it_is_run(bench: Any, plan: Callable[..., Any]) -> None:
    """The queue server makes plans that it may never run; making one must not touch anything."""
    bench.server.commands.clear()
    made = plan(bench.stm)
    assert bench.server.commands == []
    made.close()


def test_numbers_of_numpy_are_those_of_python_in_documents(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """Documents go through JSON, which knows no numbers but those of Python."""
    whole = {name: np.int64(small[name]) for name in ("n_spectra", "n_points", "n_initial")}
    real = {name: np.float32(small[name]) for name in ("settle", "settling", "integration")}
    grid = tuple(np.array(small["grid"]))
    other = {"seed": np.uint8(3), "drift": {"every": np.int64(9)}, "target_std": np.float32(1e-9)}
    md = {"temperature": np.float64(4.2), "notes": {"numbers": [np.int32(1)]}}
    engine(gp_sts(bench.stm, **whole, **real, grid=grid, **other, md=md))
    (start,) = documents.of("start")
    again = json.loads(json.dumps(start))
    assert again["plan_args"]["n_spectra"] == small["n_spectra"] == len(documents.events("primary"))
    assert again["grid"] == {"nx": 16, "ny": 16}
    assert again["notes"] == {"numbers": [1]}
