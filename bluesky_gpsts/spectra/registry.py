"""Models on disk: weights as safetensors, and beside them a card that says what they are.

A model NAME is two files in one folder, ``NAME.safetensors`` (weights and settings) and
``NAME.json`` (the card). The card holds the SHA-256 of the weights file; a model that does not
match its card is refused. Nothing is unpickled, and no torch is needed to read the files.
"""

import hashlib
import importlib.util
import json
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from bluesky_gpsts.spectra.card import CARD, Card, ModelError
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

WEIGHTS = ".safetensors"
# Module and class of each kind, and whether it needs torch.
_KINDS = {
    "default": ("default", "DefaultClassifier", True),
    "linear": ("linear", "LinearClassifier", False),
    "paper": ("paper", "PaperCNN", True),
}
_LARGEST = 256 * 2**20


def save(classifier: Classifier, card: Card, folder: str | Path) -> Card:
    """Write a model: weights first, the card last, each as a whole or not at all.

    Parameters
    ----------
    classifier : Classifier
        What to keep.
    card : Card
        What is known of it, as `Card.of` makes it; hash and size of the file are filled in.
    folder : str or Path
        Where to write; made if missing. A model of that name there is replaced.

    Returns
    -------
    Card
        The card as it was written.

    Raises
    ------
    ModelError
        The card is of another kind or of other classes than the classifier, or the kind is
        unknown.
    OSError
        The folder cannot be written.
    """
    from safetensors.numpy import save as serialise

    if card.kind not in _KINDS:
        raise ModelError(_unknown(card.kind))
    for what, in_card, really in (
        ("kind", card.kind, classifier.name),
        ("classes", card.classes, tuple(classifier.classes)),
    ):
        if in_card != really:
            raise ModelError(
                f"the card {card.name!r} says {what} {in_card!r} and the classifier {really!r}; "
                "make the card of this classifier with Card.of"
            )
    arrays, settings = classifier.to_arrays()
    # One entry only: safetensors writes several in any order, and equal models have equal files.
    model = {"kind": card.kind, "classes": list(card.classes), "settings": settings}
    metadata = {"model": json.dumps(model, sort_keys=True)}
    data = serialise({k: np.asarray(v, order="C") for k, v in arrays.items()}, metadata)
    whole = card.with_file(hashlib.sha256(data).hexdigest(), len(data))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    _replace(target / f"{card.name}{WEIGHTS}", data)
    _replace(target / f"{card.name}{CARD}", whole.to_json().encode())
    return whole


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
    return Card.read(_card_path(model))


def models(folder: str | Path | None = None) -> list[Card]:
    """Cards of the models of the package, or of a folder of the user's, by name.

    Raises
    ------
    ModelError
        The folder does not exist, or a card in it cannot be understood.
    """
    place = SHIPPED if folder is None else Path(folder)
    if not place.is_dir():
        raise ModelError(f"{place} is no folder; give the folder that holds the models")
    return [Card.read(path) for path in sorted(place.glob(f"*{CARD}"))]


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
    path = _card_path(model)
    described = Card.read(path)
    if described.kind not in _KINDS:
        raise ModelError(f"{path}: {_unknown(described.kind)}")
    module, name, needs_torch = _KINDS[described.kind]
    if needs_torch and importlib.util.find_spec("torch") is None:
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
    arrays, settings = _read_weights(path, described)
    kind = getattr(import_module(f"bluesky_gpsts.spectra.{module}"), name)
    try:
        classifier = cast(Classifier, kind.from_arrays(arrays, settings))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path}: its weights make no classifier of the kind {described.kind!r}: {error}"
        ) from error
    if tuple(classifier.classes) != described.classes:
        raise ModelError(_mismatch(path, "classes", described.classes, classifier.classes))
    return classifier, described


def _unknown(kind: str) -> str:
    return f"the kind of model {kind!r} is unknown; this version knows {', '.join(sorted(_KINDS))}"


def _mismatch(path: Path, what: str, in_card: Any, in_file: Any) -> str:
    return (
        f"{path} does not match its weights: the card says {what} {in_card}, the weights file "
        f"{in_file}; get both files again from where they came, or train the model again"
    )


def _card_path(model: str | Path) -> Path:
    """Card of a shipped model by name, or of a user's by path."""
    if isinstance(model, str) and model == Path(model).name:
        shipped = SHIPPED / f"{model}{CARD}"
        if shipped.is_file():
            return shipped
    path = Path(model)
    if path.is_dir():
        found = sorted(path.glob(f"*{CARD}"))
        if len(found) != 1:
            names = ", ".join(card.name for card in found) or "none"
            raise ModelError(
                f"{path} must hold the card of one model, and holds {names}; name the card's file"
            )
        return found[0]
    path = path.with_name(path.name.removesuffix(WEIGHTS).removesuffix(CARD) + CARD)
    if not path.is_file():
        names = ", ".join(sorted(card.stem for card in SHIPPED.glob(f"*{CARD}"))) or "none"
        raise ModelError(
            f"there is no model {str(model)!r}; give the path of a card, or the name of a model "
            f"of the package: {names}"
        )
    return path


def _read_weights(
    path: Path, described: Card
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Arrays and settings of a model whose file is the one that the card describes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    file = path.with_suffix(WEIGHTS)
    try:
        size = file.stat().st_size
        # The size is looked at first, so that a wrong file is not read into memory as a whole.
        if size != described.bytes or size > _LARGEST:
            cut = "; was it cut off?" if size < described.bytes else ""
            raise ModelError(_mismatch(path, "bytes", described.bytes, f"has {size}{cut}"))
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the weights {file} cannot be read ({error.strerror or error}); they must lie beside "
            "their card"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != described.sha256:
        raise ModelError(_mismatch(path, "SHA-256", described.sha256[:12], digest[:12]))
    try:
        arrays = deserialise(data)
        length = int.from_bytes(data[:8], "little")
        model = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["model"])
        kind, classes, settings = model["kind"], tuple(model["classes"]), model["settings"]
        if not isinstance(settings, Mapping):
            raise TypeError(f"its settings are {type(settings).__name__}")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} is no weights file of this package: {error!r}") from error
    for what, in_card, in_file in (
        ("kind", described.kind, kind),
        ("classes", described.classes, classes),
    ):
        if in_card != in_file:
            raise ModelError(_mismatch(path, what, in_card, in_file))
    return arrays, dict(settings)


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
