"""Reports of runs in which the tip was looked at, from a session's own catalog."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts import startup
from bluesky_gpsts.analysis import AnalysisError, write_report
from bluesky_gpsts.analysis.record import read_record
from bluesky_gpsts.analysis.tip_figures import reference_figure
from bluesky_gpsts.benchmarks.tip import ALLOWED
from bluesky_gpsts.physics import Tip
from bluesky_gpsts.plans import check_tip, condition_tip, gp_sts, survey
from bluesky_gpsts.simulator import Simulator

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def microscope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Any]]:
    folder = tmp_path_factory.mktemp("catalog")
    with (
        Simulator("au111", seed=0, time_scale=0.0) as simulator,
        startup.start(
            host="127.0.0.1", ports=simulator.ports, catalog=folder, limits=ALLOWED
        ) as session,
    ):
        yield simulator, session


def test_report_shows_repeated_spectra_and_what_was_taken_back(
    microscope: tuple[Simulator, Any], tmp_path: Path
) -> None:
    simulator, session = microscope

    def change(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["data"].get("decision_id") == 6:
            simulator.change_tip(Tip(background=((-0.2, 0.08, 1.5),)))

    token = session.RE.subscribe(change)
    (uid,) = session.RE(
        gp_sts(
            session.stm,
            n_spectra=12,
            n_points=256,
            window=(-0.5, -0.42),
            bias_range=(1.0, -1.0),
            tip_checks={"every": 4},
        )
    )
    session.RE.unsubscribe(token)
    page = write_report(session.catalog, uid, tmp_path).read_text("utf-8")
    assert "Whether the tip stayed as it was" in page
    assert (tmp_path / "tip.png").read_bytes().startswith(PNG)
    record = read_record(session.catalog, uid)
    assert list(record.references["changed"]) == [0, 1, 1, 0, 0]
    assert record.flagged == (5, 6, 7, 8)
    left, right = reference_figure(record).axes
    assert len(left.lines) == 1 + 5
    known = int(record.references["primary_seq_num"][0])
    assert left.get_title(loc="left") == f"Spectrum {known} and its repetitions"
    drawn = {tuple(line.get_xdata()): line.get_ydata() for line in right.lines[:2]}
    assert np.allclose(drawn[(8, 8)], record.references["ratio"][1:3])
    assert len(right.patches) == 4, "the spectra that were taken back"


def test_reports_of_the_plans_that_look_at_the_tip(
    microscope: tuple[Simulator, Any], tmp_path: Path
) -> None:
    simulator, session = microscope
    simulator.change_tip(Tip(blur=0.6e-9))
    (checked,) = session.RE(check_tip(session.stm))
    (treated,) = session.RE(condition_tip(session.stm, attempts=2))
    for uid, folder in ((checked, tmp_path / "one"), (treated, tmp_path / "two")):
        page = write_report(session.catalog, uid, folder).read_text("utf-8")
        for text in ("What each check found", "Verdict 1, as found", "the tip is blunt"):
            assert text in page
        for name in ("verdicts", "tip"):
            assert (folder / f"{name}.png").read_bytes().startswith(PNG)
    assert "Verdict 2, after attempt 1" in page


def test_a_survey_has_no_report(microscope: tuple[Simulator, Any], tmp_path: Path) -> None:
    _, session = microscope
    (uid,) = session.RE(survey(session.stm, pixels=16, lines=4))
    with pytest.raises(AnalysisError, match="give a run of the plan gp_sts"):
        write_report(session.catalog, uid, tmp_path)
