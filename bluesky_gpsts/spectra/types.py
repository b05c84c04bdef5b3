"""What the classifiers of spectra share: labelled sessions, results, and what a classifier is."""

from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["NONE", "Array", "Classes", "Classifier", "Labels", "Session"]

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

NONE = "none of these"
"""Label of a spectrum that belongs to no class of the classifier."""


@dataclass(frozen=True, eq=False)
class Session:
    """Labelled spectra of one session: one tip, one bias axis.

    A data set is a ``tuple[Session, ...]``; a split that keeps sessions whole says what a
    classifier does under a tip that it has not seen.

    Parameters
    ----------
    name : str
        Name of the session, unique in a data set.
    bias : (n,) array
        Bias axis (V), rising or falling, without repetitions.
    didv : (N, n) array
        Differential conductance (A/V), one row a spectrum; N may be 0.
    labels : (N,) array of str
        Class of each spectrum.

    Raises
    ------
    ValueError
        If shapes do not fit together, a number is not finite, the bias is not strictly
        monotonic or has fewer than two points, or a label or the name is empty.
    """

    name: str
    bias: Array
    didv: Array
    labels: Labels

    def __post_init__(self) -> None:
        """Check the values and hold them as arrays of float and str."""
        bias = np.asarray(self.bias, float)
        didv = np.asarray(self.didv, float)
        labels = np.asarray(self.labels, str)
        where = f"session {self.name!r}"
        if not self.name:
            raise ValueError("a session has no name; give it one, such as the name of its folder")
        if bias.ndim != 1 or bias.size < 2:
            raise ValueError(f"{where}: bias has shape {bias.shape}; give one axis of 2+ points")
        if didv.ndim != 2 or didv.shape[1] != bias.size:
            raise ValueError(
                f"{where}: dI/dV has shape {didv.shape} and the bias axis {bias.size} points; "
                "give one row per spectrum and one column per bias"
            )
        if labels.shape != (didv.shape[0],):
            raise ValueError(
                f"{where}: {didv.shape[0]} spectra but labels of shape {labels.shape}; "
                "give one label per spectrum"
            )
        if not np.isfinite(bias).all() or not np.isfinite(didv).all():
            count = int((~np.isfinite(didv)).any(axis=1).sum())
            raise ValueError(
                f"{where}: the bias or {count} spectra hold NaN or infinite values; "
                "leave these spectra out before training"
            )
        steps = np.diff(bias)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError(f"{where}: the bias does not rise or fall strictly; sort the points")
        if (labels == "").any():
            raise ValueError(f"{where}: {int((labels == '').sum())} labels are empty; name them")
        for name, value in (("bias", bias), ("didv", didv), ("labels", labels)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Count the spectra."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Classes:
    """What a classifier says of N spectra.

    Parameters
    ----------
    classes : tuple of str
        Names of the K classes.
    probabilities : (N, K) array
        Probability of each class, given that the spectrum belongs to one of them.
    novelty : (N,) array
        0 to 1; above 0.5 the spectrum belongs to none of the classes.
    problems : tuple of str
        For each spectrum "", or a sentence on why it could not be judged; its probabilities
        are then equal and its novelty is 1.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or a number is outside 0 to 1.
    """

    classes: tuple[str, ...]
    probabilities: Array
    novelty: Array
    problems: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the shapes and ranges."""
        count = len(self.problems)
        if self.probabilities.shape != (count, len(self.classes)) or self.novelty.shape != (count,):
            raise ValueError(
                f"{count} spectra and {len(self.classes)} classes, but probabilities of shape "
                f"{self.probabilities.shape} and novelty of shape {self.novelty.shape}"
            )
        for name, value in (("probabilities", self.probabilities), ("novelty", self.novelty)):
            if not ((value >= 0.0) & (value <= 1.0)).all():
                raise ValueError(f"{name} are not all between 0 and 1")

    def __len__(self) -> int:
        """Count the spectra."""
        return len(self.problems)

    @property
    def best(self) -> Labels:
        """Most probable class (N,), whatever the novelty."""
        return np.asarray(self.classes)[np.argmax(self.probabilities, axis=1)]

    @property
    def labels(self) -> Labels:
        """Class (N,) of each spectrum, or NONE where the novelty is above 0.5."""
        return np.where(self.novelty > 0.5, NONE, self.best)

    @property
    def confidence(self) -> Array:
        """Probability (N,) that `labels` is right: of the class and of being one of the classes.

        For a spectrum that is none of the classes, the novelty.
        """
        known = (1.0 - self.novelty) * self.probabilities.max(axis=1)
        return np.where(self.novelty > 0.5, self.novelty, known)


@runtime_checkable
class Classifier(Protocol):
    """Names spectra. Weights are arrays and settings are JSON, so that nothing is unpickled."""

    @property
    def name(self) -> str:
        """Name of the kind of classifier."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def classify(self, bias: Array, didv: Array) -> Classes:
        """Name spectra.

        Parameters
        ----------
        bias : (n,) array
            Bias axis (V).
        didv : (N, n) array
            Differential conductance (A/V), one row a spectrum.

        Returns
        -------
        Classes
            For bad spectra an entry in `Classes.problems`, never an exception.

        Raises
        ------
        ValueError
            If the arrays have other shapes than those above.
        """
        ...

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, and settings that JSON can hold."""
        ...

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the classifier again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        ...
