"""Acquisition functions against gpCAM, functions of the user, cost, batches, stopping, spectra."""

import json
import math
import threading

import numpy as np
import pytest

from bluesky_gpsts.surrogate import (
    ACQUISITIONS,
    Candidates,
    Grid,
    MapOptimizer,
    Prior,
    spectral_cube,
)
from bluesky_gpsts.surrogate.acquisition import COSTS
from bluesky_gpsts.surrogate.scores import discount, evaluate, get_acquisition, get_cost

GRID = Grid(0.0, 0.0, 3e-9, 3e-9, 0.0, 24, 20)
KEY = "figure_of_merit"
U, V = GRID.unit.T
SURFACE = np.exp(-((U - 0.1) ** 2 + (V + 0.15) ** 2) / (2 * 0.12**2))


def run(optimizer, count, seed=0, surface=SURFACE, noise=0.01):
    rng = np.random.default_rng(seed)
    points = []
    for _ in range(count):
        (point,) = optimizer.suggest()
        index = GRID.index_of(point["x"], point["y"])
        points.append({**point, KEY: float(surface[index] + noise * rng.normal())})
        optimizer.ingest([points[-1]])
    return points


def candidates_of(optimizer, target=None):
    model = optimizer._model
    squared = optimizer.scaling.scale**2
    return Candidates(
        GRID,
        model.mean,
        float(model.hyperparameters[3]),
        model.cache.prior_variance * squared,
        model.scaling.default_variance,
        max(m.value for m in optimizer._ledger.measured),
        np.ones(GRID.size),
        model.mean,
        target,
    )


@pytest.mark.parametrize("structure", [None, "C3"])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("variance", "variance"),
        ("ucb", "ucb"),
        ("lcb", "lcb"),
        ("expected improvement", "expected improvement"),
        ("relative information entropy", "relative information entropy set"),
    ],
)
def test_scores_are_those_of_gpcam(name, theirs, structure):
    from gpcam.surrogate_model import evaluate_gp_acquisition_function

    from bluesky_gpsts.surrogate import Symmetry

    optimizer = MapOptimizer(
        GRID, train_at=(6,), structure=None if structure is None else Symmetry(structure)
    )
    run(optimizer, 14)
    model, scale = optimizer._model, optimizer.scaling
    ours = evaluate(get_acquisition(name), model.mean, model.variance, candidates_of(optimizer))
    # Single candidates, because some of gpCAM's functions take the set as a whole.
    chosen = np.arange(0, GRID.size, 37)
    gp = optimizer.gp
    reference = np.array(
        [
            np.ravel(evaluate_gp_acquisition_function(GRID.unit[[i]], theirs, gp, None))[0]
            for i in chosen
        ]
    )
    found = ours[chosen]
    if name == "variance":
        found = np.sqrt(found) / scale.scale
    elif name == "ucb":
        found = (found - scale.offset) / scale.scale
    elif name == "lcb":
        found = (found + scale.offset) / scale.scale
    elif name == "expected improvement":
        found = found / scale.scale
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=2e-6)


def test_total_correlation_ranks_as_gpcam_does_without_noise():
    from scipy.stats import spearmanr

    optimizer = MapOptimizer(GRID, train_at=(6,))
    run(optimizer, 14)
    model = optimizer._model
    ours = evaluate(
        get_acquisition("total correlation"), model.mean, model.variance, candidates_of(optimizer)
    )
    chosen = np.arange(0, GRID.size, 37)
    theirs = [
        -optimizer.gp.gp_total_correlation(GRID.unit[[i]])["total correlation"] for i in chosen
    ]
    assert spearmanr(ours[chosen], theirs).statistic > 0.99


def test_what_is_monotone_in_the_variance_chooses_the_same():
    chosen = {}
    for name in ("variance", "covariance", "shannon information gain", "total correlation"):
        optimizer = MapOptimizer(GRID, acquisition=name, n_initial=4)
        chosen[name] = [(p["x"], p["y"]) for p in run(optimizer, 14)]
    assert len({json.dumps(points) for points in chosen.values()}) == 1


def test_every_name_gives_a_finite_score():
    for name in ACQUISITIONS:
        optimizer = MapOptimizer(GRID, acquisition=name, target_range=(0.4, 0.6), n_initial=2)
        run(optimizer, 9)
        assert math.isfinite(optimizer.explain(8).acquisition_value)
        assert optimizer.explain(8).reason == name


