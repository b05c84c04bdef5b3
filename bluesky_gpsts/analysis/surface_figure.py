"""A surface as it was read: terraces with their rows, atoms by confidence, vacancies, defects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images import SurfaceReading, level_plane

from .style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, new_figure, scale_bar, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["surface_figure"]

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
_CLASS_COLOURS = (
    "#ff4d4d",
    "#ffd92f",
    "#4dff88",
    "#33ddff",
    "#ff8c1a",
    "#ff66ff",
    "#4d88ff",
    "#b3ff1a",
    "#c299ff",
    "#d9b38c",
)
"""Light ones, as the image is grey and dark between the rows."""

_CLOSE = 9e-9


@styled
def surface_figure(
    image: ArrayLike,
    reading: SurfaceReading,
    title: str = "",
    classes: Mapping[int, str] | None = None,
) -> "Figure":
    """Draw an image, what was read of it, and a part of it from close by.

    Parameters
    ----------
    image : (ny, nx) or (ny, nx, 3) array_like
        The image, any unit.
    reading : SurfaceReading
        What was read of it.
    title : str
        Name of the image.
    classes : mapping of int to str, optional
        Class of each defect by its number: outlines are in the colours of the classes then.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = np.asarray(image, float)
    flat = level_plane(values.mean(axis=2) if values.ndim == 3 else values)
    low, high = np.nanpercentile(flat, (1.0, 99.5))
    figure = new_figure(9.6, 4.1 if classes else 3.7)
    whole, read, close = figure.subplots(1, 3)
    for axes in (whole, read, close):
        axes.imshow(flat, cmap="gray", vmin=low, vmax=high)
        axes.set_xticks([])
        axes.set_yticks([])
    whole.set_title(title or "Image, levelled")
    if not len(reading.sites):
        read.set_title("Not read")
        read.text(
            0.5,
            0.5,
            _wrapped(reading.verdict.reason),
            transform=read.transAxes,
            ha="center",
            va="center",
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none"},
        )
        close.set_visible(False)
        return figure
    colours = _class_colours(classes or {})
    outlines = {number: colours.get(name, VERMILION) for number, name in (classes or {}).items()}
    _terraces(read, reading)
    _outline(read, reading, outlines, 0.9)
    seen = f"{len(reading.atoms)} atoms" if reading.resolved else "Rows without dimers"
    read.set_title(f"{seen}, {len(reading.defects)} defects")
    _atoms(close, reading)
    _outline(close, reading, outlines, 1.1)
    centre, half = _where(reading, flat.shape), 0.5 * _CLOSE / np.array(reading.pixel)
    close.set_xlim(centre[0] - half[0], centre[0] + half[0])
    close.set_ylim(centre[1] + half[1], centre[1] - half[1])
    shown = ": atoms, vacant sites" if reading.resolved else ""
    close.set_title(f"{1e9 * _CLOSE:.0f} nm{shown}")
    for axes in (whole, close):
        scale_bar(axes, (*axes.get_xlim(), *axes.get_ylim()), 1e-9 / reading.pixel[0])
    _legend(figure, colours)
    return figure


def _terraces(axes: "Axes", reading: SurfaceReading) -> None:
    """Colour terraces and draw their rows' directions."""
    from matplotlib.colors import to_rgba

    ny, nx = reading.terraces.shape
    shade = np.zeros((ny, nx, 4))
    for terrace in reading.terrace_list:
        colour = _COLOURS[(terrace.number - 1) % len(_COLOURS)]
        shade[reading.terraces == terrace.number] = to_rgba(colour, 0.28)
        if terrace.vectors is None:
            continue
        length = 0.09 * min(ny, nx)
        step = length * np.array([np.cos(terrace.direction), np.sin(terrace.direction)])
        x, y = terrace.origin
        axes.annotate(
            "",
            (x + step[0], y + step[1]),
            (x - step[0], y - step[1]),
            arrowprops={"arrowstyle": "<->", "color": "white", "lw": 1.8},
        )
        angle, error = np.degrees([terrace.direction, terrace.direction_error])
        axes.text(
            np.clip(x, 0.16 * nx, 0.84 * nx),
            y - 0.02 * ny,
            f"{angle:.2f} ± {error:.2f}°",
            color="white",
            fontsize=7.5,
            ha="center",
            va="bottom",
            weight="bold",
        )
    shade[reading.steps] = to_rgba("white", 0.45)
    axes.imshow(shade)


def _atoms(axes: "Axes", reading: SurfaceReading) -> None:
    """Draw atoms coloured by confidence, and vacant sites."""
    x, y = reading.atoms.T
    sure = reading.atom_confidence
    axes.scatter(x, y, c=sure, cmap="viridis", vmin=0.0, vmax=1.0, s=14, linewidths=0.0)
    x, y = reading.vacancies.T
    axes.scatter(x, y, marker="x", color=SKY, s=20, linewidths=1.0)


def _class_colours(classes: Mapping[int, str]) -> dict[str, str]:
    """Colour of each class that occurs; that of a class of the package is always the same."""
    from bluesky_gpsts.images.patchtraining import CLASSES

    names = list(dict.fromkeys([*CLASSES, *sorted(classes.values())]))
    there = set(classes.values())
    return {
        name: _CLASS_COLOURS[k % len(_CLASS_COLOURS)]
        for k, name in enumerate(names)
        if name in there
    }


def _outline(
    axes: "Axes", reading: SurfaceReading, colours: Mapping[int, str], width: float
) -> None:
    """Outline the defects, each in the colour of its class."""
    own = {defect.number: colours.get(defect.number, VERMILION) for defect in reading.defects}
    for colour in dict.fromkeys(own.values()):
        numbers = [number for number, other in own.items() if other == colour]
        mask = np.isin(reading.defect_labels, numbers)
        if mask.any():
            axes.contour(mask, [0.5], colors=[colour], linewidths=width)


def _legend(figure: "Figure", colours: Mapping[str, str]) -> None:
    """Name the classes below the images."""
    from matplotlib.lines import Line2D

    if not colours:
        return
    handles = [Line2D([], [], color=colour, lw=3.0) for colour in colours.values()]
    figure.legend(
        handles,
        [name.replace("_", " ") for name in colours],
        loc="outside lower center",
        ncols=min(len(colours), 6),
        handlelength=1.2,
    )


def _where(reading: SurfaceReading, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Place (x, y) to look at from close by: among most defects, well inside of the image."""
    half = 0.5 * _CLOSE / np.array(reading.pixel)
    size = np.array(shape[::-1], float)
    low = np.minimum(half, 0.5 * size)
    if not reading.defects:
        return 0.5 * size
    places = np.array([[d.x, d.y] for d in reading.defects])
    inside = np.clip(places, low, size - low)
    near = np.abs(places[None] - inside[:, None]) < half
    return np.asarray(inside[np.argmax(near.all(axis=2).sum(axis=1))])


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 34))
