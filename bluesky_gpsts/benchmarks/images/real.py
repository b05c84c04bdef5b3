"""Measured images, where they are at hand: what a person counts in them is found."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.images.cases import OURS
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.anylattice import LatticeReading, read_lattice
from bluesky_gpsts.images.features import measure_defects
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.registry import load_classes

__all__ = ["read_real", "real_rows"]

_FESE, _BONDS = 20.0, 25.0
_STRONG = 15.0
_PIXEL = 0.16e-9

_FILES = {
    "FeSe": "FeSe_topography.sxm",
    "Si(111)-7x7": "image_with_defects.dat",
    "Si(111)-7x7 with a step": "image_with_step_edge_and_atoms.dat",
    "H-Si(100)": "full_scan_1.jpg",
}


def read_real(folder: Path) -> dict[str, tuple[NDArray[np.float64], LatticeReading]]:
    """Read the measured images of a folder; those that are not there are left out.

    Parameters
    ----------
    folder : Path
        Holds the files of SPIEPy, stmpy and NIST's stm-tip-detector.

    Returns
    -------
    dict of str to (array, LatticeReading)
    """
    found = {}
    for name, file in _FILES.items():
        path = folder / file
        if path.is_file():
            image = _image(path)
            found[name] = (image, read_lattice(image))
    return found


def _image(path: Path) -> NDArray[np.float64]:
    if path.suffix == ".sxm":
        from bluesky_gpsts.nanonis.files import read_sxm

        return np.asarray(read_sxm(path).channels["Z"]["forward"], float)
    if path.suffix == ".dat":
        data = path.read_bytes()
        shape = np.frombuffer(data[:8], "<u4")
        return np.frombuffer(data[8:], "<f8").reshape(shape)
    from matplotlib.image import imread

    return np.asarray(imread(path), float)


def real_rows(folder: Path) -> list[Row]:
    """Defects and terraces found in measured images; no rows without them."""
    measured = read_real(folder)
    read = {name: reading for name, (_, reading) in measured.items()}
    rows = []
    if (fese := read.get("FeSe")) is not None:
        rows.append(_row("FeSe, measured", "defects (about 30 by eye)", len(fese.defects), _FESE))
    if (seven := read.get("Si(111)-7x7")) is not None:
        rows.append(_row("Si(111)-7x7, measured", "atoms of a cell", len(seven.motif), 12.0))
        rows.append(_row("Si(111)-7x7, measured", "missing atoms", len(seven.vacant)))
    if (step := read.get("Si(111)-7x7 with a step")) is not None:
        case = "Si(111)-7x7 with a step, measured"
        rows.append(_row(case, "terraces", int(step.terraces.max()), 2.0))
    if (bonds := read.get("H-Si(100)")) is not None:
        bright = sum(defect.deviation > _STRONG for defect in bonds.defects)
        rows.append(_row("H-Si(100), measured", "bright defects (about 30 by eye)", bright, _BONDS))
        named = _count_bonds(measured["H-Si(100)"][0])
        rows.append(_row("H-Si(100), measured", "named dangling bonds (about 30 by eye)", named))
    return rows


def _count_bonds(image: NDArray[np.float64]) -> int:
    """Dangling bonds that are found and named in the measured image of H-Si(100)."""
    reading = read_surface(image, _PIXEL)
    if not reading.verdict.readable:
        return 0
    names, _ = load_classes().name_defects(measure_defects(image, reading))
    return int(np.sum(names == "dangling_bond"))


def _row(case: str, metric: str, value: float, goal: float | None = None) -> Row:
    return Row(case, OURS, metric, float(value), "", 1, goal)
