"""What an instrument may be told to do. Values outside are refused, never clipped."""

import math
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np

from bluesky_gpsts.devices.limitfile import check_field, check_together, read_values, toml
from bluesky_gpsts.nanonis.files import Frame

__all__ = [
    "SIMULATOR_LIMITS",
    "LimitError",
    "Limits",
    "limits_example",
    "require_number",
    "require_numbers",
]


_DECAY = 11e9
"""Decay constant (1/m) of the current over a clean metal, work function 4.6 eV."""


def _slack(limit: float, direction: int) -> float:
    """`limit` and the little that the controller's 32 bits may add to a value at the limit."""
    return limit + direction * 1e-6 * abs(limit) if math.isfinite(limit) else limit


class LimitError(ValueError):
    """A value lies outside what this instrument allows; nothing was written."""


def require_number(what: str, value: Any) -> float:
    """Return a finite number, or raise LimitError: text, None and arrays are none."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise LimitError(f"{what} must be a finite number, not {value!r}")
    return float(value)


def require_numbers(what: str, values: Any, count: int) -> tuple[float, ...]:
    """Return so many finite numbers, or raise LimitError."""
    given = list(values) if isinstance(values, tuple | list | np.ndarray) else []
    try:
        numbers = tuple(require_number(what, value) for value in given)
    except LimitError:
        numbers = ()
    if len(numbers) != count:
        raise LimitError(f"{what} must be {count} finite numbers, not {values!r}")
    return numbers


def _limit(unit: str, text: str, most: float, least: float = 0.0, off: bool = False) -> Any:
    """Field with its unit, what it limits, and the values that an instrument can have.

    With `off` the field may be zero, which forbids what it limits.
    """
    return field(metadata={"unit": unit, "text": text, "most": most, "least": least, "off": off})


@dataclass(frozen=True)
class Limits:
    """Limits of one instrument, SI units; what is outside is refused.

    Attributes
    ----------
    instrument : str
        Name of the instrument that these limits belong to.
    bias : (float, float)
        Lowest and highest bias (V), in sweeps too.
    smallest_bias : float
        Magnitude (V) below which the bias may not be while the feedback is on: the current would
        vanish and the feedback would drive the tip into the sample.
    bias_step : float
        Largest step (V) of a bias change.
    bias_slew : float
        Fastest bias change (V/s).
    setpoint : (float, float)
        Lowest and highest current setpoint (A).
    current : float
        Magnitude of the current (A) at which the watchdog withdraws the tip, and that a sweep may
        not be expected to exceed.
    conductance : float
        Largest ratio of setpoint and bias (S) with the feedback on, and of what it becomes by an
        approach before a sweep. It is what keeps the gap open: each on its own a small bias and a
        large setpoint may be allowed, and together bring the tip to the sample.
    safe_tip : bool
        Whether the controller's own safe tip must be on, at or below `current`, before anything is
        measured.
    p_gain : float
        Largest proportional gain (m) of the feedback.
    z : (float, float)
        Lowest and highest height (m) of the tip while it is near the sample.
    position : float
        Largest distance (m) from the piezo's centre along x and along y, of the tip and of the
        corners of a frame. The piezo's range, less the margin, holds too.
    margin : float
        Distance (m) to keep from the edge of the piezo's range.
    speed : float
        Fastest lateral move of the tip (m/s).
    scan_speed : float
        Fastest line of an image (m/s).
    drift : float
        Fastest drift compensation (m/s) along each axis.
    approach : float
        Largest approach (m) before a sweep: a z offset is at least minus this.
    modulation : float
        Largest lock-in amplitude (V).
    pulse : float
        Largest magnitude of a bias pulse (V); 0 forbids pulses.
    pulse_width : float
        Longest pulse (s); 0 forbids pulses.
    depth : float
        Deepest indentation by the tip shaper (m); 0 forbids it.
    conditioning_per_hour : int
        Pulses and indentations in an hour; 0 forbids them.
    motor_steps : int
        Steps of the coarse motor at once; 0 forbids the motor.

    Raises
    ------
    ValueError
        If a limit is not one that an instrument can have, or two contradict each other.
    """

    instrument: str
    bias: tuple[float, float] = _limit("V", "lowest and highest bias, sweeps too", 10.0, -10.0)
    smallest_bias: float = _limit("V", "least magnitude of the bias with feedback on", 1.0)
    bias_step: float = _limit("V", "largest step of a bias change", 1.0)
    bias_slew: float = _limit("V/s", "fastest bias change", 1e6)
    setpoint: tuple[float, float] = _limit("A", "lowest and highest current setpoint", 1e-6)
    current: float = _limit("A", "current at which the watchdog withdraws the tip", 1e-5)
    conductance: float = _limit("S", "largest setpoint over bias with feedback on", 1e-5)
    safe_tip: bool = _limit("", "whether the controller's safe tip must be on", 0.0)
    p_gain: float = _limit("m", "largest proportional gain of the feedback", 1e-6)
    z: tuple[float, float] = _limit("m", "lowest and highest height of the tip", 1e-3, -1e-3)
    position: float = _limit("m", "largest |x| and |y| of tip and frame corners", 1e-3)
    margin: float = _limit("m", "distance to keep from the edge of the piezo's range", 1e-3)
    speed: float = _limit("m/s", "fastest lateral move of the tip", 1e-3)
    scan_speed: float = _limit("m/s", "fastest line of an image", 1e-3)
    drift: float = _limit("m/s", "fastest drift compensation along an axis", 1e-7)
    approach: float = _limit("m", "largest approach before a sweep", 1e-8)
    modulation: float = _limit("V", "largest lock-in amplitude", 1.0)
    pulse: float = _limit("V", "largest magnitude of a bias pulse", 10.0, off=True)
    pulse_width: float = _limit("s", "longest pulse", 10.0, off=True)
    depth: float = _limit("m", "deepest indentation by the tip shaper", 1e-7, off=True)
    conditioning_per_hour: int = _limit("1/h", "pulses and indentations in an hour", 1e4, off=True)
    motor_steps: int = _limit("steps", "steps of the coarse motor at once", 1e4, off=True)

    def __post_init__(self) -> None:
        """Refuse limits that no instrument has, such as metres in place of picometres."""
        if not (isinstance(self.instrument, str) and self.instrument.strip()):
            raise ValueError(
                "limits: instrument must be the name of the instrument that they were written "
                f"for, not {self.instrument!r}"
            )
        for item in fields(self):
            if item.metadata:
                check_field(item.name, getattr(self, item.name), item)
        check_together(self)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the limits of an instrument from its TOML file.

        Parameters
        ----------
        path : str or Path
            File with a key for every limit, SI units; ``gpsts limits`` prints one to start from.

        Raises
        ------
        ValueError
            If the file is no TOML, a key is missing or unknown, a value is impossible, or two
            contradict each other.
        OSError
            If it cannot be read.
        """
        values = read_values(path, [item.name for item in fields(cls)])
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_toml(self, name: str | None = None) -> str:
        """Text of a TOML file with these limits, the instrument called `name`."""
        lines = [
            "# Limits of one instrument: what is outside is refused, nothing is clipped.",
            "# SI units. Every key must be there. 0 forbids pulses, indentations and the motor.",
            "",
            f'instrument = "{self.instrument if name is None else name}"',
        ]
        for item in fields(self):
            if item.metadata:
                value = getattr(self, item.name)
                text = [*map(toml, value)] if isinstance(value, tuple) else toml(value)
                shown = f"[{', '.join(text)}]" if isinstance(text, list) else text
                unit, what = item.metadata["unit"], item.metadata["text"]
                lines.append(f"{item.name} = {shown}  # {', '.join(filter(None, (unit, what)))}")
        return "\n".join(lines) + "\n"

    def check(self, what: str, value: float, unit: str, low: float, high: float) -> float:
        """Return `value` (in `unit`) if it lies in `low` to `high`.

        Raises
        ------
        LimitError
            If it does not, or is not a finite number.
        """
        number = require_number(what, value)
        if not _slack(low, -1) <= number <= _slack(high, 1):
            raise LimitError(
                f"{what} of {number:g} {unit} is refused: this instrument allows "
                f"{low:g} to {high:g} {unit}"
            )
        return number

    def check_bias(self, bias: float, feedback: bool = False) -> float:
        """Return a bias (V) that may be set; with `feedback` on it may not be near zero."""
        bias = self.check("a bias", bias, "V", *self.bias)
        if feedback and abs(bias) < _slack(self.smallest_bias, -1):
            raise LimitError(
                f"a bias of {bias:g} V is refused while the feedback is on (it would drive the "
                f"tip into the sample): keep {self.smallest_bias:g} V or more, or switch the "
                "feedback off first"
            )
        return bias

    def check_junction(self, bias: float, setpoint: float, approach: float = 0.0) -> None:
        """Refuse a bias (V) and a setpoint (A) that together bring the tip too near.

        Parameters
        ----------
        bias, setpoint : float
            What the feedback keeps, in V and A.
        approach : float
            Distance (m) by which the tip goes nearer with the loop held.
        """
        ratio = setpoint / max(abs(bias), 1e-12)
        if not ratio * math.exp(2 * _DECAY * approach) <= _slack(self.conductance, 1):
            nearer = f", approached by {approach * 1e12:.0f} pm" if approach else ""
            raise LimitError(
                f"a setpoint of {setpoint:g} A at a bias of {bias:g} V{nearer} is refused: the tip "
                f"would come too near (this instrument allows {self.conductance:g} S); lower the "
                "setpoint or raise the bias"
            )

    def check_end_current(
        self, bias: float, setpoint: float, ends: tuple[float, float], approach: float
    ) -> None:
        """Refuse a sweep whose current (A) would by all likelihood exceed the limit.

        Parameters
        ----------
        bias, setpoint : float
            What the feedback keeps before it is held, in V and A.
        ends : (float, float)
            Bias (V) at both ends of the sweep.
        approach : float
            Distance (m) by which the tip goes nearer with the loop held.
        """
        largest = max(abs(bias), *map(abs, ends)) / max(abs(bias), 1e-12)
        current = setpoint * largest * math.exp(2 * _DECAY * approach)
        if not current <= _slack(self.current, 1):
            raise LimitError(
                f"the sweep is refused: a setpoint of {setpoint:g} A at {bias:g} V lets expect "
                f"{current:g} A or more, and this instrument allows {self.current:g} A; lower the "
                "setpoint, or sweep less far"
            )

    def check_frame(self, frame: Frame, piezo_range: tuple[float, float]) -> Frame:
        """Return a frame whose four corners, turned by its angle, the piezo can reach.

        Parameters
        ----------
        frame : Frame
            Frame (m, degrees).
        piezo_range : (float, float)
            Full range of the piezo in x and y (m), centred on zero.

        Raises
        ------
        LimitError
            If it is no frame, has no area, or a corner lies outside.
        """
        if not isinstance(frame, Frame):
            raise LimitError(f"a frame must be a Frame (m, degrees), not {frame!r}")
        if not (frame.width > 0 and frame.height > 0):
            raise LimitError(
                f"a frame of {frame.width:g} x {frame.height:g} m is refused: it has no area"
            )
        for u in (-frame.width / 2, frame.width / 2):
            for v in (-frame.height / 2, frame.height / 2):
                x, y = frame.absolute(u, v)
                self.check_position(float(x), float(y), piezo_range, "the frame's corner")
        return frame

    def check_position(
        self,
        x: float,
        y: float,
        piezo_range: tuple[float, float],
        what: str = "the position",
    ) -> None:
        """Refuse a piezo position (m) out of reach."""
        for axis, value, full in (("x", x, piezo_range[0]), ("y", y, piezo_range[1])):
            half = min(full / 2 - self.margin, self.position)
            if not (math.isfinite(value) and abs(value) <= half):
                raise LimitError(
                    f"{what} at {axis} = {value * 1e9:g} nm is refused: it may lie within "
                    f"{-half * 1e9:g} to {half * 1e9:g} nm (the piezo's reach, less the margin, "
                    "and the limit on positions)"
                )

    def check_pulse(self, bias: float, width: float) -> None:
        """Refuse a bias pulse of `bias` (V) and `width` (s) that is not allowed."""
        if not (self.pulse and self.pulse_width and self.conditioning_per_hour):
            raise LimitError(
                "a bias pulse is refused: the limits forbid pulses on this instrument; pulse, "
                "pulse_width and conditioning_per_hour must all be above 0 for one"
            )
        self.check("a bias pulse", bias, "V", -self.pulse, self.pulse)
        self.check("a pulse width", width, "s", 0.0, self.pulse_width)

    def check_depth(self, depth: float) -> None:
        """Refuse an indentation by `depth` (m, positive into the sample) that is not allowed."""
        if not (self.depth and self.conditioning_per_hour):
            raise LimitError(
                "an indentation is refused: the limits forbid the tip shaper on this instrument; "
                "depth and conditioning_per_hour must both be above 0 for one"
            )
        self.check("an indentation", depth, "m", 0.0, self.depth)

    def check_motor(self, steps: int) -> None:
        """Refuse coarse motion by `steps` that is not allowed."""
        if not self.motor_steps:
            raise LimitError(
                "a coarse motion is refused: the limits forbid the motor on this instrument; "
                "motor_steps must be above 0 for one"
            )
        self.check("a coarse motion", steps, "steps", 1, self.motor_steps)


