"""From features to probabilities and novelty, and new classes from a few examples.

The distance of a spectrum from a class is that of Mahalanobis in feature space, with one
covariance for all kinds. A class learned from examples is the mean of their features. Old
classes keep their features, their probabilities among each other and their reject. A new one is
given, or loses, so much in its log odds that it takes 1.5 % of the spectra of the old ones that the
head remembers: no more, and less where it lies far from all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from bluesky_gpsts.spectra.types import NONE, Array

__all__ = ["Head", "few_shot", "fit_head", "split_logits"]

_SHRINKAGE = 0.05
_STEEPNESS = 8.0
_ODDS, _DOUBT = 8.0, 0.5
_CELL = 0.3
_LIMIT = 12.0
_REMEMBERED, _FORGOTTEN, _LEEWAY = 800, 0.015, 2.0
_SEED = 91


@dataclass(frozen=True, eq=False)
class Head:
    """Decides on K classes, of which the last were learned from examples.

    Parameters
    ----------
    classes : tuple of str
        Names of the K classes.
    whitening : (F, F) array
        Takes features to coordinates in which all kinds have unit covariance.
    centres : (K, F) array
        Means of the classes in these coordinates.
    spread : (K,) array
        Squared distance from its centre within which a spectrum belongs to a class.
    temperature : float
        Divides the logits of the trained classes.
    reject : (3,) array
        Logit of the novelty: reject[0] score + reject[1] log(distance) + reject[2].
    trained : int
        Number of classes that have logits.
    memory : (M, F + 1) array
        Spectra of the trained classes: white coordinates, and logit of the novelty.
    handicap : (K,) array
        What the log odds of a class are lowered by, so that it leaves the memory alone; below 0
        where it would do so anyway.
    """

    classes: tuple[str, ...]
    whitening: Array
    centres: Array
    spread: Array
    temperature: float
    reject: Array
    trained: int
    memory: Array
    handicap: Array

    def judge(self, features: Array, logits: Array, score: Array) -> tuple[Array, Array]:
        """Probabilities and novelty.

        Parameters
        ----------
        features : (N, F) array
            Features.
        logits : (N, trained) array
            Logits of the trained classes.
        score : (N,) array
            What else speaks for novelty, larger = stranger.

        Returns
        -------
        probabilities : (N, K) array
        novelty : (N,) array
        """
        scaled = logits / self.temperature
        old = _softmax(scaled)
        white = features @ self.whitening
        distance = self._distances(white)
        strange = self._strange(score, distance)
        if self.trained == len(self.classes):
            return old, expit(strange)
        odds = np.concatenate((np.zeros((len(white), 1)), self._odds(distance, strange)), axis=1)
        share = _softmax(odds)
        probabilities = np.concatenate((old * share[:, :1], share[:, 1:]), axis=1)
        # To be near the examples of a class speaks for that class, and for no other.
        novelty, best = expit(strange), probabilities.argmax(axis=1)
        own = np.flatnonzero(best >= self.trained)
        outside = np.log(distance[own, best[own]] / self.spread[best[own]])
        novelty[own] = np.minimum(novelty[own], expit(_STEEPNESS * outside))
        return probabilities / probabilities.sum(axis=1, keepdims=True), novelty

    def _distances(self, white: Array) -> Array:
        """Squared Mahalanobis distances (N, K) of white coordinates (N, F) from the classes."""
        square = (white**2).sum(axis=1)[:, None] + (self.centres**2).sum(axis=1)
        return np.maximum(square - 2.0 * white @ self.centres.T, 1e-6)

    def _strange(self, score: Array, distance: Array) -> Array:
        """Logit (N,) of the novelty beside the trained classes."""
        nearest = np.log(distance[:, : self.trained].min(axis=1))
        value = self.reject[0] * score + self.reject[1] * nearest + self.reject[2]
        return np.clip(value, -_LIMIT, _LIMIT)

    def _odds(self, distance: Array, strange: Array) -> Array:
        """Log odds (N, K - trained) of each new class against all the old ones."""
        nearest = distance[:, : self.trained].min(axis=1)
        ratio = np.log(nearest[:, None] / distance[:, self.trained :])
        return _ODDS * ratio + _DOUBT * strange[:, None] - self.handicap[self.trained :]

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings, for a file."""
        arrays = {f"head.{name}": np.asarray(getattr(self, name), np.float32) for name in _ARRAYS}
        settings = {
            "classes": list(self.classes),
            "temperature": self.temperature,
            "trained": self.trained,
        }
        return arrays, settings

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Self:
        """Build from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If something is missing or does not fit.
        """
        try:
            values = {name: np.asarray(arrays[f"head.{name}"], float) for name in _ARRAYS}
            classes = tuple(str(name) for name in settings["classes"])
            temperature, trained = float(settings["temperature"]), int(settings["trained"])
        except KeyError as error:
            raise ValueError(f"the model holds no {error}; it is not of this kind") from None
        size = len(values["whitening"])
        expected = {
            "whitening": (size, size),
            "centres": (len(classes), size),
            "spread": (len(classes),),
            "reject": (3,),
            "memory": (len(values["memory"]), size + 1),
            "handicap": (len(classes),),
        }
        for name, shape in expected.items():
            if values[name].shape != shape or not np.isfinite(values[name]).all():
                raise ValueError(
                    f"head.{name} has shape {values[name].shape}; {shape}, finite, expected"
                )
        if not (temperature > 0.0 and 2 <= trained <= len(classes)):
            raise ValueError(f"temperature {temperature}, {trained} trained classes: out of range")
        return cls(classes, temperature=temperature, trained=trained, **values)


