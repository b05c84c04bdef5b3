"""Drift checks between spectra, judged by where the simulated sample really is."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

import bluesky_gpsts.plans.drift as drift_module
from bluesky_gpsts.analysis import optimizer_of, read_record, write_report
from bluesky_gpsts.catalog import open_catalog
from bluesky_gpsts.physics import Drift
from bluesky_gpsts.plans import DriftChecks, gp_sts
from bluesky_gpsts.plans.whereabouts import Whereabouts
from bluesky_gpsts.simulator import creeping
from bluesky_gpsts.surrogate import Grid, MapOptimizer

VELOCITY = np.array([4e-12, -3e-12, 1e-12])
CHECKS = {"every": 2, "line_time": 0.05}
"""Images of 64 lines, 6.4 s each; the sample moves by 32 pm meanwhile."""


def placed(documents: Any, bench: Any) -> np.ndarray:
    """How far (m) each spectrum is from where it was meant, in the frame of the reference."""
    tip = bench.controller.tip
    begin = documents.columns("drift")["seconds"][0] if documents.events("drift") else 0.0
    gone = []
    for event in documents.events("primary"):
        data = event["data"]
        meant = np.array([data["stm_tip_x"], data["stm_tip_y"]])
        piezo = np.array([data["stm_tip_piezo_x"], data["stm_tip_piezo_y"]])
        now = event["seconds"] if "seconds" in event else moments[event["uid"]]
        moved = tip.drift.offset(now)[0][:2] - tip.drift.offset(begin)[0][:2]
        followed = np.array(followed_at[event["uid"]])
        gone.append(np.hypot(*(piezo + followed - moved - meant)))
    return np.array(gone)


moments: dict[str, float] = {}
followed_at: dict[str, tuple[float, float]] = {}


@pytest.fixture
def drifting(bench: Any, engine: RunEngine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sample that drifts under a piezo that does not creep; notes the time of every event."""
    monkeypatch.setattr(creeping, "creep", lambda elapsed, jump: 0.0 * elapsed * jump)
    tip = bench.controller.tip
    tip.drift = Drift(velocity=tuple(VELOCITY.tolist()))

    def note(name: str, document: dict[str, Any]) -> None:
        if name == "event":
            now = bench.clock.now()
            moments[document["uid"]] = now
            followed_at[document["uid"]] = tuple(tip.compensated(np.array([now]))[0][:2])

    engine.subscribe(note)
    return bench


@pytest.fixture
def slow(small: dict[str, Any]) -> dict[str, Any]:
    """Spectra that take ten seconds."""
    return {**small, "n_spectra": 8, "settle": 10.0}


def test_spectra_land_where_they_were_meant(
    engine: RunEngine, documents: Any, drifting: Any, slow: dict[str, Any]
) -> None:
    original = drifting.state()
    engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    checked = placed(documents, drifting)
    columns = documents.columns("drift")
    assert columns["action"][0] == "reference image"
    assert set(columns["action"][1:]) == {"offset measured"}
    # The first comes early, then one after every two spectra, or sooner if need be.
    assert columns["primary_seq_num"][:2] == [0.0, 1.0]
    assert max(np.diff(columns["primary_seq_num"])) == 2.0
    seconds = np.array(columns["seconds"])
    true = np.outer(seconds - seconds[0], VELOCITY)
    found = np.array([columns[f"offset_{axis}"] for axis in "xyz"]).T
    np.testing.assert_allclose(found, true, atol=15e-12)
    assert columns["image"][0].shape == (64, 64)
    assert drifting.state() == original
    assert drifting.stm.tip.offset_x.get() == drifting.stm.tip.offset_y.get() == 0.0
    documents.all.clear()
    engine(gp_sts(drifting.stm, **slow))
    assert documents.events("drift") == []
    begin = documents.events("primary")[0]
    offset = drifting.controller.tip.drift.offset(moments[begin["uid"]])[0][:2]
    unchecked = [
        np.hypot(*(drifting.controller.tip.drift.offset(moments[e["uid"]])[0][:2] - offset))
        for e in documents.events("primary")
    ]
    # Half of the first spectra are taken before anything is known of the drift.
    assert np.median(checked[3:]) < 40e-12 < 150e-12 < np.median(unchecked[3:])


