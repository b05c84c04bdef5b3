"""The four panels of the live figure: survey, mean, standard deviation, spectra."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.surrogate import Grid, noise_variances, posterior_maps
from bluesky_gpsts.surrogate.scaling import Scaling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

PREVIEW = 64
"""Pixels of the preview along the longer side of the frame."""

_RELATIVE_NOISE = 0.03
_NM, _PS = 1e9, 1e12
_INK, _BLUE, _FAINT, _WINDOW = "#22272e", "#0072B2", "#9aa4af", "#E69F00"


@dataclass(frozen=True)
class Image:
    """A survey image.

    Attributes
    ----------
    frame : Grid
        Where it was taken.
    height : ndarray, shape (ny, nx)
        Topography (m); row 0 is the top row.
    """

    frame: Grid
    height: FloatArray


@dataclass(frozen=True)
class Snapshot:
    """What is known at one moment of a run.

    Attributes
    ----------
    title : str
        Sample and progress.
    grid : Grid
        The frame with the pixels of the preview.
    kernel : str
        Name of the kernel.
    window : tuple of float or None
        Bias window (V).
    survey : Image or None
        The survey that led to the run.
    x, y, values, variances : ndarray, shape (n,)
        Positions (m), figures of merit (A) and their variances (A^2).
    bias : ndarray, shape (m,)
        Bias axis (V).
    curves : tuple of ndarray, each of shape (m,)
        dI/dV (A/V) of the last spectra.
    hyperparameters : ndarray of shape (4,) or None
        Latest that a decision recorded; None before.
    default_noise : float
        Noise variance (A^2) that went with them, for outcomes without one; NaN if not recorded.
    structure : str
        Structure that the model used, as the decision records it; "" for none.
    images : ndarray or None
        Topograph (ny, nx) or maps (K, ny, nx) that the structure is made of.
    in_ampere : bool
        Whether figures of merit are currents (A), or of a unit that is not known here.
    """

    title: str
    grid: Grid
    kernel: str
    window: tuple[float, float] | None
    survey: Image | None
    x: FloatArray
    y: FloatArray
    values: FloatArray
    variances: FloatArray
    bias: FloatArray
    curves: tuple[FloatArray, ...]
    hyperparameters: FloatArray | None
    default_noise: float
    structure: str = ""
    images: FloatArray | None = None
    in_ampere: bool = True

    @property
    def scale(self) -> tuple[float, str]:
        """Factor and unit to show figures of merit in."""
        return (1e12, " (pA)") if self.in_ampere else (1.0, "")

    def maps(self) -> tuple[FloatArray, FloatArray] | None:
        """Posterior mean and standard deviation (A) on the preview; None while undefined."""
        valid = np.isfinite(self.values) & np.isfinite(self.x) & np.isfinite(self.y)
        if self.hyperparameters is None or not valid.any():
            return None
        values = self.values[valid]
        default = self.default_noise
        if not np.isfinite(default):
            default = Scaling.of(values, _RELATIVE_NOISE).default_variance
        return posterior_maps(
            self.grid,
            self.x[valid],
            self.y[valid],
            values,
            noise_variances(self.variances[valid], default),
            self.hyperparameters,
            self.kernel,
            self.structure,
            self.images,
        )


def preview_grid(grid: Grid) -> Grid:
    """Return the frame of a grid with so few pixels that its map takes milliseconds."""
    longest = max(grid.width, grid.height)
    pixels = (max(2, round(PREVIEW * side / longest)) for side in (grid.width, grid.height))
    nx, ny = pixels
    return Grid(grid.center_x, grid.center_y, grid.width, grid.height, grid.angle, nx, ny)


class Panels:
    """Artists of the four panels, made once and updated with every snapshot.

    Parameters
    ----------
    figure : Figure
        An empty figure.
    first : Snapshot
        The start of the run: frame, survey and window do not change.
    """

    def __init__(self, figure: "Figure", first: Snapshot) -> None:
        from matplotlib.collections import LineCollection

        self.figure = figure
        figure.set_layout_engine("constrained")
        survey, mean, std, spectrum = figure.subplots(2, 2).ravel()
        self._title = figure.suptitle(first.title, fontsize=10, fontweight="bold")
        self._frame = first.survey.frame if first.survey is not None else first.grid
        if first.survey is not None:
            height = 1e12 * (first.survey.height - np.nanmedian(first.survey.height))
            low, high = np.nanpercentile(height, (0.5, 99.5))
            image = survey.imshow(
                height,
                cmap="gray",
                extent=_extent(self._frame),
                origin="upper",
                vmin=low,
                vmax=high,
            )
            _colour_bar(survey, image, "Height (pm)")
        else:
            left, right, bottom, top = _extent(self._frame)
            survey.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor="#f4f6f8")
        survey.set_title("Survey" if first.survey is not None else "Points", fontsize=9)
        self._points = survey.scatter(
            [], [], c=[], s=18, cmap="viridis", edgecolors="white", linewidths=0.6, clip_on=False
        )
        self._maps = [
            self._map(axes, first.grid, title, cmap)
            for axes, title, cmap in (
                (mean, f"Posterior mean{first.scale[1]}", "viridis"),
                (std, f"Posterior std{first.scale[1]}", "cividis"),
            )
        ]
        self._earlier = LineCollection([], colors=_FAINT, linewidths=0.6, alpha=0.4)
        spectrum.add_collection(self._earlier)
        (self._latest,) = spectrum.plot([], [], color=_BLUE, lw=1.2)
        if first.window is not None:
            spectrum.axvspan(*first.window, color=_WINDOW, alpha=0.13, lw=0)
        spectrum.set(xlabel="Bias (V)", ylabel="dI/dV (pS)")
        spectrum.spines[["top", "right"]].set_visible(False)
        self._spectrum = spectrum
        for axes in (survey, mean, std):
            axes.set(xlabel="x (nm)", ylabel="y (nm)")
            # Most of the time of a drawing goes into the labels of ticks.
            axes.locator_params(nbins=4)
        for axes in (survey, mean, std, spectrum):
            axes.title.set_fontsize(9)
            axes.tick_params(labelsize=7)
            axes.xaxis.label.set_fontsize(8)
            axes.yaxis.label.set_fontsize(8)
        self._settled = False

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot; draw the canvas afterwards."""
        self._title.set_text(snapshot.title)
        points = np.column_stack([snapshot.x, snapshot.y])
        if len(points):
            self._points.set_offsets(_places(self._frame, points))
            self._points.set_array(np.arange(1, len(points) + 1))
            self._points.set_clim(1, max(len(points), 2))
            self._show_spectra(snapshot)
        maps = snapshot.maps()
        if maps is None:
            return
        own = _places(snapshot.grid, points)
        for (image, dots, note), values in zip(self._maps, maps, strict=True):
            note.set_visible(False)
            factor = snapshot.scale[0]
            image.set_data(factor * values)
            image.set_clim(factor * float(values.min()), factor * float(values.max()))
            dots.set_offsets(own)

    def settle(self) -> None:
        """Keep the layout as it is: to lay out four panels takes longer than to draw them."""
        if not self._settled and self._maps[0][2].get_visible() is False:
            self.figure.set_layout_engine("none")
            self._settled = True

    def _map(self, axes: "Axes", grid: Grid, title: str, cmap: str) -> tuple[Any, Any, Any]:
        image = axes.imshow(
            np.full((grid.ny, grid.nx), np.nan), cmap=cmap, extent=_extent(grid), origin="lower"
        )
        _colour_bar(axes, image)
        dots = axes.scatter(
            [], [], s=7, c="white", edgecolors=_INK, linewidths=0.4, clip_on=False, zorder=3
        )
        axes.set_title(title)
        note = axes.text(
            0.5, 0.5, "waiting for spectra", transform=axes.transAxes, ha="center", color=_FAINT
        )
        return image, dots, note

    def _show_spectra(self, snapshot: Snapshot) -> None:
        bias = snapshot.bias
        curves = [_PS * curve for curve in snapshot.curves if len(curve) == len(bias)]
        if not curves:
            return
        self._earlier.set_segments([np.column_stack([bias, curve]) for curve in curves[:-1]])
        self._latest.set_data(bias, curves[-1])
        low = min(float(np.nanmin(curve)) for curve in curves)
        high = max(float(np.nanmax(curve)) for curve in curves)
        margin = 0.05 * (high - low or 1.0)
        self._spectrum.set_xlim(float(bias.min()), float(bias.max()))
        self._spectrum.set_ylim(low - margin, high + margin)
        number = len(snapshot.values)
        factor, unit = snapshot.scale
        shown = f"{factor * snapshot.values[-1]:.3g}" if number else ""
        latest = f": {shown}{unit.replace('(', '').replace(')', '')}" if number else ""
        self._spectrum.set_title(f"Spectrum {number}{latest}", fontsize=9)


def _colour_bar(axes: "Axes", image: Any, label: str = "") -> None:
    figure: Any = axes.figure
    bar = figure.colorbar(image, ax=axes, fraction=0.046)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=8)


def _extent(grid: Grid) -> tuple[float, float, float, float]:
    x, y = _NM * grid.center_x, _NM * grid.center_y
    half_x, half_y = _NM * grid.width / 2, _NM * grid.height / 2
    return x - half_x, x + half_x, y - half_y, y + half_y


def _places(grid: Grid, xy: FloatArray) -> FloatArray:
    """Sample coordinates (m) in nm along the axes of a frame: shape (N, 2)."""
    return _NM * (grid.to_frame(xy) + (grid.center_x, grid.center_y))
