"""Noticing in a run that the tip has changed: a spectrum is taken again where one is known."""

import logging
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import numpy.typing as npt
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.plans.checks import chosen, require_count, require_positive
from bluesky_gpsts.plans.drift import DriftWatch
from bluesky_gpsts.plans.records import ReferenceRecord
from bluesky_gpsts.spectra.reference import FEWEST, SpectrumChange, compare_spectra

__all__ = ["TipChecks", "TipWatch", "known_tip_checks", "look_after"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TipChecks:
    """When a spectrum is repeated to see whether the tip is as it was, and what counts as not.

    Attributes
    ----------
    every : int
        Spectra from one repetition to the next.
    ratio : float
        The tip counts as changed if the slow part of the difference varies by more than so many
        times its noise, and could be noise with a probability of `false_alarm` only.
    false_alarm : float
        See `bluesky_gpsts.spectra.reference.compare_spectra`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    every: int = 10
    ratio: float = 2.5
    false_alarm: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        require_count("tip_checks: every", self.every, 2)
        require_positive("tip_checks: ratio", self.ratio, "variances of the noise")
        if not 0.0 < require_positive("tip_checks: false_alarm", self.false_alarm, "a share") < 1.0:
            raise ValueError(f"tip_checks: false_alarm must be below 1, not {self.false_alarm!r}")


def known_tip_checks(given: Any, n_points: int) -> TipChecks | None:
    """Return what the argument ``tip_checks`` of a plan asks for.

    Raises
    ------
    ValueError
        If a field is unknown or out of range, or spectra of `n_points` cannot be compared.
    """
    checks = chosen(TipChecks, "tip_checks", given)
    if checks is not None and n_points < FEWEST:
        raise ValueError(
            f"n_points is {n_points}; spectra are compared for tip_checks from {FEWEST} points on"
        )
    return checks


# A classifier knows a spectrum for none of its classes above this, see `spectra.types.Classes`.
_NOVEL = 0.5
# So many of them in a row ask for a repetition; twice as many after one that found no change.
_STREAK = 3


# What was seen once must show again, at this level: the level of the first sight keeps the rate.
_AGAIN = 0.05
# A reference is the mean of so many spectra at most: what wears off slowly shows against it too.
_MOST = 5


@dataclass(frozen=True)
class _Known:
    """A place (m), the number and figure of merit of its spectrum, and what was measured (A/V)."""

    number: int
    place: tuple[float, float]
    merit: float
    spectra: tuple[FloatArray, ...]


class TipWatch:
    """Repeats a spectrum of the run now and then.

    It is the one whose figure of merit was nearest to the median of the first ones: most of a
    frame is background, where a spectrum depends least on where exactly it is taken.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope.
    checks : TipChecks
        When and how.
    """

    def __init__(self, stm: NanonisSTM, checks: TipChecks) -> None:
        self.stm, self.checks = stm, checks
        self.last = self.sound = 0
        self._novel: list[int] = []
        self._streak = _STREAK
        self._known: list[_Known] = []
        self._reference: _Known | None = None
        self._record = ReferenceRecord(name="reference_record")

    def learn(
        self, number: int, place: tuple[float, float], didv: FloatArray, merit: float
    ) -> None:
        """Take note of a spectrum (A/V), its number, place (m) and figure of merit."""
        if self._reference is None and math.isfinite(merit) and np.isfinite(didv).all():
            self._known.append(_Known(number, place, merit, (didv.copy(),)))

    def named(self, number: int, novelty: float) -> None:
        """Take note of the novelty of a spectrum, 0 to 1; NaN says nothing."""
        if novelty > _NOVEL:
            self._novel.append(number)
        elif math.isfinite(novelty):
            self._novel.clear()

    @property
    def strange(self) -> bool:
        """Whether several spectra in a row were none that the classifier knows."""
        return len(self._novel) >= self._streak

    def due(self, taken: int) -> bool:
        """Whether it is time, after so many spectra."""
        return taken - self.last >= self.checks.every and self.ready

    @property
    def ready(self) -> bool:
        """Whether there is a spectrum to repeat."""
        return self._reference is not None or len(self._known) > 1

    def check(self, taken: int, cause: str) -> Generator[Msg, Any, str]:
        """Repeat the spectrum; returns why those since the last time are in doubt, or "".

        A change counts if it shows twice, and then the new spectra are the reference. What shows
        none is averaged with the reference, which becomes less noisy.

        Parameters
        ----------
        taken : int
            Spectra so far.
        cause : str
            Why just now, for the record.
        """
        self._record.cause.put(cause)
        known = self._reference = self._reference or self._chosen()
        self._known.clear()
        # Up to the last check, and to the spectrum that is repeated, the tip was the one it knows.
        self.sound = max(self.last, known.number)
        found, first = yield from self._repeat(known, taken, self._other)
        doubt = ""
        if self._other(found):
            again, second = yield from self._repeat(known, taken, _still)
            if _still(again):
                self._reference = replace(known, spectra=(first, second))
                doubt = (
                    f"the tip has changed: spectrum {known.number}, taken again after {taken} "
                    f"spectra, differs by {found.ratio:.3g} times its noise"
                )
                logger.warning("%s; spectra since the last check are repeated", doubt)
        elif not _still(found):
            self._reference = replace(known, spectra=(*known.spectra, first)[:_MOST])
        # Whatever is strange about a sample, it must not ask after every few spectra.
        self._streak = 2 * self._streak if self.strange and not doubt else self._streak
        self._novel.clear()
        self.last = taken
        return doubt

    def _chosen(self) -> _Known:
        """Choose the reference; of strange spectra none: the tip may have changed before them."""
        first = self._novel[0] if self.strange else math.inf
        usual = [known for known in self._known if known.number < first] or self._known
        middle = float(np.median([known.merit for known in usual]))
        return min(usual, key=lambda known: abs(known.merit - middle))

    def _other(self, found: SpectrumChange) -> bool:
        return found.changed and found.ratio > self.checks.ratio

    def _repeat(
        self, known: _Known, taken: int, other: Callable[[SpectrumChange], bool]
    ) -> Generator[Msg, Any, tuple[SpectrumChange, FloatArray]]:
        stm, record = self.stm, self._record
        sts = stm.spectroscopy
        yield from bps.checkpoint()
        yield from bps.mv(stm.tip, known.place)
        yield from bps.trigger(sts, wait=True)
        didv = np.asarray((yield from bps.rd(sts.didv)), dtype=float)
        found = compare_spectra(known.spectra, didv, self.checks.false_alarm)
        values = {
            record.primary_seq_num: float(known.number),
            record.after: float(taken),
            record.changed: int(other(found)),
            record.probability: found.probability,
            record.ratio: found.ratio,
            record.gain: found.gain,
        }
        for signal, value in values.items():
            yield from bps.mv(signal, value)
        yield from bps.create(name="reference")
        for device in (sts, stm.tip, record):
            yield from bps.read(device)
        yield from bps.save()
        yield from bps.checkpoint()
        return found, didv


def _still(found: SpectrumChange) -> bool:
    """Whether a second look confirms a first one."""
    return found.probability < _AGAIN


def look_after(
    drift: DriftWatch | None, tip: TipWatch | None, taken: int, duration: float, over: bool
) -> Generator[Msg, Any, list[tuple[range, str]]]:
    """Look at drift and tip where it is time, and aim the tip at where the sample will be.

    Parameters
    ----------
    drift, tip : DriftWatch, TipWatch or None
        What to look at. Lines that jump in an image of a drift check, an image that looks unlike
        the first one, and several spectra in a row that a classifier does not know, ask for a look
        at the tip.
    taken : int
        Spectra so far.
    duration : float
        How long the next one takes (s).
    over : bool
        Whether there is no next one; then what came after the last check is looked at once more.

    Returns
    -------
    list of (range, str)
        Numbers of the spectra that are in doubt, and why.
    """
    doubts = []
    if drift is not None and not (over and drift.last == taken):
        since = drift.last
        if over:
            why = yield from drift.check(taken)
        else:
            why = yield from drift.follow(taken, duration)
        if why:
            doubts.append((range(since + 1, taken + 1), why))
    if tip is None or not tip.ready or tip.last == taken:
        return doubts
    seen = drift if drift is not None and drift.last == taken else None
    unlike = seen is not None and seen.unlike
    for asks, cause in (
        (seen is not None and seen.jumps > 0, "lines jump in an image"),
        (unlike, "an image is unlike the first one"),
        (tip.strange, "the classifier does not know the spectra"),
        (tip.due(taken), "it was time"),
        (over, "the end of the run"),
    ):
        if asks:
            why = yield from tip.check(taken, cause)
            if unlike and not why:
                logger.warning(
                    "An image of the drift check is unlike the first one, and the spectra are as "
                    "they were: another end of the tip may image now, or something lies there."
                )
            if why:
                doubts.append((range(tip.sound + 1, taken + 1), why))
            break
    return doubts
