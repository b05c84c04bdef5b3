"""Drawn images read by the default model and its peers, and judged by the truth."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.images.peers import (
    PaperNetworks,
    find_by_difference,
    fourier_direction,
)
from bluesky_gpsts.benchmarks.images.scores import (
    Counts,
    calibration_error,
    direction_error,
    match,
    score_atoms,
    score_defects,
    score_terraces,
)
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.lessons import random_ruin
from bluesky_gpsts.images.reading import SurfaceReading, read_surface
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["DIFFERENCE", "OURS", "PAPER", "condition_rows", "direction_rows", "gate_rows"]

Array = NDArray[np.float64]

OURS = "bluesky-gpsts"
PAPER = "networks of Ziatdinov et al."
DIFFERENCE = "difference of Gaussians"

WINDOW = 8e-9
_MERGED = 2e-18
"""Area (m^2) of a terrace below which it cannot be merged."""

_ATOMS = {("single terrace", 4): 0.98, ("with steps", 4): 0.95, ("any", 2): 0.90}
_RMS = {("single terrace", 4): 10.0}
_DEFECTS = 0.92
_TERRACES, _APART = 97.0, 95.0
_DIRECTION = 0.3
_REFUSED, _LOST = 95.0, 3.0


@dataclass
class _Tally:
    """What one method reached on the images of a condition."""

    atoms: list[Counts] = field(default_factory=list)
    defects: list[Counts] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    merged: list[bool] = field(default_factory=list)
    sure: list[Array] = field(default_factory=list)
    taken: list[NDArray[np.bool_]] = field(default_factory=list)


def condition_rows(
    model: SurfaceModel,
    paper: PaperNetworks,
    count: int,
    seed: int,
    tick: Callable[[], Any],
) -> list[Row]:
    """Atoms, defects and terraces for every surface and noise.

    Parameters
    ----------
    model : SurfaceModel
        The default model.
    paper : PaperNetworks
        Its peers.
    count : int
        Images of each condition.
    seed : int
        Seed of the images.
    tick : callable
        Called after each condition.
    """
    rows: list[Row] = []
    for snr in (1, 2, 4, 8):
        together: dict[str, _Tally] = {}
        for surface in ("single terrace", "with steps"):
            tallies = {name: _Tally() for name in (OURS, PAPER, DIFFERENCE)}
            rng = np.random.default_rng([seed, snr, surface == "with steps"])
            for number in range(count):
                steps = 0 if surface == "single terrace" else 1 + number % 2
                drawn = draw_image(rng, snr=float(snr), steps=steps)
                _tally(tallies, drawn, read_surface(drawn.image, drawn.pixel, model=model), paper)
            rows += _rows(tallies, surface, snr, count)
            for name, tally in tallies.items():
                one = together.setdefault(name, _Tally())
                one.atoms += tally.atoms
                one.defects += tally.defects
                one.overlaps += tally.overlaps
                one.sure += tally.sure
                one.taken += tally.taken
            tick()
        rows += _rows(together, "any", snr, 2 * count)
    return rows


def _tally(
    tallies: dict[str, _Tally], drawn: DrawnImage, reading: SurfaceReading, paper: PaperNetworks
) -> None:
    """Add what each method says of an image."""
    atoms = np.asarray(drawn.sites[drawn.occupied], float)
    pairs, _ = match(reading.sites, atoms, 1.5e-10 / drawn.pixel)
    there = np.zeros(len(reading.sites), bool)
    there[pairs[:, 0]] = True
    tallies[OURS].sure.append(reading.confidence)
    tallies[OURS].taken.append(there)
    mask = drawn.defect_map > 0
    smallest = int(_MERGED / drawn.pixel**2)
    labels, _ = paper.defects.find(drawn.image)
    for name, found in (
        (OURS, reading.atoms),
        (PAPER, paper.atoms.find(drawn.image)),
        (DIFFERENCE, find_by_difference(drawn.image, drawn.pixel)),
    ):
        tallies[name].atoms.append(score_atoms(found, atoms, drawn.pixel))
    for name, defects in ((OURS, reading.defect_labels), (PAPER, labels)):
        counts, overlap = score_defects(defects, mask)
        tallies[name].defects.append(counts)
        tallies[name].overlaps.append(overlap)
    for name, terraces in (
        (OURS, reading.terraces),
        (PAPER, paper.terraces.label(drawn.image)),
    ):
        right, merged = score_terraces(terraces, drawn.terrace, smallest)
        tallies[name].right.append(right)
        tallies[name].merged.append(merged)


def _rows(tallies: dict[str, _Tally], surface: str, snr: int, count: int) -> list[Row]:
    rows = []
    both = surface == "any"
    for name, tally in tallies.items():
        ours = name == OURS
        case = f"{'all images' if both else surface}, SNR {snr}"
        atoms = Counts.pooled(tally.atoms)
        goal = _ATOMS.get((surface, snr)) if ours else None
        rows.append(Row(case, name, "atoms, F1", atoms.f1, "", count, goal))
        limit = _RMS.get((surface, snr)) if ours else None
        rows.append(Row(case, name, "atoms, rms error", 1e12 * atoms.rms, "pm", count, limit, True))
        if tally.defects:
            goal = _DEFECTS if ours and both and snr >= 2 else None
            f1 = Counts.pooled(tally.defects).f1
            rows.append(Row(case, name, "defects, F1", f1, "", count, goal))
            overlap = float(np.mean(tally.overlaps))
            rows.append(Row(case, name, "defects, intersection over union", overlap, "", count))
        if tally.sure and both:
            error = calibration_error(np.concatenate(tally.sure), np.concatenate(tally.taken))
            rows.append(Row(case, name, "confidence, calibration error", error, "", count))
        if tally.right and surface == "with steps":
            goal = _TERRACES if ours and snr >= 2 else None
            right = 100.0 * float(np.mean(tally.right))
            rows.append(Row(case, name, "terraces, pixels right", right, "%", count, goal))
            goal = _APART if ours and snr >= 2 else None
            apart = 100.0 * (1.0 - float(np.mean(tally.merged)))
            rows.append(Row(case, name, "images without merged terraces", apart, "%", count, goal))
    return rows


def direction_rows(model: SurfaceModel, count: int, seed: int) -> list[Row]:
    """Direction of the rows from windows of 8 x 8 nm, beside the Fourier transform's.

    Parameters
    ----------
    model : SurfaceModel
        The default model.
    count : int
        Windows at each noise.
    seed : int
        Seed of the images.
    """
    rows = []
    for snr in (2, 4):
        rng = np.random.default_rng([seed, 11, snr])
        errors: dict[str, list[float]] = {OURS: [], "Fourier transform": []}
        for _ in range(count):
            pixel = float(rng.uniform(0.07e-9, 0.115e-9))
            side = round(WINDOW / pixel)
            drawn = draw_image(rng, pixels=side, pixel=pixel, snr=float(snr), steps=0)
            reading = read_surface(drawn.image, pixel, model=model)
            known = [t for t in reading.terrace_list if t.vectors is not None]
            largest = max(known, key=lambda t: t.area, default=None)
            found = np.nan if largest is None else largest.direction
            errors[OURS].append(_error(found, float(drawn.rows[0])))
            try:
                found = fourier_direction(drawn.image, pixel)
            except ValueError:  # it finds no lattice: as wrong as can be
                found = np.nan
            errors["Fourier transform"].append(_error(found, float(drawn.rows[0])))
        case = f"window of 8 x 8 nm, SNR {snr}"
        for name, values in errors.items():
            goal = _DIRECTION if name == OURS else None
            for metric, value, limit in (
                ("direction of rows, median error", float(np.median(values)), goal),
                ("direction of rows, 90th percentile", float(np.quantile(values, 0.9)), goal),
            ):
                rows.append(Row(case, name, metric, value, "degrees", count, limit, True))
    return rows


def _error(found: float, true: float) -> float:
    """Error in degrees; 45 where nothing was found, which is what chance gives."""
    return 45.0 if np.isnan(found) else float(np.degrees(direction_error(found, true)))


def gate_rows(model: SurfaceModel, count: int, seed: int) -> list[Row]:
    """Images refused: of ruined ones, and of good ones.

    Parameters
    ----------
    model : SurfaceModel
        The default model.
    count : int
        Images of each sort.
    seed : int
        Seed of the images.
    """
    rng = np.random.default_rng([seed, 12])
    refused: dict[bool, list[bool]] = {True: [], False: []}
    kinds: dict[str, list[bool]] = {}
    for _ in range(count):
        for ruined in (True, False):
            snr = None if ruined else float(np.exp(rng.uniform(0.0, np.log(8.0))))
            drawn = draw_image(rng, snr=snr, ruined=random_ruin(rng) if ruined else None)
            reading = read_surface(drawn.image, drawn.pixel, model=model)
            refused[ruined].append(not reading.verdict.readable)
            if ruined:
                kinds.setdefault(drawn.ruined, []).append(not reading.verdict.readable)
    share = {key: 100.0 * float(np.mean(values)) for key, values in refused.items()}
    rows = [
        Row("ruined images", OURS, "refused", share[True], "%", count, _REFUSED),
        Row("good images", OURS, "refused", share[False], "%", count, _LOST, True),
    ]
    for kind, values in sorted(kinds.items()):
        rows.append(
            Row(
                f"ruined: {kind}", OURS, "refused", 100.0 * float(np.mean(values)), "%", len(values)
            )
        )
    return rows
