"""A plan gone through without the microscope: all is checked, nothing is sent, nothing filed."""

from collections.abc import Callable, Generator
from typing import Any

from bluesky.utils import Msg, RequestStop, RunEngineControlException, ensure_generator
from ophyd import Device, Signal

from bluesky_gpsts.devices import DryRun, NanonisSTM
from bluesky_gpsts.devices.electronics import WITHDRAWN
from bluesky_gpsts.devices.settings import SETTINGS, read_settings
from bluesky_gpsts.devices.signals import ArraySignal, Quantity
from bluesky_gpsts.devices.tip import PLACE
from bluesky_gpsts.plans.veto import Veto

__all__ = ["rehearse"]


Plan = Generator[Msg, Any, Any]

# Everything else is either looked at here or left out, documents among it.
_RUN = ("input", "null", "RE_class", "wait_for")
# It is over in no time, and to pause in it would leave a person with settings that are not there.
_NOTHING = Msg("null")
_PASSED = ("checkpoint", "clear_checkpoint", "pause", "sleep")
_READING = ("locate", "read")
_SHOWN = 60


class _DataWanted(RequestStop):
    """The plan goes on by what it has measured, which a rehearsal has not."""


def rehearse(plan: Any, stm: NanonisSTM, tell: Callable[[str], None] = print) -> Plan:
    """Check a plan message by message; nothing is sent, and no run is filed.

    Settings count as set, and the tip as moved, until the rehearsal ends, so that what follows is
    judged by them; the same checks hold as when the plan runs, those of the guard and those of the
    devices. A plan whose messages do not depend on what it measures is gone through to its end.
    One that reads its data ends where it first does so. Other devices are not moved; where they
    have a ``check_value``, it is asked. A soft signal, which moves nothing, is set, and put back at
    the end. Pauses and waiting are left out. Within a plan that has staged the microscope, what it
    has noted then stays noted.

    In a session with ``mode="dry_run"`` every plan is rehearsed; in any other one
    ``RE(rehearse(gp_sts(stm), stm))`` does it.

    Parameters
    ----------
    plan : iterable of Msg
        The plan.
    stm : NanonisSTM
        The microscope.
    tell : callable
        Gets a line for each setting, move and measurement, and a summary.

    Returns
    -------
    int
        Number of messages that were checked.

    Raises
    ------
    LimitError, TipWithdrawn, Alarm, ValueError
        What the plan would raise.
    """
    inner = ensure_generator(plan)
    rehearsal = _Rehearsal(stm, tell)
    response: Any = None
    error: BaseException | None = None
    with stm.gate.rehearsing() as outside, rehearsal:
        while True:
            try:
                msg = inner.throw(error) if error is not None else inner.send(response)
            except StopIteration:
                rehearsal.conclude(rehearsal.to_the_end())
                return rehearsal.checked
            except _DataWanted:
                rehearsal.conclude("allowed as far as to the first data that the plan goes on by")
                return rehearsal.checked
            response = error = None
            try:
                if msg.command in _PASSED:
                    with outside():
                        # So that an endless plan can be broken off.
                        yield _NOTHING
                elif msg.command in _RUN or rehearsal.elsewhere(msg):
                    with outside():
                        response = yield msg
                else:
                    response = rehearsal.take(msg)
            except GeneratorExit:
                inner.close()
                raise
            except Exception as failure:
                rehearsal.note(failure)
                error = failure


