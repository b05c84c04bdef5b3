"""Read runs from a catalog as xarray datasets, in SI units."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import CatalogError

if TYPE_CHECKING:
    import xarray as xr

_SPECTRA = {"current": "A", "didv": "A/V", "lockin_x": "A", "lockin_y": "A"}
_POINTS = {
    "x": "m",
    "y": "m",
    "piezo_x": "m",
    "piezo_y": "m",
    "z": "m",
    "figure_of_merit": "A",
    "figure_of_merit_variance": "A^2",
}
_IMAGES = ("topography", "forward", "backward")
_TRIES, _PAUSE = 5, 0.3
_HYPERPARAMETERS = ("signal_variance", "length_x", "length_y", "prior_mean")


def stream(run: Any, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Columns of a stream, one row per sequence number, and the units of its data keys.

    Both are empty for a stream that the run does not have.

    A point that was taken again after a pause has two rows with one sequence number: the
    last counts. A run under way may have an array a row ahead of the table: whole rows count.
    """
    base = run.base
    if name not in base:
        return {}, {}
    node = base[name].base
    units = {
        key: spec["units"]
        for key, spec in node.metadata.get("data_keys", {}).items()
        if spec.get("units")
    }
    parts = list(node)
    if "internal" not in parts:
        return {}, units
    table = node["internal"].read()
    columns = {key: table[key].to_numpy() for key in table.columns}
    columns.update({key: _array(node, key) for key in parts if key != "internal"})
    rows = min(len(column) for column in columns.values())
    numbers = columns["seq_num"][:rows]
    last = {number: row for row, number in enumerate(numbers)}
    keep = [last[number] for number in sorted(last)]
    return {key: column[:rows][keep] for key, column in columns.items()}, units


def _array(node: Any, key: str) -> NDArray[Any]:
    """Read an array, which may be growing: while it is written Tiled may fail to (status 500)."""
    from httpx import HTTPStatusError

    for _ in range(_TRIES):
        try:
            return np.asarray(node[key].read())
        except HTTPStatusError as error:
            if error.response.status_code < 500:
                raise
            time.sleep(_PAUSE)
    return np.asarray(node[key].read())


def _roles(run: Any) -> dict[str, str]:
    start = run.metadata["start"]
    columns = start.get("columns")
    if not isinstance(columns, dict):
        raise CatalogError(
            f"Run {start['uid']} (plan {start.get('plan_name', '')!r}) has no 'columns' in its "
            "start document, which say what is current, bias and so on; it holds no spectra and no "
            "image, or was not taken by a plan of this package."
        )
    return columns


def _attributes(run: Any) -> dict[str, Any]:
    start = run.metadata["start"]
    stop = run.metadata.get("stop") or {}
    return {
        "uid": start["uid"],
        "plan_name": start.get("plan_name", ""),
        "sample": start.get("sample", ""),
        "exit_status": stop.get("exit_status", "unfinished"),
    }


