"""The documents of the plans: valid, complete, and with the columns that readers rely on."""

import json
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from event_model import DocumentNames, schema_validators

from bluesky_gpsts.plans import gp_sts, survey
from bluesky_gpsts.plans.merit import figure_of_merit
from bluesky_gpsts.surrogate import MapOptimizer

ROLES = {
    "bias",
    "current",
    "lockin_x",
    "lockin_y",
    "didv",
    "x",
    "y",
    "piezo_x",
    "piezo_y",
    "z",
    "figure_of_merit",
    "figure_of_merit_variance",
}
DECISIONS = {
    "decision_id",
    "primary_seq_num",
    "x",
    "y",
    "acquisition_value",
    "posterior_mean",
    "posterior_std",
    "hyperparameters",
    "default_noise_variance",
    "n_data",
    "trained",
    "reason",
    "structure",
    "failure",
    "seconds_deciding",
    "seconds_instrument",
    "seconds_cycle",
}


def check_consistency(documents: list[tuple[str, dict[str, Any]]]) -> None:
    """Every document fits its schema, its descriptor and its run."""
    descriptors: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    start: dict[str, Any] = {}
    for name, document in documents:
        plain = event_model.sanitize_doc(document)
        schema_validators[DocumentNames[name]].validate(plain)
        json.dumps(plain)
        if name == "start":
            start, descriptors, counts = document, {}, {}
        elif name == "descriptor":
            assert document["run_start"] == start["uid"]
            descriptors[document["uid"]] = document
            counts[document["name"]] = 0
        elif name == "event":
            descriptor = descriptors[document["descriptor"]]
            counts[descriptor["name"]] += 1
            assert document["seq_num"] == counts[descriptor["name"]]
            keys = descriptor["data_keys"]
            assert set(document["data"]) == set(document["timestamps"]) == set(keys)
            for key, value in document["data"].items():
                described = keys[key]
                assert described["shape"] == list(np.shape(value)), key
                if described["dtype"] == "array":
                    assert described["dtype_numpy"] == np.asarray(value).dtype.str == "<f8", key
                else:
                    expected = {"number": float, "string": str}[described["dtype"]]
                    assert type(value) is expected, key
        elif name == "stop":
            assert document["run_start"] == start["uid"]
            assert document["num_events"] == counts


def test_documents_of_gp_sts(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    original = bench.state()
    result = engine(gp_sts(bench.stm, **small, seed=3, survey="abc", md={"sample": "WS2 flake 7"}))
    check_consistency(documents.all)
    assert bench.state() == original
    names = [name for name, _ in documents.all]
    assert (names[0], names[-1], names.count("start"), names.count("stop")) == (
        "start",
        "stop",
        1,
        1,
    )
    (start,), (stop,) = documents.of("start"), documents.of("stop")
    assert {d["name"] for d in documents.of("descriptor")} == {
        *("baseline", "primary", "decisions", "map"),
    }
    assert stop["num_events"] == {"baseline": 2, "primary": 5, "decisions": 5, "map": 1}
    assert stop["exit_status"] == "success"
    assert stop["reason"] == result.plan_result == "budget of 5 points spent, 0 of them failed"

    assert start["plan_name"] == "gp_sts"
    assert start["seed"] == 3
    assert start["survey"] == "abc"
    assert start["sample"] == "WS2 flake 7"
    assert start["instrument"] == "stm"
    assert start["grid"] == {"nx": 16, "ny": 16}
    assert start["window"] == [0.0, 0.7]
    assert start["bias_range"] == [1.4, -1.8]
    assert (start["n_points"], start["budget"]) == (64, 5)
    assert (start["acquisition"], start["kernel"]) == ("weighted", "matern-5/2")
    assert start["frame"] == {
        "center_x": 0.0,
        "center_y": 0.0,
        "width": pytest.approx(3e-9),
        "height": pytest.approx(3e-9),
        "angle": 0.0,
    }
    assert start["plan_args"]["optimizer"] == "MapOptimizer"
    assert start["plan_args"]["integration"] == 1e-2
    keys = {key for d in documents.of("descriptor") for key in d["data_keys"]}
    assert set(start["columns"]) == ROLES
    assert set(start["columns"].values()) <= keys


def test_spectra_of_gp_sts(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **small))
    columns = documents.of("start")[0]["columns"]
    descriptor = next(d for d in documents.of("descriptor") if d["name"] == "primary")
    units = {role: descriptor["data_keys"][key]["units"] for role, key in columns.items()}
    assert units == {
        "bias": "V",
        "current": "A",
        "lockin_x": "A",
        "lockin_y": "A",
        "didv": "A/V",
        "x": "m",
        "y": "m",
        "piezo_x": "m",
        "piezo_y": "m",
        "z": "m",
        "figure_of_merit": "A",
        "figure_of_merit_variance": "A^2",
    }
    configuration = descriptor["configuration"]["stm_spectroscopy"]["data"]
    assert configuration["stm_spectroscopy_points"] == 64
    assert configuration["stm_spectroscopy_integration"] == pytest.approx(1e-2)
    for event in documents.events("primary"):
        data = {role: event["data"][key] for role, key in columns.items()}
        np.testing.assert_allclose(data["bias"], np.linspace(1.4, -1.8, 64), atol=1e-6)
        for role in ("current", "lockin_x", "lockin_y", "didv"):
            assert data[role].shape == (64,)
            assert np.isfinite(data[role]).all()
        value, variance = figure_of_merit(data["bias"], data["didv"], (0.0, 0.7))
        assert data["figure_of_merit"] == value
        assert data["figure_of_merit_variance"] == variance > 0
        assert data["x"] == data["piezo_x"] and data["y"] == data["piezo_y"], "no drift offset"
        assert abs(data["x"]) < 1.5e-9 and abs(data["y"]) < 1.5e-9
        assert 0 < data["z"] < 2e-9


