"""Splits: nothing lost, nothing twice, sessions kept whole."""

import numpy as np
import pytest

from bluesky_gpsts.spectra import Session
from bluesky_gpsts.spectra.simulate import simulate
from bluesky_gpsts.spectra.splits import random_split, session_split


@pytest.fixture(scope="module")
def sessions():
    return simulate(0, {"Au fcc": 11, "Au hcp": 20, "V_S": 9, "WS2": 7}, sessions=3, points=60)


def _rows(sessions):
    return sorted(tuple(row) for s in sessions for row in s.didv)


@pytest.mark.parametrize("split", [random_split, session_split])
def test_every_spectrum_is_on_one_side(sessions, split):
    kept, held = split(sessions, 0.3, 1)
    assert _rows(kept + held) == _rows(sessions)
    assert split(sessions, 0.3, 1)[0][0].labels.tolist() == kept[0].labels.tolist()
    every = {str(label) for s in sessions for label in s.labels}
    for side in (kept, held):
        assert {str(label) for s in side for label in s.labels} == every


def test_a_random_split_shares_sessions_and_a_session_split_does_not(sessions):
    kept, held = random_split(sessions, 0.3, 0)
    assert {s.name for s in kept} & {s.name for s in held}
    kept, held = session_split(sessions, 0.3, 0)
    assert not {s.name for s in kept} & {s.name for s in held}


def test_what_cannot_be_split_is_refused(sessions):
    bias, didv = np.linspace(0, 1, 5), np.ones((1, 5))
    alone = Session("alone", bias, didv, np.array(["new"]))
    with pytest.raises(ValueError, match="class new has one spectrum"):
        random_split((*sessions, alone), 0.3, 0)
    with pytest.raises(ValueError, match="new: measured in one session only"):
        session_split((*sessions, alone), 0.3, 0)
    for split in (random_split, session_split):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split(sessions, 1.0, 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": ""}, "no name"),
        ({"bias": np.zeros(1)}, "2\\+ points"),
        ({"bias": np.array([0.0, 2.0, 1.0])}, "does not rise or fall"),
        ({"didv": np.ones((2, 4))}, "one row per spectrum"),
        ({"didv": np.array([[1.0, np.nan, 1.0], [1.0, 1.0, 1.0]])}, "1 spectra hold NaN"),
        ({"labels": np.array(["a"])}, "one label per spectrum"),
        ({"labels": np.array(["a", ""])}, "1 labels are empty"),
    ],
)
def test_a_session_refuses_what_does_not_fit(change, match):
    good = {"name": "s", "bias": np.arange(3.0), "didv": np.ones((2, 3)), "labels": ["a", "b"]}
    with pytest.raises(ValueError, match=match):
        Session(**{**good, **change})
