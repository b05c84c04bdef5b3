"""Soft devices that carry what plans find out about the tip into their events."""

import math
from collections.abc import Generator
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import Msg
from ophyd import Component as Cpt
from ophyd import Device

from bluesky_gpsts.devices.signals import Quantity
from bluesky_gpsts.plans.verdict import TipVerdict

__all__ = ["ReturnRecord", "TipRecord", "record_verdict"]


class TipRecord(Device):
    """A verdict on the tip, and what had been done to it before.

    The fields are those of `bluesky_gpsts.plans.TipVerdict`; `attempt` is 0 and `action` empty
    for a tip as it was found.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for attribute in self.component_names:
            getattr(self, attribute).name = f"tip_{attribute}"

    passed = Cpt(Quantity, value=0.0, precision=0)
    reasons = Cpt(Quantity, value="")
    onset = Cpt(Quantity, value=math.nan, units="V")
    onset_error = Cpt(Quantity, value=math.nan, units="V")
    onset_width = Cpt(Quantity, value=math.nan, units="V")
    height = Cpt(Quantity, value=math.nan)
    height_error = Cpt(Quantity, value=math.nan)
    roughness = Cpt(Quantity, value=math.nan)
    noise = Cpt(Quantity, value=math.nan)
    edge = Cpt(Quantity, value=math.nan, units="m", precision=12)
    second = Cpt(Quantity, value=math.nan)
    echo = Cpt(Quantity, value=math.nan)
    adsorbates = Cpt(Quantity, value=0.0, precision=0)
    spectra = Cpt(Quantity, value=0.0, precision=0)
    label = Cpt(Quantity, value="")
    novelty = Cpt(Quantity, value=math.nan)
    echo_dx = Cpt(Quantity, value=math.nan, units="m", precision=12)
    echo_dy = Cpt(Quantity, value=math.nan, units="m", precision=12)
    attempt = Cpt(Quantity, value=0.0, precision=0)
    action = Cpt(Quantity, value="")
    x = Cpt(Quantity, value=math.nan, units="m", precision=12)
    y = Cpt(Quantity, value=math.nan, units="m", precision=12)


class ReturnRecord(Device):
    """Where a frame was found again after the tip had been somewhere else."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for attribute in self.component_names:
            getattr(self, attribute).name = f"return_{attribute}"

    dx = Cpt(Quantity, value=math.nan, units="m", precision=12)
    dy = Cpt(Quantity, value=math.nan, units="m", precision=12)
    confidence = Cpt(Quantity, value=math.nan)
    ok = Cpt(Quantity, value=0.0, precision=0)
    reason = Cpt(Quantity, value="")


def record_verdict(record: TipRecord, verdict: TipVerdict) -> Generator[Msg, Any, None]:
    """Write a verdict as an event of the stream ``tip``."""
    for name, value in verdict.numbers.items():
        yield from bps.mv(getattr(record, name), value)
    yield from bps.mv(
        record.passed,
        float(verdict.passed),
        record.reasons,
        "; ".join(verdict.reasons),
        record.label,
        verdict.label,
    )
    yield from bps.create(name="tip")
    yield from bps.read(record)
    yield from bps.save()
    yield from bps.checkpoint()
