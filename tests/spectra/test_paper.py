"""The published network: its shapes, its protocol, and what it does with bad spectra."""

import warnings

import numpy as np
import pytest
import torch

from bluesky_gpsts.spectra import Classifier, Session
from bluesky_gpsts.spectra.paper import POINTS, PaperCNN, build_network, inputs
from bluesky_gpsts.spectra.paper_training import split, train
from bluesky_gpsts.spectra.simulate import PAPER_COUNTS

BIAS = np.linspace(-1.0, 1.0, 150)


def sessions(per_session: int = 30, noise: float = 0.05) -> tuple[Session, ...]:
    """Two kinds of peak on a slope, on two bias axes."""
    found = []
    for seed, points in enumerate((150, 111)):
        rng = np.random.default_rng(seed)
        bias = np.linspace(-1.0, 1.0, points)
        labels = np.where(np.arange(per_session) % 3, "right", "left")
        centre = np.where(labels == "left", -0.4, 0.4)[:, None]
        didv = 0.6 + np.exp(-(((bias - centre) / 0.2) ** 2)) + 0.3 * bias
        didv = didv + noise * rng.normal(size=didv.shape)
        found.append(Session(f"tip {seed}", bias, 1e-10 * didv, labels))
    return tuple(found)


@pytest.fixture(scope="module")
def trained():
    return train(sessions(), seed=2, epochs=5, chosen=4, progress=False)


def test_the_network_has_the_published_shapes_and_size():
    network = build_network(4)
    assert sum(p.numel() for p in network.parameters()) == 638_724
    shapes = []
    x = torch.zeros(3, 1, POINTS)
    for layer in network.eval():
        x = layer(x)
        shapes.append(tuple(x.shape))
    assert shapes[3] == (3, 64, 1199) and shapes[7] == (3, 128, 1198) and shapes[-1] == (3, 4)
    convolution, linear = network[0], network[-1]
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3,), (1,), (1,))
    assert linear.in_features == 1198 * 128
    assert any(isinstance(layer, torch.nn.Dropout) for layer in network)


def test_inputs_have_1200_points_and_run_from_0_to_1():
    rng = np.random.default_rng(0)
    for points in (2, 90, 1200, 5000):
        values = 1e-10 * rng.normal(size=(4, points))
        bias = np.linspace(-1.0, 1.0, points)
        prepared = inputs(bias, values)
        assert prepared.shape == (4, POINTS) and prepared.dtype == np.float32
        scaled = (values - values.min(1, keepdims=True)) / np.ptp(values, axis=1)[:, None]
        index = np.linspace(0, points - 1, POINTS)
        expected = [np.interp(index, np.arange(points), row) for row in scaled]
        np.testing.assert_allclose(prepared, expected, atol=1e-6)
        turned = inputs(bias[::-1], values[:, ::-1])
        np.testing.assert_array_equal(turned, prepared)
    assert not inputs(np.arange(50.0), np.full((1, 50), 3e-9)).any()


def test_the_split_is_that_of_the_article():
    count = sum(PAPER_COUNTS.values())
    assert PAPER_COUNTS == {"Au fcc": 424, "Au hcp": 709, "V_S": 158, "WS2": 191} and count == 1482
    parts = split(count, seed=0)
    sizes = [len(part) for part in (parts.train, parts.validation, parts.test)]
    assert sizes == [1186, 178, 118]
    everything = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(everything) == list(range(count))
    assert not np.array_equal(split(count, seed=1).train, parts.train)
    with pytest.raises(ValueError, match="9 spectra cannot be split"):
        split(9, seed=0)


