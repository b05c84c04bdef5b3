"""Through the RunEngine, the journal, the deliverer and the Tiled server, and back."""

import json
import os
import stat
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngine
from catalog_runs import BIAS, COLUMNS, FRAME, POINTS, gp_sts, image_run, spectrum, wait_for
from ophyd import Signal

from bluesky_gpsts.catalog import (
    Catalog,
    CatalogError,
    decisions,
    find,
    open_catalog,
    spectra,
    survey,
    sync,
    truth,
)
from bluesky_gpsts.catalog.server import request


@pytest.fixture
def engine(catalog: Catalog) -> RunEngine:
    """RunEngine that writes to the catalog."""
    engine = RunEngine(context_managers=[])
    engine.subscribe(catalog.journal)
    return engine


@pytest.fixture(scope="module")
def run(catalog: Catalog) -> Any:
    """A run of five spectra, in the catalog."""
    engine = RunEngine(context_managers=[])
    engine.subscribe(catalog.journal)
    (uid,) = engine(gp_sts(5))
    catalog.wait_delivered(uid, 120.0)
    return catalog[uid]


def test_spectra_come_back_with_axes_and_units(run: Any) -> None:
    found = spectra(run)
    assert dict(found.sizes) == {"point": 5, "bias": POINTS}
    np.testing.assert_array_equal(found.bias, BIAS)
    for index in range(5):
        np.testing.assert_array_equal(found.current[index], spectrum(index))
        np.testing.assert_array_equal(found.didv[index], np.gradient(spectrum(index), BIAS))
    assert found.current.dtype == np.float64
    np.testing.assert_array_equal(found.x, 1e-9 * np.arange(5))
    np.testing.assert_array_equal(found.figure_of_merit, 1e-11 * np.arange(5))
    np.testing.assert_array_equal(found.seq_num, [1, 2, 3, 4, 5])
    units = {name: found[name].attrs["units"] for name in found.variables}
    assert units["current"] == "A" and units["didv"] == "A/V" and units["bias"] == "V"
    assert units["x"] == units["piezo_y"] == units["z"] == "m" and units["time"] == "s"
    assert found.attrs["exit_status"] == "success" and found.attrs["sample"] == "WS2"


def test_decisions_come_back(run: Any) -> None:
    found = decisions(run)
    np.testing.assert_array_equal(found.decision_id, np.arange(5.0))
    assert list(found.reason.values) == ["variance"] * 5
    assert found.hyperparameters.shape == (5, 4)
    length = found.hyperparameters.sel(hyperparameter="length_x")
    np.testing.assert_array_equal(length, np.full(5, 2.0))


def test_a_run_is_found_by_place_uid_and_part_of_it(catalog: Catalog, run: Any) -> None:
    uid = run.metadata["start"]["uid"]
    assert catalog[uid].metadata["start"]["uid"] == uid
    assert catalog[uid[:8]].metadata["start"]["uid"] == uid
    assert catalog.client[uid[:8]].metadata["start"]["uid"] == uid
    latest = catalog.runs()[-1].metadata["start"]["uid"]
    assert catalog[-1].metadata["start"]["uid"] == latest
    assert catalog.client[-1].metadata["start"]["uid"] == latest
    with pytest.raises(KeyError, match="No run has"):
        catalog["zzzzzz"]
    with pytest.raises(KeyError, match="too short"):
        catalog["abc"]


def test_each_spectrum_is_readable_before_the_next(catalog: Catalog, engine: RunEngine) -> None:
    started: list[str] = []
    engine.subscribe(lambda name, doc: started.append(doc["uid"]), "start")

    def previous_is_readable(index: int) -> None:
        def rows() -> bool:
            try:
                found = spectra(catalog[started[0]])
            except KeyError:
                return False
            return found.sizes["point"] == index

        wait_for(rows, f"spectrum {index} in the catalog")
        if index == 2:
            assert spectra(catalog[started[0]]).attrs["exit_status"] == "unfinished"

    engine(gp_sts(3, previous_is_readable))


def test_a_run_without_events_is_read_as_empty(catalog: Catalog, engine: RunEngine) -> None:
    (uid,) = engine(gp_sts(0))
    catalog.wait_delivered(uid, 120.0)
    found = spectra(catalog[uid])
    assert dict(found.sizes) == {"point": 0, "bias": 0}
    assert found.current.attrs["units"] == "A"
    assert dict(decisions(catalog[uid]).sizes) == {}


