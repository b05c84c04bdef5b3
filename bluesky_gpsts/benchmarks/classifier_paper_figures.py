"""Table 1, figure 2b and figures S8 to S10 of Thomas et al. (2022), from a training of our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.analysis.class_figures import class_colours
from bluesky_gpsts.analysis.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILION,
    new_figure,
    png,
    styled,
    tidy,
)
from bluesky_gpsts.spectra.paper_training import Judged, PaperTraining

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curves", "curves", "summary", "table_1", "write_figures"]

FloatArray = NDArray[np.float64]

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Curves:
    """Precision-recall and ROC curve of one class against all others.

    Attributes
    ----------
    recall, precision : ndarray
        Over falling thresholds.
    false_positive, true_positive : ndarray
        Rates over falling thresholds, from (0, 0) to (1, 1).
    average_precision : float
        Sum of precision times the step in recall.
    area : float
        Area under the ROC curve.
    """

    recall: FloatArray
    precision: FloatArray
    false_positive: FloatArray
    true_positive: FloatArray
    average_precision: float
    area: float


def curves(scores: FloatArray, positive: NDArray[np.bool_]) -> Curves:
    """Precision-recall and ROC curves of a score.

    Parameters
    ----------
    scores : (N,) array
        The higher, the more likely positive; equal scores count as one threshold.
    positive : (N,) array of bool
        The truth, with both values.

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        If all are positive, or none.
    """
    if positive.all() or not positive.any():
        raise ValueError(
            f"{int(positive.sum())} of {len(positive)} are positive; curves need both kinds"
        )
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, taken = np.cumsum(hits)[last], last + 1.0
    recall, precision = true / hits.sum(), true / taken
    false_rate = np.append(0.0, (taken - true) / (~hits).sum())
    true_rate = np.append(0.0, recall)
    return Curves(
        recall,
        precision,
        false_rate,
        true_rate,
        float(np.sum(np.diff(np.append(0.0, recall)) * precision)),
        float(np.trapezoid(true_rate, false_rate)),
    )


def table_1(training: PaperTraining, epochs: int = 6) -> str:
    """Accuracy (%) of each class after each of the first epochs, as in table 1 of the article.

    Parameters
    ----------
    training : PaperTraining
        The training.
    epochs : int
        How many epochs.

    Returns
    -------
    str
        CSV text: part, epoch, and a column for each class.
    """
    lines = [",".join(("part", "epoch", *training.classifier.classes))]
    for part in ("train", "validation"):
        for epoch in training.epochs[:epochs]:
            values = (f"{100 * value:.1f}" for value in getattr(epoch, f"{part}_recall"))
            lines.append(",".join((part, str(epoch.number), *values)))
    return "\n".join(lines) + "\n"


def summary(training: PaperTraining) -> dict[str, Any]:
    """Everything that the figures show, as plain numbers for JSON.

    Returns
    -------
    dict
        ``seed``, ``chosen``, ``classes``, sizes of the ``parts``, ``epochs`` (a list), ``test``
        (per epoch up to the chosen one its accuracy), ``average_precision`` and ``roc_area`` of
        each class on the test part of the chosen epoch.
    """
    classes, parts = training.classifier.classes, training.parts
    judged = {name: _class_curves(training.tests[-1], k) for k, name in enumerate(classes)}
    known = {name: curve for name, curve in judged.items() if curve is not None}
    return {
        "seed": training.seed,
        "chosen": training.chosen,
        "classes": list(classes),
        "parts": {name: len(getattr(parts, name)) for name in ("train", "validation", "test")},
        "epochs": [_plain(vars(epoch)) for epoch in training.epochs],
        "test": [{"epoch": t.epoch, "accuracy": t.accuracy} for t in training.tests],
        "average_precision": {name: c.average_precision for name, c in known.items()},
        "roc_area": {name: c.area for name, c in known.items()},
    }


def write_figures(training: PaperTraining, folder: Path) -> list[Path]:
    """Write the figures and the table.

    Parameters
    ----------
    training : PaperTraining
        What to show.
    folder : Path
        Made if missing; files of these names are replaced.

    Returns
    -------
    list of Path
        ``table-1.csv``, ``accuracy-loss.png``, ``confusion.png``, ``precision-recall-roc.png``.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "table-1.csv": table_1(training).encode(),
        "accuracy-loss.png": png(accuracy_loss(training)),
        "confusion.png": png(confusion(training)),
        "precision-recall-roc.png": png(precision_recall_roc(training)),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


