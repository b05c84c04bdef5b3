"""A library of named defects that grows from run to run, and the classifier that it trains.

A library is a folder with two files: ``library.json``, which a person can read and edit (names,
notes, where each example came from), and ``library.npz``, the examples as arrays. The examples
train a linear discriminant classifier, which needs no more than one example of a class, and says
"unknown" of what is unlike all of them.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.clusters import cluster_numbers
from bluesky_gpsts.images.features import PATCH, DefectTable, average_patch
from bluesky_gpsts.images.librarian import (
    LibraryClassifier,
    cluster_names,
    cluster_number,
    fit_classifier,
)
from bluesky_gpsts.models.store import replace_file

if TYPE_CHECKING:
    from bluesky_gpsts.images.patchnet import DefectNet

__all__ = ["Library", "LibraryError"]

Array = NDArray[np.float64]

_JSON, _ARRAYS = "library.json", "library.npz"
_VERSION = 1
_LARGEST = 512 * 2**20
_AGAIN = "move both away and make a new one with gpsts library grow"


class LibraryError(ValueError):
    """A library cannot be read or changed; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class Library:
    """Named examples of defects.

    Attributes
    ----------
    names : tuple of str
        Classes, in the order of their first example.
    labels : (N,) array of int
        Index into `names` of each example.
    table : DefectTable
        The examples.
    sources : tuple of str
        Where each came from: uid of a run, or name of a file.
    notes : dict of str to str
        What somebody wrote about a class.
    """

    FOLDER: ClassVar[str] = "library"

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    table: DefectTable
    sources: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Self:
        """Return a library without examples."""
        none, no = np.zeros(0), np.zeros(0, np.int64)
        patches = np.zeros((0, 2, *PATCH), np.float32)
        table = DefectTable(no, np.zeros((0, 2)), none, none, none, none, none, none, no, patches)
        return cls((), no, table, ())

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples of each class."""
        count = np.bincount(self.labels, minlength=len(self.names)).tolist()
        return dict(zip(self.names, count, strict=True))

    def of(self, name: str) -> DefectTable:
        """Return the examples of a class."""
        return self.table.take(self.labels == self._index(name))

    def picture(self, name: str) -> Array:
        """Return the averaged picture (2, ny, nx) of a class."""
        return average_patch(self.of(name).patches)

    def add(self, table: DefectTable, names: Sequence[str], sources: Sequence[str]) -> "Library":
        """Add named examples.

        Parameters
        ----------
        table : DefectTable
            The defects.
        names : sequence of str
            Class of each; new ones are welcome.
        sources : sequence of str
            Where each came from.
        """
        if not len(table) == len(names) == len(sources):
            raise LibraryError(
                f"{len(table)} defects have {len(names)} names and {len(sources)} sources; give "
                "one of each for each"
            )
        known = list(self.names)
        for name in names:
            if name not in known:
                known.append(_checked(name))
        more = np.array([known.index(name) for name in names], np.int64)
        return replace(
            self,
            names=tuple(known),
            labels=np.concatenate([self.labels, more]),
            table=DefectTable.joined([self.table, table]),
            sources=(*self.sources, *map(str, sources)),
        )

    def grow(
        self,
        table: DefectTable,
        sources: Sequence[str],
        net: "DefectNet | None" = None,
        filed: Sequence[str] = (),
    ) -> "Library":
        """Add defects that nobody has named: by the classifier, or as new clusters.

        A new cluster gets the name that two thirds of it were filed with, or a number.

        Parameters
        ----------
        table : DefectTable
            The defects.
        sources : sequence of str
            Where each came from; what is in the library already is left out.
        net : DefectNet, optional
            What turns pictures into numbers; the package's by default.
        filed : sequence of str
            Name that each was filed with, where there is one.
        """
        if len(filed) not in (0, len(table)):
            raise LibraryError(
                f"{len(table)} defects have {len(filed)} names that they were filed with; give one "
                "for each, or none"
            )
        have = set(zip(self.sources, self.table.numbers.tolist(), strict=True))
        keys = zip(sources, table.numbers.tolist(), strict=True)
        fresh = np.array([key not in have for key in keys], bool)
        kept = np.flatnonzero(fresh).tolist()
        table, sources = table.take(fresh), [sources[k] for k in kept]
        filed = [filed[k] for k in kept] if filed else []
        if not len(table):
            return self
        classifier = self.classifier(net) if len(self) else None
        names = (
            classifier.name_defects(table)[0].tolist()
            if classifier is not None
            else [LibraryClassifier.UNKNOWN] * len(table)
        )
        unknown = np.array([name == LibraryClassifier.UNKNOWN for name in names])
        if unknown.any():
            part = table.take(unknown)
            clusters = cluster_numbers(part, _net(net).numbers(part)).labels
            places = np.flatnonzero(unknown).tolist()
            first = 1 + max((cluster_number(name) or 0 for name in self.names), default=0)
            own = [filed[k] for k in places] if filed else []
            for place, name in zip(places, cluster_names(clusters, own, first), strict=True):
                names[place] = name
        return self.add(table, names, sources)

    def rename(self, old: str, new: str) -> "Library":
        """Give a class another name; that of another class only by `merge`."""
        index = self._index(old)
        if new in self.names:
            raise LibraryError(f"there is a class {new!r} already; merge {old!r} into it instead")
        names = list(self.names)
        names[index] = _checked(new)
        notes = {new if name == old else name: note for name, note in self.notes.items()}
        return replace(self, names=tuple(names), notes=notes)

    def merge(self, parts: Sequence[str], into: str) -> "Library":
        """Make one class of several; `into` may be one of them, or another, or new."""
        wanted = [self._index(name) for name in parts]
        own = [str(name) for name in np.array(self.names, object)[self.labels]]
        merged = np.isin(self.labels, wanted)
        _checked(into)
        relabelled = [into if hit else name for name, hit in zip(own, merged, strict=True)]
        return self._relabelled(relabelled)

    def split(self, name: str, count: int = 2, net: "DefectNet | None" = None) -> "Library":
        """Split a class into so many by Ward's hierarchy of its examples: "NAME 1", "NAME 2" ..."""
        from scipy.cluster.hierarchy import fcluster

        from bluesky_gpsts.images.clusters import dendrogram

        index = self._index(name)
        own = np.flatnonzero(self.labels == index)
        if not 2 <= count <= len(own):
            raise LibraryError(
                f"{name!r} has {len(own)} examples and cannot be split into {count}; give 2 to "
                f"{len(own)}"
            )
        numbers = _net(net).numbers(self.table.take(own))
        parts = fcluster(dendrogram(numbers), count, "maxclust")
        order = np.argsort(-np.bincount(parts, minlength=count + 1)[1:], kind="stable")
        rank = {int(part) + 1: k + 1 for k, part in enumerate(order)}
        labelled = [self.names[label] for label in self.labels.tolist()]
        for place, part in zip(own.tolist(), parts.tolist(), strict=True):
            labelled[place] = f"{name} {rank[part]}"
        return self._relabelled(labelled)

    def drop(self, name: str) -> "Library":
        """Leave a class out, with its examples."""
        kept = np.flatnonzero(self.labels != self._index(name))
        names = [self.names[label] for label in self.labels[kept].tolist()]
        sources = tuple(self.sources[k] for k in kept.tolist())
        part = replace(self, labels=self.labels[kept], table=self.table.take(kept), sources=sources)
        return part._relabelled(names)

    def classifier(self, net: "DefectNet | None" = None) -> LibraryClassifier:
        """Train the classifier of this library.

        Raises
        ------
        LibraryError
            If there are no examples.
        """
        if not len(self):
            raise LibraryError("the library has no examples; add some before it can name anything")
        return fit_classifier(_net(net), self.table, self.labels, self.names)

    def write(self, folder: str | Path) -> str:
        """Write the library, each file as a whole or not at all; return the hash of the arrays."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f.name: getattr(self.table, f.name) for f in fields(DefectTable)}
        arrays["patches"] = arrays["patches"].astype(np.float16)
        np.savez_compressed(buffer, **arrays)
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        content = {
            "version": _VERSION,
            "sha256": digest,
            "classes": [
                {"name": name, "note": self.notes.get(name, ""), "examples": count}
                for name, count in self.counts.items()
            ],
            "examples": [
                {"class": self.names[label], "source": source}
                for label, source in zip(self.labels.tolist(), self.sources, strict=True)
            ],
        }
        replace_file(place / _ARRAYS, data)
        replace_file(place / _JSON, (json.dumps(content, indent=1) + "\n").encode())
        return digest

    @classmethod
    def exists(cls, folder: str | Path) -> bool:
        """Whether a folder holds a library."""
        return cls.file(folder).is_file()

    @classmethod
    def file(cls, folder: str | Path) -> Path:
        """File with the names in a folder, which may not be there."""
        return Path(folder) / _JSON

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read a library.

        Classes may have been renamed in ``library.json`` by hand, example by example.

        Raises
        ------
        LibraryError
            If there is none, a file cannot be understood, or the two do not belong together.
        """
        place = Path(folder)
        if not cls.exists(place):
            raise LibraryError(
                f"{place} holds no library; make one of what a catalog's runs have found with "
                f'gpsts library grow --folder "{place}" --catalog CATALOG'
            )
        try:
            content = json.loads((place / _JSON).read_text(encoding="utf-8"))
            file = place / _ARRAYS
            if file.stat().st_size > _LARGEST:
                raise LibraryError(f"{file} is too large for a library")
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() != content["sha256"]:
                raise LibraryError(
                    f"{file} is not the one that {_JSON} describes; take both from one place, "
                    f"or {_AGAIN}"
                )
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                table = _table({name: arrays[name] for name in arrays.files})
            examples = content["examples"]
            own = [_checked(str(example["class"])) for example in examples]
            sources = tuple(str(example["source"]) for example in examples)
            notes = {str(c["name"]): str(c["note"]) for c in content["classes"] if c.get("note")}
        except (AttributeError, KeyError, TypeError, OSError, ValueError) as error:
            if isinstance(error, LibraryError):
                raise
            raise LibraryError(
                f"the library in {place} cannot be read ({_why(error)}): put a copy of {_JSON} and "
                f"{_ARRAYS} there that belong together, or {_AGAIN}"
            ) from error
        if len(own) != len(table):
            raise LibraryError(
                f"{place / _JSON} lists {len(own)} examples and the arrays hold {len(table)}; an "
                "example is dropped with gpsts library drop, not by hand"
            )
        names = tuple(dict.fromkeys(own))
        labels = np.array([names.index(name) for name in own], np.int64)
        return cls(names, labels, table, sources, notes)

    def _index(self, name: str) -> int:
        if name not in self.names:
            known = ", ".join(self.names) or "none"
            raise LibraryError(f"there is no class {name!r}; there are: {known}")
        return self.names.index(name)

    def _relabelled(self, own: list[str]) -> "Library":
        names = tuple(dict.fromkeys(own))
        labels = np.array([names.index(name) for name in own], np.int64)
        notes = {name: note for name, note in self.notes.items() if name in names}
        return replace(self, names=names, labels=labels, notes=notes)


def _net(given: "DefectNet | None") -> "DefectNet":
    if given is not None:
        return given
    from bluesky_gpsts.images.registry import load_classes

    return load_classes()


def _table(arrays: dict[str, NDArray[Any]]) -> DefectTable:
    """Table of arrays from a file, after a check of their shapes."""
    size = len(arrays["numbers"])
    shapes = {"places": (size, 2), "patches": (size, 2, *PATCH)}
    for one in fields(DefectTable):
        if arrays[one.name].shape != shapes.get(one.name, (size,)):
            raise LibraryError(f"the array {one.name!r} has shape {arrays[one.name].shape}")
        if not np.isfinite(arrays[one.name]).all():
            raise LibraryError(f"the array {one.name!r} has entries that are not finite")
    whole = {"numbers": np.int64, "terrace": np.int64, "patches": np.float32}
    return DefectTable(
        **{f.name: arrays[f.name].astype(whole.get(f.name, float)) for f in fields(DefectTable)}
    )


def _why(error: Exception) -> str:
    """What is wrong with the files, in words."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, KeyError):
        return f"there is no entry {error}"
    return str(error) or type(error).__name__


def _checked(name: str) -> str:
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise LibraryError(f"a class cannot be named {name!r}; give a short printable name")
    return name
