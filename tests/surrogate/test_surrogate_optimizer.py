import json
import math
import subprocess
import sys

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky_adaptive import protocols
from bluesky_adaptive.plans import optimize
from ophyd.sim import SynAxis

from bluesky_gpsts.surrogate import Grid, MapOptimizer, noise_variances, posterior_maps

GRID = Grid(100e-9, -50e-9, 3e-9, 3e-9, 15.0, 32, 32)
KEY = "figure_of_merit"


def surface(x, y):
    """A bright spot of picoampere height, off the centre of the frame."""
    u, v = GRID.to_unit(np.column_stack([np.atleast_1d(x), np.atleast_1d(y)])).T
    return 1e-12 * np.exp(-((u - 0.1) ** 2 + (v + 0.15) ** 2) / (2 * 0.1**2))


def measure(point, rng):
    return {**point, KEY: float(surface(point["x"], point["y"])[0]) + 1e-14 * rng.normal()}


def run(optimizer, count, seed=0):
    rng = np.random.default_rng(seed)
    points = []
    for _ in range(count):
        (point,) = optimizer.suggest()
        optimizer.ingest([measure(point, rng)])
        points.append(point)
    return points


def test_it_has_the_methods_of_bluesky_adaptive():
    optimizer = MapOptimizer(GRID)
    for protocol in (
        protocols.Optimizer,
        protocols.SupportsStoppingCriteria,
        protocols.Checkpointable,
        protocols.TrialFaultAware,
        protocols.CanRegisterSuggestions,
    ):
        assert isinstance(optimizer, protocol)


def test_bluesky_adaptive_runs_it(tmp_path):
    optimizer = MapOptimizer(GRID, max_points=12, checkpoint_path=tmp_path / "state.json")

    def evaluate(uid, suggestions):
        return [{"_id": s["_id"], KEY: float(surface(s["x"], s["y"])[0])} for s in suggestions]

    problem = protocols.OptimizationProblem(
        optimizer=optimizer,
        actuators=[SynAxis(name="x"), SynAxis(name="y")],
        sensors=[],
        evaluation_function=evaluate,
    )
    RunEngine({})(optimize(problem, iterations=None, checkpoint_interval=5))
    assert optimizer.n_points == 12
    assert MapOptimizer.from_checkpoint(tmp_path / "state.json").n_points == 10


@pytest.mark.parametrize("acquisition", ["variance", "ucb", "weighted"])
def test_the_map_is_found(acquisition):
    optimizer = MapOptimizer(GRID, acquisition=acquisition)
    points = run(optimizer, 45)
    assert len({GRID.index_of(p["x"], p["y"]) for p in points}) == 45
    truth = GRID.as_map(surface(*GRID.xy.T))
    assert np.corrcoef(optimizer.mean_map().ravel(), truth.ravel())[0, 1] > 0.95
    assert optimizer.std_map().shape == (32, 32)
    assert 0 < optimizer.std_map().max() < 1e-11


def test_gpcam_holds_the_same_model():
    optimizer = MapOptimizer(GRID)
    run(optimizer, 23)
    gp, scaling = optimizer.gp, optimizer.scaling
    assert len(gp.x_data) == 23
    mean = gp.posterior_mean(GRID.unit)["m(x)"]
    variance = gp.posterior_covariance(GRID.unit, variance_only=True)["v(x)"]
    ours = scaling.standardise(optimizer.mean_map().ravel())
    np.testing.assert_allclose(ours, mean, atol=1e-8)
    np.testing.assert_allclose(
        (optimizer.std_map().ravel() / scaling.scale) ** 2, variance, atol=1e-8
    )
    # What gpCAM's own acquisition would choose is what was chosen.
    scores = gp.evaluate_acquisition_function(GRID.unit, acquisition_function="variance")
    (point,) = optimizer.suggest()
    index = optimizer.explain(point["_id"]).index
    assert scores[index] == pytest.approx(scores.max(), rel=1e-6)


