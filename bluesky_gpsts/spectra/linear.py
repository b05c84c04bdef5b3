"""The classifier without torch: principal components and logistic regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from bluesky_gpsts.spectra.headed import Headed
from bluesky_gpsts.spectra.lessons import spoil
from bluesky_gpsts.spectra.novelty import Head, fit_head, split_logits
from bluesky_gpsts.spectra.preprocess import channels
from bluesky_gpsts.spectra.splits import session_split
from bluesky_gpsts.spectra.types import Array, Session

__all__ = ["LinearClassifier", "train_linear"]

_ROWS = slice(1, 3)
# Biases (V) at which spectra are compared, and what marks one that was not measured.
_BIASES = np.linspace(-2.2, 2.2, 221)
_ABSENT = 0.3
_RIDGE = 3e-4
# Smallest and largest error (V) of a bias axis on which a spectrum belongs to none of the classes.
_MOVED = (0.12, 1.0)


@dataclass(frozen=True, eq=False)
class LinearClassifier(Headed):
    """Principal components of the prepared spectra and logistic regression, with a reject.

    Parameters
    ----------
    mean : (P,) array
        Mean of the prepared spectra at fixed biases: asinh of dI/dV and of its slope, and which of
        the biases were not measured.
    components : (P, F) array
        Principal components, scaled to unit variance.
    weights : (F + 1, K + 1) array
        Logits of the K classes and of none of them, from components; the last row is the
        intercept.
    head : Head
        What decides.
    """

    mean: NDArray[Any]
    components: NDArray[Any]
    weights: NDArray[Any]
    head: Head

    @property
    def name(self) -> str:
        """Name of the kind of classifier."""
        return "linear"

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, and settings that JSON can hold."""
        arrays, settings = self.head.to_arrays()
        own = {name: np.asarray(getattr(self, name), kind) for name, kind in _ARRAYS.items()}
        return {**own, **arrays}, {"head": settings}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the classifier again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        try:
            own = {name: np.asarray(arrays[name], float) for name in _ARRAYS}
            of_head = settings["head"]
        except KeyError as error:
            raise ValueError(f"the model holds no {error}; it is not of this kind") from None
        head = Head.from_arrays(arrays, of_head)
        length, size = own["mean"].size, head.whitening.shape[0]
        shapes = {"mean": (length,), "components": (length, size)}
        shapes["weights"] = (size + 1, head.trained + 1)
        for name, shape in shapes.items():
            if own[name].shape != shape or not np.isfinite(own[name]).all():
                raise ValueError(f"{name} of shape {own[name].shape}; {shape}, finite, expected")
        return cls(head=head, **own)

    def _features(self, bias: Array, didv: Array) -> tuple[Array, Array, Array]:
        return _outcome(_vectors(bias, didv), self.mean, self.components, self.weights)


_ARRAYS = {"mean": np.float32, "components": np.float16, "weights": np.float32}


def train_linear(
    sessions: Sequence[Session], seed: int = 0, *, components: int = 60
) -> LinearClassifier:
    """Train on labelled sessions.

    Parameters
    ----------
    sessions : sequence of Session
        Labelled spectra of two classes or more, each in two sessions or more: a third of the
        sessions fits temperature and reject.
    seed : int
        Seed of the split, and of the spectra that belong to none of the classes: spoilt ones, and
        the measured ones on a wrong bias axis.
    components : int
        Number of principal components, at most.

    Returns
    -------
    LinearClassifier

    Raises
    ------
    ValueError
        If a class was measured in one session only, or there are fewer than two classes.
    """
    classes = tuple(str(name) for name in np.unique(np.concatenate([s.labels for s in sessions])))
    if len(classes) < 2:
        raise ValueError(f"classes are {classes}; give two or more")
    kept, held = session_split(sessions, 0.33, seed)
    rng = np.random.default_rng([seed, 81])
    vectors, kinds = _lesson(kept, classes, rng)
    mean = vectors.mean(axis=0)
    _, values, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    count = min(components, len(values) - 1)
    scale = np.sqrt(len(vectors)) / np.maximum(values[:count], 1e-9 * values[0])
    # Half precision is enough, and half the file.
    basis = (axes[:count].T * scale).astype(np.float16).astype(float)
    weights = _logistic((vectors - mean) @ basis, kinds, len(classes) + 1)
    held_vectors, held_kinds = _lesson(held, classes, rng)
    outcome = _outcome(held_vectors, mean, basis, weights)
    none = len(classes)
    fitted = (vectors - mean) @ basis, np.where(kinds == none, -1, kinds)
    held_part = outcome[0], np.where(held_kinds == none, -1, held_kinds), *outcome[1:]
    return LinearClassifier(mean, basis, weights, fit_head(classes, fitted, held_part))


def _lesson(
    sessions: Sequence[Session], classes: tuple[str, ...], rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Vectors (N, P) of the spectra, of spoilt ones and of ones on a wrong axis; their kinds."""
    vectors, kinds = [], []
    for session in sessions:
        moved = session.bias + rng.uniform(*_MOVED) * rng.choice((-1.0, 1.0))
        vectors += [
            _vectors(session.bias, session.didv),
            _vectors(session.bias, spoil(session.bias, session.didv, rng)),
            _vectors(moved, session.didv),
        ]
        kinds += [classes.index(label) for label in session.labels]
        kinds += [len(classes)] * (2 * len(session))
    return np.concatenate(vectors), np.array(kinds, np.int64)


def _vectors(bias: Array, didv: Array) -> Array:
    """Prepared spectra at fixed biases, as vectors (N, P); what was not measured is the mean."""
    prepared = channels(bias, didv)
    own = 2.0 * prepared[0, 3].astype(float)
    step = own[1] - own[0]
    place = (_BIASES - own[0]) / step
    low = np.clip(place.astype(int), 0, own.size - 2)
    part = np.clip(place - low, 0.0, 1.0)
    rows = prepared[:, _ROWS]
    at = rows[..., low] * (1.0 - part) + rows[..., low + 1] * part
    outside = (place < 0.0) | (place > own.size - 1)
    at[..., outside] = 0.0
    ends = np.broadcast_to(_ABSENT * outside, (len(didv), outside.size))
    return np.concatenate((at.reshape(len(didv), -1), ends), axis=1)


def _outcome(
    vectors: Array, mean: Array, components: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Components, logits of the classes, and how much none of them is above them."""
    features = (vectors - mean) @ components
    return features, *split_logits(features @ weights[:-1] + weights[-1], weights.shape[1] - 1)


def _logistic(features: Array, kinds: NDArray[np.int64], count: int) -> Array:
    """Multinomial logistic regression with a small ridge: (F + 1, K)."""
    columns = np.concatenate((features, np.ones((len(features), 1))), axis=1)
    wanted = np.eye(count)[kinds]

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(-1, count)
        logits = columns @ w
        log_sum = logsumexp(logits, axis=1, keepdims=True)
        penalty = w.copy()
        penalty[-1] = 0.0
        value = (log_sum[:, 0] - (logits * wanted).sum(axis=1)).mean()
        slope = columns.T @ (np.exp(logits - log_sum) - wanted) / len(columns)
        gradient = slope + 2.0 * _RIDGE * penalty
        return float(value + _RIDGE * (penalty**2).sum()), gradient.ravel()

    start = np.zeros(columns.shape[1] * count)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(best.x.reshape(-1, count))
