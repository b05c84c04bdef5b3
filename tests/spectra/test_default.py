"""The default classifier: as shipped, on tips it has not seen; training; arrays and back."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.classifier_scores import Judged, area, judge
from bluesky_gpsts.spectra import Classifier
from bluesky_gpsts.spectra.default import DefaultClassifier
from bluesky_gpsts.spectra.kinds import CLASSES, UNKNOWN
from bluesky_gpsts.spectra.network import build, fold, forward, tensors
from bluesky_gpsts.spectra.registry import load
from bluesky_gpsts.spectra.simulate import simulate
from bluesky_gpsts.spectra.splits import session_split
from bluesky_gpsts.spectra.training import train_default, train_on


@pytest.fixture(scope="module")
def shipped():
    return load("default")


@pytest.fixture(scope="module")
def hard():
    return simulate(9000, difficulty=1.5, sessions=6)


def test_shipped_classes_and_size(shipped):
    assert isinstance(shipped, DefaultClassifier) and isinstance(shipped, Classifier)
    assert shipped.classes == CLASSES
    arrays, _ = shipped.to_arrays()
    assert sum(array.nbytes for array in arrays.values()) < 1e6


def test_new_tips_on_hard_data(shipped, hard):
    judged = judge(shipped, hard)
    assert judged.balanced_accuracy > 0.88
    assert judged.calibration_error < 0.06


@pytest.mark.parametrize(
    "changes", [{"noise": 3.0}, {"bias_shift": 0.04}, {"points": 512}, {"ranges": 0.15}]
)
def test_shifts(shipped, changes):
    judged = judge(shipped, simulate(9001, difficulty=1.5, sessions=6, **changes))
    assert judged.balanced_accuracy > 0.84


def test_easy_data_are_all_right(shipped):
    judged = judge(shipped, simulate(9002, difficulty=0.3, sessions=4))
    assert judged.balanced_accuracy > 0.995
    assert judged.accepted > 0.9


def test_unknown_kinds_are_stranger_than_the_classes(shipped, hard):
    strange = judge(shipped, simulate(9003, dict.fromkeys(UNKNOWN, 30), difficulty=1.5, sessions=5))
    ordinary = judge(shipped, hard)
    assert area(ordinary.novelty, strange.novelty) > 0.93


def test_neither_company_nor_direction_nor_gain_changes_an_answer(shipped, hard):
    session = hard[0]
    together = shipped.classify(session.bias, session.didv)
    alone = shipped.classify(session.bias, session.didv[3:4])
    np.testing.assert_allclose(alone.probabilities, together.probabilities[3:4], atol=1e-4)
    back = shipped.classify(session.bias[::-1], session.didv[:, ::-1])
    np.testing.assert_allclose(back.probabilities, together.probabilities, atol=1e-3)
    louder = shipped.classify(session.bias, 5.0 * session.didv)
    np.testing.assert_allclose(louder.probabilities, together.probabilities, atol=1e-3)


def test_no_spectra_give_no_answers(shipped):
    found = shipped.classify(np.linspace(-1, 1, 100), np.zeros((0, 100)))
    assert len(found) == 0 and found.probabilities.shape == (0, 4)


def test_arrays_and_back(shipped, hard):
    again = DefaultClassifier.from_arrays(*shipped.to_arrays())
    session = hard[-1]
    first, second = (c.classify(session.bias, session.didv) for c in (shipped, again))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.novelty, second.novelty)


def test_arrays_that_do_not_fit_are_refused(shipped):
    arrays, settings = shipped.to_arrays()
    cases = [
        ({k: v for k, v in arrays.items() if k != "stem.weight"}, settings, "stem.weight"),
        ({**arrays, "stem.bias": np.zeros(3)}, settings, "stem.bias"),
        ({**arrays, "stem.bias": np.full(32, np.nan)}, settings, "finite"),
        ({**arrays, "head.centres": np.zeros((2, 2))}, settings, "head.centres"),
        (arrays, {}, "outputs"),
        (arrays, {**settings, "head": {}}, "classes"),
    ]
    for weights, told, match in cases:
        with pytest.raises(ValueError, match=match):
            DefaultClassifier.from_arrays(weights, told)


def test_folded_weights_compute_what_the_trained_network_does():
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(5)
        x = torch.randn(8, 4, 400)
        for _ in range(3):
            net(x)
    net.eval()
    with torch.no_grad():
        wanted = net(x)
    for one, other in zip(forward(tensors(fold(net), 5), x), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_training_on_sessions_learns_them():
    sessions = simulate(20, dict.fromkeys(CLASSES, 32), difficulty=0.3, sessions=4, points=300)
    kept, held = session_split(sessions, 0.5, 0)
    trained = train_on(kept, 3, epochs=4, copies=10, progress=False)
    assert judge(trained, held).balanced_accuracy > 0.9


def test_one_seed_gives_one_training():
    sessions = simulate(20, dict.fromkeys(CLASSES, 8), difficulty=0.3, sessions=2, points=200)
    first, again, other = (
        train_on(sessions, seed, epochs=1, copies=4, progress=False).to_arrays()[0]
        for seed in (3, 3, 4)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["stem.weight"], other["stem.weight"])


def test_scores():
    assert area(np.array([1.0, 2.0]), np.array([3.0, 2.0])) == 0.875
    labels, sure = np.array(["a", "a", "b", "b"]), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]])
    judged = Judged(labels, ("a", "b"), sure, np.zeros(4))
    assert (judged.recall("a"), judged.balanced_accuracy) == (1.0, 0.75)
    assert judged.calibration_error == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.2)


def test_training_on_simulated_sessions_runs_whole():
    trained = train_default(1, sessions=12, epochs=1, progress=False)
    assert trained.classes == CLASSES
    (session,) = simulate(0, {"WS2": 3}, sessions=1)
    assert len(trained.classify(session.bias, session.didv)) == 3
    with pytest.raises(ValueError, match="12 or more"):
        train_default(sessions=3)


def test_training_refuses_what_it_cannot_learn_from():
    sessions = simulate(0, {"WS2": 6}, sessions=2, points=100)
    with pytest.raises(ValueError, match="two classes"):
        train_on(sessions)
    mixed = simulate(0, {"WS2": 6, "V_S": 1}, sessions=1, points=100)
    with pytest.raises(ValueError, match="V_S: 1"):
        train_on(mixed)