def test_a_decision_explains_and_replays_the_map():
    optimizer = MapOptimizer(GRID, acquisition="weighted")
    run(optimizer, 17)
    mean, std = optimizer.mean_map(), optimizer.std_map()
    (point,) = optimizer.suggest()
    decision = optimizer.explain(point["_id"])
    assert decision.reason == "weighted"
    assert (decision.n_data, decision.trained) == (17, True)
    assert decision.posterior_mean == mean.ravel()[decision.index]
    assert decision.posterior_std == pytest.approx(std.ravel()[decision.index])
    assert decision.acquisition_value > 0
    np.testing.assert_array_equal(decision.hyperparameters, optimizer.hyperparameters)
    assert (decision.hyperparameters[1:3] < 30e-9).all()

    measured = optimizer.state()["points"]["measured"]
    x, y, values = (np.array([m[key] for m in measured]) for key in ("x", "y", "value"))
    noise = noise_variances(np.full(17, np.nan), decision.default_noise_variance)
    np.testing.assert_allclose(noise, optimizer.noise_variances)
    again = posterior_maps(GRID, x, y, values, noise, decision.hyperparameters)
    np.testing.assert_allclose(again[0], mean, atol=1e-8 * 1e-12)
    np.testing.assert_allclose(again[1], std, atol=1e-7 * 1e-12)


def test_first_points_come_from_the_design_and_say_so():
    optimizer = MapOptimizer(GRID, n_initial=3)
    decision = optimizer.explain(optimizer.suggest()[0]["_id"])
    assert decision.reason == "initial design"
    assert math.isnan(decision.posterior_mean) and math.isnan(decision.acquisition_value)
    assert np.isnan(decision.hyperparameters).all() and not decision.trained
    with pytest.raises(ValueError, match="no decision for point 99"):
        optimizer.explain(99)


