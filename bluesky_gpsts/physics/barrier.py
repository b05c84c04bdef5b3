"""The tunnelling barrier: decay of the current with the gap, transmission at an energy."""

import numpy as np

from .constants import ELECTRON_MASS, ELEMENTARY_CHARGE, HBAR, FloatArray

_MIN_BARRIER = 0.1


def decay(work_function: float, bias: FloatArray | float) -> FloatArray:
    """Decay constant kappa = sqrt(2 m (phi - e|V|/2)) / hbar of the wave function.

    The current falls as exp(-2 kappa z): by a decade per 0.1 nm for 4 to 5 eV.

    Parameters
    ----------
    work_function : float
        Mean work function phi (eV).
    bias : array or float
        Bias V (V).

    Returns
    -------
    array
        kappa (1/m), shape of bias.

    Raises
    ------
    ValueError
        If the bias reaches twice the work function (field emission, outside the model).
    """
    barrier = work_function - 0.5 * np.abs(np.asarray(bias, float))
    if np.any(barrier <= 0.0):
        raise ValueError(
            f"a bias of {np.max(np.abs(bias)):g} V pulls the barrier of {work_function:g} eV below "
            f"zero; keep |bias| under {2 * work_function:g} V"
        )
    return np.asarray(np.sqrt(2.0 * ELECTRON_MASS * ELEMENTARY_CHARGE * barrier) / HBAR)


def wkb_transmission(
    energy: FloatArray, bias: FloatArray | float, gap: float, work_function: float
) -> FloatArray:
    """Transmission of the barrier, normalised to 1 at energy 0 and bias 0.

    Parameters
    ----------
    energy : array
        Energy (eV) relative to the sample's Fermi level.
    bias : array or float
        Sample bias (V), broadcast against energy.
    gap : float
        Width of the barrier (m).
    work_function : float
        Mean work function (eV).

    Returns
    -------
    array
        Dimensionless.
    """
    # Field emission is outside the model: a barrier below 0.1 eV counts as 0.1 eV.
    barrier = np.maximum(work_function + 0.5 * np.asarray(bias) - energy, _MIN_BARRIER)
    unit = np.sqrt(2.0 * ELECTRON_MASS * ELEMENTARY_CHARGE) / HBAR
    return np.asarray(np.exp(-2.0 * gap * unit * (np.sqrt(barrier) - np.sqrt(work_function))))
