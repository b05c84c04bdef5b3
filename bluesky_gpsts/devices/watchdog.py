"""A watchdog over the tip: a thread of its own, on a connection of its own."""

import logging
import math
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Self

from bluesky_gpsts.nanonis import NanonisError

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_CURRENT, _HEIGHT = ("Current (A)",), ("Z (m)",)
_OFF, _ON, _HOLD, _SAFE_TIP_EVENT, _WITHDRAWING = 1, 2, 3, 5, 6
_AT_THE_TOP = 1e-9


class Watchdog:
    """Looks at current, height and safe tip while a plan runs.

    A current above the limit or a height out of range in several looks in a row, a safe-tip event,
    a tip that somebody else has withdrawn, or a reading that fails is an alarm: the tip is
    withdrawn, everything stopped, all further writing refused, and `on_alarm` is called.

    It is the second line: it looks some thirty times a second, where a tip crashes within a
    millisecond. The first is the controller's own safe tip. While a pulse or an indentation is
    under way, current and height may be what they like.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope. Its emergency connection is used.
    on_alarm : callable, optional
        Called with the reason, in the watchdog's thread, when the tip is safe.
    interval : float
        Seconds between two looks.
    breaches : int
        Looks in a row that must be out of limits.
    patience : float
        Longest wait (s) for a reading.
    """

    def __init__(
        self,
        stm: Any,
        on_alarm: Callable[[str], None] | None = None,
        *,
        interval: float = 0.03,
        breaches: int = 3,
        patience: float = 1.0,
    ) -> None:
        self.stm = stm
        self.on_alarm = on_alarm
        self.interval, self.breaches, self.patience = interval, breaches, patience
        self.looks = 0
        self._in_a_row = 0
        self._watchers = 0
        self._top = math.inf
        self._withdrawn_before = False
        self._closing, self._lock = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{stm.name}-watchdog", daemon=True)

    def start(self) -> Self:
        """Start the thread; it looks only while somebody calls for it with `watching`."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with self._lock:
            self._lock.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Watch as long as the context is open.

        Raises
        ------
        RuntimeError
            If the watchdog has not been started: nobody would be watching.
        NanonisError
            If the controller cannot be read to begin with.
        """
        if not self._thread.is_alive():
            raise RuntimeError(
                "the watchdog does not run: the session has been closed, or the watchdog was never "
                "started; start a session, or the watchdog, before a plan"
            )
        with self._lock:
            if not self._watchers:
                self.prepare()
            self._watchers += 1
            self._lock.notify_all()
        try:
            yield
        finally:
            with self._lock:
                self._watchers -= 1

    def prepare(self) -> None:
        """Learn how high the tip can go, and whether it is there already."""
        client = self.stm.link.emergency
        if not client.connected:
            client.connect()
        self._top = client.call("ZCtrl.LimitsGet", timeout=self.patience)[0]
        self._in_a_row = 0
        _, height, status = self._read()
        self._withdrawn_before = self._withdrawn(height, status)
        self.stm.gate.withdrawing = False

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                self._lock.wait_for(lambda: self._watchers or self._closing.is_set())
            if self._closing.is_set():
                return
            reason = "" if self.stm.gate.alarm else self.look()
            if reason:
                self._raise(reason)
            self._closing.wait(self.interval)

    def look_once_more(self) -> None:
        """Look now, at the end of a run, without waiting for the thread.

        Whatever made a plan fail is then known as an alarm, if it is one.
        """
        reason = "" if self.stm.gate.alarm else self.look()
        if reason:
            self._stop(reason)

    def _read(self) -> tuple[float, float, int]:
        link = self.stm.link
        channels = [link.signal(*_CURRENT), link.signal(*_HEIGHT)]
        (values,) = link.emergency.call("Signals.ValsGet", channels, 0, timeout=self.patience)
        (status,) = link.emergency.call("ZCtrl.StatusGet", timeout=self.patience)
        return float(values[0]), float(values[1]), int(status)

    def _withdrawn(self, height: float, status: int) -> bool:
        return status == _WITHDRAWING or (status == _OFF and height >= self._top - _AT_THE_TOP)

    def _treated(self, height: float) -> bool:
        """Whether a tip that is not at the top is lifted by a tip shaper of this session."""
        return self.stm.gate.conditions and height < self._top - _AT_THE_TOP

    def look(self) -> str:
        """Look once; returns the reason for an alarm, or nothing."""
        self.looks += 1
        try:
            current, height, status = self._read()
        except (NanonisError, OSError, IndexError) as error:
            return self._failed(error)
        if not (math.isfinite(current) and math.isfinite(height)):
            return f"the watchdog read a current of {current} A at a height of {height} m"
        if status == _SAFE_TIP_EVENT:
            return "the controller's safe tip has withdrawn the tip"
        if self._withdrawn(height, status) and not self._treated(height):
            if not (self._withdrawn_before or self.stm.gate.withdrawing):
                return (
                    "the tip has been withdrawn from outside: by gpsts stop, at the controller, "
                    "or by another program"
                )
        else:
            self._withdrawn_before = False
        reason = "" if self.stm.gate.conditions else self._breach(current, height, status)
        self._in_a_row = self._in_a_row + 1 if reason else 0
        return reason if self._in_a_row >= self.breaches else ""

    @staticmethod
    def _failed(error: Exception) -> str:
        return f"the watchdog cannot read the controller: {error}"

    def _breach(self, current: float, height: float, status: int) -> str:
        limits = self.stm.instrument_limits
        lowest, highest = limits.z
        if abs(current) > limits.current:
            return f"the current of {current:g} A is above {limits.current:g} A"
        if height < lowest:
            return f"the tip at {height:g} m is below {lowest:g} m"
        if height > highest and status in (_ON, _HOLD):
            return f"the tip at {height:g} m is above {highest:g} m, with the feedback on"
        return ""

    def _raise(self, reason: str) -> None:
        self._stop(reason)
        if self.on_alarm is not None:
            self.on_alarm(reason)

    def _stop(self, reason: str) -> None:
        try:
            troubles = self.stm.emergency_stop(reason)
        except NanonisError as error:
            # Nobody can reach the controller; the plan ends all the same.
            logger.critical("%s", error)
        else:
            if troubles:
                logger.critical("after the alarm: %s", "; ".join(troubles))
