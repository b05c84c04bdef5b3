"""Tip shaper and bias pulse: what may change the tip's end on purpose.

Both are forbidden unless the limits of the instrument allow them, and counted together: the limits
say how many of them an hour may hold.
"""

from collections.abc import Callable
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device
from ophyd.status import Status

from bluesky_gpsts.devices.background import Operation
from bluesky_gpsts.devices.limits import LimitError, Limits
from bluesky_gpsts.devices.settings import SETTINGS
from bluesky_gpsts.devices.signals import Quantity, SettingSignal, limits_of, link_of

__all__ = ["BiasPulse", "TipShaper"]

_PATIENCE = 10.0
_HOLD, _ABSOLUTE = 1, 2


class _Treatment(Device):
    """What the two have in common: a command that takes its time and has no stop of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._operation: Operation | None = None
        self._seconds = 0.0
        super().__init__(*args, **kwargs)

    def _ready(self) -> None:
        """Refuse with the feedback off, a withdrawn tip, or too many within the hour."""
        self.root.z_controller.require_tip()
        if not link_of(self).main.call("ZCtrl.OnOffGet")[0]:
            raise LimitError(
                f"{self.name} is refused: the feedback is off, so that nobody knows how far the "
                "sample is; switch it on first"
            )
        self.root.gate.check_count()

    def _start(self, what: str, seconds: float, command: Callable[[], None]) -> Status:
        operation = Operation(what)
        self._operation, self._seconds = operation, seconds

        def work() -> None:
            operation.check()
            command()
            self.root.z_controller.require_tip()

        return operation.run(self, work)

    def stop(self, *, success: bool = False) -> None:
        """Wait for the end, for the controller cannot break it off; if it does not end, withdraw.

        To break it off would leave the tip in the sample.
        """
        operation = self._operation
        if operation is None or operation.ended.is_set():
            return
        operation.expected = success
        operation.stopped.set()
        if not operation.ended.wait(self._seconds + _PATIENCE):
            self.root.emergency_withdraw()

    def pause(self) -> None:
        """Let it end when the plan is paused."""
        self.stop(success=True)

    def resume(self) -> None:
        """Go on after a pause."""


def _check_bias(limits: Limits, bias: float) -> float:
    return limits.check_bias(bias)


def _shaper(index: int, units: str, **kwargs: Any) -> Any:
    return Cpt(SettingSignal, group="tip_shaper", index=index, units=units, kind="normal", **kwargs)


class TipShaper(_Treatment):
    """The controller's tip shaper: pushes the tip into the sample and takes it out again.

    A trigger switches the feedback off, moves the tip by `lift` within `lift_time`, where it stays
    for `settling`, moves it by `height` within `height_time`, and switches the feedback on again.
    Heights are positive away from the sample. `bias` holds on the way in, `bias_lift` from then on.
    """

    delay = _shaper(0, "s")
    change_bias = _shaper(1, "", whole=True)
    bias = _shaper(2, "V", check=_check_bias)
    lift = _shaper(3, "m", precision=12)
    lift_time = _shaper(4, "s")
    bias_lift = _shaper(5, "V", check=_check_bias)
    settling = _shaper(6, "s")
    height = _shaper(7, "m", precision=12)
    height_time = _shaper(8, "s")
    end_wait = _shaper(9, "s")
    restore = _shaper(10, "", whole=True)

    def check(self) -> float:
        """Refuse an indentation that the limits do not allow; returns its duration (s).

        Raises
        ------
        LimitError
            If the limits forbid it, it is too deep, the bias is out of range, the feedback would
            stay off, or the safe tip would take the contact for a crash.
        """
        client, limits = link_of(self).main, limits_of(self)
        values = SETTINGS["tip_shaper"].read(client)
        delay, change, bias, lift, time1, bias2, settle, height, time2, wait, restore = values
        limits.check_depth(max(0.0, -lift, -(lift + height)))
        if change:
            for value in (bias, bias2):
                _check_bias(limits, value)
        if not restore:
            raise LimitError(
                f"an indentation is refused: {self.name} would leave the feedback off; set "
                "restore to 1"
            )
        if client.call("SafeTip.OnOffGet")[0]:
            raise LimitError(
                "an indentation is refused while the controller's safe tip is on, which would take "
                "the contact for a crash and withdraw; switch it off at the controller for the "
                "time of the conditioning"
            )
        return float(delay + time1 + settle + time2 + wait)

    def trigger(self) -> Status:
        """Indent the sample once.

        Returns
        -------
        ophyd.status.Status
            Done when the feedback is on again.

        Raises
        ------
        LimitError
            If it is not allowed; nothing was started then.
        TipWithdrawn
            If the tip has been withdrawn.
        """
        seconds = self.check()
        self._ready()
        link, limit = link_of(self), 1.5 * seconds + _PATIENCE

        def indent() -> None:
            # The controller's own time-out is the shorter one, so that its answer still comes.
            link.data.call("TipShaper.Start", 1, int(1000 * (limit - 2.0)), timeout=limit)

        return self._start("an indentation", seconds, indent)


class BiasPulse(_Treatment):
    """A pulse of the bias, with the tip held where it is.

    A trigger sets the bias to `value` for `width`, and back.
    """

    value = Cpt(Quantity, value=0.0, units="V", kind="normal")
    width = Cpt(Quantity, value=0.05, units="s", kind="normal")

    def check(self) -> None:
        """Refuse a pulse that the limits do not allow.

        Raises
        ------
        LimitError
            If the limits forbid it, or it is too high or too long.
        """
        limits_of(self).check_pulse(self.value.get(), self.width.get())

    def trigger(self) -> Status:
        """Give one pulse.

        Returns
        -------
        ophyd.status.Status
            Done when the bias is back and the feedback on again.

        Raises
        ------
        LimitError
            If it is not allowed; nothing was started then.
        TipWithdrawn
            If the tip has been withdrawn.
        """
        self.check()
        self._ready()
        link, value, width = link_of(self), float(self.value.get()), float(self.width.get())

        def pulse() -> None:
            link.data.call(
                "Bias.Pulse", 1, width, value, _HOLD, _ABSOLUTE, timeout=width + _PATIENCE
            )

        return self._start("a bias pulse", width, pulse)
