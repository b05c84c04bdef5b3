"""A session that reads its survey images: the catalog, the library, and what comes after."""

import json
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_gpsts.analysis.defects import grown, library_folder, read_defects
from bluesky_gpsts.catalog import find, stream
from bluesky_gpsts.cli import main
from bluesky_gpsts.images.library import Library
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans import find_targets, survey
from bluesky_gpsts.startup import Session, start


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session with a survey that was read."""
    place = tmp_path_factory.mktemp("surface") / "catalog"
    with start(sample="hsi100", seed=1, time_scale=0.0, catalog=place, surface=True) as session:
        session.stm.scan.set(Frame(0.0, 0.0, 22e-9, 22e-9, 0.0))
        session.RE(survey(session.stm, pixels=240, lines=240, line_time=2.0))
        assert session.surface is not None and "find_targets" in session.description
        found = session.surface.wait("", 60)
        assert found.problem == ""
        for run in (found.survey, found.run):
            session.catalog.wait_delivered(run)
        session.RE(find_targets(session.stm, session.surface, count=3))
        yield session


def test_what_was_found_is_in_the_catalog(session: Session) -> None:
    (image,) = find(session.catalog, plan_name="survey")
    (run,) = find(session.catalog, plan_name="surface")
    assert run.metadata["start"]["survey"] == image.metadata["start"]["uid"]
    assert run.metadata["stop"]["exit_status"] == "success"
    table, labels = read_defects(run)
    assert len(table) == len(labels) > 10
    assert table.patches.shape[1:] == (2, 24, 32)
    atoms, units = stream(run, "atoms")
    assert atoms["x"].shape == atoms["confidence"].shape and units["x"] == "m"
    assert stream(run, "reading")[0]["readable"].tolist() == [1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        vectors = run["terraces"].read()["vectors"]
    assert vectors.shape[1:] == (2, 2) and len(set(vectors.dims)) == 3


def test_a_report_of_what_was_read_says_where_the_defects_are(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = find(session.catalog, plan_name="surface")
    uid, survey_uid = run.metadata["start"]["uid"], run.metadata["start"]["survey"]
    where = ["--catalog", str(session.catalog.path), "--folder", str(tmp_path / "report")]
    assert main(["report", uid, *where]) == 1
    assert list(tmp_path.iterdir()) == []
    error = capsys.readouterr().err
    assert f"what was read of the image of the survey {survey_uid}" in error
    assert f"Take a map on that survey, gp_sts(stm, survey='{survey_uid}')" in error


def test_the_command_that_a_missing_library_advises_makes_one(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, catalog = tmp_path / "my library", str(session.catalog.path)
    assert main(["library", "show", "--folder", str(folder)]) == 1
    advised = capsys.readouterr().err.split("gpsts library grow")[1].replace("CATALOG", catalog)
    assert main(["library", "grow", *shlex.split(advised)]) == 0
    assert len(Library.read(folder)) > 10


def test_the_library_grows_from_the_catalog_and_is_edited(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, runs = grown(Library.empty(), session.catalog)
    assert runs == 1 and len(library) > 10
    assert grown(library, session.catalog) == (library, 0)
    table, figure = tmp_path / "classes.json", tmp_path / "library.png"
    assert main(["library", "grow", "--catalog", str(session.catalog.path)]) == 0
    # Names that the runs have are proposed; the session's own classes are the built-in ones.
    told = capsys.readouterr().out
    assert "1 runs" in told
    assert "proposed, as the runs have filed them: " in told and "gpsts library rename" in told
    assert {"cluster 0"} == {name for name in library.names if name.startswith("cluster")}
    assert '"cluster N"' not in told
    folder = library_folder(session.catalog)
    assert "dangling_bond" in Library.read(folder).classifier().classes
    where = ["--folder", str(folder), "--json", str(table), "--figure", str(figure)]
    first = max(library.counts, key=library.counts.__getitem__)
    assert main(["library", "rename", first, "seen often", *where]) == 0
    assert "seen often" in json.loads(table.read_text())["classes"]
    assert "proposed" not in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")
    # The next session names by it.
    assert "seen often" in Library.read(folder).classifier().classes


@pytest.mark.parametrize("broken", ["json", "empty"])
def test_a_session_starts_with_a_broken_library(
    broken: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "catalog" / Library.FOLDER
    Library.empty().write(folder)
    if broken != "empty":
        (folder / "library.json").write_text("{")
    with start(
        sample="hsi100", time_scale=0.0, catalog=tmp_path / "catalog", surface=True
    ) as session:
        assert session.surface is not None
        assert "dangling_bond" in session.surface.classes
    (told,) = (r.getMessage() for r in caplog.records if r.name == "bluesky_gpsts.startup")
    assert str(folder / "library.json") in told and "built-in classes" in told
    advice = "add some before" if broken == "empty" else "gpsts library grow"
    assert advice in told and told.endswith("then start the session anew")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rename", "a"], "takes 2 names"),
        (["merge", "a"], "needs --into"),
        (["show", "--into", "a"], "--into is for 'gpsts library merge'"),
        (["rename", "a", "b"], "holds no library"),
    ],
)
def test_a_wrong_command_is_told(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["library", *arguments, "--folder", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_report_shows_the_defects_of_its_survey(session: Session, tmp_path: Path) -> None:
    from bluesky_gpsts.analysis import write_report
    from bluesky_gpsts.analysis.record import read_record
    from bluesky_gpsts.plans import gp_sts

    (image,) = find(session.catalog, plan_name="survey")
    uid = image.metadata["start"]["uid"]
    plan = gp_sts(session.stm, 3, survey=uid, n_points=64, n_initial=3, grid=(8, 8))
    session.RE(plan)
    (run,) = find(session.catalog, plan_name="gp_sts")
    record = read_record(session.catalog, run.metadata["start"]["uid"])
    assert len(record.defects["label"]) > 10
    page = write_report(session.catalog, run.metadata["start"]["uid"], tmp_path / "report")
    assert page.exists()
