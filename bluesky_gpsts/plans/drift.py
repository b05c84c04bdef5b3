"""Drift checks between spectra, so that each lands where it was meant.

The sample frame of a run is where the piezo sees the sample at the first image, the reference. A
check takes the same image again, finds how far the surface went, and teaches a `DriftModel`; until
the next check the model tells where the sample is. ``stm.tip`` adds that offset to every position.
"""

import logging
import math
from collections.abc import Generator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import numpy.typing as npt
from bluesky.utils import Msg

from bluesky_gpsts.devices import LimitError, NanonisSTM
from bluesky_gpsts.images import Shift, flatten_lines, register
from bluesky_gpsts.images.rowjumps import row_jumps
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.driftchecks import DriftChecks
from bluesky_gpsts.plans.records import DriftRecord
from bluesky_gpsts.plans.stubs import off_loop, what_is_missing
from bluesky_gpsts.plans.whereabouts import Whereabouts

__all__ = ["DriftWatch"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

# Uncertainty (m) of the height of an image.
_HEIGHT = 3e-12
# Part of the frame's size by which creep after earlier moves shifts an image, whatever the drift.
_CREEP = 0.005
# Pixels to search on either side of where the surface is expected, or so many deviations.
_NEAR, _DEVIATIONS = 8, 5.0
# Two aligned images agree less than so much of what is usual: something else was found.
_UNLIKE = 0.8
# Two places in a larger image rival if their residual variances are within this factor.
_RIVAL = 1.2
_LARGER = 2
# The first check comes after this part of the spectra from one check to the next.
_FIRST = 4


@dataclass(frozen=True)
class _Image:
    """An image (m), of which frame it is, and the time (s) of its middle."""

    image: FloatArray
    frame: Frame
    seconds: float

    @property
    def height(self) -> float:
        """Height (m) of the surface."""
        return float(np.nanmedian(self.image))


class DriftWatch:
    """Follows the sample through a run; the methods that return generators are plan stubs.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope.
    checks : DriftChecks
        When and how.
    executor : concurrent.futures.Executor
        Where images are compared.
    """

    def __init__(self, stm: NanonisSTM, checks: DriftChecks, executor: Executor) -> None:
        self.stm, self.checks = stm, checks
        self._executor = executor
        frame = stm.scan.frame()
        size = checks.size
        self._frame = replace(frame, width=size, height=size) if size else frame
        limits, piezo = stm.instrument_limits, stm.piezo
        limits.check_frame(self._frame, (piezo.range_x.get(), piezo.range_y.get()))
        limits.check("a line time", checks.line_time, "s", 1e-3, 1e4)
        speed = self._frame.width / checks.line_time
        limits.check("a scan speed of the drift checks", speed, "m/s", 0.0, limits.scan_speed)
        self._record = DriftRecord(name="drift")
        self._reference: FloatArray | None = None
        self._height = 0.0
        self._where = Whereabouts.at(0.0)
        self._sure = 0.0
        self._usual: list[float] = []
        self._chances = 2 if checks.compensate else 0
        self._last = 0
        # Of the last check: lines that jump, and whether its image looked unlike the first one.
        self.jumps, self.unlike = 0, False

    @property
    def pixel(self) -> FloatArray:
        """Width and height of a pixel (m)."""
        return np.array([self._frame.width, self._frame.height]) / self.checks.pixels

    # ------------------------------------------------------------ what a plan calls

    def begin(self) -> Generator[Msg, Any, None]:
        """Take the reference image; the sample frame is that of now."""
        yield from self._settings()
        check = yield from self._look(self._frame, self.checks.pixels)
        missing = what_is_missing(check.image)
        if missing:
            raise RuntimeError(f"{missing}; every drift check needs it, start the plan again")
        self._reference = check.image
        self._height = check.height
        self._where = Whereabouts.at(check.seconds)
        yield from self._file(check, None, 0, "reference image")

    def follow(self, taken: int, duration: float) -> Generator[Msg, Any, str]:
        """Check the drift if it is time, and aim the tip at where the sample will be.

        Parameters
        ----------
        taken : int
            Spectra so far.
        duration : float
            How long the next one takes (s).

        Returns
        -------
        str
            Why the spectra since the check before may be misplaced; "" if they are not.
        """
        doubt = ""
        every = self.checks.every
        if not self._where.checks:
            # Until the first check nothing is known of how fast the sample drifts.
            every = -(-every // _FIRST)
        due = taken - self._last >= every
        if not due and taken > self._last:
            # Right after a check it is as certain as further checks can make it.
            limit = max(self.checks.limit * float(self.pixel.min()), 1.5 * self._sure)
            due = self._where.deviation(self._now()) > limit
        if due:
            doubt = yield from self.check(taken)
        aim = self._where.offset(self._now() + 0.5 * duration)
        tip = self.stm.tip
        yield from bps.mv(tip.offset_x, aim[0], tip.offset_y, aim[1])
        return doubt

    @property
    def last(self) -> int:
        """Spectra that had been taken at the last check."""
        return self._last

    def end(self) -> Generator[Msg, Any, None]:
        """Let sample and piezo coordinates be the same again, as the next run expects."""
        yield from bps.mv(self.stm.tip.offset_x, 0.0, self.stm.tip.offset_y, 0.0)

    # ------------------------------------------------------------ a check

    def check(self, taken: int) -> Generator[Msg, Any, str]:
        """Look where the sample is, after `taken` spectra; returns what `follow` does."""
        self.unlike = False
        while True:
            for attempt in range(1 + self.checks.retries):
                check, shift = yield from self._compare(wide=attempt > 0)
                if shift.ok:
                    break
                last = attempt == self.checks.retries
                action = "larger image" if last else "image again"
                yield from self._file(check, shift, taken, action)
            if not shift.ok:
                check, shift = yield from self._larger(check, shift, taken)
            if shift.ok:
                break
            logger.warning(
                "The drift cannot be told: %s. The plan is paused; resume to try again, or stop.",
                shift.reason,
            )
            yield from bps.pause()
        self._last = taken
        return (yield from self._learn(check, shift, taken))

    def _compare(self, wide: bool) -> Generator[Msg, Any, tuple[_Image, Shift]]:
        """Take an image where the sample should be, and find it in there."""
        now = self._now()
        check = yield from self._look(self._expected_frame(now), self.checks.pixels)
        deviation = self._where.deviation(now) / float(self.pixel.min())
        most = self.checks.pixels // 2
        near = most if wide else min(max(_NEAR, math.ceil(_DEVIATIONS * deviation)), most)
        shift = yield from self._registered(check.image, near)
        if shift.ok and not wide and self._usual:
            usual = float(np.median(self._usual))
            if shift.correlation < _UNLIKE * usual:
                reason = f"the images agree to {shift.correlation:.2f}, as a rule to {usual:.2f}"
                shift = replace(shift, ok=False, reason=reason)
                self.unlike = True
        missing = what_is_missing(check.image)
        return check, replace(shift, ok=False, reason=missing) if missing else shift

    def _larger(
        self, before: _Image, failed: Shift, taken: int
    ) -> Generator[Msg, Any, tuple[_Image, Shift]]:
        """Look at a larger frame, in which the features may be found again."""
        frame = self._expected_frame(self._now())
        frame = replace(frame, width=_LARGER * frame.width, height=_LARGER * frame.height)
        try:
            check = yield from self._look(frame, _LARGER * self.checks.pixels)
        except LimitError as error:
            reason = f"{failed.reason}, and of a larger image: {error}"
            return before, replace(failed, reason=reason)
        yield from self._settings()
        shift = yield from self._found_in(check.image)
        if not shift.ok:
            yield from self._file(check, shift, taken, "pause")
        return check, shift

    def _found_in(self, image: FloatArray) -> Generator[Msg, Any, Shift]:
        """Find the reference in a larger image, part by part."""
        size = self.checks.pixels
        margin = (len(image) - size) // 2
        step = size // 4
        found = []
        for row in range(0, len(image) - size + 1, step):
            for column in range(0, len(image) - size + 1, step):
                part = image[row : row + size, column : column + size]
                shift = yield from self._registered(part, step)
                dx, dy = shift.dx + column - margin, shift.dy + row - margin
                found.append(replace(shift, dx=dx, dy=dy, alternatives=()))
        good = sorted((s for s in found if s.ok), key=lambda s: -s.correlation)
        if not good:
            best = max(found, key=lambda s: s.confidence)
            return replace(best, reason=f"in a larger image, too: {best.reason}")
        best = good[0]
        for other in good[1:]:
            apart = math.hypot(other.dx - best.dx, other.dy - best.dy)
            if apart > 2.0 and 1.0 - other.correlation**2 < _RIVAL * (1.0 - best.correlation**2):
                reason = f"in a larger image it is found in two places, {apart:.0f} pixels apart"
                return replace(best, ok=False, reason=reason)
        return best

    def _registered(self, image: FloatArray, most: int) -> Generator[Msg, Any, Shift]:
        assert self._reference is not None
        method: Any = self.checks.method
        patch: dict[str, Any] = {}
        if self.checks.feature:
            patch = {"center": "feature", "reach": max(16, self.checks.pixels // 3)}
        work = partial(register, self._reference, image, method=method, max_shift=most, **patch)
        return (yield from off_loop(self._executor, work))

    def _expected_frame(self, t: float) -> Frame:
        x, y, _ = self._where.offset(t)
        return replace(self._frame, x=self._frame.x + x, y=self._frame.y + y)

    def _look(self, frame: Frame, pixels: int) -> Generator[Msg, Any, _Image]:
        scan = self.stm.scan
        yield from bps.checkpoint()
        if pixels != self.checks.pixels:
            yield from bps.mv(scan.pixels, pixels)
            yield from bps.mv(scan.lines, pixels)
        yield from bps.abs_set(scan, frame, wait=True)
        yield from bps.trigger(scan, wait=True)
        raw = yield from bps.rd(scan.forward)
        seconds = self._now() - 0.5 * scan.check()
        yield from bps.checkpoint()
        return _Image(np.asarray(raw, dtype=float), frame, seconds)

    def _settings(self) -> Generator[Msg, Any, None]:
        scan, checks = self.stm.scan, self.checks
        for signal, value in (
            (scan.pixels, checks.pixels),
            (scan.lines, checks.pixels),
            (scan.line_time, checks.line_time),
            (scan.line_time_backward, checks.line_time),
        ):
            yield from bps.mv(signal, value)

    def _learn(self, check: _Image, shift: Shift, taken: int) -> Generator[Msg, Any, str]:
        """Take a good check in, and let the controller follow if it shall."""
        doubt = ""
        now, place, sigma = check.seconds, self._place(check, shift), self._sigma(shift)
        predicted = self._where.offset(now)
        useless = self._where.useless(now, place, sigma)
        self._where, action = self._where.measured(now, place, sigma)
        if action != "offset measured":
            doubt = f"the sample was {action}"
            logger.warning("Drift check: %s. Spectra since the last one may be misplaced.", doubt)
        self._sure = self._where.deviation(now)
        self._usual.append(shift.correlation)
        if self._chances:
            # A turn of the drift looks like a wrong sign once, but not twice.
            self._chances -= useless
            wanted = np.zeros(3) if useless else self._where.wanted(now)
            if useless:
                action += "; compensation off, as the residual did not shrink"
            elif wanted.any():
                action += "; compensated"
            yield from bps.abs_set(self.stm.piezo, tuple(wanted.tolist()), wait=True)
            self._where = self._where.compensated(self._now(), wanted, place)
        yield from self._file(check, shift, taken, action, predicted)
        return doubt

    def _file(
        self,
        check: _Image,
        shift: Shift | None,
        taken: int,
        action: str,
        predicted: FloatArray | None = None,
    ) -> Generator[Msg, Any, None]:
        """Write an image and what was found into the run; the reference has no shift."""
        record, where = self._record, self._where
        # A part of an image may be too small to be searched for jumps, and is taken again anyway.
        self.jumps = 0 if what_is_missing(check.image) else len(row_jumps(check.image))
        sigma = np.full(3, math.nan) if shift is None else self._sigma(shift)
        place = np.zeros(3) if shift is None else self._place(check, shift)
        if predicted is None:
            predicted = where.offset(check.seconds)
        velocity = where.drift_velocity(check.seconds)
        values = {
            record.jumps: float(self.jumps),
            record.image: flatten_lines(check.image),
            record.primary_seq_num: float(taken),
            record.seconds: check.seconds,
            record.center_x: check.frame.x,
            record.center_y: check.frame.y,
            record.offset_x: place[0],
            record.offset_y: place[1],
            record.offset_z: place[2],
            record.sigma_x: sigma[0],
            record.sigma_y: sigma[1],
            record.predicted_x: predicted[0],
            record.predicted_y: predicted[1],
            record.velocity_x: velocity[0],
            record.velocity_y: velocity[1],
            record.velocity_z: velocity[2],
            record.compensated_x: where.velocity[0],
            record.compensated_y: where.velocity[1],
            record.compensated_z: where.velocity[2],
            record.confidence: math.nan if shift is None else shift.confidence,
            record.ok: int(shift is None or shift.ok),
            record.reason: "" if shift is None else shift.reason,
            record.action: action,
        }
        for signal, value in values.items():
            yield from bps.mv(signal, value)
        same = len(check.image) == self.checks.pixels
        yield from bps.create(name="drift" if same else "drift_larger")
        yield from bps.read(record)
        yield from bps.save()
        yield from bps.checkpoint()

    # ------------------------------------------------------------ where things are

    def _now(self) -> float:
        return self.stm.clock()

    def _place(self, check: _Image, shift: Shift) -> FloatArray:
        """Offset (m) that an image tells."""
        u, v = (shift.dx, -shift.dy) * self.pixel
        turned = replace(self._frame, x=0.0, y=0.0).absolute(u, v)
        x, y = (float(part) for part in turned)
        x, y = x + check.frame.x - self._frame.x, y + check.frame.y - self._frame.y
        return np.array([x, y, check.height - self._height])

    def _sigma(self, shift: Shift) -> FloatArray:
        angle = math.radians(self._frame.angle)
        creep = _CREEP * max(self._frame.width, self._frame.height)
        along = (np.array([shift.sigma_x, shift.sigma_y]) * self.pixel) ** 2 + creep**2
        if not np.isfinite(along).all():  # nothing was found
            return np.array([math.inf, math.inf, _HEIGHT])
        share = math.cos(angle) ** 2
        x, y = share * along + (1.0 - share) * along[::-1]
        return np.sqrt(np.array([x, y, _HEIGHT**2]))
