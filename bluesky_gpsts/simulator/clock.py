"""Time as the simulated microscope lives it."""

import threading
import time

__all__ = ["Clock"]


class Clock:
    """Seconds since the simulator started, in the microscope's own time.

    Parameters
    ----------
    scale : float
        Wall-clock seconds per simulated second. 1 is real time; 0 is as fast as possible: time
        then stands still, but for operations and for commands that change something, each of
        which takes its duration at once.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not scale >= 0:
            raise ValueError(f"time_scale must be 0 or positive, not {scale}")
        self.scale = scale
        self._origin = time.monotonic()
        self._virtual = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Simulated time (s)."""
        if self.scale:
            return (time.monotonic() - self._origin) / self.scale
        with self._lock:
            return self._virtual

    def skip_to(self, moment: float) -> None:
        """Let an operation that ends at `moment` (s) be over at once where time is not real."""
        if not self.scale:
            with self._lock:
                self._virtual = max(self._virtual, moment)

    def pass_by(self, seconds: float) -> None:
        """Let `seconds` be over at once where time is not real."""
        self.skip_to(self.now() + seconds)

    def wait_until(self, moment: float, cancelled: threading.Event) -> bool:
        """Block until simulated time `moment` (s); False if `cancelled` was set first."""
        self.skip_to(moment)
        while True:
            left = moment - self.now()
            if left <= 0:
                return not cancelled.is_set()
            if cancelled.wait(left * self.scale):
                return False
