"""Names and indices of the controller's 128 real-time signals."""

__all__ = [
    "BIAS",
    "CURRENT",
    "LOCKIN_X",
    "LOCKIN_Y",
    "MEASURED",
    "SIGNALS",
    "TIME",
    "X",
    "Y",
    "Z",
    "index_of",
]

CURRENT, BIAS, X, Y, Z = 0, 24, 28, 29, 30
LOCKIN_X, LOCKIN_Y = 86, 87
# No real controller has it: simulated time need not be that of the wall clock.
TIME = 127

_NAMED = {
    CURRENT: "Current (A)",
    BIAS: "Bias (V)",
    X: "X (m)",
    Y: "Y (m)",
    Z: "Z (m)",
    LOCKIN_X: "LI Demod 1 X (A)",
    LOCKIN_Y: "LI Demod 1 Y (A)",
    TIME: "Time (s)",
}


def _name(index: int) -> str:
    if index in _NAMED:
        return _NAMED[index]
    if index < 24:
        return f"Input {index + 1} (V)"
    return f"Internal {index}"


MEASURED = frozenset(_NAMED)
"""Signals that are connected to something."""

SIGNALS: tuple[str, ...] = tuple(_name(index) for index in range(128))


def index_of(name: str) -> int:
    """Index of the signal called `name`; ValueError if there is none."""
    return SIGNALS.index(name)
