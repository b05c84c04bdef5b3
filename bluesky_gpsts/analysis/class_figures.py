"""Classes of spectra as figures: where each was found, how certain that is, what it looks like.

Positions are in nm along the axes of the frame, as in `figures`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.spectra import NONE, Classifier
from bluesky_gpsts.surrogate import Grid

from .classes import (
    ClassSpectrum,
    CubeClasses,
    PointClasses,
    class_spectra,
    classify_map,
    classify_points,
)
from .figures import extent_of, places
from .record import RunRecord
from .style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    STD_MAP,
    VERMILION,
    colour_bar,
    new_figure,
    scale_bar,
    show_map,
    styled,
    tidy,
)
from .units import PM, bias_scale, conductance_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "class_colours",
    "class_spectra_figure",
    "contents",
    "grid_figure",
    "segmentation_figure",
]

FloatArray = npt.NDArray[np.float64]

_PALETTE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, "#F0E442", "#000000")
_NONE_COLOUR = "#8d959e"
_MARKERS = "osD^vP*X"
_PALEST = 0.25
"""Saturation of a class that is as uncertain as can be; a pixel that was not judged is white."""


def class_colours(classes: tuple[str, ...]) -> dict[str, str]:
    """Colour of each class, distinct for every kind of colour vision up to eight classes.

    Parameters
    ----------
    classes : tuple of str

    Returns
    -------
    dict
        Grey for spectra of none of the classes.
    """
    colours = {name: _PALETTE[k % len(_PALETTE)] for k, name in enumerate(classes)}
    return colours | {NONE: _NONE_COLOUR}


def contents(
    record: RunRecord, classifier: Classifier, model: str
) -> list[tuple[str, str, str, Callable[[RunRecord], "Figure"]]]:
    """Name, title, caption and function of each figure on the classes of a run, for its report.

    Parameters
    ----------
    record : RunRecord
        The run.
    classifier : Classifier
    model : str
        Id of the model, for the caption.

    Returns
    -------
    list
        As the report's own contents; empty for a run without dI/dV.

    Raises
    ------
    AnalysisError
        As of `interpolate`.
    """
    if not record.n_spectra or "didv" not in record.spectra:
        return []
    points = classify_points(record, classifier)
    pixels = None
    if record.has_map:
        pixels = classify_map(record, points, classifier)
    counted = ", ".join(
        f"{name or 'not judged'} {count}" for name, count in points.counts.items() if count
    )
    overlay = f"Left: class of each spectrum, on the survey image ({counted})."
    pixelwise = (
        " Middle: class of the spectrum that the Gaussian process expects at each pixel; the paler "
        "the colour, the less certain. Right: the probability that the class is right; far from "
        "all spectra it falls to the shares of the classes in the run."
    )
    return [
        (
            "classes",
            "What was found where",
            f"{overlay}{pixelwise if pixels is not None else ''} Model: {model}.",
            lambda shown: segmentation_figure(shown, points, pixels),
        ),
        (
            "class-spectra",
            "The mean spectrum of each class",
            "Mean of the spectra as they were measured, with one standard deviation.",
            lambda _: class_spectra_figure(points),
        ),
    ]


@styled
def segmentation_figure(
    record: RunRecord, points: PointClasses, pixels: CubeClasses | None
) -> "Figure":
    """Class of each spectrum on the survey image, and of every pixel with its probability.

    Parameters
    ----------
    record : RunRecord
        The run; without a survey the points are drawn in the empty frame.
    points : PointClasses
        Classes of its spectra.
    pixels : CubeClasses or None
        Classes of its candidates; without them only the points are drawn.

    Returns
    -------
    matplotlib.figure.Figure
    """
    grid = record.history.grid
    extent = extent_of(grid)
    height = 1.2 + 2.9 * float(np.clip(grid.height / grid.width, 0.45, 1.6))
    figure = new_figure(12.0 if pixels is not None else 5.2, height)
    panels: Any = figure.subplots(1, 3 if pixels is not None else 1, squeeze=False)[0]
    _points_on_survey(panels[0], record, points)
    panels[0].set_title("Spectra")
    if pixels is not None:
        _class_map(panels[1], pixels, extent)
        panels[1].set_title("Pixel by pixel")
        _certainty(panels[2], pixels, extent)
    for axes in panels:
        _label(axes, grid)
    scale_bar(panels[0], extent)
    shown = set(points.found.labels[points.judged])
    if pixels is not None:
        names = (*pixels.classes, NONE)
        shown |= {names[k] for k in np.unique(pixels.index) if k >= 0}
    _legend(figure, points.found.classes, shown)
    return figure


@styled
def grid_figure(
    pixels: CubeClasses, frame: Grid | None = None, title: str = "Classes of a grid"
) -> "Figure":
    """Class of every pixel of a measured grid, and its probability.

    Parameters
    ----------
    pixels : CubeClasses
        Classes of the pixels.
    frame : Grid, optional
        Where the pixels lie (m); pixels are counted without it.
    title : str
        Above the left panel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ny, nx = pixels.index.shape
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5) if frame is None else extent_of(frame)
    size = abs((extent[3] - extent[2]) / (extent[1] - extent[0]))
    figure = new_figure(8.6, 1.2 + 3.1 * float(np.clip(size, 0.45, 1.6)))
    left, right = figure.subplots(1, 2)
    _class_map(left, pixels, extent)
    left.set_title(title)
    _certainty(right, pixels, extent)
    for axes in (left, right):
        if frame is None:
            axes.set(xlabel="Column", ylabel="Row")
        else:
            _label(axes, frame)
    if frame is not None:
        scale_bar(left, extent)
    names = (*pixels.classes, NONE)
    _legend(figure, pixels.classes, {names[k] for k in np.unique(pixels.index) if k >= 0})
    return figure


