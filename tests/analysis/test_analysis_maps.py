"""Maps and their growth, from a run in a real catalog and from datasets."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from analysis_runs import Experiment, gp_sts_run

from bluesky_gpsts.analysis import (
    AnalysisError,
    MapHistory,
    correlations,
    final_maps,
    history_of,
    maps_after,
    read_record,
)
from bluesky_gpsts.analysis.history import build_history
from bluesky_gpsts.catalog import Catalog
from bluesky_gpsts.surrogate import MapOptimizer


def datasets(documents: list[tuple[str, dict[str, Any]]]) -> tuple[dict[str, Any], Any, Any]:
    """Start document, spectra and decisions as the catalog would return them."""
    start = documents[0][1]
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    events: dict[str, list[dict[str, Any]]] = {"primary": [], "decisions": [], "baseline": []}
    for name, doc in documents:
        if name == "event":
            events[streams[doc["descriptor"]]].append(doc["data"])
    coordinates = {
        role: ("point", np.array([data[start["columns"][role]] for data in events["primary"]]))
        for role in ("x", "y", "figure_of_merit", "figure_of_merit_variance")
    }
    decisions = {
        key: ("decision", np.array([data[key] for data in events["decisions"]]))
        for key in ("n_data", "trained", "reason", "default_noise_variance")
    }
    vectors = np.array([data["hyperparameters"] for data in events["decisions"]])
    decisions["hyperparameters"] = (("decision", "hyperparameter"), vectors)  # type: ignore[assignment]
    return start, xr.Dataset(coords=coordinates), xr.Dataset(decisions)


def history_without_catalog(experiment: Experiment) -> tuple[MapHistory, MapOptimizer]:
    documents, optimizer = gp_sts_run(experiment)
    return build_history(*datasets(documents)), optimizer


def test_correlations_are_those_of_the_maps(
    catalog: Catalog, whole: str, experiment: Experiment
) -> None:
    run, truth = catalog[whole], experiment.truth()
    found = correlations(run, truth)
    assert found.shape == (experiment.n_spectra,)
    assert np.isnan(found[0])
    history = history_of(run)
    np.testing.assert_array_equal(maps_after(run, 7)[0], history.after(7)[0])
    for k in range(2, experiment.n_spectra + 1):
        mean, _ = history.after(k)
        assert found[k - 1] == pytest.approx(
            np.corrcoef(mean.ravel(), truth.ravel())[0, 1], abs=1e-9
        )
    assert found[-1] > 0.8


def test_final_maps_are_the_maps_after_the_last_spectrum(catalog: Catalog, whole: str) -> None:
    run = catalog[whole]
    last = maps_after(run, len(history_of(run)))
    for ours, expected in zip(final_maps(run), last, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("known_variance", [True, False])
def test_steps_are_the_maps_after_each_spectrum(known_variance: bool) -> None:
    history, _ = history_without_catalog(Experiment(known_variance=known_variance))
    assert np.isnan(history.variances).all() != known_variance
    for k, (mean, std) in enumerate(history.steps(), 1):
        expected_mean, expected_std = history.after(k)
        size = np.abs(expected_mean).max()
        np.testing.assert_allclose(mean, expected_mean.ravel(), rtol=0, atol=1e-8 * size)
        np.testing.assert_allclose(std, expected_std.ravel(), rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(
        history.mean_stds()[-1], history.after(len(history))[1].mean(), rtol=1e-5
    )


def test_the_map_is_that_of_the_optimizer() -> None:
    # One decision more than spectra: then even the last hyperparameters are recorded.
    experiment = Experiment(n_spectra=12, known_variance=False)
    history, _ = history_without_catalog(experiment)
    _, optimizer = history_without_catalog(replace(experiment, n_spectra=11))
    mean, std = history.after(11)
    scale = np.abs(optimizer.mean_map()).max()
    np.testing.assert_allclose(mean, optimizer.mean_map(), rtol=0, atol=1e-8 * scale)
    np.testing.assert_allclose(std, optimizer.std_map(), rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(history.hyperparameters[10], optimizer.hyperparameters, rtol=1e-12)


def test_hyperparameters_never_come_from_later_than_the_map() -> None:
    start, spectra, decisions = datasets(gp_sts_run(Experiment())[0])
    # A batch of six initial points, decided when nothing was known.
    decisions["n_data"].values[:6] = 0
    decisions["hyperparameters"].values[:6] = np.nan
    history = build_history(start, spectra, decisions)
    assert not history.trained[:5].any() and history.trained[5:].all()
    later = decisions["hyperparameters"].values
    assert not any((history.hyperparameters[3] == vector).all() for vector in later)
    np.testing.assert_array_equal(history.hyperparameters[5], later[6])
    np.testing.assert_array_equal(history.hyperparameters[-1], later[-1])
    grid = history.grid
    np.testing.assert_allclose(
        history.hyperparameters[3, 1:3], (20 / 128 * grid.width, 20 / 128 * grid.height)
    )


def test_without_decisions_the_medians_of_the_prior_serve() -> None:
    start, spectra, _ = datasets(gp_sts_run(Experiment(n_spectra=3))[0])
    history = build_history(start, spectra, xr.Dataset())
    mean, std = history.after(3)
    assert np.isfinite(mean).all() and (std > 0).all()


def test_a_spectrum_without_figure_of_merit_changes_no_map() -> None:
    start, spectra, decisions = datasets(gp_sts_run(Experiment())[0])
    merits = np.insert(spectra["figure_of_merit"].values, [0, 5], np.nan)

    def doubled(name: str) -> tuple[str, np.ndarray]:
        return "point", np.insert(spectra[name].values, [0, 5], spectra[name].values[[0, 5]])

    names = ("x", "y", "figure_of_merit_variance")
    coordinates: dict[str, Any] = {name: doubled(name) for name in names}
    coordinates["figure_of_merit"] = ("point", merits)
    with_bad = build_history(start, xr.Dataset(coords=coordinates), decisions)
    without = build_history(start, spectra, decisions)
    truth = Experiment().truth()
    expected = without.correlations(truth)
    found = with_bad.correlations(truth)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:6], expected[:5], rtol=1e-12)
    np.testing.assert_allclose(found[6:], expected[4:], rtol=1e-12)
    with pytest.raises(AnalysisError, match="None of the first 1 spectra has a finite"):
        with_bad.after(1)


def test_a_map_without_contrast_has_no_correlation() -> None:
    history, _ = history_without_catalog(Experiment(n_spectra=2))
    flat = np.ones((history.grid.ny, history.grid.nx))
    assert np.isnan(history.correlations(flat)).all()
    holes = Experiment().truth()
    holes[3:7] = np.nan
    assert np.isfinite(history.correlations(holes)[1])


def test_bad_requests_are_refused_in_one_sentence(catalog: Catalog, whole: str) -> None:
    run = catalog[whole]
    with pytest.raises(AnalysisError, match="no map after 15 spectra: the run has 14"):
        maps_after(run, 15)
    with pytest.raises(AnalysisError, match=r"shape \(3, 4\) and the map \(20, 24\)"):
        correlations(run, np.zeros((3, 4)))
    with pytest.raises(AnalysisError, match="The catalog cannot show the run: No run has a uid"):
        read_record(catalog, "zzzzzz")
    survey = run.metadata["start"]["survey"]
    with pytest.raises(AnalysisError, match="no candidate grid.*plan gp_sts"):
        read_record(catalog, survey)


def test_the_record_has_all_that_belongs_to_the_run(catalog: Catalog, whole: str) -> None:
    record = read_record(catalog, whole[:8])
    assert record.n_spectra == 14 and record.n_initial == 6 and record.has_map
    assert record.survey is not None and record.truth is not None and record.remarks == ()
    assert record.seconds == pytest.approx(1.1 * 14 + 1.5)
    settings = {setting.name: setting for setting in record.settings}
    assert settings["stm_bias"].unit == "V" and settings["stm_bias"].changed
    assert not settings["stm_lock_in_frequency"].changed
    assert settings["stm_z_controller_name"].values == ("log <current>", "log <current>")


def test_sixty_spectra_on_a_full_grid_take_no_time(record_property: Any) -> None:
    experiment = Experiment(n_spectra=60, pixels=(128, 128))
    history, _ = history_without_catalog(experiment)
    truth = experiment.truth()
    history.correlations(truth)  # SciPy is imported at first use.
    begin = time.perf_counter()
    found = history.correlations(truth)
    record_property("seconds", time.perf_counter() - begin)
    assert found[-1] > 0.9
    # One solve per training, not one per spectrum: this is what keeps it quick.
    segments, first = 0, 1
    while first <= len(history):
        first, segments = history._same_until(first) + 1, segments + 1
    assert segments <= 18
