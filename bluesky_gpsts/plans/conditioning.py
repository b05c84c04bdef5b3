"""Making a bad tip a good one, by gentle contact with clean metal or by pulses."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images import flat_places, register
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.checks import (
    plain,
    require_count,
    require_feedback,
    require_metadata,
    require_name,
    require_pair,
    require_positive,
    require_within,
)
from bluesky_gpsts.plans.inspection import (
    Inspection,
    arguments_of,
    columns_of,
    cover,
    inspect_tip,
    inspection,
    pixels_of,
    places_of,
    prepare_inspection,
    take_image,
    take_whole_image,
)
from bluesky_gpsts.plans.safety import conditioning
from bluesky_gpsts.plans.stubs import in_run, plain_errors
from bluesky_gpsts.plans.survey import frame_metadata
from bluesky_gpsts.plans.tiprecords import ReturnRecord, TipRecord
from bluesky_gpsts.plans.treatments import Treatment, ladder, look_at_imprint, treat
from bluesky_gpsts.plans.verdict import TipVerdict, alike, same_echo

__all__ = ["Conditioned", "condition_tip"]

_CLEARANCE = 3e-9
_PIXELS = 128
_MOST, _AREA, _LEAST = 1000, (15e-9, 1e-6), 1e-9
# The scan frame is kept off point by point, so many along each side at most.
_DENSEST = 200


@dataclass(frozen=True)
class Conditioned:
    """What became of a tip.

    Attributes
    ----------
    passed : bool
        Whether it is fit now.
    reason : str
        Why it ended.
    attempts : int
        Indentations and pulses.
    verdict : TipVerdict
        The last verdict.
    dx, dy : float
        How far the frame had moved (m) when it was found again, piezo coordinates; NaN if it
        was not.
    """

    passed: bool
    reason: str
    attempts: int
    verdict: TipVerdict
    dx: float
    dy: float


def condition_tip(
    stm: NanonisSTM,
    keep_away: Optional[list] = None,  # noqa: UP045 - the queue server shows it as optional
    distance: float = 10e-9,
    attempts: int = 15,
    method: str = "indentation",
    depths: tuple[float, float] = (0.9e-9, 1.5e-9),
    pulses: tuple[float, float] = (2.8, 4.0),
    pulse_width: float = 0.05,
    center: Optional[tuple[float, float]] = None,  # noqa: UP045
    area: float = 60e-9,
    width: float = 34e-9,
    pixels: int = 288,
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
) -> Generator[Msg, Any, Conditioned]:
    """Touch clean metal gently, or pulse the bias, until the tip passes `check_tip`.

    Forbidden unless the limits of the instrument allow it. Places are chosen from an image of the
    area: flat, without steps and adsorbates, away from the scan frame and from what is to be kept
    away from, and each is used once. The treatments go from mild to strong, and a stronger one is
    taken only after one that did not change the tip. After each the tip is checked, and if it
    passes, what it left on the metal is imaged, which would appear twice under a double tip. It
    ends with a tip that passes, when the attempts or the places or the hour's count are used up, or
    when no step is in view, without which no tip can pass. Then the tip goes back, and the
    scan frame is imaged and registered with what it was before: the tip's offset follows what it
    has moved by, for the foremost atom of another tip is elsewhere. Where the images cannot be
    registered, the offset stays, and the stream ``return`` says so.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its scan frame, bias and setpoint are used as they are.
    keep_away : list
        Pairs (x, y) of sample coordinates (m) to keep away from, besides the scan frame.
    distance : float
        How far to keep from them and from the scan frame (m).
    attempts : int
        Most indentations and pulses.
    method : str
        "indentation", "pulse" or "both" in turns.
    depths : tuple of float
        First and last depth (m) of an indentation, from where the tip hangs over the sample, which
        it touches after 0.5 to 1 nm.
    pulses : tuple of float
        First and last bias of a pulse (V).
    pulse_width : float
        Seconds of a pulse.
    center : tuple of float
        Centre of the area and of the images that check the tip (m, piezo coordinates); that of
        the scan frame unless given. A step must be within `width` of it.
    area : float
        Side (m) of the area in which places are looked for.
    width : float
        Side (m) of the images that check the tip.
    pixels : int
        Pixels of their lines.
    lines : int
        Number of their lines.
    line_time : float
        Seconds for a line, forward and again backward.
    n_spectra : int
        Spectra of a check.
    n_points : int
        Points of a spectrum.
    bias_range : tuple of float
        Start and end of the sweeps (V).
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
        Name of a model that names the spectra; none if empty.
    md : dict
        More entries for the start document.

    Returns
    -------
    Conditioned
        Whether the tip is fit now, why it ended, and the last verdict.

    Raises
    ------
    ValueError
        If an argument is out of range, the limits forbid what is asked for, or the feedback is
        off; the tip has not moved then.
    TipWithdrawn
        If the controller's safe tip withdraws the tip.
    """
    given = {name: value for name, value in locals().items() if name not in ("stm", "md")}
    how, more = inspection(stm, **arguments_of(given)), require_metadata(md)
    attempts = require_count("attempts", attempts, 1, _MOST)
    area = require_within("area", area, "m", *_AREA)
    frame = stm.scan.frame()
    least = max(_LEAST, max(frame.width, frame.height) / _DENSEST)
    distance = require_within("distance", distance, "m", least, 1e-6)
    pulse_width = require_positive("pulse_width", pulse_width, "s")
    deep = require_pair("depths", depths, "m")
    high = require_pair("pulses", pulses, "V")
    treatments = ladder(require_name("method", method), deep, high)
    for treatment in treatments:
        if treatment.bias:
            stm.instrument_limits.check_pulse(treatment.bias, pulse_width)
        else:
            stm.instrument_limits.check_depth(treatment.depth)
    if any(treatment.depth for treatment in treatments):
        _require_no_safe_tip(stm)
    stm.gate.check_count()
    away = _places(keep_away)
    ground = Frame(how.frame.x, how.frame.y, area, area, how.frame.angle)
    reach = stm.piezo.range_x.get(), stm.piezo.range_y.get()
    stm.instrument_limits.check_frame(ground, reach)
    require_feedback(stm)
    metadata = {
        "plan_name": "condition_tip",
        "plan_args": {**given, "keep_away": away},
        "detectors": [stm.scan.name, stm.spectroscopy.name],
        "instrument": stm.name,
        "frame": frame_metadata(stm),
        "columns": columns_of(stm),
        "hints": {"dimensions": [(["time"], "tip")]},
        **more,
    }
    results: list[Conditioned] = []

    @bpp.stage_decorator([stm])
    def staged() -> Generator[Msg, Any, Conditioned]:
        yield from plain_errors(prepare_inspection(stm, how))
        yield from bps.mv(stm.pulse.width, pulse_width)
        yield from in_run(plain_errors(work()), plain(metadata))
        return results[0]

    def work() -> Generator[Msg, Any, str]:
        origin = stm.tip.where()
        before = yield from take_whole_image(stm, frame, _PIXELS, _PIXELS, line_time, "frame")
        record = TipRecord(name="tip_record")
        verdict, done, why = yield from _attempts(
            stm, how, record, treatments, attempts, ground, frame, away, distance
        )
        yield from bps.mv(stm.tip, origin)
        after = yield from take_image(stm, frame, _PIXELS, _PIXELS, line_time, "frame")
        moved = yield from _find_again(stm, frame, before, after)
        yield from bps.mv(stm.tip, origin)
        results.append(Conditioned(verdict.passed, why, done, verdict, *moved))
        return why

    return (yield from conditioning(staged(), stm))


def _require_no_safe_tip(stm: NanonisSTM) -> None:
    """Refuse indentations that the safe tip would take for a crash, before an hour of images."""
    if stm.instrument_limits.safe_tip:
        raise ValueError(
            "indentations are refused: the limits require the controller's safe tip for every "
            "measurement (safe_tip = true), and it would take the contact for a crash and "
            "withdraw; give method='pulse', or limits with safe_tip = false and switch the safe "
            "tip off at the controller"
        )
    if stm.safe_tip.on.get():
        raise ValueError(
            "indentations are refused: the controller's safe tip is on, which would take the "
            "contact for a crash and withdraw; switch it off at the controller, or give "
            "method='pulse'"
        )


def _places(keep_away: Any) -> list[tuple[float, float]]:
    """Return the places (m) of a plan's argument, none for None, or raise ValueError."""
    if keep_away is None:
        return []
    if not isinstance(keep_away, list | tuple):
        raise ValueError(f"keep_away must be a list of pairs (x, y), in m, not {keep_away!r}")
    return [
        require_pair("a place of keep_away", list(p) if isinstance(p, np.ndarray) else p, "m")
        for p in keep_away
    ]