def test_training_learns_and_keeps_the_chosen_epoch(trained):
    assert isinstance(trained.classifier, Classifier)
    assert trained.classifier.classes == ("left", "right")
    assert [epoch.number for epoch in trained.epochs] == [1, 2, 3, 4, 5]
    assert trained.chosen == 4 and [test.epoch for test in trained.tests] == [1, 2, 3, 4]
    assert trained.epochs[-1].train_accuracy == 1.0 and trained.tests[-1].accuracy == 1.0
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss / 3
    # Weights of the chosen epoch, not of the last.
    data = sessions()
    prepared = np.concatenate([inputs(session.bias, session.didv) for session in data])
    kept = trained.classifier.probabilities(prepared[trained.parts.test])
    np.testing.assert_allclose(kept, trained.tests[-1].probabilities, rtol=1e-5)
    for epoch in trained.epochs:
        parts = trained.parts
        labels = np.concatenate([session.labels for session in data])[parts.train]
        share = np.mean(labels == "left")
        mean = share * epoch.train_recall[0] + (1 - share) * epoch.train_recall[1]
        assert mean == pytest.approx(epoch.train_accuracy)


def test_one_seed_gives_one_network_and_leaves_torchs_own_alone(trained):
    state = torch.get_rng_state()
    again = train(sessions(), seed=2, epochs=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.epochs == trained.epochs[:2]
    other = train(sessions(), seed=3, epochs=1, progress=False)
    assert other.epochs[0] != trained.epochs[0]


def test_classify_takes_any_length_and_knows_no_bias(trained):
    data = sessions(12)
    for session in data:
        found = trained.classifier.classify(session.bias, session.didv)
        assert list(found.best) == list(session.labels) and not any(found.problems)
        elsewhere = trained.classifier.classify(5.0 + 3.0 * session.bias, session.didv)
        np.testing.assert_array_equal(found.probabilities, elsewhere.probabilities)
    np.testing.assert_allclose(found.novelty, 1.0 - found.probabilities.max(axis=1))


def test_bad_spectra_have_a_problem_and_spoil_no_other(trained):
    (session, _) = sessions(6)
    didv = session.didv.copy()
    didv[1] = 2e-10
    didv[2, 7] = np.nan
    didv[3, 9] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = trained.classifier.classify(session.bias, didv)
    alone = trained.classifier.classify(session.bias, session.didv)
    assert [bool(problem) for problem in found.problems] == [False, True, True, True, False, False]
    assert found.problems[1].startswith("constant") and "NaN" in found.problems[2]
    np.testing.assert_array_equal(found.probabilities[1:4], 0.5)
    np.testing.assert_array_equal(found.novelty[1:4], 1.0)
    np.testing.assert_allclose(found.probabilities[[0, 4]], alone.probabilities[[0, 4]], rtol=1e-5)
    one = trained.classifier.classify(np.zeros(1), np.zeros((2, 1)))
    assert all("points" in problem for problem in one.problems) and len(one) == 2
    assert len(trained.classifier.classify(BIAS, np.empty((0, 150)))) == 0


@pytest.mark.parametrize("shape", [(150,), (2, 149), (2, 3, 150)])
def test_wrong_shapes_are_refused(trained, shape):
    with pytest.raises(ValueError, match="bias has shape"):
        trained.classifier.classify(BIAS, np.zeros(shape))


def test_training_refuses_what_cannot_be_trained_on():
    (first, _) = sessions()
    left = Session("left", BIAS, first.didv[::3], first.labels[::3])
    with pytest.raises(ValueError, match=r"two classes or more, not of \['left'\]"):
        train((left,), progress=False)
    with pytest.raises(ValueError, match=r"not of \[\]"):
        train((), progress=False)
    with pytest.raises(ValueError, match="epochs is 0"):
        train(sessions(), epochs=0, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["one"]}, "not those of the network"),
        ({"classes": None}, "not those of the network"),
        ({"points": 600}, "not those of the network"),
        ({"classes": ["a", "b", "c"]}, "10.bias, 10.weight are missing"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trained, change, message):
    arrays, kept = trained.classifier.to_arrays()
    with pytest.raises(ValueError, match=message):
        PaperCNN.from_arrays(arrays, kept | change)


def test_weights_that_are_not_finite_are_refused(trained):
    arrays, kept = trained.classifier.to_arrays()
    arrays["0.bias"][3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        PaperCNN.from_arrays(arrays, kept)