def test_the_controller_follows(
    engine: RunEngine, documents: Any, drifting: Any, slow: dict[str, Any]
) -> None:
    engine(gp_sts(drifting.stm, **slow, drift={**CHECKS, "compensate": True}))
    columns = documents.columns("drift")
    assert columns["action"][-1] == "offset measured; compensated"
    last = [columns[f"compensated_{axis}"][-1] for axis in "xyz"]
    np.testing.assert_allclose(last, VELOCITY, atol=2e-12)
    assert np.median(placed(documents, drifting)[3:]) < 40e-12
    assert drifting.client.call("Piezo.DriftCompGet")[0] == 0, "as it was before the run"


def test_a_controller_that_follows_the_wrong_way_is_told_to_stop(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tip = drifting.controller.tip
    follow = tip.compensate

    def wrong_way(t: float, velocity: tuple[float, float, float]) -> None:
        vx, vy, vz = velocity
        follow(t, (-vx, -vy, -vz))

    monkeypatch.setattr(tip, "compensate", wrong_way)
    arguments = {**slow, "n_spectra": 16, "settle": 20.0}
    engine(gp_sts(drifting.stm, **arguments, drift={**CHECKS, "compensate": True}))
    columns = documents.columns("drift")
    assert any("compensation off, as the residual did not shrink" in a for a in columns["action"])
    assert columns["compensated_x"][-1] == 0.0
    assert np.median(placed(documents, drifting)[-4:]) < 90e-12


def test_a_patch_of_a_larger_image(
    engine: RunEngine, documents: Any, drifting: Any, slow: dict[str, Any]
) -> None:
    checks = {**CHECKS, "size": 6e-9, "pixels": 96, "feature": True}
    engine(gp_sts(drifting.stm, **slow, drift=checks))
    columns = documents.columns("drift")
    assert columns["image"][0].shape == (96, 96)
    seconds = np.array(columns["seconds"])
    found = np.array([columns[f"offset_{axis}"] for axis in "xy"]).T
    true = np.outer(seconds - seconds[0], VELOCITY[:2])
    np.testing.assert_allclose(found, true, atol=30e-12)


class Blind:
    """The registration, which fails for as many images as it is told to."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.original = drift_module.register

    def __call__(self, reference: Any, image: Any, **options: Any) -> Any:
        shift = self.original(reference, image, **options)
        if self.failures > 0:
            self.failures -= 1
            return replace(shift, ok=False, confidence=0.1, reason="fog")
        return shift


def test_a_check_that_fails_is_repeated_and_then_made_larger(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift_module, "register", Blind(2))
    engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    columns = documents.columns("drift")
    assert columns["action"][1:4] == ["image again", "larger image", "offset measured"]
    assert columns["ok"][1:4] == [0, 0, 1]
    assert columns["reason"][1:4] == ["fog", "fog", ""]
    larger = documents.columns("drift_larger")
    assert larger["action"] == ["offset measured"]
    assert larger["image"][0].shape == (128, 128)
    assert documents.of("stop")[0]["exit_status"] == "success"
    assert np.median(placed(documents, drifting)[3:]) < 40e-12


def stop_image(bench: Any, when: Callable[..., None], number: int, seconds: float = 3.0) -> None:
    """Let an operator stop an image after some lines, counted from now."""
    bench.hold_image(number)

    def stop() -> None:
        bench.clock.advance(seconds)
        bench.client.call("Scan.Action", 1, 0)

    wanted = bench.controller.images + number
    when(
        lambda: bench.controller.images == wanted and bench.controller.scanning(bench.clock.now()),
        stop,
    )


@pytest.mark.parametrize("seconds", [3.0, 0.9])
def test_an_image_that_an_operator_stops_is_taken_again(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    when: Callable[..., None],
    seconds: float,
) -> None:
    stop_image(drifting, when, 2, seconds)
    engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    columns = documents.columns("drift")
    assert columns["action"][1:3] == ["image again", "offset measured"]
    assert re.fullmatch(
        r"the image has \d+ of 64 lines: it was stopped at the controller", columns["reason"][1]
    )
    assert documents.of("stop")[0]["exit_status"] == "success"


def test_without_a_whole_reference_image_no_run_begins(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    when: Callable[..., None],
) -> None:
    stop_image(drifting, when, 1)
    with pytest.raises(RuntimeError, match="stopped at the controller; every drift check needs it"):
        engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    assert documents.events("primary") == []


def test_a_check_that_cannot_be_made_pauses_the_run(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blind = Blind(10**6)
    monkeypatch.setattr(drift_module, "register", blind)
    caplog.set_level(logging.WARNING)
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    assert engine.state == "paused"
    assert "The drift cannot be told: in a larger image, too: fog" in caplog.text
    assert len(documents.events("primary")) == 1
    blind.failures = 0
    engine.resume()
    assert documents.of("stop")[0]["exit_status"] == "success"
    assert len(documents.events("primary")) == 8
    assert [e["seq_num"] for e in documents.events("drift")] == list(
        range(1, 1 + len(documents.events("drift")))
    )


def test_an_image_unlike_the_first_one_asks_for_a_look_at_the_tip(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A spectrum is repeated long before its time; that it is as before is said, too."""
    original, images = drift_module.register, []

    def unlike(reference: Any, image: Any, **options: Any) -> Any:
        images.append(image)
        shift = original(reference, image, **options)
        return replace(shift, correlation=0.3) if len(images) in (3, 4) else shift

    monkeypatch.setattr(drift_module, "register", unlike)
    caplog.set_level(logging.WARNING)
    engine(
        gp_sts(drifting.stm, **{**slow, "n_points": 128}, drift=CHECKS, tip_checks={"every": 90})
    )
    columns = documents.columns("reference")
    assert columns["cause"][0] == "an image is unlike the first one"
    assert "another end of the tip may image now" in caplog.text
    assert documents.columns("drift")["reason"][3].startswith("the images agree to 0.30")


class Jumps(Drift):
    """A drift with a jump (m) at a time (s)."""

    jump = np.array([0.9e-9, 0.4e-9, 0.0])
    at = np.inf

    def offset(self, t: Any) -> np.ndarray:
        when = np.atleast_1d(np.asarray(t, float))
        return super().offset(t) + np.where(when[:, None] > self.at, self.jump, 0.0)


def jump_after(engine: RunEngine, bench: Any, number: int) -> None:
    """Let the sample jump after a spectrum."""
    path = Jumps(velocity=tuple(VELOCITY.tolist()))
    bench.controller.tip.drift = path

    def jump(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["data"].get("decision_id") == number:
            object.__setattr__(path, "at", bench.clock.now())

    engine.subscribe(jump)


def test_a_jump_is_found_and_told(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    jump_after(engine, drifting, 5)
    caplog.set_level(logging.CRITICAL)
    engine(gp_sts(drifting.stm, **{**slow, "n_spectra": 12}, drift=CHECKS))
    columns = documents.columns("drift")
    told = [action for action in columns["action"] if "a jump, or a turn" in action]
    assert len(told) == 1
    gone = float(re.match(r"([\d.]+) nm from where it was expected", told[0])[1])  # type: ignore
    assert gone == pytest.approx(0.985, abs=0.15)
    # The spectra since the check before were taken back, and as many others taken.
    flags = documents.columns("flags")
    when = columns["primary_seq_num"][columns["action"].index(told[0])]
    before = max(n for n in columns["primary_seq_num"] if n < when)
    assert flags["primary_seq_num"] == list(np.arange(before + 1.0, when + 1.0))
    assert set(flags["after"]) == {when}
    assert len(documents.events("primary")) == 12 + len(flags["after"])
    assert documents.columns("map")["n_data"] == [12.0]
    assert np.median(placed(documents, drifting)[-4:]) < 70e-12


def test_hard_pause_in_the_middle_of_a_check(
    engine: RunEngine,
    documents: Any,
    drifting: Any,
    slow: dict[str, Any],
    when: Callable[..., None],
) -> None:
    number = drifting.controller.images + 3
    drifting.clock.hold = lambda: (
        drifting.controller.images == number and not drifting.controller.scan_cancelled.is_set()
    )
    when(
        lambda: (
            drifting.controller.images == number
            and drifting.controller.scanning(drifting.clock.now())
        ),
        engine.request_pause,
    )
    with pytest.raises(RunEngineInterrupted):
        engine(gp_sts(drifting.stm, **slow, drift=CHECKS))
    assert drifting.client.call("Scan.StatusGet") == (0,), "the image was stopped"
    engine.resume()
    assert [e["seq_num"] for e in documents.events("primary")] == list(range(1, 9))
    assert np.median(placed(documents, drifting)[3:]) < 40e-12


def test_a_run_that_took_spectra_back_is_rebuilt_from_the_catalog(
    engine: RunEngine, drifting: Any, slow: dict[str, Any], tmp_path: Path
) -> None:
    jump_after(engine, drifting, 5)
    frame = drifting.stm.scan.frame()
    grid = Grid(frame.x, frame.y, frame.width, frame.height, frame.angle, 16, 16)
    optimizer = MapOptimizer(grid, n_initial=3, max_points=12, train_at=(4, 7))
    with open_catalog(tmp_path / "catalog") as catalog:
        engine.subscribe(catalog.journal)
        plan = gp_sts(drifting.stm, **{**slow, "n_spectra": 12}, drift=CHECKS, optimizer=optimizer)
        uid = engine(plan).run_start_uids[0]
        catalog.wait_delivered(uid, 60.0)
        record = read_record(catalog, uid)
        assert record.n_spectra > 12 and record.history.valid.sum() == 12
        assert record.remarks[0].startswith("Taken back by the run itself, and not in the map: ")
        again = optimizer_of(catalog, uid)
        np.testing.assert_allclose(again.mean_map(), optimizer.mean_map(), rtol=1e-9, atol=1e-20)
        np.testing.assert_allclose(
            record.final_maps[0], optimizer.mean_map(), rtol=1e-6, atol=1e-18
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "drift: every must be a whole number of 1 or above, not 0"),
        ({"pixels": 100}, "drift: pixels must be a multiple of 16, not 100"),
        ({"pixels": 16}, "drift: pixels must be a whole number of 32 or above"),
        ({"limit": 0.0}, "drift: limit must be above 0, in pixels"),
        ({"line_time": -1.0}, "drift: line_time must be above 0, in s"),
        ({"method": "eye"}, "choose 'phase' or 'block-matching'"),
        ({"compensate": 1}, "drift: compensate must be True or False, not 1"),
        ({"size": 1e-15}, "drift: size is 1e-15 m; give 0 or at least 5e-10 m"),
        ({"size": 1.0}, "the frame's corner at x = -5e+08 nm is refused"),
        ({"pixels": 2**20}, "drift: pixels is 1048576; give at most 1024"),
        ({"line_time": 1e-9}, "a line time of 1e-09 s is refused"),
        ({"size": -1e-9}, "drift: size must be 0 or above, in m"),
        ({"feature": "atom"}, "drift: feature must be True or False, not 'atom'"),
        ({"retries": -1}, "drift: retries must be a whole number of 0 or above"),
        ({"often": 3}, "drift must be a dict with some of every, limit, pixels"),
        ("often", "drift must be a dict with some of every, limit, pixels"),
    ],
)
def test_bad_checks(
    engine: RunEngine, documents: Any, bench: Any, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        engine(gp_sts(bench.stm, drift=given))
    assert documents.all == [] and bench.server.writes == []


def test_the_start_document_says_how_drift_is_checked(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **small, drift={"every": 3, "line_time": 0.05}))
    told = documents.of("start")[0]["plan_args"]["drift"]
    assert DriftChecks(**told) == DriftChecks(every=3, line_time=0.05)


# ---------------------------------------------------------------- the bookkeeping


def test_compensation_is_not_taken_for_less_drift() -> None:
    """Whatever the controller adds, the drift that is learnt stays the drift."""
    sigma = np.full(3, 1e-12)
    where = Whereabouts.at(0.0)
    followed = np.zeros(3)
    for t in (100.0, 200.0, 300.0, 400.0):
        where, told = where.measured(t, VELOCITY * t - followed, sigma)
        assert told == "offset measured"
        wanted = where.wanted(t)
        where = where.compensated(t, wanted, VELOCITY * t - followed)
        followed = followed + wanted * 100.0
    np.testing.assert_allclose(where.drift_velocity(400.0), VELOCITY, rtol=0.05)
    expected = VELOCITY * 450.0 - (followed - 0.5 * wanted * 100.0)
    np.testing.assert_allclose(where.offset(450.0), expected, atol=5e-12)
    assert not where.useless(500.0, VELOCITY * 500.0 - followed, sigma)


# ---------------------------------------------------------------- afterwards


def test_the_report_shows_the_drift(
    engine: RunEngine, drifting: Any, slow: dict[str, Any], tmp_path: Path
) -> None:
    with open_catalog(tmp_path / "catalog") as catalog:
        engine.subscribe(catalog.journal)
        uid = engine(gp_sts(drifting.stm, **slow, drift=CHECKS)).run_start_uids[0]
        catalog.wait_delivered(uid, 60.0)
        record = read_record(catalog, uid)
        np.testing.assert_array_equal(record.drift["ok"], 1)
        assert record.drift_images["image"].shape == (len(record.drift["ok"]), 64, 64)
        page = write_report(catalog, uid, tmp_path / "report")
        assert "How far the sample drifted" in page.read_text(encoding="utf-8")
        assert (tmp_path / "report" / "drift.png").stat().st_size > 10_000
