"""Line shapes in energy and lateral shapes in the plane, from which the surfaces are made.

Every lateral shape takes `blur`, the standard deviation (m) of a Gaussian tip: a Gaussian of
width sigma widens to sqrt(sigma^2 + blur^2) at constant integral, a wave of wave number k is
damped by exp(-k^2 blur^2 / 2), a smooth edge widens like the Gaussian.
"""

import numpy as np
from scipy.special import erf, expit

from .constants import FloatArray

_CUTOFF = 6.0


def peak(energy: FloatArray, centre: float, fwhm: float, lorentzian: float = 0.15) -> FloatArray:
    """Peak of height 1: a Gaussian with a Lorentzian share that gives it tails.

    Parameters
    ----------
    energy : (m,) array
        Energy (eV).
    centre, fwhm : float
        Position and full width at half maximum (eV).
    lorentzian : float
        Share of the Lorentzian, 0 to 1.

    Returns
    -------
    (m,) array
    """
    u = 2.0 * (energy - centre) / fwhm
    gaussian = np.exp(-np.log(2.0) * u**2)
    return np.asarray((1.0 - lorentzian) * gaussian + lorentzian / (1.0 + u**2))


def edge(energy: FloatArray, onset: float, width: float) -> FloatArray:
    """Band edge: smooth step from 0 to 1 (upwards in energy if width > 0, else downwards).

    Parameters
    ----------
    energy : (m,) array
        Energy (eV).
    onset : float
        Energy of half height (eV).
    width : float
        Decay length of the tail into the gap (eV); 10 to 90 % takes 4.4 times as much.

    Returns
    -------
    (m,) array
    """
    return np.asarray(expit((energy - onset) / width))


def gaussian_spot(
    x: FloatArray, y: FloatArray, x0: float, y0: float, sigma: float, blur: float = 0.0
) -> FloatArray:
    """Two-dimensional Gaussian of height 1 before blurring, at positions (n,) in m.

    Beyond six widths it is zero exactly, and positions there cost next to nothing.
    """
    variance = sigma**2 + blur**2
    result = np.zeros(x.shape)
    reach = _CUTOFF * np.sqrt(variance)
    inside = np.flatnonzero((np.abs(x - x0) < reach) & (np.abs(y - y0) < reach))
    if inside.size:
        r2 = (x[inside] - x0) ** 2 + (y[inside] - y0) ** 2
        result[inside] = sigma**2 / variance * np.exp(-0.5 * r2 / variance)
    return result


def gaussian_ridge(distance: FloatArray, sigma: float, blur: float = 0.0) -> FloatArray:
    """Straight ridge of height 1 before blurring, at distances (n,) in m from its crest."""
    variance = sigma**2 + blur**2
    return np.asarray(sigma / np.sqrt(variance) * np.exp(-0.5 * distance**2 / variance))


def smooth_step(distance: FloatArray, sigma: float, blur: float = 0.0) -> FloatArray:
    """Edge from 0 to 1 at distance 0 (m): the integral of a Gaussian of width sigma (m)."""
    return np.asarray(0.5 * (1.0 + erf(distance / np.sqrt(2.0 * (sigma**2 + blur**2)))))


def rotate(x: FloatArray, y: FloatArray, angle: float) -> tuple[FloatArray, FloatArray]:
    """Rotate positions counter-clockwise by `angle` (rad) about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x - s * y, s * x + c * y


def hexagonal_waves(
    x: FloatArray,
    y: FloatArray,
    constant: float,
    angle: float,
    origin: tuple[float, float],
    blur: float = 0.0,
) -> FloatArray:
    """Mean of the three lowest cosines of a hexagonal lattice: 1 on atoms, -0.5 between.

    Parameters
    ----------
    x, y : (n,) arrays
        Positions (m).
    constant : float
        Lattice constant (m).
    angle : float
        Direction of a close-packed row (rad).
    origin : (float, float)
        Position of one atom (m).
    blur : float
        Standard deviation of the tip (m).

    Returns
    -------
    (n,) array
    """
    k = 4.0 * np.pi / (np.sqrt(3.0) * constant)
    total = np.zeros(x.shape)
    for direction in np.deg2rad((30.0, 90.0, 150.0)) + angle:
        phase = np.cos(direction) * (x - origin[0]) + np.sin(direction) * (y - origin[1])
        total += np.cos(k * phase)
    return np.asarray(np.exp(-0.5 * (k * blur) ** 2) / 3.0 * total)