def test_target_probability_looks_for_the_range_and_needs_one():
    optimizer = MapOptimizer(GRID)
    run(optimizer, 30)
    model = optimizer._model
    scores = evaluate(
        get_acquisition("target probability"),
        model.mean,
        model.variance,
        candidates_of(optimizer, (0.45, 0.55)),
    )
    assert 0.4 < SURFACE[np.argmax(scores)] < 0.6
    with pytest.raises(ValueError, match=r"needs target_range=\(low, high\)"):
        MapOptimizer(GRID, acquisition="target probability")
    with pytest.raises(ValueError, match="target_range is"):
        MapOptimizer(GRID, target_range=(1.0, 0.0))


def to_the_right(mean, variance, candidates):
    return candidates.xy[:, 0]


def twice_as_long(origin, xy):
    return np.ones(len(xy)) + (xy[:, 0] < origin[0])


def fails(mean, variance):
    raise ZeroDivisionError("no signal")


def test_functions_of_the_user_by_name():
    optimizer = MapOptimizer(GRID, acquisition=f"{__name__}:to_the_right", n_initial=1)
    points = run(optimizer, 4)
    assert all(p["x"] == pytest.approx(GRID.xy[:, 0].max()) for p in points[1:])
    again = MapOptimizer.from_state(json.loads(json.dumps(optimizer.state())))
    assert again.suggest() == optimizer.suggest()
    with pytest.raises(ValueError, match="cannot be had"):
        MapOptimizer(GRID, acquisition="no_such_module:rule")
    with pytest.raises(
        ValueError, match="The acquisition function 'math:pi' is .*must be a function"
    ):
        MapOptimizer(GRID, acquisition="math:pi")


def test_a_function_that_fails_is_named_and_the_loop_can_go_on():
    optimizer = MapOptimizer(GRID, acquisition=fails, n_initial=1)
    run(optimizer, 1)
    with pytest.raises(ValueError, match="fails raised ZeroDivisionError: no signal"):
        optimizer.suggest()
    optimizer.ingest([{"x": 0.0, "y": 0.0, KEY: 1.0}])
    assert optimizer.n_points == 2
    cost = MapOptimizer(GRID, cost=lambda origin, xy: np.zeros(len(xy)), n_initial=1)
    run(cost, 1)
    with pytest.raises(ValueError, match="a cost must be finite and above zero"):
        cost.suggest()
    with pytest.raises(ValueError, match="returned shape"):
        discount(
            np.ones(GRID.size), lambda o, xy: 1.0, np.zeros(2), GRID.xy, np.ones(GRID.size, bool)
        )


def test_only_the_cost_of_what_may_be_chosen_counts():
    """The way to the last point is 0, and that point is not chosen again."""
    ways = []

    def way(origin, xy):
        ways.append(np.hypot(*(xy - origin).T))
        return ways[-1]

    points = run(MapOptimizer(GRID, cost=way, n_initial=2), 12)
    assert all(found.min() == 0.0 for found in ways) and len(ways) == 10
    assert len({(p["x"], p["y"]) for p in points}) == 12
    blocked = MapOptimizer(GRID, cost=lambda o, xy: np.where(xy[:, 0] > 0, 0.0, 1.0), n_initial=1)
    run(blocked, 1)
    with pytest.raises(ValueError, match="a cost must be finite and above zero"):
        blocked.suggest()


def test_a_cost_of_the_way_makes_it_shorter():
    def way(**arguments):
        points = run(MapOptimizer(GRID, n_initial=2, acquisition="weighted", **arguments), 30)
        xy = np.array([(p["x"], p["y"]) for p in points])
        return np.linalg.norm(np.diff(xy, axis=0), axis=1).sum()

    assert way(cost="distance") < 0.8 * way()
    assert get_cost("distance") is COSTS["distance"]
    assert get_cost(f"{__name__}:twice_as_long") is twice_as_long
    with pytest.raises(ValueError, match="No cost function 'time'"):
        MapOptimizer(GRID, cost="time")


def test_a_batch_is_chosen_jointly():
    optimizer = MapOptimizer(GRID, acquisition="covariance", n_initial=3)
    run(optimizer, 12)
    gp = optimizer.gp

    def volume(indices):
        return np.linalg.det(gp.posterior_covariance(GRID.unit[indices])["S"])

    free = np.sort(optimizer.std_map().ravel())
    batch = [GRID.index_of(p["x"], p["y"]) for p in optimizer.suggest(4)]
    best_alone = np.argsort(-optimizer.std_map().ravel(), kind="stable")[:4]
    assert volume(batch) > 1.5 * volume(best_alone)
    assert free[-1] > 0
    rng = np.random.default_rng(0)
    others = [volume(rng.permutation(GRID.size)[:4]) for _ in range(200)]
    assert volume(batch) > max(others)


