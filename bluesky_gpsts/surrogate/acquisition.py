"""Acquisition functions: what makes a candidate worth measuring.

Each is a plain function of the posterior mean (M,) in the unit of the outcomes and of the
posterior variance (M,) in that unit squared, and returns one score per candidate (M,); the
candidate with the highest score is measured next. Any callable of that form can take their place.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Acquisition = Callable[[FloatArray, FloatArray], FloatArray]


def variance(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Posterior variance: measure where least is known.

    Source: Thomas et al., npj Comput. Mater. 8, 99 (2022), supplementary equation 4.
    """
    return variance


def ucb(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Upper confidence bound: mean plus three standard deviations.

    Source: Thomas et al., npj Comput. Mater. 8, 99 (2022), supplementary equation 5, with c = 3.
    """
    return mean + 3.0 * np.sqrt(variance)


def weighted(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Signal-weighted deviation: standard deviation times (0.3 + normalised mean).

    The mean is normalised to 0 and 1 at its lowest and highest candidate. The unit is that of the
    outcomes. Of the rules that need no knowledge of the pattern, it needs the fewest spectra for
    a bright defect on a flat background.
    """
    low, high = float(mean.min()), float(mean.max())
    normalised = (mean - low) / (high - low) if high > low else np.zeros_like(mean)
    return np.sqrt(variance) * (0.3 + normalised)


ACQUISITIONS: dict[str, Acquisition] = {
    "variance": variance,
    "ucb": ucb,
    "weighted": weighted,
}


def get_acquisition(acquisition: str | Acquisition) -> Acquisition:
    """Return an acquisition function by its name; a callable is returned as it is.

    Raises
    ------
    ValueError
        If there is no function of that name; the message lists those there are.
    """
    if callable(acquisition):
        return acquisition
    try:
        return ACQUISITIONS[acquisition]
    except KeyError:
        raise ValueError(
            f"No acquisition function {acquisition!r}; choose one of {', '.join(ACQUISITIONS)}, "
            "or give a callable (mean, variance) -> scores."
        ) from None


def evaluate(acquisition: Acquisition, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Call an acquisition function and check what it returns.

    Parameters
    ----------
    acquisition : callable
        Function of posterior mean and variance.
    mean, variance : ndarray, shape (M,)
        Posterior, in the unit of the outcomes and in that unit squared.

    Returns
    -------
    ndarray, shape (M,)
        Scores.

    Raises
    ------
    ValueError
        If it returns another shape, or a score that is not finite.
    """
    name = getattr(acquisition, "__name__", repr(acquisition))
    scores = np.asarray(acquisition(mean, variance), dtype=float)
    if scores.shape != mean.shape:
        raise ValueError(
            f"Acquisition function {name} returned shape {scores.shape} for {mean.size} "
            f"candidates; it must return one score per candidate, shape {mean.shape}."
        )
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"Acquisition function {name} returned {scores[bad]} for candidate {bad}, where the "
            f"mean is {mean[bad]:g} and the variance {variance[bad]:g}; scores must be finite."
        )
    return scores


def ranked(scores: FloatArray, allowed: npt.NDArray[np.bool_]) -> FloatArray:
    """Make the choice of the best candidate unique and the same on every machine.

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
    ndarray, shape (M,)
        Rounded scores in steps of that digit, with exactly one highest; minus infinity where a
        candidate is not allowed, and for those that tie with the winner.

    Raises
    ------
    ValueError
        If no candidate is allowed.
    """
    if not allowed.any():
        raise ValueError("No candidate is left to choose from.")
    step = 1e-9 * float(np.abs(scores[allowed]).max())
    steps = np.round(scores / step) if step > 0 else np.zeros_like(scores)
    steps[~allowed] = -np.inf
    equal = np.flatnonzero(steps == steps.max())
    steps[equal[1:]] = -np.inf
    return steps