@styled
def accuracy_loss(training: PaperTraining) -> "Figure":
    """Accuracy and loss of training and validation part over the epochs: figure 2b."""
    figure = new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in training.epochs]
    for axes, what, title in (
        (left, "accuracy", "Accuracy (%)"),
        (right, "loss", "Cross entropy (nats)"),
    ):
        factor = 100.0 if what == "accuracy" else 1.0
        for part, colour in (("train", BLUE), ("validation", VERMILION)):
            values = [factor * getattr(epoch, f"{part}_{what}") for epoch in training.epochs]
            label = "training" if part == "train" else part
            axes.plot(numbers, values, "o-", ms=3.5, color=colour, label=label)
        axes.axvline(training.chosen, color=MUTED, lw=0.9, ls="--", label="chosen")
        axes.set_title(title)
        axes.set_xlabel("Epoch")
        axes.locator_params(axis="x", integer=True)
        tidy(axes)
    right.set_yscale("log")
    right.legend(loc="upper right")
    return figure


@styled
def confusion(training: PaperTraining) -> "Figure":
    """Confusion matrices of the test part at a threshold of 0.5, first and chosen epoch: S8."""
    classes = training.classifier.classes
    figure = new_figure(9.4, 3.9)
    shown = (training.tests[0], training.tests[-1])
    for axes, judged in zip(figure.subplots(1, 2), shown, strict=True):
        matrix = _confusion(judged, len(classes))
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        for row, column in np.ndindex(matrix.shape):
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                color="white" if share[row, column] > 0.6 else INK,
            )
        axes.set_xticks(range(len(classes) + 1), (*classes, "below 0.5"))
        axes.set_yticks(range(len(classes)), classes)
        axes.set(xlabel="Named", ylabel="True class")
        axes.set_title(f"Test spectra after epoch {judged.epoch}")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


@styled
def precision_recall_roc(training: PaperTraining) -> "Figure":
    """Precision-recall and ROC curves of the test part, first and chosen epoch: S9 and S10."""
    classes, colours = training.classifier.classes, class_colours(training.classifier.classes)
    figure = new_figure(9.0, 6.6)
    panels: Any = figure.subplots(2, 2, sharex="row", sharey="row")
    for column, judged in enumerate((training.tests[0], training.tests[-1])):
        precisions = []
        for k, name in enumerate(classes):
            found = _class_curves(judged, k)
            if found is None:
                continue
            precisions.append(found.average_precision)
            width = 1.4 + 0.9 * (len(classes) - k)
            panels[0, column].plot(
                np.append(0.0, found.recall),
                np.append(found.precision[0], found.precision),
                color=colours[name],
                lw=width,
                label=f"{name}: {found.average_precision:.3f}",
            )
            panels[1, column].plot(
                found.false_positive,
                found.true_positive,
                color=colours[name],
                lw=width,
                label=f"{name}: {found.area:.3f}",
            )
        mean = f", mean {np.mean(precisions):.3f}" if precisions else ""
        panels[0, column].set_title(f"Epoch {judged.epoch}: average precision{mean}")
        panels[1, column].set_title(f"Epoch {judged.epoch}: area under the ROC curve")
        panels[1, column].plot([0, 1], [0, 1], color=FAINT, lw=1.0, zorder=0)
        panels[0, column].set(xlabel="Recall", ylabel="Precision", ylim=(-0.03, 1.05))
        panels[1, column].set(xlabel="False positive rate", ylabel="True positive rate")
        for axes in panels[:, column]:
            _finish(axes)
    return figure


def _finish(axes: "Axes") -> None:
    tidy(axes)
    axes.legend(loc="lower right" if "False" in axes.get_xlabel() else "lower left")


def _confusion(judged: Judged, classes: int) -> NDArray[np.int64]:
    """Counts (K, K + 1); the last column is for spectra without a class above the threshold."""
    best = judged.probabilities.argmax(axis=1)
    named = np.where(judged.probabilities.max(axis=1) >= THRESHOLD, best, classes)
    matrix = np.zeros((classes, classes + 1), np.int64)
    np.add.at(matrix, (judged.truth, named), 1)
    return matrix


def _class_curves(judged: Judged, k: int) -> Curves | None:
    """Curves of a class; None where the test part has none of it, or nothing else."""
    positive = judged.truth == k
    if positive.all() or not positive.any():
        return None
    return curves(judged.probabilities[:, k], positive)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers for JSON, which has no NaN."""
    return {
        key: [None if np.isnan(v) else v for v in value] if isinstance(value, tuple) else value
        for key, value in values.items()
    }
