"""The microscope: all devices of one controller, and the state to go back to."""

import ipaddress
import logging
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device, Kind, Signal

from bluesky_gpsts.devices.conditioning import BiasPulse, Conditioning, TipShaper
from bluesky_gpsts.devices.electronics import (
    Bias,
    Current,
    LockIn,
    Piezo,
    SafeTip,
    ZController,
)
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError, Limits
from bluesky_gpsts.devices.link import Link
from bluesky_gpsts.devices.scan import Scan
from bluesky_gpsts.devices.settings import RESTORED, SETTINGS, read_settings, write_settings
from bluesky_gpsts.devices.spectroscopy import BiasSpectroscopy
from bluesky_gpsts.devices.tip import TipPosition
from bluesky_gpsts.nanonis import NanonisError

__all__ = ["NanonisSTM"]

logger = logging.getLogger(__name__)

PORTS = (6501, 6502, 6503, 6504)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        What the instrument may be told to do. Only a loopback host, that is a simulator, has
        defaults.

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
        **kwargs: Any,
    ) -> None:
        if limits is None:
            if not _is_loopback(host):
                raise ValueError(
                    f"limits are required for {host}: an instrument that is not the simulator is "
                    "driven only within limits that its owner has written down; pass limits=Limits"
                    "(...)"
                )
            limits = SIMULATOR_LIMITS
        self.instrument_limits = limits
        self.link = Link(host, ports)
        self.conditioning = Conditioning()
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

    # ------------------------------------------------------------ snapshot and restoration

    def stage(self) -> list[Any]:
        """Take note of the settings, and prepare the modules."""
        staged: list[Any] = super().stage()
        self._snapshot = read_settings(self.link.main)
        self.spectroscopy.prepare()
        self.scan.prepare()
        return staged

    def settings(self) -> list[Signal]:
        """All settings of the instrument that have a signal."""
        signals = (found.item for found in self.walk_signals())
        return [signal for signal in signals if signal.kind == Kind.config]

    def unstage(self) -> list[Any]:
        """Put the settings back as they were at staging."""
        unstaged: list[Any] = super().unstage()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            self.restore(snapshot)
        return unstaged

    def restore(self, snapshot: dict[str, tuple[Any, ...]]) -> None:
        """Bring the controller back to a snapshot: modules stopped, settings, bias, feedback last.

        If that cannot be done, because the controller does not answer, a module does not confirm
        that it has stopped or a setting is refused, nothing more is written but a withdrawal of
        the tip. A tip that the controller's safe tip has withdrawn stays withdrawn.

        Raises
        ------
        NanonisError, TimeoutError, LimitError
            After the withdrawal, with what was wrong.
        """
        try:
            self.link.recover()
            self.stop(success=True)
            self._stop_modules()
            client = self.link.main
            write_settings(client, snapshot, RESTORED)
            (bias,) = client.call("Bias.Get")
            wanted = float(snapshot["bias"][0])
            if abs(bias - wanted) > 1e-9:
                self.bias.put(wanted)
            write_settings(client, snapshot, ("setpoint",))
            feedback = bool(snapshot["feedback"][0])
            if feedback and self.z_controller.withdrawn():
                logger.error("the tip was withdrawn meanwhile; the feedback stays off")
            elif bool(SETTINGS["feedback"].read(client)[0]) != feedback:
                self.z_controller.switch_feedback(feedback)
        except (NanonisError, TimeoutError, OSError, LimitError):
            logger.exception("the controller cannot be restored; withdrawing the tip")
            self.emergency_withdraw()
            raise

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
        """Withdraw the tip over the connection kept free for this, opening it anew if needed."""
        if not self.link.emergency.connected:
            self.link.emergency.connect()
        self.z_controller.withdraw()

    def stop(self, *, success: bool = False) -> None:
        """Stop every operation under way."""
        for part in (self.spectroscopy, self.scan, self.tip, self.shaper, self.pulse):
            part.stop(success=success)
