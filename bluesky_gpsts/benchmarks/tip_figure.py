"""A figure of what a check of the tip goes by: images, steps and spectra of good and bad tips."""

from pathlib import Path

import numpy as np

from bluesky_gpsts.images import level_plane, step_edge
from bluesky_gpsts.physics import Junction, Tip, build_surface, sharp
from bluesky_gpsts.spectra.surfacestate import fit_surface_state

__all__ = ["draw"]

_SIDE, _PIXELS, _SEED = 34e-9, 256, 2
_TIPS = {
    "good tip": sharp(),
    "blunt, double tip": Tip(blur=0.45e-9, apexes=((0.0, 0.0, 1.0), (-1.6e-9, 0.9e-9, 0.5))),
    "contaminated tip": Tip(background=((0.15, 0.1, 1.2),)),
}


def draw(path: Path) -> None:
    """Draw the figure to a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    surface = build_surface("au111", _SEED)
    line = ((np.arange(_PIXELS) + 0.5) / _PIXELS - 0.5) * _SIDE
    x, y = np.meshgrid(line, -line)
    pixel = (_SIDE / _PIXELS, _SIDE / _PIXELS)
    figure = Figure(figsize=(12.0, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    first, second, steps, curves = figure.subplots(1, 4)
    for axes, name in ((first, "good tip"), (second, "blunt, double tip")):
        heights = Junction(surface, _TIPS[name]).topography(x.ravel(), y.ravel(), 1.0, 30e-12)
        flat = level_plane(heights.reshape(x.shape))
        half = 0.5e9 * _SIDE
        low, high = np.quantile(flat, [0.01, 0.995])
        axes.imshow(
            1e12 * flat,
            extent=(-half, half, -half, half),
            cmap="gray",
            vmin=1e12 * low,
            vmax=1e12 * high,
        )
        axes.set(title=name, xlabel="x (nm)", ylabel="y (nm)")
        edge = step_edge(flat, pixel)
        if edge is None:
            raise ValueError(f"the image of the {name} shows no step; choose another seed")
        label = f"{name}: {edge.width * 1e9:.2f} nm"
        steps.plot(1e9 * edge.position, edge.profile, label=label)
    steps.set(title="edge of the step", xlabel="across the step (nm)", ylabel="height (of 1)")
    steps.set_ylim(top=1.45)
    steps.legend(fontsize=7, loc="upper left", title="width", title_fontsize=7)
    bias, here = np.linspace(1.0, -1.0, 256), np.zeros(1)
    rng = np.random.default_rng(_SEED)
    for offset, name in enumerate(("good tip", "contaminated tip")):
        junction = Junction(surface, _TIPS[name])
        gap = junction.setpoint_gap(here, here, 1.0, 30e-12)
        signal = junction.lockin(here, here, bias, 5e-3, gap)[0] / 5e-3
        noisy = 1e12 * signal + 3.2 * rng.standard_normal(bias.size)
        state = fit_surface_state(bias, noisy)
        label = f"{name}: {1e3 * state.onset:.0f} mV, {100 * state.height:.0f} %"
        curves.plot(bias, noisy + 30 * offset, lw=0.9, label=label)
    curves.axvline(-0.48, color="0.6", lw=0.8, ls="--")
    curves.set(title="spectra", xlabel="bias (V)", ylabel="dI/dV (pS), shifted")
    curves.set_ylim(top=1.4 * curves.get_ylim()[1])
    curves.legend(fontsize=7, loc="upper right", title="onset and height", title_fontsize=7)
    figure.savefig(path, dpi=110)
