"""A scanning tunnelling microscope that speaks the Nanonis TCP protocol.

`Simulator` runs it in this process, `start_process` in one of its own. Behind the ports there is
a sample, a tip and a feedback loop; what a client cannot know is in `Simulator.truth`.
"""

from bluesky_gpsts.simulator.faults import Fault
from bluesky_gpsts.simulator.process import SimulatorProcess, start_process
from bluesky_gpsts.simulator.sample import Conditions, Sample
from bluesky_gpsts.simulator.samples import open_sample
from bluesky_gpsts.simulator.simulator import Simulator

__all__ = [
    "Conditions",
    "Fault",
    "Sample",
    "Simulator",
    "SimulatorProcess",
    "open_sample",
    "start_process",
]
