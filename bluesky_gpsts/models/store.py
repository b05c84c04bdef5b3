"""Models on disk: weights as safetensors, and beside them a card that says what they are.

A model NAME is two files in one folder, ``NAME.safetensors`` (weights and settings) and
``NAME.json`` (the card). The card holds the SHA-256 of the weights file; a model that does not
match its card is refused. Nothing is unpickled, and no torch is needed to read the files.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_gpsts.models.card import CARD, Card, Model, ModelError

__all__ = [
    "WEIGHTS",
    "Kinds",
    "find_card",
    "list_cards",
    "load_kind",
    "read_weights",
    "replace_file",
    "write_model",
]

Kinds = Mapping[str, tuple[str, str]]
"""Module, within its package, and class of each kind of model."""

WEIGHTS = ".safetensors"
_LARGEST = 256 * 2**20


def write_model(model: Model, card: Card, folder: str | Path, kinds: Kinds) -> Card:
    """Write a model: weights first, the card last, each as a whole or not at all.

    Parameters
    ----------
    model : Model
        What to keep.
    card : Card
        What is known of it, as `Card.of` makes it; hash and size of the file are filled in.
    folder : str or Path
        Where to write; made if missing. A model of that name there is replaced.
    kinds : mapping
        The kinds that can be loaded again.

    Returns
    -------
    Card
        The card as it was written.

    Raises
    ------
    ModelError
        The card is of another kind or of other classes than the model, or the kind is unknown.
    OSError
        The folder cannot be written.
    """
    from safetensors.numpy import save as serialise

    if card.kind not in kinds:
        raise ModelError(_unknown(card.kind, kinds))
    for what, in_card, really in (
        ("kind", card.kind, model.name),
        ("classes", card.classes, tuple(model.classes)),
    ):
        if in_card != really:
            raise ModelError(
                f"the card {card.name!r} says {what} {in_card!r} and the model {really!r}; "
                "make the card of this model with Card.of"
            )
    arrays, settings = model.to_arrays()
    # One entry only: safetensors writes several in any order, and equal models have equal files.
    content = {"kind": card.kind, "classes": list(card.classes), "settings": settings}
    metadata = {"model": json.dumps(content, sort_keys=True)}
    data = serialise({k: np.asarray(v, order="C") for k, v in arrays.items()}, metadata)
    whole = card.with_file(hashlib.sha256(data).hexdigest(), len(data))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    replace_file(target / f"{card.name}{WEIGHTS}", data)
    replace_file(target / f"{card.name}{CARD}", whole.to_json().encode())
    return whole


def list_cards(folder: str | Path) -> list[Card]:
    """Cards of the models of a folder, by name.

    Raises
    ------
    ModelError
        The folder does not exist, or a card in it cannot be understood.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ModelError(f"{place} is no folder; give the folder that holds the models")
    return [Card.read(path) for path in sorted(place.glob(f"*{CARD}"))]


def load_kind(model: str | Path, shipped: Path, kinds: Kinds, package: str) -> tuple[Any, Card]:
    """Load a model, after a check of its weights against its card.

    Parameters
    ----------
    model : str or Path
        Name of a model of the package, or path of a user's, as for `find_card`.
    shipped : Path
        Folder of the models of the package.
    kinds : mapping
        The kinds that are known.
    package : str
        Name of the package that holds their modules.

    Returns
    -------
    model, card
        What the kind's ``from_arrays`` has made, and its card.

    Raises
    ------
    ModelError
        There is no such model, its kind is unknown, its weights do not match the card, or do not
        make a model of its kind.
    """
    path = find_card(model, shipped)
    described = Card.read(path)
    if described.kind not in kinds:
        raise ModelError(f"{path}: {_unknown(described.kind, kinds)}")
    arrays, settings = read_weights(path, described)
    module, name = kinds[described.kind]
    kind = getattr(import_module(f"{package}.{module}"), name)
    try:
        loaded = kind.from_arrays(arrays, settings)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path}: its weights make no model of the kind {described.kind!r} ({error}); get both "
            "files again from where they came, or train the model again"
        ) from error
    if tuple(loaded.classes) != described.classes:
        raise ModelError(_mismatch(path, "classes", described.classes, loaded.classes))
    return loaded, described


def _unknown(kind: str, kinds: Kinds) -> str:
    return f"the kind of model {kind!r} is unknown; this version knows {', '.join(sorted(kinds))}"


def _mismatch(path: Path, what: str, in_card: Any, in_file: Any) -> str:
    """Sentence that says where a card and its weights differ."""
    return (
        f"{path} does not match its weights: the card says {what} {in_card}, the weights file "
        f"{in_file}; get both files again from where they came, or train the model again"
    )


def find_card(model: str | Path, shipped: Path) -> Path:
    """Find the card of a model.

    Parameters
    ----------
    model : str or Path
        Name of a model of the package, or path of a user's: of its card, of its weights, or of
        a folder that holds one model.
    shipped : Path
        Folder of the models of the package.

    Returns
    -------
    Path
        The card, which exists.

    Raises
    ------
    ModelError
        There is no such model.
    """
    if isinstance(model, str) and model == Path(model).name:
        own = shipped / f"{model}{CARD}"
        if own.is_file():
            return own
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
        names = ", ".join(sorted(card.stem for card in shipped.glob(f"*{CARD}"))) or "none"
        raise ModelError(
            f"there is no model {str(model)!r}; give the path of a card, or the name of a model "
            f"of the package: {names}"
        )
    return path


def read_weights(
    path: Path, described: Card
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read the weights of a model, after a check against its card.

    Parameters
    ----------
    path : Path
        The card's file; the weights lie beside it.
    described : Card
        The card.

    Returns
    -------
    arrays, settings : dict
        As `Model.to_arrays` gave them.

    Raises
    ------
    ModelError
        The weights cannot be read, or are not those that the card describes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    file = path.with_suffix(WEIGHTS)
    try:
        size = file.stat().st_size
        # The size is looked at first, so that a wrong file is not read into memory as a whole.
        if size != described.bytes or size > _LARGEST:
            cut = " (was it cut off?)" if size < described.bytes else ""
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
        raise ModelError(
            f"{file} is no weights file of this package ({error}); get it again from where it "
            "came, or train the model again"
        ) from error
    for what, in_card, in_file in (
        ("kind", described.kind, kind),
        ("classes", described.classes, classes),
    ):
        if in_card != in_file:
            raise ModelError(_mismatch(path, what, in_card, in_file))
    return arrays, dict(settings)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all; OSError if it cannot be written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
