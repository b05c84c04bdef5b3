"""What a message of a plan may ask of the microscope."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from bluesky.utils import Msg

from bluesky_gpsts.devices import Alarm, LimitError, NanonisSTM
from bluesky_gpsts.devices.limits import require_number, require_numbers
from bluesky_gpsts.devices.signals import SettingSignal
from bluesky_gpsts.nanonis.files import Frame

__all__ = ["Veto"]

# Everything else that a message may do with a part of the microscope moves nothing.
_MOVING = ("configure", "kickoff", "set", "trigger")


class Veto:
    """Refuses messages that would take the microscope out of its limits.

    The settings that a rule needs are read from the controller when the message comes. A setting
    whose change is still under way counts with its old and its new value.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope.
    """

    def __init__(self, stm: NanonisSTM) -> None:
        self.stm = stm
        self.limits = stm.gate.limits
        self._pending: dict[Any, dict[Any, float]] = {}
        z, scan, sts = stm.z_controller, stm.scan, stm.spectroscopy
        self._rules: dict[Any, Callable[[Any], Any]] = {
            stm.bias: self._bias,
            z.feedback: self._feedback,
            z.setpoint: self._setpoint,
            z.p_gain: self._gain,
            stm.tip: self._move,
            stm.tip.x: lambda v: self._move((v, stm.tip.target()[1])),
            stm.tip.y: lambda v: self._move((stm.tip.target()[0], v)),
            stm.tip.speed: self._speed,
            scan: self._frame,
            stm.piezo: self._drift,
            sts.start: self.limits.check_bias,
            sts.end: self.limits.check_bias,
            sts.z_offset: self._z_offset,
            stm.lock_in.amplitude: self._modulation,
        }
        parts = (scan.center_x, scan.center_y, scan.width, scan.height, scan.angle)
        for place, part in enumerate(parts):
            self._rules[part] = partial(self._frame_number, place)
        self._triggers = {scan: self._image, sts: self._sweep}

    def check(self, msg: Msg) -> None:
        """Refuse a message, or let it pass.

        Raises
        ------
        LimitError
            If it is out of limits.
        TipWithdrawn, Alarm
            If it would measure or move with a withdrawn tip, or after an alarm.
        NanonisError
            If the controller cannot be asked.
        """
        if msg.command == "wait":
            group = msg.kwargs.get("group", msg.args[0] if msg.args else None)
            self._pending.pop(group, None)
            return
        if msg.command not in _MOVING or getattr(msg.obj, "root", None) is not self.stm:
            return
        if self.stm.gate.alarm:
            raise Alarm(
                f"{msg.command} of {msg.obj.name} is refused because of an alarm: "
                f"{self.stm.gate.alarm}"
            )
        # They exist only where a microscope has them.
        shaping = (getattr(self.stm, "shaper", None), getattr(self.stm, "pulse", None))
        if msg.command == "trigger" and msg.obj in shaping and not self.stm.gate.may_condition:
            raise LimitError(
                f"{msg.obj.name} is refused: pulses and the tip shaper work only within a plan "
                "that conditions the tip"
            )
        if msg.command == "set":
            self._set(msg)
        elif msg.command == "trigger":
            self._triggers.get(msg.obj, lambda: None)()
        else:
            raise LimitError(f"{msg.command} of {msg.obj.name} is refused: no rule allows it")

    def _set(self, msg: Msg) -> None:
        value = msg.args[0]
        rule = self._rules.get(msg.obj)
        if rule is not None:
            rule(value)
        elif isinstance(msg.obj, SettingSignal):
            self._number(msg.obj, value)
        if msg.obj in (
            self.stm.bias,
            self.stm.z_controller.feedback,
            self.stm.z_controller.setpoint,
        ):
            self._pending.setdefault(msg.kwargs.get("group"), {})[msg.obj] = float(value)

    @staticmethod
    def _number(signal: Any, value: Any) -> float:
        """A finite number; True and False are numbers where a setting is a switch."""
        switch = signal.whole and isinstance(value, bool)
        return require_number(signal.name, int(value) if switch else value)

    # ------------------------------------------------------------ rules

    def _values(self, signal: Any) -> set[float]:
        """What a setting is, or is about to be."""
        coming = {changes[signal] for changes in self._pending.values() if signal in changes}
        return {float(signal.get()), *coming}

    def _bias(self, value: float) -> None:
        bias, z = self._number(self.stm.bias, value), self.stm.z_controller
        feedback = any(self._values(z.feedback))
        self.limits.check_bias(bias, feedback=feedback)
        if feedback:
            for setpoint in self._values(z.setpoint):
                self.limits.check_junction(bias, setpoint)

    def _setpoint(self, value: float) -> None:
        self.limits.check("a setpoint", value, "A", *self.limits.setpoint)
        if any(self._values(self.stm.z_controller.feedback)):
            for bias in self._values(self.stm.bias):
                self.limits.check_junction(bias, value)

    def _feedback(self, value: float) -> None:
        if self._number(self.stm.z_controller.feedback, value):
            for bias in self._values(self.stm.bias):
                self.limits.check_bias(bias, feedback=True)
                for setpoint in self._values(self.stm.z_controller.setpoint):
                    self.limits.check_junction(bias, setpoint)

    def _gain(self, value: float) -> None:
        self.limits.check("a P-gain", value, "m", 0.0, self.limits.p_gain)

    def _modulation(self, value: float) -> None:
        self.limits.check("a modulation", value, "V", 0.0, self.limits.modulation)

    def _speed(self, value: float) -> None:
        self.limits.check("a tip speed", value, "m/s", 1e-12, self.limits.speed)

    def _drift(self, velocity: Any) -> None:
        if velocity is None:
            return
        for speed in require_numbers("a drift compensation", velocity, 3):
            most = self.limits.drift
            self.limits.check("a drift compensation", speed, "m/s", -most, most)

    def _reach(self) -> tuple[float, float]:
        return float(self.stm.piezo.range_x.get()), float(self.stm.piezo.range_y.get())

    def _move(self, target: Any) -> None:
        x, y = require_numbers(self.stm.tip.name, target, 2)
        tip = self.stm.tip
        self._speed(float(tip.speed.get()))
        offset = float(tip.offset_x.get()), float(tip.offset_y.get())
        self.limits.check_position(x + offset[0], y + offset[1], self._reach())
        self._followed("a move of the tip")

    def _followed(self, what: str) -> None:
        """Refuse to move a tip that no feedback keeps off the sample, unless it is withdrawn."""
        z = self.stm.z_controller
        if not all(self._values(z.feedback)) and not z.withdrawn():
            raise LimitError(
                f"{what} is refused while the feedback is off{z.off_by_others()}: nothing would "
                "keep the tip off the sample; switch the feedback on, or withdraw the tip"
            )

    def _frame_number(self, place: int, value: float) -> None:
        frame = self.stm.scan.frame()
        numbers = [frame.x, frame.y, frame.width, frame.height, frame.angle]
        numbers[place] = require_number("a number of the frame", value)
        try:
            self._frame(Frame(*numbers))
        except LimitError:
            raise
        except ValueError as error:
            raise LimitError(f"the frame is refused: {error}") from error

    def _frame(self, frame: Frame) -> None:
        self.limits.check_frame(frame, self._reach())

    def _image(self) -> None:
        scan = self.stm.scan
        frame = scan.frame()
        self._frame(frame)
        self._speed(float(self.stm.tip.speed.get()))
        for line_time in (scan.line_time, scan.line_time_backward):
            speed = frame.width / max(float(line_time.get()), 1e-9)
            self.limits.check("a scan speed", speed, "m/s", 0.0, self.limits.scan_speed)
        self.stm.z_controller.require_tip()
        self._followed("an image")

    def _z_offset(self, value: float) -> None:
        self.limits.check("a z offset", value, "m", -self.limits.approach, math.inf)

    def _sweep(self) -> None:
        sts, z = self.stm.spectroscopy, self.stm.z_controller
        ends = float(sts.start.get()), float(sts.end.get())
        for bias in ends:
            self.limits.check_bias(bias)
        z_offset = float(sts.z_offset.get())
        self._z_offset(z_offset)
        z.require_tip()
        approach = max(0.0, -z_offset)
        if any(self._values(z.feedback)):
            for bias in self._values(self.stm.bias):
                for setpoint in self._values(z.setpoint):
                    self.limits.check_junction(bias, setpoint, approach)
                    self.limits.check_end_current(bias, setpoint, ends, approach)
        elif approach:
            raise LimitError("a sweep that approaches is refused while the feedback is off")
