"""The simulator in a process of its own, as a real controller is."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

__all__ = ["SimulatorProcess", "start_process"]


@dataclass
class SimulatorProcess:
    """A running simulator process; leaving the context stops it."""

    host: str
    ports: tuple[int, ...]
    process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process: it ends when its standard input closes."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_process(
    sample: str = "ws2", *, seed: int = 0, time_scale: float = 1.0
) -> SimulatorProcess:
    """Start a simulator on free loopback ports and wait until it listens.

    Parameters
    ----------
    sample, seed, time_scale
        As for `Simulator`.

    Raises
    ------
    RuntimeError
        If the process ends before it listens; its own message is on standard error.
    """
    arguments = [
        *(sys.executable, "-m", "bluesky_gpsts.simulator"),
        *(sample, str(seed), str(time_scale)),
    ]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the simulator did not start (exit status {process.wait()})")
    address = json.loads(line)
    return SimulatorProcess(address["host"], tuple(address["ports"]), process)
