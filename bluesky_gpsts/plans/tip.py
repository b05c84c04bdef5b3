"""A check of the tip, on Au(111)."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images import flat_places
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.checks import (
    require_count,
    require_feedback,
    require_pair,
    require_positive,
)
from bluesky_gpsts.plans.stubs import in_run, plain_errors
from bluesky_gpsts.plans.survey import frame_metadata
from bluesky_gpsts.plans.tiprecords import TipRecord, record_verdict
from bluesky_gpsts.plans.verdict import TipCriteria, TipVerdict, judge_tip

__all__ = [
    "Inspection",
    "check_tip",
    "columns_of",
    "inspect_tip",
    "places_of",
    "prepare_inspection",
]

_CLEARANCE = 1.5e-9
# The surface state must be well inside a sweep for its onset to be fitted.
_ROOM = 0.25


@dataclass(frozen=True)
class Inspection:
    """How a tip is checked: one image, and spectra on flat places of it.

    Attributes
    ----------
    frame : Frame
        Frame of the image (m, degrees), in the piezo's coordinates; a step must cross it.
    pixels, lines : int
        Pixels of the image.
    line_time : float
        Time of a line (s).
    n_spectra, n_points : int
        Number of spectra, and of their points.
    bias_range : (float, float)
        Start and end of the sweeps (V).
    settle, settling, integration : float
        Time for the feedback to settle, to wait and to average at each bias (s).
    modulation : float
        Amplitude of the lock-in (V); 0 leaves it as it is.
    criteria : TipCriteria
        What a tip must show.
    classifier : object or None
        Names the spectra.
    """

    frame: Frame
    pixels: int
    lines: int
    line_time: float
    n_spectra: int
    n_points: int
    bias_range: tuple[float, float]
    settle: float
    settling: float
    integration: float
    modulation: float
    criteria: TipCriteria
    classifier: Any

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel (m)."""
        return self.frame.width / self.pixels, self.frame.height / self.lines


def check_tip(
    stm: NanonisSTM,
    center: Optional[tuple[float, float]] = None,  # noqa: UP045 - the queue server shows it so
    width: float = 30e-9,
    pixels: int = 256,
    lines: int = 128,
    line_time: float = 0.4,
    n_spectra: int = 5,
    n_points: int = 256,
    bias_range: tuple[float, float] = (1.0, -1.0),
    onset: float = -0.48,
    settle: float = 0.5,
    settling: float = 4e-3,
    integration: float = 20e-3,
    modulation: float = 5e-3,
    classifier: str = "",
    md: Optional[dict] = None,  # noqa: UP045
) -> Generator[Msg, Any, TipVerdict]:
    """Tell whether the tip is fit for spectroscopy, from what it shows of Au(111).

    One image, in which a step of one atom's height must be, and spectra on flat places of it. The
    tip passes if the surface state begins where it should, with the height that it should have, on
    a smooth background; if a step is sharp and nothing appears twice; and if the current is quiet.
    The verdict is an event of the stream ``tip``, with its reasons. All settings are put back, and
    the tip goes back to where it was.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its bias and setpoint are used as they are.
    center : tuple of float
        Centre of the image (m, piezo coordinates); that of the scan frame unless given.
    width : float
        Side of the image (m).
    pixels : int
        Pixels of a line; the controller takes multiples of 16.
    lines : int
        Number of lines.
    line_time : float
        Seconds for a line, forward and again backward; a fast tip smears steps out.
    n_spectra : int
        Spectra, each on another flat place.
    n_points : int
        Points of a spectrum.
    bias_range : tuple of float
        Start and end of the sweep (V).
    onset : float
        Where the surface state begins (V).
    settle : float
        Seconds for the feedback to settle before it is held.
    settling : float
        Seconds to wait at each bias.
    integration : float
        Seconds to average at each bias.
    modulation : float
        Amplitude of the lock-in's modulation (V, peak); 0 leaves the lock-in as it is.
    classifier : str
        Name of a model that names the mean spectrum and tells its novelty ("default";
        ``gpsts models`` lists them); none if empty.
    md : dict
        More entries for the start document.

    Returns
    -------
    TipVerdict
        Whether the tip passed, the reasons, and the numbers.

    Raises
    ------
    ValueError
        If an argument is out of range, or the feedback is off; the tip has not moved then.
    """
    arguments: dict[str, Any] = {
        "center": center,
        "width": width,
        "pixels": pixels,
        "lines": lines,
        "line_time": line_time,
        "n_spectra": n_spectra,
        "n_points": n_points,
        "bias_range": bias_range,
        "onset": onset,
        "settle": settle,
        "settling": settling,
        "integration": integration,
        "modulation": modulation,
        "classifier": classifier,
    }
    how = inspection(stm, **arguments)
    require_feedback(stm)
    record = TipRecord(name="tip_record")
    verdicts: list[TipVerdict] = []
    metadata = {
        "plan_name": "check_tip",
        "plan_args": arguments,
        "detectors": [stm.scan.name, stm.spectroscopy.name],
        "instrument": stm.name,
        "frame": frame_metadata(stm),
        "columns": columns_of(stm),
        "hints": {"dimensions": [(["time"], "tip")]},
        **(md or {}),
    }

    @bpp.stage_decorator([stm])
    def staged() -> Generator[Msg, Any, TipVerdict]:
        yield from plain_errors(prepare_inspection(stm, how))
        yield from in_run(plain_errors(look()), metadata)
        return verdicts[0]

    def look() -> Generator[Msg, Any, str]:
        origin = stm.tip.where()
        verdict = yield from inspect_tip(stm, how, record)
        verdicts.append(verdict)
        yield from bps.mv(stm.tip, origin)
        return "the tip is fit" if verdict.passed else "; ".join(verdict.reasons)

    return (yield from staged())


