"""Runs with a prior made of images, and runs that start warm from earlier ones."""

import numpy as np
import pytest
from analysis_runs import Experiment, Keep, survey_run

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
from bluesky_gpsts.physics.ws2 import WS2
from bluesky_gpsts.surrogate import Grid


def test_learned_prior(catalog: Catalog, whole: str, experiment: Experiment) -> None:
    frame = experiment.grid
    prior = learned_prior(catalog, [whole], frame)
    lengths = read_record(catalog, whole).history.hyperparameters[-1][1:3]
    here = np.sqrt(np.prod(lengths)) / np.sqrt(frame.width * frame.height)
    assert min(here, 20 / 128) <= prior["length"] <= max(here, 20 / 128)


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


def test_arguments_of_another_kind(catalog: Catalog, whole: str, experiment: Experiment) -> None:
    grid = experiment.grid
    with pytest.raises(AnalysisError, match="The uids are 'abc'; give a list of them"):
        learned_prior(catalog, "abc", grid)
    with pytest.raises(AnalysisError, match="The uids are None; give a list"):
        library_of(catalog, None, grid)
    with pytest.raises(AnalysisError, match="The uid of a run is text, not None"):
        library_of(catalog, [None], grid)
    with pytest.raises(AnalysisError, match="grid is None; give a bluesky_gpsts.surrogate.Grid"):
        library_of(catalog, [whole], None)
    with pytest.raises(AnalysisError, match="frame is 3; give a bluesky_gpsts.surrogate.Grid"):
        learned_prior(catalog, [whole], 3)
    with pytest.raises(AnalysisError, match="The uid of a run is text, not None"):
        symmetry_of(catalog, None)
    with pytest.raises(AnalysisError, match=r"five characters or more\. List the runs"):
        library_of(catalog, ["abc"], grid)


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
    assert isinstance(junction.surface, WS2)
    defects = np.array([(d.x, d.y) for d in junction.surface.defects])
    away = np.hypot(*(defects - symmetry.center).T)
    assert away.min() < 0.2e-9, "the centre is a defect's"
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
