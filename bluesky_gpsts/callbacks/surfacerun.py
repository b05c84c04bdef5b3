"""What was read of a survey image, as a run of its own.

=============  ====================================================================================
start          ``plan_name`` "surface", ``survey`` (uid of the survey), ``frame``, ``model``,
               ``classifier``, ``classes``
``reading``    one event: whether the image can be read, why not, its pixel, and the seconds it took
``atoms``      one event: x and y (m) of every site, whether an atom is there, how sure it is
``terraces``   an event for each terrace: its lattice (m) and direction of rows (rad)
``defects``    an event for each defect: x and y (m), class, probabilities, features, picture
=============  ====================================================================================

Positions are those of the sample frame at the time of the survey: x to the right, y up. Directions
are counted from x towards y.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from event_model import compose_run
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images import SurfaceReading
from bluesky_gpsts.images.features import DefectTable

__all__ = ["PLAN", "file_reading", "sample_vectors", "to_sample"]

PLAN = "surface"
"""Name of the plan in the start documents of these runs."""

Array = NDArray[np.float64]
Sink = Callable[[str, Mapping[str, Any]], Any]


def to_sample(places: ArrayLike, shape: tuple[int, ...], frame: Mapping[str, float]) -> Array:
    """Turn positions in an image into the sample frame.

    Parameters
    ----------
    places : (N, 2) array_like
        x and y (pixels), from the middle of the first pixel of the top line.
    shape : (int, int)
        Lines and pixels of the image.
    frame : mapping
        center_x, center_y, width, height (m) and angle (degrees, positive clockwise).

    Returns
    -------
    (N, 2) array
        x and y (m).
    """
    place = np.asarray(places, float).reshape(-1, 2)
    u = ((place[:, 0] + 0.5) / shape[1] - 0.5) * frame["width"]
    v = (0.5 - (place[:, 1] + 0.5) / shape[0]) * frame["height"]
    angle = np.deg2rad(frame["angle"])
    x = frame["center_x"] + np.cos(angle) * u + np.sin(angle) * v
    y = frame["center_y"] - np.sin(angle) * u + np.cos(angle) * v
    return np.column_stack([x, y])


def sample_vectors(vectors: ArrayLike, frame: Mapping[str, float]) -> Array:
    """Turn vectors (N, 2) in m, x along the lines and y downwards, into the sample frame."""
    u, v = np.asarray(vectors, float).reshape(-1, 2).T * np.array([[1.0], [-1.0]])
    angle = np.deg2rad(frame["angle"])
    cos, sin = np.cos(angle), np.sin(angle)
    return np.column_stack([cos * u + sin * v, cos * v - sin * u])


def file_reading(
    sink: Sink,
    start: Mapping[str, Any],
    frame: Mapping[str, float],
    reading: SurfaceReading | None,
    table: DefectTable | None,
    names: ArrayLike,
    probabilities: ArrayLike,
    more: Mapping[str, Any],
) -> str:
    """Write a reading as a run.

    Parameters
    ----------
    sink : callable
        Takes name and document, such as the catalog's journal.
    start : mapping
        Entries of the start document beside the name of the plan.
    frame : mapping
        The scan frame, as `to_sample` takes it.
    reading : SurfaceReading or None
        What was read; None if reading failed.
    table : DefectTable or None
        Its defects; None if it is not readable.
    names, probabilities : (N,) array_like
        Class of each defect, and its probability.
    more : mapping of str to number or text
        Further entries of the stream ``reading``.

    Returns
    -------
    str
        Uid of the run.
    """
    bundle = compose_run(metadata={"plan_name": PLAN, **start})
    sink("start", bundle.start_doc)
    summary: dict[str, Any] = {
        "readable": float(reading is not None and reading.verdict.readable),
        "resolved": float(reading is not None and reading.resolved),
        "probability": reading.verdict.probability if reading is not None else float("nan"),
        "reason": reading.verdict.reason if reading is not None else "",
        "remark": reading.remark if reading is not None else "",
        "defects": float(len(table)) if table is not None else 0.0,
        **more,
    }
    _stream(sink, bundle, "reading", [summary], {})
    if reading is not None and table is not None:
        shape = reading.terraces.shape
        _stream(sink, bundle, "atoms", [_atoms(reading, shape, frame)], {"x": "m", "y": "m"})
        _stream(
            sink,
            bundle,
            "terraces",
            _terraces(reading, shape, frame),
            {"area": "m^2", "vectors": "m", "origin": "m", "direction": "rad"},
        )
        _stream(
            sink,
            bundle,
            "defects",
            _defects(reading, table, names, probabilities, frame),
            {"x": "m", "y": "m", "area": "m^2"},
        )
    stop = bundle.compose_stop()
    sink("stop", stop)
    return str(bundle.start_doc["uid"])


def _atoms(
    reading: SurfaceReading, shape: tuple[int, ...], frame: Mapping[str, float]
) -> dict[str, Any]:
    # Where the dimers are not resolved, the sites are somewhere on the rows: no positions of atoms.
    known = np.full(len(reading.sites), reading.resolved)
    x, y = to_sample(reading.sites[known], shape, frame).T
    return {
        "x": x,
        "y": y,
        "occupied": reading.occupied[known].astype(float),
        "confidence": reading.confidence[known].astype(float),
        "doubt": reading.doubt[known].astype(float),
        "terrace": reading.site_terrace[known].astype(float),
    }


def _terraces(
    reading: SurfaceReading, shape: tuple[int, ...], frame: Mapping[str, float]
) -> list[dict[str, Any]]:
    unknown = np.full((2, 2), np.nan)
    events = []
    for terrace in reading.terrace_list:
        own = terrace.vectors
        vectors = unknown if own is None else sample_vectors(own, frame)
        x, y = vectors[0]
        events.append(
            {
                "number": float(terrace.number),
                "area": terrace.area,
                "vectors": np.ascontiguousarray(vectors),
                "origin": to_sample(terrace.origin, shape, frame)[0],
                "direction": float(np.arctan2(y, x) % np.pi),
                "direction_error": terrace.direction_error,
                "coherence": terrace.coherence,
            }
        )
    return events


def _defects(
    reading: SurfaceReading,
    table: DefectTable,
    names: ArrayLike,
    probabilities: ArrayLike,
    frame: Mapping[str, float],
) -> list[dict[str, Any]]:
    places = to_sample(table.places, reading.terraces.shape, frame)
    events = []
    for k, (name, sure) in enumerate(
        zip(np.asarray(names).tolist(), np.asarray(probabilities).tolist(), strict=True)
    ):
        found = reading.defects[int(table.numbers[k]) - 1]
        events.append(
            {
                "number": float(table.numbers[k]),
                "x": float(places[k, 0]),
                "y": float(places[k, 1]),
                "column": float(table.places[k, 0]),
                "row": float(table.places[k, 1]),
                "label": str(name),
                "probability": float(sure),
                "confidence": found.probability,
                "depression": float(table.depression[k]),
                "height": float(table.height[k]),
                "area": found.area,
                "area_cells": float(table.area[k]),
                "circularity": float(table.circularity[k]),
                "contrast": float(table.contrast[k]),
                "length": float(table.length[k]),
                "width": float(table.width[k]),
                "terrace": float(table.terrace[k]),
                "patch": table.patches[k].astype(float),
            }
        )
    return events


def _stream(
    sink: Sink,
    bundle: Any,
    name: str,
    events: list[dict[str, Any]],
    units: Mapping[str, str],
) -> None:
    """Write a stream; none without an event."""
    if not events:
        return
    keys = {key: _data_key(value, units.get(key, "")) for key, value in events[0].items()}
    stream = bundle.compose_descriptor(name=name, data_keys=keys)
    sink("descriptor", stream.descriptor_doc)
    for data in events:
        now = time.time()
        sink("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, now)))


def _data_key(value: Any, unit: str) -> dict[str, Any]:
    key: dict[str, Any] = {"source": "images"}
    if isinstance(value, np.ndarray):
        key |= {"dtype": "array", "shape": list(value.shape), "dtype_numpy": "<f8"}
    elif isinstance(value, str):
        key |= {"dtype": "string", "shape": []}
    else:
        key |= {"dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    return key | ({"units": unit} if unit else {})
