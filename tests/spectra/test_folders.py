"""Labelled files: classes of one file and spectra that are there twice are found and refused."""

import numpy as np
import pytest

from bluesky_gpsts.spectra import Session
from bluesky_gpsts.spectra.folders import (
    DataError,
    check_classes,
    check_duplicates,
    check_split,
    fingerprints,
)

BIAS = np.linspace(-1.0, 1.0, 40)


def session(name: str, seed: int, count: int = 4) -> Session:
    didv = 1e-10 * np.random.default_rng(seed).normal(size=(count, 40))
    return Session(name, BIAS, didv, np.array(["a", "b"] * (count // 2)))


def test_the_direction_of_the_sweep_does_not_hide_a_copy():
    first = session("first", 0)
    turned = Session("turned", BIAS[::-1], first.didv[:, ::-1], first.labels)
    assert fingerprints(first) == fingerprints(turned)
    assert len(set(fingerprints(first))) == 4
    shifted = Session("shifted", BIAS + 0.01, first.didv, first.labels)
    assert not set(fingerprints(first)) & set(fingerprints(shifted))


def test_text_of_nine_digits_is_the_same_spectrum():
    first = session("first", 0)
    measured = first.didv.astype(np.float32).astype(float)
    texts = [[float(f"{value:.8E}") for value in row] for row in measured]
    one = Session("one", BIAS, measured, first.labels)
    other = Session("other", BIAS, np.array(texts), first.labels)
    assert fingerprints(one) == fingerprints(other)


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
