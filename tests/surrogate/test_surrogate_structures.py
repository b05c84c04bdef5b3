"""Structures: kernels against first principles and gpCAM, the gate, documents and checkpoints."""

import json

import numpy as np
import pytest

from bluesky_gpsts.surrogate import (
    Grid,
    Lattice,
    Library,
    MapOptimizer,
    Symmetry,
    Topograph,
    posterior_maps,
)
from bluesky_gpsts.surrogate.kernels import get_kernel
from bluesky_gpsts.surrogate.parts import add_part, rotations
from bluesky_gpsts.surrogate.structures import structure_from_json
from bluesky_gpsts.surrogate.training import Prior, log_posterior, structured_space

GRID = Grid(100e-9, -50e-9, 4e-9, 3e-9, 20.0, 21, 17)
KEY = "figure_of_merit"
CENTER = tuple(GRID.to_sample([(0.3e-9, -0.2e-9)])[0])
U, V = GRID.uv.T / 1e-9


def lobes(order=3, center=(0.3, -0.2), size=0.6):
    """Surface (M,) with a rotation axis; nm."""
    total = np.zeros(GRID.size)
    for k in range(order):
        angle = 0.4 + 2 * np.pi * k / order
        du, dv = U - center[0] - size * np.cos(angle), V - center[1] - size * np.sin(angle)
        total += np.exp(-(du**2 + dv**2) / (2 * 0.3**2))
    return total


IMAGE = GRID.as_map(np.sin(4 * U) + 0.3 * np.cos(3 * V))
MAPS = np.array([GRID.as_map(lobes(size=0.4 + 0.02 * k)) for k in range(12)])
STRUCTURES = {
    "C2": Symmetry("C2", CENTER),
    "C3": Symmetry("C3", CENTER),
    "C4": Symmetry("C4"),
    "C6": Symmetry("C6", CENTER),
    "mirror": Symmetry("mirror", CENTER),
    "C3v": Symmetry("C3", CENTER, mirror=True),
    "lattice": Lattice(((0.9e-9, 0.1e-9), (-0.3e-9, 0.8e-9))),
    "topograph": Topograph(IMAGE),
    "library": Library(MAPS),
}


def run(optimizer, surface, count, noise=0.02, seed=3):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        (point,) = optimizer.suggest()
        index = GRID.index_of(point["x"], point["y"])
        optimizer.ingest([{**point, KEY: float(surface[index] + noise * rng.normal())}])
    return optimizer


def kernel_of(structure):
    part = structure.part(GRID, "matern-5/2", 20 / 128, 1.8)
    return part, add_part(get_kernel("matern-5/2"), part)


@pytest.mark.parametrize("name", STRUCTURES)
def test_gradient_of_the_posterior_agrees_with_differences(name):
    part, kernel = kernel_of(STRUCTURES[name])
    space = structured_space(Prior(), part)
    rng = np.random.default_rng(0)
    x, y = rng.random((18, 2)) - 0.5, rng.normal(size=18)
    point = space.middle + 0.3 * space.sd * rng.normal(size=len(space.middle))
    args = (kernel, x, y, np.full(18, 0.02), space)
    _, analytic = log_posterior(point, *args)
    for i in range(len(point)):
        step = np.zeros(len(point))
        step[i] = 1e-6 * space.sd[i]
        high, low = log_posterior(point + step, *args)[0], log_posterior(point - step, *args)[0]
        numeric = (high - low) / (2 * step[i])
        assert analytic[i] == pytest.approx(numeric, rel=1e-4, abs=1e-4 / space.sd[i])


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_a_covariance(name):
    part, kernel = kernel_of(STRUCTURES[name])
    vector = np.concatenate([[0.3, 0.2, 0.3, 0.0], part.middle])
    matrix = kernel.function(GRID.unit, GRID.unit, vector)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9
    np.testing.assert_allclose(kernel.variance(GRID.unit, vector), np.diag(matrix), atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("C2", 2), ("C3", 3), ("C6", 6), ("C3v", 3)])
def test_symmetric_places_are_one_place(name, order):
    part, _ = kernel_of(STRUCTURES[name])
    center = GRID.to_unit([CENTER])[0]
    aspect = np.array([1.0, 3.0 / 4.0])
    x = np.array([[0.1, 0.05]])
    for turn in rotations(order):
        image = center + (((x - center) * aspect) @ turn.T) / aspect
        np.testing.assert_allclose(
            part.function(image, GRID.unit, part.middle),
            part.function(x, GRID.unit, part.middle),
            atol=1e-12,
        )


