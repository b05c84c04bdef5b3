"""Bad spectra: a sentence or little confidence, never a crash, never a confident wrong class."""

import numpy as np
import pytest

from bluesky_gpsts.spectra import NONE
from bluesky_gpsts.spectra.registry import load
from bluesky_gpsts.spectra.simulate import simulate

SURE = 0.7


@pytest.fixture(scope="module", params=["default", "linear"])
def classifier(request):
    return load(request.param)


@pytest.fixture(scope="module")
def ws2():
    return simulate(9030, {"WS2": 10, "V_S": 10}, difficulty=0.5, sessions=1)[0]


@pytest.fixture(scope="module")
def gold():
    return simulate(9031, {"Au fcc": 10, "Au hcp": 10}, difficulty=0.5, sessions=1)[0]


def _unsure(found, labels=None):
    """Share of the spectra with a problem, with no class, or with little confidence."""
    wrong = np.ones(len(found), bool) if labels is None else found.best != labels
    confident = (found.labels != NONE) & (found.confidence > SURE)
    return 1.0 - (wrong & confident).mean()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda y: np.full_like(y, 2e-11), "constant"),
        (lambda y: np.zeros_like(y), "constant"),
        (lambda y: np.where(np.arange(y.shape[1]) % 50 == 7, np.nan, y), "NaN"),
        (lambda y: np.where(np.arange(y.shape[1]) == 7, np.inf, y), "infinite"),
        (lambda y: np.minimum(y, 0.4 * y.max(axis=1, keepdims=True)), "saturated"),
        (lambda y: 1e-5 * y, "modulation"),
        (lambda y: 1e7 * y, "more than tunnelling"),
        (lambda y: -y, "below zero"),
        (lambda y: np.cumsum(y[:, ::-1], axis=1)[:, ::-1] * 1e-3 - 3e-11, "below zero"),
    ],
)
def test_a_sentence_says_what_is_wrong(classifier, ws2, spoil, sentence):
    found = classifier.classify(ws2.bias, spoil(ws2.didv))
    assert all(sentence in text for text in found.problems), found.problems[0]
    assert (found.novelty == 1.0).all() and (found.labels == NONE).all()
    np.testing.assert_allclose(found.probabilities, 0.25)


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
@pytest.mark.parametrize("share", [0.6, 0.8, 0.9])
def test_saturation_is_noticed_below_the_noise_that_comes_after_it(classifier, share, noise):
    rng = np.random.default_rng(5)
    for session in simulate(9032, points=600, sessions=2):
        top = np.quantile(session.didv, share, axis=1, keepdims=True)
        cut = np.minimum(session.didv, top) + noise * top * rng.standard_normal(session.didv.shape)
        found = classifier.classify(session.bias, cut)
        noticed = np.array(["saturated" in text for text in found.problems])
        assert noticed.mean() > (0.8 if share > 0.85 else 0.98)
        assert _unsure(found, session.labels) > 0.97
        clean = classifier.classify(session.bias, session.didv)
        assert not any("saturated" in text for text in clean.problems)


def test_another_axis_is_another_spectrum(classifier):
    for session in simulate(9033, points=512, sessions=2, difficulty=0.5):
        right = classifier.classify(session.bias, session.didv)
        assert (right.labels == session.labels).mean() > 0.8
        for axis in (session.bias + 0.3, session.bias - 0.3, 1.4 * session.bias):
            assert _unsure(classifier.classify(axis, session.didv)) > 0.95


@pytest.mark.parametrize("points", [24, 48, 99])
def test_too_few_points_are_no_spectrum(classifier, points):
    for session in simulate(9034, points=points, sessions=1):
        found = classifier.classify(session.bias, session.didv)
        assert all(f"{points} points; give 100 to" in text for text in found.problems)


@pytest.mark.parametrize(
    ("bias", "sentence"),
    [
        (np.linspace(-1, 1, 20), "20 points"),
        (np.linspace(-1, 1, 200_001), "200001 points"),
        (np.linspace(-1e-3, 1e-3, 100), "in volts"),
        (np.linspace(-1000, 1000, 100), "in volts"),
        (np.sin(np.linspace(0, 9, 100)), "does not rise or fall"),
        (np.r_[np.nan, np.linspace(-1, 1, 99)], "NaN"),
        (np.repeat(np.linspace(-1, 1, 60), 2), "does not rise or fall"),
    ],
)
def test_an_axis_that_cannot_be(classifier, bias, sentence):
    didv = np.random.default_rng(0).uniform(1e-11, 1e-10, (2, bias.size))
    found = classifier.classify(bias, didv)
    assert all(sentence in text for text in found.problems), found.problems[0]


def test_one_bad_spectrum_does_not_spoil_the_others(classifier, gold):
    didv = gold.didv.copy()
    didv[3] = np.nan
    found, clean = classifier.classify(gold.bias, didv), classifier.classify(gold.bias, gold.didv)
    assert [bool(text) for text in found.problems] == [row == 3 for row in range(20)]
    rest = np.arange(20) != 3
    np.testing.assert_allclose(found.probabilities[rest], clean.probabilities[rest], atol=1e-4)


@pytest.mark.parametrize("name", ["ws2", "gold"])
def test_reversed_spectra_have_no_confident_class(name, request):
    session = request.getfixturevalue(name)
    found = load("default").classify(session.bias, session.didv[:, ::-1])
    assert _unsure(found) > 0.94


def test_noise_has_no_confident_class():
    rng = np.random.default_rng(1)
    for low, high in ((-1.0, 1.0), (-1.8, 1.4)):
        bias = np.linspace(low, high, 1200)
        for didv in (
            1e-10 + 2e-11 * rng.standard_normal((20, 1200)),
            1e-10 * rng.random((20, 1200)),
            1e-11 * np.abs(np.cumsum(rng.standard_normal((20, 1200)), axis=1)),
        ):
            assert _unsure(load("default").classify(bias, didv)) > 0.9


def test_the_wrong_bias_range_gives_no_confident_wrong_class(ws2, gold):
    classifier = load("default")
    for session in (ws2, gold):
        for low, high in ((-0.3, 0.3), (-4.0, 4.0)):
            axis = np.linspace(high, low, session.bias.size)
            assert _unsure(classifier.classify(axis, session.didv)) > 0.94
    # In gold's range there are no bands of WS2 to see.
    part = (ws2.bias > -1.0) & (ws2.bias < 0.35)
    found = classifier.classify(ws2.bias[part], ws2.didv[:, part])
    assert _unsure(found, ws2.labels) > 0.9


def test_a_lockin_signal_in_amperes_keeps_its_class_or_gets_a_sentence(ws2):
    found = load("default").classify(ws2.bias, 8e-3 * ws2.didv)
    assert _unsure(found, ws2.labels) > 0.94


def test_a_current_gets_a_sentence_or_no_confident_class(ws2, gold):
    for session in (ws2, gold):
        current = np.cumsum(session.didv, axis=1) * (session.bias[1] - session.bias[0])
        current -= current[:, [np.argmin(np.abs(session.bias))]]
        assert _unsure(load("default").classify(session.bias, current)) > 0.94


def test_shapes_that_do_not_fit_are_refused(classifier):
    with pytest.raises(ValueError, match="one row of n values"):
        classifier.classify(np.linspace(-1, 1, 100), np.ones((2, 99)))
    with pytest.raises(ValueError, match="one row of n values"):
        classifier.classify(np.linspace(-1, 1, 100), np.ones(100))