def test_decisions_of_gp_sts(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **{**small, "n_spectra": 6}))
    spectra, decisions = documents.columns("primary"), documents.columns("decisions")
    assert set(decisions) == DECISIONS
    assert decisions["decision_id"] == decisions["primary_seq_num"] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(decisions["x"], spectra["stm_tip_x"], atol=5e-12)
    np.testing.assert_allclose(decisions["y"], spectra["stm_tip_y"], atol=5e-12)
    assert decisions["n_data"] == [0, 1, 2, 3, 4, 5]
    assert decisions["reason"] == ["initial design"] * 3 + ["weighted"] * 3
    for name in ("acquisition_value", "posterior_mean", "posterior_std"):
        assert np.isnan(decisions[name][:3]).all()
        assert np.isfinite(decisions[name][3:]).all()
    assert (np.array(decisions["posterior_std"][3:]) > 0).all()
    assert np.shape(decisions["hyperparameters"]) == (6, 4)
    assert np.isfinite(decisions["hyperparameters"][-1]).all()
    # Trained on the fourth outcome beside the measurement of the fifth, and used from then on.
    assert decisions["trained"] == [0, 0, 0, 0, 0, 1]
    for name in ("seconds_deciding", "seconds_instrument", "seconds_cycle"):
        assert (np.array(decisions[name]) > 0).all()
    # The parts of each spectrum's cycle add up, with a rest.
    parts = np.add(decisions["seconds_deciding"], decisions["seconds_instrument"])
    assert (parts < decisions["seconds_cycle"]).all()
    # A decision follows its spectrum.
    streams = {d["uid"]: d["name"] for d in documents.of("descriptor")}
    order = [streams[event["descriptor"]] for event in documents.of("event")]
    assert order == ["baseline", *["primary", "decisions"] * 6, "map", "baseline"]


def test_baseline_holds_the_settings_before_and_after(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **small))
    before, after = (event["data"] for event in documents.events("baseline"))
    assert before["stm_bias"] == after["stm_bias"] == pytest.approx(1.2)
    assert before["stm_z_controller_setpoint"] == pytest.approx(3e-11)
    assert before["stm_z_controller_feedback"] == 1.0
    assert before["stm_spectroscopy_points"] == 64.0
    assert before["stm_lock_in_amplitude"] == pytest.approx(5e-3)
    assert before["stm_scan_width"] == pytest.approx(3e-9)
    moving = {"stm_current_value", "stm_z_controller_z"}
    moving |= {f"stm_tip_{axis}" for axis in ("x", "y", "piezo_x", "piezo_y")}
    assert {key for key in before if before[key] != after[key]} <= moving
    assert all(type(value) is float for value in before.values())