def test_lattice_points_are_one_place():
    part, _ = kernel_of(STRUCTURES["lattice"])
    x = np.array([[0.1, 0.05]])
    for vector in STRUCTURES["lattice"].vectors:
        shift = GRID.to_unit([np.array(vector) + (GRID.center_x, GRID.center_y)])[0]
        np.testing.assert_allclose(
            part.function(x + shift, GRID.unit, part.middle),
            part.function(x, GRID.unit, part.middle),
            atol=1e-9,
        )


@pytest.mark.parametrize("name", ["C3v", "lattice", "topograph", "library"])
def test_map_and_choice_equal_those_of_gpcam(name):
    optimizer = run(
        MapOptimizer(GRID, structure=STRUCTURES[name], train_at=(6, 9), acquisition="ucb"),
        lobes(),
        14,
    )
    gp = optimizer.gp
    scale = optimizer.scaling
    mean = gp.posterior_mean(GRID.unit)["m(x)"] * scale.scale + scale.offset
    variance = gp.posterior_covariance(GRID.unit, variance_only=True)["v(x)"]
    std = np.sqrt(np.maximum(variance, 0)) * scale.scale
    np.testing.assert_allclose(optimizer.mean_map().ravel(), mean, atol=1e-8)
    np.testing.assert_allclose(optimizer.std_map().ravel() ** 2, std**2, atol=1e-8)


@pytest.mark.parametrize("name", ["C3", "C3v", "lattice", "topograph", "library"])
def test_a_decision_rebuilds_the_map(name):
    surface = 1e-12 * lobes()
    optimizer = run(
        MapOptimizer(GRID, structure=STRUCTURES[name], train_at=(6,)), surface, 12, noise=1e-14
    )
    (point,) = optimizer.suggest()
    decision = type(optimizer.explain(0)).from_json(
        json.loads(json.dumps(optimizer.explain(point["_id"]).to_json()))
    )
    assert optimizer.uses_structure == bool(decision.structure)
    images = {"topograph": IMAGE, "library": MAPS}.get(name)
    table = [(m.x, m.y, m.value) for m in optimizer._ledger.measured]
    mean, std = posterior_maps(
        GRID,
        *np.array(table).T,
        optimizer.noise_variances,
        decision.hyperparameters,
        structure=decision.structure,
        images=images,
    )
    np.testing.assert_allclose(mean, optimizer.mean_map(), atol=1e-20)
    np.testing.assert_allclose(std, optimizer.std_map(), atol=1e-18)


def test_the_right_symmetry_gives_a_better_map_than_none():
    surface = lobes()
    spectra = 16
    blind = run(MapOptimizer(GRID, acquisition="weighted"), surface, spectra)
    aware = run(
        MapOptimizer(GRID, acquisition="weighted", structure=STRUCTURES["C3"]), surface, spectra
    )

    def r(optimizer):
        return np.corrcoef(optimizer.mean_map().ravel(), surface)[0, 1]

    assert aware.uses_structure
    assert r(aware) > 0.97
    assert r(aware) > r(blind) - 0.005


def test_what_is_wrong_is_dropped():
    rng = np.random.default_rng(8)
    wrong = Topograph(rng.normal(size=(GRID.ny, GRID.nx)))
    optimizer = run(MapOptimizer(GRID, structure=wrong, acquisition="weighted"), lobes(), 18)
    assert not optimizer.uses_structure
    assert optimizer.explain(17).structure == ""
    fourfold = Symmetry("C4", CENTER)
    optimizer = run(MapOptimizer(GRID, structure=fourfold, acquisition="weighted"), lobes(), 30)
    assert not optimizer.uses_structure


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_checkpoint_holds_the_structure(name):
    first = run(MapOptimizer(GRID, structure=STRUCTURES[name], train_at=(4, 8)), lobes(), 8)
    state = json.loads(json.dumps(first.state()))
    second = MapOptimizer.from_state(state)
    np.testing.assert_allclose(second.mean_map(), first.mean_map(), atol=1e-10)
    run(first, lobes(), 3)
    run(second, lobes(), 3)
    assert first.suggest(2) == second.suggest(2)


