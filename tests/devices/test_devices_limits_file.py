"""The limits of an instrument, as its owner writes them down."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_gpsts.devices import SIMULATOR_LIMITS, LimitError, Limits
from bluesky_gpsts.devices.limits import limits_example

TEXT = SIMULATOR_LIMITS.to_toml("STM 1")
NAMES = [item.name for item in fields(Limits)]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "limits.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def changed(name: str, value: str) -> str:
    lines = [
        f"{name} = {value}" if line.startswith(f"{name} =") else line for line in TEXT.splitlines()
    ]
    return "\n".join(lines)


def test_what_is_written_is_what_is_read(write: Any) -> None:
    assert Limits.load(write(TEXT)) == replace(SIMULATOR_LIMITS, instrument="STM 1")


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_required(write: Any, name: str) -> None:
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith(f"{name} ="))
    with pytest.raises(ValueError, match=rf"lacks {name}; every limit must be written down"):
        Limits.load(write(text))


def test_unknown_key(write: Any) -> None:
    with pytest.raises(ValueError, match="has biass, which are no limits"):
        Limits.load(write(TEXT + "\nbiass = [-1.0, 1.0]\n"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instrument", '""'),
        ("instrument", "7"),
        ("bias", "[-11.0, 1.0]"),
        ("bias", "[1.0, -1.0]"),
        ("bias", "[-1.0, 1.0, 2.0]"),
        ("bias", "1.0"),
        ("bias", "[nan, 1.0]"),
        ("setpoint", "[1e-12, 2.0]"),
        ("setpoint", "[true, 1e-9]"),
        ("current", "1e-9"),
        ("current", "inf"),
        ("safe_tip", "1"),
        ("conductance", "0"),
        ("smallest_bias", "0"),
        ("p_gain", "3.0"),
        ("speed", "nan"),
        ("speed", '"fast"'),
        ("pulse", "-1.0"),
        ("pulse", "11"),
        ("depth", "1.0"),
        ("conditioning_per_hour", "1.5"),
        ("motor_steps", "true"),
        ("bias", "[1.0, 5.0]"),
        ("bias", "[-0.01, 0.01]"),
        ("bias_step", "0.9"),
        ("setpoint", "[0.0, 1e-9]"),
        ("conductance", "1e-14"),
        ("modulation", "0.9"),
        ("margin", "1e-3"),
        ("drift", "1e-7"),
        ("approach", "1e-8"),
        ("depth", "9e-8"),
        ("pulse", "5.0"),
        ("depth", "1e-9"),
    ],
)
def test_limit_that_no_instrument_has(write: Any, name: str, value: str) -> None:
    """By itself, or beside the others."""
    text = changed(name, value)
    if (name, value) in (("bias_step", "0.9"), ("modulation", "0.9")):
        text = text.replace("bias = [-5, 5]", "bias = [-0.3, 0.3]")
    if value in ("1e-8", "9e-8"):
        text = text.replace("z = [-1.95e-7, 1.95e-7]", "z = [-4e-9, 4e-9]")
    if (name, value) == ("drift", "1e-7"):
        text = text.replace("\nspeed = 2e-7", "\nspeed = 5e-8")
    told = "smallest_bias" if value == "[-0.01, 0.01]" else name
    told = "conditioning_per_hour" if (name, value) == ("depth", "1e-9") else told
    with pytest.raises(ValueError, match=rf"limits\.toml: limits: {told}"):
        Limits.load(write(text))


def test_pulses_without_a_width_or_a_number(write: Any) -> None:
    text = changed("pulse", "5.0")
    with pytest.raises(ValueError, match="pulse allows 5 V, and pulse_width, 0, forbids pulses"):
        Limits.load(write(text))
    with pytest.raises(ValueError, match="conditioning_per_hour is 0, which forbids the pulses"):
        Limits.load(write(text.replace("pulse_width = 0", "pulse_width = 0.1")))


def test_byte_order_mark_of_other_editors(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(TEXT, "utf-8-sig")
    assert Limits.load(path) == replace(SIMULATOR_LIMITS, instrument="STM 1")


def test_file_that_is_no_toml(write: Any) -> None:
    with pytest.raises(ValueError, match="is not a TOML file"):
        Limits.load(write("bias == 3"))
    path = write(TEXT)
    with pytest.raises(FileNotFoundError, match="no file of limits .*missing.toml; 'gpsts limits"):
        Limits.load(path.with_name("missing.toml"))
    with pytest.raises(OSError, match="is a folder"):
        Limits.load(path.parent)


@given(st.text(max_size=200))
def test_no_text_becomes_limits_by_chance(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "some.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError):
        Limits.load(path)


def test_pulses_indentations_and_motor_are_forbidden_unless_written_down() -> None:
    with pytest.raises(LimitError, match="forbid pulses"):
        SIMULATOR_LIMITS.check_pulse(1.0, 1e-3)
    with pytest.raises(LimitError, match="forbid the tip shaper"):
        SIMULATOR_LIMITS.check_depth(1e-10)
    with pytest.raises(LimitError, match="forbid the motor"):
        SIMULATOR_LIMITS.check_motor(1)
    limits = replace(
        SIMULATOR_LIMITS,
        pulse=4.0,
        pulse_width=0.1,
        depth=1e-9,
        conditioning_per_hour=20,
        motor_steps=10,
    )
    limits.check_pulse(-4.0, 0.1)
    limits.check_depth(1e-9)
    limits.check_motor(10)
    for refused in (
        lambda: limits.check_pulse(4.1, 0.1),
        lambda: limits.check_pulse(1.0, 0.2),
        lambda: limits.check_depth(1.1e-9),
        lambda: limits.check_depth(float("nan")),
        lambda: limits.check_motor(11),
    ):
        with pytest.raises(LimitError, match="is refused: this instrument allows|must be a finite"):
            refused()


def test_the_example_is_the_one_that_the_command_prints() -> None:
    example = Path(__file__).parents[2] / "docs" / "limits.toml"
    assert example.read_text("utf-8") == limits_example()
    with pytest.raises(ValueError, match="instrument must be the name"):
        Limits.load(example)
