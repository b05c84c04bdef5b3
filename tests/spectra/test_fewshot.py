"""New classes from a few examples: learned, without forgetting, without changing the old one."""

import re

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.classifier_real import read_measured
from bluesky_gpsts.benchmarks.classifier_scores import judge
from bluesky_gpsts.spectra import NONE
from bluesky_gpsts.spectra.registry import load
from bluesky_gpsts.spectra.simulate import simulate


@pytest.fixture(scope="module", params=["default", "linear"])
def known(request):
    return load(request.param)


def _spectra(kind, count=60):
    sessions = simulate(9020, {kind: count}, difficulty=1.0, sessions=4)
    return sessions[0].bias, np.concatenate([session.didv for session in sessions])


@pytest.mark.parametrize("kind", ["CH", "molecule"])
def test_five_examples_make_a_class_and_the_old_ones_stay(known, kind):
    bias, didv = _spectra(kind)
    more = known.with_class(kind, bias, didv[::12])
    assert more.classes == (*known.classes, kind)
    rest = np.delete(didv, np.s_[::12], axis=0)
    assert (more.classify(bias, rest).best == kind).mean() > 0.9
    old = simulate(9021, difficulty=1.0, sessions=4)
    before, after = judge(known, old), judge(more, old)
    assert after.balanced_accuracy >= before.balanced_accuracy - 0.02
    assert kind not in known.classes


def test_the_new_class_is_no_longer_novel(known):
    bias, didv = _spectra("molecule")
    more = known.with_class("molecule", bias, didv[::12])
    found = more.classify(bias, didv)
    assert (found.labels == "molecule").mean() > (
        known.classify(bias, didv).labels == NONE
    ).mean() / 2
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)


def test_a_taught_classifier_survives_its_arrays(known):
    bias, didv = _spectra("molecule")
    more = known.with_class("molecule", bias, didv[:5])
    again = type(known).from_arrays(*more.to_arrays())
    first, second = more.classify(bias, didv), again.classify(bias, didv)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=2e-3)


def test_bad_examples_and_names_are_refused(known):
    bias, didv = _spectra("molecule", 4)
    with pytest.raises(ValueError, match="exists already"):
        known.with_class("WS2", bias, didv)
    with pytest.raises(ValueError, match="reserved"):
        known.with_class(NONE, bias, didv)
    with pytest.raises(ValueError, match="no usable example"):
        known.with_class("new", bias, didv[:0])
    with pytest.raises(ValueError, match="name of a class is 5; give a text"):
        known.with_class(5, bias, didv)
    for name in ("", " ", " WS2", "WS2 ", "a\n"):
        with pytest.raises(
            ValueError, match=re.escape(f"of a class is {name!r}; give one that is")
        ):
            known.with_class(name, bias, didv)
    with pytest.raises(ValueError, match="example 1 of 'new' is of no use: constant"):
        known.with_class("new", bias, np.ones((1, bias.size)))


def test_examples_that_are_an_old_class_are_refused(known):
    (session,) = simulate(9041, {"V_S": 8, "WS2": 8}, difficulty=0.5, sessions=1)
    for old in ("V_S", "WS2"):
        examples = session.didv[session.labels == old]
        with pytest.raises(ValueError, match=f"of 8 examples of 'mine' are '{old}' to this"):
            known.with_class("mine", session.bias, examples)


@pytest.fixture(scope="module")
def real_examples(shared_data):
    """One real spectrum of each kind of hBN."""
    spectra = [s for s in read_measured(shared_data / "spectra") if "line" not in s.file]
    return {s.label: s for s in reversed(spectra)}


@pytest.fixture(scope="module")
def taught(real_examples):
    """The default classifier, which knows the kinds of hBN as well."""
    classifier = load("default")
    for label, example in real_examples.items():
        classifier = classifier.with_class(label, example.bias, example.didv[None])
    return classifier


def test_new_classes_leave_the_novelty_of_other_kinds_alone(taught):
    """What was none of the old classes does not become one of them by learning new ones."""
    before = load("default")
    kinds = ("Au impurity", "CrW", "CH", "O_S", "molecule", "crashed tip")
    strange = 0
    for session in simulate(177, dict.fromkeys(kinds, 60)):
        none = before.classify(session.bias, session.didv).labels == NONE
        found = taught.classify(session.bias, session.didv[none]).labels
        strange += len(found)
        assert not np.isin(found, before.classes).any()
    assert strange > 0.95 * 60 * len(kinds)


def test_real_hbn_classes_are_told_apart_from_one_example_each(real_examples, taught):
    assert len(real_examples) == 4
    for label, example in real_examples.items():
        assert taught.classify(example.bias, example.didv[None]).best[0] == label


def test_real_hbn_is_never_called_gold_or_ws2(shared_data):
    classifier = load("default")
    for spectrum in read_measured(shared_data / "spectra"):
        found = classifier.classify(spectrum.bias, spectrum.didv[None])
        assert found.labels[0] == NONE or found.confidence[0] < 0.5, spectrum.file
