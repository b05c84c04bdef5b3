"""Imaging: frame, buffer, and the picture that grows line by line."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator.course import Course
from bluesky_gpsts.simulator.microscope import FINE, Microscope
from bluesky_gpsts.simulator.record import Record, measured, stream
from bluesky_gpsts.simulator.signals import CURRENT, LOCKIN_X, LOCKIN_Y, Z

__all__ = ["Image", "ScanSettings", "frame_positions", "start_image"]

Array = NDArray[np.float64]


@dataclass
class ScanSettings:
    """What the scan module holds."""

    frame: Frame
    channels: tuple[int, ...] = (CURRENT, Z)
    pixels: int = 128
    lines: int = 128
    line_times: tuple[float, float] = (0.5, 0.5)
    keep_constant: int = 2
    continuous: bool = False
    bouncy: bool = False
    autosave: int = 2
    series: str = "image"
    comment: str = ""
    autopaste: int = 0


@dataclass(frozen=True)
class Image:
    """An image that grows, or is finished.

    Attributes
    ----------
    record : Record
        Its pixels in the order of time: each line forward, then backward.
    channels : tuple of int
        Signals of the image.
    shape : (int, int)
        Lines and pixels.
    upwards : bool
        Whether the slow axis runs from bottom to top.
    averaging : float
        Time for a pixel (s).
    number : int
        How many images the microscope had taken when this one was started.
    """

    record: Record
    channels: tuple[int, ...]
    shape: tuple[int, int]
    upwards: bool
    averaging: float
    number: int

    @property
    def end(self) -> float:
        """When the last line is complete (s)."""
        return float(self.record.times[-1])

    def grab(self, microscope: Microscope, channel: int, forward: bool) -> Array:
        """Plane (lines, pixels), first row = top edge; lines not complete are NaN."""
        lines, pixels = self.shape
        rng = stream(microscope.seed, "image", self.number)
        electronics = microscope.preamplifier, microscope.lockin
        values = measured(self.record.rows, *electronics, self.averaging, rng).get(channel)
        if values is None:
            values = np.zeros(len(self.record.times))
        rows = values.reshape(lines, 2 * pixels).copy()
        rows[self.record.taken // (2 * pixels) :] = np.nan
        plane = rows[:, :pixels] if forward else rows[:, : pixels - 1 : -1]
        return plane[::-1] if self.upwards else plane


def frame_positions(frame: Frame, pixels: int, lines: int) -> Array:
    """Pixel centres (lines, pixels, 2) of a frame (m), first row = top edge."""
    u = ((np.arange(pixels) + 0.5) / pixels - 0.5) * frame.width
    v = (0.5 - (np.arange(lines) + 0.5) / lines) * frame.height
    return np.stack(frame.absolute(u[None, :], v[:, None]), axis=-1)


def start_image(
    microscope: Microscope,
    settings: ScanSettings,
    begin: float,
    upwards: bool,
    speed: float,
    number: int,
) -> Image:
    """Start an image of the frame at time `begin` (s).

    The tip goes to the frame's corner at `speed` (m/s), and then along the lines. Later changes
    of the settings concern the next image.
    """
    pixels, lines = settings.pixels, settings.lines
    track = frame_positions(settings.frame, pixels, lines)
    if upwards:
        track = track[::-1]
    approach = _approach(microscope, begin, track[0, 0], speed)
    forward, backward = settings.line_times
    starts = approach.end + np.arange(lines)[:, None] * (forward + backward)
    ticks = (np.arange(pixels) + 1) / pixels
    times = np.concatenate([starts + ticks * forward, starts + forward + ticks * backward], axis=1)
    # The tip goes on to the next line within the first pixel, and turns round within a pixel.
    corners = [0, pixels - 1, pixels, 2 * pixels - 1]
    ends = np.concatenate([track, track[:, ::-1]], axis=1)[:, corners]
    course = Course(
        np.concatenate([approach.times[-1:], times[:, corners].ravel()]),
        np.concatenate([approach.values[-1:], ends.reshape(-1, 2)]),
    )
    record = Record(times.ravel(), harmonic=bool({LOCKIN_X, LOCKIN_Y} & {*settings.channels}))
    microscope.follow(begin, approach.then(course), record, approach.end)
    averaging = min(forward, backward) / pixels
    return Image(record, settings.channels, (lines, pixels), upwards, averaging, number)


def _approach(microscope: Microscope, begin: float, corner: Array, speed: float) -> Course:
    """Straight way to the corner, in steps that resolve the sample."""
    here = microscope.position
    arrival = begin + float(np.hypot(*(corner - here))) / speed
    line = Course.through((begin, here), (arrival, corner))
    times = np.array([begin, *line.instants(begin, arrival, FINE)])
    return Course(times, line.at(times))