def test_an_image_that_is_another_is_refused():
    document = Topograph(IMAGE).describe()
    assert structure_from_json(document, IMAGE).digest == document["sha256"]
    with pytest.raises(ValueError, match="not the one"):
        structure_from_json(document, IMAGE + 1)
    with pytest.raises(ValueError, match="give the image"):
        structure_from_json(document)


def test_a_structure_as_plain_data_may_leave_out_what_has_a_default():
    assert structure_from_json({"structure": "symmetry"}) == Symmetry()
    vectors = [[1e-9, 0.0], [0.0, 1e-9]]
    found = structure_from_json({"structure": "lattice", "vectors": vectors})
    assert found == Lattice(((1e-9, 0.0), (0.0, 1e-9)))
    image = {"structure": "topograph", "image": Topograph(IMAGE).to_json()["image"]}
    assert structure_from_json(image).digest == Topograph(IMAGE).digest


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"structure": "quasicrystal"}, "No structure 'quasicrystal'; there are symmetry, lattice"),
        ({}, "No structure None"),
        ({"structure": ["symmetry"]}, "No structure"),
        (
            {"structure": "symmetry", "centre": [0, 0]},
            "A symmetry has no 'centre'; it has kind, ce",
        ),
        ({"structure": "symmetry", "sha256": "0"}, "A symmetry has no 'sha256'"),
        ({"structure": "symmetry", "center": "ab"}, "give two finite numbers"),
        ({"structure": "lattice"}, "A lattice needs 'vectors'"),
        ({"structure": "library", "maps": {"shape": [1]}}, "array of the library is damaged"),
    ],
)
def test_plain_data_that_is_no_structure_is_refused(state, message):
    with pytest.raises(ValueError, match=message):
        structure_from_json(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Symmetry("C5"), "No symmetry 'C5'"),
        (lambda: Symmetry("C3", (0.0, np.nan)), "two finite numbers"),
        (lambda: Symmetry("C3", None, center_error=0.0), "center_error"),
        (lambda: MapOptimizer(GRID, structure=Symmetry("C3", (0.0, 0.0))), "far outside"),
        (lambda: Lattice(((1e-9, 0.0), (2e-9, 0.0))), "one line"),
        (lambda: Topograph(np.full((4, 4), np.nan)), "not finite"),
        (lambda: MapOptimizer(GRID, structure=Topograph(np.eye(4))), "give it at the candidates"),
        (
            lambda: MapOptimizer(GRID, structure=Topograph(np.ones((GRID.ny, GRID.nx)))),
            "same everywhere",
        ),
        (lambda: Library(np.zeros((3, 4, 4))), "flat"),
        (lambda: Library(np.eye(4)), "3 dimensions"),
        (lambda: Library(MAPS, components=0), "components is 0; give a whole number"),
        (lambda: Library(MAPS, components=-1), "components is -1"),
        (lambda: Library(MAPS, components="a"), "components is 'a'"),
        (lambda: Topograph("x"), "The topograph is 'x'; give an array of numbers"),
        (lambda: Symmetry(["C3"]), "No symmetry"),
        (lambda: Symmetry(center=3), "The centre of a symmetry is 3; give two finite numbers"),
        (lambda: Symmetry(center="ab"), "The centre of a symmetry is 'ab'"),
        (lambda: Symmetry(center_error="a"), "center_error is 'a'; give metres above zero"),
        (lambda: Symmetry(mirror="no"), "mirror is 'no'; give True or False"),
        (lambda: Lattice((1, 2)), "A lattice vector is 1; give two finite numbers in metres"),
        (lambda: Lattice(3), r"give two, \(\(ax, ay\), \(bx, by\)\), in metres"),
        (lambda: Lattice(((1e-9, 0, 0), (0, 1e-9, 0))), "give two finite numbers in metres"),
        (lambda: Lattice(((1e-9, 0.0), (0.0, 1e-9)), error="a"), "error is 'a'"),
        (
            lambda: MapOptimizer(GRID, structure=Lattice(((0.3, 0.0), (0.0, 0.3)))),
            "A lattice vector of 0.3 m does not fit a frame of 4e-09 m; give the vectors in metres",
        ),
        (
            lambda: MapOptimizer(GRID, structure=Lattice(((3e-13, 0.0), (0.0, 3e-13)))),
            "A lattice vector of 3e-13 m does not fit",
        ),
    ],
)
def test_impossible_structures_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
