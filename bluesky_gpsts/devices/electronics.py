"""Bias, current, z-controller, lock-in, piezo and safe tip."""

import math
import time
from collections.abc import Sequence
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device
from ophyd.status import Status

from bluesky_gpsts.devices.background import Operation, in_background, poll_until
from bluesky_gpsts.devices.gate import WriteRefused
from bluesky_gpsts.devices.limits import LimitError, require_numbers
from bluesky_gpsts.devices.settings import SETTINGS
from bluesky_gpsts.devices.signals import (
    ReadOnly,
    SettingSignal,
    limits_of,
    link_of,
)
from bluesky_gpsts.nanonis import CommandError

__all__ = ["Bias", "Current", "LockIn", "Piezo", "SafeTip", "TipWithdrawn", "ZController"]

_FEEDBACK_TIME = 10.0
_LIFT = 1e-9
_FACTOR, _REST = 2.0, 0.02
"""Largest step of a setpoint, and seconds for the feedback to follow."""
_AT_THE_TOP = 1e-9
_SAFE_TIP_EVENT, _WITHDRAWING = 5, 6
WITHDRAWN = ("withdrawn",)
"""Whether the tip is withdrawn, among what a rehearsal counts as done."""


class TipWithdrawn(RuntimeError):
    """The tip has been withdrawn, by the controller's safe tip or by hand."""


class Bias(SettingSignal):
    """Sample bias (V).

    A change goes in steps. With the feedback on, the bias never comes near zero, where the
    current vanishes and the feedback would drive the tip into the sample: to change sign, the
    feedback is switched off, confirmed off by reading, the tip raised by a nanometre, and the
    feedback switched on again after the change.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(group="bias", units="V", precision=4, **kwargs)

    def _refuse(self, values: list[Any]) -> None:
        self._checked(values[0])

    def _checked(self, target: float) -> bool:
        """Refuse a bias (V) that is out of limits, and tell whether the feedback is on."""
        limits, client = limits_of(self), link_of(self).main
        feedback = bool(SETTINGS["feedback"].read(client)[0])
        limits.check_bias(target, feedback=feedback)
        if feedback:
            limits.check_junction(target, SETTINGS["setpoint"].read(client)[0])
        return feedback

    def _write(self, target: float) -> None:
        limits, client = limits_of(self), link_of(self).main
        feedback = self._checked(target)
        (start,) = self.group.read(client)
        if feedback and start * target < 0:
            z = self.root.z_controller
            z.switch_feedback(False)
            # The gap of the old bias may be far too small for the new one, as inside a band gap.
            z.lift(_LIFT)
            try:
                self.group.write(client, [target])
            except CommandError:
                # Refused, so the bias is what it was. After any other error nobody knows what it
                # is, and the feedback stays off.
                z.switch_feedback(True)
                raise
            z.switch_feedback(True)
        else:
            steps = max(1, int(-(-abs(target - start) // limits.bias_step)))
            for step in range(1, steps + 1):
                self.group.write(client, [start + (target - start) * step / steps])
                if step < steps:
                    time.sleep(abs(target - start) / steps / limits.bias_slew)
        self._confirm(target)


class Current(Device):
    """Tunnelling current."""

    value = Cpt(ReadOnly, command="Current.Get", units="A", precision=15, kind="hinted")


class Feedback(SettingSignal):
    """Feedback on (1) or off (0); done only when the controller confirms it by reading."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(group="feedback", whole=True, **kwargs)

    def _refuse(self, values: list[Any]) -> None:
        if self._on(values[0]):
            self.parent.check_feedback_on()

    def _on(self, number: float) -> bool:
        if number not in (0, 1):
            raise LimitError(f"{self.name} is 1 (on) or 0 (off), not {number!r}")
        return bool(number)

    def _write(self, number: float) -> None:
        # Which checks whether the feedback may be switched on.
        self.parent.switch_feedback(self._on(number))
        self._confirm(number)