def test_an_aborted_run_keeps_its_spectra(catalog: Catalog, engine: RunEngine) -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise ZeroDivisionError("the tip crashed")

    uids: list[str] = []
    engine.subscribe(lambda name, doc: uids.append(doc["uid"]), "start")
    with pytest.raises(ZeroDivisionError):
        engine(gp_sts(5, fail))
    catalog.wait_delivered(uids[0], 120.0)
    found = spectra(catalog[uids[0]])
    assert found.sizes["point"] == 2 and found.attrs["exit_status"] == "fail"


def test_of_a_point_taken_twice_the_last_counts(catalog: Catalog) -> None:
    uid, descriptor = str(uuid.uuid4()), str(uuid.uuid4())
    keys = ("bias", "current", "x")
    data_keys = {
        COLUMNS[key]: {"source": "", "dtype": "array", "shape": [4]}
        if key != "x"
        else {"source": "", "dtype": "number", "shape": []}
        for key in keys
    }
    columns = {key: COLUMNS[key] for key in keys}
    journal = catalog.journal
    journal("start", {"uid": uid, "time": 1.0, "columns": columns})
    journal(
        "descriptor",
        {
            "uid": descriptor,
            "run_start": uid,
            "time": 1.0,
            "name": "primary",
            "data_keys": data_keys,
            "configuration": {},
            "hints": {},
            "object_keys": {},
        },
    )
    for number, value in ((1, 1.0), (2, 2.0), (2, 3.0), (3, 4.0)):
        data = dict(zip(columns.values(), (np.arange(4.0), np.full(4, value), value), strict=True))
        journal(
            "event",
            {
                "uid": str(uuid.uuid4()),
                "descriptor": descriptor,
                "time": value,
                "seq_num": number,
                "data": data,
                "timestamps": {key: value for key in data},
            },
        )
    stop = {"uid": str(uuid.uuid4()), "run_start": uid, "time": 2.0, "exit_status": "success"}
    journal("stop", {**stop, "num_events": {"primary": 3}})
    catalog.wait_delivered(uid, 120.0)
    found = spectra(catalog[uid])
    np.testing.assert_array_equal(found.seq_num, [1, 2, 3])
    np.testing.assert_array_equal(found.current[:, 0], [1.0, 3.0, 4.0])
    np.testing.assert_array_equal(found.x, [1.0, 3.0, 4.0])


def test_numbers_that_change_their_type_are_delivered_all_the_same(
    catalog: Catalog, engine: RunEngine
) -> None:
    signal = Signal(name="counter", value=0)

    @bpp.run_decorator(md={"plan_name": "types"})
    def plan() -> Iterator[Any]:
        for value in (0, 0.5, 1):
            yield from bps.mv(signal, value)
            yield from bps.trigger_and_read([signal])

    (uid,) = engine(plan())
    catalog.wait_delivered(uid, 120.0)
    values = catalog[uid]["primary"].base["internal"].read()["counter"]
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0])


def test_a_survey_is_read_in_place(catalog: Catalog, engine: RunEngine) -> None:
    image = np.arange(12.0).reshape(3, 4) * 1e-12
    metadata = {
        "plan_name": "survey",
        "frame": {**FRAME, "angle": 90.0},
        "columns": {"topography": "stm_topography"},
    }
    (uid,) = engine(image_run("survey", "stm_topography", image, **metadata))
    catalog.wait_delivered(uid, 120.0)
    found = survey(catalog[uid])
    np.testing.assert_array_equal(found.topography, image)
    assert found.topography.attrs["units"] == "m"
    assert found.y[0] > found.y[-1] and found.x[0] < found.x[-1]
    np.testing.assert_allclose(found.x.mean(), FRAME["center_x"])
    # Turned clockwise by 90 degrees, the left column of the frame is its top edge.
    np.testing.assert_allclose(found.y_sample[:, 0], FRAME["center_y"] + 1.5e-9, rtol=1e-9)
    # And its top row lies to the right.
    np.testing.assert_allclose(found.x_sample[0], FRAME["center_x"] + 2e-9 / 3, rtol=1e-9)