class _Rehearsal:
    """What a rehearsal has come to."""

    def __init__(self, stm: NanonisSTM, tell: Callable[[str], None]) -> None:
        self.stm, self.tell = stm, tell
        self.checked = self._lines = 0
        self._veto = Veto(stm)
        self._measured: list[Any] = []
        self._bundles: set[Any] = set()
        # A plan around this one has staged it, and will unstage it.
        self._around = stm.staged
        self._before = dict(stm.gate.planned)
        self._refused: list[str] = []
        self._kept: dict[Any, Any] = {}

    def __enter__(self) -> "_Rehearsal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.stm.staged and not self._around:
            self.stm.unstage()
        for signal, value in self._kept.items():
            signal.put(value)

    def note(self, failure: Exception) -> None:
        """Keep what was refused; the plan may catch it."""
        if not isinstance(failure, RunEngineControlException):
            self._refused.append(f"{failure}")

    def to_the_end(self) -> str:
        """What is to be said of a plan that has come to its end."""
        if not self._refused:
            return "the whole plan is allowed"
        count = len(self._refused)
        return (
            f"the plan comes to its end, but {count} of its messages "
            f"{'was' if count == 1 else 'were'} refused ({self._refused[0]})"
        )

    def conclude(self, how: str) -> None:
        more = self._lines - _SHOWN
        if more > 0:
            self.tell(f"  ... and {more} lines more")
        self.tell(
            f"Dry run: {how} ({self.checked} messages). Nothing was written, nothing measured, and "
            "no run filed."
        )

    def elsewhere(self, msg: Msg) -> bool:
        """Whether a message only reads a device that has nothing to do with the microscope."""
        return msg.command in _READING and not self._ours(msg.obj) and msg.run not in self._bundles

    def take(self, msg: Msg) -> Any:
        """Check a message, and do as much of it as can be done without the microscope."""
        self.checked += 1
        self._veto.check(msg)
        if msg.command in ("create", "save", "drop"):
            (self._bundles.add if msg.command == "create" else self._bundles.discard)(msg.run)
            return None
        work = {
            "stage": self._stage,
            "unstage": self._stage,
            "set": self._set,
            "trigger": self._trigger,
            "read": self._read,
            "locate": self._read,
        }.get(msg.command)
        return None if work is None else work(msg)

    def _line(self, text: str) -> None:
        self._lines += 1
        if self._lines <= _SHOWN:
            self.tell(f"  {text}")

    def _ours(self, obj: Any) -> bool:
        """Whether it is a part of the microscope, or a value that a plan keeps for its events."""
        root = getattr(obj, "root", None)
        return root is self.stm or isinstance(obj, Quantity) or type(obj) is Signal

    def _stage(self, msg: Msg) -> Any:
        if msg.obj is not self.stm:
            return None
        gate = self.stm.gate
        if msg.command == "unstage":
            unstaged = [self.stm] if self._around else self.stm.unstage()
            stays = {key: gate.planned[key] for key in (PLACE, WITHDRAWN) if key in gate.planned}
            if stays.get(WITHDRAWN, (False,))[0]:
                feedback = SETTINGS["feedback"].key
                stays[feedback] = gate.planned[feedback]
            gate.planned = {**self._before, **stays}
            return unstaged
        self._before = dict(gate.planned)
        if self._around:
            self.stm.require_no_alarm()
            self.stm.prepare()
            return [self.stm]
        staged = self.stm.stage()
        # From here on the devices refuse to go on where a setting is not as they left it.
        gate.expected.begin(read_settings(self.stm.link.main))
        return staged

    def _set(self, msg: Msg) -> Any:
        kwargs = {name: value for name, value in msg.kwargs.items() if name != "group"}
        if self._ours(msg.obj):
            if getattr(msg.obj, "root", None) is self.stm:
                self._line(f"{msg.obj.name} would be set to {msg.args[0]}")
            if type(msg.obj) in (ArraySignal, Quantity, Signal):
                # The device itself holds it, not the controller.
                self._kept.setdefault(msg.obj, msg.obj.get())
            status = msg.obj.set(*msg.args, **kwargs)
            status.wait()
            return status
        if hasattr(msg.obj, "check_value"):
            msg.obj.check_value(*msg.args)
        self._line(f"{msg.obj.name}, another device, would be set to {msg.args[0]}")
        return None

    def _trigger(self, msg: Msg) -> Any:
        if getattr(msg.obj, "root", None) is not self.stm:
            return None
        try:
            status = msg.obj.trigger()
        except DryRun as told:
            self._measured.append(msg.obj)
            self._line(f"{msg.obj.name} would measure: {told.what}")
            return None
        status.wait()
        # Those that are only read do nothing.
        if not isinstance(msg.obj, Signal) and type(msg.obj).trigger is not Device.trigger:
            self._line(f"{msg.obj.name} would be triggered")
        return status

    def _read(self, msg: Msg) -> Any:
        if msg.run in self._bundles:
            return None
        part = msg.obj
        while part is not None:
            if any(part is measured for measured in self._measured):
                raise _DataWanted
            part = getattr(part, "parent", None)
        return msg.obj.read() if msg.command == "read" else msg.obj.locate()
