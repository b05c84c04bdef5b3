"""The figure of merit: what the Gaussian process learns of a spectrum."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_window", "figure_of_merit"]


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
