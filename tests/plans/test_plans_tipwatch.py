"""A tip that changes in the middle of a run is noticed, and what it spoilt is repeated."""

import logging
import math
import re
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.physics import Tip
from bluesky_gpsts.plans import TipChecks, gp_sts, tipwatch
from bluesky_gpsts.plans.tipwatch import TipWatch
from bluesky_gpsts.simulator import Sample, open_sample
from bluesky_gpsts.spectra.reference import SpectrumChange

# A bump of its own density of states shows in every spectrum.
CONTAMINATED = Tip(background=((0.1, 0.07, 3.0),))
STAINED = Tip(background=((-0.2, 0.08, 1.5),))
ARGUMENTS = {"n_spectra": 12, "n_points": 128, "window": (-0.4, 0.0), "bias_range": (0.5, -0.9)}


@pytest.fixture(scope="module")
def au111() -> Sample:
    return open_sample("au111", 0)


def change_after(engine: RunEngine, bench: Any, number: int, tip: Tip) -> None:
    """Let the tip be another one after a spectrum."""

    def change(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["data"].get("decision_id") == number:
            bench.simulator.change_tip(tip)

    engine.subscribe(change)


def test_a_tip_that_stays_as_it_is(
    engine: RunEngine, documents: Any, make_bench: Any, au111: Sample, small: dict[str, Any]
) -> None:
    bench = make_bench(sample=au111)
    engine(gp_sts(bench.stm, **{**small, **ARGUMENTS}, tip_checks={"every": 4}))
    columns = documents.columns("reference")
    assert columns["after"] == [4.0, 8.0, 12.0]
    assert set(columns["changed"]) == {0} and len(set(columns["primary_seq_num"])) == 1
    assert documents.events("flags") == [] and len(documents.events("primary")) == 12


def test_a_change_is_noticed_and_what_it_spoilt_repeated(
    engine: RunEngine,
    documents: Any,
    make_bench: Any,
    au111: Sample,
    small: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    bench = make_bench(sample=au111)
    change_after(engine, bench, 6, STAINED)
    arguments = {**small, **ARGUMENTS, "integration": 30e-3}
    engine(gp_sts(bench.stm, **arguments, tip_checks={"every": 4}))
    columns = documents.columns("reference")
    # Seen twice after eight spectra; the new spectrum is the reference from then on.
    assert columns["after"] == [4.0, 8.0, 8.0, 12.0, 16.0]
    assert columns["changed"] == [0, 1, 1, 0, 0]
    flags = documents.columns("flags")
    assert flags["primary_seq_num"] == [5.0, 6.0, 7.0, 8.0] and set(flags["after"]) == {8.0}
    assert "the tip has changed: spectrum" in flags["reason"][0]
    assert len(documents.events("primary")) == 16
    assert documents.columns("map")["n_data"] == [12.0]


def test_spectra_that_the_classifier_does_not_know_ask_at_once(
    engine: RunEngine,
    documents: Any,
    make_bench: Any,
    au111: Sample,
    small: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A repetition would be due after forty spectra only."""
    caplog.set_level(logging.CRITICAL)
    bench = make_bench(sample=au111)
    arguments = {**small, **ARGUMENTS, "n_points": 256, "bias_range": (1.0, -1.0)}
    arguments |= {"settle": 0.5, "settling": 4e-3, "integration": 20e-3}
    change_after(engine, bench, 4, CONTAMINATED)
    engine(gp_sts(bench.stm, **arguments, classifier="default", tip_checks={"every": 40}))
    columns = documents.columns("reference")
    assert columns["cause"][0] == "the classifier does not know the spectra"
    assert 7 <= columns["after"][0] <= 9 and columns["changed"][:2] == [1, 1]
    flagged = documents.columns("flags")["primary_seq_num"]
    assert {5.0, 6.0, 7.0} <= set(flagged)
    # The new tip stays strange, and that it has not changed again is not asked for ever.
    assert columns["cause"].count("the classifier does not know the spectra") <= 5


def test_how_many_strange_spectra_ask(bench: Any) -> None:
    watch = TipWatch(bench.stm, TipChecks())
    watch.named(1, 0.9)
    watch.named(2, 0.9)
    watch.named(3, math.nan)
    assert not watch.strange
    watch.named(4, 0.9)
    assert watch.strange
    watch.named(5, 0.4)
    assert not watch.strange


class Told:
    """A comparison of spectra whose outcomes the test tells; notes how many it was given."""

    def __init__(self, *probabilities: float) -> None:
        self.probabilities, self.counts = list(probabilities), list[int]()

    def __call__(self, reference: Any, spectrum: Any, false_alarm: float) -> SpectrumChange:
        self.counts.append(len(reference))
        probability = self.probabilities.pop(0)
        return SpectrumChange(probability < false_alarm, probability, 9.0, 1.0)


@pytest.mark.parametrize(
    ("probabilities", "counts", "flagged"),
    [
        # Sound repetitions join the reference, doubtful ones do not.
        ([0.5, 0.5, 0.5], [1, 2, 3], 0),
        ([0.5, 0.04, 0.5], [1, 2, 2], 0),
        # Seen once only, it is nothing; seen again, if less clearly, both are the new reference.
        ([0.5, 1e-4, 0.06, 0.5], [1, 2, 2, 2], 0),
        ([0.5, 1e-4, 0.04, 0.5, 0.5], [1, 2, 2, 2, 3], 4),
    ],
)
def test_what_becomes_of_a_repetition(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    probabilities: list[float],
    counts: list[int],
    flagged: int,
) -> None:
    told = Told(*probabilities)
    monkeypatch.setattr(tipwatch, "compare_spectra", told)
    arguments = {**small, "n_spectra": 12, "n_points": 96}
    engine(gp_sts(bench.stm, **arguments, tip_checks={"every": 4}))
    assert told.counts == counts and told.probabilities == []
    assert len(documents.events("flags")) == flagged


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 1}, "tip_checks: every must be a whole number of 2 or above, not 1"),
        ({"ratio": 0.0}, "tip_checks: ratio must be above 0"),
        ({"false_alarm": 1.0}, "tip_checks: false_alarm must be below 1"),
        ({"often": 3}, "tip_checks must be a dict with some of every, ratio, false_alarm"),
        (True, "tip_checks must be a dict"),
    ],
)
def test_bad_tip_checks(
    engine: RunEngine, documents: Any, bench: Any, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        engine(gp_sts(bench.stm, tip_checks=given))
    assert documents.all == [] and bench.server.writes == []


def test_too_few_points_for_a_comparison(engine: RunEngine, bench: Any) -> None:
    with pytest.raises(
        ValueError, match="n_points is 64; spectra are compared for tip_checks from 96 points on"
    ):
        engine(gp_sts(bench.stm, n_points=64, tip_checks=TipChecks()))


def test_the_reference_is_no_spectrum_of_the_map(
    engine: RunEngine, documents: Any, make_bench: Any, au111: Sample, small: dict[str, Any]
) -> None:
    bench = make_bench(sample=au111)
    engine(gp_sts(bench.stm, **{**small, **ARGUMENTS}, tip_checks={"every": 4}))
    primary, reference = documents.columns("primary"), documents.columns("reference")
    known = int(reference["primary_seq_num"][0]) - 1
    for axis in ("x", "y"):
        there = primary[f"stm_tip_{axis}"][known]
        np.testing.assert_allclose(reference[f"stm_tip_{axis}"], there, atol=1e-12)
