"""Noise-free maps to measure strategies on: synthetic ones by seed, and real ones from files."""

from .recorded import find_data, read_map, read_wsxm, recorded_truth
from .synthetic import SYNTHETIC
from .truth import SIDE, Truth, truth_names, truth_of

__all__ = [
    "SIDE",
    "SYNTHETIC",
    "Truth",
    "find_data",
    "read_map",
    "read_wsxm",
    "recorded_truth",
    "truth_names",
    "truth_of",
]
