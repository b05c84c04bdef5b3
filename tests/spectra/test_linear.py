"""The classifier without torch: same interface, and no torch in the process."""

import subprocess
import sys

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.classifier_scores import judge
from bluesky_gpsts.spectra import Classifier
from bluesky_gpsts.spectra.kinds import CLASSES
from bluesky_gpsts.spectra.linear import LinearClassifier, train_linear
from bluesky_gpsts.spectra.registry import load
from bluesky_gpsts.spectra.simulate import simulate
from bluesky_gpsts.spectra.splits import session_split


@pytest.fixture(scope="module")
def split():
    return session_split(simulate(21, difficulty=0.5, sessions=6), 0.34, 0)


@pytest.fixture(scope="module")
def trained(split):
    return train_linear(split[0])


def test_held_out_sessions(trained, split):
    assert isinstance(trained, Classifier)
    assert set(trained.classes) == set(CLASSES)
    assert judge(trained, split[1]).balanced_accuracy > 0.93


def test_arrays_and_back(trained, split):
    again = LinearClassifier.from_arrays(*trained.to_arrays())
    session = split[1][0]
    first, second = (c.classify(session.bias, session.didv) for c in (trained, again))
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-3)


def test_arrays_that_do_not_fit_are_refused(trained):
    arrays, settings = trained.to_arrays()
    for weights, told, match in [
        ({k: v for k, v in arrays.items() if k != "mean"}, settings, "mean"),
        ({**arrays, "weights": np.zeros((2, 2))}, settings, "weights"),
        (arrays, {}, "head"),
    ]:
        with pytest.raises(ValueError, match=match):
            LinearClassifier.from_arrays(weights, told)


def test_a_class_of_one_session_is_refused(split):
    with pytest.raises(ValueError, match="one session only|two or more"):
        train_linear(split[0][:1])


def test_shipped_fallback_runs_without_torch():
    program = (
        "import sys\n"
        "from bluesky_gpsts.spectra.registry import load\n"
        "from bluesky_gpsts.spectra.simulate import simulate\n"
        "c = load('linear')\n"
        "s = simulate(9010, difficulty=0.3, sessions=2, points=600)\n"
        "print(sum((c.classify(x.bias, x.didv).best == x.labels).mean() for x in s) / len(s))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9


def test_shipped_fallback_on_hard_data():
    judged = judge(load("linear"), simulate(9011, difficulty=1.5, sessions=6))
    assert judged.balanced_accuracy > 0.7
