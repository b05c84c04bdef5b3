"""Gaussian process that chooses where to take spectra: arrays in, arrays out, on gpCAM."""

from .acquisition import ACQUISITIONS, COSTS, Acquisition, Candidates, Cost
from .grid import Grid
from .kernels import KERNELS
from .optimizer import MapOptimizer
from .records import Decision
from .replay import posterior_maps, prior_variance
from .scaling import noise_variances
from .settings import Settings
from .spectra import spectral_cube
from .structures import (
    Lattice,
    Library,
    Structure,
    Symmetry,
    Topograph,
    images_of,
    structure_from_json,
)
from .training import Prior

__all__ = [
    "ACQUISITIONS",
    "COSTS",
    "KERNELS",
    "Acquisition",
    "Candidates",
    "Cost",
    "Decision",
    "Grid",
    "Lattice",
    "Library",
    "MapOptimizer",
    "Prior",
    "Settings",
    "Structure",
    "Symmetry",
    "Topograph",
    "images_of",
    "noise_variances",
    "posterior_maps",
    "prior_variance",
    "spectral_cube",
    "structure_from_json",
]
