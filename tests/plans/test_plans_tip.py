"""check_tip and condition_tip over real sockets, judged by the simulator's truth."""

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from device_bench import Bench

from bluesky_gpsts.devices.electronics import TipWithdrawn
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError
from bluesky_gpsts.images import echo
from bluesky_gpsts.physics import Tip, sharp
from bluesky_gpsts.plans import TipVerdict, check_tip, condition_tip
from bluesky_gpsts.plans.treatments import ladder
from bluesky_gpsts.plans.verdict import TipCriteria, alike, same_echo
from bluesky_gpsts.simulator import Sample, open_sample

ALLOWED = replace(
    SIMULATOR_LIMITS, pulse=4.0, pulse_width=0.1, depth=2e-9, conditioning_per_hour=100
)
BLUNT = Tip(blur=0.6e-9, apexes=((0.0, 0.0, 1.0), (2e-9, 0.5e-9, 0.6)))
CONTAMINATED = Tip(background=((0.1, 0.1, 1.2),))
UNSTABLE = Tip(jitter=12e-12)


@pytest.fixture(scope="module")
def au111() -> Sample:
    return open_sample("au111", 2)


@pytest.fixture
def gold(au111: Sample) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench(stack, au111, seed=2)
        bench.stm.instrument_limits = bench.stm.gate.limits = ALLOWED
        yield bench


def always_good(monkeypatch: pytest.MonkeyPatch, tips: list[Tip]) -> None:
    """Let treatments give these tips, one after the other."""
    import bluesky_gpsts.simulator.apex as apex

    monkeypatch.setattr(apex, "treat", lambda tip, treatment, rng: tips.pop(0) if tips else tip)


def run(engine: RunEngine, plan: Any) -> Any:
    return engine(plan).plan_result


def test_a_good_tip_passes_with_its_reasons_as_a_document(
    gold: Bench, engine: RunEngine, documents: Any
) -> None:
    gold.simulator.change_tip(sharp())
    original, place = gold.state(), gold.stm.tip.where()
    verdict: TipVerdict = run(engine, check_tip(gold.stm))
    assert verdict.passed and verdict.reasons == ()
    assert verdict.onset == pytest.approx(-0.48, abs=0.02)
    assert verdict.edge < 0.22e-9 and verdict.noise < 0.03 and verdict.spectra == 5
    (event,) = documents.events("tip")
    assert event["data"]["tip_passed"] == 1 and event["data"]["tip_reasons"] == ""
    for name, value in verdict.numbers.items():
        assert event["data"][f"tip_{name}"] == pytest.approx(value, nan_ok=True), name
    assert len(documents.events("tip_spectra")) == 5
    assert len(documents.events("tip_image")) == 1
    (stop,) = documents.of("stop")
    assert (stop["exit_status"], stop["reason"]) == ("success", "the tip is fit")
    assert gold.state() == original
    assert gold.stm.tip.where() == pytest.approx(place, abs=1e-12)
    assert gold.simulator.truth.crashes == 0
    with pytest.raises(AttributeError):
        verdict.passed = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tip", "reason"),
    [
        (BLUNT, "the tip is blunt: a step spreads over"),
        (CONTAMINATED, "the surface state|states of its own"),
        (UNSTABLE, "the tip is unstable: the current's noise is"),
    ],
)
def test_a_bad_tip_fails_for_its_own_reason(
    gold: Bench, engine: RunEngine, documents: Any, tip: Tip, reason: str
) -> None:
    gold.simulator.change_tip(tip)
    verdict = run(engine, check_tip(gold.stm))
    assert not verdict.passed
    assert re.search(reason, "; ".join(verdict.reasons)), verdict.reasons
    assert documents.of("stop")[0]["reason"] == "; ".join(verdict.reasons)


def test_a_double_tip_fails(gold: Bench, engine: RunEngine, au111: Any) -> None:
    uphill = au111.junction.surface.step_direction + np.pi
    second = 1.5e-9 * np.cos(uphill), 1.5e-9 * np.sin(uphill), 0.3
    gold.simulator.change_tip(Tip(apexes=((0.0, 0.0, 1.0), second)))
    verdict = run(engine, check_tip(gold.stm))
    assert len(verdict.reasons) == 1 and "the tip is double" in verdict.reasons[0]


