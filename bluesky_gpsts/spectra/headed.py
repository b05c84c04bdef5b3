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

_SURE = 0.8
"""Examples of a new class that are known with this probability are of no new class."""


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
            If an example cannot be judged, there is none, the name is taken, no text, empty or
            has blanks at its ends, or most of the examples are known already as one of the
            trained classes: a new class would take its spectra.
        """
        axis, values = np.asarray(bias, float), np.asarray(didv, float)
        for number, problem in enumerate(find_problems(axis, values), 1):
            if problem:
                raise ValueError(f"example {number} of {name!r} is of no use: {problem}")
        if not len(values):
            raise ValueError(f"no usable example of {name!r}; give one or more spectra")
        features, logits, score = self._features(axis, values)
        probabilities, novelty = self.head.judge(features, logits, score)
        added = few_shot(self.head, name, features)
        sure = (1.0 - novelty) * probabilities.max(axis=1) > _SURE
        known = np.bincount(probabilities.argmax(axis=1)[sure], minlength=len(self.classes))
        # Among classes that came from examples, the nearer examples decide.
        known = known[: self.head.trained]
        if 2 * known.max() > len(values):
            taken = self.classes[int(known.argmax())]
            raise ValueError(
                f"{known.max()} of {len(values)} examples of {name!r} are {taken!r} to this "
                "classifier, which could not tell the two apart; give spectra that differ from "
                "it, or train with both classes"
            )
        return self._with_head(added)

    def _with_head(self, head: Head) -> Self:
        instance: DataclassInstance = self  # type: ignore[assignment]
        changed: Any = replace(instance, head=head)
        return changed

    def _features(self, bias: Array, didv: Array) -> tuple[Array, Array, Array]:
        """Features (N, F), logits of the trained classes, and what else speaks for novelty."""
        raise NotImplementedError
