"""A tip that changes in the middle of a run is noticed, and what it spoilt is repeated."""

import logging
import re
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.physics import Tip
from bluesky_gpsts.plans import TipChecks, gp_sts
from bluesky_gpsts.simulator import Sample, open_sample

# A bump of its own density of states shows in every spectrum.
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
    engine(gp_sts(bench.stm, **{**small, **ARGUMENTS}, tip_checks={"every": 4}))
    columns = documents.columns("reference")
    # Seen twice after eight spectra; the new spectrum is the reference from then on.
    assert columns["after"] == [4.0, 8.0, 8.0, 12.0, 16.0]
    assert columns["changed"] == [0, 1, 1, 0, 0]
    flags = documents.columns("flags")
    assert flags["primary_seq_num"] == [5.0, 6.0, 7.0, 8.0] and set(flags["after"]) == {8.0}
    assert "the tip has changed: spectrum" in flags["reason"][0]
    assert len(documents.events("primary")) == 16
    assert documents.columns("map")["n_data"] == [12.0]


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
