"""Constant-current imaging: frame, buffer and the picture that grows line by line."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.simulator.microscope import Microscope, stream
from bluesky_gpsts.simulator.signals import BIAS, CURRENT, X, Y, Z

__all__ = ["Image", "ScanSettings", "acquire", "frame_positions"]


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
    """A finished or growing image.

    Attributes
    ----------
    planes : dict
        Signal index to (forward, backward), each (lines, pixels), first row = top edge.
    line_ends : ndarray
        When each line is complete (s), in rows of `planes`.
    upwards : bool
        Whether the slow axis runs from bottom to top.
    end : float
        When the last line is complete (s).
    """

    planes: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
    line_ends: NDArray[np.float64]
    upwards: bool
    end: float
    positions: NDArray[np.float64] = field(repr=False)

    def grab(self, channel: int, forward: bool, t: float) -> NDArray[np.float64]:
        """Plane as known at time `t`: lines not scanned yet are NaN."""
        plane = self.planes[channel][0 if forward else 1].copy()
        plane[self.line_ends > t] = np.nan
        return plane


def frame_positions(frame: Frame, pixels: int, lines: int) -> NDArray[np.float64]:
    """Pixel centres (lines, pixels, 2) of a frame (m), first row = top edge."""
    u = ((np.arange(pixels) + 0.5) / pixels - 0.5) * frame.width
    v = (0.5 - (np.arange(lines) + 0.5) / lines) * frame.height
    return np.stack(frame.absolute(u[None, :], v[:, None]), axis=-1)


def acquire(
    microscope: Microscope, settings: ScanSettings, begin: float, upwards: bool, counter: int
) -> Image:
    """Scan the frame from time `begin` (s) on.

    The whole image is computed at once; its lines become visible as their time comes.
    """
    pixels, lines = settings.pixels, settings.lines
    forward, backward = settings.line_times
    positions = frame_positions(settings.frame, pixels, lines)
    order = np.arange(lines)[::-1] if upwards else np.arange(lines)
    path = positions[order]
    starts = begin + np.arange(lines) * (forward + backward)
    dt_forward, dt_backward = forward / pixels, backward / pixels
    times = np.concatenate(
        [
            starts[:, None] + (np.arange(pixels) + 1) * dt_forward,
            starts[:, None] + forward + (np.arange(pixels) + 1) * dt_backward,
        ],
        axis=1,
    )
    track = np.concatenate([path, path[:, ::-1]], axis=1)
    flat_times, flat_track = times.ravel(), track.reshape(-1, 2)
    where = microscope.under(flat_times, flat_track)
    target = microscope.equilibrium(where, flat_times)
    rng = stream(microscope.seed, "image", counter)
    wobble = microscope.height_noise.series(flat_times)
    # The loop follows with its own lag; one pixel is the resolution in time.
    lag = microscope.feedback_lag
    keep = float(np.exp(-0.5 * (dt_forward + dt_backward) / lag))
    heights, _ = lfilter([1 - keep], [1, -keep], target, zi=[keep * microscope.z])
    microscope.record(flat_times, where, heights)
    base = microscope.sample.height(where[:, 0], where[:, 1])
    gap = heights - base - microscope.vertical_shift(flat_times)
    microscope.settled(float(flat_times[-1]), float(heights[-1]))
    heights = heights + wobble
    current, _ = microscope.preamplifier.measure(
        microscope.tunnelling(where, gap), min(dt_forward, dt_backward), rng
    )
    values = {
        CURRENT: current,
        BIAS: np.full(heights.shape, microscope.bias),
        X: flat_track[:, 0],
        Y: flat_track[:, 1],
        Z: heights,
    }
    planes = {}
    for channel in settings.channels:
        rows = values.get(channel, np.zeros(heights.shape)).reshape(lines, 2 * pixels)
        picture = np.empty_like(rows)
        picture[order] = rows
        planes[channel] = (picture[:, :pixels], picture[:, : pixels - 1 : -1])
    ends = np.empty(lines)
    ends[order] = times[:, -1]
    end = float(times[-1, -1])
    return Image(planes, ends, upwards, end, flat_track)
