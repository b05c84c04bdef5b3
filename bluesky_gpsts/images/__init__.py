"""Images: arrays in, arrays out."""

from bluesky_gpsts.images.driftmodel import DriftModel
from bluesky_gpsts.images.lattice import lattice_from_image
from bluesky_gpsts.images.plane import flatten_lines, level_lines
from bluesky_gpsts.images.registration import Shift, register
from bluesky_gpsts.images.symmetry import find_center

__all__ = [
    "DriftModel",
    "Shift",
    "find_center",
    "flatten_lines",
    "lattice_from_image",
    "level_lines",
    "register",
]