def spectra(run: Any) -> "xr.Dataset":
    """All spectra of a run.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts, ended, broken off or still under way.

    Returns
    -------
    xarray.Dataset
        Dimensions ``point`` and ``bias``. Variables, where the run has them, of shape
        (point, bias): current (A), didv (A/V), lockin_x and lockin_y (A). Coordinates: bias
        (V); per point x and y (m, sample frame), piezo_x and piezo_y (m, as the controller was
        told), z (m), figure_of_merit (A) and its variance, time (s since 1970), seq_num.
        Every variable and coordinate has `attrs["units"]`; units in the run's own descriptors
        win. Without events, both dimensions have length 0.

    Raises
    ------
    CatalogError
        The start document does not say which column is which, or the bias axis differs
        between spectra.
    """
    import xarray as xr

    roles = _roles(run)
    columns, units = stream(run, "primary")
    count = len(columns["seq_num"]) if columns else 0

    def unit(role: str, default: str) -> str:
        return units.get(roles[role], default)

    axis = np.empty(0)
    if count:
        biases = np.asarray(columns[roles["bias"]], dtype=np.float64)
        axis = biases[0]
        if not np.allclose(biases, axis, rtol=0.0, atol=1e-6 * max(np.ptp(axis), 1e-12)):
            raise CatalogError(
                f"The spectra of run {run.metadata['start']['uid']} have different bias axes; "
                "read the stream 'primary' of the run itself."
            )
    variables: dict[str, Any] = {}
    for role, default in _SPECTRA.items():
        if role in roles:
            values = columns[roles[role]] if count else np.empty((0, 0))
            attributes = {"units": unit(role, default)}
            variables[role] = (("point", "bias"), np.asarray(values, np.float64), attributes)
    coordinates: dict[str, Any] = {
        "bias": ("bias", axis, {"units": unit("bias", "V") if "bias" in roles else "V"}),
        "time": ("point", columns.get("time", np.empty(0)), {"units": "s"}),
        "seq_num": ("point", columns.get("seq_num", np.empty(0, np.int64)), {"units": "1"}),
    }
    for role, default in _POINTS.items():
        if role in roles:
            values = columns[roles[role]] if count else np.empty(0)
            attributes = {"units": unit(role, default)}
            coordinates[role] = ("point", np.asarray(values, np.float64), attributes)
    return xr.Dataset(variables, coordinates, _attributes(run))


def decisions(run: Any) -> "xr.Dataset":
    """All decisions of a run: what was suggested, why, and what it took.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.

    Returns
    -------
    xarray.Dataset
        Dimension ``decision``: one variable per data key of the stream (x, y in m;
        acquisition_value; posterior_mean and posterior_std in units of the figure of merit;
        seconds_* in s; reason as text; ...). ``hyperparameters`` has the second dimension
        ``hyperparameter`` with the coordinate signal_variance, length_x, length_y, prior_mean.
        Empty if the run has none.
    """
    import xarray as xr

    columns, units = stream(run, "decisions")
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for key, values in columns.items():
        if key.startswith("ts_"):
            continue
        attributes = {"units": units[key]} if key in units else {}
        if key in ("time", "seq_num"):
            coordinates[key] = ("decision", values)
        elif key == "hyperparameters":
            variables[key] = (("decision", "hyperparameter"), values, attributes)
            if values.shape[1] == len(_HYPERPARAMETERS):
                coordinates["hyperparameter"] = list(_HYPERPARAMETERS)
        elif values.ndim == 1:
            variables[key] = ("decision", values, attributes)
        else:
            dimensions = ("decision", *(f"{key}_{axis}" for axis in range(1, values.ndim)))
            variables[key] = (dimensions, values, attributes)
    return xr.Dataset(variables, coordinates, _attributes(run))


def final_model(run: Any) -> dict[str, Any]:
    """Read what the map after all spectra of a run depends on, beside the spectra.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.

    Returns
    -------
    dict
        hyperparameters (4,), default_noise_variance, n_data, trained and structure, as a decision
        has them; empty for a run that was broken off.
    """
    columns, _ = stream(run, "map")
    names = ("hyperparameters", "default_noise_variance", "n_data", "trained", "structure")
    return {name: columns[name][-1] for name in names} if columns else {}


def structure_images(run: Any) -> NDArray[np.float64] | None:
    """Read what a topograph or a library prior of a run is made of.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.

    Returns
    -------
    ndarray or None
        The topograph, shape (ny, nx), or the maps, shape (K, ny, nx); None for other runs.
    """
    columns, _ = stream(run, "structure")
    if not columns:
        return None
    return np.asarray(columns["structure_images"][-1], dtype=np.float64)


