"""Images: arrays in, arrays out."""

from bluesky_gpsts.images.doubletip import Echo, echo
from bluesky_gpsts.images.driftmodel import DriftModel
from bluesky_gpsts.images.edges import StepEdge, step_edge
from bluesky_gpsts.images.lattice import lattice_from_image
from bluesky_gpsts.images.plane import flatten_lines, level_lines
from bluesky_gpsts.images.reading import find_pixel, read_surface
from bluesky_gpsts.images.registration import Shift, register
from bluesky_gpsts.images.surface import Defect, SurfaceReading, Terrace
from bluesky_gpsts.images.symmetry import find_center
from bluesky_gpsts.images.terraces import flat_places, level_plane

__all__ = [
    "Defect",
    "DriftModel",
    "Echo",
    "Shift",
    "StepEdge",
    "SurfaceReading",
    "Terrace",
    "echo",
    "find_center",
    "find_pixel",
    "flat_places",
    "flatten_lines",
    "lattice_from_image",
    "level_lines",
    "level_plane",
    "read_surface",
    "register",
    "step_edge",
]
