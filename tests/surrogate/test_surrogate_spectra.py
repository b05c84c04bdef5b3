"""Whole spectra as outcomes: the map is good at every bias, and not only in the window."""

import json

import numpy as np
import pytest

from bluesky_gpsts.surrogate import Grid, MapOptimizer, spectral_cube
from bluesky_gpsts.surrogate.outputs import Basis, signal_of

GRID = Grid(0.0, 0.0, 4e-9, 4e-9, 0.0, 32, 32)
BIAS = np.linspace(-1.0, 1.0, 120)
U, V = GRID.unit.T


def blob(u, v, width):
    return np.exp(-((U - u) ** 2 + (V - v) ** 2) / (2 * width**2))


# One defect with a state inside the window, another one with a state outside.
CUBE = 1e-10 * (
    np.outer(np.ones(GRID.size), 1.0 + 0.2 * BIAS**2)
    + np.outer(blob(-0.2, 0.2, 0.1), np.exp(-((BIAS - 0.3) ** 2) / 0.02))
    + np.outer(blob(0.25, -0.2, 0.1), np.exp(-((BIAS + 0.6) ** 2) / 0.02))
)
WINDOW = (BIAS > 0.1) & (BIAS < 0.5)
NOISE = 2e-12


def run(optimizer, count, seed=0):
    rng = np.random.default_rng(seed)
    rows, spectra = [], []
    for _ in range(count):
        (point,) = optimizer.suggest()
        index = GRID.index_of(point["x"], point["y"])
        spectrum = CUBE[index] + NOISE * rng.standard_normal(len(BIAS))
        outcome = {"figure_of_merit": float(spectrum[WINDOW].sum()), "spectrum": spectrum}
        outcome["figure_of_merit_variance"] = NOISE**2 * np.count_nonzero(WINDOW)
        optimizer.ingest([{**point, **outcome}])
        rows.append((point["x"], point["y"]))
        spectra.append(spectrum)
    return np.array(rows), np.array(spectra)


def correlation_at(optimizer, xy, spectra, bias):
    """Pearson's r of the map at one bias with the truth."""
    cube = spectral_cube(
        GRID, *xy.T, spectra, NOISE**2, {"hyperparameters": optimizer.hyperparameters}
    )
    column = int(np.argmin(np.abs(BIAS - bias)))
    return np.corrcoef(cube[..., column].ravel(), CUBE[:, column])[0, 1]


def test_spectra_find_what_the_window_does_not_show():
    found = {}
    for components in (0, 3):
        optimizer = MapOptimizer(
            GRID, acquisition="weighted", components=components, background=False
        )
        xy, spectra = run(optimizer, 40)
        found[components] = [correlation_at(optimizer, xy, spectra, bias) for bias in (0.3, -0.6)]
    assert found[3][0] > 0.95
    assert found[3][1] > 0.95
    assert found[3][1] > found[0][1]


def test_basis_leaves_noise_out():
    rng = np.random.default_rng(1)
    spectra = CUBE[rng.permutation(GRID.size)[:60]]
    noisy = spectra + NOISE * rng.standard_normal(spectra.shape)
    basis = Basis.of(noisy, 10)
    assert len(basis.scales) == 2
    scores = basis.scores(noisy)
    np.testing.assert_allclose(scores.std(axis=0), 1.0, rtol=1e-6)
    back = basis.level + (scores * basis.scales) @ basis.shapes
    assert np.abs(back - spectra).max() < 3 * NOISE
    # The same to the last bit after JSON.
    again = Basis.from_json(json.loads(json.dumps(basis.to_json())))
    np.testing.assert_array_equal(again.shapes, basis.shapes)


def test_equal_spectra_have_no_components():
    assert len(Basis.of(np.ones((7, 50)), 3).scales) == 0
    optimizer = MapOptimizer(GRID, components=3, background=False)
    for _ in range(9):
        (point,) = optimizer.suggest()
        optimizer.ingest([{**point, "figure_of_merit": 1.0, "spectrum": np.ones(50)}])
    assert np.isfinite(optimizer.mean_map()).all()


def test_signal_is_the_distance_from_the_commonest_spectrum():
    means = np.array([[1.0, 1.0, 1.0, 4.0], [0.0, 0.0, 4.0, 0.0]])
    np.testing.assert_allclose(signal_of(means, np.array([2.0, 1.0])), [0.0, 0.0, 4.0, 6.0])


def test_state_goes_on_with_the_same_choice():
    first = MapOptimizer(GRID, acquisition="weighted", components=3)
    run(first, 14)
    state = json.loads(json.dumps(first.state()))
    second = MapOptimizer.from_state(state)
    assert run(second, 4, seed=3)[0].tolist() == run(first, 4, seed=3)[0].tolist()


def test_replay_of_spectra():
    first = MapOptimizer(GRID, acquisition="weighted", components=3)
    xy, spectra = run(first, 14)
    second = MapOptimizer(GRID, acquisition="weighted", components=3)
    values = spectra[:, WINDOW].sum(axis=1)
    variances = np.full(14, NOISE**2 * np.count_nonzero(WINDOW))
    second.replay(*xy.T, values, variances, spectra)
    assert second.suggest()[0]["x"] == first.suggest()[0]["x"]


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        (None, "has no 'spectrum'"),
        (np.full(120, np.nan), "120 values that are not finite"),
        (np.ones((2, 60)), r"has shape \(2, 60\)"),
        (np.ones(2), "three finite values or more"),
        (np.ones(119), "has 119 values and those before have 120"),
    ],
)
def test_bad_spectra_are_refused(spectrum, message):
    optimizer = MapOptimizer(GRID, components=3)
    run(optimizer, 1)
    (point,) = optimizer.suggest()
    point["figure_of_merit"] = 1.0
    if spectrum is not None:
        point["spectrum"] = spectrum
    with pytest.raises(ValueError, match=message):
        optimizer.ingest([point])
    assert optimizer.n_points == 1
