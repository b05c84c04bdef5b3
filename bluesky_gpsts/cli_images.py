"""What ``gpsts`` does with images: training of the models that read them."""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_gpsts.cli_output import whole, write_json

if TYPE_CHECKING:
    from bluesky_gpsts.models import Model

__all__ = ["IMAGE_MODELS", "train_images"]

IMAGE_MODELS = ("surface", "terraces", "atoms", "defects")
"""Models of images that can be trained."""

_TESTED, _TESTS = 5000, 12
"""Seed and number of the images that a model is measured on after training."""


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
    from bluesky_gpsts.images.registry import save_model
    from bluesky_gpsts.images.training import train_surface
    from bluesky_gpsts.models import Card

    size: dict[str, Any] = {
        option: whole(f"--{option}", text)
        for option in ("images", "steps", "members")
        if (text := getattr(options, option)) is not None
    }
    train: dict[str, Any] = {
        "surface": train_surface,
        "terraces": paper_training.train_terraces,
        "atoms": paper_training.train_atoms,
        "defects": paper_training.train_defects,
    }
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

    rng = np.random.default_rng([seed, 84])
    atoms, defects, right = [], [], []
    for number in range(_TESTS):
        drawn = draw_image(rng, snr=4.0, steps=number % 2)
        if what == "surface":
            reading = read_surface(drawn.image, drawn.pixel, model=model)
        if what in ("surface", "atoms"):
            found = reading.atoms if what == "surface" else model.find(drawn.image)
            atoms.append(score_atoms(found, drawn.sites[drawn.occupied], drawn.pixel))
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
