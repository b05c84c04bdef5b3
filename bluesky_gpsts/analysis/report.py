"""The report of a run: one HTML page with its figures, from the catalog alone."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_gpsts import __version__

from . import curves, figures
from .drift_figure import drift_figure
from .errors import AnalysisError
from .page import Picture, page, tip_page
from .record import RunRecord, find_run, read_record
from .style import png
from .tip_figures import reference_figure, tip_figure, verdict_figure
from .tip_record import PLANS as TIP_PLANS
from .tip_record import read_tip_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[RunRecord], "Figure"]

FILE = "report.html"


def write_report(
    catalog: Any,
    uid: str,
    folder: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of a run of the plan gp_sts, or of one that checked the tip.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the run, its survey and its truth are.
    uid : str
        The run; with a `Catalog`, its first characters will do.
    folder : str or Path
        Where to write ``report.html`` and the figures as PNG files; made if missing. Files of an
        earlier report there are replaced.
    progress : callable, optional
        Called with the number of parts done and of all parts, after each.

    Returns
    -------
    Path
        The page: one file, figures embedded, nothing loaded from elsewhere.

    Raises
    ------
    AnalysisError
        There is no such run, it is of another plan, or the folder cannot be written; then no
        report is left half-written, and no folder is made.
    CatalogError
        The run cannot be read.
    """
    target = Path(folder)
    _check_writable(target)
    run = find_run(catalog, uid)
    if run.metadata["start"].get("plan_name") in TIP_PLANS:
        return _write(target, read_tip_run(run), _TIP_CONTENTS, tip_page, progress)
    record, named = _with_classes(read_record(catalog, uid))
    return _write(target, record, [*_contents(record), *named], page, progress)


