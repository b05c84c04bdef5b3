"""Images of a tip that shows the rows and not the dimers in them: what is read of these."""

import numpy as np

from bluesky_gpsts.benchmarks.images.cases import OURS
from bluesky_gpsts.benchmarks.images.scores import (
    Counts,
    direction_error,
    score_defects,
    score_terraces,
)
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.features import measure_defects
from bluesky_gpsts.images.patchtraining import kinds_of
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.registry import load_classes
from bluesky_gpsts.images.simulate import draw_blunt
from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["blunt_rows"]

_BOND = "dangling_bond"


def blunt_rows(model: SurfaceModel, count: int, seed: int) -> list[Row]:
    """Rows, terraces, defects and dangling bonds of images without dimers.

    Parameters
    ----------
    model : SurfaceModel
        What reads the images.
    count : int
        Images.
    seed : int
        Seed of the images.
    """
    net = load_classes()
    rng = np.random.default_rng([seed, 13])
    read, told, turned, right = [], [], [], []
    counts: list[Counts] = []
    bonds, named, wrongly = 0, 0, 0
    for _ in range(count):
        drawn = draw_blunt(rng)
        reading = read_surface(drawn.image, drawn.pixel, model=model)
        read.append(reading.verdict.readable)
        counts.append(score_defects(reading.defect_labels, drawn.defect_map > 0)[0])
        bonds += sum(defect.kind == _BOND for defect in drawn.defects)
        if not reading.verdict.readable:
            right.append(0.0)
            continue
        told.append(not reading.resolved)
        right.append(score_terraces(reading.terraces, drawn.terrace, 1)[0])
        for terrace in reading.terrace_list:
            true = np.bincount(drawn.terrace[reading.terraces == terrace.number]).argmax()
            if terrace.vectors is not None:
                turned.append(direction_error(terrace.direction, float(drawn.rows[true - 1])))
        table = measure_defects(drawn.image, reading)
        kinds = np.array(kinds_of(drawn, reading.defect_labels, table.numbers))
        given = net.name_defects(table)[0]
        named += int(np.sum((given == _BOND) & (kinds == _BOND)))
        wrongly += int(np.sum((given == _BOND) & (kinds != _BOND)))
    case = "rows without dimers"

    def row(metric: str, value: float, unit: str, lower: bool = False) -> Row:
        return Row(case, OURS, metric, value, unit, count, None, lower)

    angle = float(np.degrees(np.median(turned))) if turned else 45.0
    return [
        row("read", 100.0 * float(np.mean(read)), "%"),
        row(
            "said to be without dimers, of those read", 100.0 * float(np.mean(told or [False])), "%"
        ),
        row("direction of rows, median error", angle, "degrees", True),
        row("terraces, pixels right", 100.0 * float(np.mean(right)), "%"),
        row("defects, F1", Counts.pooled(counts).f1, ""),
        row("dangling bonds found and named", 100.0 * named / max(bonds, 1), "%"),
        row("named so and something else", 100.0 * wrongly / max(named + wrongly, 1), "%", True),
    ]
