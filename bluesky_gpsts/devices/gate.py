"""The one way to the controller for everything that changes something.

Devices call commands on the connections of `link.Link`. Commands that only read pass. All others
are looked at here: whether this program may send them at all, whether an alarm forbids writing,
and whether the session may write. Each is entered in the audit log before it is sent.
"""

import getpass
import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bluesky_gpsts.devices.expected import Expected, plain
from bluesky_gpsts.devices.limits import LimitError, Limits
from bluesky_gpsts.devices.settings import SETTINGS

__all__ = [
    "Alarm",
    "DryRun",
    "Gate",
    "Mode",
    "WriteRefused",
    "is_emergency",
    "known_mode",
]

logger = logging.getLogger(__name__)

Mode = Literal["normal", "read_only", "dry_run"]

_CONDITIONING = ("Bias.Pulse", "TipShaper.Start")
# Calibrations, the safe tip's own settings, loading settings and quitting are not among them.
_WRITING = frozenset(
    {setting.set for setting in SETTINGS.values()}
    | {
        "BiasSpectr.Start",
        "FolMe.XYPosSet",
        "Piezo.DriftCompSet",
        "Scan.Action",
        "TipShaper.PropsSet",
        "ZCtrl.ZPosSet",
        *_CONDITIONING,
    }
)
_STOPPING = ("BiasSpectr.Stop", "FolMe.Stop", "ZCtrl.Withdraw")
_HOUR = 3600.0
_PULSE_ABSOLUTE = 2


class WriteRefused(LimitError):
    """A command that changes something was not sent."""


class DryRun(RuntimeError):
    """A measurement that is allowed, and that a dry run does not make.

    Parameters
    ----------
    what : str
        What would be measured.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} is allowed and was not taken: a dry run measures nothing. To check a whole "
            "plan, run it: RE(plan) tells what it would do, and files no run"
        )


class Alarm(RuntimeError):
    """An alarm has withdrawn the tip; nothing is written until a person has looked at it."""


def known_mode(mode: Any) -> Mode:
    """Return a mode, or raise ValueError."""
    if mode not in ("normal", "read_only", "dry_run"):
        raise ValueError(f"mode must be 'normal', 'read_only' or 'dry_run', not {mode!r}")
    known: Mode = mode
    return known


def is_emergency(name: str, values: Sequence[Any]) -> bool:
    """Whether a command only stops something or takes the tip away."""
    return name in _STOPPING or (name == "Scan.Action" and bool(values) and values[0] == 1)


def _user() -> str:
    """Name of the user; containers may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


