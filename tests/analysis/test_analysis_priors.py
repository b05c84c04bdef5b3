"""Runs with a prior made of images, and runs that start warm from earlier ones."""

import numpy as np
import pytest
from analysis_runs import Documents, Experiment, Keep, gp_sts_run, survey_run
from event_model import compose_run

from bluesky_gpsts.analysis import (
    AnalysisError,
    lattice_of,
    learned_prior,
    library_of,
    read_record,
    symmetry_of,
    topograph_of,
)
from bluesky_gpsts.catalog import Catalog
from bluesky_gpsts.surrogate import Grid, MapOptimizer, Topograph


def with_topograph(experiment: Experiment) -> tuple[Documents, MapOptimizer]:
    """The documents of a run whose optimizer knows the topograph."""
    image = experiment.truth() / np.ptp(experiment.truth())
    documents, _ = gp_sts_run(experiment, "")
    start = dict(documents[0][1])
    del start["uid"], start["time"]
    run = compose_run(metadata=start, time=1.79e9)
    optimizer = MapOptimizer(
        experiment.grid, structure=Topograph(image), acquisition="weighted", background=False
    )
    key = {"source": "t", "dtype": "array", "dtype_numpy": "<f8", "shape": list(image.shape)}
    images = run.compose_descriptor(name="structure", data_keys={"structure_images": key})
    names = {d[1]["uid"]: d[1]["name"] for d in documents if d[0] == "descriptor"}
    streams = {
        d[1]["name"]: run.compose_descriptor(
            name=d[1]["name"],
            data_keys=d[1]["data_keys"]
            | (
                {"structure": {"source": "t", "dtype": "string", "shape": []}}
                if d[1]["name"] == "decisions"
                else {}
            ),
        )
        for d in documents
        if d[0] == "descriptor"
    }
    out: Documents = [("start", run.start_doc)]
    out.append(("descriptor", images.descriptor_doc))
    out += [("descriptor", stream.descriptor_doc) for stream in streams.values()]
    data = {"structure_images": image}
    out.append(("event", images.compose_event(data=data, timestamps={"structure_images": 0.0})))
    point = optimizer.suggest()[0]
    for name, event in documents:
        stream = names.get(event.get("descriptor", ""), "")
        if name != "event" or stream not in ("primary", "decisions"):
            continue
        data = dict(event["data"])
        if stream == "primary":
            row = dict(data)
        else:
            why = optimizer.explain(point["_id"])
            data |= {
                "hyperparameters": why.hyperparameters,
                "n_data": float(why.n_data),
                "trained": float(why.trained),
                "default_noise_variance": why.default_noise_variance,
                "structure": why.structure,
            }
        stamps = dict.fromkeys(data, 0.0)
        out.append(("event", streams[stream].compose_event(data=data, timestamps=stamps)))
        if stream == "decisions":
            columns = start["columns"]
            outcome = {
                "x": row[columns["x"]],
                "y": row[columns["y"]],
                "figure_of_merit": row[columns["figure_of_merit"]],
                "figure_of_merit_variance": row[columns["figure_of_merit_variance"]],
            }
            optimizer.ingest([outcome])
            optimizer.register_failures([point])
            point = optimizer.suggest()[0]
    out.append(("stop", run.compose_stop(time=1.79e9 + 100)))
    return out, optimizer


def test_the_catalog_alone_has_the_map_of_a_topograph(
    catalog: Catalog, keep: Keep, experiment: Experiment
) -> None:
    documents, optimizer = with_topograph(experiment)
    record = read_record(catalog, keep(documents))
    # The last decision was made with one outcome less and its hyperparameters.
    assert record.history.structures[-1]
    assert record.history.images is not None
    mean, std = record.final_maps
    assert np.isfinite(std).all()
    assert np.corrcoef(mean.ravel(), optimizer.mean_map().ravel())[0, 1] > 0.99


def test_learned_prior(catalog: Catalog, whole: str, experiment: Experiment) -> None:
    frame = experiment.grid
    prior = learned_prior(catalog, [whole], frame)
    lengths = read_record(catalog, whole).history.hyperparameters[-1][1:3]
    here = np.sqrt(np.prod(lengths)) / np.sqrt(frame.width * frame.height)
    assert min(here, 20 / 128) <= prior["length"] <= max(here, 20 / 128)
    MapOptimizer(frame)


def test_library_of_earlier_runs(catalog: Catalog, whole: str, experiment: Experiment) -> None:
    old = experiment.grid
    record = read_record(catalog, whole)
    same = library_of(catalog, [whole], old)
    mean = record.final_maps[0]
    np.testing.assert_allclose(same.maps[0], mean / np.ptp(mean), rtol=1e-9)
    # The same frame elsewhere, twice as large: the map lies in its middle.
    large = Grid(5e-9, 1e-9, 2 * old.width, 2 * old.height, old.angle, 2 * old.nx, 2 * old.ny)
    moved = library_of(catalog, [whole], large).maps[0]
    ny, nx = old.ny, old.nx
    middle = moved[ny // 2 : ny // 2 + ny, nx // 2 : nx // 2 + nx]
    np.testing.assert_allclose(middle, same.maps[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moved[0], np.median(same.maps[0]), rtol=1e-9)


def test_there_must_be_an_earlier_run(catalog: Catalog, experiment: Experiment) -> None:
    with pytest.raises(AnalysisError, match="There is no earlier run"):
        learned_prior(catalog, [], experiment.grid)
    with pytest.raises(AnalysisError, match="cannot show the run"):
        library_of(catalog, ["nothing"], experiment.grid)


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_what_a_survey_shows(catalog: Catalog, keep: Keep, angle: float) -> None:
    experiment = Experiment(angle=angle, image=(96, 80))
    uid = keep(survey_run(experiment))
    grid = experiment.grid
    junction = experiment.junction
    topograph = topograph_of(catalog, uid, grid)
    expected = grid.as_map(junction.topography(*grid.xy.T, *junction.surface.imaging))
    assert np.corrcoef(topograph.image.ravel(), expected.ravel())[0, 1] > 0.9
    symmetry = symmetry_of(catalog, uid, "C3")
    assert symmetry.center is not None and symmetry.kind == "C3"
    grid.index_of(*symmetry.center)
    lengths = np.linalg.norm(lattice_of(catalog, uid).vectors, axis=1)
    np.testing.assert_allclose(lengths, 3.15e-10, rtol=0.08)


def test_candidates_outside_the_survey(
    catalog: Catalog, keep: Keep, experiment: Experiment
) -> None:
    uid = keep(survey_run(experiment))
    far = Grid(3e-9, 0.0, 3e-9, 3e-9, 0.0, 16, 16)
    with pytest.raises(AnalysisError, match="pixels outside the survey image"):
        topograph_of(catalog, uid, far)
    with pytest.raises(AnalysisError, match="no survey 'nothing'"):
        symmetry_of(catalog, "nothing")
