"""Calling acquisition and cost functions, also those of users, and choosing by what they say."""

import importlib
import inspect
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .acquisition import ACQUISITIONS, COSTS, Acquisition, Candidates, Cost

FloatArray = npt.NDArray[np.float64]


def get_acquisition(acquisition: str | Acquisition) -> Acquisition:
    """Return an acquisition function by its name; a callable is returned as it is.

    Parameters
    ----------
    acquisition : str or callable
        A name of `ACQUISITIONS`, ``"module:function"``, or a function.

    Raises
    ------
    ValueError
        If there is no function of that name; the message lists those there are.
    """
    return _look_up(acquisition, ACQUISITIONS, "acquisition function", "(mean, variance) -> scores")


def get_cost(cost: str | Cost) -> Cost:
    """Return a cost function by its name (see `COSTS`), ``"module:function"``, or itself.

    It gets the last position (2,) and all candidates (M, 2), in sample coordinates in metres, and
    returns the cost of each candidate (M,), in any unit; that of those that may still be chosen
    must be above zero.

    Raises
    ------
    ValueError
        If there is no function of that name.
    """
    return _look_up(cost, COSTS, "cost function", "(origin, xy) -> costs")


def evaluate(
    acquisition: Acquisition,
    mean: FloatArray,
    variance: FloatArray,
    candidates: Candidates | None = None,
) -> FloatArray:
    """Call an acquisition function and check what it returns.

    Parameters
    ----------
    acquisition : callable
        Function of posterior mean and variance and, if it has a third parameter, of a
        `Candidates`.
    mean, variance : ndarray, shape (M,)
        Posterior, in the unit of the outcomes and in that unit squared.
    candidates : Candidates, optional
        For functions with a third parameter.

    Returns
    -------
    ndarray, shape (M,)
        Scores.

    Raises
    ------
    ValueError
        If it raises, or returns another shape or a score that is not finite.
    """
    label = f"Acquisition function {_name(acquisition)}"
    wants = _positional(acquisition) > 2
    arguments = (mean, variance, candidates) if wants else (mean, variance)
    scores = _call(label, acquisition, arguments, mean.shape, "score")
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"{label} returned {scores[bad]} for candidate {bad}, where the "
            f"mean is {mean[bad]:g} and the variance {variance[bad]:g}; scores must be finite."
        )
    return scores


def discount(
    scores: FloatArray,
    cost: Cost,
    origin: FloatArray,
    xy: FloatArray,
    allowed: npt.NDArray[np.bool_],
) -> FloatArray:
    """Divide scores, counted from the lowest, by the cost of each candidate.

    The cost of a candidate that may not be chosen, such as the point where the tip is, does not
    count.

    Parameters
    ----------
    scores : ndarray, shape (M,)
        Scores of an acquisition function.
    cost : callable
        See `get_cost`.
    origin : ndarray, shape (2,)
        Last position, in metres.
    xy : ndarray, shape (M, 2)
        Candidates, in metres.
    allowed : ndarray of bool, shape (M,)
        Candidates that may be chosen.

    Returns
    -------
    ndarray, shape (M,)
        Scores; 0 where a candidate may not be chosen.

    Raises
    ------
    ValueError
        If the cost function raises, or returns another shape or, of a candidate that may be
        chosen, a cost that is not above zero.
    """
    label = f"Cost function {_name(cost)}"
    costs = _call(label, cost, (origin, xy), scores.shape, "cost")
    wrong = allowed & ~(np.isfinite(costs) & (costs > 0))
    if wrong.any():
        bad = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{label} returned {costs[bad]} for candidate {bad} at ({xy[bad, 0]:g}, "
            f"{xy[bad, 1]:g}) m; a cost must be finite and above zero."
        )
    return np.divide(scores - scores.min(), costs, out=np.zeros_like(scores), where=allowed)


def choose_highest(scores: FloatArray, allowed: npt.NDArray[np.bool_]) -> int:
    """Find the best candidate, the same on every machine.

    Scores count as equal to nine digits of the largest, because beyond that the order is decided
    by the rounding of the linear algebra. Among equals the lowest index wins.

    Parameters
    ----------
    scores : ndarray, shape (M,)
        Scores, finite.
    allowed : ndarray of bool, shape (M,)
        Candidates that may be chosen.

    Returns
    -------
    int
        Index of the candidate.

    Raises
    ------
    ValueError
        If no candidate is allowed.
    """
    free = np.where(allowed, scores, -np.inf)
    highest = float(free.max())
    if highest == -np.inf:
        raise ValueError("No candidate is left to choose from.")
    lowest = float(np.where(allowed, scores, np.inf).min())
    step = 1e-9 * max(abs(highest), abs(lowest))
    if step == 0.0:
        return int(np.argmax(allowed))
    near = np.flatnonzero(free >= highest - 2.0 * step)
    return int(near[np.argmax(np.round(free[near] / step))])


def _look_up(given: Any, known: dict[str, Any], what: str, form: str) -> Any:
    if callable(given):
        return given
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str) and given.count(":") == 1:
        module, name = given.split(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:
            raise ValueError(
                f"The {what} {given!r} cannot be had ({type(error).__name__}: {error}); give "
                "'module:function' of a module that can be imported."
            ) from error
        if not callable(found):
            raise ValueError(f"The {what} {given!r} is {found!r}; it must be a function.")
        return found
    raise ValueError(
        f"No {what} {given!r}; choose one of {', '.join(known)}, or give a callable {form}, "
        "or 'module:function'."
    )


def _call(
    label: str, function: Any, arguments: tuple[Any, ...], shape: tuple[int, ...], noun: str
) -> FloatArray:
    try:
        values = np.asarray(function(*arguments), dtype=float)
    except Exception as error:
        if str(error).startswith("The acquisition function"):
            raise
        raise ValueError(f"{label} raised {type(error).__name__}: {error}") from error
    if values.shape != shape:
        raise ValueError(
            f"{label} returned shape {values.shape} for {shape[0]} candidates; it must return one "
            f"{noun} per candidate, shape {shape}."
        )
    return values


@lru_cache(maxsize=64)
def _positional(function: Any) -> int:
    """Count the positional parameters that a function needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", repr(function)))