def inspection(
    stm: NanonisSTM,
    *,
    center: tuple[float, float] | None,
    width: float,
    pixels: int,
    lines: int,
    line_time: float,
    n_spectra: int,
    n_points: int,
    bias_range: tuple[float, float],
    onset: float,
    settle: float,
    settling: float,
    integration: float,
    modulation: float,
    classifier: str,
) -> Inspection:
    """Check the arguments of a plan that inspects the tip; nothing is written.

    Raises
    ------
    ValueError
        If one is out of range.
    """
    require_count("pixels", pixels, 64)
    if pixels % 16:
        raise ValueError(f"pixels must be a multiple of 16, not {pixels}")
    require_count("lines", lines, 64)
    require_count("n_spectra", n_spectra, 1)
    require_count("n_points", n_points, 64)
    for what, value, unit in (
        ("width", width, "m"),
        ("line_time", line_time, "s"),
        ("settle", settle, "s"),
        ("integration", integration, "s"),
    ):
        require_positive(what, value, unit)
    require_positive("settling", settling, "s", or_zero=True)
    require_positive("modulation", modulation, "V", or_zero=True)
    first, last = require_pair("bias_range", bias_range, "V")
    low, high = sorted((first, last))
    if not (low < onset - _ROOM and high > onset + _ROOM):
        raise ValueError(
            f"bias_range {first:g} to {last:g} V must hold the surface state at {onset:g} V and "
            f"{_ROOM:g} V on either side of it"
        )
    limits = stm.instrument_limits
    for bias in (first, last):
        limits.check_bias(bias)
    limits.check("a modulation", modulation, "V", 0.0, limits.modulation)
    old = stm.scan.frame()
    x, y = (old.x, old.y) if center is None else require_pair("center", center, "m")
    frame = Frame(x, y, width, width, old.angle)
    limits.check_frame(frame, (stm.piezo.range_x.get(), stm.piezo.range_y.get()))
    loaded = None
    if classifier:
        from bluesky_gpsts.spectra.registry import load

        loaded = load(classifier)
    return Inspection(
        frame=frame,
        pixels=pixels,
        lines=lines,
        line_time=line_time,
        n_spectra=n_spectra,
        n_points=n_points,
        bias_range=(first, last),
        settle=settle,
        settling=settling,
        integration=integration,
        modulation=modulation,
        criteria=TipCriteria(onset=onset),
        classifier=loaded,
    )


