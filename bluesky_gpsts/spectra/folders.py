"""Checks of labelled spectra that came as files: enough of each class, none twice.

Reading the files is not done here: `bluesky_gpsts.analysis.labelled` does.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bluesky_gpsts.spectra.types import Array, Session

__all__ = ["DataError", "check_classes", "check_duplicates", "check_split", "fingerprints"]

_NAMED = 3
"""So many culprits are named in a message; the others are counted."""


class DataError(ValueError):
    """Labelled spectra cannot be used for training; the text says which and why."""


def fingerprints(session: Session) -> list[str]:
    """Hash of each spectrum's content: equal for spectra of equal bias axis and dI/dV.

    Parameters
    ----------
    session : Session

    Returns
    -------
    list of str
        One per spectrum. The direction of the sweep does not count.
    """
    rising = session.bias[-1] > session.bias[0]
    bias = session.bias if rising else session.bias[::-1]
    return [_fingerprint(bias, row if rising else row[::-1]) for row in session.didv]


def check_classes(sources: Mapping[str, Sequence[str]]) -> None:
    """Refuse classes of one file, which cannot be on both sides of a split.

    Parameters
    ----------
    sources : mapping
        For each class the names of the files, or of what else its spectra are from.

    Raises
    ------
    DataError
        There are fewer than two classes, or a class has no file or one.
    """
    if len(sources) < 2:
        found = ", ".join(sources) or "none"
        raise DataError(
            f"a classifier needs two classes or more, and there is {found}; put the files of each "
            "class into a folder of its own"
        )
    for name, files in sorted(sources.items()):
        if len(files) < 2:
            what = f"only {files[0]}" if files else "no file"
            raise DataError(
                f"class {name!r} has {what}; it takes two files at least, and four where a "
                "part is set aside for a test: add files, or take the class away"
            )


def check_duplicates(sessions: Sequence[Session]) -> None:
    """Refuse spectra that are there twice: on both sides of a split they would prove nothing.

    Parameters
    ----------
    sessions : sequence of Session
        All labelled spectra.

    Raises
    ------
    DataError
        Two spectra have the same content; the message names them.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for session in sessions:
        for row, (mark, label) in enumerate(
            zip(fingerprints(session), session.labels, strict=True), start=1
        ):
            places[mark].append(f"{session.name} (spectrum {row}, {label})")
    twice = [where for where in places.values() if len(where) > 1]
    if twice:
        raise DataError(
            f"{len(twice)} spectra are there more than once: "
            f"{_list(' = '.join(where) for where in twice)}; "
            "keep each once, or its copy in the test set will be known from training"
        )


def check_split(train: Sequence[Session], test: Sequence[Session]) -> None:
    """Refuse a split that has a spectrum on both sides.

    Parameters
    ----------
    train, test : sequence of Session
        The sides.

    Raises
    ------
    DataError
        A spectrum of the test is in the training set.
    """
    known = {mark: s.name for s in train for mark in fingerprints(s)}
    both = Counter(
        f"{known[mark]} and {s.name}" for s in test for mark in fingerprints(s) if mark in known
    )
    if both:
        raise DataError(
            f"{sum(both.values())} spectra are on both sides of the split: {_list(both)}; take the "
            "copies out, or the test proves nothing"
        )


def _fingerprint(bias: Array, didv: Array) -> str:
    digest = hashlib.sha256()
    for values in (bias, didv):
        # Instruments record 32 bits; digits beyond depend on how a file was written.
        rounded = np.asarray(values, np.float32)
        digest.update(len(rounded).to_bytes(4, "little"))
        digest.update(np.ascontiguousarray(rounded + np.float32(0.0)).tobytes())
    return digest.hexdigest()


def _list(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more
