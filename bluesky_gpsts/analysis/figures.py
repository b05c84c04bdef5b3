"""Maps of a run as figures: the survey, the Gaussian process, the truth.

Each function takes a `RunRecord` and returns a `matplotlib.figure.Figure`. Positions are in nm
along the axes of the frame; for a frame that is not turned these are the sample coordinates.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.surrogate import Grid

from .errors import AnalysisError
from .record import RunRecord
from .style import (
    DIFFERENCE_MAP,
    INK,
    MEAN_MAP,
    ORDER_MAP,
    STD_MAP,
    VERMILION,
    colour_bar,
    new_figure,
    scale_bar,
    show_map,
    styled,
)
from .units import NM, PM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

NUMBERED = 150
"""Up to this many points carry their numbers."""

_ABOVE = 6
"""Drawing order of the points: above the scale bar, which would hide some otherwise."""


def extent_of(grid: Grid) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a frame along its own axes (nm)."""
    x, y = NM.factor * grid.center_x, NM.factor * grid.center_y
    half_x, half_y = NM.factor * grid.width / 2, NM.factor * grid.height / 2
    return x - half_x, x + half_x, y - half_y, y + half_y


def places(grid: Grid, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
    """Turn sample coordinates (m) into nm along the axes of a frame: shape (N, 2)."""
    frame = grid.to_frame(np.column_stack([np.atleast_1d(x), np.atleast_1d(y)]))
    return NM.factor * (frame + (grid.center_x, grid.center_y))


@styled
def survey_figure(record: RunRecord) -> "Figure":
    """Topograph of the survey with the points in the order in which they were taken.

    Parameters
    ----------
    record : RunRecord
        A run; without a survey the points are drawn in the empty frame.

    Returns
    -------
    matplotlib.figure.Figure
    """
    frame = record.history.grid if record.survey is None else _survey_frame(record.survey)
    # Points without numbers need a second colour bar.
    wide = record.survey is not None and record.n_spectra > NUMBERED
    figure = new_figure(9.0 if wide else 7.6, _height(frame, 6.2))
    axes = figure.add_subplot()
    if record.survey is None:
        axes.set_title("Spectra in the order taken (no survey image)")
        _limit(axes, frame)
    else:
        images = ("topography", "forward", "backward")
        name = next(image for image in images if image in record.survey)
        height = PM.factor * record.survey[name].values
        height = height - np.nanmedian(height)
        # A few wild pixels must not take the contrast from the rest.
        limits = tuple(float(v) for v in np.nanpercentile(height, (0.5, 99.5)))
        shown = show_map(
            axes, height, extent_of(frame), "gray", top_first=True, limits=(limits[0], limits[1])
        )
        colour_bar(axes, shown, "Height (pm)")
        lines = np.isfinite(height).any(axis=1)
        part = "" if lines.all() else f" ({lines.sum()} of {lines.size} lines)"
        axes.set_title(f"Survey image{part} and spectra in the order taken")
        _outline(axes, frame, record.history.grid)
    scale_bar(axes, extent_of(frame))
    _found_defects(axes, record, frame)
    _ordered_points(axes, record, frame)
    _label(axes, frame)
    return figure


@styled
def map_figure(record: RunRecord) -> "Figure":
    """Posterior mean and standard deviation after the last spectrum.

    Parameters
    ----------
    record : RunRecord
        A run with at least one figure of merit.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    AnalysisError
        The run has no map.
    """
    mean, std = record.final_maps
    scale = record.merit_scale(mean)
    std_scale = record.merit_scale(std)
    grid = record.history.grid
    figure = new_figure(10.4, _height(grid, 4.35))
    left, right = figure.subplots(1, 2)
    shown = show_map(left, scale.factor * mean, extent_of(grid), MEAN_MAP)
    colour_bar(left, shown, scale.label("Posterior mean"))
    left.set_title("Figure of merit")
    shown = show_map(right, std_scale.factor * std, extent_of(grid), STD_MAP)
    colour_bar(right, shown, std_scale.label("Posterior standard deviation"))
    right.set_title("Uncertainty")
    for axes in (left, right):
        _dots(axes, record, grid)
        _label(axes, grid)
    scale_bar(left, extent_of(grid))
    return figure


@styled
def truth_figure(record: RunRecord) -> "Figure":
    """Truth, posterior mean and their difference, the first two on one colour scale.

    Parameters
    ----------
    record : RunRecord
        A run whose truth is known, with at least one figure of merit.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    AnalysisError
        The run has no map, or its truth is not known.
    """
    if record.truth is None:
        raise AnalysisError(
            f"The truth of run {record.start['uid']} is not in the catalog; only simulated and "
            "recorded samples have one."
        )
    mean, _ = record.final_maps
    scale = record.merit_scale(record.truth)
    truth, mean = scale.factor * record.truth, scale.factor * mean
    low, high = (float(v) for v in np.nanpercentile(np.stack([truth, mean]), (0.2, 99.8)))
    difference = mean - truth
    size = float(np.nanpercentile(np.abs(difference), 99.8)) or 1.0
    grid = record.history.grid
    figure = new_figure(11.6, _height(grid, 3.5))
    panels = figure.subplots(1, 3)
    parts: tuple[tuple[str, FloatArray, str, tuple[float, float], str], ...] = (
        ("Truth", truth, MEAN_MAP, (low, high), "Figure of merit"),
        ("Posterior mean", mean, MEAN_MAP, (low, high), "Figure of merit"),
        ("Mean minus truth", difference, DIFFERENCE_MAP, (-size, size), "Difference"),
    )
    for axes, (title, image, cmap, limits, what) in zip(panels, parts, strict=True):
        shown = show_map(axes, image, extent_of(grid), cmap, limits=limits)
        colour_bar(axes, shown, scale.label(what))
        axes.set_title(title)
        _label(axes, grid)
    _dots(panels[1], record, grid)
    scale_bar(panels[0], extent_of(grid))
    return figure


def _survey_frame(survey: Any) -> Grid:
    rows, columns = survey["x_sample"].shape
    return Grid.from_metadata({**survey.attrs, "nx": columns, "ny": rows})


def _height(grid: Grid, for_square: float) -> float:
    """Height of a row of maps (inches): room for title and labels, and the maps' own shape."""
    return 1.0 + (for_square - 1.0) * float(np.clip(grid.height / grid.width, 0.45, 1.6))


def _limit(axes: "Axes", grid: Grid) -> None:
    left, right, bottom, top = extent_of(grid)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor="#f4f6f8")


