"""The microscope: all devices of one controller, and the state to go back to."""

import ipaddress
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device, Kind, Signal
from ophyd.device import Staged

from bluesky_gpsts.devices.conditioning import BiasPulse, TipShaper
from bluesky_gpsts.devices.electronics import (
    Bias,
    Current,
    LockIn,
    Piezo,
    SafeTip,
    TipWithdrawn,
    ZController,
)
from bluesky_gpsts.devices.expected import WATCHED
from bluesky_gpsts.devices.gate import Alarm, Gate, Mode
from bluesky_gpsts.devices.halt import SECONDS, halt, stop_controller, withdraw
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError, Limits
from bluesky_gpsts.devices.link import Link
from bluesky_gpsts.devices.scan import Scan
from bluesky_gpsts.devices.settings import (
    RESTORED,
    SETTINGS,
    read_settings,
    try_to_read,
    write_settings,
)
from bluesky_gpsts.devices.spectroscopy import BiasSpectroscopy
from bluesky_gpsts.devices.tip import TipPosition
from bluesky_gpsts.nanonis import NanonisError

__all__ = ["NanonisSTM"]

logger = logging.getLogger(__name__)

# A signal that only a simulator has, whose time need not be the computer's.
TIME = "Time (s)"
PORTS = (6501, 6502, 6503, 6504)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SettingsChanged(LimitError):
    """Somebody else has changed a setting while a plan runs."""


def limits_for(host: str, limits: Limits | None) -> Limits:
    """Limits for the controller at `host`: those given, or else the simulator's.

    Raises
    ------
    ValueError
        If the host is not loopback and no limits are given, or they are no `Limits`.
    """
    if limits is not None:
        if not isinstance(limits, Limits):
            raise ValueError(
                f"limits must be a Limits, as Limits.load('limits.toml') returns, not {limits!r}"
            )
        return limits
    if not _is_loopback(host):
        raise ValueError(
            f"limits are required for {host}: an instrument that is not the simulator is driven "
            "only within limits that its owner has written down; start from what 'gpsts limits' "
            "prints, and pass limits=Limits.load('limits.toml')"
        )
    return SIMULATOR_LIMITS