def test_training_does_not_hold_up_a_suggestion(monkeypatch):
    from bluesky_gpsts.surrogate import model

    gate = threading.Event()
    original = model.maximise

    def slow(*args):
        assert gate.wait(30)
        return original(*args)

    optimizer = MapOptimizer(GRID, train_at=(4, 8))
    run(optimizer, 7)
    monkeypatch.setattr(model, "maximise", slow)
    run(optimizer, 1)
    (point,) = optimizer.suggest()
    before = optimizer.hyperparameters[:3]
    gate.set()
    optimizer.ingest([{**point, KEY: 0.5}])
    assert not np.array_equal(optimizer.hyperparameters[:3], before)


def test_an_error_in_training_is_not_lost(monkeypatch):
    from bluesky_gpsts.surrogate import model

    optimizer = MapOptimizer(GRID, train_at=(4,))

    def broken(*args):
        raise MemoryError("too large")

    monkeypatch.setattr(model, "maximise", broken)
    run(optimizer, 4)
    with pytest.raises(MemoryError, match="too large"):
        optimizer.ingest([{"x": 0.0, "y": 0.0, KEY: 1.0}])


def test_a_run_is_rebuilt_from_its_documents():
    first = MapOptimizer(GRID, acquisition="weighted", train_at=(4, 7, 11), seed=6)
    points = run(first, 5)
    lost = first.suggest()
    first.register_failures(lost)
    points += [{**lost[0], KEY: math.nan}, *run(first, 8)]
    second = MapOptimizer(GRID, acquisition="weighted", train_at=(4, 7, 11), seed=6)
    second.replay(
        [p["x"] for p in points],
        [p["y"] for p in points],
        [p[KEY] for p in points],
        np.full(len(points), np.nan),
    )
    np.testing.assert_array_equal(second.mean_map(), first.mean_map())
    assert second.suggest(3) == first.suggest(3)
    with pytest.raises(ValueError, match="replay a run into a new one"):
        second.replay([0.0], [0.0], [1.0], [np.nan])


def test_a_warm_start_knows_the_length():
    wide = Grid(0.0, 0.0, 6e-9, 6e-9, 0.0, 8, 8)
    prior = Prior.learned([GRID, wide], [[1e-24, 0.3e-9, 0.3e-9, 0.0]] * 2, wide)
    assert 0.05 < prior.length < 0.09
    assert 1.25 <= prior.length_factor < 1.8
    with pytest.raises(ValueError, match="at least one"):
        Prior.learned([], [], GRID)


def test_it_stops_at_the_wanted_correlation_and_that_is_true():
    optimizer = MapOptimizer(GRID, acquisition="weighted", target_correlation=0.95)
    for count in range(1, 90):
        run(optimizer, 1, seed=count)
        stop, reason = optimizer.should_stop()
        if stop:
            break
    assert stop and "wanted 0.95" in reason
    assert optimizer.estimated_correlation() >= 0.95
    assert np.corrcoef(optimizer.mean_map().ravel(), SURFACE)[0, 1] > 0.93


@pytest.mark.parametrize("value", [0.0, 2e-12])
def test_a_flat_surface_has_no_correlation(value):
    optimizer = MapOptimizer(GRID, n_initial=2)
    run(optimizer, 8, surface=np.full(GRID.size, value), noise=0.0)
    assert optimizer.estimated_correlation() == 0.0


def test_whole_spectra_over_the_frame():
    bias = np.linspace(-1, 1, 60)
    peak, slope = np.exp(-((bias - 0.3) ** 2) / 0.02), 0.3 * bias**2
    other = np.exp(-(U**2 + V**2) / 0.02)
    truth = 1e-10 * (1 + SURFACE[:, None] * peak + other[:, None] * slope)
    optimizer = MapOptimizer(GRID, acquisition="weighted")
    points = run(optimizer, 45)
    index = [GRID.index_of(p["x"], p["y"]) for p in points]
    rng = np.random.default_rng(2)
    spectra = truth[index] + 2e-12 * rng.normal(size=(45, 60))
    decision = optimizer.explain(optimizer.suggest()[0]["_id"])
    xy = GRID.xy[index]
    cube = spectral_cube(GRID, *xy.T, spectra, optimizer.noise_variances, decision)
    assert cube.shape == (20, 24, 60)
    flat = cube.reshape(-1, 60)
    for energy in (39, 0):
        assert np.corrcoef(flat[:, energy], truth[:, energy])[0, 1] > 0.95
    # Better than the nearest spectrum: the noise is gone.
    assert np.sqrt(np.mean((flat - truth) ** 2)) < 4e-12
    document = {"hyperparameters": decision.hyperparameters.tolist()}
    again = spectral_cube(GRID, *xy.T, spectra, optimizer.noise_variances, document)
    np.testing.assert_array_equal(again, cube)
    spectra[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"check points \[3\]"):
        spectral_cube(GRID, *xy.T, spectra, optimizer.noise_variances, decision)
    with pytest.raises(ValueError, match="one row per position"):
        spectral_cube(GRID, *xy.T, spectra[0], optimizer.noise_variances, decision)


