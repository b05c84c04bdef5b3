"""Images of H-Si(100): atoms, defects and their classes, terraces, sites, the gate, speed."""

from typing import Any

from bluesky_gpsts.benchmarks.table import Row, report

__all__ = ["FIRST", "run"]

FIRST = 6000
"""Seed of the images; nothing was trained or tuned on them."""

COUNT, QUICK = 40, 4
_GATE, _GATE_QUICK = 100, 15


def run(quick: bool = False, *, progress: bool = True) -> dict[str, Any]:
    """Read drawn images with the default model, the published networks and a simple filter.

    Parameters
    ----------
    quick : bool
        Four images per condition instead of forty.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "images", with ``notes``.
    """
    from tqdm import tqdm

    from bluesky_gpsts.benchmarks.images.blunt import blunt_rows
    from bluesky_gpsts.benchmarks.images.cases import condition_rows, direction_rows, gate_rows
    from bluesky_gpsts.benchmarks.images.classes import class_rows
    from bluesky_gpsts.benchmarks.images.peers import PaperNetworks
    from bluesky_gpsts.benchmarks.images.real import real_rows
    from bluesky_gpsts.benchmarks.images.sites import site_rows
    from bluesky_gpsts.benchmarks.images.timing import time_rows
    from bluesky_gpsts.benchmarks.maps import find_data
    from bluesky_gpsts.images.registry import load_surface

    model, paper = load_surface(), PaperNetworks()
    count = QUICK if quick else COUNT
    rows: list[Row] = []
    with tqdm(total=15, disable=not progress) as bar:
        bar.set_description("time")
        rows += time_rows(model, paper, 2 if quick else count, FIRST)
        bar.update()
        bar.set_description("atoms, defects, terraces")
        rows += condition_rows(model, paper, count, FIRST, bar.update)
        bar.set_description("direction of rows")
        rows += direction_rows(model, 2 * count, FIRST)
        bar.update()
        bar.set_description("quality gate")
        rows += gate_rows(model, _GATE_QUICK if quick else _GATE, FIRST)
        bar.update()
        bar.set_description("rows without dimers")
        rows += blunt_rows(model, count, FIRST)
        bar.update()
        bar.set_description("classes and clusters")
        rows += class_rows(model, 2 * count, FIRST)
        bar.update()
        bar.set_description("sites")
        rows += site_rows(model, count, FIRST)
        bar.update()
        bar.set_description("measured images")
        try:
            rows += real_rows(find_data() / "images")
            notes = []
        except FileNotFoundError as error:
            notes = [f"Measured images are left out: {error}"]
        bar.update()
    result = report("images", rows, seed=FIRST, packages=("numpy", "scipy", "torch"))
    return result | {"notes": notes}