@styled
def class_spectra_figure(points: PointClasses) -> "Figure":
    """Mean spectrum of each class with one standard deviation.

    Parameters
    ----------
    points : PointClasses
        Spectra with their classes.

    Returns
    -------
    matplotlib.figure.Figure
        A panel per class that occurs; they share their axes.
    """
    spectra = class_spectra(points)
    colours = class_colours(points.found.classes)
    count = max(len(spectra), 1)
    figure = new_figure(0.9 + 2.7 * count, 3.1)
    panels: Any = figure.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    if not spectra:
        _not_judged(panels[0], points)
        return figure
    scale, volts = conductance_scale([s.mean for s in spectra]), bias_scale(points.bias)
    for axes, spectrum in zip(panels, spectra, strict=True):
        _mean(axes, spectrum, volts.factor * points.bias, scale.factor, colours[spectrum.name])
        tidy(axes)
        axes.set_xlabel(f"Bias ({volts.unit})")
    panels[0].set_ylabel(f"dI/dV ({scale.unit})")
    return figure


def _not_judged(axes: "Axes", points: PointClasses) -> None:
    """Draw spectra of which none could be judged, and say why."""
    import textwrap

    finite = points.didv[np.isfinite(points.didv)]
    if finite.size and points.bias.size:
        volts, scale = bias_scale(points.bias), conductance_scale(finite)
        axes.plot(volts.factor * points.bias, scale.factor * points.didv.T, color=MUTED, lw=0.6)
        axes.set(xlabel=f"Bias ({volts.unit})", ylabel=f"dI/dV ({scale.unit})")
        tidy(axes)
    reason = next(iter(points.found.problems), "the run has none")
    axes.set_title(textwrap.fill(f"No spectrum was judged: {reason}", 44), fontsize="small")


def _mean(
    axes: "Axes", spectrum: ClassSpectrum, bias: FloatArray, factor: float, colour: str
) -> None:
    mean, std = factor * spectrum.mean, factor * spectrum.std
    axes.fill_between(bias, mean - std, mean + std, color=colour, alpha=0.25, lw=0)
    axes.plot(bias, mean, color=colour, lw=1.4)
    plural = "um" if spectrum.count == 1 else "a"
    axes.set_title(f"{spectrum.name}: {spectrum.count} spectr{plural}")


def _points_on_survey(axes: "Axes", record: RunRecord, points: PointClasses) -> None:
    grid = record.history.grid
    if record.survey is not None:
        survey = record.survey
        name = next(n for n in ("topography", "forward", "backward") if n in survey)
        rows, columns = survey["x_sample"].shape
        frame = Grid.from_metadata({**survey.attrs, "nx": columns, "ny": rows})
        height = PM.factor * survey[name].values
        low, high = np.nanpercentile(height, (0.5, 99.5))
        show_map(
            axes, height, extent_of(frame), "gray", top_first=True, limits=(float(low), float(high))
        )
    left, right, bottom, top = extent_of(grid)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor="#f4f6f8")
    here = places(grid, points.x, points.y)
    labels, colours = points.found.labels, class_colours(points.found.classes)
    judged = points.judged
    size = float(np.clip(2200 / max(len(here), 1), 14.0, 46.0))
    for name, marker in _markers(points.found.classes).items():
        chosen = judged & (labels == name)
        axes.scatter(
            here[chosen, 0],
            here[chosen, 1],
            s=size,
            marker=marker,
            c=colours[name],
            edgecolors="white",
            linewidths=0.7,
            zorder=6,
            clip_on=False,
        )
    axes.scatter(
        here[~judged, 0], here[~judged, 1], s=size, marker="x", c=INK, linewidths=1.0, zorder=6
    )


def _class_map(
    axes: "Axes", pixels: CubeClasses, extent: tuple[float, float, float, float]
) -> None:
    from matplotlib.colors import to_rgb

    colours = class_colours(pixels.classes)
    table = np.array([to_rgb(colours[name]) for name in (*pixels.classes, NONE)])
    judged = pixels.index >= 0
    # Equal probabilities are as uncertain as can be.
    floor = 1.0 / len(pixels.classes)
    sure = np.clip((np.nan_to_num(pixels.confidence) - floor) / (1.0 - floor), 0.0, 1.0)
    strength = np.where(judged, _PALEST + (1.0 - _PALEST) * sure, 0.0)[..., None]
    image = 1.0 - strength * (1.0 - table[np.maximum(pixels.index, 0)])
    show_map(axes, image, extent, STD_MAP)


def _certainty(
    axes: "Axes", pixels: CubeClasses, extent: tuple[float, float, float, float]
) -> None:
    shown = show_map(axes, pixels.confidence, extent, STD_MAP, limits=(0.0, 1.0))
    colour_bar(axes, shown, "Probability")
    axes.set_title("Probability of the class")


def _label(axes: "Axes", grid: Grid) -> None:
    turned = f" along the frame, turned by {grid.angle:g}°" if grid.angle % 360 else ""
    axes.set_xlabel(f"x{turned} (nm)")
    axes.set_ylabel(f"y{turned} (nm)")


def _markers(classes: tuple[str, ...]) -> dict[str, str]:
    """Marker of each class: colour alone is not for everybody."""
    return {name: _MARKERS[k % len(_MARKERS)] for k, name in enumerate((*classes, NONE))}


def _legend(figure: "Figure", classes: tuple[str, ...], shown: set[str]) -> None:
    from matplotlib.lines import Line2D

    colours, markers = class_colours(classes), _markers(classes)
    handles = [
        Line2D([], [], ls="", marker=markers[name], mfc=colours[name], mec="none", ms=7, label=name)
        for name in (*classes, NONE)
        if name in shown
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=5, labelcolor=MUTED)
