"""Models of images on disk; `bluesky_gpsts.models.store` says in which files."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_gpsts.models.card import Card, Model, ModelError
from bluesky_gpsts.models.store import list_cards, load_kind, write_model

if TYPE_CHECKING:
    from bluesky_gpsts.images.patchnet import DefectNet
    from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["SHIPPED", "load_classes", "load_model", "load_surface", "models", "save_model"]

SHIPPED = Path(__file__).parent / "models"
"""Folder of the models that come with the package."""

_KINDS = {
    "surface": ("surfacemodel", "SurfaceModel"),
    "defect-classes": ("patchnet", "DefectNet"),
    "paper-terraces": ("paper", "PaperTerraces"),
    "paper-atoms": ("paper", "PaperAtoms"),
    "paper-defects": ("paper", "PaperDefects"),
}


def save_model(model: Model, card: Card, folder: str | Path) -> Card:
    """Write a model of images; see `bluesky_gpsts.models.store.write_model`.

    Raises
    ------
    ModelError
        The kind is unknown, or the card is of another model.
    OSError
        The folder cannot be written.
    """
    return write_model(model, card, folder, _KINDS)


def models(folder: str | Path | None = None) -> list[Card]:
    """Cards of the models of the package, or of a folder of the user's, by name.

    Raises
    ------
    ModelError
        The folder does not exist, or a card in it cannot be understood.
    """
    return list_cards(SHIPPED if folder is None else folder)


def load_model(model: str | Path) -> tuple[Any, Card]:
    """Load a model of images after a check of its weights against its card.

    Parameters
    ----------
    model : str or Path
        Name of a model of the package ("surface", "paper-terraces", "paper-atoms",
        "paper-defects", "classes"), or path of a user's: of its card, its weights, or a folder
        with one.

    Returns
    -------
    model, card
        `SurfaceModel`, or one of `bluesky_gpsts.images.paper`; and its card.

    Raises
    ------
    ModelError
        There is no such model, its kind is unknown, its weights do not match the card, or do not
        make a model of its kind.
    """
    return load_kind(model, SHIPPED, _KINDS, "bluesky_gpsts.images")


@lru_cache(maxsize=2)
def load_surface(model: str | Path = "surface") -> "SurfaceModel":
    """Load a model that reads surfaces, once for all.

    Raises
    ------
    ModelError
        As `load_model`, or the model is of another kind.
    """
    surface: SurfaceModel = _load_of("surface", model)
    return surface


@lru_cache(maxsize=2)
def load_classes(model: str | Path = "classes") -> "DefectNet":
    """Load a model that tells kinds of defects, once for all.

    Raises
    ------
    ModelError
        As `load_model`, or the model is of another kind.
    """
    classes: DefectNet = _load_of("defect-classes", model)
    return classes


def _load_of(kind: str, model: str | Path) -> Any:
    found, card = load_model(model)
    if card.kind != kind:
        raise ModelError(
            f"the model {card.name!r} is of the kind {card.kind!r}; give one of the kind {kind!r}"
        )
    return found
