"""A Nanonis microscope as ophyd devices."""

from bluesky_gpsts.devices.gate import Alarm, DryRun, Gate, WriteRefused
from bluesky_gpsts.devices.halt import stop_controller
from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError, Limits
from bluesky_gpsts.devices.stm import NanonisSTM
from bluesky_gpsts.devices.watchdog import Watchdog

__all__ = [
    "SIMULATOR_LIMITS",
    "Alarm",
    "DryRun",
    "Gate",
    "LimitError",
    "Limits",
    "NanonisSTM",
    "Watchdog",
    "WriteRefused",
    "stop_controller",
]
