"""What an optimizer tells of its choices and of its map, as documents."""

from collections.abc import Generator, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.plans.records import DecisionRecord, FlagRecord, MapRecord, MeritRecord

__all__ = ["columns_of", "record_baseline", "record_decision", "record_flags", "record_map"]


def columns_of(stm: NanonisSTM, judged: MeritRecord) -> dict[str, str]:
    """Data key of each role that a column of the spectra plays, for the start document."""
    sts, tip = stm.spectroscopy, stm.tip
    signals = {
        "bias": sts.bias,
        "current": sts.current,
        "lockin_x": sts.lockin_x,
        "lockin_y": sts.lockin_y,
        "didv": sts.didv,
        "x": tip.x,
        "y": tip.y,
        "piezo_x": tip.piezo_x,
        "piezo_y": tip.piezo_y,
        "z": stm.z_controller.z,
        "figure_of_merit": judged.figure_of_merit,
        "figure_of_merit_variance": judged.figure_of_merit_variance,
    }
    return {role: signal.name for role, signal in signals.items()}


def record_baseline(stm: NanonisSTM) -> Generator[Msg, Any, None]:
    """Write the settings of the instrument into the stream ``baseline``."""
    yield from bps.create(name="baseline")
    for device in (stm, *stm.settings()):
        yield from bps.read(device)
    yield from bps.save()


def record_map(optimizer: Any) -> Generator[Msg, Any, None]:
    """Write what the map at the end depends on into the stream ``map``."""
    record = MapRecord(name="map")
    for name, value in optimizer.map_record().items():
        yield from bps.mv(getattr(record, name), value)
    yield from bps.create(name="map")
    yield from bps.read(record)
    yield from bps.save()
    yield from bps.checkpoint()


def record_flags(numbers: Sequence[int], after: int, reason: str) -> Generator[Msg, Any, None]:
    """Write into the stream ``flags`` that spectra were taken back.

    Parameters
    ----------
    numbers : sequence of int
        Sequence numbers of the spectra.
    after : int
        Spectra taken by then.
    reason : str
        Why.
    """
    record = FlagRecord(name="flag")
    for number in numbers:
        yield from bps.mv(record.primary_seq_num, float(number))
        yield from bps.mv(record.after, float(after), record.reason, reason)
        yield from bps.create(name="flags")
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
