"""The drift checks of a run as a figure: where the sample went, and what it was found by."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .figures import extent_of
from .record import RunRecord
from .style import BLUE, MUTED, ORANGE, new_figure, scale_bar, styled, tidy
from .units import NM

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def drift_figure(record: RunRecord) -> "Figure":
    """Offset of the sample at each check beside what was predicted; first and last image.

    Parameters
    ----------
    record : RunRecord
        A run with drift checks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    drift = record.drift
    minutes = (drift["seconds"] - drift["seconds"][0]) / 60.0
    good = drift["ok"] > 0
    figure = new_figure(10.4, 3.8)
    left, first, last = figure.subplots(1, 3, width_ratios=(2.0, 1.0, 1.0))
    for axis, colour in (("x", BLUE), ("y", ORANGE)):
        offset, sigma = NM.factor * drift[f"offset_{axis}"], NM.factor * drift[f"sigma_{axis}"]
        left.errorbar(
            minutes[good],
            offset[good],
            np.nan_to_num(sigma[good]),
            fmt="o-",
            color=colour,
            ms=4,
            lw=1.2,
            label=f"{axis}, measured",
        )
        predicted = NM.factor * drift[f"predicted_{axis}"]
        left.plot(
            minutes[1:], predicted[1:], "x", color=colour, ms=5, label=f"{axis}, predicted before"
        )
    for when in minutes[~good]:
        left.axvline(when, color=MUTED, lw=0.8, ls=":")
    left.set(xlabel="Time since the reference image (min)", ylabel="Offset of the sample (nm)")
    left.legend(fontsize=8)
    tidy(left)
    grid = record.history.grid
    size = record.start["plan_args"]["drift"]["size"]
    extent = extent_of(replace(grid, width=size, height=size) if size else grid)
    good_images = np.flatnonzero(record.drift_images["ok"] > 0)
    for axes, index, title in (
        (first, good_images[0], "Reference image"),
        (last, good_images[-1], "Last check"),
    ):
        # The first row of an image is its top.
        axes.imshow(record.drift_images["image"][index], cmap="gray", extent=extent)
        axes.set(title=title, xticks=[], yticks=[])
        scale_bar(axes, extent)
    return figure