def test_documents_of_a_survey(engine: RunEngine, documents: Any, bench: Any) -> None:
    original = bench.state()
    result = engine(survey(bench.stm, pixels=32, lines=24, line_time=0.1, md={"sample": "WS2"}))
    check_consistency(documents.all)
    assert bench.state() == original
    (start,), (stop,) = documents.of("start"), documents.of("stop")
    assert result.plan_result == start["uid"], "what gp_sts takes as its survey"
    assert start["plan_name"] == "survey"
    assert start["sample"] == "WS2"
    assert start["plan_args"] == {"pixels": 32, "lines": 24, "line_time": 0.1}
    assert stop["num_events"] == {"survey": 1}
    assert stop["exit_status"] == "success"
    (event,) = documents.events("survey")
    data = {role: event["data"][key] for role, key in start["columns"].items()}
    assert set(data) == {"forward", "backward", "topography"}
    assert {image.shape for image in data.values()} == {(24, 32)}
    (descriptor,) = documents.of("descriptor")
    assert {key["units"] for key in descriptor["data_keys"].values()} == {"m"}
    configuration = descriptor["configuration"]["stm_scan"]["data"]
    assert configuration["stm_scan_pixels"] == 32


def test_survey_corrects_the_tilt_line_by_line(
    engine: RunEngine, documents: Any, bench: Any
) -> None:
    frame = bench.stm.scan.frame()
    bench.controller.tip.equilibrium = lambda where, times: (
        5e-9 * where[:, 0] / frame.width + 3e-9 * where[:, 1] / frame.height
    )
    engine(survey(bench.stm, pixels=32, lines=16))
    columns = documents.of("start")[0]["columns"]
    (event,) = documents.events("survey")
    raw, flat = event["data"][columns["forward"]], event["data"][columns["topography"]]
    assert np.ptp(raw) > 7e-9
    assert np.ptp(flat) < 0.2e-9
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=1e-15)
    slope = flat @ (np.arange(32) - 15.5)
    np.testing.assert_allclose(slope, 0, atol=1e-18)


def test_a_run_begins_where_the_piezo_sees_the_sample(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """An offset that something left behind would shift every spectrum."""
    bench.stm.tip.offset_x.put(0.25e-9)
    engine(gp_sts(bench.stm, **{**small, "n_spectra": 2}))
    spectra, decisions = documents.columns("primary"), documents.columns("decisions")
    np.testing.assert_array_equal(spectra["stm_tip_x"], spectra["stm_tip_piezo_x"])
    np.testing.assert_allclose(decisions["x"], spectra["stm_tip_x"], atol=5e-12)


def test_two_runs_with_one_seed_are_identical(
    make_bench: Any, engine: RunEngine, documents: Any, small: dict[str, Any]
) -> None:
    runs = []
    for seed in (7, 7, 8):
        documents.all.clear()
        engine(gp_sts(make_bench().stm, **small, seed=seed))
        runs.append({**documents.columns("primary"), **documents.columns("decisions")})
    for key, values in runs[0].items():
        if not key.startswith("seconds_"):
            np.testing.assert_array_equal(values, runs[1][key], err_msg=key)
    assert runs[0]["x"] != runs[2]["x"]


def test_optimizer_can_be_made_again_from_the_documents(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    """The documents hold all that the next decision depends on."""
    from bluesky_gpsts.surrogate import Grid

    engine(gp_sts(bench.stm, **small, seed=2))
    (start,) = documents.of("start")
    again = MapOptimizer(
        Grid(**start["frame"], **start["grid"]),
        kernel=start["kernel"],
        acquisition=start["acquisition"],
        n_initial=start["plan_args"]["n_initial"],
        seed=start["seed"],
        max_points=start["budget"],
    )
    decisions, spectra = documents.columns("decisions"), documents.columns("primary")
    for number in range(5):
        (point,) = again.suggest(1)
        assert (point["x"], point["y"]) == (decisions["x"][number], decisions["y"][number])
        again.ingest(
            [
                {
                    "_id": point["_id"],
                    "figure_of_merit": spectra["figure_of_merit"][number],
                    "figure_of_merit_variance": spectra["figure_of_merit_variance"][number],
                }
            ]
        )
    assert again.should_stop()[0]
