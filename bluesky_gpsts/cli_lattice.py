"""``gpsts images --lattice any``: a look at an image of whatever repeats."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.cli_imagefile import ImageFile
from bluesky_gpsts.cli_output import write_figure, write_json

if TYPE_CHECKING:
    from bluesky_gpsts.images.anylattice import LatticeReading
    from bluesky_gpsts.images.periods import Cell

__all__ = ["check_options", "look_at_any"]

_Pixel = tuple[float, float] | None


def check_options(options: argparse.Namespace) -> None:
    """Refuse options of the model of H-Si(100), which would be ignored."""
    for option, why in (
        ("anyway", "there is no quality gate"),
        ("model", "nothing is learned"),
    ):
        if getattr(options, option):
            raise ValueError(
                f"--{option} is for H-Si(100): with --lattice any {why}; leave one of the two out"
            )


def look_at_any(options: argparse.Namespace, opened: ImageFile, pixel: _Pixel) -> int:
    """Look at an image with any lattice.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``gpsts images``.
    opened : ImageFile
        The image, any unit.
    pixel : (float, float) or None
        Width and height (m) of a pixel, where known.

    Returns
    -------
    int
        The exit status: 1 if it has no lattice.
    """
    from bluesky_gpsts.images.anylattice import read_lattice

    image = opened.image
    reading = read_lattice(image)
    for line in _lines(image, reading, pixel):
        print(opened.advice(line, options.pixel is not None))
    write_json(options.json, _summary(options.file.name, reading, pixel))
    if options.figure is not None:
        from bluesky_gpsts.analysis.lattice_figure import lattice_figure

        write_figure(options.figure, lattice_figure([(options.file.name, image, reading)]))
    return 0 if reading.cell is not None else 1


def _lines(image: NDArray[Any], reading: "LatticeReading", pixel: _Pixel) -> list[str]:
    """What was read, for the terminal."""
    cell = reading.cell
    if cell is None:
        values = image[np.isfinite(image)]
        if values.min() == values.max():
            return ["not read: the image is constant; take it again, or give another channel"]
        return [
            "not read: the image has no lattice; scan fewer nanometres with as many pixels, or "
            "slower, if there should be one"
        ]
    low = sum(defect.deviation < 0.0 for defect in reading.defects)
    size = f"{_lengths(cell, (1.0, 1.0))} pixels"
    if pixel is not None:
        size = f"{_lengths(cell, (1e9 * pixel[0], 1e9 * pixel[1]))} nm ({size})"
    kind = "rows" if cell.symmetry == "rows" else f"{cell.symmetry} lattice"
    atoms = "" if cell.symmetry == "rows" else f"; {len(reading.atoms)} atoms"
    return [
        f"{kind}, {size}{' apart' if cell.symmetry == 'rows' else ''}{atoms}",
        f"{len(reading.defects) - low} protrusions, {low} depressions, "
        f"{int(reading.terraces.max())} terraces",
    ]


def _lengths(cell: "Cell", pixel: tuple[float, float]) -> str:
    """Lengths of the cell's vectors, or the distance of rows, in the unit of the pixel's size."""
    if cell.symmetry == "rows":
        return f"{1.0 / float(np.hypot(*(cell.waves[1] / pixel))):.3g}"
    return " x ".join(f"{length:.3g}" for length in np.hypot(*(cell.vectors * pixel).T))


def _summary(name: str, reading: "LatticeReading", pixel: _Pixel) -> dict[str, Any]:
    """What was read, for a file: in pixels, and in nm from the first pixel where that is known."""
    cell = reading.cell
    scale = None if pixel is None else 1e9 * np.array(pixel)
    found: dict[str, Any] = {
        "file": name,
        "readable": cell is not None,
        "symmetry": "" if cell is None else cell.symmetry,
        "pixel_nm": None if scale is None else scale.tolist(),
        "vectors_px": None if cell is None else cell.vectors.tolist(),
        "atoms_px": reading.atoms.round(3).tolist(),
        "vacant_px": reading.vacant.round(3).tolist(),
        "defects": [
            {"x_px": d.x, "y_px": d.y, "area_px": d.area, "deviation": d.deviation}
            for d in reading.defects
        ],
    }
    if scale is not None:
        found["vectors_nm"] = None if cell is None else (cell.vectors * scale).tolist()
        found["atoms_nm"] = (reading.atoms * scale).round(4).tolist()
        found["vacant_nm"] = (reading.vacant * scale).round(4).tolist()
        for entry, defect in zip(found["defects"], reading.defects, strict=True):
            entry["x_nm"], entry["y_nm"] = (scale * (defect.x, defect.y)).tolist()
            entry["area_nm2"] = float(scale.prod()) * defect.area
    return found
