"""Units that people read: nm, pm, mV, pA, nS; everything else in the package is SI."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}
_PREFIXED = frozenset({"A", "A/V", "S", "V", "V/s", "m", "m/s", "s", "Hz", "Ohm"})


@dataclass(frozen=True)
class Scale:
    """A unit to show values in.

    Attributes
    ----------
    factor : float
        ``shown = factor * value_in_SI``.
    unit : str
        Name of the unit.
    """

    factor: float
    unit: str

    def show(self, value: float, digits: int = 3) -> str:
        """Write an SI value in this unit, with so many significant digits."""
        return f"{_significant(self.factor * value, digits)} {self.unit}".rstrip()

    def label(self, what: str) -> str:
        """Write what an axis shows, with the unit if there is one."""
        return f"{what} ({self.unit})" if self.unit else what


NM = Scale(1e9, "nm")
PM = Scale(1e12, "pm")


def current_scale(values: npt.ArrayLike) -> Scale:
    """Choose fA, pA, nA or µA for currents (A)."""
    return _choose(values, ((1e-13, 1e15, "fA"), (1e-8, 1e12, "pA"), (1e-5, 1e9, "nA")), "µA", 1e6)


def merit_scale(values: npt.ArrayLike, unit: str) -> Scale:
    """Choose the scale of figures of merit: as for currents where their unit is the ampere."""
    return current_scale(values) if unit == "A" else Scale(1.0, unit)


def conductance_scale(values: npt.ArrayLike) -> Scale:
    """Choose pS, nS or µS for conductances (A/V)."""
    return _choose(values, ((1e-9, 1e12, "pS"), (1e-5, 1e9, "nS")), "µS", 1e6)


def bias_scale(values: npt.ArrayLike) -> Scale:
    """Choose mV or V for biases (V)."""
    return _choose(values, ((0.5, 1e3, "mV"),), "V", 1.0)


def time_scale(values: npt.ArrayLike) -> Scale:
    """Choose ms, s or min for durations (s)."""
    return _choose(values, ((0.5, 1e3, "ms"), (300.0, 1.0, "s")), "min", 1 / 60)


def quantity(value: float, unit: str = "", digits: int = 4) -> str:
    """Write a number in SI units with a prefix that people read easily.

    Parameters
    ----------
    value : float
        In the unit given.
    unit : str
        Its SI unit; prefixes go with those that take one (A, V, m, s, Hz, ...).
    digits : int
        Significant digits.

    Returns
    -------
    str
        Such as ``"100 pA"``; ``"n/a"`` for NaN.
    """
    if math.isnan(value):
        return "n/a"
    if unit not in _PREFIXED or value == 0 or not math.isfinite(value):
        return f"{_significant(value, digits)} {unit}".rstrip()
    exponent = math.floor(math.log10(abs(value)) / 3 + 1e-12) * 3
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return f"{_significant(value / 10.0**exponent, digits)} {_PREFIXES[exponent]}{unit}"


def duration(seconds: float) -> str:
    """Write a duration (s) as ``"12.3 s"``, ``"2 min 05 s"`` or ``"3 h 07 min"``."""
    if not math.isfinite(seconds):
        return "n/a"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _significant(value: float, digits: int) -> str:
    """Significant digits with a real minus sign, and no exponent where a person needs none."""
    text = f"{value:.{digits}g}"
    if math.isfinite(value) and 10**digits <= abs(value) < 1e6:
        text = f"{float(text):.0f}"
    return text.replace("-", "−") if "e" not in text else text


def _choose(
    values: npt.ArrayLike, steps: tuple[tuple[float, float, str], ...], last: str, factor: float
) -> Scale:
    array = np.abs(np.asarray(values, dtype=float).ravel())
    array = array[np.isfinite(array)]
    largest = float(array.max()) if array.size else 0.0
    for limit, step_factor, unit in steps:
        # Zeros say nothing about a scale; they get the middle one.
        if 0 < largest < limit or (largest == 0 and unit in ("pA", "nS", "mV", "ms")):
            return Scale(step_factor, unit)
    return Scale(factor, last)
