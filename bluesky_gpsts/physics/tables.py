"""Tables of current against bias: the energy integral of tunnelling, done once per junction.

With the density of states rho and the tip's rho_t, energies E (eV) relative to the sample's
Fermi level and the bias V applied to the sample, the current is

    I(V) ~ integral rho(E) rho_t(E - V) T(E, V) [f(E - V) - f(E)] dE,
    T(E, V) = exp(-2 z (kappa(E, V) - kappa(0, 0))),
    kappa(E, V) = sqrt(2 m (phi + V/2 - E)) / hbar

(Wentzel-Kramers-Brillouin, trapezoidal barrier). The Fermi functions act as a convolution of
the cold integral with -f' in V: exact but for the change of rho_t T over k_B T, which is about
1e-3 for the smooth tips and barriers used here and cancels to first order, -f' being even.

What is read from a table (thermal current, conductance, lock-in signal) is one finite impulse
response applied to the cold integral, on a uniform bias grid.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import correlate1d

from .barrier import wkb_transmission
from .constants import BOLTZMANN_EV, FloatArray

STEP = 0.25e-3
"""Spacing of the bias grid (V)."""

NODE_STEPS = 80
"""Grid steps between the biases at which tip and barrier are evaluated."""


def cold_current(
    spectra: Callable[[FloatArray], FloatArray],
    tip_dos: Callable[[FloatArray], FloatArray],
    gap: float,
    work_function: float,
    first: int,
    last: int,
) -> FloatArray:
    """Integrate the current at zero temperature on the bias grid.

    Tip and barrier vary slowly with bias, the sample's spectra do not. The integral over energy
    is therefore done on the fine grid for tip and barrier frozen at nodes NODE_STEPS apart, and
    interpolated between the nodes (cubic).

    Parameters
    ----------
    spectra : callable
        Energies (m,) in eV to spectra (K, m).
    tip_dos : callable
        Energies (m,) in eV, relative to the tip's Fermi level, to a density of states (m,).
    gap : float
        Width of the barrier (m).
    work_function : float
        Mean work function (eV).
    first, last : int
        Grid indices; the grid is STEP * arange(first, last + 1), first < 0 < last.

    Returns
    -------
    (K, last - first + 1) array
        Integral (eV times the unit of the spectra).
    """
    up = _cold_branch(spectra, tip_dos, gap, work_function, last, 1)
    down = _cold_branch(spectra, tip_dos, gap, work_function, -first, -1)
    return np.concatenate((-down[:, :0:-1], up), axis=1)


def _cold_branch(
    spectra: Callable[[FloatArray], FloatArray],
    tip_dos: Callable[[FloatArray], FloatArray],
    gap: float,
    work_function: float,
    count: int,
    sign: int,
) -> FloatArray:
    """Integral from 0 to each of the biases sign * STEP * (0 ... count), as a positive number."""
    energy: FloatArray = sign * STEP * np.arange(count + 1, dtype=np.float64)
    sample = np.ascontiguousarray(spectra(energy), dtype=np.float64)
    table: FloatArray = np.zeros(sample.shape)
    # Nodes reach beyond both ends, so that every grid point has four around it.
    for node in range(-1, -(-count // NODE_STEPS) + 2):
        centre = node * NODE_STEPS
        low = min(max(centre - 2 * NODE_STEPS, 0), count)
        high = min(centre + 2 * NODE_STEPS, count)
        bias = sign * STEP * centre
        used = energy[: high + 1]
        weight = tip_dos(used - bias) * wkb_transmission(used, bias, gap, work_function)
        # Trapezoids: the part below `low` needs its sum alone, the rest its running sum.
        integrand = sample[:, low : high + 1] * weight[low:]
        running = np.zeros(integrand.shape)
        np.cumsum(0.5 * STEP * (integrand[:, 1:] + integrand[:, :-1]), axis=1, out=running[:, 1:])
        if low > 0:
            trapezoid = STEP * weight[: low + 1]
            trapezoid[[0, -1]] *= 0.5
            running += (sample[:, : low + 1] @ trapezoid)[:, None]
        share = cubic_weight((np.arange(low, high + 1) - centre) / NODE_STEPS)
        table[:, low : high + 1] += share * running
    return table


def cubic_weight(distance: FloatArray) -> FloatArray:
    """Weight of a node in four-point Lagrange interpolation, at a distance in node spacings."""
    u = np.abs(distance)
    inner = 0.5 * (1.0 - u**2) * (2.0 - u)
    outer = (1.0 - u) * (2.0 - u) * (3.0 - u) / 6.0
    return np.where(u < 1.0, inner, np.where(u < 2.0, outer, 0.0))


def thermal_kernel(temperature: float) -> FloatArray:
    """-f' on the bias grid at a temperature (K), normalised to a sum of one; odd length."""
    thermal = BOLTZMANN_EV * temperature
    half = int(np.ceil(16.0 * thermal / STEP))
    energy = STEP * np.arange(-half, half + 1)
    if half == 0:
        return np.ones(1)
    kernel = 1.0 / np.cosh(0.5 * energy / thermal) ** 2
    return np.asarray(kernel / kernel.sum())


def derivative_kernel() -> FloatArray:
    """Fourth-order central difference (1/V)."""
    return np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / (12.0 * STEP)


def lockin_kernel(amplitude: float, phases: int = 256) -> FloatArray:
    """First harmonic of I(V + amplitude sin wt): (2/N) sum_j I(V + a sin p_j) sin p_j.

    Parameters
    ----------
    amplitude : float
        Peak amplitude of the modulation (V).
    phases : int
        Points of the quadrature over one period; it converges exponentially.

    Returns
    -------
    (odd,) array
        Weights of the grid points around V; times current they give the peak amplitude (A).
    """
    sine = np.sin(2.0 * np.pi * (np.arange(phases) + 0.5) / phases)
    half = int(np.ceil(amplitude / STEP)) + 2
    taps = np.arange(-half, half + 1)
    weights = cubic_weight(amplitude / STEP * sine[:, None] - taps)
    return np.asarray(2.0 / phases * (sine @ weights))


def respond(table: FloatArray, kernel: FloatArray) -> FloatArray:
    """Apply weights (odd,) around every grid point of a table (K, m); the ends are cropped."""
    half = kernel.size // 2
    full = correlate1d(table, kernel, axis=1, mode="nearest")
    return np.ascontiguousarray(full[:, half : full.shape[1] - half])
