"""The progress bar, on a terminal and off it."""

import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from analysis_runs import Documents, Experiment, gp_sts_run, survey_run
from bluesky import RunEngine
from ophyd import Signal

from bluesky_gpsts.callbacks import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Goes on by 2 s whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


@pytest.fixture(scope="module")
def documents() -> Documents:
    return gp_sts_run(Experiment(n_spectra=12, n_points=30, pixels=(8, 8)))[0]


def test_off_a_terminal_a_line_per_tenth(documents: Documents) -> None:
    file = io.StringIO()
    progress = Progress(file, Clock())
    for name, doc in documents:
        progress(name, doc)
    lines = file.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("spectra 1/12 (8 %), 00:22 left, latest ")
    assert re.fullmatch(
        r"spectra 12/12 \(100 %\), 00:00 left, latest [\d.e+-]+ pA, std [\d.]+ pA", lines[-1]
    )


def test_on_a_terminal_a_bar_that_moves(documents: Documents) -> None:
    file = Terminal()
    progress = Progress(file)
    for name, doc in documents:
        progress(name, doc)
    text = file.getvalue()
    last = text.split("\r")[-1]
    assert text.startswith("\r") and "spectra 100%" in last and "12/12" in last
    assert "left, latest" in last and "pA, std" in last and last.endswith("\n")


def test_a_run_that_ends_early_says_how_far_it_came(documents: Documents) -> None:
    file = io.StringIO()
    progress = Progress(file, Clock())
    events = [i for i, (name, doc) in enumerate(documents) if "stm_x" in doc.get("data", {})]
    uid = documents[0][1]["uid"]
    for name, doc in [*documents[: events[4] + 1], ("stop", {"run_start": uid})]:
        progress(name, doc)
    assert file.getvalue().splitlines()[-1].startswith("spectra 5/12 (41 %)")


def test_a_spectrum_taken_again_counts_once(documents: Documents) -> None:
    file = io.StringIO()
    progress = Progress(file, Clock())
    for name, doc in documents:
        progress(name, doc)
        if name == "event":
            progress(name, doc)
    assert file.getvalue().splitlines()[-1].startswith("spectra 12/12 (100 %)")


def test_a_run_without_budget_has_no_bar() -> None:
    file = io.StringIO()
    progress = Progress(file)
    for name, doc in survey_run(Experiment(image=(4, 4))):
        progress(name, doc)
    assert file.getvalue() == ""


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("the terminal has gone")


def test_an_error_never_reaches_the_run_engine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLUESKY_DEBUG_CALLBACKS", raising=False)
    signal = Signal(name="merit", value=1e-12)

    @bpp.run_decorator(md={"budget": 2, "columns": {"figure_of_merit": "merit"}})
    def plan() -> Iterator[Any]:
        for _ in range(2):
            yield from bps.trigger_and_read([signal])

    engine = RunEngine(context_managers=[])
    engine.subscribe(Progress(Broken()))
    with caplog.at_level(logging.ERROR, logger="bluesky_gpsts.callbacks.progress"):
        engine(plan())
    assert engine.state == "idle"
    assert "the terminal has gone" in caplog.text
