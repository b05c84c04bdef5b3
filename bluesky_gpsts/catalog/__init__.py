"""Catalog: write runs safely, serve them, read them.

A `Journal` puts every Bluesky document on disk at once; a deliverer, a process of its own,
hands it to Tiled. `open_catalog` sets both up; `spectra`, `decisions` and `survey` read runs
as xarray datasets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .deliver import sync
    from .errors import CatalogError, JournalError
    from .journal import Journal, read_records
    from .open import Catalog, open_catalog
    from .read import (
        Flags,
        decisions,
        final_model,
        find,
        flags,
        spectra,
        stream,
        structure_images,
        survey,
        truth,
    )
    from .runs import Outcome

__all__ = [
    "Catalog",
    "CatalogError",
    "Flags",
    "Journal",
    "JournalError",
    "Outcome",
    "decisions",
    "final_model",
    "find",
    "flags",
    "open_catalog",
    "read_records",
    "spectra",
    "stream",
    "structure_images",
    "survey",
    "sync",
    "truth",
]

# Loaded at first use: the server and the deliverer are run with -m, and Python objects to a
# module that its own package has imported already.
_HOMES = {
    "deliver": ("sync",),
    "errors": ("CatalogError", "JournalError"),
    "journal": ("Journal", "read_records"),
    "open": ("Catalog", "open_catalog"),
    "read": (
        "Flags",
        "decisions",
        "final_model",
        "find",
        "flags",
        "spectra",
        "stream",
        "structure_images",
        "survey",
        "truth",
    ),
    "runs": ("Outcome",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
