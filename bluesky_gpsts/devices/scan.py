"""The scan frame and the images taken of it."""

from typing import Any

import numpy as np
from ophyd import Component as Cpt
from ophyd import Device
from ophyd.status import Status

from bluesky_gpsts.devices.background import Operation, poll_until
from bluesky_gpsts.devices.gate import DryRun
from bluesky_gpsts.devices.limits import LimitError
from bluesky_gpsts.devices.settings import SETTINGS, try_to_read
from bluesky_gpsts.devices.signals import ArraySignal, SettingSignal, limits_of, link_of
from bluesky_gpsts.nanonis import ProtocolError
from bluesky_gpsts.nanonis.files import Frame

__all__ = ["Scan"]

HEIGHT = ("Z (m)",)


class FrameSignal(SettingSignal):
    """One of the numbers of the scan frame; the frame must stay within the piezo's reach."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(group="frame", **kwargs)

    def _refuse(self, values: list[Any]) -> None:
        reach = link_of(self).main.call("Piezo.RangeGet")
        try:
            frame = Frame(*values)
        except ValueError as error:
            raise LimitError(f"{self.name} is refused: {error}") from error
        limits_of(self).check_frame(frame, (reach[0], reach[1]))


class LineTime(SettingSignal):
    """Time for a line; the speed follows, so that the two agree whichever the controller takes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            group="scan_speed",
            units="s",
            check=lambda limits, v: limits.check("a line time", v, "s", 1e-3, 1e4),
            **kwargs,
        )

    def _change(self, values: list[Any], number: float) -> None:
        values[self.index - 2] *= values[self.index] / max(number, 1e-3)
        values[self.index] = number
        values[5] = values[0] / values[1]


class Scan(Device):
    """The controller's scan module: a trigger takes one image of the frame.

    Images have their first row at the top edge and their first column at the left, whatever the
    scan direction.
    """

    forward = Cpt(ArraySignal, units="m", kind="normal")
    backward = Cpt(ArraySignal, units="m", kind="normal")

    center_x = Cpt(FrameSignal, index=0, units="m", precision=12, kind="config")
    center_y = Cpt(FrameSignal, index=1, units="m", precision=12, kind="config")
    width = Cpt(FrameSignal, index=2, units="m", precision=12, kind="config")
    height = Cpt(FrameSignal, index=3, units="m", precision=12, kind="config")
    angle = Cpt(FrameSignal, index=4, units="deg", precision=2, kind="config")
    pixels = Cpt(SettingSignal, group="buffer", index=1, whole=True, kind="config")
    lines = Cpt(SettingSignal, group="buffer", index=2, whole=True, kind="config")
    line_time = Cpt(LineTime, index=2, kind="config")
    line_time_backward = Cpt(LineTime, index=3, kind="config")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._image: Operation | None = None
        super().__init__(*args, **kwargs)

    def frame(self) -> Frame:
        """Frame as the controller has it (m, degrees)."""
        return Frame(*(float(value) for value in SETTINGS["frame"].read(link_of(self).main)))

    def check(self) -> float:
        """Refuse an image that the limits do not allow; returns its duration (s).

        Raises
        ------
        LimitError
            If a corner of the frame is out of reach, or its lines or the way to it too fast.
        """
        client, limits = link_of(self).main, limits_of(self)
        reach = client.call("Piezo.RangeGet")
        frame = limits.check_frame(self.frame(), (reach[0], reach[1]))
        _, _, lines = SETTINGS["buffer"].read(client)
        _, _, forward, backward = SETTINGS["scan_speed"].read(client)[:4]
        for seconds in (forward, backward):
            speed = frame.width / max(seconds, 1e-9)
            limits.check("a scan speed", speed, "m/s", 0.0, limits.scan_speed)
        # The tip goes to the frame's first corner at the speed of its moves.
        limits.check("a tip speed", SETTINGS["tip_speed"].read(client)[0], "m/s", 0.0, limits.speed)
        return float(lines * (forward + backward))

    def set(self, frame: Frame) -> Status:
        """Set the whole frame at once (m, degrees).

        Raises
        ------
        LimitError
            If a corner of the frame is out of reach; nothing was written then.
        """
        self.check_value(frame)
        client = link_of(self).main
        values = (frame.x, frame.y, frame.width, frame.height, frame.angle)
        SETTINGS["frame"].write(client, values)
        status = Status(obj=self)
        status.set_finished()
        return status

    def check_value(self, frame: Frame) -> None:
        """Refuse what is no frame, or a frame with a corner out of reach.

        Raises
        ------
        LimitError
            If it is.
        """
        reach = link_of(self).main.call("Piezo.RangeGet")
        limits_of(self).check_frame(frame, (reach[0], reach[1]))

    def prepare(self) -> None:
        """Put the height into the scan buffer and switch continuous scanning off."""
        link = link_of(self)
        height = link.signal(*HEIGHT)
        channels, pixels, lines = link.main.call("Scan.BufferGet")
        if height not in list(channels):
            link.main.call("Scan.BufferSet", [*channels, height], pixels, lines)
        # A continuous scan would never end.
        values = try_to_read(link.main, "scan_props")
        if values is not None and values[0]:
            SETTINGS["scan_props"].write(link.main, [0, *values[1:]])

    def trigger(self) -> Status:
        """Take one image, upwards.

        Raises
        ------
        LimitError
            If the frame is out of reach, or the tip would be too fast; nothing was started then.
        TipWithdrawn
            If the safe tip has withdrawn the tip.
        DryRun
            If it is allowed, in a dry run.
        """
        seconds = self.check()
        self.root.z_controller.require_tip()
        self.root.require_unchanged()
        self.root.z_controller.require_followed("an image")
        client = link_of(self).main
        client.call("Scan.Action", 0, 1)
        if client.dry:
            raise DryRun(f"an image of {seconds:.3g} s")
        image = Operation("the image")
        self._image = image
        return image.run(self, lambda: self._fetch(image, 1.5 * seconds + 20.0))

    def _fetch(self, image: Operation, seconds: float) -> None:
        link = link_of(self)
        height = link.signal(*HEIGHT)
        poll_until(lambda: not link.main.call("Scan.StatusGet")[0], seconds, image)
        image.check()
        for signal, direction in ((self.forward, 1), (self.backward, 0)):
            _, plane, _ = link.main.call("Scan.FrameDataGrab", height, direction, timeout=30.0)
            if not np.isfinite(plane).any():
                raise ProtocolError("the image came back empty; it was stopped at the controller")
            signal.put(np.asarray(plane, dtype=float))

    def stop(self, *, success: bool = False) -> None:
        """Stop an image that is being taken; unless with `success`, its status fails."""
        link = link_of(self)
        if self._image is not None:
            self._image.stop(lambda: link.emergency.call("Scan.Action", 1, 0), expected=success)

    def pause(self) -> None:
        """Stop the image when the plan is paused; on resumption it is taken again."""
        self.stop(success=True)

    def resume(self) -> None:
        """Go on after a pause: the plan goes back to its last checkpoint by itself."""
