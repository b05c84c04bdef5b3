"""What a file of limits may hold: each value by itself, and all of them together."""

import tomllib
from dataclasses import Field
from pathlib import Path
from typing import Any

__all__ = ["check_field", "check_together", "read_values", "toml"]


def toml(value: float) -> str:
    """A number or a switch as TOML and people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f"{value:.12g}".replace("e-0", "e-")


def check_field(name: str, value: Any, item: "Field[Any]") -> None:
    """Refuse a limit that is no number of its kind, or out of what an instrument can have."""
    unit, least, most = (item.metadata[key] for key in ("unit", "least", "most"))
    if item.type in (bool, "bool"):
        if not isinstance(value, bool):
            raise ValueError(f"limits: {name} must be true or false, not {value!r}")
        return
    pair = str(item.type).startswith("tuple")
    numbers = list(value) if pair and isinstance(value, tuple | list) else [value]
    kinds = (int,) if item.type in (int, "int") else (int, float)
    if len(numbers) != (2 if pair else 1) or any(
        isinstance(n, bool) or not isinstance(n, kinds) for n in numbers
    ):
        what = "two numbers" if pair else "a whole number" if kinds == (int,) else "a number"
        raise ValueError(f"limits: {name} must be {what}, in {unit}, not {value!r}")
    if pair:
        low, high = numbers
        if not least <= low < high <= most:
            raise ValueError(
                f"limits: {name} from {low:g} to {high:g} {unit} does not lie in order within "
                f"{least:g} to {most:g} {unit}"
            )
        return
    (number,) = numbers
    if not (0 < number <= most or (item.metadata["off"] and number == 0)):
        above = "0 (off) or above" if item.metadata["off"] else "above 0"
        raise ValueError(
            f"limits: {name} must be {above} and at most {most:g} {unit}, not {number:g}"
        )


def check_together(limits: Any) -> None:
    """Refuse limits that contradict each other.

    Parameters
    ----------
    limits : Limits
        Limits of which each by itself is possible.

    Raises
    ------
    ValueError
        With the two that do not go together.
    """
    low, high = limits.bias
    largest = max(-low, high)
    height = limits.z[1] - limits.z[0]
    counted = limits.conditioning_per_hour > 0
    for wrong, text in (
        (
            not low <= 0.0 <= high,
            f"bias from {low:g} to {high:g} V leaves out 0 V, which every sweep through both "
            "signs and every change of sign passes; give a range around 0 V",
        ),
        (
            limits.smallest_bias >= largest,
            f"smallest_bias, {limits.smallest_bias:g} V, leaves nothing of the bias from {low:g} "
            f"to {high:g} V",
        ),
        (
            limits.bias_step > high - low,
            f"bias_step, {limits.bias_step:g} V, is larger than the whole range of the bias, "
            f"{high - low:g} V",
        ),
        (
            limits.setpoint[0] <= 0.0,
            f"setpoint from {limits.setpoint[0]:g} A: the lowest must be above 0, where the "
            "feedback would drive the tip into the sample or away for good",
        ),
        (
            limits.current <= limits.setpoint[1],
            f"current, {limits.current:g} A, must be above the highest setpoint, "
            f"{limits.setpoint[1]:g} A: the watchdog would withdraw a tip that is well",
        ),
        (
            limits.conductance * largest < limits.setpoint[0],
            f"conductance, {limits.conductance:g} S, allows no setpoint from "
            f"{limits.setpoint[0]:g} A on, at a bias of {largest:g} V at most",
        ),
        (
            limits.modulation > largest,
            f"modulation, {limits.modulation:g} V, is larger than the largest bias, {largest:g} V",
        ),
        (
            limits.margin >= limits.position,
            f"margin, {limits.margin:g} m, is no less than position, {limits.position:g} m",
        ),
        (
            limits.drift >= limits.speed,
            f"drift, {limits.drift:g} m/s, is no slower than speed, {limits.speed:g} m/s",
        ),
        (
            limits.approach >= height,
            f"approach, {limits.approach:g} m, is more than z allows, {height:g} m",
        ),
        (
            limits.depth >= height,
            f"depth, {limits.depth:g} m, is more than z allows, {height:g} m",
        ),
        (
            limits.pulse > 0.0 and not limits.pulse_width,
            f"pulse allows {limits.pulse:g} V, and pulse_width, 0, forbids pulses; give a width, "
            "or set both to 0",
        ),
        (
            (limits.pulse > 0.0 or limits.depth > 0.0) and not counted,
            "conditioning_per_hour is 0, which forbids the pulses or indentations that pulse, "
            f"{limits.pulse:g} V, or depth, {limits.depth:g} m, allow; give a number, or set both "
            "to 0",
        ),
    ):
        if wrong:
            raise ValueError(f"limits: {text}")


def read_values(path: str | Path, known: list[str]) -> dict[str, Any]:
    """Read the values of a file that has a key for every limit.

    Parameters
    ----------
    path : str or Path
        TOML file; one that begins with a byte order mark is read as well.
    known : list of str
        The keys.

    Raises
    ------
    ValueError
        If the file is no TOML, or a key is missing or unknown.
    OSError
        If it cannot be read.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the instrument's TOML file in it")
    try:
        values = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file of limits {path}; 'gpsts limits > my.toml' writes one to start from"
        ) from error
    missing = [name for name in known if name not in values]
    unknown = sorted(set(values) - set(known))
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing)
        parts += [f"has {', '.join(unknown)}, which are no limits"] * bool(unknown)
        raise ValueError(
            f"{path} {' and '.join(parts)}; every limit must be written down, and "
            "'gpsts limits' prints them all with their units"
        )
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
