"""What is known of the tip as figures: spectra that were repeated, and verdicts on it."""

from typing import TYPE_CHECKING

import numpy as np

from .record import RunRecord
from .style import BLUE, FAINT, GREEN, INK, MUTED, VERMILION, new_figure, scale_bar, styled, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .tip_record import TipRun

# Curves that a panel has room for; of more repetitions those that told of a change come first.
_SHOWN = 10


@styled
def reference_figure(record: RunRecord) -> "Figure":
    """Repeated spectra over time, those that told of another tip, and what was taken back.

    Parameters
    ----------
    record : RunRecord
        A run with tip checks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from scipy.ndimage import uniform_filter1d

    found, columns = record.references, record.start["columns"]
    after, changed = found["after"].astype(int), found["changed"] > 0
    number = int(found["primary_seq_num"][0])
    first = np.asarray(record.spectra["didv"].values[number - 1], dtype=float)
    curves = [(f"{number}", first, INK)]
    shown = np.sort(np.argsort(~changed, kind="stable")[:_SHOWN])
    for index in shown:
        curve = np.asarray(found[columns["didv"]][index], dtype=float)
        curves.append((f"after {after[index]}", curve, VERMILION if changed[index] else BLUE))
    bias = np.asarray(found[columns["bias"]][0], dtype=float)
    figure = new_figure(10.4, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1.0))
    step = 1.15 * float(np.nanpercentile(np.ptp([c for _, c, _ in curves], axis=1), 50)) * 1e12
    smooth = max(1, len(bias) // 100)
    for place, (label, curve, colour) in enumerate(reversed(curves)):
        averaged = uniform_filter1d(curve, smooth, mode="nearest") * 1e12
        left.plot(bias, averaged + place * step, color=colour, lw=1.0)
        left.annotate(
            label,
            (float(bias.max()), averaged[int(np.argmax(bias))] + place * step),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colour,
        )
    left.set(title=f"Spectrum {number} and its repetitions", xlabel="Bias (V)", ylabel="dI/dV (pS)")
    left.margins(x=0.02)
    tidy(left)
    for one in record.flagged:
        right.axvspan(one - 0.5, one + 0.5, color=FAINT, lw=0)
    ratio = np.maximum(found["ratio"], 1e-2)
    for these, colour, label in (
        (~changed, BLUE, "as it was"),
        (changed, VERMILION, "another tip"),
    ):
        if these.any():
            right.plot(after[these], ratio[these], "o", ms=5, color=colour, label=label)
    checks = record.start["plan_args"].get("tip_checks") or {}
    if "ratio" in checks:
        right.axhline(float(checks["ratio"]), color=MUTED, lw=0.9, ls="--")
    right.set(
        title="Difference from the reference",
        xlabel="Spectra taken",
        ylabel="Variance (of the noise's)",
        yscale="log",
        xlim=(0, max(record.n_spectra, int(after.max())) + 1.5),
    )
    right.legend(loc="best")
    tidy(right)
    return figure


@styled
def verdict_figure(run: "TipRun") -> "Figure":
    """What each check of the tip found, relative to what a tip passes with.

    Parameters
    ----------
    run : TipRun
        A run that checked the tip.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from bluesky_gpsts.plans.verdict import TipCriteria

    found, wanted = run.verdicts, TipCriteria()
    onset = float(run.start["plan_args"].get("onset", wanted.onset))
    count = np.arange(len(found["tip_passed"]))
    figure = new_figure(10.4, 3.6)
    axes = figure.subplots()
    shares = {
        "off the onset": np.abs(found["tip_onset"] - onset) / wanted.tolerance,
        "width of the onset": found["tip_onset_width"] / wanted.onset_width,
        "states of its own": found["tip_roughness"] / wanted.roughness,
        "noise": found["tip_noise"] / wanted.noise,
        "edge of a step": found["tip_edge"] / wanted.edge,
        "second edge": found["tip_second"] / wanted.second,
        "echo": found["tip_echo"] / wanted.echo,
    }
    markers = "osD^vPX"
    for marker, (name, share) in zip(markers, shares.items(), strict=True):
        value = np.clip(share, 0.02, 50.0)
        axes.plot(count, value, marker=marker, ms=4.5, lw=0.8, label=name)
    axes.axhline(1.0, color=MUTED, lw=1.0, ls="--")
    for place, passed in zip(count, found["tip_passed"] > 0, strict=True):
        axes.axvspan(
            place - 0.5, place + 0.5, color=GREEN if passed else VERMILION, alpha=0.09, lw=0
        )
    attempts = found["tip_attempt"].astype(int)
    axes.set_xticks(count, ["as found" if n == 0 else str(n) for n in attempts])
    axes.set(
        xlabel="After attempt",
        ylabel="Of what a tip passes with",
        yscale="log",
        xlim=(-0.5, len(count) - 0.5),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    tidy(axes)
    return figure


@styled
def tip_figure(run: "TipRun") -> "Figure":
    """Image and mean spectrum of the first check and of the last one.

    Parameters
    ----------
    run : TipRun
        A run that checked the tip.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from bluesky_gpsts.images import level_plane

    figure = new_figure(10.4, 3.6)
    first, last, curves = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.5))
    half = 0.5 * run.width * 1e9
    shown = [(first, 0, INK, "first check"), (last, len(run.images) - 1, BLUE, "last check")]
    if len(run.images) == 1:
        last.set_visible(False)
    for axes, index, _, title in shown[: len(run.images)]:
        flat = level_plane(run.images[index])
        low, high = np.nanpercentile(flat, [1.0, 99.0])
        extent = (-half, half, -half, half)
        axes.imshow(flat, cmap="gray", extent=extent, vmin=low, vmax=high)
        axes.set(title=title.capitalize(), xticks=[], yticks=[])
        scale_bar(axes, extent)
    for _, index, colour, label in shown[: len(run.images)]:
        if len(run.didv[index]):
            curves.plot(run.bias, 1e12 * run.didv[index].mean(axis=0), color=colour, label=label)
    curves.set(title="Mean of the spectra", xlabel="Bias (V)", ylabel="dI/dV (pS)")
    curves.legend(loc="best")
    tidy(curves)
    return figure
