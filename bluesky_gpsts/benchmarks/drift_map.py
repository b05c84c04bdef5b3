"""Maps of a sample that drifts ten times as fast as reported: without and with drift checks."""

from typing import Any

import numpy as np

from bluesky_gpsts.benchmarks.map import SPECTRA, experiment
from bluesky_gpsts.benchmarks.table import Row, report

__all__ = ["run"]

FASTER = 10.0
SAMPLE = "ws2"
LOSS_GOAL = 0.02
SEEDS = 10

WITHOUT = "no drift"
METHODS: dict[str, tuple[float, dict[str, Any] | None]] = {
    WITHOUT: (0.0, None),
    "no checks": (FASTER, None),
    "checks": (FASTER, {}),
    "checks, controller follows": (FASTER, {"compensate": True}),
}
"""Times the reported drift, and the checks, of each row."""


def run(quick: bool = False) -> dict[str, Any]:
    """Run `gp_sts` over TCP on fresh simulators, one per seed and row.

    Parameters
    ----------
    quick : bool
        One seed instead of ten.

    Returns
    -------
    dict
        Report of the benchmark "drift-map": median and 10th percentile of Pearson's r with the
        truth, how much of the median is lost to drift, and checks per run (median).
    """
    from tqdm import tqdm

    seeds = range(1 if quick else SEEDS)
    case, n = f"{SAMPLE}, {SPECTRA} spectra, {FASTER:g} times the drift", len(seeds)
    rows = []
    best = np.nan
    with tqdm(total=len(METHODS) * len(seeds)) as bar:
        for method, (drift, checks) in METHODS.items():
            results = []
            for seed in seeds:
                results.append(experiment(SAMPLE, seed, surveyed=False, drift=drift, checks=checks))
                bar.update()
            found = np.array([result.correlation for result in results])
            median, low = float(np.median(found)), float(np.percentile(found, 10))
            rows.append(Row(case, method, "correlation, median", median, "", n))
            rows.append(Row(case, method, "correlation, p10", low, "", n))
            if method == WITHOUT:
                best = median
                continue
            goal = None if checks is None else LOSS_GOAL
            rows.append(Row(case, method, "lost to drift", best - median, "", n, goal, True))
            if checks is not None:
                number = float(np.median([result.checks - 1 for result in results]))
                rows.append(Row(case, method, "checks, median", number, "", n))
    return report("drift-map", rows, seed=0, packages=("numpy", "gpcam", "bluesky"))
