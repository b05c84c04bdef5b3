"""The tip's lateral position, in the frame of the sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ophyd import Component as Cpt
from ophyd import Device
from ophyd.status import Status

from bluesky_gpsts.devices.background import Interrupted, Operation, poll_until
from bluesky_gpsts.devices.limits import Limits, require_number, require_numbers
from bluesky_gpsts.devices.settings import SETTINGS
from bluesky_gpsts.devices.signals import Quantity, ReadOnly, SettingSignal, limits_of, link_of

__all__ = ["PLACE", "TipAxis", "TipPosition"]

_ARRIVED = 5e-12
PLACE = ("FolMe.XYPosGet",)


class TipAxis(Quantity):
    """One coordinate of the tip in the frame of the sample (m); setting it moves the tip."""

    def __init__(self, *, axis: int, **kwargs: Any) -> None:
        super().__init__(value=0.0, units="m", precision=12, **kwargs)
        self.axis = axis

    def get(self, **kwargs: Any) -> float:
        """Where the tip is now (m)."""
        self._readback = self.parent.where()[self.axis]
        return float(self._readback)

    @property
    def position(self) -> float:
        """Where the tip is now (m)."""
        return self.get()

    def set(self, value: float, **kwargs: Any) -> Status:
        """Move the tip along this axis to `value` (m)."""
        target = list(self.parent.target())
        target[self.axis] = require_number(self.name, value)
        return self.parent.set(target)

    def check_value(self, value: Any) -> None:
        """Refuse a coordinate (m) out of reach, wherever the tip is along the other axis."""
        target = list(self.parent.target())
        target[self.axis] = require_number(self.name, value)
        self.parent.check_value(target)

    def put(self, value: Any, **kwargs: Any) -> None:
        """Move, and wait until the tip is there."""
        self.set(value).wait()


class TipPosition(Device):
    """Follow-me position of the tip.

    Coordinates are those of the sample: the piezo's less the drift offset, which is zero until a
    drift check sets it. A move starts at a set speed and is watched until the tip has arrived.
    """

    x = Cpt(TipAxis, axis=0, kind="hinted")
    y = Cpt(TipAxis, axis=1, kind="hinted")
    piezo_x = Cpt(
        ReadOnly, command="FolMe.XYPosGet", arguments=(1,), index=0, units="m", precision=12
    )
    piezo_y = Cpt(
        ReadOnly, command="FolMe.XYPosGet", arguments=(1,), index=1, units="m", precision=12
    )
    offset_x = Cpt(Quantity, value=0.0, units="m", precision=12, kind="config")
    offset_y = Cpt(Quantity, value=0.0, units="m", precision=12, kind="config")
    speed = Cpt(
        SettingSignal,
        group="tip_speed",
        index=0,
        units="m/s",
        precision=10,
        kind="config",
        check=lambda limits, v: limits.check("a tip speed", v, "m/s", 1e-12, limits.speed),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._target = (0.0, 0.0)
        self._move: Operation | None = None
        super().__init__(*args, **kwargs)

    def _offset(self) -> tuple[float, float]:
        return float(self.offset_x.get()), float(self.offset_y.get())

    def where(self) -> tuple[float, float]:
        """Position (x, y) of the tip now, sample coordinates (m)."""
        x, y = self._here()
        dx, dy = self._offset()
        return x - dx, y - dy

    def _here(self) -> tuple[float, float]:
        """Position of the tip now, piezo coordinates (m); in a rehearsal where it would be."""
        client = link_of(self).main
        x, y = client.planned.get(PLACE) or client.call("FolMe.XYPosGet", 1)
        return float(x), float(y)

    def target(self) -> tuple[float, float]:
        """Where the tip is on its way to, or is (m)."""
        moving = self._move is not None and not self._move.ended.is_set()
        return self._target if moving else self.where()

    @property
    def position(self) -> tuple[float, float]:
        """Where the tip is now (m)."""
        return self.where()

    def check_value(self, value: Sequence[float]) -> None:
        """Refuse a position (x, y) in m out of the piezo's reach.

        Raises
        ------
        LimitError
            If it is.
        """
        x, y = require_numbers(self.name, value, 2)
        dx, dy = self._offset()
        reach = link_of(self).main.call("Piezo.RangeGet")
        limits_of(self).check_position(x + dx, y + dy, (reach[0], reach[1]))

    def set(self, value: Sequence[float]) -> Status:
        """Move the tip to (x, y) in sample coordinates (m).

        A move that is still under way is diverted, and ends with the new one.

        Returns
        -------
        ophyd.status.Status
            Done when the controller reports the tip at the place.

        Raises
        ------
        LimitError
            If the place is out of reach or the speed too high; the tip has not moved.
        """
        self.check_value(value)
        x, y = (float(v) for v in value)
        limits: Limits = limits_of(self)
        link = link_of(self)
        self.root.z_controller.require_followed("a move of the tip")
        self.root.require_unchanged()
        dx, dy = self._offset()
        goal = np.array([x + dx, y + dy])
        speed, custom = SETTINGS["tip_speed"].read(link.main)
        limits.check("a tip speed", speed, "m/s", 1e-12, limits.speed)
        here = np.array(self._here())
        distance = float(np.hypot(*(goal - here)))
        # Without the custom speed the scan's own speed would apply, whatever it is.
        if not custom:
            SETTINGS["tip_speed"].write(link.main, [speed, 1])
        link.main.call("FolMe.XYPosSet", goal[0], goal[1], 0)
        if link.main.dry:
            link.main.planned[PLACE] = (float(goal[0]), float(goal[1]))
        move = Operation(f"the move of the tip by {distance * 1e9:.3g} nm")
        self._target, self._move = (x, y), move

        def arrived() -> bool:
            now = np.array(link.main.call("FolMe.XYPosGet", 1))
            return link.main.dry or bool(np.hypot(*(goal - now)) <= _ARRIVED)

        def watch() -> None:
            poll_until(
                lambda: self._move is not move or arrived(), 1.5 * distance / speed + 10.0, move
            )
            newer = self._move
            if newer is not None and newer is not move:
                newer.ended.wait()
                if newer.stopped.is_set():
                    move.expected = newer.expected
                    raise Interrupted(f"{newer.what} was stopped before it was done")

        return move.run(self, watch)

    def stop(self, *, success: bool = False) -> None:
        """Stop a move where the tip is; unless with `success`, its status fails."""
        link = link_of(self)
        if self._move is not None:
            self._move.stop(lambda: link.emergency.call("FolMe.Stop"), expected=success)
