"""The survey image that an experiment starts from."""

import logging
from collections.abc import Generator
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images import flatten_lines
from bluesky_gpsts.plans.checks import (
    plain,
    require_count,
    require_feedback,
    require_metadata,
    require_positive,
)
from bluesky_gpsts.plans.records import SurveyRecord
from bluesky_gpsts.plans.stubs import plain_errors, run_of, what_is_missing

__all__ = ["frame_metadata", "survey"]

logger = logging.getLogger(__name__)


def frame_metadata(stm: NanonisSTM) -> dict[str, float]:
    """Scan frame as the start document holds it (m, degrees)."""
    frame = stm.scan.frame()
    return {
        "center_x": frame.x,
        "center_y": frame.y,
        "width": frame.width,
        "height": frame.height,
        "angle": frame.angle,
    }


def survey(
    stm: NanonisSTM,
    pixels: int = 128,
    lines: int = 128,
    line_time: float = 0.3,
    md: Optional[dict] = None,  # noqa: UP045 - the queue server shows it as optional
) -> Generator[Msg, Any, str]:
    """Image the scan frame at constant current, and correct its tilt line by line.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its scan frame, bias and setpoint are used as they are.
    pixels : int
        Pixels of a line; the controller takes multiples of 16.
    lines : int
        Number of lines.
    line_time : float
        Seconds for a line, forward and again backward.
    md : dict
        More entries for the start document.

    Returns
    -------
    str
        Uid of the run, to be handed to `gp_sts` as its ``survey``.

    Raises
    ------
    ValueError
        If an argument is out of range, or the frame out of the piezo's reach; the tip has not
        moved then.
    """
    pixels = require_count("pixels", pixels, 16)
    lines = require_count("lines", lines, 1)
    line_time = require_positive("line_time", line_time, "s")
    more = require_metadata(md)
    if pixels % 16:
        raise ValueError(f"pixels must be a multiple of 16, not {pixels}")
    stm.scan.check()
    require_feedback(stm)
    record = SurveyRecord(name="survey_record")
    scan = stm.scan
    metadata = {
        "plan_name": "survey",
        "plan_args": {"pixels": pixels, "lines": lines, "line_time": line_time},
        "detectors": [scan.name],
        "instrument": stm.name,
        "frame": frame_metadata(stm),
        # Without it BestEffortCallback looks for a motor, and then in every later run too.
        "hints": {"dimensions": [(["time"], "survey")]},
        "columns": {
            "forward": scan.forward.name,
            "backward": scan.backward.name,
            "topography": record.topography.name,
        },
        **more,
    }

    @bpp.stage_decorator([stm])
    def staged() -> Generator[Msg, Any, str]:
        yield from plain_errors(prepare())
        uid, reason = yield from run_of(plain_errors(image()), plain(metadata))
        if reason:
            logger.warning("survey %s: %s", uid, reason)
        return uid

    def prepare() -> Generator[Msg, Any, None]:
        # One after the other, so that the first error is the one that is told.
        yield from bps.mv(scan.pixels, pixels)
        yield from bps.mv(scan.lines, lines)
        yield from bps.mv(scan.line_time, line_time)
        yield from bps.mv(scan.line_time_backward, line_time)

    def image() -> Generator[Msg, Any, str]:
        yield from bps.checkpoint()
        yield from bps.trigger(scan, wait=True)
        raw = yield from bps.rd(scan.forward)
        yield from bps.mv(record.topography, flatten_lines(np.asarray(raw)))
        yield from bps.create(name="survey")
        yield from bps.read(scan)
        yield from bps.read(record)
        yield from bps.save()
        missing = what_is_missing(np.asarray(raw))
        return missing and f"{missing}; take another survey before anything goes by this one"

    return (yield from staged())
