"""Simulated cases for classifiers: splits, shifts, unknown kinds, new classes.

Sessions come from seeds from FIRST on, which no training uses.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from bluesky_gpsts.benchmarks.classifier_pca import fit_plain
from bluesky_gpsts.benchmarks.classifier_scores import Judged, area, judge
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.spectra import Classifier, Session
from bluesky_gpsts.spectra.kinds import CLASSES, UNKNOWN
from bluesky_gpsts.spectra.paper import inputs
from bluesky_gpsts.spectra.simulate import simulate
from bluesky_gpsts.spectra.splits import random_split, session_split

__all__ = [
    "DIFFICULTY",
    "FIRST",
    "OWN",
    "SHIPPED",
    "Shipped",
    "few_shot_rows",
    "shift_rows",
    "split_rows",
]
__all__ += ["novelty_rows"]

DIFFICULTY = 1.5
FIRST = 3000

_HELD, _RANDOM = 0.4, 0.2
_SHIFTS: dict[str, dict[str, Any]] = {
    "new tips": {},
    "noise x3": {"noise": 3.0},
    "bias +40 mV": {"bias_shift": 0.04},
    "512 points": {"points": 512},
    "tip changes x5": {"tip_changes": 5.0},
}
_HELD_GOAL, _ECE_GOAL, _SHIFT_GOAL, _AUROC_GOAL = 0.90, 0.05, 0.88, 0.97
_RECALL_GOAL, _LOSS_GOAL = 0.95, 0.01
_EXAMPLES = 5

Trainer = Callable[[Sequence[Session], int], Classifier]


class Shipped(Classifier, Protocol):
    """A classifier that learns a class from examples."""

    def with_class(self, name: str, bias: Any, didv: Any) -> "Shipped":
        """Classifier that knows one class more."""
        ...


def plain(kept: Sequence[Session], held: Sequence[Session], components: int = 30) -> Judged:
    """Principal components and logistic regression, as fitted to `kept` and judged by `held`."""
    names = np.unique(np.concatenate([s.labels for s in kept]))
    truth = np.searchsorted(names, np.concatenate([s.labels for s in kept]))
    x = np.concatenate([inputs(s.bias, s.didv) for s in kept]).astype(float)
    tested = np.concatenate([inputs(s.bias, s.didv) for s in held]).astype(float)
    found = fit_plain(x, truth, components).probabilities(tested)
    labels = np.concatenate([s.labels for s in held])
    return Judged(labels, tuple(str(name) for name in names), found, np.zeros(len(labels)))


def split_rows(
    shipped: Classifier, trainers: dict[str, Trainer], seeds: int, progress: Callable[[str], None]
) -> list[Row]:
    """Hard data, split at random and by session.

    Parameters
    ----------
    shipped : Classifier
        Trained on simulated sessions of other seeds; judged on the same test spectra.
    trainers : dict of str to Trainer
        What trains on the training side of each split.
    seeds : int
        Data sets and splits.
    progress : callable
        Called with what comes next.

    Returns
    -------
    list of Row
    """
    found: dict[tuple[str, str], list[Judged]] = {}
    for seed in range(seeds):
        sessions = simulate(FIRST + seed, difficulty=DIFFICULTY, sessions=5)
        splits = {
            "random split": random_split(sessions, _RANDOM, seed),
            "sessions held out": session_split(sessions, _HELD, seed),
        }
        for name, (kept, held) in splits.items():
            progress(f"split {seed}, {name}")
            found.setdefault((name, _PLAIN), []).append(plain(kept, held))
            for method, trainer in trainers.items():
                found.setdefault((name, method), []).append(judge(trainer(kept, seed), held))
            found.setdefault((name, SHIPPED), []).append(judge(shipped, held))
    rows = []
    for (name, method), results in found.items():
        with_goal = name == "sessions held out" and method in (SHIPPED, OWN)
        case = f"hard data, {name}"
        count = sum(len(result.labels) for result in results)
        for metric, values, goal, at_most in (
            ("balanced accuracy", [r.balanced_accuracy for r in results], _HELD_GOAL, False),
            ("calibration error", [r.calibration_error for r in results], _ECE_GOAL, True),
        ):
            wanted = goal if with_goal else None
            mean = float(np.mean(values))
            rows.append(Row(case, method, metric, mean, "", count, wanted, at_most))
        for label in CLASSES:
            value = float(np.mean([result.recall(label) for result in results]))
            rows.append(Row(case, method, f"recall of {label}", value, "", count))
    return rows


_PLAIN = "30 components, logistic regression, trained on the split"
SHIPPED = "shipped, trained on simulated sessions of other seeds"
OWN = "default network, trained on the split"


def shift_rows(shipped: Classifier, method: str, seeds: int, goals: bool = True) -> list[Row]:
    """Shifts of what the spectra were measured with, on tips of their own."""
    rows = []
    for name in _SHIFTS:
        results = [judge(shipped, _shifted(s, name)) for s in range(seeds)]
        count = sum(len(result.labels) for result in results)
        goal = _SHIFT_GOAL if goals and name != "tip changes x5" else None
        case = f"hard data, {name}"
        mean = float(np.mean([result.balanced_accuracy for result in results]))
        rows.append(Row(case, method, "balanced accuracy", mean, "", count, goal))
        mean = float(np.mean([result.calibration_error for result in results]))
        rows.append(Row(case, method, "calibration error", mean, "", count))
        mean = float(np.mean([result.accepted for result in results]))
        rows.append(Row(case, method, "share accepted as known", mean, "", count))
    return rows


@lru_cache(maxsize=32)
def _shifted(seed: int, name: str) -> tuple[Session, ...]:
    changes = _SHIFTS[name]
    return simulate(FIRST + 100 + seed, difficulty=DIFFICULTY, sessions=6, **changes)


def novelty_rows(shipped: Classifier, method: str, seeds: int, goals: bool = True) -> list[Row]:
    """Kinds that the classifier has never seen, against the classes under the same conditions."""
    areas: dict[str, list[float]] = {}
    wrong: list[float] = []
    rejected: list[float] = []
    for seed in range(seeds):
        known, strange = _known_and_strange(seed)
        ordinary, found = judge(shipped, known), judge(shipped, strange)
        for kind in UNKNOWN:
            novelty = found.novelty[found.labels == kind]
            areas.setdefault(kind, []).append(area(ordinary.novelty, novelty))
        areas.setdefault("all kinds", []).append(area(ordinary.novelty, found.novelty))
        rejected.append(1.0 - found.accepted)
        sure = (1.0 - found.novelty) * found.probabilities.max(axis=1)
        wrong.append(float((sure > 0.9).mean()))
    rows = []
    for kind, values in areas.items():
        goal = _AUROC_GOAL if goals else None
        case, mean = f"unknown kind, {kind}", float(np.mean(values))
        rows.append(Row(case, method, "AUROC of novelty", mean, "", seeds, goal))
    case = "unknown kinds"
    share = float(np.mean(rejected))
    rows.append(Row(case, method, "share said to be none of the classes", share, "", seeds))
    share = float(np.mean(wrong))
    rows.append(Row(case, method, "named a class with confidence > 0.9", share, "", seeds))
    return rows


def few_shot_rows(
    shipped: Shipped, method: str, seeds: int, goals: bool = True, draws: int = 5
) -> list[Row]:
    """One unknown kind at a time as a new class, from five examples drawn `draws` times."""
    recalls: dict[str, list[float]] = {}
    losses: list[float] = []
    for seed in range(seeds):
        known, strange = _known_and_strange(seed)
        before = judge(shipped, known).balanced_accuracy
        rng = np.random.default_rng(seed)
        for kind in UNKNOWN:
            having = [s for s in strange if (s.labels == kind).any()]
            bias = having[0].bias
            didv = np.concatenate([s.didv[s.labels == kind] for s in having])
            for _ in range(draws):
                order = rng.permutation(len(didv))
                try:
                    more = shipped.with_class(kind, bias, didv[order[:_EXAMPLES]])
                except ValueError:  # the examples look like an old class: nothing is recalled
                    recalls.setdefault(kind, []).append(0.0)
                    continue
                tested = more.classify(bias, didv[order[_EXAMPLES:]])
                recalls.setdefault(kind, []).append(float((tested.best == kind).mean()))
                losses.append(before - judge(more, known).balanced_accuracy)
    rows = []
    for kind, values in recalls.items():
        case = f"new class from {_EXAMPLES} examples, {kind}"
        goal = _RECALL_GOAL if goals else None
        rows.append(Row(case, method, "recall", float(np.mean(values)), "", len(values), goal))
    mean = float(np.mean([value for values in recalls.values() for value in values]))
    case = f"new class from {_EXAMPLES} examples"
    count = len(losses)
    goal, loss = (_RECALL_GOAL, _LOSS_GOAL) if goals else (None, None)
    rows.append(Row(case, method, "recall, mean of the kinds", mean, "", count, goal))
    worst = float(np.max(losses))
    metric = "loss of balanced accuracy of the old classes"
    rows.append(Row(case, method, f"{metric}, mean", float(np.mean(losses)), "", count, loss, True))
    rows.append(Row(case, method, f"{metric}, worst", worst, "", count))
    return rows


@lru_cache(maxsize=16)
def _known_and_strange(seed: int) -> tuple[tuple[Session, ...], tuple[Session, ...]]:
    known = simulate(FIRST + 200 + seed, difficulty=DIFFICULTY, sessions=6)
    counts = dict.fromkeys(UNKNOWN, 40)
    return known, simulate(FIRST + 300 + seed, counts, difficulty=DIFFICULTY, sessions=5)
