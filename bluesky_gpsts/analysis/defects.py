"""Defects that surveys have found, from the catalog, and the library that grows of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.callbacks.surfacerun import PLAN
from bluesky_gpsts.catalog import find, stream
from bluesky_gpsts.images.features import DefectTable
from bluesky_gpsts.images.library import Library

if TYPE_CHECKING:
    from bluesky_gpsts.catalog import Catalog

__all__ = ["grown", "library_folder", "read_defects"]


def library_folder(catalog: "Catalog") -> Path:
    """Folder of the library of a catalog, which may not be there yet."""
    return Path(catalog.path) / Library.FOLDER


def read_defects(run: Any) -> tuple[DefectTable, NDArray[np.str_]]:
    """Read the defects of a run in which a survey image was read.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the kind "surface".

    Returns
    -------
    DefectTable, (N,) array of str
        The defects, and the class that each was given; none where the image was refused.
    """
    columns, _ = stream(run, "defects")
    if not columns:
        return Library.empty().table, np.zeros(0, "<U1")

    def number(name: str) -> NDArray[np.float64]:
        return np.asarray(columns[name], float)

    table = DefectTable(
        number("number").astype(np.int64),
        np.column_stack([number("column"), number("row")]),
        number("height"),
        number("area_cells"),
        number("circularity"),
        number("contrast"),
        number("length"),
        number("width"),
        number("terrace").astype(np.int64),
        number("patch").astype(np.float32),
    )
    return table, np.asarray(columns["label"]).astype(str)


def grown(library: Library, catalog: "Catalog") -> tuple[Library, int]:
    """Add the defects of all runs of a catalog that the library has not seen.

    The names that they were filed with are proposed for new clusters (see `Library.grow`).

    Parameters
    ----------
    library : Library
        What is there already.
    catalog : Catalog
        The runs.

    Returns
    -------
    Library, int
        And how many runs had something new.
    """
    known = set(library.sources)
    tables = []
    sources: list[str] = []
    filed: list[str] = []
    count = 0
    for run in find(catalog, plan_name=PLAN):
        uid = str(run.metadata["start"]["uid"])
        if uid in known:
            continue
        table, labels = read_defects(run)
        if len(table):
            count += 1
            tables.append(table)
            sources += [uid] * len(table)
            filed += labels.tolist()
    if not tables:
        return library, 0
    return library.grow(DefectTable.joined(tables), sources, filed=filed), count
