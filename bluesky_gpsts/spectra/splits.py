"""Splits of a data set: random ones, and those that hold whole sessions out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.types import Session

__all__ = ["random_split", "session_split"]


def random_split(
    sessions: Sequence[Session], share: float, seed: int
) -> tuple[tuple[Session, ...], tuple[Session, ...]]:
    """Split spectrum by spectrum, class by class.

    Spectra of one session then lie on both sides: the score says how well the classifier knows
    these tips, not how well it does under a new one.

    Parameters
    ----------
    sessions : sequence of Session
        Data set.
    share : float
        Share of each class that is held out, above 0 and below 1.
    seed : int
        Seed of the choice.

    Returns
    -------
    kept, held : tuples of Session
        Both keep the names of the sessions.

    Raises
    ------
    ValueError
        If the share is out of range or a class has fewer than two spectra.
    """
    _check_share(share)
    rng = np.random.default_rng([seed, 51])
    labels = np.concatenate([session.labels for session in sessions])
    held = np.zeros(labels.size, bool)
    for name, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < 2:
            raise ValueError(f"class {name} has one spectrum; a split needs two or more of each")
        chosen = min(max(1, round(share * int(count))), int(count) - 1)
        held[rng.permutation(np.flatnonzero(labels == name))[:chosen]] = True
    ends = np.cumsum([len(session) for session in sessions])[:-1]
    parts = np.split(held, ends)
    return _some(sessions, [~part for part in parts]), _some(sessions, parts)


def _some(sessions: Sequence[Session], parts: Sequence[NDArray[np.bool_]]) -> tuple[Session, ...]:
    """The chosen spectra of each session; sessions without any are left out."""
    return tuple(
        Session(session.name, session.bias, session.didv[part], session.labels[part])
        for session, part in zip(sessions, parts, strict=True)
        if part.any()
    )


def session_split(
    sessions: Sequence[Session], share: float, seed: int
) -> tuple[tuple[Session, ...], tuple[Session, ...]]:
    """Split session by session: the tips that are held out are never trained on.

    Sessions with the same classes count as one kind, and each kind is split for itself.

    Parameters
    ----------
    sessions : sequence of Session
        Data set.
    share : float
        Share of the sessions that is held out, above 0 and below 1.
    seed : int
        Seed of the choice.

    Returns
    -------
    kept, held : tuples of Session

    Raises
    ------
    ValueError
        If the share is out of range, or a class is left on one side only.
    """
    _check_share(share)
    rng = np.random.default_rng([seed, 52])
    kinds: dict[tuple[str, ...], list[int]] = {}
    for index, session in enumerate(sessions):
        kinds.setdefault(tuple(np.unique(session.labels)), []).append(index)
    held: set[int] = set()
    for members in kinds.values():
        if len(members) > 1:
            count = min(max(1, round(share * len(members))), len(members) - 1)
            held.update(int(index) for index in rng.permutation(members)[:count])
    sides = [
        tuple(session for index, session in enumerate(sessions) if (index in held) is wanted)
        for wanted in (False, True)
    ]
    names = [{str(label) for session in side for label in session.labels} for side in sides]
    missing = names[0] ^ names[1]
    if missing:
        raise ValueError(
            f"{', '.join(sorted(missing))}: measured in one session only, or in sessions that all "
            "fall on one side; measure each class in two sessions or more"
        )
    return sides[0], sides[1]


def _check_share(share: float) -> None:
    if not 0.0 < share < 1.0:
        raise ValueError(f"share held out is {share}; give a number between 0 and 1")