def test_a_square_array_is_read_without_a_warning(catalog: Catalog, engine: RunEngine) -> None:
    square, wide = Signal(name="square"), Signal(name="wide")
    square.put(np.arange(9.0).reshape(3, 3))
    wide.put(np.arange(6.0).reshape(3, 2))

    @bpp.run_decorator()
    def plan() -> Iterator[Any]:
        for _ in range(2):
            yield from bps.trigger_and_read([square, wide])

    (uid,) = engine(plan())
    catalog.wait_delivered(uid, 120.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = catalog[uid]["primary"].read()
    assert found.square.shape == (2, 3, 3) and len(set(found.square.dims)) == 3
    np.testing.assert_array_equal(found.square[1], square.get())
    # What is as long is still along the same axis.
    assert found.wide.dims[1] == found.square.dims[1]


def test_truth_belongs_to_its_run(catalog: Catalog, engine: RunEngine, run: Any) -> None:
    uid = run.metadata["start"]["uid"]
    assert truth(catalog, uid) is None
    known = np.arange(6.0).reshape(2, 3)
    (of_truth,) = engine(image_run("primary", "truth", known, plan_name="truth", truth_of=uid))
    catalog.wait_delivered(of_truth, 120.0)
    np.testing.assert_array_equal(truth(catalog, uid), known)
    assert [one.metadata["start"]["uid"] for one in find(catalog, "truth")] == [of_truth]
    assert uid in [one.metadata["start"]["uid"] for one in find(catalog, "gp_sts", sample="WS2")]
    assert find(catalog, "gp_sts", sample="Au") == []


def test_a_run_of_another_plan_is_refused_in_one_sentence(
    catalog: Catalog, engine: RunEngine
) -> None:
    (uid,) = engine(image_run("primary", "truth", np.ones((2, 2)), plan_name="other"))
    catalog.wait_delivered(uid, 120.0)
    with pytest.raises(CatalogError, match="no 'columns' in its start document"):
        spectra(catalog[uid])


def test_a_second_process_reads_all_spectra(catalog: Catalog, run: Any) -> None:
    code = """
import json, sys
from bluesky_gpsts.catalog import open_catalog, spectra
with open_catalog(sys.argv[1], deliver=False) as catalog:
    found = spectra(catalog[sys.argv[2]])
    current = found.current.values
    print(json.dumps([current.dtype.kind, current.shape, found.bias.values.tolist()]))
"""
    kind, shape, bias = json.loads(_python(code, str(catalog.path), run.metadata["start"]["uid"]))
    assert kind == "f" and shape == [5, POINTS]
    np.testing.assert_array_equal(bias, BIAS)
    assert request(catalog.uri or "", "", "/healthz") == 200, "the reader stopped our server"


def test_databroker_opens_the_same_catalog(catalog: Catalog, run: Any, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "gpsts.yml").write_text(catalog.profile("gpsts"))
    code = """
import json, sys
from databroker import catalog
db = catalog["gpsts"]
run = db[sys.argv[1][:8]]
data = run.primary.read()
documents = [name for name, doc in run.documents()]
print(json.dumps([data["stm_current"].shape, documents.count("event"), len(db) > 0]))
"""
    output = _python(code, run.metadata["start"]["uid"], TILED_PROFILES=str(profiles))
    assert json.loads(output) == [[5, POINTS], 10, True]


def _python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("\n")[-1]


def test_nobody_gets_in_without_the_key(catalog: Catalog) -> None:
    uri = catalog.uri
    assert uri is not None and uri.startswith("http://127.0.0.1:")
    assert request(uri, "", "/api/v1/metadata/") == 401
    assert request(uri, "0" * 64, "/api/v1/metadata/") == 401
    key = catalog.path / "api_key"
    assert len(key.read_text()) == 64
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_waiting_reports_progress(catalog: Catalog, engine: RunEngine) -> None:
    seen: list[tuple[int, int]] = []
    (uid,) = engine(gp_sts(3))
    catalog.wait_delivered(uid, 120.0, progress=lambda done, size: seen.append((done, size)))
    assert seen[-1][0] == seen[-1][1] > 3 * 5 * POINTS * 8
    assert all(0 <= done <= size for done, size in seen)
    with pytest.raises(CatalogError, match="was not journaled"):
        catalog.wait_delivered("no-such-run", 1.0)


def test_sync_leaves_a_session_that_delivers_alone(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="A session is delivering"):
        sync(catalog.path)


def test_a_server_elsewhere_is_a_catalog_too(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_GPSTS_CATALOG", str(tmp_path / "here" / "catalog"))
    key = (catalog.path / "api_key").read_text()
    assert catalog.uri is not None
    with open_catalog(f"{catalog.uri}?api_key={key}") as elsewhere:
        assert key not in repr(elsewhere.place) and elsewhere.uri == catalog.uri
        engine = RunEngine(context_managers=[])
        engine.subscribe(elsewhere.journal)
        (uid,) = engine(gp_sts(2))
        elsewhere.wait_delivered(uid, 120.0)
        assert spectra(elsewhere[uid]).sizes["point"] == 2
        assert tmp_path in elsewhere.path.parents
    assert spectra(catalog[uid]).sizes["point"] == 2
    with pytest.raises(CatalogError, match="cannot be opened.*401"):
        open_catalog(catalog.uri, key="0" * 64)
    with pytest.raises(CatalogError, match="cannot be opened.*ConnectError"):
        open_catalog("http://127.0.0.1:9", key=key)