def test_an_image_that_an_operator_stops_gives_no_verdict(
    gold: Bench, engine: RunEngine, documents: Any, when: Callable[..., None]
) -> None:
    gold.hold_image()

    def stop() -> None:
        gold.clock.advance(5.0)
        gold.client.call("Scan.Action", 1, 0)

    when(lambda: gold.controller.scanning(gold.clock.now()), stop)
    with pytest.raises(RuntimeError, match="lines: it was stopped at the controller; nothing is"):
        engine(check_tip(gold.stm, width=20e-9))
    (end,) = documents.of("stop")
    assert end["exit_status"] == "fail" and documents.events("tip_spectra") == []
    assert len(documents.events("tip_image")) == 1


def test_a_classifier_names_the_spectrum(gold: Bench, engine: RunEngine) -> None:
    gold.simulator.change_tip(sharp())
    verdict = run(engine, check_tip(gold.stm, classifier="default"))
    assert verdict.label.startswith("Au") and verdict.novelty < 0.5
    gold.simulator.change_tip(Tip(background=((0.1, 0.07, 3.0),)))
    assert run(engine, check_tip(gold.stm, classifier="default")).novelty > verdict.novelty


def test_without_a_step_no_tip_passes(gold: Bench, engine: RunEngine) -> None:
    gold.simulator.change_tip(sharp())
    verdict = run(engine, check_tip(gold.stm, width=8e-9, pixels=64, lines=64, n_spectra=2))
    assert not verdict.passed and not verdict.sees_step
    assert "no step edge is in view" in "; ".join(verdict.reasons)
    result = run(engine, condition_tip(gold.stm, width=8e-9, pixels=64, lines=64, n_spectra=2))
    assert not result.passed and result.attempts == 0 and "no step edge" in result.reason
    assert gold.simulator.truth.crashes == 0


