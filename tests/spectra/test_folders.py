"""Labelled files: classes of one file and spectra that are there twice are found and refused."""

import numpy as np
import pytest

from bluesky_gpsts.spectra import Session
from bluesky_gpsts.spectra.folders import (
    DataError,
    check_classes,
    check_duplicates,
    check_split,
    copies,
)
from bluesky_gpsts.spectra.simulate import simulate

BIAS = np.linspace(-1.0, 1.0, 40)


def session(name: str, seed: int, count: int = 4) -> Session:
    didv = 1e-10 * np.random.default_rng(seed).normal(size=(count, 40))
    return Session(name, BIAS, didv, np.array(["a", "b"] * (count // 2)))


def test_the_direction_of_the_sweep_does_not_hide_a_copy():
    first = session("first", 0)
    turned = Session("turned", BIAS[::-1], first.didv[:, ::-1], first.labels)
    found = sorted(copies((first, turned)))
    assert found == [[(0, row), (1, row)] for row in range(4)]
    shifted = Session("shifted", BIAS + 0.01, first.didv, first.labels)
    assert copies((first, shifted)) == [] == copies((first,))


@pytest.mark.parametrize("digits", [4, 5, 9])
def test_fewer_digits_do_not_hide_a_copy(digits):
    (first,) = simulate(3, {"WS2": 30, "V_S": 30}, difficulty=0.3, sessions=1)

    def rounded(values: np.ndarray) -> np.ndarray:
        texts = [f"{value:.{digits - 1}E}" for value in values.ravel()]
        return np.array(texts, float).reshape(values.shape)

    other = Session("other", rounded(first.bias), rounded(first.didv), first.labels)
    assert sorted(copies((first, other))) == [[(0, row), (1, row)] for row in range(60)]


def test_spectra_that_differ_by_their_noise_only_are_no_copies():
    """A hundred of one point, with noise of half a percent."""
    curve = 1e-10 * (1.2 + np.sin(3.0 * BIAS))
    noise = 5e-3 * curve.max() * np.random.default_rng(7).normal(size=(100, 40))
    assert copies((Session("one", BIAS, curve + noise, np.array(["a"] * 100)),)) == []


def test_copies_are_found_within_and_between_sessions():
    first, second = session("first", 0), session("second", 1)
    check_duplicates((first, second))
    didv = second.didv.copy()
    didv[2] = first.didv[1]
    copied = Session("second", BIAS, didv, second.labels)
    with pytest.raises(DataError, match=r"first \(spectrum 2, b\) = second \(spectrum 3, a\)"):
        check_duplicates((first, copied))
    didv[2] = didv[0]
    with pytest.raises(DataError, match="1 spectra are there more than once"):
        check_duplicates((Session("second", BIAS, didv, second.labels),))


def test_copies_across_a_split_are_found():
    first, second = session("first", 0), session("second", 1)
    check_split((first,), (second,))
    with pytest.raises(DataError, match="4 spectra are on both sides of the split: first and copy"):
        check_split((first, second), (Session("copy", BIAS, first.didv, first.labels),))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"a": ["1.dat", "2.dat"], "b": ["3.dat"]}, "class 'b' has only 3.dat; it takes two"),
        ({"a": ["1.dat", "2.dat"], "b": []}, "class 'b' has no file; it takes two"),
        ({"a": ["1.dat", "2.dat"]}, "two classes or more, and there is a"),
        ({}, "two classes or more, and there is none"),
    ],
)
def test_classes_that_cannot_be_split_are_refused(sources, message):
    with pytest.raises(DataError, match=message):
        check_classes(sources)


def test_classes_of_two_files_will_do():
    check_classes({"a": ["1.dat", "2.dat"], "b": ["3.dat", "4.dat"]})
