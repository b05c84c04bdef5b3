"""Classifiers of spectra: easy and hard data, new tips, unknown kinds, new classes, speed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bluesky_gpsts.benchmarks import classifier_paper
from bluesky_gpsts.benchmarks.classifier_cases import (
    FIRST,
    OWN,
    few_shot_rows,
    novelty_rows,
    shift_rows,
    split_rows,
)
from bluesky_gpsts.benchmarks.classifier_real import real_rows
from bluesky_gpsts.benchmarks.classifier_speed import map_rows, size_row, speed_rows
from bluesky_gpsts.benchmarks.maps import find_data
from bluesky_gpsts.benchmarks.table import Row, report
from bluesky_gpsts.spectra import Classifier, Session, paper_training
from bluesky_gpsts.spectra.default import DefaultClassifier
from bluesky_gpsts.spectra.linear import LinearClassifier
from bluesky_gpsts.spectra.paper_training import CHOSEN
from bluesky_gpsts.spectra.registry import load
from bluesky_gpsts.spectra.training import train_on

__all__ = ["run"]

SEEDS = 3
_DEFAULT, _LINEAR = "default (shipped)", "linear fallback (shipped)"
_PAPER = "paper's network, trained on the split"
_EPOCHS, _COPIES = (2, 6), (2, 24)
_PARTS = 7


def run(
    quick: bool = False,
    *,
    seeds: int | None = None,
    data: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure all.

    Parameters
    ----------
    quick : bool
        One seed, short trainings: under a minute, and worse than the full measurement where
        networks are trained on the spot.
    seeds : int, optional
        Data sets and splits; 3, or 1 if quick.
    data : Path, optional
        Folder of real spectra (.dat), with hBN; without it, nothing real is measured, and a
        note says so.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    dict
        Report of the benchmark "classifier", with ``notes``.

    Raises
    ------
    ValueError
        If `seeds` is below 1, or the folder holds no labelled spectra.
    RuntimeError
        If torch is missing.
    """
    from tqdm import tqdm

    seeds = (1 if quick else SEEDS) if seeds is None else seeds
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    shipped, linear = load("default"), load("linear")
    if not isinstance(shipped, DefaultClassifier) or not isinstance(linear, LinearClassifier):
        raise RuntimeError("the default classifier needs torch; install torch")
    rows: list[Row] = []
    notes: list[str] = []
    with tqdm(total=_PARTS, disable=not progress) as bar:

        def part(what: str, make: Callable[[], Sequence[Row]]) -> None:
            bar.set_description(what)
            rows.extend(make())
            bar.update()

        part("speed", lambda: _speed(shipped, 1 if quick else 5))
        trainers = {OWN: _trainer(quick)} | ({} if quick else {_PAPER: _train_paper})
        part("splits", lambda: split_rows(shipped, trainers, seeds, bar.set_postfix_str))
        part("shifts", lambda: shift_rows(shipped, _DEFAULT, seeds))
        part("unknown kinds", lambda: novelty_rows(shipped, _DEFAULT, seeds))
        part(
            "new classes", lambda: few_shot_rows(shipped, _DEFAULT, seeds, draws=1 if quick else 5)
        )
        part("linear", lambda: _fallback(linear, 1 if quick else seeds))
        part("paper's protocol", lambda: classifier_paper.rows(quick, seeds, progress))
    try:
        folder = find_data(data)
    except FileNotFoundError as error:
        if data is not None:
            raise
        notes.append(f"not run: real spectra, because {error}")
    else:
        rows.extend(real_rows(shipped, _DEFAULT, folder))
    packages = ("numpy", "scipy", "torch", "safetensors")
    return report("classifier", rows, seed=FIRST, packages=packages) | {"notes": notes}


def _speed(shipped: Classifier, repeats: int) -> list[Row]:
    rows = speed_rows(shipped, _DEFAULT, repeats)
    return [*rows, *map_rows(shipped, _DEFAULT, (repeats + 1) // 2), size_row(shipped, _DEFAULT)]


def _fallback(linear: LinearClassifier, seeds: int) -> list[Row]:
    """Rows of the fallback, which has no goals of its own."""
    rows = shift_rows(linear, _LINEAR, seeds, goals=False)
    rows += novelty_rows(linear, _LINEAR, seeds, goals=False)
    rows += few_shot_rows(linear, _LINEAR, seeds, goals=False, draws=1)
    return [*rows, size_row(linear, _LINEAR)]


def _trainer(quick: bool) -> Callable[[Sequence[Session], int], Classifier]:
    def train(kept: Sequence[Session], seed: int) -> Classifier:
        epochs, copies = (_EPOCHS[0], _COPIES[0]) if quick else (_EPOCHS[1], _COPIES[1])
        return train_on(kept, seed, epochs=epochs, copies=copies, progress=False)

    return train


def _train_paper(kept: Sequence[Session], seed: int) -> Classifier:
    return paper_training.train(kept, seed=seed, epochs=CHOSEN, progress=False).classifier
