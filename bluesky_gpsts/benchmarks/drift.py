"""Drift registration: accuracy, confidence and time beside what others do, and real scans."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.benchmarks.drift_images import SIDE, SURFACES, Pair, draw_pair, draw_surface
from bluesky_gpsts.benchmarks.drift_methods import LEAN, METHODS, OURS, PLAIN, Found, available
from bluesky_gpsts.benchmarks.drift_real import real_rows
from bluesky_gpsts.benchmarks.table import Row, report
from bluesky_gpsts.images.registration import register

__all__ = ["Condition", "auroc", "bound", "run"]

FloatArray = npt.NDArray[np.float64]

CLEAN_GOAL, NOISY_GOAL, CHANGE_GOAL = 0.02, 0.05, 0.25
CONFIDENCE_GOAL, SPEED_GOAL, LATTICE_GOAL = 0.98, 20.0, 1.0

# The loops take half a second a pair; they are run on the first pairs only.
_SLOW = {PLAIN: 12, LEAN: 12}


@dataclass(frozen=True)
class Condition:
    """A kind of image pair.

    Parameters
    ----------
    surface : str
        What is imaged; see `bluesky_gpsts.benchmarks.drift_images.draw_surface`.
    snr : float
        Signal to noise.
    tilt, tip_change, unrelated : bool
        See `bluesky_gpsts.benchmarks.drift_images.draw_pair`.
    """

    surface: str
    snr: float
    tilt: bool = True
    tip_change: bool = False
    unrelated: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        extra = ", tip changes" if self.tip_change else ", another place" if self.unrelated else ""
        return f"{self.surface}, SNR {self.snr:g}{'' if self.tilt else ', level'}{extra}"

    def draw(self, seed: int, side: int) -> Pair:
        """Draw a pair of images."""
        return draw_pair(
            self.surface,
            seed,
            self.snr,
            tilt=self.tilt,
            tip_change=self.tip_change,
            unrelated=self.unrelated,
            side=side,
        )


MEASURED = (
    Condition("adsorbates", 8.0, tilt=False),
    *(Condition(name, snr) for name in ("adsorbates", "terraces") for snr in (8.0, 2.0, 0.7)),
    Condition("adsorbates", 4.0, tip_change=True),
    Condition("terraces", 4.0, tip_change=True),
    Condition("herringbone", 4.0),
    Condition("lattice with defects", 4.0),
)
UNRELATED = (
    *(Condition(name, 2.0, unrelated=True) for name in SURFACES if name != "bare lattice"),
    Condition("featureless", 1.0),
)
LATTICE = Condition("bare lattice", 4.0)


def run(
    quick: bool = False,
    *,
    pairs: int | None = None,
    side: int = SIDE,
    data: Path | None = None,
    methods: Sequence[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Register simulated and real images with all methods that are installed.

    Parameters
    ----------
    quick : bool
        Six pairs of each kind instead of fifty.
    pairs : int, optional
        Pairs of each kind.
    side : int
        Pixels along a side; the goals are for 256.
    data : Path, optional
        Folder with the real scans, beside the project unless given.
    methods : sequence of str, optional
        Keys of `bluesky_gpsts.benchmarks.drift_methods.METHODS`; all that are installed unless
        given.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "drift", with ``notes`` on what was not run.

    Raises
    ------
    ValueError
        If a method is unknown or not installed, or pairs is below 2.
    """
    from tqdm import tqdm

    pairs = pairs or (6 if quick else 50)
    if pairs < 2:
        raise ValueError(f"pairs is {pairs}; give 2 or more")
    names, notes = available()
    if methods is not None:
        for name in methods:
            if name not in names:
                raise ValueError(f"method {name!r} is not here; choose from {', '.join(names)}")
        names, notes = list(methods), []
    answers: dict[tuple[str, Condition], list[Found]] = {}
    errors: dict[tuple[str, Condition], list[float]] = {}
    with tqdm(total=(len(MEASURED) + len(UNRELATED)) * pairs, disable=not progress) as bar:
        for condition in (*MEASURED, *UNRELATED):
            bar.set_description(condition.name)
            for seed in range(pairs):
                pair = condition.draw(seed, side)
                for name in names:
                    if seed >= _SLOW.get(name, pairs):
                        continue
                    found = METHODS[name][0](pair.reference, pair.image)
                    key = name, condition
                    answers.setdefault(key, []).append(found)
                    error = float(np.hypot(found.dx - pair.dx, found.dy - pair.dy))
                    errors.setdefault(key, []).append(error)
                bar.update()
    rows = _accuracy_rows(names, errors, pairs, side)
    rows += _confidence_rows(names, answers, errors, side)
    rows += _lattice_rows(pairs, side)
    rows += _time_rows(names, 3 if quick else 10, side)
    real, note = real_rows(names, data)
    rows += real
    notes += note
    packages = ("numpy", "scipy", "scikit-image", "opencv-python-headless")
    result = report("drift", rows, seed=0, packages=packages)
    result["notes"] = notes
    return result


def bound(condition: Condition, seed: int, side: int) -> float:
    """Least root-mean-square error (pixels) that an unbiased method can have: Cramer and Rao's.

    For two images of a known relief with white noise, an unknown offset of each line, and the part
    of the frame that both show.
    """
    relief = draw_surface(condition.surface, seed, side).heights()
    up, across = np.gradient(relief)
    planes = [plane - plane.mean(axis=1, keepdims=True) for plane in (across, up)]
    known = np.array([[np.sum(p * q) for q in planes] for p in planes])
    # Each image has noise of its own, so that the difference has twice its variance.
    return float(np.sqrt(np.trace(np.linalg.inv(0.5 * known * condition.snr**2))))


