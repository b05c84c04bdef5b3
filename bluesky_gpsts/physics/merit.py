"""The figure of merit of a spectrum, without noise: the truth behind a map."""

import numpy as np

from .constants import FloatArray
from .tunnelling import Junction


def window_sum(
    junction: Junction,
    x: FloatArray,
    y: FloatArray,
    window: tuple[float, float],
    bias: float,
    setpoint: float,
) -> FloatArray:
    """Noise-free figure of merit: dI/dV integrated over a bias window, after feedback.

    At each position the tip is stabilised at (bias, setpoint) and held while the bias is swept,
    as in Thomas et al., npj Comput. Mater. 8, 99 (2022). The integral of dI/dV is the
    difference of the currents at the window's ends, so no sampling step enters.

    Parameters
    ----------
    junction : Junction
        Surface, tip and temperature.
    x, y : (n,) arrays
        Positions (m).
    window : (float, float)
        Lower and upper end (V).
    bias, setpoint : float
        Bias (V) and current magnitude (A) of the feedback before the sweep.

    Returns
    -------
    (n,) array
        Integral of dI/dV over the window (A).

    Raises
    ------
    ValueError
        If the window is empty or outside the surface's bias limits.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"window is {low:g} to {high:g} V; give the lower end first")
    dz = junction.setpoint_gap(x, y, bias, setpoint)
    ends = junction.current(x, y, np.array([low, high]), dz)
    return np.asarray(ends[:, 1] - ends[:, 0])
