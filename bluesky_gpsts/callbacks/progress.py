"""A progress bar for autonomous runs: how far, how long still, and what was found last."""

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from bluesky.callbacks.core import CallbackBase, make_class_safe

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

_BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{remaining} left{postfix}]"


@make_class_safe(logger=logger)
class Progress(CallbackBase):
    """Show the progress of runs that have a budget, such as those of the plan gp_sts.

    On a terminal it is one bar that moves; elsewhere (a file, a pipe) it is one line per tenth
    of the run. Runs without a budget, such as surveys, pass by unseen. Errors are logged and
    never reach the RunEngine.

    Parameters
    ----------
    file : text stream, optional
        Where to write. Default: standard error, as it is when the run starts.
    clock : callable
        Seconds from any origin, for the time left.
    """

    def __init__(
        self, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._file = file
        self._clock = clock
        self._uid: str | None = None
        self._display: _Bar | _Lines | None = None
        self._merit_key = "figure_of_merit"
        self._streams: dict[str, str] = {}

    def start(self, doc: Mapping[str, Any]) -> None:
        """Begin, if the run has a budget."""
        budget = doc.get("budget")
        if budget is None:
            return
        self._finish()
        file = sys.stderr if self._file is None else self._file
        total = int(budget)
        terminal = file.isatty()
        self._display = _Bar(total, file) if terminal else _Lines(total, file, self._clock)
        self._uid = str(doc["uid"])
        self._streams = {}
        self._display.in_ampere = doc.get("merit_unit", "A") == "A"
        self._merit_key = doc.get("columns", {}).get("figure_of_merit", "figure_of_merit")

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which stream is which."""
        if doc["run_start"] == self._uid:
            self._streams[doc["uid"]] = doc["name"]

    def event(self, doc: Any) -> Any:
        """Count a spectrum, or note the uncertainty at the point just measured."""
        stream = self._streams.get(doc["descriptor"])
        if self._display is not None and stream == "primary":
            # By its number: a spectrum taken again after a pause is not another one.
            merit = float(doc["data"].get(self._merit_key, math.nan))
            self._display.count(int(doc["seq_num"]), merit)
        elif self._display is not None and stream == "decisions":
            self._display.std = float(doc["data"].get("posterior_std", math.nan))
        return doc

    def stop(self, doc: Mapping[str, Any]) -> None:
        """End the bar."""
        if doc["run_start"] == self._uid:
            self._finish()

    def _finish(self) -> None:
        display, self._display, self._uid = self._display, None, None
        if display is not None:
            display.close()


class _Bar:
    """A bar of tqdm, for a terminal."""

    def __init__(self, total: int, file: TextIO) -> None:
        from tqdm import tqdm

        self.std = math.nan
        self.in_ampere = True
        self._bar: tqdm[Any] = tqdm(
            total=total, desc="spectra", file=file, bar_format=_BAR, dynamic_ncols=True, leave=True
        )

    def count(self, number: int, merit: float) -> None:
        self._bar.set_postfix_str(_latest(merit, self.std, self.in_ampere), refresh=False)
        self._bar.update(number - self._bar.n)

    def close(self) -> None:
        # What came since the last refresh, or the bar would end short of the last spectrum.
        self._bar.refresh()
        self._bar.close()


class _Lines:
    """A line per tenth, where there is no terminal."""

    def __init__(self, total: int, file: TextIO, clock: Callable[[], float]) -> None:
        self.std = math.nan
        self.in_ampere = True
        self._total, self._file, self._clock = max(total, 1), file, clock
        self._begin = clock()
        self._tenth = 0
        self._number = self._printed = 0
        self._merit = math.nan

    def count(self, number: int, merit: float) -> None:
        self._number, self._merit = number, merit
        tenth = 10 * number // self._total
        if tenth > self._tenth or (number == 1 and self._printed == 0):
            self._tenth = tenth
            self._print()

    def close(self) -> None:
        if self._number > self._printed:
            self._print()

    def _print(self) -> None:
        number, total = self._number, self._total
        seconds = (self._clock() - self._begin) / max(number, 1) * max(total - number, 0)
        self._printed = number
        self._file.write(
            f"spectra {number}/{total} ({100 * number // total} %), {_time(seconds)} left"
            f"{_separated(_latest(self._merit, self.std, self.in_ampere))}\n"
        )
        self._file.flush()


def _latest(merit: float, std: float, in_ampere: bool) -> str:
    """Figure of merit of the last spectrum and posterior std, as people read them."""
    factor, unit = (1e12, " pA") if in_ampere else (1.0, "")
    parts = []
    if math.isfinite(merit):
        parts.append(f"latest {factor * merit:.3g}{unit}")
    if math.isfinite(std):
        parts.append(f"std {factor * std:.2g}{unit}")
    return ", ".join(parts)


def _separated(text: str) -> str:
    return f", {text}" if text else ""


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"
