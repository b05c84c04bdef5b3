"""A simulated microscope over real sockets, the devices on it, and hands on its clock."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.nanonis import Client, UnsupportedCommand
from bluesky_gpsts.simulator import Fault, Sample, Simulator, open_sample
from bluesky_gpsts.simulator.clock import Clock
from bluesky_gpsts.simulator.faults import Faults

DEADLINE = 30.0


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """Wait until `condition()` holds; the deadline is far beyond what it ever takes."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.001)


class HoldingClock(Clock):
    """As fast as possible, except that time stands still while `hold()` says so."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.hold: Callable[[], bool] = lambda: False

    def skip_to(self, moment: float) -> None:
        if not self.hold():
            super().skip_to(moment)

    def advance(self, seconds: float) -> None:
        super().skip_to(self.now() + seconds)

    def wait_until(self, moment: float, cancelled: threading.Event) -> bool:
        self.skip_to(moment)
        while self.now() < moment:
            if cancelled.wait(0.001):
                return False
            self.skip_to(moment)
        return not cancelled.is_set()


class Recorder(Faults):
    """Faults, and a record of every command the server answered, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[str] = []

    def take(self, command: str) -> Fault | None:
        self.commands.append(command)
        return super().take(command)

    @property
    def writes(self) -> list[str]:
        return [name for name in self.commands if not name.endswith(("Get", "Grab"))]


STATE = {
    name: arguments
    for arguments, names in {
        (): (
            "Bias.Get",
            "ZCtrl.SetpntGet",
            "ZCtrl.OnOffGet",
            "ZCtrl.GainGet",
            "ZCtrl.LimitsGet",
            "ZCtrl.SwitchOffDelayGet",
            "Scan.FrameGet",
            "Scan.BufferGet",
            "Scan.SpeedGet",
            "Scan.PropsGet",
            "Scan.StatusGet",
            "FolMe.SpeedGet",
            "BiasSpectr.LimitsGet",
            "BiasSpectr.PropsGet",
            "BiasSpectr.AdvPropsGet",
            "BiasSpectr.TimingGet",
            "BiasSpectr.ChsGet",
            "BiasSpectr.StatusGet",
            "Piezo.DriftCompGet",
            "SafeTip.OnOffGet",
            "SafeTip.PropsGet",
            "TipShaper.PropsGet",
        ),
        (1,): (
            "LockIn.ModOnOffGet",
            "LockIn.ModAmpGet",
            "LockIn.ModPhasFreqGet",
            "LockIn.DemodPhasGet",
        ),
    }.items()
    for name in names
}


class Bench:
    """A simulator, a device on its ports, and a client of the test's own beside it."""

    def __init__(self, stack: ExitStack, sample: Sample, **options: Any) -> None:
        self.simulator = stack.enter_context(Simulator(sample, **{"time_scale": 0.0, **options}))
        self.clock = HoldingClock()
        self.controller = self.simulator.controller
        self.controller.clock = self.clock
        self.server = Recorder()
        self.simulator.faults = self.simulator.server.faults = self.server
        ports = self.simulator.ports
        self.client = stack.enter_context(Client("127.0.0.1", ports[2]))
        self.stm = NanonisSTM(ports=(ports[0], ports[1], ports[3])).connect()
        stack.callback(self.stm.disconnect)
        self.server.commands.clear()

    def state(self) -> dict[str, Any]:
        """What the controller holds, by the command that tells."""
        values = {}
        for name, arguments in STATE.items():
            try:
                reply = self.client.call(name, *arguments)
            except UnsupportedCommand:
                continue
            values[name] = [v.tolist() if isinstance(v, np.ndarray) else v for v in reply]
        return values

    def hold_sweep(self, number: int = 1) -> None:
        """Let the sweep of that number from now on never end by itself."""
        number += self.controller.sweeps
        self.clock.hold = lambda: (
            self.controller.sweeps == number and not self.controller.sweep_cancelled.is_set()
        )

    def hold_image(self, number: int = 1) -> None:
        """Let the next image, or a later one, never end by itself."""
        number += self.controller.images
        self.clock.hold = lambda: (
            self.controller.images == number and not self.controller.scan_cancelled.is_set()
        )


@pytest.fixture(scope="session")
def ws2() -> Sample:
    """A WS2 monolayer; samples hold no state, so that one serves every simulator."""
    return open_sample("ws2", 0)


@pytest.fixture
def make_bench(ws2: Sample) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda sample=ws2, **options: Bench(stack, sample, **options)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def until() -> Callable[[Callable[[], Any], str], None]:
    return wait_for
