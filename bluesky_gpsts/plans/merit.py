"""The figure of merit: what the Gaussian process learns of a spectrum."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Merit", "check_window", "figure_of_merit", "judge", "own_merit"]


@dataclass(frozen=True)
class Merit:
    """What a spectrum is worth.

    Attributes
    ----------
    value : float
        Figure of merit: the integral over the window (A), or what the function of the user's own
        returns, in its unit. NaN if there is none.
    variance : float
        Variance of its noise, in that unit squared; NaN if not known.
    failure : str
        Why the spectrum has no figure of merit; empty if it has one.
    """

    value: float
    variance: float
    failure: str = ""


_FEWEST = 4


def check_window(
    window: tuple[float, float], bias_range: tuple[float, float], n_points: int
) -> None:
    """Refuse a window (V) that does not lie within the bias range (V) or holds too few points.

    Raises
    ------
    ValueError
        If it is empty, not finite, reaches outside, or holds fewer than four of the `n_points`
        points that are spread evenly over the bias range.
    """
    low, high = (float(value) for value in window)
    start, end = sorted(float(value) for value in bias_range)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(
            f"the window {low:g} to {high:g} V is empty; give its lower end first, in volts"
        )
    margin = 1e-6 * max(abs(start), abs(end))
    if low < start - margin or high > end + margin:
        raise ValueError(
            f"the window {low:g} to {high:g} V reaches outside the bias range {start:g} to "
            f"{end:g} V; choose a window inside, or a wider range"
        )
    _inside(np.linspace(*bias_range, n_points), window)


def _inside(bias: NDArray[np.float64], window: tuple[float, float]) -> NDArray[np.bool_]:
    """Which points (V) lie in the window (V); ValueError if they are too few."""
    low, high = window
    # The controller's bias axis has 32 bits.
    tolerance = 1e-6 * float(np.max(np.abs(bias)))
    inside: NDArray[np.bool_] = (bias >= low - tolerance) & (bias <= high + tolerance)
    count = int(inside.sum())
    if count < _FEWEST:
        raise ValueError(
            f"{count} points of the spectrum lie in the window {low:g} to {high:g} V; {_FEWEST} "
            "are needed: take more points or a wider window"
        )
    return inside


def figure_of_merit(
    bias: NDArray[np.float64], didv: NDArray[np.float64], window: tuple[float, float]
) -> tuple[float, float]:
    """Integral of dI/dV over a bias window, and the variance of its noise.

    The sum of dI/dV over the window is the signal of Thomas et al., npj Comput. Mater. 8, 99
    (2022); times the bias step it does not depend on the number of points. The noise is estimated
    from the second differences of neighbouring points, which smooth structure does not reach.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V), ascending or descending.
    didv : (n,) array
        dI/dV (A/V).
    window : (float, float)
        Lower and upper end (V).

    Returns
    -------
    value : float
        Integral (A).
    variance : float
        Variance of its noise (A^2).

    Raises
    ------
    ValueError
        If fewer than four points lie in the window, or a value is not finite.
    """
    inside = _inside(bias, window)
    count = int(inside.sum())
    values = didv[inside]
    if not np.isfinite(values).all():
        raise ValueError(
            f"the spectrum has values that are not finite in {window[0]:g} to {window[1]:g} V"
        )
    step = abs(float(bias[inside][-1] - bias[inside][0])) / (count - 1)
    value = float(np.trapezoid(values, dx=step))
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    return value, float(np.mean(second**2) / 6.0 * count * step**2)


def own_merit(name: str) -> Callable[..., Any]:
    """Import a figure of merit of the user's own.

    Parameters
    ----------
    name : str
        ``"module:function"``. The function gets bias (V) and dI/dV (A/V), each of shape (n,), and
        returns a number, or a number and the variance of its noise.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise ValueError(
            f"the figure of merit {name!r} cannot be had ({type(error).__name__}: {error}); give "
            "'module:function' of a module that can be imported, or nothing for the window"
        ) from error
    if not callable(found):
        raise ValueError(f"the figure of merit {name!r} is {found!r}, not a function")
    return found


def judge(
    bias: NDArray[np.float64],
    didv: NDArray[np.float64],
    window: tuple[float, float],
    own: Callable[..., Any] | None = None,
    whole: bool = False,
) -> Merit:
    """Figure of merit of a spectrum, or why it has none; nothing is raised.

    Parameters
    ----------
    bias, didv : (n,) arrays
        Bias (V) and dI/dV (A/V).
    window : (float, float)
        Window (V) of the integral.
    own : callable, optional
        See `own_merit`; it takes the place of the integral.
    whole : bool
        Whether every point of the spectrum has to be finite.
    """
    # What a function does to its arguments must not reach the events.
    bias, didv = bias.copy(), didv.copy()
    bad = int(np.count_nonzero(~np.isfinite(didv)))
    if whole and bad:
        return _failed(f"the spectrum has {bad} of {len(didv)} values that are not finite")
    if own is None:
        try:
            return Merit(*figure_of_merit(bias, didv, window))
        except ValueError as error:
            return _failed(str(error))
    from bluesky_gpsts.surrogate.points import LARGEST

    name = getattr(own, "__name__", repr(own))
    try:
        answer = np.atleast_1d(np.asarray(own(bias, didv), dtype=float))
    except SystemExit as error:
        return _failed(f"the figure of merit {name} called sys.exit({error.code!r})")
    except Exception as error:
        return _failed(f"the figure of merit {name} raised {type(error).__name__}: {error}")
    if answer.shape not in ((1,), (2,)):
        return _failed(
            f"the figure of merit {name} returned an array of shape {answer.shape}; it must return "
            "a finite number, or a number and its variance"
        )
    if not abs(answer[0]) <= LARGEST:
        return _failed(
            f"the figure of merit {name} returned {answer[0]:g}; it must return a finite number, "
            f"of size {LARGEST:g} at most"
        )
    variance = float(answer[1]) if len(answer) == 2 else math.nan
    if variance < 0 or variance > LARGEST**2:
        return _failed(f"the figure of merit {name} returned the variance {variance:g}")
    return Merit(float(answer[0]), variance)


def _failed(why: str) -> Merit:
    return Merit(math.nan, math.nan, why)