def test_conditioning_until_the_tip_is_fit(
    gold: Bench, engine: RunEngine, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, then another bad tip, then a good one: the treatment grows only after nothing."""
    stm, truth = gold.stm, gold.simulator.truth
    gold.simulator.change_tip(BLUNT)
    # A good one may be called double by an imprint that looks like two.
    always_good(monkeypatch, [BLUNT, UNSTABLE, sharp(), sharp(), sharp()])
    original, place = gold.state(), stm.tip.where()
    touched: list[tuple[float, float]] = []
    apex = gold.controller.tip.apex
    treat = apex._treat
    monkeypatch.setattr(
        apex, "_treat", lambda where, **how: (touched.append(tuple(where)), treat(where, **how))
    )
    interesting = [15e-9, -15e-9]
    result = run(engine, condition_tip(stm, keep_away=[interesting], distance=8e-9))
    count = result.attempts
    assert result.passed and 3 <= count <= 5
    assert result.reason == f"the tip is fit after an indentation by 1.10 nm, attempt {count}"
    data = [event["data"] for event in documents.events("tip")]
    assert [d["tip_attempt"] for d in data[:4]] == [0, 1, 2, 3]
    assert [d["tip_passed"] for d in data[:3]] == [0, 0, 0] and data[-1]["tip_passed"] == 1
    assert [d["tip_action"] for d in data[:4]] == [
        "",
        "an indentation by 0.90 nm",
        "an indentation by 1.10 nm",
        "an indentation by 1.10 nm",
    ]
    assert truth.indentations == count and truth.crashes == 0
    assert stm.gate.conditioned == count
    half = stm.scan.frame().width / 2
    for x, y in touched:
        outside = max(abs(x), abs(y)) - half
        assert outside > 7.5e-9, "away from the scan frame"
        assert math.hypot(x - interesting[0], y - interesting[1]) > 7.5e-9
        assert gold.controller.tip.apex.sample.junction.surface.step_distance > 0
    apart = [math.dist(a, b) for i, a in enumerate(touched) for b in touched[:i]]
    assert min(apart) > 5e-9, "each place once"
    (back,) = documents.events("return")
    assert {"return_dx", "return_confidence", "return_reason"} <= set(back["data"])
    assert gold.state() == original
    offset = stm.tip.offset_x.get(), stm.tip.offset_y.get()
    piezo = np.add(stm.tip.where(), offset)
    assert piezo == pytest.approx(np.add(place, offset), abs=1e-12), "back at the same feature"
    assert documents.of("stop")[0]["exit_status"] == "success"


def test_an_imprint_tells_of_a_second_apex_that_no_step_shows(
    gold: Bench, engine: RunEngine, documents: Any, monkeypatch: pytest.MonkeyPatch, au111: Any
) -> None:
    along = au111.junction.surface.step_direction + np.pi / 2
    double = Tip(apexes=((0.0, 0.0, 1.0), (1.5e-9 * np.cos(along), 1.5e-9 * np.sin(along), 0.8)))
    import bluesky_gpsts.plans.verdict as verdict

    # Only the step counts in the check, as where no adsorbate is in view.
    monkeypatch.setattr(verdict, "echo", lambda image, pixel: verdict_echo_of_nothing())
    gold.simulator.change_tip(BLUNT)
    always_good(monkeypatch, [double, sharp(), sharp()])
    result = run(engine, condition_tip(gold.stm, attempts=4, depths=(1.5e-9, 1.7e-9)))
    assert result.passed and result.attempts >= 2
    reasons = [event["data"]["tip_reasons"] for event in documents.events("tip")]
    assert any("its imprint appears again 1." in reason for reason in reasons)
    assert len(documents.events("imprint")) == result.attempts


def test_adsorbates_side_by_side_are_no_double_tip(
    gold: Bench, engine: RunEngine, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays where it is while the tip changes is the surface's; the imprint confirms it."""
    import bluesky_gpsts.plans.verdict as verdict
    from bluesky_gpsts.images import Echo

    pair = Echo(0.4, 2e-9, 1e-9, 2)
    monkeypatch.setattr(verdict, "echo", lambda image, pixel: pair)
    gold.simulator.change_tip(BLUNT)
    always_good(monkeypatch, [UNSTABLE, sharp(), sharp()])
    result = run(engine, condition_tip(gold.stm, attempts=4))
    assert result.passed and result.attempts == 2
    told = [event["data"] for event in documents.events("tip")]
    assert [d["tip_passed"] for d in told] == [0, 0, 0, 1]
    assert "adsorbates appear again 2.2 nm away" in told[2]["tip_reasons"]
    assert told[3]["tip_reasons"] == ""
    assert len(documents.events("imprint")) == 1


def verdict_echo_of_nothing() -> Any:
    from bluesky_gpsts.images import Echo

    return Echo(math.nan, 0.0, 0.0, 0)


def test_a_tip_that_is_fit_is_left_alone(gold: Bench, engine: RunEngine) -> None:
    gold.simulator.change_tip(sharp())
    result = run(engine, condition_tip(gold.stm))
    assert result.passed and result.attempts == 0
    assert gold.simulator.truth.crashes == 0 and gold.stm.gate.conditioned == 0
    assert "TipShaper.Start" not in gold.server.commands


def test_it_stops_when_the_attempts_or_the_hour_are_used_up(
    gold: Bench, engine: RunEngine, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold.simulator.change_tip(BLUNT)
    always_good(monkeypatch, [])
    original = gold.state()
    result = run(engine, condition_tip(gold.stm, attempts=2, method="both"))
    assert not result.passed and result.reason == "the 2 attempts are used up"
    assert gold.server.commands.count("Bias.Pulse") == 1
    gold.stm.instrument_limits = gold.stm.gate.limits = replace(ALLOWED, conditioning_per_hour=3)
    result = run(engine, condition_tip(gold.stm, attempts=2))
    assert (result.attempts, result.reason) == (1, "the hour's count of 3 is used up")
    assert [stop["exit_status"] for stop in documents.of("stop")] == ["success", "success"]
    assert gold.state() == original
    with pytest.raises(LimitError, match="allows 3 in an hour"):
        engine(condition_tip(gold.stm))


def test_no_room_to_touch(gold: Bench, engine: RunEngine) -> None:
    gold.simulator.change_tip(BLUNT)
    result = run(engine, condition_tip(gold.stm, distance=50e-9))
    assert result.attempts == 0 and "no flat place far enough" in result.reason
    assert gold.simulator.truth.crashes == 0


def test_it_is_forbidden_unless_the_limits_allow_it(gold: Bench, engine: RunEngine) -> None:
    for limits, arguments in (
        (SIMULATOR_LIMITS, {}),
        (replace(ALLOWED, pulse=0.0), {"method": "pulse"}),
        (replace(ALLOWED, pulse=3.0), {"method": "both"}),
        (replace(ALLOWED, depth=1.2e-9), {}),
        (replace(ALLOWED, pulse_width=0.01), {"method": "pulse"}),
    ):
        gold.stm.instrument_limits = gold.stm.gate.limits = limits
        gold.server.commands.clear()
        with pytest.raises(LimitError, match="refused"):
            engine(condition_tip(gold.stm, **arguments))
        assert gold.server.writes == []


@pytest.mark.parametrize("required", [True, False])
def test_indentations_are_refused_at_once_where_the_safe_tip_would_see_a_crash(
    gold: Bench, engine: RunEngine, required: bool
) -> None:
    gold.client.call("SafeTip.OnOffSet", 1)
    gold.client.call("SafeTip.PropsSet", 0, 0, 4e-9)
    stm = gold.stm
    stm.instrument_limits = stm.gate.limits = replace(ALLOWED, safe_tip=required)
    gold.server.commands.clear()
    for method in ("indentation", "both"):
        with pytest.raises(ValueError, match="give method='pulse'") as refused:
            engine(condition_tip(stm, method=method))
        assert ("safe_tip = false" in str(refused.value)) == required
    assert gold.server.writes == []
    # Pulses pass this check, and come to the next one.
    with pytest.raises(ValueError, match="a bias pulse of 4.333"):
        engine(condition_tip(stm, method="pulse", pulses=(3.0, 5.0)))
    stm.gate._conditioned.extend([stm.gate._clock()] * 100)
    with pytest.raises(LimitError, match="allows 100 in an hour"):
        engine(condition_tip(stm, method="pulse"))


def test_a_safe_tip_event_ends_it_and_the_tip_stays_away(
    gold: Bench, engine: RunEngine, documents: Any, when: Callable[..., None]
) -> None:
    gold.simulator.change_tip(BLUNT)
    when(lambda: gold.stm.gate.conditioned, gold.simulator.trip_safe_tip)
    with pytest.raises(TipWithdrawn):
        engine(condition_tip(gold.stm))
    assert documents.of("stop")[0]["exit_status"] == "fail"
    assert gold.client.call("ZCtrl.OnOffGet") == (0,)


@pytest.mark.parametrize(
    ("plan", "arguments", "message"),
    [
        (check_tip, {"pixels": 100}, "pixels must be a multiple of 16"),
        (check_tip, {"lines": 32}, "lines must be a whole number of 64 or above"),
        (check_tip, {"n_spectra": 0}, "n_spectra must be a whole number of 1"),
        (check_tip, {"bias_range": (0.5, -0.6)}, "must hold the surface state at -0.48 V"),
        (check_tip, {"bias_range": (6.0, -1.0)}, "a bias of 6 V is refused"),
        (check_tip, {"width": -1e-9}, "width must lie in 4e-09 to 1e-06 m, not -1e-09"),
        (check_tip, {"width": 1e-12}, "width must lie in"),
        (check_tip, {"width": "34e-9"}, "width must lie in"),
        (check_tip, {"width": 300e-9}, "too coarse for the edge of a step"),
        (check_tip, {"width": 90e-9, "line_time": 0.01}, "a scan speed of 9e-06 m/s is refused"),
        (check_tip, {"pixels": 1 << 20}, "pixels is 1048576; give at most 1024"),
        (check_tip, {"lines": 5000}, "lines is 5000; give at most 1024"),
        (check_tip, {"lines": 100.0}, "lines must be a whole number"),
        (check_tip, {"n_spectra": 1000}, "n_spectra is 1000; give at most 100"),
        (check_tip, {"n_points": 10**6}, "n_points is 1000000; give at most 10000"),
        (check_tip, {"n_points": "many"}, "n_points must be a whole number"),
        (check_tip, {"onset": "x"}, "onset must lie in -10 to 10 V, not 'x'"),
        (check_tip, {"onset": math.nan}, "onset must lie in"),
        (check_tip, {"classifier": 5}, "classifier must be text, not 5"),
        (check_tip, {"classifier": None}, "classifier must be text, not None"),
        (check_tip, {"line_time": None}, "line_time must lie in"),
        (check_tip, {"settle": 1e6}, "settle must lie in"),
        (check_tip, {"settling": -1.0}, "settling must lie in"),
        (check_tip, {"integration": 0.0}, "integration must lie in"),
        (check_tip, {"modulation": "5 mV"}, "modulation must be 0 or above"),
        (check_tip, {"center": 5}, "center must be two numbers"),
        (check_tip, {"bias_range": 1.0}, "bias_range must be two numbers"),
        (check_tip, {"md": 5}, "md must be a dict"),
        (check_tip, {"center": (1.0, 0.0)}, "the frame's corner at x"),
        (check_tip, {"modulation": 0.2}, "a modulation of 0.2 V is refused"),
        (check_tip, {"classifier": "nobody"}, "there is no model 'nobody'"),
        (condition_tip, {"attempts": 0}, "attempts must be a whole number of 1"),
        (condition_tip, {"method": "hammer"}, "method must be one of"),
        (condition_tip, {"depths": (-1e-9, 1e-9)}, "depths must be above 0 and go from mild"),
        (condition_tip, {"depths": (1.5e-9, 0.9e-9)}, "depths must be above 0 and go from mild"),
        (condition_tip, {"depths": 1e-9}, "depths must be two numbers"),
        (condition_tip, {"depths": ("a", "b")}, "depths must be two numbers"),
        (condition_tip, {"method": "pulse", "pulses": (4.0, 2.8)}, "pulses must be of one sign"),
        (condition_tip, {"method": "pulse", "pulses": (-2.8, 4.0)}, "pulses must be of one sign"),
        (condition_tip, {"pulses": None}, "pulses must be two numbers"),
        (condition_tip, {"pulse_width": "long"}, "pulse_width must be above 0"),
        (condition_tip, {"attempts": 10**6}, "attempts is 1000000; give at most 1000"),
        (condition_tip, {"attempts": 2.5}, "attempts must be a whole number"),
        (condition_tip, {"method": 5}, "method must be text"),
        (condition_tip, {"keep_away": 5}, "keep_away must be a list of pairs"),
        (condition_tip, {"keep_away": [5]}, "a place of keep_away must be two numbers"),
        (condition_tip, {"keep_away": "ab"}, "keep_away must be a list of pairs"),
        (condition_tip, {"distance": 1e-13}, "distance must lie in"),
        (condition_tip, {"distance": None}, "distance must lie in"),
        (condition_tip, {"area": 1e-12}, "area must lie in 1.5e-08 to 1e-06 m"),
        (condition_tip, {"area": 9e-7, "center": (4e-7, 0.0)}, "the frame's corner at x"),
        (condition_tip, {"onset": "x"}, "onset must lie in"),
        (condition_tip, {"width": 1e-12}, "width must lie in"),
        (condition_tip, {"keep_away": [[0.0]]}, "a place of keep_away must be two numbers"),
        (condition_tip, {"distance": 0.0}, "distance must lie in 1e-09 to 1e-06 m"),
    ],
)
def test_bad_arguments(
    gold: Bench, engine: RunEngine, plan: Any, arguments: dict[str, Any], message: str
) -> None:
    gold.server.commands.clear()
    with pytest.raises(ValueError, match=re.escape(message)):
        engine(plan(gold.stm, **arguments))
    assert gold.server.writes == []


@pytest.mark.parametrize("plan", [check_tip, condition_tip])
def test_signature_fits_the_queue_server(plan: Callable[..., Any]) -> None:
    parameters = inspect.signature(plan).parameters
    assert next(iter(parameters)) == "stm"
    text = inspect.getdoc(plan) or ""
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert not isinstance(parameter.annotation, str), name
        assert re.search(rf"^{name} : .+\n +\S", text, re.M), name
        if name != "stm":
            assert ast.literal_eval(repr(parameter.default)) == parameter.default, name
    assert inspect.isgeneratorfunction(plan)


def test_the_ladder_goes_from_mild_to_strong() -> None:
    steps = ladder("both", (0.9e-9, 1.5e-9), (2.8, 4.0))
    assert [bool(step.depth) for step in steps] == [True, False] * 4
    assert [step.depth for step in steps[::2]] == pytest.approx([0.9e-9, 1.1e-9, 1.3e-9, 1.5e-9])
    assert [step.bias for step in steps[1::2]] == pytest.approx([2.8, 3.2, 3.6, 4.0])


def test_which_verdicts_are_alike() -> None:
    numbers = {
        "onset": -0.48,
        "onset_error": 0.003,
        "onset_width": 0.01,
        "height": 0.9,
        "height_error": 0.05,
        "roughness": 0.05,
        "noise": 0.01,
        "edge": 0.4e-9,
        "second": 0.0,
        "echo": math.nan,
    }
    one = TipVerdict(False, ("",), **numbers, adsorbates=0, spectra=5, label="", novelty=math.nan)
    assert alike(one, replace(one, onset=-0.485, edge=0.43e-9, echo=0.1))
    for change in ({"edge": 0.5e-9}, {"noise": 0.02}, {"onset": -0.44}, {"roughness": 0.3}):
        assert not alike(one, replace(one, **change))


def test_which_echo_is_the_surfaces() -> None:
    numbers = dict.fromkeys(
        ("onset", "onset_error", "onset_width", "height", "height_error", "roughness"), 0.01
    )
    double = TipVerdict(
        False,
        ("the tip is double: adsorbates appear again 2.0 nm away (echo 0.40)",),
        **numbers,
        noise=0.01,
        edge=0.2e-9,
        second=0.0,
        echo=0.4,
        adsorbates=2,
        spectra=5,
        label="",
        novelty=math.nan,
        echo_dx=2e-9,
        echo_dy=0.1e-9,
    )
    criteria, noisy = TipCriteria(), replace(double, noise=0.2)
    assert same_echo(double, [noisy], criteria)
    assert same_echo(double, [replace(noisy, echo_dx=-2e-9, echo_dy=-0.1e-9)], criteria)
    assert not same_echo(double, [], criteria)
    assert not same_echo(double, [double], criteria), "the same tip"
    assert not same_echo(double, [replace(noisy, echo_dx=1.5e-9)], criteria), "elsewhere"
    assert not same_echo(double, [replace(noisy, echo=0.1)], criteria), "not there"
    assert not same_echo(replace(double, reasons=("a", "b")), [noisy], criteria)
    assert not same_echo(replace(double, second=0.2), [replace(noisy, second=0.2)], criteria)


@pytest.mark.parametrize("place", [(-6e-9, -6e-9), (6e-9, 0.0)])
def test_a_heap_that_is_wide_is_one_heap(place: tuple[float, float]) -> None:
    """Herringbone and noise give its top two maxima; two ends of a tip are farther apart."""
    line = ((np.arange(96) + 0.5) / 96 - 0.5) * 10e-9
    x, y = (part.ravel() for part in np.meshgrid(place[0] + line, place[1] - line))
    noise = 2e-12 * np.random.default_rng(0).standard_normal((96, 96))
    pixel = (10e-9 / 96, 10e-9 / 96)

    def image(tip: Tip) -> Any:
        sample = open_sample("au111", 0).under(tip).marked(*place, 90e-12, 0.8e-9)
        return sample.junction.topography(x, y, 1.0, 30e-12).reshape(96, 96) + noise

    assert echo(image(sharp()), pixel).strength > 0.15
    assert echo(image(sharp()), pixel, 0.8e-9).strength < 0.05
    double = image(Tip(apexes=((0.0, 0.0, 1.0), (1.8e-9, 0.5e-9, 0.7))))
    assert echo(double, pixel, 0.8e-9).strength > 0.15
    with pytest.raises(ValueError, match="nearest is 5e-09 m"):
        echo(double, pixel, 5e-9)