SIMULATOR_LIMITS = Limits(
    instrument="simulator",
    bias=(-5.0, 5.0),
    smallest_bias=20e-3,
    bias_step=50e-3,
    bias_slew=100.0,
    setpoint=(0.5e-12, 2e-9),
    current=5e-9,
    # Over the band gap of WS2 the tip is 0.17 nm from the sample then; gold would allow far more.
    conductance=1e-10,
    safe_tip=False,
    p_gain=1e-6,
    z=(-195e-9, 195e-9),
    position=100e-6,
    margin=1e-9,
    speed=200e-9,
    scan_speed=5e-6,
    drift=1e-9,
    approach=0.2e-9,
    modulation=50e-3,
    pulse=0.0,
    pulse_width=0.0,
    depth=0.0,
    conditioning_per_hour=0,
    motor_steps=0,
)
"""Limits of the simulated microscope. A real instrument has its own, written down by its owner."""


def limits_example() -> str:
    """Limits file to start from: the simulator's limits, but with the safe tip required."""
    note = (
        "# The values are those of the simulator, to be replaced by the instrument's; only\n"
        "# safe_tip is stricter. The simulator's safe tip is off unless switched on.\n"
    )
    return note + replace(SIMULATOR_LIMITS, safe_tip=True).to_toml("")