class Setpoint(SettingSignal):
    """Current that the feedback keeps (A).

    With the feedback on a change goes in steps of a factor of two at most, which move the tip by
    some 30 pm each.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(group="setpoint", units="A", precision=15, **kwargs)

    def _refuse(self, values: list[Any]) -> None:
        limits, client = limits_of(self), link_of(self).main
        limits.check("a setpoint", values[0], "A", *limits.setpoint)
        if SETTINGS["feedback"].read(client)[0]:
            limits.check_junction(SETTINGS["bias"].read(client)[0], values[0])

    def _write(self, target: float) -> None:
        self._refuse([target])
        self.ramp(target)
        self._confirm(target)

    def ramp(self, target: float) -> None:
        """Go to a setpoint (A) that has been checked, in steps while the feedback is on."""
        client = link_of(self).main
        (start,), (feedback,) = self.group.read(client), SETTINGS["feedback"].read(client)
        steps = 1
        if feedback and start > 0.0:
            steps = max(1, math.ceil(abs(math.log(target / start)) / math.log(_FACTOR) - 1e-6))
        for step in range(1, steps + 1):
            last = step == steps
            self.group.write(
                client, [target if last else start * (target / start) ** (step / steps)]
            )
            if not last:
                time.sleep(_REST)


class Withdrawal(Device):
    """Withdraws the tip when it is triggered: for plans, which a dry run only rehearses."""

    def trigger(self) -> Status:
        """Withdraw the tip, which the watchdog then need not take for somebody else's doing.

        Raises
        ------
        WriteRefused
            In a session that only reads.
        """
        gate = link_of(self).gate
        if gate.mode == "read_only":
            raise WriteRefused(
                "a plan does not withdraw the tip in a session that only reads; "
                f"{self.root.name}.emergency_stop() does"
            )
        if gate.mode == "dry_run":
            client = link_of(self).main
            client.planned[WITHDRAWN] = (True,)
            client.planned[("ZCtrl.OnOffGet",)] = (0,)
            gate.kept.pop(("ZCtrl.OnOffGet",), None)
            status = Status(obj=self)
            status.set_finished()
            return status
        gate.withdrawing = True
        return in_background(self, self.parent.withdraw)


class ZController(Device):
    """Feedback loop and height of the tip."""

    feedback = Cpt(Feedback, kind="config")
    setpoint = Cpt(Setpoint, kind="config")
    z = Cpt(ReadOnly, command="ZCtrl.ZPosGet", units="m", precision=12, kind="hinted")
    p_gain = Cpt(
        SettingSignal,
        group="gain",
        index=0,
        units="m",
        precision=15,
        kind="config",
        # A slip, metres for picometres, makes the feedback ram the tip into the sample.
        check=lambda limits, v: limits.check("a P-gain", v, "m", 0.0, limits.p_gain),
    )
    time_constant = Cpt(SettingSignal, group="gain", index=1, units="s", precision=6, kind="config")
    status = Cpt(ReadOnly, command="ZCtrl.StatusGet", kind="omitted")
    withdrawal = Cpt(Withdrawal, kind="omitted")

    def switch_feedback(self, on: bool) -> None:
        """Switch the feedback and wait until reading confirms it.

        Raises
        ------
        LimitError
            If it is to be switched on at a bias near zero, or the tip would come too near.
        TipWithdrawn
            If it is to be switched on after a safe-tip event.
        TimeoutError
            If the controller does not confirm.
        """
        client = link_of(self).main
        if on:
            self.check_feedback_on()
            self._require_no_event()
        SETTINGS["feedback"].write(client, [int(on)])
        poll_until(
            lambda: bool(SETTINGS["feedback"].read(client)[0]) is on,
            _FEEDBACK_TIME,
            Operation(f"switching the feedback {'on' if on else 'off'}"),
        )
        if on and client.dry:
            client.planned[WITHDRAWN] = (False,)

    def check_feedback_on(self) -> None:
        """Refuse to switch the feedback on at a bias and a setpoint that are not allowed with it.

        Raises
        ------
        LimitError
            If the bias is near zero, or the tip would come too near.
        """
        client, limits = link_of(self).main, limits_of(self)
        (bias,) = SETTINGS["bias"].read(client)
        limits.check_bias(bias, feedback=True)
        limits.check_junction(bias, SETTINGS["setpoint"].read(client)[0])

    def _require_no_event(self) -> None:
        """Refuse to switch the feedback on after a safe-tip event, which would acknowledge it."""
        if link_of(self).main.call("ZCtrl.StatusGet")[0] == _SAFE_TIP_EVENT:
            raise TipWithdrawn(
                "the feedback stays off: the controller's safe tip has withdrawn the tip; find "
                "out why, and switch the feedback on at the controller"
            )

    def withdrawn(self) -> bool:
        """Whether the tip is withdrawn, or about to be; in a rehearsal whether it would be."""
        client = link_of(self).main
        if WITHDRAWN in client.planned:
            return bool(client.planned[WITHDRAWN][0])
        if client.call("ZCtrl.StatusGet")[0] in (_SAFE_TIP_EVENT, _WITHDRAWING):
            return True
        if client.call("ZCtrl.OnOffGet")[0]:
            return False
        (height,), (highest, _) = client.call("ZCtrl.ZPosGet"), client.call("ZCtrl.LimitsGet")
        return bool(height >= highest - _AT_THE_TOP)

    def require_tip(self) -> None:
        """Refuse to measure with a withdrawn tip, or without the controller's own guard.

        Raises
        ------
        TipWithdrawn
            If it is withdrawn.
        LimitError
            If the safe tip has to be on, and is not, or at a current above the limit.
        """
        self.require_safe_tip()
        if self.withdrawn():
            raise TipWithdrawn(
                "the tip was withdrawn, by the controller's safe tip or by hand; find out why, "
                "approach again and switch the feedback on"
            )

    def require_safe_tip(self) -> None:
        """Refuse to measure without the controller's own guard, where the limits require it.

        Raises
        ------
        LimitError
            If it is off, or at a current above the limit.
        """
        limits, client = limits_of(self), link_of(self).main
        if limits.safe_tip:
            (on,), threshold = client.call("SafeTip.OnOffGet"), client.call("SafeTip.PropsGet")[2]
            if not (on and abs(threshold) <= limits.current * 1.000001):
                raise LimitError(
                    "measuring is refused: the controller's safe tip must be on, at "
                    f"{limits.current:g} A or less; it is {'on' if on else 'off'}, at "
                    f"{threshold:g} A"
                )

    def require_followed(self, what: str) -> None:
        """Refuse to move a tip that no feedback keeps off the sample, unless it is withdrawn.

        Raises
        ------
        LimitError
            If the feedback is off near the sample.
        """
        if not SETTINGS["feedback"].read(link_of(self).main)[0] and not self.withdrawn():
            raise LimitError(
                f"{what} is refused while the feedback is off{self.off_by_others()}: nothing would "
                "keep the tip off the sample; switch the feedback on, or withdraw the tip"
            )

    def off_by_others(self) -> str:
        """A remark for a message if somebody else has switched the feedback off; or nothing."""
        was = link_of(self).gate.expected.feedback
        return ", which somebody has switched off at the controller" if was else ""

    def lift(self, distance: float) -> None:
        """Raise the tip by `distance` (m), or to its upper limit; the feedback must be off.

        Raises
        ------
        TimeoutError
            If the tip does not get there.
        """
        client = link_of(self).main
        (height,) = client.call("ZCtrl.ZPosGet")
        target = min(height + distance, client.call("ZCtrl.LimitsGet")[0])
        client.call("ZCtrl.ZPosSet", target)
        if client.dry:
            return
        poll_until(
            lambda: bool(client.call("ZCtrl.ZPosGet")[0] >= target - 0.1 * distance),
            _FEEDBACK_TIME,
            Operation("lifting the tip"),
        )

    def withdraw(self) -> None:
        """Withdraw the tip fully, over the connection that is kept free for this."""
        link_of(self).emergency.call("ZCtrl.Withdraw", 0, -1)


class LockIn(Device):
    """Modulator 1 and demodulator 1 of the lock-in amplifier."""

    on = Cpt(SettingSignal, group="modulation_on", whole=True, kind="config")
    amplitude = Cpt(
        SettingSignal,
        group="modulation_amplitude",
        units="V",
        precision=5,
        kind="config",
        check=lambda limits, v: limits.check("a modulation", v, "V", 0.0, limits.modulation),
    )
    frequency = Cpt(
        SettingSignal, group="modulation_frequency", units="Hz", precision=2, kind="config"
    )
    phase = Cpt(SettingSignal, group="demodulation_phase", units="deg", precision=2, kind="config")


class Piezo(Device):
    """Range of the scanner, and the controller's own drift compensation."""

    range_x = Cpt(ReadOnly, command="Piezo.RangeGet", index=0, units="m", kind="omitted")
    range_y = Cpt(ReadOnly, command="Piezo.RangeGet", index=1, units="m", kind="omitted")
    range_z = Cpt(ReadOnly, command="Piezo.RangeGet", index=2, units="m", kind="omitted")
    drift_compensation = Cpt(ReadOnly, command="Piezo.DriftCompGet", index=0, kind="config")
    drift_x = Cpt(ReadOnly, command="Piezo.DriftCompGet", index=1, units="m/s", kind="config")
    drift_y = Cpt(ReadOnly, command="Piezo.DriftCompGet", index=2, units="m/s", kind="config")

    def set(self, velocity: Sequence[float] | None) -> Status:
        """Let the controller follow a drift of (x, y, z) m/s; None or zeros: stop doing so.

        Raises
        ------
        LimitError
            If it is faster than the instrument allows; nothing was written then.
        """
        vx, vy, vz = (
            (0.0, 0.0, 0.0)
            if velocity is None
            else require_numbers("a drift compensation", velocity, 3)
        )
        limits = limits_of(self)
        for speed in (vx, vy, vz):
            limits.check("a drift compensation", speed, "m/s", -limits.drift, limits.drift)
        client = link_of(self).main
        old = SETTINGS["compensation"].read(client)
        SETTINGS["compensation"].write(client, [int(any((vx, vy, vz))), vx, vy, vz, *old[4:]])
        status = Status(obj=self)
        status.set_finished()
        return status


class SafeTip(Device):
    """The controller's own guard against a crash."""

    on = Cpt(ReadOnly, command="SafeTip.OnOffGet", kind="config")
    threshold = Cpt(
        ReadOnly, command="SafeTip.PropsGet", index=2, units="A", precision=12, kind="config"
    )
