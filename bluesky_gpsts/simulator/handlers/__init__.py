"""What the simulated controller answers, command by command."""

from bluesky_gpsts.simulator.handlers import position, spectroscopy, tip, utilities
from bluesky_gpsts.simulator.handlers.registry import HANDLERS, takes_time

__all__ = ["HANDLERS", "position", "spectroscopy", "takes_time", "tip", "utilities"]
