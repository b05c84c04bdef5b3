"""A connection whose writes go through a gate."""

from typing import Any

from bluesky_gpsts.devices.gate import Gate
from bluesky_gpsts.devices.settings import COUPLED, SETTINGS
from bluesky_gpsts.nanonis import Client
from bluesky_gpsts.nanonis.commands import command, is_idempotent

__all__ = ["GatedClient"]

_READING = ("Scan.FrameDataGrab",)


class GatedClient(Client):
    """A connection whose writes go through a gate.

    Parameters
    ----------
    gate : Gate
        Shared by all connections of a microscope.
    *args, **kwargs
        As for `bluesky_gpsts.nanonis.Client`.
    """

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate = gate

    @property
    def dry(self) -> bool:
        """Whether writes are not sent."""
        return self.gate.mode == "dry_run"

    @property
    def planned(self) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Settings as a dry run would have made them; empty otherwise, and forgotten at once."""
        return self.gate.planned if self.gate._planning else {}

    def call(self, name: str, *values: Any, timeout: float | None = None) -> tuple[Any, ...]:
        """Send a command, if it may be sent; see `bluesky_gpsts.nanonis.Client.call`.

        Raises
        ------
        Alarm, LimitError
            If it may not; nothing was sent then.
        """
        if is_idempotent(name) or name in _READING:
            reply = super().call(name, *values, timeout=timeout)
            self.gate.remember(name, values, reply)
            return reply
        command(name, self.release)
        foreign: dict[str, str] = {}
        if name in COUPLED and not self.dry:
            # What somebody has changed before does not become this session's on the way.
            foreign = self.gate.expected.changed_by_others(
                lambda s: SETTINGS[s].read(self), COUPLED[name]
            )
        with self.gate.writing(name, values) as send:
            reply = super().call(name, *values, timeout=timeout) if send else ()
        if send:
            # The controller rounds, and may change more than it was asked to.
            for setting in self.gate.expected.to_read_back(name, foreign):
                self.gate.expected.settle(setting, SETTINGS[setting].read(self))
        return reply
