"""Classifiers of spectra on disk; `bluesky_gpsts.models.store` says in which files."""

import importlib.util
import warnings
from pathlib import Path

from bluesky_gpsts.models.card import Card, ModelError
from bluesky_gpsts.models.store import find_card, list_cards, load_kind, write_model
from bluesky_gpsts.spectra.types import Classifier

__all__ = [
    "DEFAULT",
    "FALLBACK",
    "SHIPPED",
    "Card",
    "ModelError",
    "card",
    "load",
    "load_with_card",
    "models",
    "save",
]

DEFAULT, FALLBACK = "default", "linear"
SHIPPED = Path(__file__).parent / "models"
"""Folder of the models that come with the package."""

_KINDS = {
    "default": ("default", "DefaultClassifier"),
    "linear": ("linear", "LinearClassifier"),
    "paper": ("paper", "PaperCNN"),
}
_NEED_TORCH = ("default", "paper")


def save(classifier: Classifier, card: Card, folder: str | Path) -> Card:
    """Write a classifier; see `bluesky_gpsts.models.store.write_model`.

    Raises
    ------
    ModelError
        The card is of another classifier, or the kind is unknown.
    OSError
        The folder cannot be written.
    """
    return write_model(classifier, card, folder, _KINDS)


def card(model: str | Path) -> Card:
    """Read the card of a model, without its weights.

    Parameters
    ----------
    model : str or Path
        Name of a model of the package, or path of a user's: of its card, of its weights, or of
        a folder that holds one model.

    Returns
    -------
    Card

    Raises
    ------
    ModelError
        There is no such model, or its card cannot be understood.
    """
    return Card.read(find_card(model, SHIPPED))


def models(folder: str | Path | None = None) -> list[Card]:
    """Cards of the models of the package, or of a folder of the user's, by name.

    Raises
    ------
    ModelError
        The folder does not exist, or a card in it cannot be understood.
    """
    return list_cards(SHIPPED if folder is None else folder)


def load(model: str | Path = DEFAULT) -> Classifier:
    """Load a classifier, after a check of its weights against its card.

    Without torch, "default" gives the linear model, with a warning that says so.

    Parameters
    ----------
    model : str or Path
        As for `card`.

    Returns
    -------
    Classifier

    Raises
    ------
    ModelError
        There is no such model; its kind is unknown or needs torch, which is not there; the
        weights do not match the card, or do not make a classifier of its kind.
    """
    return load_with_card(model)[0]


def load_with_card(model: str | Path = DEFAULT) -> tuple[Classifier, Card]:
    """Load a classifier as `load` does, with the card of the model that it really is."""
    described = card(model)
    if described.kind in _NEED_TORCH and importlib.util.find_spec("torch") is None:
        if model != DEFAULT:
            raise ModelError(
                f"the model {described.name!r} needs torch, which is not installed; run "
                f"'pip install torch', or load {FALLBACK!r}, which works without"
            )
        warnings.warn(
            f"torch is not installed: the model {FALLBACK!r} takes the place of {DEFAULT!r}, and "
            "names fewer spectra right",
            stacklevel=3,
        )
        return load_with_card(FALLBACK)
    return load_kind(model, SHIPPED, _KINDS, "bluesky_gpsts.spectra")
