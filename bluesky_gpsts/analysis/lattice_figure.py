"""Images with any lattice as they were read: steps, atoms, places of missing ones, defects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bluesky_gpsts.images import level_plane
from bluesky_gpsts.images.anylattice import LatticeReading

from .style import GREEN, SKY, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["lattice_figure"]

_CLOSE = 4.5


@styled
def lattice_figure(read: Sequence[tuple[str, ArrayLike, LatticeReading]]) -> "Figure":
    """Draw images, each with its steps and defects, and below a part of it with its atoms.

    Parameters
    ----------
    read : sequence of (str, (ny, nx) array_like, LatticeReading)
        Title, image, and what was read of it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not read:
        raise ValueError("there is no image to draw; give one or more")
    figure = new_figure(3.6 * len(read), 7.4)
    grid = figure.subplots(2, len(read), squeeze=False)
    for column, (title, image, reading) in enumerate(read):
        values = np.asarray(image, float)
        flat = level_plane(values[:, :, :3].mean(axis=2) if values.ndim == 3 else values)
        whole, close = grid[:, column]
        for axes in (whole, close):
            low, high = np.nanpercentile(flat, (0.5, 99.5))
            axes.imshow(flat, cmap="gray", vmin=low, vmax=high)
            axes.set_xticks([])
            axes.set_yticks([])
        up = [d for d in reading.defects if d.deviation > 0.0]
        down = len(reading.defects) - len(up)
        parts = [f"{len(up)} protrusions", f"{down} depressions"]
        if int(reading.terraces.max(initial=0)) > 1:
            parts.append(f"{int(reading.terraces.max())} terraces")
        whole.set_title(f"{title}\n{', '.join(parts)}", fontsize=9)
        _outlines(whole, reading, 0.8)
        if reading.steps.any():
            whole.contour(reading.steps, [0.5], colors=[GREEN], linewidths=0.9)
        _close(close, flat, reading)
    return figure


def _outlines(axes: "Axes", reading: LatticeReading, width: float) -> None:
    sign = np.zeros(len(reading.defects) + 1)
    for defect in reading.defects:
        sign[defect.number] = np.sign(defect.deviation)
    signs = sign[reading.labels]
    for side, colour in ((1.0, VERMILION), (-1.0, SKY)):
        if (signs == side).any():
            axes.contour(signs == side, [0.5], colors=[colour], linewidths=width)


def _close(axes: "Axes", flat: np.ndarray, reading: LatticeReading) -> None:
    """A part of the image with its atoms, where there are many defects and no step."""
    ny, nx = flat.shape
    if reading.cell is None:
        axes.set_title("no lattice", fontsize=9)
        return
    spacing = float(np.sqrt(abs(np.linalg.det(reading.cell.vectors))))
    atoms = max(1, len(reading.motif))
    side = min(0.5 * min(ny, nx), max(_CLOSE * spacing, 12.0 * spacing / np.sqrt(atoms), 60.0))
    x, y = _place(reading, side)
    axes.plot(*reading.atoms.T, ".", color=GREEN, ms=4)
    axes.plot(*reading.vacant.T, "x", color=SKY, ms=6, mew=1.3)
    _outlines(axes, reading, 1.2)
    part = flat[
        max(0, int(y - side / 2)) : int(y + side / 2), max(0, int(x - side / 2)) : int(x + side / 2)
    ]
    axes.images[0].set_clim(*np.nanpercentile(part, (0.5, 99.5)))
    axes.set_xlim(x - side / 2, x + side / 2)
    axes.set_ylim(y + side / 2, y - side / 2)
    lengths = " x ".join(f"{length:.1f}" for length in np.hypot(*reading.cell.vectors.T))
    what = (
        f"rows {np.hypot(*reading.cell.vectors[1]):.1f} pixels apart"
        if reading.cell.symmetry == "rows"
        else f"{reading.cell.symmetry}, {lengths} pixels, {atoms} atom{'s' * (atoms > 1)}"
    )
    axes.set_title(what, fontsize=9)


def _place(reading: LatticeReading, side: float) -> tuple[float, float]:
    """Middle of the square that holds most defects and no step."""
    ny, nx = reading.labels.shape
    best, place = -np.inf, (0.5 * nx, 0.5 * ny)
    half = 0.5 * side
    for defect in reading.defects:
        x = float(np.clip(defect.x, half, nx - half))
        y = float(np.clip(defect.y, half, ny - half))
        count = sum(abs(d.x - x) < half and abs(d.y - y) < half for d in reading.defects)
        rows = slice(int(y - half), int(y + half))
        columns = slice(int(x - half), int(x + half))
        covered = float(np.mean(reading.labels[rows, columns] > 0))
        score = count - 100.0 * float(reading.steps[rows, columns].any()) - 12.0 * covered
        if score > best:
            best, place = score, (x, y)
    return place
