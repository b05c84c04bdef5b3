"""The RunEngine of a session, which tells an alarm as an alarm."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bluesky import RunEngine

from bluesky_gpsts.devices import Alarm
from bluesky_gpsts.devices.gate import Gate

__all__ = ["SessionEngine"]


class SessionEngine(RunEngine):
    """A RunEngine whose calls end in `Alarm` where an alarm has ended the plan.

    A plan that is aborted from another thread ends for a plain RunEngine in
    ``RunEngineInterrupted``, with the words of a pause, though there is nothing to resume.

    Parameters
    ----------
    gate : Gate
        The gate of the microscope, which holds the alarm.
    *args, **kwargs
        As for ``bluesky.RunEngine``.
    """

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:
        self._gate = gate
        super().__init__(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a plan; see ``bluesky.RunEngine``.

        Raises
        ------
        Alarm
            If an alarm has ended it: the tip is withdrawn, and nothing can be resumed.
        """
        with self._telling():
            return super().__call__(*args, **kwargs)

    def resume(self) -> Any:
        """Go on with a paused plan; after an alarm it is aborted instead.

        Raises
        ------
        Alarm
            If there has been an alarm.
        """
        if self._gate.alarm and self.state == "paused":
            self.abort(self._gate.alarm)
            raise self._alarm()
        with self._telling():
            return super().resume()

    @contextmanager
    def _telling(self) -> Generator[None, None, None]:
        before = self._gate.alarm
        try:
            yield
        except Exception as error:
            # A plan that is paused, and an alarm that came with it: `resume` tells.
            if self._gate.alarm and not before and self.state == "idle":
                raise self._alarm() from error
            raise
        if self._gate.alarm and not before:
            raise self._alarm()

    def _alarm(self) -> Alarm:
        return Alarm(
            f"an alarm has ended the plan: {self._gate.alarm}. The tip is withdrawn, the run is "
            "closed as aborted and cannot be resumed; look at the instrument, then call "
            "stm.reset_alarm()"
        )
