"""Seconds per spectrum beside the published network, in one process, in turn."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.spectra import Classifier
from bluesky_gpsts.spectra.paper import PaperCNN, build_network
from bluesky_gpsts.spectra.simulate import simulate

__all__ = ["map_rows", "size_row", "speed_rows"]

Array = NDArray[np.float64]

SIDE = 128
_LARGE = 512
_BATCH_GOAL, _SINGLE_GOAL, _MAP_GOAL, _SIZE_GOAL = 10.0, 1.0, 5.0, 1.0


def speed_rows(classifier: Classifier, method: str, repeats: int) -> list[Row]:
    """CPU time per spectrum at batch 512 and 1, on one thread, from arrays to probabilities.

    Parameters
    ----------
    classifier : Classifier
        Ours.
    method : str
        Its name in the table.
    repeats : int
        Times each is measured at batch 512, ten times as often at batch 1; the smallest counts.

    Returns
    -------
    list of Row
    """
    import torch

    # Its weights do not change its speed.
    paper = PaperCNN(build_network(4), ("Au fcc", "Au hcp", "V_S", "WS2"))
    bias, didv = _spectra(_LARGE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for count, often, goal in ((_LARGE, repeats, _BATCH_GOAL), (1, 10 * repeats, _SINGLE_GOAL)):
            part = didv[:count]
            pair = (
                lambda p=part: classifier.classify(bias, p),
                lambda p=part: paper.classify(bias, p),
            )
            ours, theirs = _interleaved(pair, often)
            case = f"classify, batch {count}"
            for name, seconds in ((method, ours), ("paper's network", theirs)):
                each = 1e3 * seconds / count
                rows.append(Row(case, name, "CPU time per spectrum", each, "ms", often))
            ratio = theirs / ours
            rows.append(Row(case, method, "times faster than the paper's", ratio, "", often, goal))
        return rows
    finally:
        torch.set_num_threads(threads)


def map_rows(classifier: Classifier, method: str, repeats: int) -> list[Row]:
    """Seconds for a whole map on two threads: by the clock, and of the processor."""
    import torch

    bias, didv = _spectra(_LARGE)
    cube = np.tile(didv, (SIDE * SIDE // _LARGE, 1))
    classifier.classify(bias, didv)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    wall, used = [], []
    try:
        for _ in range(repeats):
            begin, used_before = time.perf_counter(), time.process_time()
            classifier.classify(bias, cube)
            wall.append(time.perf_counter() - begin)
            used.append(time.process_time() - used_before)
    finally:
        torch.set_num_threads(threads)
    case = f"classify a map, {SIDE} x {SIDE} spectra of {bias.size} points, two threads"
    return [
        Row(case, method, "wall time, best", min(wall), "s", repeats, _MAP_GOAL, at_most=True),
        Row(case, method, "CPU time, best", min(used), "s", repeats),
    ]


def size_row(classifier: Classifier, method: str) -> Row:
    """Size of the weights."""
    arrays, _ = classifier.to_arrays()
    size = sum(array.nbytes for array in arrays.values()) / 1e6
    return Row("weights", method, "size", size, "MB", 1, _SIZE_GOAL, at_most=True)


def _spectra(count: int) -> tuple[Array, Array]:
    (session,) = simulate(0, {"V_S": count}, sessions=1)
    return session.bias, session.didv


def _interleaved(pair: tuple[Callable[[], object], ...], repeats: int) -> list[float]:
    """Smallest CPU time (s) of each, measured in turn."""
    best = [np.inf] * len(pair)
    for call in pair:
        call()
    for _ in range(repeats):
        for index, call in enumerate(pair):
            begin = time.process_time()
            call()
            best[index] = min(best[index], time.process_time() - begin)
    return best
