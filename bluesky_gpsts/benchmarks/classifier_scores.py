"""Scores of classifiers: balanced accuracy, calibration, area under the ROC curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bluesky_gpsts.spectra import Classifier, Session

__all__ = ["Judged", "area", "judge"]

Array = NDArray[np.float64]
_BINS = 10


@dataclass(frozen=True, eq=False)
class Judged:
    """Labelled spectra as a classifier saw them.

    Parameters
    ----------
    labels : (N,) array of str
        True classes.
    classes : tuple of str
        Names of the K classes.
    probabilities : (N, K) array
        Probability of each.
    novelty : (N,) array
        Novelty score.
    """

    labels: NDArray[np.str_]
    classes: tuple[str, ...]
    probabilities: Array
    novelty: Array

    @property
    def best(self) -> NDArray[np.str_]:
        """Most probable classes (N,)."""
        return np.asarray(self.classes)[self.probabilities.argmax(axis=1)]

    def recall(self, name: str) -> float:
        """Share of the spectra of a class for which it is the most probable one."""
        return float((self.best[self.labels == name] == name).mean())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur."""
        return float(np.mean([self.recall(name) for name in np.unique(self.labels)]))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean |accuracy - confidence| over ten bins of confidence."""
        sure = self.probabilities.max(axis=1)
        right = self.best == self.labels
        bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
        parts = [bins == k for k in range(_BINS) if (bins == k).any()]
        return float(sum(abs(right[p].mean() - sure[p].mean()) * p.mean() for p in parts))

    @property
    def accepted(self) -> float:
        """Share with a novelty of at most 0.5."""
        return float((self.novelty <= 0.5).mean())


def judge(classifier: Classifier, sessions: Sequence[Session]) -> Judged:
    """Classify labelled sessions.

    Parameters
    ----------
    classifier : Classifier
        What is judged.
    sessions : sequence of Session
        Labelled spectra.

    Returns
    -------
    Judged
    """
    found = [classifier.classify(session.bias, session.didv) for session in sessions]
    return Judged(
        np.concatenate([session.labels for session in sessions]),
        tuple(classifier.classes),
        np.concatenate([one.probabilities for one in found]),
        np.concatenate([one.novelty for one in found]),
    )


def area(ordinary: Array, strange: Array) -> float:
    """Area under the ROC curve: the probability that a strange one scores above an ordinary one."""
    rank = rankdata(np.concatenate((ordinary, strange)))
    above = rank[ordinary.size :].sum() - 0.5 * strange.size * (strange.size + 1)
    return float(above / (ordinary.size * strange.size))
