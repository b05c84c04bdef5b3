"""The library of defects on a sheet: averaged pictures of its classes, and how they are akin."""

from typing import TYPE_CHECKING

import numpy as np

from bluesky_gpsts.images.clusters import dendrogram
from bluesky_gpsts.images.library import Library

from .style import BLUE, INK, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["library_figure"]

_COLUMNS = 5
_LOW, _HIGH = -2.5, 3.5


@styled
def library_figure(library: Library) -> "Figure":
    """Draw a library: the averaged picture of each class, most examples first, and a dendrogram.

    Parameters
    ----------
    library : Library
        With one class or more.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from scipy.cluster.hierarchy import dendrogram as draw

    if not len(library):
        raise ValueError("the library is empty; grow it first")
    names = sorted(library.names, key=lambda name: -library.counts[name])
    rows = -(-len(names) // _COLUMNS)
    figure = new_figure(10.5, 1.55 * rows + 2.6)
    grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[1.0] * rows + [1.5])
    for index, name in enumerate(names):
        axes = figure.add_subplot(grid[index // _COLUMNS, index % _COLUMNS])
        axes.imshow(library.picture(name)[0], cmap="gray", vmin=_LOW, vmax=_HIGH)
        axes.set_title(f"{name} ({library.counts[name]})", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    axes = figure.add_subplot(grid[rows, :])
    if len(names) > 1:
        shapes = np.stack([library.of(name).shape.mean(axis=0) for name in names])
        pictures = np.stack([np.arcsinh(library.picture(name)[0]).ravel() for name in names])
        points = np.concatenate([shapes, 0.15 * pictures], axis=1)
        draw(
            dendrogram(points),
            labels=names,
            ax=axes,
            link_color_func=lambda _: BLUE,
            leaf_rotation=20 if len(names) > 6 else 0,
        )
        axes.tick_params(axis="x", labelsize=8, labelcolor=INK)
        axes.set_ylabel("Ward's distance")
    else:
        axes.set_visible(False)
    return figure