def _write(
    target: Path,
    record: Any,
    plan: Sequence[tuple[str, str, str, Callable[[Any], "Figure"]]],
    write: Callable[[Any, list[Picture], datetime, str], str],
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Draw the figures, and write them and the page."""
    total = len(plan) + 1
    pictures: list[Picture] = []
    for name, title, caption, draw in plan:
        pictures.append(Picture(name, title, caption, png(draw(record))))
        if progress is not None:
            progress(len(pictures), total)
    made = datetime.now().astimezone()
    files = {f"{picture.name}.png": picture.png for picture in pictures}
    # The page goes last: where it is, its figures are.
    files[FILE] = write(record, pictures, made, __version__).encode("utf-8")
    _write_all(target, files)
    if progress is not None:
        progress(total, total)
    return target / FILE


_TIP_CONTENTS = [
    (
        "verdicts",
        "What each check found",
        "Each number relative to what a tip passes with (dashed: no more than that; the height of "
        "the surface state, which has a lower and an upper one, is left out). Green: it passed.",
        verdict_figure,
    ),
    (
        "tip",
        "What the verdicts go by",
        "Image and mean of the spectra of the first check and of the last one.",
        tip_figure,
    ),
]


def _with_classes(record: RunRecord) -> tuple[RunRecord, list[tuple[str, str, str, Draw]]]:
    """Figures on the classes of a run that was classified, or a remark on why there are none."""
    known = record.start.get("classifier")
    if not known or not record.n_spectra:
        return record, []
    from bluesky_gpsts.spectra.registry import load_with_card

    from .class_figures import contents

    model = str(known["model"])
    try:
        classifier, card = load_with_card(model.split("@")[0])
        if card.id != model:
            raise ValueError(f"the model of that name is {card.id} now")
    except ValueError as error:
        remark = f"Its spectra were named by {model}, which is not at hand for figures: {error}."
        return replace(record, remarks=(*record.remarks, remark)), []
    return record, contents(record, classifier, model)


def _contents(record: RunRecord) -> list[tuple[str, str, str, Draw]]:
    """Name, title, caption and function of each figure that this run has."""
    contents: list[tuple[str, str, str, Draw]] = []
    numbered = record.n_spectra <= figures.NUMBERED
    if record.survey is not None or record.n_spectra:
        contents.append(
            (
                "survey",
                "Where the spectra were taken",
                ("Points carry the number of their spectrum. " if numbered else "")
                + "Their colour goes from the first (dark) to the last (bright)."
                + (" Height is relative to its median." if record.survey is not None else ""),
                figures.survey_figure,
            )
        )
    if record.has_map:
        contents.append(
            (
                "map",
                "The map that the Gaussian process drew",
                "Left: posterior mean of the figure of merit, the integral of dI/dV over the "
                "window. Right: its standard deviation. Dots are the spectra.",
                figures.map_figure,
            )
        )
        if record.truth is not None:
            contents.append(
                (
                    "truth",
                    "The map against the truth",
                    "The sample's own figure of merit, the posterior mean on the same colour "
                    f"scale, and their difference. {_agreement(record)}",
                    figures.truth_figure,
                )
            )
        contents.append(_progress_part(record))
    if record.drift:
        contents.append(
            (
                "drift",
                "How far the sample drifted",
                "Left: offset along the piezo's axes at each check, and where the checks before "
                "let it be expected; dotted lines are checks that failed. Right: the first image "
                "and the last.",
                drift_figure,
            )
        )
    if record.references:
        contents.append(
            (
                "tip",
                "Whether the tip stayed as it was",
                "One spectrum of the run and its repetitions, shifted for sight, each marked with "
                "the number of spectra before it; red where it told of another tip. Right: by how "
                "much they differed from the one before, against the threshold; shaded are the "
                "spectra that the run took back.",
                reference_figure,
            )
        )
    if record.n_spectra:
        contents.append(
            (
                "spectra",
                "The spectra",
                "Left: all of them, coloured by figure of merit and averaged over "
                f"{curves.SMOOTHED:.0%} of the bias range. Right: those with the highest, the "
                "middle and the lowest figure of merit, as measured (faint) and averaged likewise. "
                "Shaded: the bias window.",
                curves.spectra_figure,
            )
        )
    if record.has_map:
        contents.append(
            (
                "hyperparameters",
                "What the model learned",
                "Hyperparameters of the Gaussian process after each spectrum: length scales along "
                "the axes of the frame, standard deviation of the signal, and its prior mean.",
                curves.hyperparameters_figure,
            )
        )
    parts = curves.cycle_parts(record)
    if parts and len(parts["rest"]):
        contents.append(
            (
                "time",
                "Where the time went",
                "Left: time of each spectrum by part. Right: the same without the instrument, "
                "that is what the computer added.",
                curves.time_figure,
            )
        )
    return contents


def _progress_part(record: RunRecord) -> tuple[str, str, str, Draw]:
    if record.truth is not None:
        title = "How the map became right"
        caption = (
            "Pearson correlation of the posterior mean with the truth over all candidates, after "
            f"each spectrum; the dashed line is at {curves.GOAL:g}."
        )
    else:
        title = "How the map became certain"
        caption = "Posterior standard deviation, averaged over all candidates, after each spectrum."
    return "progress", title, caption, curves.progress_figure


def _agreement(record: RunRecord) -> str:
    assert record.truth is not None
    mean, _ = record.final_maps
    error = float(np.sqrt(np.nanmean((mean - record.truth) ** 2)))
    return f"The root mean square of the difference is {record.merit_scale(error).show(error)}."


def _cannot_write(folder: Path, error: OSError) -> AnalysisError:
    return AnalysisError(
        f"The report cannot be written to {folder} ({error.strerror or error}); name a folder that "
        "can be written."
    )


def _check_writable(folder: Path) -> None:
    """Fail before the work is done, not after; nothing is left of it, no folder either."""
    try:
        there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        probe = there / f".{FILE}.{os.getpid()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write every file under another name first, so that none is ever there in part."""
    waiting = {name: folder / f".{name}.{os.getpid()}.tmp" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            waiting[name].write_bytes(content)
        for name, temporary in waiting.items():
            os.replace(temporary, folder / name)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
