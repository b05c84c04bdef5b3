"""Everything that a report says about a run, read from the catalog once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.callbacks.surfacerun import PLAN
from bluesky_gpsts.catalog import CatalogError, final_model, find, stream, structure_images
from bluesky_gpsts.catalog import decisions as read_decisions
from bluesky_gpsts.catalog import flags as read_flags
from bluesky_gpsts.catalog import spectra as read_spectra
from bluesky_gpsts.catalog import survey as read_survey
from bluesky_gpsts.catalog import truth as read_truth

from .errors import AnalysisError
from .history import MapHistory, build_history
from .units import Scale, merit_scale

if TYPE_CHECKING:
    import xarray as xr

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class InstrumentSetting:
    """A setting of the instrument before and after the run.

    Attributes
    ----------
    name : str
        Data key in the stream ``baseline``.
    unit : str
        SI unit; empty if it has none.
    values : tuple
        Numbers or texts, one per event of the stream: before, and after if the run got there.
    """

    name: str
    unit: str
    values: tuple[Any, ...]

    @property
    def changed(self) -> bool:
        """Whether it was another one after the run, by more than the rounding of a float32."""
        if len(self.values) < 2:
            return False
        before, after = self.values[0], self.values[-1]
        if isinstance(before, float) and isinstance(after, float):
            both_missing = math.isnan(before) and math.isnan(after)
            return not (both_missing or math.isclose(before, after, rel_tol=1e-6))
        return bool(before != after)


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run of the plan gp_sts with what belongs to it.

    Attributes
    ----------
    start, stop : dict
        The documents; an empty stop if there is none.
    spectra, decisions : xarray.Dataset
        As `bluesky_gpsts.catalog.spectra` and `decisions` return them.
    history : MapHistory
        What the maps depend on.
    survey : xarray.Dataset or None
        The survey image that led to the run.
    truth : ndarray or None
        The figure of merit (A) as the sample has it, where known; shape (ny, nx), row 0 at the
        bottom.
    settings : tuple of InstrumentSetting
        The stream ``baseline``.
    remarks : tuple of str
        What is missing and why, in sentences.
    drift, drift_images : dict of ndarray
        Columns of all drift checks in order of time, images left out, and of the stream ``drift``
        as it is; empty if the drift was not checked.
    references : dict of ndarray
        Columns of the spectra that were repeated to see whether the tip is as it was; empty if
        none was.
    flagged : tuple of int
        Numbers of the spectra that the run took back.
    defects : dict of ndarray
        Columns of the defects that were found on the survey image: x and y (m), label and more;
        empty if it was not searched for any.
    """

    start: dict[str, Any]
    stop: dict[str, Any]
    spectra: "xr.Dataset"
    decisions: "xr.Dataset"
    history: MapHistory
    survey: "xr.Dataset | None" = None
    truth: FloatArray | None = None
    settings: tuple[InstrumentSetting, ...] = ()
    remarks: tuple[str, ...] = ()
    drift: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    drift_images: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    references: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    flagged: tuple[int, ...] = ()
    defects: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def n_spectra(self) -> int:
        """Number of spectra."""
        return len(self.history)

    @property
    def has_map(self) -> bool:
        """Whether at least one spectrum has a figure of merit."""
        return bool(self.history.valid.any())

    @cached_property
    def final_maps(self) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and standard deviation (A) after all spectra: shape (ny, nx) each."""
        return self.history.after(self.n_spectra)

    @cached_property
    def correlations(self) -> FloatArray:
        """Pearson's r with the truth after each spectrum: shape (n,); NaN if it is not known."""
        if self.truth is None:
            return np.full(self.n_spectra, np.nan)
        return self.history.correlations(self.truth)

    def merit_scale(self, values: npt.ArrayLike) -> Scale:
        """Choose the scale to show figures of merit (or their deviations) in."""
        return merit_scale(values, str(self.start.get("merit_unit", "A")))

    @property
    def n_initial(self) -> int:
        """Number of spectra at points of the initial design."""
        if "reason" not in self.decisions:
            return 0
        reasons = [str(reason) for reason in self.decisions["reason"].values]
        initial = [reason.startswith("initial") for reason in reasons]
        return min(sum(initial), self.n_spectra)

    @property
    def seconds(self) -> float:
        """Duration of the run (s); up to the last spectrum if it has no end."""
        begin = float(self.start["time"])
        times = self.spectra["time"].values
        last = float(np.max(times)) if len(times) else math.nan
        return float(self.stop.get("time", last)) - begin


def require_uid(uid: Any) -> None:
    """Raise AnalysisError unless a uid is text."""
    if not isinstance(uid, str):
        raise AnalysisError(f"The uid of a run is text, not {uid!r}; list the runs for theirs.")