def auroc(good: npt.ArrayLike, bad: npt.ArrayLike) -> float:
    """Probability that a good answer has a higher confidence than a bad one; ties count half."""
    first, second = np.asarray(good, float)[:, None], np.asarray(bad, float)[None, :]
    return float(np.mean((first > second) + 0.5 * (first == second)))


def _goals(condition: Condition, side: int) -> tuple[float | None, float | None]:
    """Goal of the median and of the ninetieth percentile."""
    if side != SIDE:
        return None, None
    if condition.tip_change:
        return None, CHANGE_GOAL
    if condition.surface != "adsorbates":
        return None, None
    return (CLEAN_GOAL if condition.snr >= 2.0 else NOISY_GOAL), None


def _accuracy_rows(
    names: Sequence[str],
    errors: dict[tuple[str, Condition], list[float]],
    pairs: int,
    side: int,
) -> list[Row]:
    rows = []
    for condition in MEASURED:
        goals = _goals(condition, side)
        for name in names:
            values = np.array(errors[name, condition])
            goal = goals if name == OURS else (None, None)
            for metric, value, wanted in (
                ("median error", float(np.median(values)), goal[0]),
                ("90th percentile of the error", float(np.quantile(values, 0.9)), goal[1]),
            ):
                rows.append(
                    Row(condition.name, name, metric, value, "px", len(values), wanted, True)
                )
        if OURS in names and not condition.tip_change:
            limits = np.array([bound(condition, seed, side) for seed in range(pairs)])
            values = np.array(errors[OURS, condition])
            ratio = float(np.sqrt(np.median((values / limits) ** 2)))
            rows += [
                Row(
                    condition.name,
                    "Cramer-Rao bound",
                    "rms error, median over pairs",
                    float(np.median(limits)),
                    "px",
                    pairs,
                ),
                Row(condition.name, OURS, "median error over the bound", ratio, "", pairs),
            ]
    return rows


def _confidence_rows(
    names: Sequence[str],
    answers: dict[tuple[str, Condition], list[Found]],
    errors: dict[tuple[str, Condition], list[float]],
    side: int,
) -> list[Row]:
    rows = []
    for name in names:
        said: tuple[list[float], list[float]] = [], []
        for condition in (*MEASURED, *UNRELATED):
            pairs = zip(answers[name, condition], errors[name, condition], strict=True)
            for found, error in pairs:
                # Unrelated images have no true shift, so that any answer is wrong.
                said[0 if error <= 1.0 else 1].append(found.confidence)
        if said[0] and said[1]:
            goal = CONFIDENCE_GOAL if name == OURS and side == SIDE else None
            count = len(said[0]) + len(said[1])
            rows.append(Row("all", name, "AUROC of the confidence", auroc(*said), "", count, goal))
        if name == OURS and said[0]:
            kept = float(np.mean(np.array(said[0]) >= 0.5))
            rows.append(Row("all", name, "right and accepted", 100.0 * kept, "%", len(said[0])))
        if name == OURS and said[1]:
            kept = float(np.mean(np.array(said[1]) >= 0.5))
            rows.append(Row("all", name, "wrong but accepted", 100.0 * kept, "%", len(said[1])))
    return rows


def _lattice_rows(pairs: int, side: int) -> list[Row]:
    reported, listed = 0, 0
    for seed in range(pairs):
        pair = LATTICE.draw(seed, side)
        shift = register(pair.reference, pair.image)
        reported += not shift.ok and bool(shift.alternatives)
        places = ((shift.dx, shift.dy), *shift.alternatives)
        listed += min(np.hypot(x - pair.dx, y - pair.dy) for x, y in places) < 0.5
    goal = LATTICE_GOAL if side == SIDE else None
    name = LATTICE.name
    return [
        Row(name, OURS, "share reported as ambiguous", reported / pairs, "", pairs, goal),
        Row(name, OURS, "share with the true shift among those named", listed / pairs, "", pairs),
    ]


def _time_rows(names: Sequence[str], repeats: int, side: int) -> list[Row]:
    """CPU time of each method, call after call on pairs of one kind, the first call left out."""
    condition = Condition("adsorbates", 2.0)
    pairs = [condition.draw(seed, side) for seed in range(repeats)]
    case = f"{side} x {side}, {condition.name}"
    rows = []
    middle = {}
    for name in names:
        method = METHODS[name][0]
        # What is imported or prepared at the first call is no part of the time.
        method(pairs[0].reference, pairs[0].image)
        seconds = []
        for pair in pairs:
            begin = time.thread_time()
            method(pair.reference, pair.image)
            seconds.append(time.thread_time() - begin)
        middle[name] = float(np.median(seconds))
        rows.append(Row(case, name, "CPU time per pair", middle[name], "s", repeats))
    for name in names:
        if name != OURS and OURS in middle:
            goal = SPEED_GOAL if name == PLAIN and side == SIDE else None
            ratio = middle[name] / middle[OURS]
            rows.append(Row(case, OURS, f"times faster than {name}", ratio, "", repeats, goal))
    return rows
