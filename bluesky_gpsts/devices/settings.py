"""Settings of the controller, as data: how each group is read, and how it is written back.

In many modules Set counts differently from Get (0 no change, 1 on, 2 off against 0 off, 1 on), so
what was read cannot be written as it is. Each group here has a function that turns the values of
its Get into the arguments of its Set.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_gpsts.nanonis import Client, CommandError, ProtocolError, UnsupportedCommand
from bluesky_gpsts.nanonis.commands import command

__all__ = [
    "COUPLED",
    "RESTORED",
    "SETTINGS",
    "Setting",
    "affected_by",
    "read_settings",
    "same_settings",
    "try_to_read",
    "write_settings",
]

logger = logging.getLogger(__name__)


def _on_off(value: int) -> int:
    return 1 if value else 2


def _same(values: Sequence[Any]) -> list[Any]:
    return list(values)


def _sweep_props(values: Sequence[Any]) -> list[Any]:
    save_all, sweeps, backward, points, z_offset, *switches = values
    # Older releases do not tell autosave and dialogue; 0 leaves them as they are.
    last = [_on_off(value) for value in switches] or [0, 0]
    return [_on_off(save_all), sweeps, _on_off(backward), points, z_offset, *last]


def _scan_props(values: Sequence[Any]) -> list[Any]:
    # Series name and comment have no "no change"; the switches that are 0 here have.
    continuous, series, comment, modules = values
    return [_on_off(continuous), 0, 0, series, comment, modules, 0]


def _scan_speed(values: Sequence[Any]) -> list[Any]:
    # What stays constant when the frame changes counts from 0 in Get and from 1 in Set.
    return [*values[:4], 0, values[5]]


def _compensation(values: Sequence[Any]) -> list[Any]:
    # Only later releases, which count from 1 in Set, have a saturation limit.
    status, *others = values
    return [_on_off(status) if len(others) > 3 else int(bool(status)), *others]


def _tip_shaper(values: Sequence[Any]) -> list[Any]:
    request = list(values)
    for place in (1, 10):
        request[place] = _on_off(values[place])
    return request


@dataclass(frozen=True)
class Setting:
    """A group of values that one command reads and one command writes.

    Attributes
    ----------
    get, set : str
        Commands.
    arguments : tuple
        Arguments that both take before the values, such as the number of a modulator.
    to_request : callable
        Values of Get to arguments of Set.
    """

    get: str
    set: str
    arguments: tuple[Any, ...] = ()
    to_request: Callable[[Sequence[Any]], list[Any]] = _same

    def read(self, client: Client) -> tuple[Any, ...]:
        """Values as the controller has them, or as a dry run would have made them."""
        planned: dict[Any, tuple[Any, ...]] = getattr(client, "planned", {})
        if self.key in planned:
            return planned[self.key]
        values = client.call(self.get, *self.arguments)
        if self.get == "BiasSpectr.PropsGet":
            # PropsSet also takes the z offset, which only TimingGet tells.
            z_offset = client.call("BiasSpectr.TimingGet")[1]
            return (*values[:4], z_offset, *(values[6:] if len(values) == 8 else ()))
        if self.get == "Scan.PropsGet":
            return (values[0], values[3], values[4], values[5] if len(values) > 5 else [])
        if self.get == "Piezo.DriftCompGet":
            # Whether an axis is saturated is no setting.
            return (*values[:4], *values[7:])
        return values

    def write(self, client: Client, values: Sequence[Any]) -> None:
        """Write values in the form that `read` gave."""
        planned: dict[Any, tuple[Any, ...]] | None = getattr(client, "planned", None)
        request = [*self.arguments, *self.to_request(values)]
        # Later releases have more fields at the end.
        client.call(self.set, *request[: len(command(self.set, client.release).request)])
        if planned is not None and getattr(client, "dry", False):
            planned[self.key] = tuple(values)

    @property
    def key(self) -> tuple[Any, ...]:
        """Under what a dry run keeps the group."""
        return (self.get, *self.arguments)


SETTINGS = {
    "frame": Setting("Scan.FrameGet", "Scan.FrameSet"),
    "buffer": Setting("Scan.BufferGet", "Scan.BufferSet"),
    "scan_props": Setting("Scan.PropsGet", "Scan.PropsSet", to_request=_scan_props),
    "scan_speed": Setting("Scan.SpeedGet", "Scan.SpeedSet", to_request=_scan_speed),
    "tip_speed": Setting("FolMe.SpeedGet", "FolMe.SpeedSet"),
    "sweep_limits": Setting("BiasSpectr.LimitsGet", "BiasSpectr.LimitsSet"),
    "sweep_props": Setting("BiasSpectr.PropsGet", "BiasSpectr.PropsSet", to_request=_sweep_props),
    "sweep_timing": Setting("BiasSpectr.TimingGet", "BiasSpectr.TimingSet"),
    "sweep_advanced": Setting(
        "BiasSpectr.AdvPropsGet",
        "BiasSpectr.AdvPropsSet",
        to_request=lambda values: [_on_off(value) for value in values],
    ),
    "sweep_channels": Setting(
        "BiasSpectr.ChsGet", "BiasSpectr.ChsSet", to_request=lambda values: [values[0]]
    ),
    "modulation_on": Setting("LockIn.ModOnOffGet", "LockIn.ModOnOffSet", (1,)),
    "modulation_amplitude": Setting("LockIn.ModAmpGet", "LockIn.ModAmpSet", (1,)),
    "modulation_frequency": Setting("LockIn.ModPhasFreqGet", "LockIn.ModPhasFreqSet", (1,)),
    "demodulation_phase": Setting("LockIn.DemodPhasGet", "LockIn.DemodPhasSet", (1,)),
    "compensation": Setting("Piezo.DriftCompGet", "Piezo.DriftCompSet", to_request=_compensation),
    "tip_shaper": Setting("TipShaper.PropsGet", "TipShaper.PropsSet", to_request=_tip_shaper),
    "gain": Setting("ZCtrl.GainGet", "ZCtrl.GainSet"),
    "bias": Setting("Bias.Get", "Bias.Set"),
    "setpoint": Setting("ZCtrl.SetpntGet", "ZCtrl.SetpntSet"),
    "feedback": Setting("ZCtrl.OnOffGet", "ZCtrl.OnOffSet"),
}
"""Every group by name; bias, setpoint and feedback come last because they are restored last."""

RESTORED = tuple(name for name in SETTINGS if name not in ("bias", "setpoint", "feedback"))
"""Groups that may be written at any time, in the order of writing."""


# What belongs to another group too, or is computed from one: a frame of another width is scanned at
# another speed, and only the timing of a sweep tells its z offset.
_OWN = {"scan_speed": slice(2, 4), "sweep_props": slice(0, 4), "sweep_channels": slice(0, 1)}
COUPLED = {"Scan.FrameSet": ("scan_speed",), "Scan.BufferSet": ("scan_speed",)}


def affected_by(command_name: str) -> list[str]:
    """Groups that a command writes, or changes on the way."""
    written = [name for name, setting in SETTINGS.items() if setting.set == command_name]
    return [*written, *COUPLED.get(command_name, ())]


def same_settings(
    name: str, one: Sequence[Any], other: Sequence[Any], absolute: float = 0.0
) -> bool:
    """Whether two readings of a group agree within what 32 bits keep.

    Parameters
    ----------
    name : str
        Name of the group.
    one, other : sequence
        Values as `Setting.read` gives them.
    absolute : float
        Difference that counts as none, in the unit of the values.
    """
    own = _OWN.get(name, slice(None))
    one, other = list(one)[own], list(other)[own]

    def same(a: Any, b: Any) -> bool:
        first, second = np.asarray(a), np.asarray(b)
        if first.shape != second.shape:
            return False
        if first.dtype.kind in "biuf" and second.dtype.kind in "biuf":
            return bool(np.allclose(first, second, rtol=1e-5, atol=absolute))
        return bool(np.all(first == second))

    return len(one) == len(other) and all(map(same, one, other))


def read_settings(client: Client) -> dict[str, tuple[Any, ...]]:
    """All groups that this controller has, as read now."""
    values = {name: try_to_read(client, name) for name in SETTINGS}
    return {name: value for name, value in values.items() if value is not None}


def try_to_read(client: Client, name: str) -> tuple[Any, ...] | None:
    """Values of a group, or None if this controller cannot tell them."""
    try:
        return SETTINGS[name].read(client)
    except UnsupportedCommand:
        return None
    except CommandError as error:
        # Its window is closed at the controller, and without it nothing can change it.
        if name != "tip_shaper":
            raise
        logger.info("the tip shaper is left alone: %s", error)
        return None
    except ProtocolError as error:
        # Some controllers leave out columns of this reply, or add texts to it.
        if name != "scan_props":
            raise
        logger.warning("the scan's properties are left as they are: %s", error)
        client.connect()
        return None


def _equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    return [plain(v) for v in a] == [plain(v) for v in b]


def write_settings(
    client: Client, wanted: dict[str, tuple[Any, ...]], names: Sequence[str] = RESTORED
) -> list[str]:
    """Write the groups of `names` that differ from what `wanted` says; returns which."""
    changed = []
    for name in names:
        if name in wanted and not _equal(SETTINGS[name].read(client), wanted[name]):
            SETTINGS[name].write(client, wanted[name])
            changed.append(name)
    return changed
