"""Gaussian process that chooses where to take spectra: arrays in, arrays out, on gpCAM."""

from .acquisition import ACQUISITIONS, Acquisition
from .grid import Grid
from .kernels import KERNELS
from .optimizer import MapOptimizer
from .records import Decision
from .replay import posterior_maps
from .scaling import noise_variances
from .training import Prior

__all__ = [
    "ACQUISITIONS",
    "KERNELS",
    "Acquisition",
    "Decision",
    "Grid",
    "MapOptimizer",
    "Prior",
    "noise_variances",
    "posterior_maps",
]
