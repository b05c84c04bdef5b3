"""The journal: what goes in comes out; a torn end is tolerated, damage is found."""

import errno
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from catalog_runs import gp_sts, spectrum
from filelock import Timeout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_gpsts.catalog import Journal, JournalError, read_records
from bluesky_gpsts.catalog.journal import append_record, iter_records, run_lock
from bluesky_gpsts.catalog.records import MAGIC, encode

START = {"uid": "0123-abc", "time": 1.0, "plan_name": "gp_sts"}


@pytest.fixture(scope="module")
def journaled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, Any]]]:
    """Journal of a real run, and the documents as the RunEngine emitted them."""
    journal = Journal(tmp_path_factory.mktemp("journal"))
    emitted: list[tuple[str, Any]] = []
    engine = RunEngine(context_managers=[])
    engine.subscribe(journal)
    engine.subscribe(lambda name, doc: emitted.append((name, doc)))
    (uid,) = engine(gp_sts(3))
    return journal.directory / f"{uid}.journal", emitted


def test_reads_back_what_the_run_engine_emitted(journaled: Any) -> None:
    path, emitted = journaled
    records = list(read_records(path))
    assert [name for name, _ in records] == [name for name, _ in emitted]
    for (_, found), (_, expected) in zip(records, emitted, strict=True):
        assert set(found) == set(expected)
        np.testing.assert_equal(found.get("data", {}), expected.get("data", {}))
    events = [doc for name, doc in records if name == "event" and "stm_current" in doc["data"]]
    assert events[2]["data"]["stm_current"].dtype == np.float64
    np.testing.assert_array_equal(events[2]["data"]["stm_current"], spectrum(2))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_anywhere_gives_a_clean_beginning(journaled: Any, data: st.DataObject) -> None:
    path, emitted = journaled
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    torn = path.with_name("torn.journal")
    torn.write_bytes(content[:cut])
    whole = [record.end for record in iter_records(path) if record.end <= cut]
    assert [record.end for record in iter_records(torn)] == whole


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_found_where_it_is(journaled: Any, data: st.DataObject) -> None:
    path, _ = journaled
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    flipped = path.with_name("flipped.journal")
    flipped.write_bytes(content)
    intact = [record for record in iter_records(path) if record.end <= position]
    read = []
    with pytest.raises(JournalError, match="damaged at byte") as caught:
        for record in iter_records(flipped):
            read.append(record.end)
    assert read == [record.end for record in intact]
    assert caught.value.offset == (intact[-1].end if intact else len(MAGIC) * (position >= 8))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), headed=st.booleans())
def test_any_bytes_give_records_or_our_own_error(
    tmp_path: Path, content: bytes, headed: bool
) -> None:
    path = tmp_path / "noise.journal"
    path.write_bytes(MAGIC * headed + content)
    try:
        list(read_records(path))
    except JournalError as error:
        assert str(path) in str(error)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=10,
)


@given(doc=st.dictionaries(st.text("xyz"), VALUES, max_size=5))
def test_any_document_survives(tmp_path_factory: pytest.TempPathFactory, doc: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.journal"
    path.write_bytes(MAGIC + encode("event", doc))
    assert list(read_records(path)) == [("event", doc)]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.arange(6, dtype=">i2").reshape(2, 3).T,
        np.array([True, False]),
        np.array(["a", "bcd"]),
        np.array(2.5),
        np.array([np.nan, np.inf]),
    ],
)
def test_arrays_keep_dtype_shape_and_values(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(MAGIC + encode("event", {"data": {"a": array}}))
    ((_, doc),) = read_records(path)
    found = doc["data"]["a"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


def test_numpy_scalars_become_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(MAGIC + encode("event", {"a": np.float32(0.5), "b": np.int16(3)}))
    assert list(read_records(path)) == [("event", {"a": 0.5, "b": 3})]


@pytest.mark.parametrize("value", [object(), np.array([object()]), 1 << 70])
def test_what_has_no_place_in_a_journal_is_refused(tmp_path: Path, value: Any) -> None:
    journal = Journal(tmp_path)
    journal("start", START)
    with pytest.raises(JournalError, match="event document of run 0123-abc cannot be journaled"):
        journal("event", {"run_start": START["uid"], "data": {"a": value}})
    journal("stop", {"run_start": START["uid"], "uid": "s"})
    assert [name for name, _ in read_records(tmp_path / "0123-abc.journal")] == ["start", "stop"]


def test_a_run_is_locked_until_it_stops(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal("start", START)
    path = tmp_path / "0123-abc.journal"
    with pytest.raises(Timeout):
        run_lock(path).acquire(timeout=0)
    journal("stop", {"run_start": START["uid"], "uid": "s"})
    with run_lock(path).acquire(timeout=0):
        pass
    assert journal.seconds > 0.0


def test_a_run_is_written_once_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal("start", START)
    with pytest.raises(JournalError, match="cannot be created"):
        Journal(tmp_path)("start", START)
    journal.close()
    with pytest.raises(JournalError, match="once only"):
        Journal(tmp_path)("start", START)


def test_interleaved_runs_go_to_their_own_journals(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for uid in ("a1", "b2"):
        journal("start", {"uid": uid})
        journal("descriptor", {"uid": f"d-{uid}", "run_start": uid, "name": "primary"})
    for uid in ("b2", "a1"):
        journal("event", {"uid": f"e-{uid}", "descriptor": f"d-{uid}"})
        journal("stop", {"uid": f"s-{uid}", "run_start": uid})
    for uid in ("a1", "b2"):
        docs = [doc for _, doc in read_records(tmp_path / f"{uid}.journal")]
        assert [doc["uid"] for doc in docs] == [uid, f"d-{uid}", f"e-{uid}", f"s-{uid}"]


@pytest.mark.parametrize("uid", ["", "../x", "a/b", "C:x"])
def test_a_uid_that_cannot_name_a_file_is_refused(tmp_path: Path, uid: str) -> None:
    with pytest.raises(JournalError, match="cannot name a file"):
        Journal(tmp_path)("start", {"uid": uid})


def test_a_document_of_an_unknown_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="has not seen start"):
        Journal(tmp_path)("event", {"descriptor": "d"})


def test_appending_cuts_off_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    first = MAGIC + encode("start", START)
    path.write_bytes(first + encode("event", {"data": {"a": 1.0}})[:-3])
    append_record(path, len(first), "stop", {"uid": "s"})
    assert [name for name, _ in read_records(path)] == ["start", "stop"]


class FullDisk(FileIO):
    """A file on a disk that fills up in the middle of a record."""

    def write(self, data: Any) -> int:
        """Write a part, then fail as the system does."""
        super().write(data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_record_that_did_not_fit_leaves_the_journal_readable(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal("start", START)
    run = journal._runs[START["uid"]]
    good = run.file
    with FullDisk(run.path, "r+b") as run.file:
        run.file.seek(run.size)
        with pytest.raises(JournalError, match="No space left on device.*free space"):
            journal("event", {"run_start": START["uid"]})
    run.file = good
    journal("stop", {"run_start": START["uid"], "uid": "s"})
    assert [name for name, _ in read_records(run.path)] == ["start", "stop"]
