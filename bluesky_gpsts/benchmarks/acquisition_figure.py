"""Figure of the acquisition benchmark: one panel per map, one line per strategy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bluesky_gpsts.analysis.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    VERMILION,
    new_figure,
    png,
    styled,
)
from bluesky_gpsts.benchmarks.acquisition_rows import REACH
from bluesky_gpsts.benchmarks.maps import Truth
from bluesky_gpsts.benchmarks.strategies import STRATEGIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "prior": (GREEN, "prior from the survey image or a library"),
    "blind": (BLUE, "no prior"),
    "wrong prior": (ORANGE, "wrong prior"),
    "design": (MUTED, "fixed design"),
    "gpCAM": (VERMILION, "gpCAM as it comes"),
}
COLUMNS = 3


@styled
def draw(result: Mapping[str, Any], truths: Mapping[str, Truth]) -> bytes:
    """Draw medians with bars from p10 to p90 at the lowest noise.

    Parameters
    ----------
    result : mapping
        Report of the benchmark "acquisition".
    truths : mapping of str to Truth
        A map to show for each case.

    Returns
    -------
    bytes
        PNG file.

    Raises
    ------
    ValueError
        If the report has no row to draw.
    """
    from matplotlib.lines import Line2D

    cases = _collect(result)
    if not cases:
        raise ValueError("the report has no counts of spectra to draw; run at least one cell")
    limit = int(result["protocol"]["limit"])
    columns = min(COLUMNS, len(cases))
    count = -(-len(cases) // columns)
    tallest = max(len(methods) for methods in cases.values())
    figure = new_figure(4.6 * columns, count * (0.17 * tallest + 0.95) + 0.4)
    grid = figure.subplots(count, columns, squeeze=False, sharex=True)
    for axes, (case, methods) in zip(grid.flat, cases.items(), strict=False):
        _panel(axes, case, methods, limit, truths.get(case))
    for axes in list(grid.flat)[len(cases) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("spectra to a sustained r of 0.95")
    kinds = {STRATEGIES[name].kind for methods in cases.values() for name in methods}
    handles = [
        Line2D([], [], color=colour, marker="o", ms=5, lw=2.2, label=label)
        for kind, (colour, label) in COLOURS.items()
        if kind in kinds
    ]
    if any("goal" in cell for methods in cases.values() for cell in methods.values()):
        handles.append(
            Line2D([], [], color=INK, marker="|", ms=10, mew=1.4, lw=0, label="goal (median)")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return png(figure)


def _collect(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Numbers by map, strategy and part ("median", "p10", "p90", "goal")."""
    titles = [r["case"] for r in result["rows"] if r["metric"].startswith(REACH)]
    if not titles:
        return {}
    condition = titles[0].rpartition("; ")[2]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in result["rows"]:
        case, _, where = row["case"].rpartition("; ")
        if where != condition or not row["metric"].startswith(REACH):
            continue
        part = row["metric"].rpartition(", ")[2]
        cell = found.setdefault(case, {}).setdefault(row["method"], {})
        cell[part] = row["value"]
        if part == "median" and "goal" in row:
            cell["goal"] = row["goal"]
    return found


def _panel(
    axes: "Axes",
    case: str,
    methods: Mapping[str, Mapping[str, float]],
    limit: int,
    truth: Truth | None,
) -> None:
    """Strategies of one map, the best on top."""
    order = sorted(methods, key=lambda name: (methods[name]["median"], methods[name]["p90"]))
    for line, name in enumerate(reversed(order)):
        cell = methods[name]
        colour = COLOURS[STRATEGIES[name].kind][0]
        low, middle, high = (min(cell[part], limit) for part in ("p10", "median", "p90"))
        axes.plot([low, high], [line, line], color=colour, lw=2.4, alpha=0.45)
        reached = cell["median"] <= limit
        axes.plot(
            [middle],
            [line],
            marker="o" if reached else ">",
            ms=5.5,
            color=colour if reached else "white",
            markeredgecolor=colour,
            lw=0,
            clip_on=False,
            zorder=3,
        )
        label = f"{cell['median']:.0f}" if reached else f">{limit}"
        axes.annotate(
            label,
            (1.0, line),
            xycoords=("axes fraction", "data"),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=INK if reached else MUTED,
        )
        if "goal" in cell:
            axes.plot([cell["goal"]], [line], marker="|", ms=11, mew=1.4, color=INK, lw=0)
    axes.set_yticks(range(len(order)), list(reversed(order)), fontsize=7.5)
    axes.set_xlim(0, limit)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_title(case)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=FAINT)
    if truth is not None:
        # The best strategies leave the upper right corner free, the worst the lower left one.
        corner = 0.02 if methods[order[-1]]["p10"] > 0.4 * limit else 0.76
        side = (corner, 0.02, 0.26, 0.26) if corner < 0.5 else (0.72, 0.72, 0.27, 0.27)
        inset = axes.inset_axes(side, zorder=4)
        inset.imshow(truth.values, origin="lower", cmap="viridis")
        inset.set_xticks([])
        inset.set_yticks([])
        inset.spines[:].set_visible(False)
