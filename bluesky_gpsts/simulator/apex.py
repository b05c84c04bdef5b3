"""The end of the simulated tip: what it is now, and what contact and pulses make of it."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import HeightNoise, Tip, Treatment, treat, worn_tip
from bluesky_gpsts.simulator.record import stream
from bluesky_gpsts.simulator.sample import Sample, TipSample
from bluesky_gpsts.simulator.truth import CRASH_GAP, Truth

__all__ = ["Apex"]

Array = NDArray[np.float64]

_NECK = 0.3e-9
_HEAP = (40e-12, 150e-12)
_HEAP_RADIUS = (0.4e-9, 1.0e-9)


class Apex:
    """The tip's end, and the sample as it is seen with it.

    A recorded sample knows one tip only: what happens to the tip then has no effect.

    Parameters
    ----------
    sample : Sample
        What lies beneath the tip at the start.
    seed : int
        Seed of everything random.
    truth : Truth
        Is told of every change.

    Attributes
    ----------
    sample : Sample
        What lies beneath the tip, with the marks that the tip has left.
    """

    def __init__(self, sample: Sample, seed: int, truth: Truth) -> None:
        self.sample = sample
        self.seed = seed
        self.truth = truth
        self._noise = HeightNoise(seed)
        self._treatments = 0
        self._depth = 0.0
        self._shaping = True
        self._place = np.zeros(2)
        truth.tip = self.tip

    @property
    def tip(self) -> Tip | None:
        """The tip; None above a recorded sample."""
        return self.sample.tip if isinstance(self.sample, TipSample) else None

    @property
    def length(self) -> float:
        """How much longer (m) than at the start the tip is."""
        return 0.0 if self.tip is None else self.tip.length

    def noise(self, times: Array) -> Array:
        """Noise of the gap (n,) in m at times (n,) in s: the microscope's and the tip's own."""
        noise = self._noise.series(times)
        tip = self.tip
        if tip is not None and tip.jitter > 0.0:
            noise = noise + tip.jitter * self._noise.hops(times)
        return noise

    def require(self) -> TipSample:
        """Return the sample, or refuse to change the tip above a recorded one."""
        if not isinstance(self.sample, TipSample):
            raise ValueError(
                f"{self.sample.name} is a recording, and known under the tip it was made with "
                "only; use a computed sample such as 'au111'"
            )
        return self.sample

    def change(self, tip: Tip | None = None) -> None:
        """Put another end to the tip: the one given, or a random one, most often bad."""
        sample = self.require()
        if tip is None:
            tip = worn_tip(self._stream())
        self.sample = sample.under(tip)
        self.truth.tip = tip
        self.truth.tip_changes += 1

    def feel(self, gap: Array, where: Array, shaping: bool = False) -> None:
        """Take a stretch of gaps (m), at a point (2,) of the sample (m), into account.

        The treatment takes effect when the neck between tip and sample breaks.
        """
        deepest = CRASH_GAP - float(np.min(gap))
        if deepest > 0.0:
            if self._depth == 0.0:
                self._shaping = True
            self._depth = max(self._depth, deepest)
            self._shaping &= shaping
            self._place = np.array(where)
        if self._depth > 0.0 and float(gap[-1]) >= _NECK:
            depth, self._depth = self._depth, 0.0
            self._treat(self._place, depth=depth, crash=not self._shaping)

    def pulsed(self, bias: float, where: Array) -> None:
        """Apply a pulse to `bias` (V) at a point (2,) of the sample (m)."""
        self._treat(where, bias=bias)

    def _stream(self) -> np.random.Generator:
        self._treatments += 1
        return stream(self.seed, "tip", self._treatments)

    def _treat(
        self, where: Array, depth: float = 0.0, bias: float = 0.0, crash: bool = False
    ) -> None:
        sample, rng = self.sample, self._stream()
        if not isinstance(sample, TipSample):
            return
        x, y = float(where[0]), float(where[1])
        done = Treatment(depth, bias, sample.bare(x, y), crash)
        tip = treat(sample.tip, done, rng)
        if depth > 0.0 or tip is not sample.tip:
            # What sticks to the sample: a few atoms after a pulse, more the deeper the tip went.
            share = float(1.0 - np.exp(-depth / 1e-9)) if depth > 0.0 else 0.3 * rng.random()
            low, high = _HEAP
            radius = float(rng.uniform(*_HEAP_RADIUS)) * (0.6 + 0.8 * share)
            self.sample = sample.marked(x, y, low + (high - low) * share, radius)
        if tip is not sample.tip:
            self.change(tip)
