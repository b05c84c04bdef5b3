"""What ``gpsts`` does with images: a look at one, and training of the models that read them."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.cli_imagefile import KINDS, open_image
from bluesky_gpsts.cli_lattice import check_options, look_at_any
from bluesky_gpsts.cli_output import (
    bar,
    check_apart,
    check_figure,
    check_output,
    number,
    whole,
    write_figure,
    write_json,
)

if TYPE_CHECKING:
    from bluesky_gpsts.images import SurfaceReading
    from bluesky_gpsts.models import Model

__all__ = ["IMAGE_MODELS", "add_command", "look", "train_images"]

IMAGE_MODELS = ("surface", "terraces", "atoms", "defects", "classes")
"""Models of images that can be trained."""

_TESTED, _TESTS = 5000, 12
"""Seed and number of the images that a model is measured on after training."""


def add_command(commands: Any) -> None:
    """Add the subcommand ``images`` to the parser of ``gpsts``.

    Parameters
    ----------
    commands : argparse action
        What ``add_subparsers`` returned.
    """
    command = commands.add_parser(
        "images", help="read an image of H-Si(100): terraces, atoms, defects"
    )
    command.add_argument("file", type=Path, help=KINDS)
    command.add_argument(
        "--channel", help="of a .sxm file, as it is named there, such as Current (default: Z)"
    )
    command.add_argument(
        "--pixel", help="size of a pixel in nm (default: as in the file, or found from the lattice)"
    )
    command.add_argument(
        "--anyway", action="store_true", help="read an image that the quality gate refuses, too"
    )
    command.add_argument("--model", help="name, or path of a card (default: surface)")
    command.add_argument(
        "--lattice",
        choices=("h-si100", "any"),
        default="h-si100",
        help="any: atoms, defects and steps of whatever repeats (default: h-si100)",
    )
    command.add_argument("--figure", type=Path, help="draw what was read to this PNG file")
    command.add_argument("--json", type=Path, help="write what was read to this file")


def look(options: argparse.Namespace) -> int:
    """Run the subcommand ``images``; returns its exit status, 1 for an image that is refused."""
    check_output(options.json)
    check_figure(options.figure)
    check_apart(json=options.json, figure=options.figure)
    if options.lattice == "any":
        check_options(options)
    opened = open_image(options.file, options.channel)
    image, pixel = opened.image, opened.pixel
    if options.pixel is not None:
        size = 1e-9 * number("--pixel", options.pixel)
        if not 0.0 < size < np.inf:
            raise ValueError(f"--pixel is {options.pixel} nm; give one positive number")
        pixel = (size, size)
    if options.lattice == "any":
        return look_at_any(options, opened, pixel)
    from bluesky_gpsts.images.reading import read_surface
    from bluesky_gpsts.images.registry import load_surface

    reading = read_surface(
        image,
        pixel,
        model=load_surface(options.model or "surface"),
        refuse=not options.anyway,
        progress=bar("tiles"),
    )
    reason = opened.advice(reading.verdict.reason, options.pixel is not None)
    reading = replace(reading, verdict=replace(reading.verdict, reason=reason))
    for line in _lines(reading):
        print(line)
    classes = _classes(image, reading)
    for name in sorted(set(classes.values())):
        print(f"{list(classes.values()).count(name):6}  {name}")
    write_json(options.json, _summary(options.file, reading, classes))
    if options.figure is not None:
        from bluesky_gpsts.analysis.surface_figure import surface_figure

        write_figure(options.figure, surface_figure(image, reading, options.file.name, classes))
    return 0 if reading.verdict.readable else 1


def _classes(image: NDArray[Any], reading: "SurfaceReading") -> dict[int, str]:
    """Class of each defect by its number."""
    if not reading.verdict.readable or not reading.defects:
        return {}
    from bluesky_gpsts.images.features import measure_defects
    from bluesky_gpsts.images.registry import load_classes

    table = measure_defects(image, reading)
    names, _ = load_classes().name_defects(table)
    return dict(zip(table.numbers.tolist(), names.tolist(), strict=True))


def _lines(reading: "SurfaceReading") -> list[str]:
    """What was read, for the terminal."""
    lines = []
    if not reading.verdict.readable:
        lines = [
            f"not worth reading: {reading.verdict.reason}",
            "images of another surface than H-Si(100) are read with --lattice any",
        ]
    if not len(reading.sites):
        return lines
    atoms = f"{len(reading.atoms)} atoms, {len(reading.vacancies)} vacant sites, "
    lines += [
        f"pixel {1e9 * reading.pixel[0]:.4g} nm; {atoms if reading.resolved else ''}"
        f"{len(reading.defects)} defects, {len(reading.terrace_list)} terraces"
    ]
    if reading.remark:
        lines.append(f"beware: {reading.remark}")
    for terrace in reading.terrace_list:
        if terrace.vectors is None:
            lines.append(f"terrace {terrace.number}: {1e18 * terrace.area:.1f} nm^2, no lattice")
            continue
        along, across = 1e9 * np.hypot(*terrace.vectors.T)
        angle, error = np.degrees([terrace.direction, terrace.direction_error])
        lines.append(
            f"terrace {terrace.number}: {1e18 * terrace.area:.1f} nm^2, rows at {angle:.2f} +- "
            f"{error:.2f} degrees, {along:.4f} x {across:.4f} nm"
        )
    return lines


def _summary(path: Path, reading: "SurfaceReading", classes: dict[int, str]) -> dict[str, Any]:
    """What was read, for a file; positions in nm from the first pixel."""
    scale = 1e9 * np.array(reading.pixel)
    return {
        "file": path.name,
        "readable": reading.verdict.readable,
        "probability": reading.verdict.probability,
        "reason": reading.verdict.reason,
        "remark": reading.remark,
        "resolved": reading.resolved,
        "pixel_nm": None if np.isnan(reading.pixel[0]) else scale.tolist(),
        "atoms_nm": (reading.atoms * scale).round(4).tolist(),
        "confidence": reading.atom_confidence.round(3).tolist(),
        "vacancies_nm": (reading.vacancies * scale).round(4).tolist(),
        "terraces": [
            {
                "number": terrace.number,
                "area_nm2": 1e18 * terrace.area,
                "direction_deg": None
                if terrace.vectors is None
                else float(np.degrees(terrace.direction)),
                "direction_error_deg": None
                if terrace.vectors is None
                else float(np.degrees(terrace.direction_error)),
                "vectors_nm": None if terrace.vectors is None else (1e9 * terrace.vectors).tolist(),
            }
            for terrace in reading.terrace_list
        ],
        "defects": [
            {
                "x_nm": defect.x * scale[0],
                "y_nm": defect.y * scale[1],
                "area_nm2": 1e18 * defect.area,
                "probability": defect.probability,
                "terrace": defect.terrace,
                "class": classes.get(defect.number, ""),
            }
            for defect in reading.defects
        ],
    }


def train_images(options: argparse.Namespace, seed: int) -> int:
    """Train a model of images; returns the exit status.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``gpsts train``.
    seed : int
        Seed of images, weights and batches.
    """
    from bluesky_gpsts.images import paper_training
    from bluesky_gpsts.images.patchtraining import train_classes
    from bluesky_gpsts.images.registry import save_model
    from bluesky_gpsts.images.training import train_surface
    from bluesky_gpsts.models import Card

    size: dict[str, Any] = {
        option: whole(f"--{option}", text, 1)
        for option in ("images", "steps", "members")
        if (text := getattr(options, option)) is not None
    }
    train: dict[str, Any] = {
        "surface": train_surface,
        "terraces": paper_training.train_terraces,
        "atoms": paper_training.train_atoms,
        "defects": paper_training.train_defects,
        "classes": train_classes,
    }
    if options.what != "classes":
        size["bfloat16"] = bool(options.bfloat16)
    model: Model = train[options.what](seed, **size)
    metrics = {f"{_TESTS} new drawn images, SNR 4": _metrics(options.what, model, _TESTED + seed)}
    for what, found in metrics.items():
        print(f"{what}: {', '.join(f'{name} {value:.3g}' for name, value in found.items())}")
    card = Card.of(
        model,
        name=options.name or f"my-{options.what}",
        data="drawn images of H-Si(100)",
        seed=seed,
        metrics=metrics,
    )
    card = save_model(model, card, options.out)
    print(f"{card.id} in {options.out}")
    write_json(options.json, {"model": card.as_dict()})
    return 0


def _metrics(what: str, model: Any, seed: int) -> dict[str, float]:
    """How a model does on new images."""
    from bluesky_gpsts.benchmarks.images.scores import (
        Counts,
        score_atoms,
        score_defects,
        score_terraces,
    )
    from bluesky_gpsts.images.reading import read_surface
    from bluesky_gpsts.images.simulate import draw_image

    if what == "classes":
        from bluesky_gpsts.images.patchtraining import NOTHING, draw_defects

        table, names, _ = draw_defects(seed, 4 * _TESTS, snr=4.0)
        right = model.name_defects(table)[0] == names
        return {
            "accuracy, real defects": float(right[names != NOTHING].mean()),
            "accuracy, with what is none": float(right.mean()),
            "defects": float(len(names)),
        }
    rng = np.random.default_rng([seed, 84])
    atoms, defects, right = [], [], []
    for image in range(_TESTS):
        drawn = draw_image(rng, snr=4.0, steps=image % 2)
        if what == "surface":
            reading = read_surface(drawn.image, drawn.pixel, model=model)
        if what in ("surface", "atoms"):
            found = reading.atoms if what == "surface" else model.find(drawn.image)
            atoms.append(
                score_atoms(found, np.asarray(drawn.sites[drawn.occupied], float), drawn.pixel)
            )
        if what in ("surface", "defects"):
            labels = reading.defect_labels if what == "surface" else model.find(drawn.image)[0]
            defects.append(score_defects(labels, drawn.defect_map > 0)[0])
        if what in ("surface", "terraces"):
            terraces = reading.terraces if what == "surface" else model.label(drawn.image)
            right.append(score_terraces(terraces, drawn.terrace, terraces.size)[0])
    metrics: dict[str, float] = {}
    if atoms:
        metrics |= {"atoms, F1": Counts.pooled(atoms).f1}
        metrics |= {"atoms, rms error (pm)": 1e12 * Counts.pooled(atoms).rms}
    if defects:
        metrics |= {"defects, F1": Counts.pooled(defects).f1}
    if right:
        metrics |= {"terraces, pixels right": float(np.mean(right))}
    return metrics