class NanonisSTM(Device):
    """A scanning tunnelling microscope under a Nanonis controller.

    Staging takes a snapshot of every setting that a plan may change; unstaging puts them back, in
    the order that is safe for the tip, feedback last. The RunEngine unstages however a plan ends.

    Parameters
    ----------
    name : str
        Name of the device; prefix of its data keys.
    host : str
        Name or address of the controller's computer.
    ports : tuple of int
        Three or four of the controller's ports.
    limits : Limits, optional
        What the instrument may be told to do, as `Limits.load` reads it from the instrument's
        file. Only a loopback host, that is a simulator, has defaults.
    mode : {"normal", "read_only", "dry_run"}
        "read_only" refuses everything that would change something; "dry_run" checks and records
        it, and does not send it. Readings are the controller's in every mode.
    audit : str or Path, optional
        File to which a JSON line is added for every write: time, who, command, old and new value.

    Raises
    ------
    ValueError
        If the host is not loopback and no limits are given.
    """

    bias = Cpt(Bias, kind="hinted")
    current = Cpt(Current)
    z_controller = Cpt(ZController)
    tip = Cpt(TipPosition)
    scan = Cpt(Scan, kind="omitted")
    spectroscopy = Cpt(BiasSpectroscopy, kind="omitted")
    lock_in = Cpt(LockIn)
    piezo = Cpt(Piezo, kind="omitted")
    safe_tip = Cpt(SafeTip)
    shaper = Cpt(TipShaper, kind="omitted")
    pulse = Cpt(BiasPulse, kind="omitted")

    def __init__(
        self,
        *,
        name: str = "stm",
        host: str = "127.0.0.1",
        ports: tuple[int, ...] = PORTS,
        limits: Limits | None = None,
        mode: Mode = "normal",
        audit: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.instrument_limits = limits_for(host, limits)
        self.gate = Gate(self.instrument_limits, mode, audit)
        self.link = Link(host, ports, self.gate)
        self.halting = SECONDS
        self._snapshot: dict[str, tuple[Any, ...]] | None = None
        super().__init__(name=name, **kwargs)

    def connect(self) -> "NanonisSTM":
        """Open the connections; returns the device itself.

        Raises
        ------
        ConnectFailed
            If the controller cannot be reached or a port is taken.
        """
        self.link.connect()
        return self

    def disconnect(self) -> None:
        """Close the connections."""
        self.link.close()

    def clock(self) -> float:
        """Seconds on the clock that drift goes by: the computer's, or a simulator's own."""
        if self.link.has_signal(TIME):
            return float(self.link.main.call("Signals.ValGet", self.link.signal(TIME), 0)[0])
        return time.time()

    # ------------------------------------------------------------ snapshot and restoration

    def stage(self) -> list[Any]:
        """Take note of the settings, and prepare the modules.

        Raises
        ------
        Alarm
            After an alarm, until `reset_alarm`.
        """
        self.require_no_alarm()
        staged: list[Any] = super().stage()
        if self.gate.mode != "read_only":
            # A change that an earlier plan began may still be under way.
            with self.link.writing:
                if self.gate.mode == "normal":
                    # What writes nothing has nothing to put back.
                    self._snapshot = read_settings(self.link.main)
                    self.gate.expected.begin(dict(self._snapshot))
                self.prepare()
        return staged

    @property
    def staged(self) -> bool:
        """Whether a plan has staged it, and nothing has unstaged it since."""
        return self._staged is not Staged.no

    def prepare(self) -> None:
        """Set what must hold in every sweep and every image."""
        self.spectroscopy.prepare()
        self.scan.prepare()

    def require_no_alarm(self) -> None:
        """Refuse to begin anything after an alarm.

        Raises
        ------
        Alarm
            Until `reset_alarm`.
        """
        if self.gate.alarm:
            raise Alarm(
                f"there has been an alarm: {self.gate.alarm}; look at the instrument, then call "
                f"{self.name}.reset_alarm()"
            )

    def settings(self) -> list[Signal]:
        """All settings of the instrument that have a signal."""
        signals = (found.item for found in self.walk_signals())
        return [signal for signal in signals if signal.kind == Kind.config]

    def unstage(self) -> list[Any]:
        """Put the settings back as they were at staging."""
        unstaged: list[Any] = super().unstage()
        snapshot, self._snapshot = self._snapshot, None
        try:
            if snapshot is not None:
                self.restore(snapshot)
        finally:
            self.gate.expected.begin({})
        return unstaged

    def changed_by_others(self, names: Sequence[str] = tuple(SETTINGS)) -> dict[str, str]:
        """Groups of settings that somebody else has changed.

        What counts is what they were at staging, or as this session has set them since; a tip that
        has been withdrawn is no change of the feedback.

        Parameters
        ----------
        names : sequence of str
            Which groups to look at, by their names in `settings.SETTINGS`; all unless given.

        Returns
        -------
        dict of str to str
            Name of the group, and a sentence on it.
        """
        client = self.link.main
        found = self.gate.expected.changed_by_others(lambda name: try_to_read(client, name), names)
        if "feedback" in found and self.z_controller.withdrawn():
            del found["feedback"]
        return found

    def require_unchanged(self) -> None:
        """Refuse to go on where somebody else has changed bias, setpoint, feedback or frame.

        What counts is what they were at staging, or as this session has set them since.

        Raises
        ------
        SettingsChanged
            If one of them is something else.
        TipWithdrawn
            If the tip has been withdrawn.
        """
        if self.gate.expected.feedback:
            self.z_controller.require_tip()
        for sentence in self.changed_by_others(WATCHED).values():
            raise SettingsChanged(
                f"{sentence}; the plan does not go on, for its data would not be what it says"
            )

    def restore(self, snapshot: dict[str, tuple[Any, ...]]) -> None:
        """Bring the controller back to a snapshot: modules stopped, settings, bias, feedback last.

        If that cannot be done, because the controller does not answer, a module does not confirm
        that it has stopped or a setting is refused, nothing more is written but a withdrawal of
        the tip. A tip that has been withdrawn meanwhile, by the controller's safe tip or by hand,
        stays withdrawn, and after an alarm nothing is written at all. A group of settings stays as
        it is where somebody else has changed it since staging.

        Raises
        ------
        NanonisError, TimeoutError, LimitError
            After the withdrawal, with what was wrong.
        """
        if self.gate.alarm:
            self.stop(success=True)
            logger.error("nothing is restored after the alarm: %s", self.gate.alarm)
            return
        try:
            self.link.recover()
            self.stop(success=True)
            self._stop_modules()
            with self.link.writing:
                self._restore(snapshot)
        except (NanonisError, TimeoutError, OSError, LimitError) as error:
            logger.exception("the controller cannot be restored; withdrawing the tip")
            self.gate.raise_alarm(f"the controller could not be restored ({error})")
            self.emergency_withdraw()
            raise
        except (Alarm, TipWithdrawn):
            # It came meanwhile, and the tip is withdrawn.
            logger.exception("restoring was broken off")

    def _restore(self, snapshot: dict[str, tuple[Any, ...]]) -> None:
        """Write a snapshot back, feedback last; what somebody else has changed stays as it is."""
        client, z = self.link.main, self.z_controller
        others = self.changed_by_others()
        for sentence in others.values():
            logger.warning("%s; it stays so", sentence)
        if "sweep_timing" in others and "sweep_props" in snapshot:
            # Both hold the z offset.
            offset = SETTINGS["sweep_timing"].read(client)[1]
            props = snapshot["sweep_props"]
            snapshot = {**snapshot, "sweep_props": (*props[:4], offset, *props[5:])}
        write_settings(client, snapshot, [name for name in RESTORED if name not in others])
        bias, setpoint = float(snapshot["bias"][0]), float(snapshot["setpoint"][0])
        # So that the gap only widens before both are what they were.
        if "setpoint" not in others and setpoint < z.setpoint.get():
            z.setpoint.ramp(setpoint)
        chosen = {"bias", "setpoint", "feedback"} & set(others)
        if "bias" not in others and abs(self.bias.get() - bias) > 1e-9:
            if not chosen or self._fits(bias, z.setpoint.get()):
                self.bias.put(bias)
        if "setpoint" not in others and setpoint > z.setpoint.get():
            if not chosen or self._fits(self.bias.get(), setpoint):
                z.setpoint.ramp(setpoint)
        feedback = bool(snapshot["feedback"][0])
        if feedback and z.withdrawn():
            logger.error("the tip was withdrawn meanwhile; the feedback stays off")
        elif "feedback" not in others and bool(z.feedback.get()) != feedback:
            z.switch_feedback(feedback)

    def _fits(self, bias: float, setpoint: float) -> bool:
        """Whether a bias (V) and a setpoint (A) go together, of which somebody else chose one."""
        limits, feedback = self.instrument_limits, bool(self.z_controller.feedback.get())
        try:
            limits.check_bias(bias, feedback)
            limits.check_junction(bias, setpoint)
        except LimitError as error:
            logger.warning("not put back, for somebody else has changed the other: %s", error)
            return False
        return True

    def _stop_modules(self) -> None:
        """Stop sweep, scan and move, and confirm that the first two have stopped."""
        client = self.link.emergency
        if client.call("BiasSpectr.StatusGet")[0]:
            client.call("BiasSpectr.Stop")
        if client.call("Scan.StatusGet")[0]:
            client.call("Scan.Action", 1, 0)
        client.call("FolMe.Stop")
        if client.call("BiasSpectr.StatusGet")[0] or client.call("Scan.StatusGet")[0]:
            raise TimeoutError("the controller goes on scanning or sweeping after being stopped")

    def emergency_withdraw(self) -> None:
        """Withdraw the tip over the connection kept for this, or over any port that answers.

        Raises
        ------
        ConnectFailed
            If the controller cannot be reached at all.
        """
        try:
            if not self.link.emergency.connected:
                self.link.emergency.connect()
            self.z_controller.withdraw()
        except NanonisError:
            logger.exception("the emergency connection fails; trying every port")
            stop_controller(self.link.host, self.link.ports, self.halting, withdraw)

    def emergency_stop(self, reason: str = "stopped by hand") -> list[str]:
        """Withdraw the tip, stop everything, and write nothing more until `reset_alarm`.

        Works from any thread and while a plan runs, over the connection kept for this, or over
        any other port that answers.

        Parameters
        ----------
        reason : str
            Why, for messages and for the run.

        Returns
        -------
        list of str
            What the controller refused or still does; empty if all has stopped.

        Raises
        ------
        ConnectFailed
            If the controller cannot be reached at all.
        """
        self.gate.raise_alarm(reason)
        logger.critical("emergency stop: %s", reason)
        troubles = self._halt()
        # A write that was under way when the alarm came may have reached the controller last.
        if not self.gate.wait_for_writes(self.halting):
            troubles.append("a command was still under way")
        return troubles if self._withdrawn_for_good() else troubles + self._halt()

    def _halt(self) -> list[str]:
        emergency = self.link.emergency
        try:
            if not emergency.connected:
                emergency.connect()
            return halt(emergency, self.halting)
        except NanonisError:
            logger.exception("the emergency connection fails; trying every port")
            return stop_controller(self.link.host, self.link.ports, self.halting)[1]

    def _withdrawn_for_good(self) -> bool:
        """Whether the feedback is off; False if that cannot be read either."""
        try:
            return not self.link.emergency.call("ZCtrl.OnOffGet", timeout=self.halting)[0]
        except NanonisError:
            logger.exception("whether the tip is withdrawn cannot be read")
            return False

    def reset_alarm(self) -> None:
        """Allow writing again after an alarm, once you have looked at the instrument."""
        self.gate.reset()

    def stop(self, *, success: bool = False) -> None:
        """Stop every operation under way."""
        for part in (self.spectroscopy, self.scan, self.tip, self.shaper, self.pulse):
            part.stop(success=success)
