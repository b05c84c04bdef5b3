"""A simulator for one session: ``python -m bluesky_gpsts.simulator SAMPLE SEED TIME_SCALE``.

It takes free loopback ports, writes them to standard output as a line of JSON, and ends when its
standard input closes, so that none outlives the session that started it.
"""

import json
import signal
import sys

from bluesky_gpsts.simulator.simulator import Simulator


def main(sample: str, seed: str, time_scale: str) -> None:
    """Run until standard input closes."""
    # Ctrl-C is for the session, which still needs the controller to put its settings back.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Simulator(sample, seed=int(seed), time_scale=float(time_scale)) as simulator:
        print(json.dumps({"host": simulator.host, "ports": simulator.ports}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
