"""Physical constants (SI, CODATA through SciPy) and the array type of this package."""

import numpy as np
from numpy.typing import NDArray
from scipy import constants as _codata

FloatArray = NDArray[np.float64]

ELEMENTARY_CHARGE: float = _codata.e
"""Elementary charge (C); also the number of joules in one electronvolt."""

HBAR: float = _codata.hbar
"""Reduced Planck constant (J s)."""

ELECTRON_MASS: float = _codata.m_e
"""Electron rest mass (kg)."""

BOLTZMANN: float = _codata.k
"""Boltzmann constant (J/K)."""

BOLTZMANN_EV: float = _codata.k / _codata.e
"""Boltzmann constant (eV/K)."""
