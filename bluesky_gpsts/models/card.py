"""The card of a model: what it is, what it was trained on, how well it does."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts import __version__

__all__ = ["CARD", "Card", "Model", "ModelError", "check_name"]

CARD = ".json"
_LARGEST = 2**20
_HEX = frozenset("0123456789abcdef")


class Model(Protocol):
    """What can be kept on disk: a trained model of spectra or images."""

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it tells apart."""
        ...

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, and settings that JSON can hold."""
        ...


class ModelError(ValueError):
    """A model cannot be saved or loaded; the text says why and what to do."""


def check_name(name: str) -> None:
    """Refuse a name that cannot be the name of a file everywhere; ModelError says what can be."""
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ModelError(f"a model cannot be named {name!r}; use letters, digits, - and _")


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Attributes
    ----------
    name : str
        Name of the model and of its files.
    kind : str
        Kind of model, such as "default", "linear" or "paper".
    classes : tuple of str
        Names of what it tells apart.
    data : str
        What it was trained on.
    seed : int
        Seed of data, split and training.
    metrics : dict
        For each split its metrics by name; pure numbers.
    versions : dict
        Versions of the libraries that trained it.
    licence : str
        Licence of the weights, an SPDX name, or that there is none yet.
    sha256 : str
        SHA-256 of the weights file, 64 hexadecimal digits; "" before it is saved.
    bytes : int
        Size of the weights file in bytes; 0 before it is saved.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    data: str
    seed: int
    metrics: dict[str, dict[str, float]]
    versions: dict[str, str]
    licence: str = "BSD-3-Clause"
    sha256: str = ""
    bytes: int = 0

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        name: str,
        data: str,
        seed: int,
        metrics: Mapping[str, Mapping[str, float]],
        licence: str = "BSD-3-Clause",
    ) -> Self:
        """Write the card of a model.

        Parameters
        ----------
        model : Model
            What it describes.
        name : str
            Letters, digits, "-" and "_".
        data : str
            What it was trained on, in words.
        seed : int
            Seed of data, split and training.
        metrics : mapping
            For each split ("sessions held out") its metrics ("balanced accuracy": 0.9).
        licence : str
            Licence of the weights, an SPDX name, or that there is none yet.

        Returns
        -------
        Card

        Raises
        ------
        ModelError
            The name cannot be the name of a file, or a metric is not finite.
        """
        check_name(name)
        numbers = {
            split: {metric: float(value) for metric, value in values.items()}
            for split, values in metrics.items()
        }
        for split, values in numbers.items():
            for metric, value in values.items():
                if not math.isfinite(value):
                    raise ModelError(f"the metric {metric!r} of {split!r} is {value}")
        libraries = {"bluesky-gpsts": __version__, "numpy": np.__version__}
        for library in ("scipy", "torch", "safetensors"):
            try:
                libraries[library] = version(library)
            except PackageNotFoundError:
                libraries[library] = "not installed"
        return cls(
            name,
            model.name,
            tuple(model.classes),
            data,
            seed,
            numbers,
            libraries,
            licence,
        )

    @property
    def id(self) -> str:
        """Name and the beginning of the hash: which weights exactly were at work."""
        return f"{self.name}@{self.sha256[:12]}"

    def with_file(self, sha256: str, size: int) -> Self:
        """Return the card of a weights file of this hash and size (bytes)."""
        return replace(self, sha256=sha256, bytes=size)

    def as_dict(self) -> dict[str, Any]:
        """Return the card as JSON can hold it."""
        return asdict(self) | {"classes": list(self.classes)}

    def to_json(self) -> str:
        """Write the card as the text of its file."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card.

        Raises
        ------
        ModelError
            It cannot be read, is no JSON object, or lacks a field or has one of a wrong type.
        """
        try:
            if path.stat().st_size > _LARGEST:
                raise ModelError(f"{path} has over {_LARGEST} bytes, which is no card of a model")
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise ModelError(
                f"the card {path} cannot be read ({error.strerror or error}); name another file"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{path} is no card of a model, because it is no JSON ({error}); get it again"
            ) from error
        names = [field.name for field in fields(cls)]
        if not isinstance(content, dict) or (missing := [n for n in names if n not in content]):
            found = "no JSON object" if not isinstance(content, dict) else f"lacking {missing}"
            raise ModelError(f"{path} is no card of a model: it is {found}; get it again")
        for name, right in _CHECKS.items():
            if not right(content[name]):
                raise ModelError(
                    f"{path} is no card of a model: its {name} is {str(content[name])[:80]!r}; "
                    "get it again"
                )
        if content["name"] != path.stem:
            raise ModelError(
                f"{path} is the card of {content['name']!r}; the file must have the model's name"
            )
        known = {name: content[name] for name in names}
        return cls(**known | {"classes": tuple(content["classes"])})


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(split, dict) and all(map(_number, split.values())) for split in value.values()
    )


_CHECKS = {
    "name": _text,
    "kind": _text,
    "classes": lambda v: isinstance(v, list) and len(v) > 0 and all(map(_text, v)),
    "data": _text,
    "seed": _count,
    "metrics": _metrics,
    "versions": lambda v: isinstance(v, dict) and all(map(_text, v.values())),
    "licence": _text,
    "sha256": lambda v: _text(v) and len(v) == 64 and set(v) <= _HEX,
    "bytes": _count,
}
