"""What an instrument may be told to do. Values outside are refused, never clipped."""

import math
from dataclasses import dataclass

from bluesky_gpsts.nanonis.files import Frame

__all__ = ["SIMULATOR_LIMITS", "LimitError", "Limits"]

_LARGEST = {
    "smallest_bias": 1.0,
    "bias_step": 1.0,
    "bias_slew": 1e6,
    "speed": 1e-3,
    "approach": 1e-8,
    "modulation": 1.0,
    "margin": 1e-3,
}


def _slack(limit: float, direction: int) -> float:
    """`limit` and the little that the controller's 32 bits may add to a value at the limit."""
    return limit + direction * 1e-6 * abs(limit) if math.isfinite(limit) else limit


class LimitError(ValueError):
    """A value lies outside what this instrument allows; nothing was written."""


@dataclass(frozen=True)
class Limits:
    """Limits of one instrument, SI units.

    Attributes
    ----------
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
    speed : float
        Fastest lateral move of the tip (m/s).
    approach : float
        Largest approach (m) before a sweep: a z offset is at least minus this.
    modulation : float
        Largest lock-in amplitude (V).
    margin : float
        Distance (m) to keep from the edge of the piezo's range.

    Raises
    ------
    ValueError
        If a limit is not one that an instrument can have.
    """

    bias: tuple[float, float]
    smallest_bias: float
    bias_step: float
    bias_slew: float
    setpoint: tuple[float, float]
    speed: float
    approach: float
    modulation: float
    margin: float

    def __post_init__(self) -> None:
        """Refuse limits that no instrument has, such as metres in place of picometres."""
        for name, least, most in (("bias", -10.0, 10.0), ("setpoint", 0.0, 1e-6)):
            low, high = getattr(self, name)
            if not least <= low < high <= most:
                raise ValueError(
                    f"limits: {name} from {low:g} to {high:g} does not lie in order within "
                    f"{least:g} to {most:g} (SI units)"
                )
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if not 0 < value <= most:
                raise ValueError(
                    f"limits: {name} must be above 0 and at most {most:g} (SI units), not {value:g}"
                )

    def check(self, what: str, value: float, unit: str, low: float, high: float) -> float:
        """Return `value` (in `unit`) if it lies in `low` to `high`.

        Raises
        ------
        LimitError
            If it does not, or is not a finite number.
        """
        number = float(value)
        if not (math.isfinite(number) and _slack(low, -1) <= number <= _slack(high, 1)):
            raise LimitError(
                f"{what} of {number:g} {unit} is refused: this instrument allows "
                f"{low:g} to {high:g} {unit}"
            )
        return number

    def check_bias(self, bias: float, feedback: bool = False) -> float:
        """Return a bias (V) that may be set; with `feedback` on it may not be near zero."""
        self.check("a bias", bias, "V", *self.bias)
        if feedback and abs(bias) < _slack(self.smallest_bias, -1):
            raise LimitError(
                f"a bias of {bias:g} V is refused while the feedback is on (it would drive the "
                f"tip into the sample): keep {self.smallest_bias:g} V or more, or switch the "
                "feedback off first"
            )
        return float(bias)

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
            If it has no area, or a corner lies outside.
        """
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
            half = full / 2 - self.margin
            if not (math.isfinite(value) and abs(value) <= half):
                raise LimitError(
                    f"{what} at {axis} = {value * 1e9:g} nm is refused: the piezo reaches "
                    f"{-half * 1e9:g} to {half * 1e9:g} nm (margin included)"
                )


SIMULATOR_LIMITS = Limits(
    bias=(-5.0, 5.0),
    # Over a semiconductor's band gap the feedback brings the tip within 0.2 nm at this bias.
    smallest_bias=20e-3,
    bias_step=50e-3,
    bias_slew=100.0,
    setpoint=(0.5e-12, 2e-9),
    speed=200e-9,
    approach=0.2e-9,
    modulation=50e-3,
    margin=1e-9,
)
"""Limits of the simulated microscope. A real instrument has its own, written down by its owner."""
