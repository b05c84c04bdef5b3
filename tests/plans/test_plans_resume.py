"""A run in a real catalog: its documents rebuild the optimizer, and the map of any prior."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.analysis import AnalysisError, optimizer_of, read_record
from bluesky_gpsts.catalog import Catalog, open_catalog
from bluesky_gpsts.plans import gp_sts
from bluesky_gpsts.surrogate import Grid, MapOptimizer, Topograph


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with open_catalog(tmp_path_factory.mktemp("resume") / "catalog") as opened:
        yield opened


@pytest.mark.parametrize(("components", "prior"), [(0, None), (3, "topograph")])
def test_the_next_choice_and_the_map_are_those_of_the_run(
    engine: RunEngine,
    bench: Any,
    small: dict[str, Any],
    catalog: Catalog,
    components: int,
    prior: str | None,
) -> None:
    engine.subscribe(catalog.journal)
    frame = bench.stm.scan.frame()
    grid = Grid(frame.x, frame.y, frame.width, frame.height, frame.angle, 16, 16)
    image = np.hypot(*grid.uv.T).reshape(16, 16) / frame.width
    optimizer = MapOptimizer(
        grid,
        acquisition="weighted",
        n_initial=4,
        seed=3,
        max_points=9,
        structure=None if prior is None else Topograph(image),
        components=components,
    )
    arguments = {**small, "n_spectra": 9}
    uid = engine(
        gp_sts(bench.stm, **arguments, components=components, optimizer=optimizer)
    ).run_start_uids[0]
    catalog.wait_delivered(uid, 60.0)
    again = optimizer_of(catalog, uid)
    assert again.suggest() == optimizer.suggest()
    np.testing.assert_allclose(again.mean_map(), optimizer.mean_map(), rtol=1e-12)
    record = read_record(catalog, uid)
    # The catalog alone has the very map of the optimizer at the end.
    np.testing.assert_allclose(record.final_maps[0], optimizer.mean_map(), rtol=1e-6, atol=1e-18)
    # It goes on in a run of its own.
    again = optimizer_of(catalog, uid, 30)
    second = engine(
        gp_sts(bench.stm, **{**small, "n_spectra": 2}, components=components, optimizer=again)
    ).run_start_uids[0]
    catalog.wait_delivered(second, 60.0)
    with pytest.raises(AnalysisError, match="went on from the spectra of another one"):
        optimizer_of(catalog, second)


def test_an_unknown_optimizer_cannot_be_rebuilt(
    engine: RunEngine, bench: Any, small: dict[str, Any], catalog: Catalog
) -> None:
    class Other:
        def __init__(self) -> None:
            self.inner = MapOptimizer(Grid(0.0, 0.0, 1e-9, 1e-9, 0.0, 8, 8), max_points=2)
            self.suggest, self.ingest = self.inner.suggest, self.inner.ingest
            self.should_stop = self.inner.should_stop

    engine.subscribe(catalog.journal)
    uid = engine(gp_sts(bench.stm, **small, optimizer=Other())).run_start_uids[0]
    catalog.wait_delivered(uid, 60.0)
    with pytest.raises(AnalysisError, match="does not say how its optimizer was set up"):
        optimizer_of(catalog, uid)


def test_the_report_of_a_topograph(
    engine: RunEngine, bench: Any, small: dict[str, Any], catalog: Catalog, tmp_path: Path
) -> None:
    from bluesky_gpsts.analysis import write_report

    engine.subscribe(catalog.journal)
    frame = bench.stm.scan.frame()
    grid = Grid(frame.x, frame.y, frame.width, frame.height, frame.angle, 16, 16)
    image = np.hypot(*grid.uv.T).reshape(16, 16) / frame.width
    uid = engine(
        gp_sts(bench.stm, **{**small, "n_spectra": 6}, structure=Topograph(image))
    ).run_start_uids[0]
    catalog.wait_delivered(uid, 60.0)
    assert write_report(catalog, uid, tmp_path).exists()
