"""Samples by name, or from a file."""

from pathlib import Path

from bluesky_gpsts.nanonis.files import read_3ds
from bluesky_gpsts.physics import SURFACES
from bluesky_gpsts.simulator.computed import computed_sample
from bluesky_gpsts.simulator.recorded import recorded_sample
from bluesky_gpsts.simulator.sample import Sample

__all__ = ["open_sample", "recorded_grid"]


def open_sample(what: str, seed: int) -> Sample:
    """Sample by name, or from a recorded grid.

    Parameters
    ----------
    what : str
        Name of a surface ("ws2", "au111", "hsi100"), or the path of a .3ds file.
    seed : int
        Seed of a computed surface and its tip; a recorded grid does not depend on it.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError, FileFormatError
        If the file is not there, or is no complete grid of bias spectra.
    """
    path = recorded_grid(what)
    return computed_sample(what, seed) if path is None else recorded_sample(read_3ds(path), path)


def recorded_grid(what: str) -> Path | None:
    """Path of the grid that a sample is recorded in, None for a computed surface; opens nothing.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If the file is not there.
    """
    if not isinstance(what, str | Path):
        raise ValueError(f"a sample must be a name or the path of a .3ds grid, not {what!r}")
    if what in SURFACES:
        return None
    path = Path(what)
    if path.suffix.lower() != ".3ds" and not path.exists():
        known = ", ".join(sorted(SURFACES))
        raise ValueError(f"unknown sample {what!r}: give {known}, or the path of a .3ds grid")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the path of a Nanonis .3ds grid")
    return path
