"""Checks of labelled spectra that came as files: enough of each class, none twice.

Reading the files is not done here: `bluesky_gpsts.analysis.labelled` does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bluesky_gpsts.spectra.types import Array, Session

__all__ = ["DataError", "check_classes", "check_duplicates", "check_split", "copies"]

Place = tuple[int, int]

_SAME = 6e-4
"""Of the largest value so much may be rounding: a bit more than half of the fourth digit."""

_NAMED = 3
"""So many culprits are named in a message; the others are counted."""


class DataError(ValueError):
    """Labelled spectra cannot be used for training; the text says which and why."""


def copies(sessions: Sequence[Session]) -> list[list[Place]]:
    """Find spectra that are there more than once.

    Two spectra are one where bias axis and dI/dV differ nowhere by more than 0.06 % of the largest
    value: four significant digits are enough. Noise of 1 % keeps apart what was measured twice.

    Parameters
    ----------
    sessions : sequence of Session
        Spectra. The direction of their sweeps does not count.

    Returns
    -------
    list of list of (int, int)
        For each such spectrum its places: index of the session, and of the spectrum in it.
    """
    groups = []
    for points in sorted({session.bias.size for session in sessions}):
        chosen = [k for k, session in enumerate(sessions) if session.bias.size == points]
        places = [(k, row) for k in chosen for row in range(len(sessions[k]))]
        turned = {k: 1 if sessions[k].bias[-1] > sessions[k].bias[0] else -1 for k in chosen}
        axes = {k: sessions[k].bias[:: turned[k]] for k in chosen}
        values = np.concatenate([sessions[k].didv[:, :: turned[k]] for k in chosen])
        groups += [[places[row] for row in group] for group in _alike(values, places, axes)]
    return groups


def _alike(values: Array, places: list[Place], axes: dict[int, Array]) -> list[list[int]]:
    """Rows of spectra (N, n) that are the same, by the places and axes of the rows."""
    sizes = np.abs(values).max(axis=1)
    # The means of equal spectra are equal: only neighbours in their order have to be compared.
    means = values.mean(axis=1) / np.where(sizes > 0.0, sizes, 1.0)
    order = np.argsort(means, kind="stable")
    ends = np.searchsorted(means[order], means[order] + 3.0 * _SAME, side="right")
    groups, known = [], np.zeros(len(values), bool)
    for at, (row, end) in enumerate(zip(order, ends, strict=True)):
        near = order[at + 1 : end]
        if known[row] or not near.size:
            continue
        same = near[np.abs(values[near] - values[row]).max(axis=1) <= _SAME * sizes[row]]
        axis = axes[places[row][0]]
        close = _SAME * np.abs(axis).max()
        same = [k for k in same if np.abs(axes[places[k][0]] - axis).max() <= close]
        if same:
            groups.append(sorted([int(row), *map(int, same)]))
            known[same] = True
    return groups


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
    twice = [
        [f"{sessions[k].name} (spectrum {row + 1}, {sessions[k].labels[row]})" for k, row in group]
        for group in copies(sessions)
    ]
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
    both: Counter[str] = Counter()
    for group in copies((*train, *test)):
        known = [train[k].name for k, _ in group if k < len(train)]
        again = [test[k - len(train)].name for k, _ in group if k >= len(train)]
        both.update(f"{known[0]} and {name}" for name in again if known)
    if both:
        raise DataError(
            f"{sum(both.values())} spectra are on both sides of the split: {_list(both)}; take the "
            "copies out, or the test proves nothing"
        )


def _list(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + more