def _attempts(
    stm: NanonisSTM,
    how: Inspection,
    record: TipRecord,
    treatments: tuple[Treatment, ...],
    attempts: int,
    ground: Frame,
    frame: Frame,
    away: list[tuple[float, float]],
    distance: float,
) -> Generator[Msg, Any, tuple[TipVerdict, int, str]]:
    """Check and treat the tip in turns; returns the last verdict, the attempts, why it ended."""
    verdict = yield from inspect_tip(stm, how, record)
    if verdict.passed:
        return verdict, 0, "the tip is fit as it is"
    if not verdict.sees_step:
        why = "no step edge is in view, without which no tip can pass"
        return verdict, 0, why
    image = yield from take_whole_image(stm, ground, _PIXELS, _PIXELS, how.line_time, "area")
    pixel = ground.width / _PIXELS
    taboo = pixels_of(stm, ground, [*cover(stm, frame, distance), *away], pixel)
    flat = flat_places(image, (pixel, pixel), _CLEARANCE, attempts, taboo, distance)
    places = places_of(stm, ground, image.shape, flat)
    if not places:
        why = "no flat place far enough from what is of interest is in view"
        return verdict, 0, why
    step, found = 0, [verdict]
    for number, place in enumerate(places, 1):
        limit = stm.instrument_limits.conditioning_per_hour
        if stm.gate.conditioned >= limit:
            why = f"the hour's count of {limit} is used up"
            return verdict, number - 1, why
        treatment = treatments[step]
        yield from treat(stm, treatment, place)
        yield from bps.mv(record.attempt, number, record.action, treatment.text)
        yield from bps.mv(record.x, place[0], record.y, place[1])
        last = verdict
        verdict = yield from inspect_tip(stm, how, record)
        found.append(verdict)
        if verdict.passed or same_echo(verdict, found[:-1], how.criteria):
            verdict = yield from look_at_imprint(stm, how, record, place, verdict)
        if verdict.passed:
            why = f"the tip is fit after {treatment.text}, attempt {number}"
            return verdict, number, why
        if alike(last, verdict):
            step = min(step + 1, len(treatments) - 1)
    spent = "attempts" if len(places) == attempts else "flat places"
    return verdict, len(places), f"the {len(places)} {spent} are used up"


def _find_again(
    stm: NanonisSTM, frame: Frame, before: np.ndarray, after: np.ndarray
) -> Generator[Msg, Any, tuple[float, float]]:
    """Register a frame with what it was, move the tip's offset, tell in the stream ``return``.

    Returns how far it moved (m, piezo coordinates); NaN where that cannot be told, as with a tip
    that was too bad before, and then the offset stays.
    """
    shift = register(before, after)
    record = ReturnRecord(name="return_record")
    dx, dy = float("nan"), float("nan")
    if shift.ok:
        u = shift.dx * frame.width / before.shape[1]
        v = -shift.dy * frame.height / before.shape[0]
        x, y = frame.absolute(u, v)
        dx, dy = float(x) - frame.x, float(y) - frame.y
        yield from bps.mv(stm.tip.offset_x, stm.tip.offset_x.get() + dx)
        yield from bps.mv(stm.tip.offset_y, stm.tip.offset_y.get() + dy)
    yield from bps.mv(record.dx, dx, record.dy, dy, record.confidence, shift.confidence)
    yield from bps.mv(record.ok, float(shift.ok), record.reason, shift.reason)
    yield from bps.create(name="return")
    yield from bps.read(record)
    yield from bps.save()
    return dx, dy
