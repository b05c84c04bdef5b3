"""Curves of a run as figures: spectra, hyperparameters, progress of the map, time.

Each function takes a `RunRecord` and returns a `matplotlib.figure.Figure`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .record import RunRecord
from .style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MEAN_MAP,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    colour_bar,
    new_figure,
    styled,
    tidy,
)
from .units import NM, bias_scale, conductance_scale, current_scale, time_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

GOAL = 0.95
"""Correlation with the truth from which on a map counts as found."""

SMOOTHED = 0.01
"""Part of the bias range over which highlighted spectra are averaged for the eye."""


@styled
def spectra_figure(record: RunRecord) -> "Figure":
    """All spectra, coloured by figure of merit, and a few of them by themselves.

    Parameters
    ----------
    record : RunRecord
        A run with at least one spectrum.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    name = "didv" if "didv" in record.spectra else "current"
    curves = record.spectra[name].values
    merits = record.history.values
    axis = record.spectra["bias"].values
    bias, level = bias_scale(axis), record.merit_scale(merits)
    signal = conductance_scale(curves) if name == "didv" else current_scale(curves)
    norm = Normalize(*_limits(level.factor * merits))
    # Drawn from low to high, so that the few interesting ones are not buried.
    order = np.argsort(np.where(np.isfinite(merits), merits, -np.inf), kind="stable")
    lines = [
        np.column_stack([bias.factor * axis, _running_mean(signal.factor * curves[i])])
        for i in order
    ]
    bundle = LineCollection(lines, cmap=MEAN_MAP, norm=norm, linewidths=0.7, alpha=0.75)
    bundle.set_array(np.ma.masked_invalid(level.factor * merits[order]))

    figure = new_figure(10.4, 4.3)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    left.add_collection(bundle)
    left.autoscale_view()
    colour_bar(left, bundle, level.label("Figure of merit"))
    left.set_title(f"All {len(curves)} spectra" if len(curves) > 1 else "The spectrum")
    chosen = _highlights(merits)
    for number, colour in zip(chosen, (VERMILION, GREEN, BLUE), strict=False):
        curve = signal.factor * curves[number]
        right.plot(bias.factor * axis, curve, color=colour, lw=0.5, alpha=0.3)
        right.plot(
            bias.factor * axis,
            _running_mean(curve),
            color=colour,
            lw=1.5,
            label=f"spectrum {number + 1}: {level.show(merits[number])}",
        )
    right.set_title("Highest, middle and lowest" if len(chosen) == 3 else "By themselves")
    if chosen:
        right.legend(loc="best")
    what = "dI/dV" if name == "didv" else "Current"
    left.set_ylabel(f"{what} ({signal.unit})")
    window = record.start.get("window")
    for axes in (left, right):
        tidy(axes)
        axes.set_xlabel(f"Bias ({bias.unit})")
        axes.margins(x=0.01)
        if window is not None:
            axes.axvspan(
                bias.factor * window[0], bias.factor * window[1], color=ORANGE, alpha=0.13, lw=0
            )
    if window is not None:
        middle = bias.factor * (window[0] + window[1]) / 2
        left.annotate(
            "window",
            (middle, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color="#8a5a00",
        )
    return figure


@styled
def hyperparameters_figure(record: RunRecord) -> "Figure":
    """Length scales, signal and prior mean of the model against the number of spectra.

    Parameters
    ----------
    record : RunRecord
        A run with at least one figure of merit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    history = record.history
    counts = np.arange(1, len(history) + 1)
    variance, length_x, length_y, mean = history.hyperparameters.T
    signal = np.sqrt(variance)
    level = record.merit_scale(np.concatenate([signal, mean]))
    figure = new_figure(10.4, 3.5)
    left, right = figure.subplots(1, 2)
    marker: dict[str, Any] = {"marker": "o", "ms": 4} if len(history) < 4 else {}
    left.step(counts, NM.factor * length_x, where="post", color=BLUE, label="along x", **marker)
    left.step(
        counts, NM.factor * length_y, where="post", color=ORANGE, ls="--", label="along y", **marker
    )
    left.set(title="Length scales", ylabel="Length scale (nm)")
    right.step(
        counts, level.factor * signal, where="post", color=GREEN, label="signal std", **marker
    )
    right.step(
        counts, level.factor * mean, where="post", color=PURPLE, ls="--", label="mean", **marker
    )
    right.set(title="Signal", ylabel=level.label("Prior of the figure of merit"))
    for axes in (left, right):
        tidy(axes)
        _count_axis(axes, len(history))
        if not history.trained.all():
            untrained = int(np.argmax(history.trained)) if history.trained.any() else len(history)
            axes.axvspan(0, untrained + 1, color=FAINT, alpha=0.6, lw=0, label="not trained yet")
        axes.legend(loc="best")
    left.set_ylim(bottom=0)
    return figure


@styled
def progress_figure(record: RunRecord) -> "Figure":
    """How the map became better: correlation with the truth, or the mean uncertainty.

    Parameters
    ----------
    record : RunRecord
        A run with at least one figure of merit. Without a known truth, the posterior standard
        deviation averaged over the map is shown.

    Returns
    -------
    matplotlib.figure.Figure
    """
    history = record.history
    counts = np.arange(1, len(history) + 1)
    figure = new_figure(7.6, 3.7)
    axes = figure.add_subplot()
    tidy(axes)
    if record.n_initial:
        axes.axvspan(0, record.n_initial, color=FAINT, alpha=0.6, lw=0, label="initial points")
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "ms": 3.0, "lw": 1.6}
    if record.truth is not None:
        found = record.correlations
        axes.axhline(GOAL, color=VERMILION, lw=1.0, ls="--", label=f"{GOAL:g}")
        axes.plot(counts, found, **style)
        axes.set(title="Agreement of map and truth", ylabel="Correlation with the truth")
        lowest = float(np.nanmin(found)) if np.isfinite(found).any() else 0.0
        axes.set_ylim(min(-0.02, lowest - 0.05), 1.03)
        if np.isfinite(found[-1]):
            _mark_last(axes, counts[-1], found[-1], f"{found[-1]:.3f}", below=True)
    else:
        found = history.mean_stds()
        level = record.merit_scale(found)
        # One value alone has no spread, so that what the model expects around it means nothing.
        first = 1 if len(found) > 1 else 0
        axes.plot(counts[first:], level.factor * found[first:], **style)
        axes.set(title="Uncertainty of the map", ylabel=level.label("Mean posterior std"))
        axes.set_ylim(bottom=0)
        last = level.factor * found[-1]
        _mark_last(axes, counts[-1], last, level.show(found[-1]), below=False)
    _count_axis(axes, len(history))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right" if record.truth is not None else "upper right")
    return figure


def cycle_parts(record: RunRecord) -> dict[str, FloatArray]:
    """Seconds per spectrum: instrument, deciding, and the rest of each cycle.

    Parameters
    ----------
    record : RunRecord
        A run.

    Returns
    -------
    dict of str to ndarray, shape (number of decisions,)
        Keys ``instrument``, ``deciding`` and ``rest`` (s); empty if the run did not record them.
    """
    names = ("seconds_instrument", "seconds_deciding", "seconds_cycle")
    if not all(name in record.decisions for name in names):
        return {}
    instrument, deciding, cycle = (
        np.asarray(record.decisions[name].values, dtype=float) for name in names
    )
    rest = np.maximum(cycle - instrument - deciding, 0.0)
    return {"instrument": instrument, "deciding": deciding, "rest": rest}


@styled
def time_figure(record: RunRecord) -> "Figure":
    """Time per spectrum by part, stacked; beside it, the same without the instrument.

    Parameters
    ----------
    record : RunRecord
        A run that recorded its times.

    Returns
    -------
    matplotlib.figure.Figure
    """
    parts = {name: np.nan_to_num(values) for name, values in cycle_parts(record).items()}
    overhead = parts["deciding"] + parts["rest"]
    figure = new_figure(10.4, 3.6)
    left, right = figure.subplots(1, 2)
    whole, small = time_scale(parts["instrument"] + overhead), time_scale(overhead)
    for axes, scale, names in (
        (left, whole, ("instrument", "deciding", "rest")),
        (right, small, ("deciding", "rest")),
    ):
        _stack(axes, scale.factor, {name: parts[name] for name in names})
        tidy(axes)
        axes.grid(False, axis="x")
        axes.set_ylabel(f"Time ({scale.unit})")
        _count_axis(axes, len(overhead))
        axes.set_xlabel("Spectrum")
    middle = float(np.median(overhead))
    right.axhline(
        small.factor * middle, color=INK, lw=1.0, ls="--", label=f"median {small.show(middle)}"
    )
    left.set_title("Time per spectrum")
    right.set_title("Without the instrument")
    for axes in (left, right):
        axes.set_ylim(0, 1.28 * axes.get_ylim()[1])
        axes.legend(loc="upper right", ncols=3, columnspacing=1.2, handlelength=1.4)
    return figure


_COLOURS = {"instrument": SKY, "deciding": VERMILION, "rest": "#9aa4af"}
_LABELS = {"instrument": "instrument", "deciding": "deciding", "rest": "writing and the rest"}


def _stack(axes: "Axes", factor: float, parts: dict[str, FloatArray]) -> None:
    bottom = np.zeros(len(next(iter(parts.values()))))
    edges = np.arange(len(bottom) + 1) + 0.5
    for name, values in parts.items():
        top = bottom + factor * values
        axes.stairs(
            top, edges, baseline=bottom, fill=True, color=_COLOURS[name], label=_LABELS[name]
        )
        bottom = top


def _highlights(merits: FloatArray) -> list[int]:
    """Spectra with the highest, the middle and the lowest figure of merit."""
    order = [int(i) for i in np.argsort(merits, kind="stable") if np.isfinite(merits[i])]
    if not order:
        return []
    return list(dict.fromkeys((order[-1], order[len(order) // 2], order[0])))


def _running_mean(values: FloatArray) -> FloatArray:
    """Average over `SMOOTHED` of the points, an odd number; fewer at the ends."""
    half = int(SMOOTHED * len(values)) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    position = np.arange(len(values))
    low = np.maximum(position - half, 0)
    high = np.minimum(position + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def _limits(values: FloatArray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))


def _count_axis(axes: "Axes", count: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("Number of spectra")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.set_xlim(0, count + max(1.0, 0.02 * count))


def _mark_last(axes: "Axes", x: float, y: float, text: str, *, below: bool) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(-4, -9 if below else 9),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontweight="bold",
        color=BLUE,
    )


__all__ = [
    "GOAL",
    "cycle_parts",
    "hyperparameters_figure",
    "progress_figure",
    "spectra_figure",
    "time_figure",
]