def test_two_processes_give_the_same_points_bit_for_bit():
    script = (
        "import json, numpy as np\n"
        "from bluesky_gpsts.surrogate import Grid, MapOptimizer\n"
        "o = MapOptimizer(Grid(0, 0, 3e-9, 3e-9, 0, 32, 32), seed=5, acquisition='weighted')\n"
        "rng = np.random.default_rng(1)\n"
        "for _ in range(27):\n"
        "    p = o.suggest()[0]\n"
        "    value = np.exp(-(p['x']**2 + p['y']**2) / 1e-18) + 0.01 * rng.normal()\n"
        "    o.ingest([{**p, 'figure_of_merit': value}])\n"
        "print(json.dumps([o.state(), o.suggest(3)]))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(json.loads(runs[0])[0]["points"]["measured"]) == 27


def test_another_seed_gives_other_points():
    assert MapOptimizer(GRID, seed=1).suggest(4) != MapOptimizer(GRID, seed=2).suggest(4)


def test_several_suggestions_do_not_crowd():
    optimizer = MapOptimizer(GRID, n_initial=6)
    run(optimizer, 20)
    points = optimizer.suggest(6)
    assert len({p["_id"] for p in points}) == 6
    positions = GRID.to_unit([(p["x"], p["y"]) for p in points])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    assert distance[np.triu_indices(6, 1)].min() > 0.08


def test_a_failed_point_is_not_suggested_again_and_the_loop_goes_on():
    optimizer = MapOptimizer(GRID, n_initial=4, max_points=10)
    run(optimizer, 5)
    lost = optimizer.suggest()
    optimizer.register_failures(lost)
    optimizer.register_failures(lost)
    rest = run(optimizer, 4)
    assert lost[0]["x"] not in [p["x"] for p in rest]
    assert optimizer.n_points == 9
    assert optimizer.should_stop() == (True, "budget of 10 points spent, 1 of them failed")
    # An outcome that arrives after all is not thrown away.
    optimizer.ingest([{"_id": lost[0]["_id"], KEY: 1e-13}])
    assert optimizer.n_points == 10
    with pytest.raises(ValueError, match="cannot have failed"):
        optimizer.register_failures(lost)
    with pytest.raises(ValueError, match="cannot have failed"):
        optimizer.register_failures([{"_id": 77}])


def test_failures_in_the_design_are_replaced():
    optimizer = MapOptimizer(GRID, n_initial=4)
    optimizer.register_failures(optimizer.suggest(3))
    run(optimizer, 4)
    assert all(optimizer.explain(i).reason == "initial design" for i in range(7))
    assert optimizer.explain(optimizer.suggest()[0]["_id"]).reason == "variance"


def test_points_of_somebody_else():
    optimizer = MapOptimizer(GRID)
    x, y = GRID.to_sample([(0.2e-9, 0.3e-9)])[0]
    (registered,) = optimizer.register_suggestions([{"x": x, "y": y, "note": "defect"}])
    assert registered["note"] == "defect"
    optimizer.ingest([{"_id": registered["_id"], KEY: 2e-12}])
    assert optimizer.explain(registered["_id"]).reason == "requested"
    optimizer.ingest([{"x": x, "y": y, KEY: 2.1e-12}, {"_id": "baseline", "x": x, "y": y, KEY: 0}])
    assert optimizer.n_points == 3
    ((identifier, position, outcomes),) = optimizer.get_best_points()
    assert (identifier, position, outcomes) == (1, {"x": x, "y": y}, {KEY: 2.1e-12})
    with pytest.raises(ValueError, match="outside the frame"):
        optimizer.register_suggestions([{"x": 0.0, "y": 0.0}])
    with pytest.raises(ValueError, match="no 'y'"):
        optimizer.register_suggestions([{"x": x}])


def test_the_measured_position_counts_and_may_be_a_little_outside():
    optimizer = MapOptimizer(GRID)
    (point,) = optimizer.suggest()
    x, y = GRID.to_sample([(1.52e-9, 0.0)])[0]
    optimizer.ingest([{**point, "x": x, "y": y, KEY: 1.0}])
    np.testing.assert_allclose(optimizer.gp.x_data, [[1.52 / 3, 0.0]], atol=1e-9)


def test_noise_that_was_measured_is_used():
    optimizer = MapOptimizer(GRID)
    for value, variance in ((1.0, 0.04), (2.0, None), (3.0, 0.0)):
        (point,) = optimizer.suggest()
        optimizer.ingest([{**point, KEY: value, f"{KEY}_variance": variance}])
    default = (0.03 * 2.0) ** 2
    np.testing.assert_allclose(optimizer.noise_variances, [0.04, default, 1e-3 * default])
    np.testing.assert_allclose(
        optimizer.gp.noise_variances * optimizer.scaling.scale**2, optimizer.noise_variances
    )


@pytest.mark.parametrize("value", [0.0, 3e-12, -5.0])
def test_equal_outcomes_are_no_problem(value):
    optimizer = MapOptimizer(GRID, acquisition="weighted", n_initial=2, target_std=1e-3)
    for _ in range(9):
        (point,) = optimizer.suggest()
        optimizer.ingest([{**point, KEY: value}])
    assert np.isfinite(optimizer.std_map()).all()
    np.testing.assert_allclose(optimizer.mean_map(), value, atol=1e-12 + 1e-9 * abs(value))
    assert optimizer.should_stop() == (False, None)


def test_one_outcome_is_enough_to_go_on():
    optimizer = MapOptimizer(GRID, n_initial=1)
    run(optimizer, 1)
    assert optimizer.mean_map().shape == (32, 32)
    assert optimizer.explain(optimizer.suggest()[0]["_id"]).reason == "variance"


def test_it_stops_when_the_map_is_certain():
    optimizer = MapOptimizer(GRID, target_std=0.1, min_points=10)
    stopped = []
    for _ in range(60):
        run(optimizer, 1)
        stopped.append(optimizer.should_stop()[0])
        if stopped[-1]:
            break
    assert 10 <= len(stopped) < 60
    average = optimizer.std_map().mean()
    assert average <= 0.1 * np.ptp(optimizer.mean_map())
    assert "wanted 0.1" in optimizer.should_stop()[1]


def test_a_small_grid_is_used_up():
    grid = Grid(0.0, 0.0, 1e-9, 1e-9, 0.0, 3, 2)
    optimizer = MapOptimizer(grid, n_initial=2)
    with pytest.raises(ValueError, match="7 points were asked for and 6 of 6"):
        optimizer.suggest(7)
    for i in range(6):
        assert not optimizer.should_stop()[0]
        (point,) = optimizer.suggest()
        optimizer.ingest([{**point, KEY: float(i % 3)}])
    assert optimizer.should_stop()[0]
    with pytest.raises(ValueError, match="0 of 6 candidates"):
        optimizer.suggest()


def test_a_checkpoint_goes_on_with_the_same_points(tmp_path):
    path = tmp_path / "optimizer.json"
    first = MapOptimizer(GRID, acquisition="weighted", checkpoint_path=path, max_points=50)
    run(first, 4)
    first.register_failures(first.suggest())
    run(first, 10)
    first.checkpoint()
    assert [entry.name for entry in tmp_path.iterdir()] == ["optimizer.json"]
    second = MapOptimizer.from_checkpoint(path)
    assert second.settings == first.settings
    np.testing.assert_allclose(second.mean_map(), first.mean_map(), atol=1e-22)
    assert second.explain(14).to_json() == first.explain(14).to_json()
    assert run(first, 12, seed=4) == run(second, 12, seed=4)


def test_points_under_way_are_free_after_a_restart():
    optimizer = MapOptimizer(GRID, n_initial=2)
    run(optimizer, 5)
    (lost,) = optimizer.suggest()
    again = MapOptimizer.from_state(json.loads(json.dumps(optimizer.state())))
    (point,) = again.suggest()
    assert (point["x"], point["y"]) == (lost["x"], lost["y"])
    assert point["_id"] == lost["_id"] + 1


def test_an_own_rule_is_taken_and_has_to_be_given_again():
    def lowest_index(mean, variance):
        return -np.arange(len(mean), dtype=float)

    optimizer = MapOptimizer(GRID, acquisition=lowest_index, n_initial=1)
    run(optimizer, 3)
    assert optimizer.explain(2).reason == "lowest_index"
    state = optimizer.state()
    with pytest.raises(ValueError, match="No acquisition function 'lowest_index'"):
        MapOptimizer.from_state(state)
    again = MapOptimizer.from_state(state, acquisition=lowest_index)
    assert again.suggest()[0]["x"] == optimizer.suggest()[0]["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a checkpoint"),
        ("[1]", "no JSON object"),
        ('{"version": 99}', "version 99"),
        ('{"version": 3, "settings": {}}', "damaged"),
    ],
)
def test_a_bad_checkpoint_is_refused(tmp_path, text, message):
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        MapOptimizer.from_checkpoint(path)
    with pytest.raises(ValueError, match="nowhere to write"):
        MapOptimizer(GRID).checkpoint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({KEY: math.nan}, "Point 1: figure_of_merit is nan"),
        ({KEY: -math.inf}, "finite"),
        ({KEY: "bright"}, "one finite number"),
        ({KEY: None}, "one finite number"),
        ({"_id": 12}, "never suggested"),
        ({"_id": "a"}, "never suggested"),
        ({"_id": 0}, "outcome already"),
        ({"x": 0.0}, "outside the frame"),
        ({"x": math.nan}, "x is nan"),
        ({f"{KEY}_variance": -1.0}, "not negative"),
    ],
)
def test_bad_points_are_refused_and_nothing_is_taken(change, message):
    optimizer = MapOptimizer(GRID)
    run(optimizer, 1)
    good, bad = optimizer.suggest(2)
    good, bad = bad, good
    before = optimizer.state()
    with pytest.raises(ValueError, match=message):
        optimizer.ingest([{**good, KEY: 1.0}, {**bad, KEY: 2.0, **change}])
    assert optimizer.state() == before
    optimizer.ingest([{**good, KEY: 1.0}, {**bad, KEY: 2.0}])