def test_classes_draw_points_to_where_they_are_uncertain():
    """The left half is certain, the right half is new or undecided."""
    optimizer = MapOptimizer(GRID, acquisition="class", n_initial=16, train_at=(16,))
    points = run(optimizer, 16)
    for point in points:
        certain = point["x"] < GRID.center_x
        probabilities = [1.0, 0.0, 0.0] if certain else [0.4, 0.3, 0.3]
        optimizer.inform(point["_id"], probabilities, 0.0 if certain else 0.6)
    chosen = optimizer.suggest(8)
    assert sum(point["x"] > GRID.center_x for point in chosen) >= 7
    again = MapOptimizer.from_state(json.loads(json.dumps(optimizer.state())))
    named = again._ledger.classes[points[0]["_id"]]
    np.testing.assert_array_equal(named[0], optimizer._ledger.classes[points[0]["_id"]][0])


@pytest.mark.parametrize(
    ("identifier", "probabilities", "novelty", "message"),
    [
        (99, [0.5, 0.5], 0.0, "Point 99 was never suggested"),
        (1, [0.5, np.nan], 0.0, "all between 0 and 1"),
        (1, [0.5, 0.5], 2.0, "all between 0 and 1"),
        (1, [0.2, 0.3, 0.5], 0.0, "the same classes as before"),
    ],
)
def test_bad_classes_are_refused(identifier, probabilities, novelty, message):
    optimizer = MapOptimizer(GRID, acquisition="class")
    run(optimizer, 3)
    optimizer.inform(0, [0.5, 0.5], 0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.inform(identifier, probabilities, novelty)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": {"length": 0.1}}, "give a Prior, such as"),
        ({"structure": "C3"}, "structure is 'C3'; give a Symmetry, Lattice"),
        ({"target_range": 3}, r"target_range is 3; give \(low, high\)"),
        ({"target_range": ("a", "b")}, r"target_range is \('a', 'b'\)"),
        ({"target_range": (1.0, 0.0)}, "the lower one first"),
        ({"target_correlation": "0.9"}, "is '0.9'; give a number between 0 and 1"),
        ({"target_correlation": 1.5}, "is 1.5; give a number between 0 and 1"),
        ({"target_correlation": 1.0}, "is 1.0; give a number between 0 and 1"),
        ({"acquisition": ["ucb"]}, r"No acquisition function \['ucb'\]"),
        ({"cost": 3}, "No cost function 3"),
        ({"kernel": ["matern-5/2"]}, "No kernel"),
        ({"grid": 3}, "grid is 3; give a Grid"),
        ({"background": "no"}, "background is 'no'; give True or False"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MapOptimizer(**{"grid": GRID, **arguments})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": -1}, "length of the prior is -1; give a number between 0.005 and 20 of the"),
        ({"length": math.nan}, "length of the prior is nan"),
        ({"length": math.inf}, "length of the prior is inf"),
        ({"length": 1e9}, "length of the prior is 1000000000.0"),
        ({"length": 1e-9}, "length of the prior is 1e-09"),
        ({"length": "0.1"}, "length of the prior is '0.1'"),
        ({"length_factor": 0.5}, "length_factor of the prior is 0.5; give a number between 1 and"),
        ({"signal_variance": 0.0}, "signal_variance of the prior is 0.0"),
        ({"signal_factor": 1.0}, "signal_factor of the prior is 1.0"),
    ],
)
def test_impossible_priors_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Prior(**fields)


@pytest.mark.parametrize("length", [1e-15, 1e-3])
def test_a_warm_start_from_frames_of_another_size_stays_in_range(length):
    assert 0.005 < Prior.learned([GRID], [[1.0, length, length, 0.0]], GRID).length < 20
