"""Models of images on disk; `bluesky_gpsts.models.store` says in which files."""

from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bluesky_gpsts.models.card import Card, Model, ModelError
from bluesky_gpsts.models.store import find_card, list_cards, read_weights, write_model

if TYPE_CHECKING:
    from bluesky_gpsts.images.patchnet import DefectNet
    from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["SHIPPED", "load_classes", "load_model", "load_surface", "models", "save_model"]

SHIPPED = Path(__file__).parent / "models"
"""Folder of the models that come with the package."""

# Module and class of each kind.
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
    """
    if card.kind not in _KINDS:
        raise ModelError(_unknown(card.kind))
    return write_model(model, card, folder)


def models(folder: str | Path | None = None) -> list[Card]:
    """Cards of the models of the package, or of a folder of the user's, by name.

    Raises
    ------
    ModelError
        The folder does not exist, or a card in it cannot be understood.
    """
    if folder is None and not SHIPPED.is_dir():
        return []
    return list_cards(SHIPPED if folder is None else folder)


def load_model(model: str | Path) -> tuple[Any, Card]:
    """Load a model of images after a check of its weights against its card.

    Parameters
    ----------
    model : str or Path
        Name of a model of the package ("surface", "paper-terraces", "paper-atoms",
        "paper-defects"), or path of a user's: of its card, its weights, or a folder with one.

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
    path = find_card(model, SHIPPED)
    described = Card.read(path)
    if described.kind not in _KINDS:
        raise ModelError(f"{path}: {_unknown(described.kind)}")
    arrays, settings = read_weights(path, described)
    module, name = _KINDS[described.kind]
    kind = getattr(import_module(f"bluesky_gpsts.images.{module}"), name)
    try:
        return kind.from_arrays(arrays, settings), described
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path}: its weights make no model of the kind {described.kind!r}: {error}"
        ) from error


@lru_cache(maxsize=2)
def load_surface(model: str | Path = "surface") -> "SurfaceModel":
    """Load a model that reads surfaces, once for all.

    Raises
    ------
    ModelError
        As `load_model`, or the model is of another kind.
    """
    found, card = load_model(model)
    if card.kind != "surface":
        raise ModelError(
            f"the model {card.name!r} is of the kind {card.kind!r}; give one of the kind 'surface'"
        )
    return cast("SurfaceModel", found)


@lru_cache(maxsize=2)
def load_classes(model: str | Path = "classes") -> "DefectNet":
    """Load a model that tells kinds of defects, once for all.

    Raises
    ------
    ModelError
        As `load_model`, or the model is of another kind.
    """
    found, card = load_model(model)
    if card.kind != "defect-classes":
        raise ModelError(
            f"the model {card.name!r} is of the kind {card.kind!r}; give one of the kind "
            "'defect-classes'"
        )
    return cast("DefectNet", found)


def _unknown(kind: str) -> str:
    return f"the kind of model {kind!r} is unknown; this version knows {', '.join(sorted(_KINDS))}"