def find_run(catalog: Any, uid: str) -> Any:
    """Return a run; a `Catalog` also takes the first characters of its uid.

    Raises
    ------
    AnalysisError
        There is no such run, or its uid is no text.
    """
    require_uid(uid)
    try:
        return catalog[uid]
    except KeyError as error:
        why = error.args[0] if error.args and " " in str(error.args[0]) else f"no run {uid!r}"
        raise AnalysisError(
            f"The catalog cannot show the run: {why.rstrip('.')}. List the runs of the catalog for "
            "their uids."
        ) from error


def read_record(catalog: Any, uid: str) -> RunRecord:
    """Read a run of the plan gp_sts, its survey and its truth.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where to look.
    uid : str
        The run; a `Catalog` also takes the first characters.

    Returns
    -------
    RunRecord

    Raises
    ------
    AnalysisError
        There is no such run, its uid is no text, or it is not one of gp_sts.
    CatalogError
        The run cannot be read.
    """
    run = find_run(catalog, uid)
    start, stop = dict(run.metadata["start"]), dict(run.metadata.get("stop") or {})
    if start.get("plan_name") == PLAN:
        raise AnalysisError(_no_map(catalog, start))
    spectra, decisions = read_spectra(run), read_decisions(run)
    flags = read_flags(run)
    history = build_history(
        start, spectra, decisions, structure_images(run), final_model(run), flags.flagged
    )
    remarks = [
        f"Taken back by the run itself, and not in the map: {_ranges(numbers)} ({reason})."
        for reason, numbers in flags.reasons.items()
    ]
    image = None
    if start.get("survey"):
        try:
            image = read_survey(catalog[start["survey"]])
        except (KeyError, CatalogError) as error:
            reason = str(error) if isinstance(error, CatalogError) else "It is not in the catalog."
            remarks.append(f"The survey image {start['survey']} cannot be shown. {reason}")
    known = read_truth(catalog, start["uid"])
    if known is not None and known.shape != (history.grid.ny, history.grid.nx):
        remarks.append(
            f"The truth in the catalog has shape {known.shape} and the map "
            f"{(history.grid.ny, history.grid.nx)}, so they are not compared."
        )
        known = None
    if not stop:
        remarks.append("The run has no stop document: it is under way, or was broken off.")
    bad = [n for n in (np.flatnonzero(~history.valid) + 1).tolist() if n not in flags.flagged]
    if bad:
        numbers = ", ".join(map(str, bad))
        remarks.append(f"Spectra without a finite figure of merit are not in the map: {numbers}.")
    return RunRecord(
        start,
        stop,
        spectra,
        decisions,
        history,
        image,
        known,
        _settings(run),
        tuple(remarks),
        *_drift(run),
        stream(run, "reference")[0],
        tuple(sorted(number for numbers in flags.reasons.values() for number in numbers)),
        defects=_defects(catalog, start),
    )


def _settings(run: Any) -> tuple[InstrumentSetting, ...]:
    columns, units = stream(run, "baseline")
    return tuple(
        InstrumentSetting(key, units.get(key, ""), tuple(_plain(v) for v in values.tolist()))
        for key, values in columns.items()
        # Arrays are left out, and so is what the catalog adds: settings are single values.
        if values.ndim == 1 and key not in ("seq_num", "time") and not key.startswith("ts_")
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers in order, with runs of them as first to last."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts]
    return ("spectra " if len(numbers) > 1 else "spectrum ") + ", ".join(texts)


def _drift(run: Any) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    images, _ = stream(run, "drift")
    larger, _ = stream(run, "drift_larger")
    if not images:
        return {}, {}
    every = {
        name: np.concatenate([column, larger[name]]) if larger else column
        for name, column in images.items()
        if column.ndim == 1
    }
    order = np.argsort(every["seconds"], kind="stable")
    return {name: column[order] for name, column in every.items()}, images


def _plain(value: Any) -> Any:
    if isinstance(value, bool | str):
        return value
    return float(value) if isinstance(value, int | float) else str(value)


def _no_map(catalog: Any, start: dict[str, Any]) -> str:
    """What to do with the uid of a run in which an image was read."""
    survey = str(start.get("survey", ""))
    maps = [
        run.metadata["start"]["uid"] for run in find(catalog, plan_name="gp_sts", survey=survey)
    ]
    advice = (
        f"Its defects are in the report of the map {maps[-1]}, which was taken on that survey"
        if maps
        else f"Take a map on that survey, gp_sts(stm, survey={survey!r}): its report shows them"
    )
    return (
        f"Run {start['uid']} is no map: it holds what was read of the image of the survey {survey} "
        f"(atoms, terraces, defects), and has no report of its own. {advice}."
    )


def _defects(catalog: Any, start: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Defects that were found on the survey of a run, as far as the catalog has them."""
    if not start.get("survey"):
        return {}
    runs = find(catalog, plan_name=PLAN, survey=start["survey"])
    return stream(runs[-1], "defects")[0] if runs else {}
