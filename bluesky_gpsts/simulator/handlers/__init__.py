"""What the simulated controller answers, command by command."""

from bluesky_gpsts.simulator.handlers import position, spectroscopy, tip, utilities
from bluesky_gpsts.simulator.handlers.registry import HANDLERS

__all__ = ["HANDLERS", "position", "spectroscopy", "tip", "utilities"]
