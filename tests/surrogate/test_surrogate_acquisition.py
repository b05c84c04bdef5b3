import numpy as np
import pytest

from bluesky_gpsts.surrogate import Grid
from bluesky_gpsts.surrogate.acquisition import Candidates
from bluesky_gpsts.surrogate.design import space_filling
from bluesky_gpsts.surrogate.scores import choose_highest, evaluate, get_acquisition

MEAN = np.array([1.0, 3.0, 2.0])
VARIANCE = np.array([4.0, 1.0, 0.0])


def test_rules():
    np.testing.assert_array_equal(get_acquisition("variance")(MEAN, VARIANCE), VARIANCE)
    np.testing.assert_array_equal(get_acquisition("ucb")(MEAN, VARIANCE), [7.0, 6.0, 2.0])


def candidates(signal, gap, structured=False):
    grid = Grid(0.0, 0.0, 1.0, 1.0, 0.0, len(signal), 1)
    one = np.ones(len(signal))
    return Candidates(grid, signal, 0.0, one, 0.1, 1.0, gap, signal, None, structured)


def test_weighted_goes_for_a_localised_signal():
    signal = np.array([0.0, 4.0, 0.0, 0.0, 0.0, 2.0])
    variance = np.array([4.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    scores = get_acquisition("weighted")(signal, variance, candidates(signal, np.arange(6.0)))
    np.testing.assert_allclose(scores, [0.6, 1.3, 0.0, 0.3, 0.3, 0.8])


def test_weighted_fills_the_gaps_of_an_extended_pattern():
    signal = np.array([0.0, 4.0, 2.0, 3.0])
    gap = np.array([0.1, 0.0, 0.4, 0.2])
    scores = get_acquisition("weighted")(signal, np.ones(4), candidates(signal, gap))
    np.testing.assert_allclose(scores, gap / 0.4)
    # A structure knows what is in the gaps.
    scores = get_acquisition("weighted")(signal, np.ones(4), candidates(signal, gap, True))
    np.testing.assert_allclose(scores, 0.3 + signal / 4.0)


def test_weighted_takes_a_flat_map():
    flat = np.full(3, 5.0)
    scores = get_acquisition("weighted")(flat, VARIANCE, candidates(flat, np.full(3, np.inf)))
    np.testing.assert_allclose(scores, 0.3 * np.sqrt(VARIANCE))


def test_unknown_name_lists_the_known():
    with pytest.raises(
        ValueError, match="variance, covariance, shannon information gain, ucb, lcb"
    ):
        get_acquisition("entropy search")


def test_a_callable_is_checked_when_called():
    with pytest.raises(ValueError, match=r"one score per candidate, shape \(3,\)"):
        evaluate(lambda mean, variance: mean[:2], MEAN, VARIANCE)
    with pytest.raises(ValueError, match="for candidate 2"):
        evaluate(lambda mean, variance: np.where(variance > 0, mean, np.nan), MEAN, VARIANCE)


def test_ties_go_to_the_lowest_index_whatever_the_rounding():
    scores = np.array([0.5, 1.0, 1.0 + 1e-13, 0.9])
    everything = np.ones(4, dtype=bool)
    assert choose_highest(scores, everything) == 1
    assert choose_highest(scores, np.array([True, False, False, True])) == 3
    assert choose_highest(np.zeros(4), everything) == 0
    assert choose_highest(-scores, everything) == 0
    with pytest.raises(ValueError, match="No candidate is left"):
        choose_highest(scores, ~everything)


def test_first_points_fill_the_frame():
    grid = Grid(0.0, 0.0, 1.0, 1.0, 0.0, 64, 64)
    for seed in range(20):
        sequence = space_filling(grid, seed)
        points = grid.unit[[next(sequence) for _ in range(16)]]
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        assert distance[np.triu_indices(16, 1)].min() > 0.1
        # Every quarter of the frame has its share.
        quarter = (points[:, 0] > 0) * 2 + (points[:, 1] > 0)
        assert np.bincount(quarter, minlength=4).min() >= 2


def test_the_order_of_first_points_reaches_every_candidate():
    grid = Grid(0.0, 0.0, 1.0, 1.0, 0.0, 7, 5)
    sequence = space_filling(grid, 1)
    assert {next(sequence) for _ in range(400)} == set(range(35))
