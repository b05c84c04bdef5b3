"""Every case by its name."""

from pathlib import Path

from .recorded import RECORDED, recorded_case
from .synthetic import SYNTHETIC
from .types import Truth

SIDE = 43
"""Candidates along a side: every third pixel of a frame of 128 x 128."""


def truth_names() -> tuple[str, ...]:
    """Names of all cases, synthetic ones first."""
    return (*SYNTHETIC, *RECORDED)


def truth_of(name: str, seed: int, side: int = SIDE, data: Path | None = None) -> Truth:
    """Make a case.

    Parameters
    ----------
    name : str
        One of `truth_names`.
    seed : int
        Seed of position, orientation, size and imbalance, or of the part of a recorded map.
    side : int
        Candidates along a side; a recorded grid keeps its own pixels.
    data : Path, optional
        Folder of the real measurements, for the recorded cases.

    Raises
    ------
    ValueError
        If there is no such case.
    FileNotFoundError
        If the real measurements are not there.
    """
    if name in SYNTHETIC:
        return SYNTHETIC[name](seed, side)
    if name in RECORDED:
        return recorded_case(name, seed, side, data)
    raise ValueError(f"no map {name!r}; choose from {', '.join(truth_names())}")