_ARRAYS = ("whitening", "centres", "spread", "reject", "memory", "handicap")


def fit_head(
    classes: tuple[str, ...],
    fitted: tuple[Array, NDArray[np.int64]],
    held: tuple[Array, NDArray[np.int64], Array, Array],
) -> Head:
    """Fit covariance and centres on one part, temperature and reject on another.

    Parameters
    ----------
    classes : tuple of str
        Names of the K classes.
    fitted : ((N, F) array, (N,) array of int)
        Features, and the kind of each: 0 to K - 1 a class, more another kind, -1 none.
    held : ((M, F) array, (M,) array of int, (M, K) array, (M,) array)
        Features, kinds, logits and scores of spectra of other sessions.

    Returns
    -------
    Head
    """
    features, kinds = fitted
    count = len(classes)
    named = [kind for kind in np.unique(kinds) if kind >= 0 and (kinds == kind).sum() > 1]
    means = {kind: features[kinds == kind].mean(axis=0) for kind in named}
    inside = np.isin(kinds, named)
    rest = features[inside] - np.stack([means[kind] for kind in kinds[inside]])
    own = kinds[inside] < count
    size = features.shape[1]
    covariance = _covariance(rest[own])
    if not own.all():
        # The classes count as much as all other kinds together.
        covariance = 0.5 * covariance + 0.5 * _covariance(rest[~own])
    covariance *= 1.0 - _SHRINKAGE
    covariance += _SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))
    centres = np.stack([means[kind] for kind in range(count)]) @ whitening
    held_features, held_kinds, logits, score = held
    known = (held_kinds >= 0) & (held_kinds < count)
    head = Head(
        classes,
        whitening,
        centres,
        spread=np.ones(count),
        temperature=_temperature(logits[known], held_kinds[known]),
        reject=np.array([0.0, 1.0, 0.0]),
        trained=count,
        memory=np.zeros((0, size + 1)),
        handicap=np.zeros(count),
    )
    white = held_features @ whitening
    distance = head._distances(white)
    near = distance[known, held_kinds[known]]
    spread = np.array([np.quantile(near[held_kinds[known] == k], 0.98) for k in range(count)])
    # Kinds of a name of their own are far from the classes: they say little about the border.
    border = known | (held_kinds < 0)
    reject = _reject(score[border], np.log(distance[border].min(axis=1)), ~known[border])
    head = replace(head, spread=spread, reject=reject)
    # Only what is rightly known is worth remembering, as many of each class.
    right = known & (logits.argmax(axis=1) == held_kinds)
    rng = np.random.default_rng(_SEED)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(right & (held_kinds == kind)))[: _REMEMBERED // count]
            for kind in range(count)
        ]
    )
    strange = head._strange(score, distance)
    return replace(head, memory=np.column_stack((white, strange))[chosen])