def _label(axes: "Axes", grid: Grid) -> None:
    turned = f" along the frame, turned by {grid.angle:g}°" if grid.angle % 360 else ""
    axes.set_xlabel(f"x{turned} (nm)")
    axes.set_ylabel(f"y{turned} (nm)")


def _outline(axes: "Axes", survey: Grid, grid: Grid) -> None:
    """Draw the frame of the spectra where it is not that of the survey."""
    from matplotlib.patches import Polygon

    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    own = grid.to_sample(corners * (grid.width, grid.height))
    around = survey.to_sample(corners * (survey.width, survey.height))
    if np.abs(own - around).max() > 1e-3 * survey.width:
        outline = places(survey, *own.T)
        axes.add_patch(Polygon(outline, fill=False, ec=VERMILION, lw=1.2, ls="--"))


def _found_defects(axes: "Axes", record: RunRecord, frame: Grid) -> None:
    """Draw the defects of the survey image, a colour and a mark for each class."""
    if not record.defects:
        return
    points = places(frame, record.defects["x"], record.defects["y"])
    labels = np.asarray(record.defects["label"]).astype(str)
    marks = "sD^v<>ph*d"
    for number, name in enumerate(np.unique(labels).tolist()):
        own = points[labels == name]
        axes.plot(
            own[:, 0],
            own[:, 1],
            marks[number % len(marks)],
            mfc="none",
            mec=f"C{number % 10}",
            ms=9,
            mew=1.4,
            label=f"{name} ({len(own)})",
        )
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=3, fontsize=7, frameon=False)


def _ordered_points(axes: "Axes", record: RunRecord, frame: Grid) -> None:
    count = record.n_spectra
    if not count:
        return
    points = places(frame, record.history.x, record.history.y)
    numbers = np.arange(1, count + 1)
    numbered = count <= NUMBERED
    # Circles shrink so that many points leave the image visible.
    size = float(np.clip(1400 / np.sqrt(count), 100, 190)) if numbered else 18.0
    dots = axes.scatter(
        points[:, 0],
        points[:, 1],
        c=numbers,
        s=size,
        cmap=ORDER_MAP,
        vmin=1,
        vmax=max(count, 2),
        edgecolors="white",
        linewidths=0.7,
        zorder=_ABOVE,
        clip_on=False,
    )
    if not numbered:
        colour_bar(axes, dots, "Number of the spectrum", 0 if record.survey is None else 1)
        return
    for number, (x, y) in zip(numbers, points, strict=True):
        dark = (number - 1) / max(count - 1, 1) < 0.6
        axes.text(
            x,
            y,
            str(number),
            ha="center",
            va="center_baseline",
            fontsize=5.6,
            fontweight="bold",
            color="white" if dark else INK,
            zorder=_ABOVE + 1,
        )


def _dots(axes: "Axes", record: RunRecord, grid: Grid) -> None:
    points = places(grid, record.history.x, record.history.y)
    size = float(np.clip(900 / max(len(points), 1), 3.0, 12.0))
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=size,
        c="white",
        edgecolors=INK,
        linewidths=0.5,
        zorder=_ABOVE,
        clip_on=False,
    )


__all__ = [
    "extent_of",
    "map_figure",
    "places",
    "survey_figure",
    "truth_figure",
]
