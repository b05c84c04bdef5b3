"""How plans look at the tip: an image with a step, and spectra on flat places of it."""

from collections.abc import Generator
from dataclasses import dataclass
from inspect import signature
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images import flat_places
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.checks import (
    require_count,
    require_name,
    require_pair,
    require_positive,
    require_within,
)
from bluesky_gpsts.plans.stubs import what_is_missing
from bluesky_gpsts.plans.tiprecords import TipRecord, record_verdict
from bluesky_gpsts.plans.verdict import TipCriteria, TipVerdict, judge_tip

__all__ = [
    "Inspection",
    "arguments_of",
    "columns_of",
    "cover",
    "inspect_tip",
    "inspection",
    "pixels_of",
    "places_of",
    "prepare_inspection",
    "take_image",
    "take_whole_image",
]

_CLEARANCE = 1.5e-9
# The surface state must be well inside a sweep for its onset to be fitted.
_ROOM = 0.25
_FEWEST, _MOST_PIXELS, _MOST_SPECTRA, _MOST_POINTS = 64, 1024, 100, 10_000
# A step, and flat places beside it, must be in view and be resolved.
_WIDTH, _COARSEST = (4e-9, 1e-6), 1e-9
_LINE_TIME, _LONGEST = (1e-3, 60.0), 60.0


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
    pixels = require_count("pixels", pixels, _FEWEST, _MOST_PIXELS)
    if pixels % 16:
        raise ValueError(f"pixels must be a multiple of 16, not {pixels}")
    lines = require_count("lines", lines, _FEWEST, _MOST_PIXELS)
    n_spectra = require_count("n_spectra", n_spectra, 1, _MOST_SPECTRA)
    n_points = require_count("n_points", n_points, _FEWEST, _MOST_POINTS)
    width = require_within("width", width, "m", *_WIDTH)
    coarse = width / min(pixels, lines)
    if coarse > _COARSEST:
        raise ValueError(
            f"a pixel of {coarse:.2g} m, width by pixels or lines, is too coarse for the edge of a "
            f"step; give {_COARSEST:g} m at most"
        )
    line_time = require_within("line_time", line_time, "s", *_LINE_TIME)
    settle = require_within("settle", settle, "s", 1e-3, _LONGEST)
    settling = require_within("settling", settling, "s", 0.0, _LONGEST)
    integration = require_within("integration", integration, "s", 1e-6, _LONGEST)
    modulation = require_positive("modulation", modulation, "V", or_zero=True)
    onset = require_within("onset", onset, "V", -10.0, 10.0)
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
    limits.check("a scan speed", width / line_time, "m/s", 0.0, limits.scan_speed)
    old = stm.scan.frame()
    x, y = (old.x, old.y) if center is None else require_pair("center", center, "m")
    frame = Frame(x, y, width, width, old.angle)
    limits.check_frame(frame, (stm.piezo.range_x.get(), stm.piezo.range_y.get()))
    loaded = None
    if require_name("classifier", classifier):
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


def arguments_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return those of a plan's arguments that `inspection` takes."""
    names = [name for name in signature(inspection).parameters if name != "stm"]
    return {name: given[name] for name in names}


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


def take_whole_image(
    stm: NanonisSTM, frame: Frame, pixels: int, lines: int, line_time: float, stream: str
) -> Generator[Msg, Any, np.ndarray]:
    """Image a frame as `take_image` does.

    Raises
    ------
    RuntimeError
        If an operator has stopped the image; its event is filed.
    """
    image = yield from take_image(stm, frame, pixels, lines, line_time, stream)
    missing = what_is_missing(image)
    if missing:
        raise RuntimeError(f"{missing}; nothing is judged by a part of it, start the plan again")
    return image


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
    image = yield from take_whole_image(
        stm, how.frame, how.pixels, how.lines, how.line_time, "tip_image"
    )
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


def cover(stm: NanonisSTM, frame: Frame, distance: float) -> list[tuple[float, float]]:
    """Points (m, sample coordinates) of a frame, as dense as it takes to keep off all of it."""
    count = max(2, int(np.ceil(max(frame.width, frame.height) / distance)) + 1)
    line = np.linspace(-0.5, 0.5, count)
    u, v = np.meshgrid(line * frame.width, line * frame.height)
    x, y = frame.absolute(u.ravel(), v.ravel())
    dx, dy = stm.tip.offset_x.get(), stm.tip.offset_y.get()
    return [(float(a) - dx, float(b) - dy) for a, b in zip(x, y, strict=True)]


def pixels_of(
    stm: NanonisSTM, frame: Frame, places: list[tuple[float, float]], pixel: float
) -> np.ndarray:
    """Columns and rows (n, 2) of places (m, sample coordinates) in an image of a frame."""
    dx, dy = stm.tip.offset_x.get(), stm.tip.offset_y.get()
    found = []
    for x, y in places:
        ex, ey = x + dx - frame.x, y + dy - frame.y
        cosine, sine = np.cos(np.radians(frame.angle)), np.sin(np.radians(frame.angle))
        u, v = ex * cosine - ey * sine, ex * sine + ey * cosine
        found.append(
            ((u + 0.5 * frame.width) / pixel - 0.5, (0.5 * frame.height - v) / pixel - 0.5)
        )
    return np.array(found).reshape(-1, 2)
