"""Bias spectroscopy: one sweep at the tip's place."""

import math
from typing import Any

import numpy as np
from ophyd import Component as Cpt
from ophyd import Device
from ophyd.status import Status

from bluesky_gpsts.devices.background import Operation
from bluesky_gpsts.devices.gate import DryRun
from bluesky_gpsts.devices.limits import LimitError, Limits
from bluesky_gpsts.devices.settings import SETTINGS
from bluesky_gpsts.devices.signals import (
    ArraySignal,
    Quantity,
    SettingSignal,
    limits_of,
    link_of,
)
from bluesky_gpsts.nanonis import ProtocolError

__all__ = ["BiasSpectroscopy"]

CURRENT = ("Current (A)",)
LOCKIN_X = ("LI Demod 1 X (A)", "LI X 1 omega (A)", "LIX 1 omega (A)")
LOCKIN_Y = ("LI Demod 1 Y (A)", "LI Y 1 omega (A)", "LIY 1 omega (A)")


def _check_z_offset(limits: Limits, z_offset: float) -> float:
    # Above there is nothing to hit; below is the sample.
    return limits.check("a z offset", z_offset, "m", -limits.approach, math.inf)


def _check_bias(limits: Limits, bias: float) -> float:
    return limits.check_bias(bias)


class BiasSpectroscopy(Device):
    """The controller's bias spectroscopy module.

    A trigger holds the feedback, ramps the bias over the range and goes back, all done by the
    controller itself; it ends with the data. Stopping goes over another connection.
    """

    bias = Cpt(ArraySignal, units="V", kind="normal")
    current = Cpt(ArraySignal, units="A", kind="normal")
    lockin_x = Cpt(ArraySignal, units="A", kind="normal")
    lockin_y = Cpt(ArraySignal, units="A", kind="normal")
    didv = Cpt(ArraySignal, units="A/V", kind="normal")

    start = Cpt(
        SettingSignal, group="sweep_limits", index=0, units="V", kind="config", check=_check_bias
    )
    end = Cpt(
        SettingSignal, group="sweep_limits", index=1, units="V", kind="config", check=_check_bias
    )
    sweeps = Cpt(SettingSignal, group="sweep_props", index=1, whole=True, kind="config")
    backward = Cpt(SettingSignal, group="sweep_props", index=2, whole=True, kind="config")
    points = Cpt(SettingSignal, group="sweep_props", index=3, whole=True, kind="config")
    z_averaging = Cpt(SettingSignal, group="sweep_timing", index=0, units="s", kind="config")
    z_offset = Cpt(
        SettingSignal,
        group="sweep_timing",
        index=1,
        units="m",
        precision=12,
        kind="config",
        check=_check_z_offset,
    )
    initial_settling = Cpt(SettingSignal, group="sweep_timing", index=2, units="s", kind="config")
    slew = Cpt(SettingSignal, group="sweep_timing", index=3, units="V/s", kind="config")
    settling = Cpt(SettingSignal, group="sweep_timing", index=4, units="s", kind="config")
    integration = Cpt(SettingSignal, group="sweep_timing", index=5, units="s", kind="config")
    end_settling = Cpt(SettingSignal, group="sweep_timing", index=6, units="s", kind="config")
    z_control = Cpt(SettingSignal, group="sweep_timing", index=7, units="s", kind="config")
    duration = Cpt(Quantity, value=0.0, units="s", precision=1, kind="omitted")

    patience = 20.0
    """Seconds that a sweep may take beyond one and a half times its duration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._operation: Operation | None = None
        super().__init__(*args, **kwargs)

    def check(self) -> float:
        """Refuse a sweep that the limits do not allow; returns its duration (s).

        Raises
        ------
        LimitError
            If the bias range or the z offset is outside, or the feedback would not be held.
        """
        client, limits = link_of(self).main, limits_of(self)
        start, end = SETTINGS["sweep_limits"].read(client)
        for bias in (start, end):
            _check_bias(limits, bias)
        timing = SETTINGS["sweep_timing"].read(client)
        averaging, z_offset, initial, slew, settling, integration, ending, control = timing
        _check_z_offset(limits, z_offset)
        _, sweeps, backward, points = SETTINGS["sweep_props"].read(client)[:4]
        self._require_hold()
        (bias,) = SETTINGS["bias"].read(client)
        ramps = (abs(bias - start) + abs(end - bias)) / max(slew, 1e-6)
        passes = max(sweeps, 1) * (2 if backward else 1)
        fixed = averaging + initial + ending + control
        (feedback,) = SETTINGS["feedback"].read(client)
        (setpoint,) = SETTINGS["setpoint"].read(client)
        approach = max(0.0, -z_offset)
        if feedback:
            limits.check_junction(bias, setpoint, approach)
            limits.check_end_current(bias, setpoint, (start, end), approach)
        elif approach:
            raise LimitError(
                f"the sweep is refused: it would approach by {approach:g} m with the feedback off, "
                "from a gap that nobody knows"
            )
        return float(fixed + ramps + passes * points * (settling + integration))

    def _require_hold(self) -> None:
        """Refuse a sweep in which the feedback would follow the bias through zero."""
        reset, hold = SETTINGS["sweep_advanced"].read(link_of(self).main)[:2]
        if not (reset and hold):
            raise LimitError(
                "the sweep is refused: the controller is set not to hold the feedback during a "
                "sweep, or not to reset the bias after it; switch 'Z-Controller hold' and 'reset "
                "bias' on"
            )

    def prepare(self) -> None:
        """Select the channels and what must hold in every sweep.

        That is: loop held, bias reset, and no file or dialogue of the controller's own.
        """
        link = link_of(self)
        channels = [link.signal(*CURRENT), link.signal(*LOCKIN_X), link.signal(*LOCKIN_Y)]
        link.main.call("BiasSpectr.ChsSet", channels)
        advanced = SETTINGS["sweep_advanced"]
        advanced.write(link.main, [1, 1, *advanced.read(link.main)[2:]])
        props = SETTINGS["sweep_props"]
        values = props.read(link.main)
        props.write(link.main, [*values[:5], 0, 0])

    def trigger(self) -> Status:
        """Take one spectrum.

        Returns
        -------
        ophyd.status.Status
            Done when the data are in the signals and the controller is back at its bias.

        Raises
        ------
        LimitError
            If the sweep is not allowed; nothing was started then.
        TipWithdrawn
            If the safe tip has withdrawn the tip.
        DryRun
            If it is allowed, in a dry run.
        """
        seconds = self.check()
        self.root.z_controller.require_tip()
        self.root.require_unchanged()
        if link_of(self).main.dry:
            # Not sent, but entered in the log.
            link_of(self).main.call("BiasSpectr.Start", 1, "")
            raise DryRun(f"a sweep of {seconds:.3g} s")
        self.duration.put(seconds)
        operation = Operation("bias spectroscopy")
        self._operation = operation
        return operation.run(self, lambda: self._sweep(operation, 1.5 * seconds + self.patience))

    def _sweep(self, operation: Operation, seconds: float) -> None:
        link = link_of(self)
        operation.check()
        names, data, _ = link.data.call("BiasSpectr.Start", 1, "", timeout=seconds)
        operation.check()
        # What was swept with the tip withdrawn meanwhile is no spectrum.
        self.root.z_controller.require_tip()
        if len(names) != len(data):
            raise ProtocolError(
                f"the sweep came back with {len(data)} of {len(names)} columns; it was broken off "
                "at the controller"
            )
        columns = dict(zip(names, np.asarray(data, dtype=float), strict=True))
        bias = next(iter(columns.values()), np.zeros(0))
        points = link.main.call("BiasSpectr.PropsGet")[3]
        if len(bias) != points:
            raise ProtocolError(
                f"the sweep came back with {len(bias)} of {points} points; it was broken off at "
                "the controller"
            )
        current, x, y = (self._column(columns, names) for names in (CURRENT, LOCKIN_X, LOCKIN_Y))
        (amplitude,) = link.main.call("LockIn.ModAmpGet", 1)
        (modulated,) = link.main.call("LockIn.ModOnOffGet", 1)
        # Without modulation there is no first harmonic, and the current itself is differentiated.
        didv = x / amplitude if modulated and amplitude > 0 else np.gradient(current, bias)
        for signal, values in (
            (self.bias, bias),
            (self.current, current),
            (self.lockin_x, x),
            (self.lockin_y, y),
            (self.didv, didv),
        ):
            signal.put(values)

    @staticmethod
    def _column(columns: dict[str, Any], names: tuple[str, ...]) -> Any:
        for name in names:
            if name in columns:
                forward = columns[name]
                backward = columns.get(name.replace(" (", " [bwd] ("))
                return forward if backward is None else 0.5 * (forward + backward)
        raise ProtocolError(f"the sweep has no channel {names[0]!r}; it has {list(columns)}")

    def stop(self, *, success: bool = False) -> None:
        """Break a sweep off; the controller goes back to its bias and switches feedback on.

        Unless with `success`, the status of the sweep fails.
        """
        link = link_of(self)
        if self._operation is not None:
            self._operation.stop(lambda: link.emergency.call("BiasSpectr.Stop"), expected=success)

    def pause(self) -> None:
        """Break a sweep off when the plan is paused; on resumption it is taken again."""
        self.stop(success=True)

    def resume(self) -> None:
        """Go on after a pause: the plan goes back to its last checkpoint by itself."""
