"""The sweep axis of a Nanonis grid: linear, or made of segments."""

import numpy as np

from bluesky_gpsts.nanonis.files.text import Fields, FileFormatError, FloatArray, number

LIMITS = ("Sweep Start", "Sweep End")


def sweep_axis(fields: Fields, points: int, parameters: dict[str, FloatArray]) -> FloatArray:
    """Return the sweep axis of a grid.

    Filetype=MLS: the header's segments. Otherwise equal steps between the limits that the first
    pixel recorded, or between those of the sweep module's header entries.

    Parameters
    ----------
    fields : Fields
        The grid's header.
    points : int
        Points per sweep.
    parameters : dict of str to ndarray
        Recorded parameters (ny, nx); empty where no pixel was recorded.

    Returns
    -------
    ndarray
        Axis (points,) in the unit of the swept signal.

    Raises
    ------
    FileFormatError
        If neither place holds usable limits, or the segments do not add up to `points`.
    """
    if fields.values.get("Filetype", "Linear") == "MLS":
        return _segments(fields, points)
    if set(LIMITS) <= set(parameters):
        limits = [float(parameters[name][0, 0]) for name in LIMITS]
        if np.all(np.isfinite(limits)):
            return np.linspace(limits[0], limits[1], points)
    name, _, unit = fields.text("Sweep Signal").partition(" (")
    keys = [f"{name} Spectroscopy>{end} ({unit}" for end in LIMITS]
    if all(key in fields.values for key in keys):
        start, end = (fields.numbers(key, 1)[0] for key in keys)
        return np.linspace(start, end, points)
    raise FileFormatError(
        fields.path,
        f"the limits of the sweep, in the first pixel's {LIMITS} or in the entries {keys}",
        "neither",
    )


def _segments(fields: Fields, points: int) -> FloatArray:
    """Return the axis of a multi-line sweep; neighbouring segments may share their limit."""
    key = next((k for k in fields.values if k.startswith("Segment Start")), None)
    key = key or next((k for k in fields.values if "Segment Start" in k), None)
    if key is None:
        raise FileFormatError(fields.path, "a header entry 'Segment Start ...'", "none")
    titles = [title.strip() for title in key.rpartition(":")[2].split(",")]
    column = {w: i for w in ("Start", "End", "Steps") for i, t in enumerate(titles) if w in t}
    rows = [row.split(",") for row in fields.values[key].split(";") if row.strip()]
    if len(column) != 3 or not rows or any(len(row) != len(titles) for row in rows):
        raise fields.error(key, f"segments of {len(titles)} comma-separated numbers")
    try:
        table = [[number(row[column[w]]) for w in ("Start", "End", "Steps")] for row in rows]
    except ValueError:
        table = [[np.nan]]
    if not np.all(np.isfinite(table)):
        raise fields.error(key, "finite numbers")
    steps = [int(row[2]) for row in table]
    if min(steps) < 1 or sum(steps) - points not in (0, len(steps) - 1):
        raise fields.error(key, f"segments whose steps add up to {points} points")
    shared = sum(steps) != points
    parts = [np.linspace(start, end, k) for (start, end, _), k in zip(table, steps, strict=True)]
    return np.concatenate([part[1:] if shared and i else part for i, part in enumerate(parts)])
