"""How all figures look; matplotlib through its objects, never through pyplot."""

import functools
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

P = ParamSpec("P")
R = TypeVar("R")

DPI = 150
INK = "#22272e"
MUTED = "#6b7480"
FAINT = "#d9dee4"
# Okabe and Ito's palette: distinct for every kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
MEAN_MAP, STD_MAP, ORDER_MAP, DIFFERENCE_MAP = "viridis", "cividis", "viridis", "PuOr"

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "image.interpolation": "nearest",
    "figure.facecolor": "white",
    "svg.hashsalt": "bluesky-gpsts",
}


def styled(make: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws, so that it draws in this style."""

    @functools.wraps(make)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib as mpl

        with mpl.rc_context(_RC):
            return make(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.04)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


@styled
def png(figure: "Figure") -> bytes:
    """Render a figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def tidy(axes: "Axes") -> None:
    """Make a plot of curves light: two spines and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True)


def show_map(
    axes: "Axes",
    image: npt.NDArray[np.float64],
    extent: tuple[float, float, float, float],
    cmap: str,
    *,
    top_first: bool = False,
    limits: tuple[float, float] | None = None,
) -> "AxesImage":
    """Draw a map.

    Parameters
    ----------
    axes : Axes
        Where.
    image : ndarray, shape (ny, nx)
        In the unit to show.
    extent : tuple of float
        Left, right, bottom, top in nm.
    cmap : str
        Name of the colour map.
    top_first : bool
        Whether row 0 is the top row.
    limits : tuple of float, optional
        Values at the ends of the colour map.

    Returns
    -------
    AxesImage
    """
    low, high = limits if limits is not None else (None, None)
    shown = axes.imshow(
        np.ma.masked_invalid(image),
        cmap=cmap,
        origin="upper" if top_first else "lower",
        extent=extent,
        vmin=low,
        vmax=high,
        aspect="equal",
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=3)
    axes.locator_params(nbins=5)
    return shown


def colour_bar(axes: "Axes", mappable: Any, label: str, place: int = 0) -> None:
    """Put a slim colour bar beside a plot, as high as the plot; `place` counts from the left."""
    figure: Any = axes.figure
    bar = figure.colorbar(mappable, cax=axes.inset_axes((1.025 + 0.19 * place, 0.0, 0.035, 1.0)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2.5)
    bar.ax.locator_params(nbins=6)
    bar.set_label(label)


def scale_bar(
    axes: "Axes", extent: tuple[float, float, float, float], nanometre: float = 1.0
) -> None:
    """Draw a bar of a round length (nm) in the lower left corner of a map.

    Parameters
    ----------
    axes : Axes
        Where.
    extent : tuple of float
        Left, right, bottom, top, in units of the axes.
    nanometre : float
        Units of the axes, along x, in a nanometre.
    """
    from matplotlib.offsetbox import AnchoredOffsetbox, AuxTransformBox, TextArea, VPacker
    from matplotlib.patches import Rectangle

    width = extent[1] - extent[0]
    length = round_length(width / nanometre / 4)
    bar = AuxTransformBox(axes.transData)
    bar.add_artist(
        Rectangle((0, 0), length * nanometre, 0.012 * (extent[3] - extent[2]), fc=INK, lw=0)
    )
    text = TextArea(f"{length:g} nm", textprops={"color": INK, "size": 8, "weight": "bold"})
    packed = VPacker(children=[text, bar], align="center", pad=0, sep=3)
    box = AnchoredOffsetbox(loc="lower left", child=packed, pad=0.45, borderpad=0.6, frameon=True)
    box.patch.set(facecolor="white", alpha=0.8, edgecolor="none", boxstyle="round,pad=0.1")
    axes.add_artist(box)


def round_length(wanted: float) -> float:
    """Largest of 1, 2, 5 times a power of ten that is not above a length."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= wanted * (1 + 1e-9))
