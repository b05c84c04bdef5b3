"""Small runs with the documents of the real plans, and tools for the tests of the catalog."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from ophyd import Component as Cpt
from ophyd import Device, Signal

POINTS = 1200
BIAS = np.linspace(-1.0, 1.0, POINTS)
COLUMNS = {
    role: f"stm_{role}"
    for role in (
        "bias",
        "current",
        "lockin_x",
        "lockin_y",
        "didv",
        "x",
        "y",
        "piezo_x",
        "piezo_y",
        "z",
        "figure_of_merit",
        "figure_of_merit_variance",
    )
}
FRAME = {"center_x": 1e-8, "center_y": 2e-8, "width": 4e-9, "height": 2e-9, "angle": 0.0}
UNITS = {"bias": "V", "didv": "A/V", "current": "A", "x": "m", "y": "m"}


class Channel(Signal):
    """A float64 signal that says so in its description."""

    def describe(self) -> dict[str, Any]:
        """Add dtype_numpy and units."""
        described = super().describe()
        spec = described[self.name]
        spec["dtype_numpy"] = "<f8"
        role = self.name.removeprefix("stm_")
        if role in UNITS:
            spec["units"] = UNITS[role]
        return described


class Microscope(Device):
    """What one spectrum is made of."""

    bias = Cpt(Channel, value=BIAS)
    current = Cpt(Channel, value=np.zeros(POINTS))
    lockin_x = Cpt(Channel, value=np.zeros(POINTS))
    lockin_y = Cpt(Channel, value=np.zeros(POINTS))
    didv = Cpt(Channel, value=np.zeros(POINTS))
    x = Cpt(Channel, value=0.0)
    y = Cpt(Channel, value=0.0)
    piezo_x = Cpt(Channel, value=0.0)
    piezo_y = Cpt(Channel, value=0.0)
    z = Cpt(Channel, value=0.0)
    figure_of_merit = Cpt(Channel, value=0.0)
    figure_of_merit_variance = Cpt(Channel, value=0.0)


class Decision(Device):
    """What one decision is made of; data keys as in real runs."""

    decision_id = Cpt(Signal, value=0.0, name="decision_id")
    hyperparameters = Cpt(Channel, value=np.zeros(4))
    reason = Cpt(Signal, value="initial")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for attribute in self.component_names:
            getattr(self, attribute).name = attribute


def spectrum(index: int) -> np.ndarray:
    """Current of the spectrum of a point, in A."""
    return 1e-10 * BIAS + 1e-12 * index


def gp_sts(
    points: int,
    before_point: Callable[[int], None] = lambda index: None,
    plan_name: str = "gp_sts",
    **metadata: Any,
) -> Iterator[Any]:
    """Take spectra and decisions, as the real plan does."""
    stm = Microscope(name="stm")
    choice = Decision(name="decision")

    @bpp.run_decorator(
        md={"plan_name": plan_name, "columns": COLUMNS, "frame": FRAME, "sample": "WS2", **metadata}
    )
    def inner() -> Iterator[Any]:
        for index in range(points):
            before_point(index)
            yield from bps.checkpoint()
            yield from bps.mv(stm.current, spectrum(index))
            yield from bps.mv(stm.didv, np.gradient(spectrum(index), BIAS))
            yield from bps.mv(stm.x, 1e-9 * index, stm.figure_of_merit, 1e-11 * index)
            yield from bps.trigger_and_read([stm])
            yield from bps.mv(choice.decision_id, float(index), choice.reason, "variance")
            yield from bps.mv(choice.hyperparameters, np.array([1.0, 2.0, 3.0, 4.0]))
            yield from bps.trigger_and_read([choice], name="decisions")
            yield from bps.checkpoint()

    return (yield from inner())


def image_run(stream: str, key: str, image: np.ndarray, **metadata: Any) -> Iterator[Any]:
    """Run with one event that holds one image."""
    signal = Channel(name=key, value=image)

    @bpp.run_decorator(md=metadata)
    def inner() -> Iterator[Any]:
        yield from bps.trigger_and_read([signal], name=stream)

    return (yield from inner())


def wait_for(condition: Callable[[], Any], what: str, deadline: float = 120.0) -> Any:
    """Poll until a condition is true; the deadline is generous, so that slow machines pass."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {deadline:g} s")


def kill(pid: int) -> None:
    """End a process without giving it any chance to clean up."""
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
