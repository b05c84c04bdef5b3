"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_gpsts.analysis.style import round_length
from bluesky_gpsts.analysis.units import (
    bias_scale,
    conductance_scale,
    current_scale,
    duration,
    quantity,
    time_scale,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1e-10, "A", "100 pA"),
        (-0.05, "V", "−50 mV"),
        (683.0, "Hz", "683 Hz"),
        (999.99999, "V", "1000 V"),
        (1.234e-9, "m", "1.234 nm"),
        (30.0, "deg", "30 deg"),
        (1200.0, "", "1200"),
        (0.0, "V", "0 V"),
        (math.nan, "V", "n/a"),
        (math.inf, "V", "inf V"),
        (1e-20, "A", "1e-05 fA"),
    ],
)
def test_quantity(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_scales_follow_the_largest_value() -> None:
    assert current_scale([1e-12, math.nan]).unit == "pA"
    assert current_scale([5e-14]).unit == "fA"
    assert current_scale([2e-8]).unit == "nA"
    assert current_scale([]).unit == current_scale([0.0]).unit == "pA"
    assert conductance_scale([4e-10]).unit == "pS"
    assert conductance_scale([3e-9]).unit == "nS"
    assert bias_scale([-0.2, 0.1]).unit == "mV" and bias_scale([-1.0, 1.0]).unit == "V"
    assert time_scale(0.09).show(0.09) == "90 ms"
    assert current_scale([1e-12]).show(-1.5e-12) == "−1.5 pA"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.26, "1.3 s"), (65.0, "1 min 05 s"), (11220.0, "3 h 07 min"), (math.nan, "n/a")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["A", "V", "", "deg"]))
def test_every_number_can_be_written(value: float, unit: str) -> None:
    text = quantity(value, unit)
    assert text and len(text) < 30


@given(st.floats(1e-3, 1e5))
def test_a_scale_bar_has_a_round_length_that_fits(wanted: float) -> None:
    length = round_length(wanted)
    assert wanted / 2.5 * (1 - 1e-9) <= length <= wanted * (1 + 1e-9)
    assert f"{length:.0e}"[0] in "125"
