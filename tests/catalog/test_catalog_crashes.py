"""Whatever dies, every event is in the catalog, and none twice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from catalog_runs import gp_sts, kill, spectrum, wait_for

from bluesky_gpsts.catalog import Catalog, CatalogError, Journal, open_catalog, spectra, sync
from bluesky_gpsts.catalog.journal import iter_records
from bluesky_gpsts.catalog.layout import Layout, read_json
from bluesky_gpsts.catalog.runs import BROKEN_OFF

SESSION = """
import sys, time
sys.path.insert(0, sys.argv[2])
from bluesky import RunEngine
from bluesky_gpsts.catalog import open_catalog
from catalog_runs import gp_sts

def before_point(index):
    print(index, flush=True)
    if index == 4:
        time.sleep(600)

catalog = open_catalog(sys.argv[1])
RE = RunEngine(context_managers=[])
RE.subscribe(catalog.journal)
RE.subscribe(lambda name, doc: print(doc["uid"], flush=True), "start")
RE(gp_sts(9, before_point))
"""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Catalog whose processes get killed; it has to recover each time."""
    with open_catalog(tmp_path_factory.mktemp("fragile")) as opened:
        yield opened


def assert_each_once(run: Any, points: int) -> None:
    """Every event of both streams is there once, with its own data."""
    for stream in ("primary", "decisions"):
        numbers = run.base[stream].base["internal"].read()["seq_num"]
        assert list(numbers) == list(range(1, points + 1)), stream
    rows = run.base["primary"].base["stm_current"].read()
    np.testing.assert_array_equal(rows, [spectrum(index) for index in range(points)])
    found = spectra(run)
    np.testing.assert_array_equal(found.current, rows)


def journaled_run(journal: Journal, points: int) -> str:
    """Take a run that only goes to a journal."""
    engine = RunEngine(context_managers=[])
    engine.subscribe(journal)
    (uid,) = engine(gp_sts(points))
    return str(uid)


def run_with_accident(catalog: Catalog, accident: Any) -> Any:
    """Take eight spectra; the accident happens when four of them are readable."""
    uids: list[str] = []

    def readable() -> int:
        try:
            return spectra(catalog[uids[0]]).sizes["point"]
        except KeyError:
            return 0

    def before_point(index: int) -> None:
        if index == 4:
            wait_for(lambda: readable() == 4, "four spectra in the catalog")
            accident()

    engine = RunEngine(context_managers=[])
    engine.subscribe(catalog.journal)
    engine.subscribe(lambda name, doc: uids.append(doc["uid"]), "start")
    engine(gp_sts(8, before_point))
    catalog.wait_delivered(uids[0], 250.0)
    return catalog[uids[0]]


def server_pid(catalog: Catalog) -> int:
    """Process id of the Tiled server."""
    return int(read_json(Layout(catalog.path).server_file)["pid"])


def test_killed_server(fragile: Catalog) -> None:
    address, pid = fragile.uri, server_pid(fragile)
    client = fragile.client
    run = run_with_accident(fragile, lambda: kill(pid))
    assert_each_once(run, 8)
    assert server_pid(fragile) != pid
    assert fragile.uri == address, "clients that are open must go on working"
    assert client[run.metadata["start"]["uid"]].metadata["stop"]["exit_status"] == "success"
    assert len(fragile.runs()) == 1


def test_killed_server_while_nothing_is_measured(fragile: Catalog) -> None:
    pid = server_pid(fragile)
    kill(pid)
    wait_for(lambda: fragile.uri is None, "the end of the server")
    assert fragile.runs()
    assert server_pid(fragile) != pid


def test_a_second_session_comes_and_goes(fragile: Catalog) -> None:
    pid = server_pid(fragile)
    with open_catalog(fragile.path) as second:
        uid = journaled_run(second.journal, 1)
        second.wait_delivered(uid, 120.0)
        assert second.uri == fragile.uri
    assert server_pid(fragile) == pid and fragile.uri is not None
    assert_each_once(fragile[uid], 1)