def _softmax(logits: Array) -> Array:
    """Probabilities (N, K) of logits (N, K); quicker for one row than SciPy's."""
    value = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(value / value.sum(axis=1, keepdims=True))


def _covariance(rest: Array) -> Array:
    return np.asarray(rest.T @ rest / max(len(rest), 1))


def split_logits(logits: Array, trained: int) -> tuple[Array, Array]:
    """Logits (N, trained) of the classes, and how much the others are above them (N,)."""
    known, other = logits[:, :trained], logits[:, trained:]
    return known, np.logaddexp.reduce(other, axis=1) - np.logaddexp.reduce(known, axis=1)


def few_shot(head: Head, name: str, features: Array) -> Head:
    """Add a class from the features of its examples.

    Parameters
    ----------
    head : Head
        What is known so far.
    name : str
        Name of the new class.
    features : (N, F) array
        Features of N examples, 1 or more.

    Returns
    -------
    Head
        A new head; the old one is unchanged.

    Raises
    ------
    ValueError
        If the name is no text, empty, begins or ends with a blank, or is taken or reserved.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a class is {name!r}; give a text")
    if not name or name != name.strip():
        raise ValueError(
            f"the name of a class is {name!r}; give one that is not empty, and neither begins nor "
            "ends with a blank"
        )
    if name in head.classes or name == NONE:
        raise ValueError(f"class {name!r} exists already or is reserved; choose another name")
    white = features @ head.whitening
    centre = white.mean(axis=0)
    typical = float(np.median(head.spread[: head.trained])) * (1.0 + 1.0 / len(features))
    # A class far from all others may be wide: nearer to it than to them is near enough.
    far = float(((head.centres - centre) ** 2).sum(axis=1).min())
    new = replace(
        head,
        classes=(*head.classes, name),
        centres=np.concatenate((head.centres, centre[None])),
        spread=np.append(head.spread, max(typical, _CELL * far)),
        handicap=np.append(head.handicap, 0.0),
    )
    if len(head.memory) == 0:
        return new
    odds = new._odds(new._distances(head.memory[:, :-1]), head.memory[:, -1])[:, -1]
    handicap = max(-_LEEWAY, float(np.quantile(odds, 1.0 - _FORGOTTEN)))
    return replace(new, handicap=np.append(head.handicap, handicap))


def _temperature(logits: Array, kinds: NDArray[np.int64]) -> float:
    """Temperature at which the probabilities are likeliest."""
    rows = np.arange(len(kinds))

    def loss(log_temperature: NDArray[np.float64]) -> float:
        scaled = logits / np.exp(log_temperature[0])
        return float((logsumexp(scaled, axis=1) - scaled[rows, kinds]).mean())

    best = minimize(loss, np.zeros(1), bounds=[(-2.0, 3.0)], method="L-BFGS-B")
    return float(np.exp(best.x[0]))


def _reject(score: Array, log_distance: Array, strange: NDArray[np.bool_]) -> Array:
    """Logistic regression of strangeness on score and distance, both kinds equally weighted."""
    columns = np.stack((score, log_distance, np.ones(score.size)), axis=1)
    sign = np.where(strange, 1.0, -1.0)
    weight = np.where(strange, 0.5 / max(strange.sum(), 1), 0.5 / max((~strange).sum(), 1))
    middle, width = columns[:, :2].mean(axis=0), columns[:, :2].std(axis=0) + 1e-9
    scaled = np.concatenate(((columns[:, :2] - middle) / width, columns[:, 2:]), axis=1)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (scaled @ w)
        slope = -weight * sign * expit(-margin)
        penalty = 1e-3 * (w[:2] @ w[:2])
        gradient = scaled.T @ slope + 2e-3 * np.append(w[:2], 0.0)
        return float((weight * np.logaddexp(0.0, -margin)).sum() + penalty), gradient

    # Neither may count against strangeness.
    bounds = [(0.0, None), (0.0, None), (None, None)]
    w = minimize(loss, np.ones(3), jac=True, bounds=bounds, method="L-BFGS-B").x
    slopes = w[:2] / width
    return np.array([slopes[0], slopes[1], w[2] - slopes @ middle])
