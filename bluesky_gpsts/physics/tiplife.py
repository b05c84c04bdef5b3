"""What contact and pulses make of a tip, and what is wrong with a tip.

A tip's end is a few atoms that nobody chooses. A treatment that changes it gives another random
end: a good one more often after a gentle touch of clean metal, whose atoms then cover the tip,
and hardly ever after a crash. The odds are those that operators report, not those of a theory.
"""

from dataclasses import dataclass, replace

import numpy as np

from .tip import Tip, random_tip

__all__ = ["FAULTS", "Treatment", "faults", "quality", "treat", "worn_tip"]

FAULTS = ("blunt", "double", "contaminated", "unstable")
"""What can be wrong with a tip."""

_LARGEST_BLUR = 0.2e-9
_LARGEST_SHARE = 0.12
_LARGEST_BUMP = 0.3
_LARGEST_JITTER = 2e-12
_TOUCH = 0.4e-9
_GENTLE, _TOO_DEEP = 1.2e-9, 1.0e-9
_CHANGING_PULSE, _PULSE_SPREAD = 3.0, 0.5
_FAULT_CHANCE = {False: 0.4, True: 0.7}


@dataclass(frozen=True)
class Treatment:
    """What is done to a tip.

    Parameters
    ----------
    depth : float
        How far (m) beyond the first contact the tip went into the sample; 0 for none.
    bias : float
        Bias (V) of a pulse; 0 for none.
    clean : bool
        Whether beneath the tip was flat, bare metal.
    crash : bool
        Whether the tip ran into the sample uncontrolled.
    """

    depth: float = 0.0
    bias: float = 0.0
    clean: bool = True
    crash: bool = False

    @property
    def change(self) -> float:
        """Probability that the end of the tip is another one afterwards."""
        if self.crash:
            return 1.0
        touched = np.exp(-self.depth / _TOUCH)
        pulsed = 0.0
        if self.bias:
            pulsed = 1.0 / (1.0 + np.exp((_CHANGING_PULSE - abs(self.bias)) / _PULSE_SPREAD))
        return float(1.0 - touched * (1.0 - pulsed))

    @property
    def success(self) -> float:
        """Probability that the other end is a good one."""
        if self.crash:
            return 0.03
        if not self.clean:
            return 0.1
        if self.depth > 0.0:
            excess = max(0.0, self.depth - _GENTLE)
            return float(0.08 + 0.27 * np.exp(-excess / _TOO_DEEP))
        return 0.2


def treat(tip: Tip, treatment: Treatment, rng: np.random.Generator) -> Tip:
    """Tip after a treatment; the same object if its end did not change.

    Parameters
    ----------
    tip : Tip
        The tip before.
    treatment : Treatment
        What was done.
    rng : numpy.random.Generator
        Source of randomness.
    """
    if rng.random() >= treatment.change:
        return tip
    good = rng.random() < treatment.success
    new = _good_tip(rng) if good else worn_tip(rng, treatment.crash)
    reach = 2.0e-9 if treatment.crash else 0.5e-9
    radius, direction = reach * np.sqrt(rng.random()), rng.uniform(0.0, 2.0 * np.pi)
    shift = float(radius * np.cos(direction)), float(radius * np.sin(direction))
    lengthened = float(rng.normal(0.0, 0.1e-9))
    if treatment.crash:
        # What a crash takes off stays on the sample.
        lengthened = -5.0 * abs(lengthened)
    # The foremost atoms are elsewhere now, so that the image shifts too.
    apexes = tuple((x + shift[0], y + shift[1], weight) for x, y, weight in new.apexes)
    return replace(new, apexes=apexes, length=tip.length + lengthened)


def worn_tip(rng: np.random.Generator, crashed: bool = False) -> Tip:
    """Draw a bad tip: with one or more of FAULTS, more of them after a crash.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    crashed : bool
        Whether it has crashed.

    Returns
    -------
    Tip
        Blunt: 0.3 to 0.9 nm blur. Double: a second apex 0.5 to 2.5 nm away with 0.3 to 0.9 of
        the main weight. Contaminated: a bump of 0.06 to 0.2 eV width within 0.8 eV of the Fermi
        level, a dip of 50 to 80 % or a peak of 60 to 150 %. Unstable: 4 to 20 pm jitter.
    """
    tip = _good_tip(rng)
    chosen = [name for name in FAULTS if rng.random() < _FAULT_CHANCE[crashed]]
    chosen = chosen or [str(rng.choice(FAULTS))]
    if "blunt" in chosen:
        tip = replace(tip, blur=float(0.3e-9 * 3.0 ** rng.random()))
    if "double" in chosen:
        distance, direction = rng.uniform(0.5e-9, 2.5e-9), rng.uniform(0.0, 2.0 * np.pi)
        second = float(distance * np.cos(direction)), float(distance * np.sin(direction))
        tip = replace(tip, apexes=((0.0, 0.0, 1.0), (*second, float(rng.uniform(0.3, 0.9)))))
    if "contaminated" in chosen:
        size = -rng.uniform(0.5, 0.8) if rng.random() < 0.4 else rng.uniform(0.6, 1.5)
        bump = float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0.06, 0.2)), float(size)
        tip = replace(tip, background=(bump,))
    if "unstable" in chosen:
        tip = replace(tip, jitter=float(rng.uniform(4e-12, 20e-12)))
    return tip


def faults(tip: Tip) -> tuple[str, ...]:
    """Which of FAULTS a tip has."""
    return tuple(name for name, size in zip(FAULTS, _sizes(tip), strict=True) if size > 1.0)


def quality(tip: Tip) -> float:
    """Quality of a tip from 0 to 1: 0.5 and above has none of FAULTS."""
    return float(1.0 / (1.0 + max(_sizes(tip)) ** 2))


def _sizes(tip: Tip) -> tuple[float, float, float, float]:
    """How large each fault is, 1 = just a fault."""
    energy = np.linspace(-1.0, 1.0, 201)
    states = tip.dos(energy)
    bump = states - np.polyval(np.polyfit(energy, states, 1), energy)
    return (
        tip.blur / _LARGEST_BLUR,
        sum(tip.weights[1:]) / _LARGEST_SHARE,
        float(np.max(np.abs(bump)) / np.mean(states)) / _LARGEST_BUMP,
        tip.jitter / _LARGEST_JITTER,
    )


def _good_tip(rng: np.random.Generator) -> Tip:
    while True:
        tip = random_tip(rng, double_probability=0.0)
        if not faults(tip):
            return tip
