"""What a model is fitted to, and what the fit says for a structure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .outputs import Basis
from .scaling import Scaling

FloatArray = npt.NDArray[np.float64]

# A structure that was given is taken as right until the evidence is this far (natural logarithm)
# against it; from _EARLY outcomes on it is asked for more strictly.
_AGAINST = 1.0
_EARLY = 10
_STRICT = 0.3
# The evidence of a structure that is there grows with every outcome. One that has not gained this
# much for each outcome after so many has only its further hyperparameters to fit with.
_GAIN = 0.25
_DUE = 15

# With less evidence than this in favour, points are chosen as if there were no structure: they
# serve the map whether it is right or wrong. With more than _LATE outcomes it no longer matters.
_FOR = 1.0
_LATE = 40


@dataclass(frozen=True, eq=False)
class Fit:
    """Scaling and hyperparameters, and what the data say for the structure.

    Attributes
    ----------
    scaling : Scaling
        How outcomes are standardised.
    blind : ndarray, shape (3,)
        Hyperparameters without the structure.
    structured : ndarray, shape (P,), or None
        With the structure; None if there is none.
    evidence : float
        Log posterior with the structure minus that without, or minus that with its rival (a
        symmetry of another order) if that is higher.
    trained : bool
        False if they are the medians of their priors.
    n : int
        Number of outcomes that they were trained with.
    basis : Basis or None
        Principal components of the spectra; None where spectra are not modelled, or not yet.
    """

    scaling: Scaling
    blind: FloatArray
    structured: FloatArray | None
    evidence: float
    trained: bool
    n: int = 0
    basis: Basis | None = None

    @property
    def uses_structure(self) -> bool:
        """Whether the data support the structure, or say nothing against it."""
        if self.structured is None:
            return False
        if self.n < _EARLY:
            return self.evidence > -_AGAINST
        return self.evidence > _GAIN * max(self.n - _DUE, 0) - _STRICT

    @property
    def undecided(self) -> bool:
        """Whether the structure is in use without evidence for it."""
        if not self.uses_structure or self.n > _LATE:
            return False
        return self.evidence < _FOR

    @property
    def hyperparameters(self) -> FloatArray:
        """Those in use."""
        if self.structured is not None and self.uses_structure:
            return self.structured
        return self.blind

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return {
            "scaling": vars(self.scaling).copy(),
            "blind": self.blind.tolist(),
            "structured": None if self.structured is None else self.structured.tolist(),
            "evidence": self.evidence,
            "trained": self.trained,
            "n": self.n,
            "basis": None if self.basis is None else self.basis.to_json(),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Fit":
        """Undo `to_json`."""
        structured = state["structured"]
        return cls(
            Scaling(**state["scaling"]),
            np.array(state["blind"], dtype=float),
            None if structured is None else np.array(structured, dtype=float),
            float(state["evidence"]),
            bool(state["trained"]),
            int(state["n"]),
            None if state["basis"] is None else Basis.from_json(state["basis"]),
        )

    def outcomes(self, data: "Data") -> FloatArray:
        """Outcomes as the model has them: shape (N, 1 + components).

        The figure of merit comes first, standardised, then the scores of the spectra.
        """
        first = self.scaling.standardise(data.values)[:, None]
        if self.basis is None or data.spectra is None:
            return first
        return np.concatenate([first, self.basis.scores(data.spectra)], axis=1)


@dataclass(frozen=True, eq=False)
class Data:
    """Outcomes as the model takes them.

    Attributes
    ----------
    unit : ndarray, shape (N, 2)
        Positions, fractions of the frame.
    values : ndarray, shape (N,)
        Outcomes.
    variances : ndarray, shape (N,)
        Their noise variances, in their unit squared; NaN where unknown.
    spectra : ndarray, shape (N, n), or None
        The spectra, where they are modelled.
    """

    unit: FloatArray
    values: FloatArray
    variances: FloatArray
    spectra: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def part(self, first: int, last: int) -> "Data":
        """Return the outcomes from number `first` up to, not including, `last`."""
        return Data(
            self.unit[first:last],
            self.values[first:last],
            self.variances[first:last],
            None if self.spectra is None else self.spectra[first:last],
        )
