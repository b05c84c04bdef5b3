"""The page of a report: HTML from a run's record and its rendered figures."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from .curves import cycle_parts
from .record import RunRecord
from .tip_record import TipRun
from .units import NM, bias_scale, duration, quantity, time_scale


@dataclass(frozen=True)
class Picture:
    """A rendered figure.

    Attributes
    ----------
    name : str
        Name of its file without the ending.
    title, caption : str
        What it shows, plain text.
    png : bytes
        The file.
    """

    name: str
    title: str
    caption: str
    png: bytes


def page(record: RunRecord, pictures: Iterable[Picture], made: datetime, version: str) -> str:
    """Write the page.

    Parameters
    ----------
    record : RunRecord
        The run.
    pictures : iterable of Picture
        Figures in the order to show them; they are embedded.
    made : datetime
        When the report was made.
    version : str
        Version of this package.

    Returns
    -------
    str
        HTML that loads nothing from elsewhere and runs no script.
    """
    sample = str(record.start.get("sample") or "unnamed sample")
    return _sheet(
        record,
        f"Tunnelling spectroscopy of {sample}",
        _tiles(record),
        record.remarks,
        pictures,
        _summary(record),
        _settings(record),
        made,
        version,
    )


def tip_page(run: TipRun, pictures: Iterable[Picture], made: datetime, version: str) -> str:
    """Write the page of a run that checked the tip; as `page`."""
    passed = bool(run.verdicts["tip_passed"][-1] > 0)
    attempts = int(max(run.verdicts["tip_attempt"]))
    rows = {
        "Run": str(run.start["uid"]),
        "Plan": str(run.start["plan_name"]),
        "Ended": str(run.stop.get("reason") or "not recorded"),
    }
    texts = zip(run.verdicts["tip_attempt"], run.verdicts["tip_reasons"], strict=True)
    for number, (attempt, reasons) in enumerate(texts, 1):
        when = "as found" if not attempt else f"after attempt {int(attempt)}"
        rows[f"Verdict {number}, {when}"] = str(reasons) or "fit"
    return _sheet(
        run,
        "The tip",
        _tile_row([("verdict", "fit" if passed else "not fit"), ("attempts", str(attempts))]),
        (),
        pictures,
        rows,
        "",
        made,
        version,
    )


def _sheet(
    record: RunRecord | TipRun,
    heading: str,
    tiles: str,
    remarks: tuple[str, ...],
    pictures: Iterable[Picture],
    summary: Mapping[str, str],
    settings: str,
    made: datetime,
    version: str,
) -> str:
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    start = record.start
    return Template(template).substitute(
        title=escape(f"{heading} - run {str(start['uid'])[:8]}"),
        heading=escape(heading),
        subtitle=_subtitle(record),
        tiles=tiles,
        remarks=_remarks(remarks),
        figures="\n".join(_figure(n, p) for n, p in enumerate(pictures, 1))
        or "<p>There is nothing to show: the run ended before its first spectrum.</p>",
        summary=_table(summary),
        arguments=_table(_plain(start.get("plan_args"))) or "<p>The run recorded none.</p>",
        settings=settings or "<p>The run recorded none.</p>",
        versions=_table(_plain(start.get("versions"))) or "<p>The run recorded none.</p>",
        footer=escape(f"Made by bluesky-gpsts {version} on {made:%Y-%m-%d %H:%M %Z}".strip() + "."),
    )


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def _subtitle(record: RunRecord | TipRun) -> str:
    start = _when(float(record.start["time"]))
    status = record.stop.get("exit_status", "unfinished")
    words = {
        "success": "completed",
        "abort": "aborted",
        "fail": "failed",
        "unfinished": "unfinished",
    }
    mark = "status" if status == "success" else "status bad"
    return (
        f"{escape(f'{start:%A, %d %B %Y, %H:%M}')} &middot; "
        f"run <code>{escape(str(record.start['uid']))}</code> &middot; "
        f'<span class="{mark}">{escape(words.get(status, str(status)))}</span>'
    )


def _tiles(record: RunRecord) -> str:
    tiles = [("spectra", str(record.n_spectra))]
    budget = record.start.get("budget")
    if budget is not None and int(budget) != record.n_spectra:
        tiles = [(f"spectra of {int(budget)}", str(record.n_spectra))]
    correlation = record.correlations[-1] if record.n_spectra else float("nan")
    if np.isfinite(correlation):
        tiles.append(("correlation with the truth", f"{correlation:.3f}"))
    if record.has_map:
        _, std = record.final_maps
        tiles.append(("mean posterior std", record.merit_scale(std).show(float(std.mean()))))
        largest = float(np.nanmax(record.history.values))
        tiles.append(("largest figure of merit", record.merit_scale(largest).show(largest)))
    tiles.append(("duration", duration(record.seconds)))
    parts = cycle_parts(record)
    if parts:
        middle = float(np.nanmedian(parts["deciding"] + parts["rest"]))
        text = time_scale(middle).show(middle)
        tiles.append(("per spectrum, instrument aside (median)", text))
    return _tile_row(tiles)


def _tile_row(tiles: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for what, value in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _summary(record: RunRecord) -> dict[str, str]:
    start, stop, grid = record.start, record.stop, record.history.grid
    rows = {
        "Run": str(start["uid"]),
        "Sample": str(start.get("sample") or "not named"),
        "Started": f"{_when(float(start['time'])):%Y-%m-%d %H:%M:%S %Z}",
        "Ended": f"{_when(float(stop['time'])):%Y-%m-%d %H:%M:%S %Z}" if stop else "not recorded",
        "Status": str(stop.get("exit_status", "no stop document")),
    }
    if stop.get("reason"):
        rows["Reason"] = str(stop["reason"])
    rows["Spectra"] = f"{record.n_spectra}, the first {record.n_initial} at initial points"
    correlation = record.correlations[-1] if record.n_spectra else float("nan")
    rows["Correlation with the truth"] = (
        f"{correlation:.4f}"
        if np.isfinite(correlation)
        else "none: the truth is not known"
        if record.truth is None
        else "none: the map has no contrast"
    )
    rows["Frame"] = (
        f"{NM.show(grid.width, 4)} x {NM.show(grid.height, 4)} at "
        f"({NM.show(grid.center_x, 5)}, {NM.show(grid.center_y, 5)}), turned by {grid.angle:g}°"
    )
    rows["Candidates"] = f"{grid.nx} x {grid.ny} pixels"
    for name, key in (("Bias range", "bias_range"), ("Window of the figure of merit", "window")):
        if start.get(key):
            low, high = (float(v) for v in start[key])
            scale = bias_scale([low, high])
            rows[name] = f"{scale.show(low, 4)} to {scale.show(high, 4)}"
    for name, key in (
        ("Points per spectrum", "n_points"),
        ("Acquisition function", "acquisition"),
        ("Kernel", "kernel"),
        ("Seed", "seed"),
        ("Survey", "survey"),
    ):
        if start.get(key) not in (None, ""):
            rows[name] = str(start[key])
    parts = {name: values for name, values in cycle_parts(record).items() if len(values)}
    for name, words in (
        ("instrument", "Instrument"),
        ("deciding", "Deciding"),
        ("rest", "Writing and the rest"),
    ):
        if name in parts:
            middle = float(np.nanmedian(parts[name]))
            rows[f"{words}, time"] = (
                f"{duration(float(np.nansum(parts[name])))}; "
                f"median {time_scale(middle).show(middle)} per spectrum"
            )
    return rows


def _remarks(remarks: tuple[str, ...]) -> str:
    if not remarks:
        return ""
    lines = "".join(f"<p>{escape(remark)}</p>" for remark in remarks)
    return f'<div class="remarks" role="note">{lines}</div>'


def _figure(number: int, picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure id="{escape(picture.name)}">'
        f'<img alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>Figure {number}. {escape(picture.title)}.</b> "
        f"{escape(picture.caption)}</figcaption></figure>"
    )


def _table(rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><tbody>{body}</tbody></table>"


def _plain(values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping):
        return {}
    return {
        str(name): value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in values.items()
    }


def _settings(record: RunRecord) -> str:
    if not record.settings:
        return ""
    rows = []
    for setting in record.settings:
        texts = [
            quantity(value, setting.unit) if isinstance(value, float) else str(value)
            for value in setting.values
        ]
        after = texts[-1] if len(texts) > 1 else "not recorded"
        mark = ' class="changed"' if setting.changed else ""
        rows.append(
            f'<tr><th scope="row">{escape(setting.name)}</th><td>{escape(texts[0])}</td>'
            f"<td{mark}>{escape(after)}</td></tr>"
        )
    head = '<tr><th scope="col">Setting</th><th scope="col">Before</th><th scope="col">After</th>'
    return f"<table><thead>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
