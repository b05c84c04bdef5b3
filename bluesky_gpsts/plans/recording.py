"""What an optimizer tells of its choices and of its map, as documents."""

from collections.abc import Generator
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.plans.records import DecisionRecord, MapRecord

__all__ = ["record_decision", "record_map"]


def record_map(optimizer: Any) -> Generator[Msg, Any, None]:
    """Write what the map at the end depends on into the stream ``map``."""
    record = MapRecord(name="map")
    for name, value in optimizer.map_record().items():
        yield from bps.mv(getattr(record, name), value)
    yield from bps.create(name="map")
    yield from bps.read(record)
    yield from bps.save()
    yield from bps.checkpoint()


def record_decision(
    decision: DecisionRecord, optimizer: Any, point: dict[str, Any], number: int
) -> Generator[Msg, Any, None]:
    """Put why `point` was chosen into the record, as far as the optimizer tells."""
    yield from bps.mv(
        decision.decision_id,
        float(number),
        decision.primary_seq_num,
        float(number),
        decision.x,
        float(point["x"]),
        decision.y,
        float(point["y"]),
    )
    explain = getattr(optimizer, "explain", None)
    if explain is None:
        yield from bps.mv(decision.reason, type(optimizer).__name__)
        return
    why = explain(point["_id"])
    for name in (
        "acquisition_value",
        "posterior_mean",
        "posterior_std",
        "default_noise_variance",
        "n_data",
        "trained",
    ):
        yield from bps.mv(getattr(decision, name), float(getattr(why, name)))
    yield from bps.mv(decision.hyperparameters, np.asarray(why.hyperparameters, dtype=float))
    yield from bps.mv(decision.reason, why.reason, decision.structure, why.structure)
