"""A Nanonis microscope as ophyd devices."""

from bluesky_gpsts.devices.limits import SIMULATOR_LIMITS, LimitError, Limits
from bluesky_gpsts.devices.stm import NanonisSTM

__all__ = ["SIMULATOR_LIMITS", "LimitError", "Limits", "NanonisSTM"]
