"""What a session has made of the settings, so that it sees when somebody else changes one."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from bluesky_gpsts.devices.settings import SETTINGS, affected_by, same_settings

__all__ = ["WATCHED", "Expected", "plain"]

WATCHED = ("bias", "setpoint", "feedback", "frame")
"""Settings, read and written in the same form, without which a plan does not go on when somebody
else changes them."""
# What breaks a sweep or a pulse off may leave the bias and the feedback anywhere.
_SWEEPING = (
    "Bias.Pulse",
    "BiasSpectr.Start",
    "BiasSpectr.Stop",
    "TipShaper.Start",
    "ZCtrl.Withdraw",
)


def plain(values: Sequence[Any]) -> list[Any]:
    """Values as JSON has them."""
    return [
        value.tolist() if isinstance(value, np.ndarray | np.generic) else value for value in values
    ]


class Expected:
    """Settings that only this session may change, and what it has made of them.

    Settings are named as in `bluesky_gpsts.devices.settings.SETTINGS`, in the form that they are
    written in.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self._unsure: set[str] = set()

    def copy(self) -> "Expected":
        """Another one that is the same for now."""
        new = Expected()
        new.values, new._unsure = dict(self.values), set(self._unsure)
        return new

    def begin(self, settings: dict[str, Sequence[Any]]) -> None:
        """Keep settings that only this session may change from now on; none to end it."""
        self.values = {name: plain(values) for name, values in settings.items()}
        self._unsure = set()

    @property
    def feedback(self) -> bool:
        """Whether this session has left the feedback on."""
        return bool(self.values.get("feedback", [0])[0])

    def wrote(self, command: str, values: Sequence[Any]) -> None:
        """Take note of a command of this session that was carried out."""
        for setting in affected_by(command):
            if setting in WATCHED and setting in self.values:
                self.settle(setting, values)

    def settle(self, setting: str, values: Sequence[Any]) -> None:
        """Keep what this session has made a setting, in the form that it is read in."""
        self.values[setting] = plain(values)
        self._unsure.discard(setting)

    def to_read_back(self, command: str, foreign: Container[str] = ()) -> list[str]:
        """Settings of which only reading tells what a command of this session has made them."""
        known = [s for s in affected_by(command) if s in self.values and s not in foreign]
        found = [s for s in known if s not in WATCHED]
        # Until then.
        self._unsure |= set(found)
        return found

    def doubt(self, command: str) -> None:
        """Note which settings a command that failed or broke something off may have changed."""
        self._unsure |= {setting for setting in self.values if SETTINGS[setting].set == command}
        if command in _SWEEPING:
            self._unsure |= {"bias", "feedback"} & set(self.values)

    def changed_by_others(
        self, read: Callable[[str], Sequence[Any] | None], names: Sequence[str]
    ) -> dict[str, str]:
        """Settings that somebody else has changed since `begin`, each with a sentence.

        What a command of this session that failed, or that broke a sweep off, may have changed is
        not among them.

        Parameters
        ----------
        read : callable
            Reads a setting by name, in the form that it is written in; None if it cannot be told.
        names : sequence of str
            Which ones to look at.
        """
        found = {}
        for name in names:
            if name not in self.values or name in self._unsure:
                continue
            now, expected = read(name), self.values[name]
            # What was written has more digits than what is read.
            absolute = 1e-15 if name in WATCHED else 0.0
            if now is not None and not same_settings(name, now, expected, absolute):
                was, new = (", ".join(map(_text, v)) for v in (expected, now))
                found[name] = (
                    f"the {name.replace('_', ' ')} was {was} and is {new}: somebody has changed it "
                    "at the controller"
                )
        return found


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
