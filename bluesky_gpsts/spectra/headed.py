"""What classifiers share whose decision is a `Head` on features of a spectrum."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bluesky_gpsts.spectra.novelty import Head, few_shot
from bluesky_gpsts.spectra.preprocess import find_problems
from bluesky_gpsts.spectra.types import Array, Classes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Headed"]


class Headed:
    """A classifier with features of its own and a head that decides; a frozen dataclass."""

    head: Head

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.head.classes

    def classify(self, bias: Array, didv: Array) -> Classes:
        """Name spectra.

        Parameters
        ----------
        bias : (n,) array
            Bias axis (V), rising or falling.
        didv : (N, n) array
            Differential conductance (A/V).

        Returns
        -------
        Classes
            Bad spectra have a sentence in `problems`.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        axis, values = np.asarray(bias, float), np.asarray(didv, float)
        problems = find_problems(axis, values)
        good = np.array([not text for text in problems], bool)
        probabilities = np.full((len(problems), len(self.classes)), 1.0 / len(self.classes))
        novelty = np.ones(len(problems))
        if good.any():
            chosen = values if good.all() else values[good]
            probabilities[good], novelty[good] = self.head.judge(*self._features(axis, chosen))
        return Classes(self.classes, probabilities, novelty, problems)

    def with_class(self, name: str, bias: Array, didv: Array) -> Self:
        """Classifier that knows one class more, from a few examples, without training.

        Parameters
        ----------
        name : str
            Name of the new class.
        bias : (n,) array
            Bias axis (V).
        didv : (N, n) array
            Examples (A/V); one works, five are better.

        Returns
        -------
        Headed
            A new classifier; this one is unchanged.

        Raises
        ------
        ValueError
            If an example cannot be judged, there is none, or the name is taken.
        """
        axis, values = np.asarray(bias, float), np.asarray(didv, float)
        for number, problem in enumerate(find_problems(axis, values), 1):
            if problem:
                raise ValueError(f"example {number} of {name!r} is of no use: {problem}")
        size = len(self.head.whitening)
        features = self._features(axis, values)[0] if len(values) else np.zeros((0, size))
        return self._with_head(few_shot(self.head, name, features))

    def _with_head(self, head: Head) -> Self:
        instance: DataclassInstance = self  # type: ignore[assignment]
        changed: Any = replace(instance, head=head)
        return changed

    def _features(self, bias: Array, didv: Array) -> tuple[Array, Array, Array]:
        """Features (N, F), logits of the trained classes, and what else speaks for novelty."""
        raise NotImplementedError
