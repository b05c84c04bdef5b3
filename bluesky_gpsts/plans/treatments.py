"""What can be done to a tip, from mild to strong, and what it leaves behind."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.images import echo
from bluesky_gpsts.nanonis.files import Frame
from bluesky_gpsts.plans.inspection import Inspection, take_whole_image
from bluesky_gpsts.plans.tiprecords import TipRecord, record_verdict
from bluesky_gpsts.plans.verdict import TipVerdict

__all__ = ["METHODS", "Treatment", "ladder", "look_at_imprint", "treat"]

METHODS = ("indentation", "pulse", "both")

_STEPS = 4
# Slow enough that the neck between tip and sample is drawn out, and not torn.
_SECONDS_IN, _SECONDS_OUT = 0.3, 0.5
_REST = 0.3
_IMPRINT, _IMPRINT_PIXELS = 10e-9, 96
# A heap is up to so wide; within, its top may look like two.
_HEAP = 0.8e-9


@dataclass(frozen=True)
class Treatment:
    """One thing to do to a tip: an indentation by `depth` (m), or a pulse to `bias` (V)."""

    depth: float = 0.0
    bias: float = 0.0

    @property
    def text(self) -> str:
        """What it is, for people."""
        if self.depth:
            return f"an indentation by {self.depth * 1e9:.2f} nm"
        return f"a pulse to {self.bias:.2f} V"


def ladder(
    method: str, depths: tuple[float, float], pulses: tuple[float, float]
) -> tuple[Treatment, ...]:
    """Treatments from mild to strong, in four steps; with "both", each step is one of each.

    Parameters
    ----------
    method : str
        "indentation", "pulse" or "both".
    depths : (float, float)
        First and last depth (m), counted from where the tip hangs over the sample.
    pulses : (float, float)
        First and last bias of a pulse (V).

    Raises
    ------
    ValueError
        If the method is unknown, or a treatment would not go from mild to strong.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if not 0.0 < depths[0] <= depths[1]:
        raise ValueError(f"depths must be above 0 and go from mild to strong, in m, not {depths!r}")
    if not (abs(pulses[0]) <= abs(pulses[1]) and pulses[0] * pulses[1] > 0.0):
        raise ValueError(
            f"pulses must be of one sign, not 0, and go from mild to strong, in V, not {pulses!r}"
        )
    indentations = [Treatment(depth=float(value)) for value in np.linspace(*depths, _STEPS)]
    shots = [Treatment(bias=float(value)) for value in np.linspace(*pulses, _STEPS)]
    if method == "indentation":
        return tuple(indentations)
    if method == "pulse":
        return tuple(shots)
    return tuple(one for pair in zip(indentations, shots, strict=True) for one in pair)


def treat(
    stm: NanonisSTM, treatment: Treatment, place: tuple[float, float]
) -> Generator[Msg, Any, None]:
    """Go to a place (m) and treat the tip; once only, however often the plan is paused."""
    yield from bps.mv(stm.tip, place)
    yield from bps.sleep(_REST)
    if treatment.bias:
        yield from bps.mv(stm.pulse.value, treatment.bias)
        device: Any = stm.pulse
    else:
        shaper = stm.shaper
        for signal, value in (
            (shaper.delay, 0.05),
            (shaper.change_bias, 0),
            (shaper.lift, -treatment.depth),
            (shaper.lift_time, _SECONDS_IN),
            (shaper.settling, _REST),
            (shaper.height, treatment.depth),
            (shaper.height_time, _SECONDS_OUT),
            (shaper.end_wait, _REST),
            (shaper.restore, 1),
        ):
            yield from bps.mv(signal, value)
        device = shaper
    # Going back to a checkpoint after a pause must not repeat it.
    yield from bps.clear_checkpoint()
    yield from bps.trigger(device, wait=True)
    yield from bps.checkpoint()


def look_at_imprint(
    stm: NanonisSTM,
    how: Inspection,
    record: TipRecord,
    place: tuple[float, float],
    verdict: TipVerdict,
) -> Generator[Msg, Any, TipVerdict]:
    """Image what the tip has left at a place (m): a double tip that nothing else shows has an echo.

    A second apex beside the first one along the only step in view shows at no step, and adsorbates
    need not be there; the imprint is. A tip that failed for adsorbates that have others beside them
    passes if the imprint has nothing beside it (see `same_echo`).
    """
    dx, dy = stm.tip.offset_x.get(), stm.tip.offset_y.get()
    frame = Frame(place[0] + dx, place[1] + dy, _IMPRINT, _IMPRINT, how.frame.angle)
    image = yield from take_whole_image(
        stm, frame, _IMPRINT_PIXELS, _IMPRINT_PIXELS, how.line_time, "imprint"
    )
    pixel = _IMPRINT / _IMPRINT_PIXELS
    found = echo(image, (pixel, pixel), _HEAP)
    if not found.strength > how.criteria.echo:
        if verdict.passed:
            return verdict
        verdict = replace(verdict, passed=True, reasons=())
        yield from record_verdict(record, verdict)
        return verdict
    apart = float(np.hypot(found.dx, found.dy))
    reason = f"the tip is double: its imprint appears again {apart * 1e9:.1f} nm away"
    verdict = replace(
        verdict,
        passed=False,
        reasons=(reason,),
        echo=found.strength,
        adsorbates=found.adsorbates,
    )
    yield from record_verdict(record, verdict)
    return verdict