def columns_of(stm: NanonisSTM) -> dict[str, str]:
    """Names of the data keys of a check, for the start document."""
    scan, sts = stm.scan, stm.spectroscopy
    signals = {
        "forward": scan.forward,
        "backward": scan.backward,
        "bias": sts.bias,
        "current": sts.current,
        "didv": sts.didv,
        "x": stm.tip.x,
        "y": stm.tip.y,
    }
    return {name: signal.name for name, signal in signals.items()}


def prepare_inspection(stm: NanonisSTM, how: Inspection) -> Generator[Msg, Any, None]:
    """Set the spectroscopy up."""
    sts = stm.spectroscopy
    for signal, value in (
        (sts.start, how.bias_range[0]),
        (sts.end, how.bias_range[1]),
        (sts.points, how.n_points),
        (sts.sweeps, 1),
        (sts.z_averaging, how.settle),
        (sts.settling, how.settling),
        (sts.integration, how.integration),
    ):
        yield from bps.mv(signal, value)
    if how.modulation:
        yield from bps.mv(stm.lock_in.amplitude, how.modulation)
        yield from bps.mv(stm.lock_in.on, 1)
    sts.check()


def take_image(
    stm: NanonisSTM, frame: Frame, pixels: int, lines: int, line_time: float, stream: str
) -> Generator[Msg, Any, np.ndarray]:
    """Image a frame (m, degrees), as an event of a stream; returns the forward image (m)."""
    scan = stm.scan
    # The frame goes first, for the speed of a line depends on its length.
    yield from bps.mv(scan, frame)
    for signal, value in (
        (scan.pixels, pixels),
        (scan.lines, lines),
        (scan.line_time, line_time),
        (scan.line_time_backward, line_time),
    ):
        yield from bps.mv(signal, value)
    yield from bps.checkpoint()
    yield from bps.trigger(scan, wait=True)
    yield from bps.create(name=stream)
    yield from bps.read(scan)
    yield from bps.save()
    yield from bps.checkpoint()
    image = yield from bps.rd(scan.forward)
    return np.asarray(image, dtype=float)


def places_of(
    stm: NanonisSTM, frame: Frame, shape: tuple[int, int], pixels: np.ndarray
) -> list[tuple[float, float]]:
    """Positions (m) of the tip, sample coordinates, at columns and rows (n, 2) of an image."""
    lines, columns = shape
    u = ((pixels[:, 0] + 0.5) / columns - 0.5) * frame.width
    v = (0.5 - (pixels[:, 1] + 0.5) / lines) * frame.height
    x, y = frame.absolute(u, v)
    dx, dy = stm.tip.offset_x.get(), stm.tip.offset_y.get()
    return [(float(a) - dx, float(b) - dy) for a, b in zip(x, y, strict=True)]


def inspect_tip(
    stm: NanonisSTM, how: Inspection, record: TipRecord
) -> Generator[Msg, Any, TipVerdict]:
    """Take the image and the spectra, and judge."""
    sts = stm.spectroscopy
    image = yield from take_image(stm, how.frame, how.pixels, how.lines, how.line_time, "tip_image")
    flat = flat_places(image, how.pixel, _CLEARANCE, how.n_spectra)
    axis, curves, currents = np.zeros(0), [], []
    for place in places_of(stm, how.frame, (how.lines, how.pixels), flat):
        yield from bps.mv(stm.tip, place)
        yield from bps.trigger(sts, wait=True)
        yield from bps.create(name="tip_spectra")
        yield from bps.read(sts)
        yield from bps.read(stm.tip)
        yield from bps.save()
        yield from bps.checkpoint()
        axis = np.asarray((yield from bps.rd(sts.bias)))
        curves.append(np.asarray((yield from bps.rd(sts.didv))))
        currents.append(np.asarray((yield from bps.rd(sts.current))))
    verdict = judge_tip(
        axis, np.array(curves), np.array(currents), image, how.pixel, how.criteria, how.classifier
    )
    yield from record_verdict(record, verdict)
    return verdict