def test_killed_deliverer(fragile: Catalog) -> None:
    before = fragile._process
    assert before is not None
    run = run_with_accident(fragile, lambda: kill(before.pid))
    assert fragile._process is not before
    assert_each_once(run, 8)


def test_killed_session(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SESSION, str(tmp_path / "c"), str(Path(__file__).parent)]
    session = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert session.stdout is not None
    uid = session.stdout.readline().strip()
    assert [session.stdout.readline().strip() for _ in range(5)] == list("01234")
    kill(session.pid)
    session.wait()
    session.stdout.close()
    layout = Layout(tmp_path / "c")
    # The deliverer outlives the session for a moment and leaves nothing behind.
    wait_for((layout.delivered / f"{uid}.journal").exists, "the delivery of what was measured")
    with open_catalog(tmp_path / "c") as catalog:
        run = catalog[uid]
        assert_each_once(run, 4)
        assert run.metadata["stop"]["exit_status"] == "fail"
        assert run.metadata["stop"]["reason"] == BROKEN_OFF
        assert len(catalog.runs()) == 1


def test_sync_puts_every_journal_into_the_catalog_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    journal = Journal(layout.journals)
    whole, torn, damaged = (journaled_run(journal, points) for points in (3, 4, 5))
    path = layout.journals / f"{torn}.journal"
    spectra_of_torn = [record for record in iter_records(path) if record.end - record.offset > 9600]
    path.write_bytes(path.read_bytes()[: spectra_of_torn[-1].end - 100])
    path = layout.journals / f"{damaged}.journal"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (layout.journals / "empty.journal").write_bytes(b"GPS")
    live = Journal(layout.journals)
    live("start", {"uid": "live", "time": 1.0})

    outcomes = {outcome.uid: outcome for outcome in sync(tmp_path)}
    actions = {uid: outcome.action for uid, outcome in outcomes.items()}
    assert actions == {
        whole: "written",
        torn: "written",
        damaged: "damaged",
        "empty": "damaged",
        "live": "live",
    }
    assert outcomes[torn].detail == BROKEN_OFF
    assert "damaged at byte" in outcomes[damaged].detail
    live.close()
    # As if the machine had gone down between the last write and the mark.
    os.replace(layout.delivered / f"{whole}.journal", layout.journals / f"{whole}.journal")

    with open_catalog(tmp_path) as catalog:
        for uid in (whole, "live"):
            catalog.wait_delivered(uid, 120.0)
        log, line = layout.logs / "deliver.log", f"run {whole}: present"
        wait_for(lambda: line in log.read_text(), "the report of a run that was there already")
        assert_each_once(catalog[whole], 3)
        assert len(catalog.runs()) == 4
        # The last spectrum was torn off.
        assert catalog[torn].metadata["stop"]["exit_status"] == "fail"
        assert_each_once(catalog[torn], 3)
        assert catalog[damaged].metadata["stop"]["reason"].startswith("the journal is damaged")
        assert 1 <= spectra(catalog[damaged]).sizes["point"] < 5
        with pytest.raises(CatalogError, match="is damaged; what could be read"):
            catalog.wait_delivered(damaged, 1.0)


@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_directory_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("I am a file")
    with pytest.raises(CatalogError, match="cannot be written .* name a writable one"):
        open_catalog(blocker / below)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["", "missing", "missing/too"])
def test_where_no_catalog_is_none_is_made_unless_asked(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a folder without a catalog, nor in one that is missing, nor by default."""
    where = tmp_path / name
    for ask in (lambda: open_catalog(where, create=False), lambda: sync(where)):
        with pytest.raises(CatalogError, match="There is no catalog in .*; give the directory"):
            ask()
    monkeypatch.setenv("BLUESKY_GPSTS_CATALOG", str(where))
    with pytest.raises(CatalogError, match="There is no catalog in"):
        open_catalog(create=False)
    assert not list(tmp_path.iterdir())


def test_a_catalog_that_the_server_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(CatalogError, match=r"code 1: Tiled cannot open it .*server\.log"):
        open_catalog(tmp_path)
