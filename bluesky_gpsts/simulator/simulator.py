"""The simulator as one object: start it, reach its ports, read its hidden truth."""

from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.commands import RELEASES
from bluesky_gpsts.physics import Tip
from bluesky_gpsts.simulator.clock import Clock
from bluesky_gpsts.simulator.controller import Controller
from bluesky_gpsts.simulator.faults import Fault, Faults
from bluesky_gpsts.simulator.sample import Sample
from bluesky_gpsts.simulator.samples import open_sample
from bluesky_gpsts.simulator.server import ErrorStyle, Server
from bluesky_gpsts.simulator.truth import Truth

__all__ = ["DEFAULT_PORTS", "Simulator"]

DEFAULT_PORTS = (6501, 6502, 6503, 6504)
FREE_PORTS = (0, 0, 0, 0)


class Simulator:
    """A simulated Nanonis controller with its microscope.

    Parameters
    ----------
    sample : str or Sample
        "ws2", "au111", "hsi100", the path of a recorded .3ds grid, or a sample of your own.
    seed : int
        Seed of the sample, the tip, the drift and all noise.
    host : str
        Address to listen on; loopback unless told otherwise.
    ports : tuple of int
        Ports of the controller; 0 takes a free one.
    time_scale : float
        Wall-clock seconds per simulated second: 1 real time; 0 as fast as possible, where time
        passes by operations and by commands that change something, and never while one reads.
    protocol_release : int
        Release spoken: 10862, 13742, 14718, or one between.
    error_style : {"native", "padded"}
        Shape of error replies.
    drift : float
        Times the drift that was reported for such a surface; 0 is none.

    Examples
    --------
    >>> with Simulator("ws2", time_scale=0) as simulator:       # doctest: +SKIP
    ...     client = Client("127.0.0.1", simulator.ports[0]).connect()
    """

    def __init__(
        self,
        sample: str | Sample = "ws2",
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        ports: tuple[int, ...] = FREE_PORTS,
        time_scale: float = 1.0,
        protocol_release: int = RELEASES[-1],
        error_style: ErrorStyle = "native",
        drift: float = 1.0,
    ) -> None:
        if not 0.0 <= drift < np.inf:
            raise ValueError(f"drift is {drift!r} times the reported one; give 0 or more")
        self.sample = open_sample(sample, seed) if isinstance(sample, str) else sample
        self.faults = Faults()
        self.controller = Controller(self.sample, seed, Clock(time_scale), protocol_release, drift)
        self.server = Server(self.controller, host, ports, error_style, self.faults)
        self.host = host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Shut the ports."""
        self.server.close()

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports that the controller listens on."""
        return self.server.ports

    @property
    def truth(self) -> Truth:
        """Smallest gap, largest current and number of crashes so far."""
        with self.controller.lock:
            self.controller.tip.update(self.controller.clock.now())
            return self.controller.tip.truth

    @property
    def drift(self) -> NDArray[np.float64]:
        """Displacement (3,) of the sample since the start (m)."""
        drift: NDArray[np.float64] = self.controller.tip.drift.offset(self.controller.clock.now())
        return drift[0]

    def inject(self, fault: Fault) -> None:
        """Let a fault happen to the next replies it fits."""
        self.faults.add(fault)

    def change_tip(self, tip: Tip | None = None, after: float = 0.0) -> None:
        """Let the end of the tip become another one.

        Parameters
        ----------
        tip : Tip, optional
            The tip it becomes; a random one, most often bad, unless given.
        after : float
            Simulated seconds from now; it may happen in the middle of an image or a sweep.

        Raises
        ------
        ValueError
            If `after` is negative, or the sample is a recording, which no other tip has seen.
        """
        if not after >= 0.0:
            raise ValueError(f"after is {after} s; give 0 or more seconds from now")
        with self.controller.lock:
            self.controller.tip.apex.require()
            t = self.controller.bring_up() + after
            act = partial(self.controller.tip.apex.change, tip)
            self.controller.tip.schedule(t, "tip change", act)
            self.controller.bring_up()

    def trip_safe_tip(self) -> None:
        """Let a safe-tip event happen now."""
        with self.controller.lock:
            self.controller.trip_safe_tip(self.controller.bring_up())