def survey(run: Any) -> "xr.Dataset":
    """Images of a survey run.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan survey.

    Returns
    -------
    xarray.Dataset
        Variables topography (m, plane removed), forward and backward (m, raw), those that the
        run has, of shape (y, x). Row 0 is the top edge (largest y), column 0 the left.
        Coordinates of the pixel centres: x and y (m) along the axes of the frame, which for an
        angle of 0 are the sample frame's own; x_sample and y_sample (m, shape (y, x)) in the
        sample frame for any angle (positive is clockwise). The frame is in `attrs`: center_x,
        center_y, width, height (m) and angle (degrees).

    Raises
    ------
    CatalogError
        The run holds no image, or its start document lacks the columns or the frame.
    """
    import xarray as xr

    roles = _roles(run)
    start = run.metadata["start"]
    columns, units = stream(run, "survey")
    frame = start.get("frame")
    if not columns or not frame:
        what = "image" if frame else "frame"
        raise CatalogError(f"The survey run {start['uid']} has no {what}; take another survey.")
    images = {role: np.asarray(columns[roles[role]][-1]) for role in _IMAGES if role in roles}
    rows, width = next(iter(images.values())).shape
    u = ((np.arange(width) + 0.5) / width - 0.5) * frame["width"]
    v = (0.5 - (np.arange(rows) + 0.5) / rows) * frame["height"]
    angle = np.deg2rad(frame["angle"])
    center_x, center_y = frame["center_x"], frame["center_y"]
    x_sample = center_x + np.cos(angle) * u[None, :] + np.sin(angle) * v[:, None]
    y_sample = center_y - np.sin(angle) * u[None, :] + np.cos(angle) * v[:, None]
    metre = {"units": "m"}
    return xr.Dataset(
        {
            role: (("y", "x"), image, {"units": units.get(roles[role], "m")})
            for role, image in images.items()
        },
        {
            "x": ("x", center_x + u, metre),
            "y": ("y", center_y + v, metre),
            "x_sample": (("y", "x"), x_sample, metre),
            "y_sample": (("y", "x"), y_sample, metre),
        },
        {**_attributes(run), **{name: float(frame[name]) for name in frame}},
    )


def find(catalog: Any, plan_name: str | None = None, **start: Any) -> list[Any]:
    """Find runs whose start documents hold given values.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where to look.
    plan_name : str, optional
        Name of the plan.
    **start
        Further fields of the start document and their values (text or numbers).

    Returns
    -------
    list of tiled.client.container.Container
        Oldest first.
    """
    from tiled.queries import Eq

    found = getattr(catalog, "client", catalog)
    wanted = {**({"plan_name": plan_name} if plan_name is not None else {}), **start}
    for field, value in wanted.items():
        found = found.search(Eq(f"start.{field}", value))
    return sorted(found.values(), key=lambda run: run.metadata["start"]["time"])


def truth(catalog: Any, uid: str) -> NDArray[np.float64] | None:
    """Read what a simulated sample really is, where the catalog knows it.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
    uid : str
        The gp_sts run.

    Returns
    -------
    ndarray of shape (ny, nx) or None
        The figure of merit (A) at the candidate points; row 0 is the bottom (smallest y).
    """
    for run in reversed(find(catalog, plan_name="truth", truth_of=uid)):
        columns, _ = stream(run, "primary")
        if columns:
            return np.asarray(columns["truth"][-1], dtype=np.float64)
    return None


@dataclass(frozen=True)
class Flags:
    """Spectra that a run took back while it went on.

    Attributes
    ----------
    taken_back : dict
        After so many spectra: the numbers (from 1) of those that were taken back then.
    reasons : dict
        The same numbers, ascending, by the reason that was given.
    """

    taken_back: dict[int, list[int]]
    reasons: dict[str, list[int]]

    @property
    def flagged(self) -> set[int]:
        """Numbers (from 1) of all of them."""
        return {number for numbers in self.reasons.values() for number in numbers}


def flags(run: Any) -> Flags:
    """Read which spectra a run took back, and why.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.
    """
    columns, _ = stream(run, "flags")
    taken_back: dict[int, list[int]] = {}
    reasons: dict[str, list[int]] = {}
    if columns:
        rows = zip(columns["primary_seq_num"], columns["after"], columns["reason"], strict=True)
        for number, after, reason in rows:
            taken_back.setdefault(int(after), []).append(int(number))
            reasons.setdefault(str(reason), []).append(int(number))
    return Flags(taken_back, {reason: sorted(found) for reason, found in reasons.items()})