def test_missing_keys_are_named():
    optimizer = MapOptimizer(GRID)
    (point,) = optimizer.suggest()
    with pytest.raises(ValueError, match="no 'figure_of_merit'"):
        optimizer.ingest([point])
    with pytest.raises(ValueError, match="coordinates x and y"):
        optimizer.ingest([{KEY: 1.0}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": "rbf"}, "No kernel"),
        ({"acquisition": "best"}, "No acquisition function"),
        ({"n_initial": 0}, "n_initial is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": "7"}, "seed is '7'"),
        ({"max_points": 0}, "max_points is 0"),
        ({"target_std": -0.1}, "target_std is -0.1"),
        ({"relative_noise": math.nan}, "relative_noise is nan"),
        ({"train_at": (4, 0)}, "train_at is 0"),
        ({"parameters": ("x", "x")}, "two different names"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MapOptimizer(GRID, **arguments)
    with pytest.raises(ValueError, match="num_points is 0"):
        MapOptimizer(GRID).suggest(0)
    with pytest.raises(ValueError, match="no map before"):
        MapOptimizer(GRID).mean_map()


def test_import_is_light():
    code = (
        "import sys, bluesky_gpsts.surrogate\n"
        "heavy = {'gpcam', 'scipy', 'bluesky', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_outcomes_can_be_taken_back() -> None:
    def measured(count: int) -> MapOptimizer:
        optimizer = MapOptimizer(
            Grid(0.0, 0.0, 1e-9, 1e-9, 0.0, 12, 12), n_initial=3, train_at=(4, 8), seed=2
        )
        for _ in range(count):
            (point,) = optimizer.suggest()
            value = math.hypot(point["x"], point["y"])
            optimizer.ingest([{**point, "figure_of_merit": value * 1e9}])
        return optimizer

    optimizer = measured(10)
    taken = {m.id: (m.x, m.y) for m in optimizer._ledger.measured}
    optimizer.retract([8, 9])
    assert optimizer.n_points == 8
    with pytest.raises(ValueError, match="Point 8 has no outcome to take back"):
        optimizer.retract([8])
    with pytest.raises(ValueError, match="All outcomes would be taken back"):
        optimizer.retract(list(range(8)))
    # The map is that of the others, and the places are free again.
    decision = {"hyperparameters": optimizer.hyperparameters}
    x, y = np.array([taken[i] for i in range(8)]).T
    values = [math.hypot(*taken[i]) * 1e9 for i in range(8)]
    mean, _ = posterior_maps(
        optimizer.grid, x, y, values, optimizer.noise_variances, decision["hyperparameters"]
    )
    np.testing.assert_allclose(optimizer.mean_map(), mean, rtol=1e-7, atol=1e-9)
    left = 144 - 8
    places = {(p["x"], p["y"]) for p in optimizer.suggest(left)}
    assert {taken[8], taken[9]} <= places and len(places) == left


@pytest.mark.parametrize("points", [None, 3, {"x": 0.0, "y": 0.0, KEY: 1.0}, [3], "ab"])
def test_points_that_are_no_list_of_dicts_are_refused(points):
    optimizer = MapOptimizer(GRID)
    for method in (optimizer.ingest, optimizer.register_failures, optimizer.register_suggestions):
        with pytest.raises(ValueError, match="The points are .*; give a list of dicts"):
            method(points)
    assert optimizer.n_points == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({KEY: 1e300}, r"1e\+300; give values up to 1e\+60 in another unit"),
        ({KEY: -1e61}, r"-1e\+61; give values"),
        ({KEY: 10**400}, "give one finite number"),
        ({f"{KEY}_variance": 1e200}, r"1e\+200; give values up to 1e\+120"),
    ],
)
def test_an_outcome_of_an_impossible_size_is_refused(extra, message):
    optimizer = MapOptimizer(GRID)
    with pytest.raises(ValueError, match=message):
        optimizer.ingest([{"x": 100e-9, "y": -50e-9, KEY: 1.0, **extra}])
    assert optimizer.n_points == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-55, 1e60])
def test_the_smallest_and_largest_outcomes_make_a_map(size):
    optimizer = MapOptimizer(GRID, acquisition="weighted", n_initial=3, train_at=(4, 8))
    for number in range(12):
        (point,) = optimizer.suggest()
        optimizer.ingest([{**point, KEY: size * (0.2 + 0.8 * (number % 3 == 0))}])
    assert np.isfinite(optimizer.mean_map()).all() and np.isfinite(optimizer.std_map()).all()