class Gate:
    """What may be written to one controller, and the record of it.

    Parameters
    ----------
    limits : Limits
        What the instrument may be told to do.
    mode : {"normal", "read_only", "dry_run"}
        "read_only" refuses every write; "dry_run" checks and records it, and does not send it.
        What stops something or withdraws the tip is sent in every mode.
    audit : str or Path, optional
        File to which a JSON line is added for each write.
    clock : callable
        Seconds, for the count of pulses and indentations in an hour.
    """

    def __init__(
        self,
        limits: Limits,
        mode: Mode = "normal",
        audit: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.mode: Mode = known_mode(mode)
        self.audit = None if audit is None else Path(audit)
        self.alarm, self.alarm_time = "", 0.0
        # A plan of this session withdraws the tip, which is no alarm.
        self.withdrawing = False
        self.kept: dict[tuple[Any, ...], list[Any]] = {}
        self.expected = Expected()
        self.planned: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._clock = clock
        self._who = f"{_user()}@{socket.gethostname()} ({os.getpid()})"
        self._conditioned: deque[float] = deque()
        self._conditioning = self._shaping = 0
        self._flying = 0
        self._planning = 0
        self._state = threading.Condition()
        self._file_lock = threading.Lock()

    # ------------------------------------------------------------ alarm

    def raise_alarm(self, reason: str) -> bool:
        """Refuse all writes from now on; False if they are refused already, for another reason."""
        with self._state:
            first = not self.alarm
            if first:
                self.alarm, self.alarm_time = reason, time.time()
        self.record("alarm", reason=reason)
        return first

    def reset(self) -> None:
        """Allow writes again; for a person who has looked at the instrument."""
        self.record("alarm reset", reason=self.alarm)
        self.alarm = ""

    def wait_for_writes(self, seconds: float) -> bool:
        """Wait until no write is under way; False if one still is after `seconds`."""
        with self._state:
            return self._state.wait_for(lambda: self._flying == 0, seconds)

    # ------------------------------------------------------------ dry runs

    @contextmanager
    def planning(self) -> Generator[None, None, None]:
        """Let what a dry run writes count as written until the outermost such context ends.

        Afterwards all readings are the controller's again. Without a dry run nothing is different.
        """
        with self._state:
            first = not self._planning
            self._planning += 1
            counted = self._conditioned.copy()
        try:
            yield
        finally:
            with self._state:
                self._planning -= 1
                if first and self.mode == "dry_run":
                    self.planned.clear()
                    self.kept.clear()
                    # What was not sent has treated no tip.
                    self._conditioned = counted

    @contextmanager
    def rehearsing(self) -> Generator[Callable[[], AbstractContextManager[None]], None, None]:
        """Make it a dry run for a while, in which what is written counts as written.

        Afterwards all is as it was before, what this session expects of the settings as well.

        Yields
        ------
        callable
            Gives a context in which all is as before for as long as it lasts: for whatever the
            RunEngine does meanwhile, or a person while it is paused.
        """
        before = self._exchange(
            {
                "mode": "dry_run",
                "planned": dict(self.planned),
                "kept": dict(self.kept),
                "expected": self.expected.copy(),
                "_conditioned": self._conditioned.copy(),
                "_planning": self._planning + 1,
            }
        )

        @contextmanager
        def outside() -> Generator[None, None, None]:
            nonlocal before
            inside = self._exchange(before)
            try:
                yield
            finally:
                before = self._exchange(inside)

        try:
            yield outside
        finally:
            self._exchange(before)

    def _exchange(self, state: dict[str, Any]) -> dict[str, Any]:
        """Put other values in the place of attributes; returns the old ones."""
        with self._state:
            old = {name: getattr(self, name) for name in state}
            for name, value in state.items():
                setattr(self, name, value)
        return old

    # ------------------------------------------------------------ conditioning

    @contextmanager
    def conditioning(self) -> Generator[None, None, None]:
        """Allow pulses and the tip shaper, within the limits; for a plan that exists for them."""
        self._conditioning += 1
        try:
            yield
        finally:
            self._conditioning -= 1

    @property
    def may_condition(self) -> bool:
        """Whether a plan that exists for pulses and the tip shaper is running."""
        return self._conditioning > 0

    @property
    def conditions(self) -> bool:
        """Whether a pulse or an indentation is under way, in which a large current is meant."""
        return self._shaping > 0

    def _check_conditioning(self, name: str, values: Sequence[Any]) -> None:
        limits = self.limits
        if name == "Bias.Pulse":
            _, width, value, _, absolute = values
            known = self.kept.get(("Bias.Get",))
            if absolute != _PULSE_ABSOLUTE and known is None:
                raise WriteRefused("a pulse relative to a bias that is not known is refused")
            base = 0.0 if known is None or absolute == _PULSE_ABSOLUTE else float(known[0])
            limits.check_pulse(base + value, width)
        else:
            known = self.kept.get(("TipShaper.PropsGet",))
            if known is None:
                raise WriteRefused("an indentation is refused: how deep has not been read")
            _, change, bias, lift, _, second_bias, _, height, *_ = known
            limits.check_depth(max(0.0, -lift, -(lift + height)))
            for volts in (bias, second_bias) if change else ():
                limits.check("a tip shaper's bias", volts, "V", *limits.bias)
        self.check_count()
        self._conditioned.append(self._clock())

    @property
    def conditioned(self) -> int:
        """Pulses and indentations within the last hour, in this session."""
        now = self._clock()
        while self._conditioned and now - self._conditioned[0] >= _HOUR:
            self._conditioned.popleft()
        return len(self._conditioned)

    def check_count(self) -> None:
        """Refuse one pulse or indentation more than allowed in an hour.

        Raises
        ------
        WriteRefused
            If so many have been; the message tells when the next one is allowed.
        """
        most = self.limits.conditioning_per_hour
        if self.conditioned < most:
            return
        wait = self._conditioned[0] + _HOUR - self._clock() if self._conditioned else _HOUR
        raise WriteRefused(
            f"another pulse or indentation is refused: this instrument allows {most} in an hour; "
            f"the next one is allowed in {wait / 60:.0f} min"
        )

    # ------------------------------------------------------------ writing

    def admit(self, name: str, values: Sequence[Any]) -> bool:
        """Whether a command that writes is to be sent.

        Raises
        ------
        Alarm
            After an alarm.
        LimitError
            If this program may not send it, or the session is read-only.
        """
        if is_emergency(name, values):
            return True
        if self.alarm:
            raise Alarm(
                f"{name} was not sent, because of an alarm: {self.alarm}; look at the instrument, "
                "then call stm.reset_alarm()"
            )
        if name not in _WRITING:
            raise WriteRefused(f"{name} is not a command that this program may send")
        self.require_writing(name)
        if name in _CONDITIONING:
            self._check_conditioning(name, values)
        if name == "Bias.Set":
            self._check_crossing(float(values[0]))
        return self.mode != "dry_run"

    def require_writing(self, what: str) -> None:
        """Refuse to write `what` in a session that only reads."""
        if self.mode == "read_only":
            raise WriteRefused(
                f"{what} is not written: this session only reads; start one with mode='normal'"
            )

    def _check_crossing(self, target: float) -> None:
        """Refuse a bias that passes zero with the feedback on, by what was read last."""
        feedback, bias = self.kept.get(("ZCtrl.OnOffGet",)), self.kept.get(("Bias.Get",))
        if feedback and feedback[0] and bias and bias[0] * target <= 0:
            raise WriteRefused(
                f"a bias of {target:g} V was not written: from {bias[0]:g} V it would pass zero "
                "with the feedback on"
            )

    @contextmanager
    def writing(self, name: str, values: Sequence[Any]) -> Generator[bool, None, None]:
        """Enclose the sending of a command; gives whether to send it."""
        emergency = is_emergency(name, values)
        with self._state:
            # Under one lock with `raise_alarm`: what comes after an alarm is seen here.
            send = self._admit_and_tell(name, values)
            self._flying += not emergency
            self._shaping += name in _CONDITIONING
        try:
            yield send
        except Exception as error:
            self.expected.doubt(name)
            self.record("failed", command=name, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            with self._state:
                self._flying -= not emergency
                self._shaping -= name in _CONDITIONING
                self._state.notify_all()
        self._remember_write(name, values)

    def _admit_and_tell(self, name: str, values: Sequence[Any]) -> bool:
        try:
            send = self.admit(name, values)
        except (LimitError, Alarm) as error:
            self.record("refused", command=name, new=plain(values), error=str(error))
            raise
        old = self.kept.get(self._read_by(name, values))
        entry = "write" if send else "dry run"
        self.record(entry, command=name, old=old, new=plain(values))
        return send

    @staticmethod
    def _read_by(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
        """The command, with its arguments, that reads what a command writes."""
        # The modulator's number comes first in both; a move's place is read without one.
        first = values[:1] if name.startswith("LockIn.") else ()
        return (f"{name[:-3]}Get", *first)

    def _remember_write(self, name: str, values: Sequence[Any]) -> None:
        key = self._read_by(name, values)
        if name in _STOPPING:
            self.expected.doubt(name)
        self.expected.wrote(name, values)
        # Elsewhere Set counts differently from Get, so that only a reading tells.
        if name in ("Bias.Set", "ZCtrl.OnOffSet", "ZCtrl.SetpntSet"):
            self.kept[key] = plain(values)
        else:
            self.kept.pop(key, None)

    def remember(self, name: str, arguments: Sequence[Any], values: Sequence[Any]) -> None:
        """Keep what was read, as the old value of a later write."""
        if name.endswith("Get"):
            key = (name, *arguments) if name.startswith("LockIn.") else (name,)
            self.kept[key] = plain(values)

    def record(self, event: str, **entry: Any) -> None:
        """Add a line to the audit log; it is on its way to the disk when this returns."""
        if self.audit is None:
            return
        line = {"time": datetime.now(UTC).isoformat(), "who": self._who, "event": event, **entry}
        with self._file_lock, self.audit.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
