"""The subcommands of ``gpsts`` for safety: stop and limits."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from bluesky_gpsts.cli_output import whole

__all__ = ["COMMANDS", "add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser of ``gpsts``.

    Parameters
    ----------
    commands : argparse action
        What ``add_subparsers`` returned.
    """
    stop = commands.add_parser(
        "stop", help="withdraw the tip and stop everything, also while a plan runs elsewhere"
    )
    stop.add_argument("--host", default="127.0.0.1", help="the controller's (default: loopback)")
    stop.add_argument(
        "--ports",
        default="6501,6502,6503,6504",
        help="comma-separated; all are tried at once, and the first that answers serves",
    )
    commands.add_parser("limits", help="print a file of limits to start from, with units")


def _stop(options: argparse.Namespace) -> int:
    ports = tuple(whole("--ports", port) for port in options.ports.split(","))
    if not all(0 < port <= 65535 for port in ports):
        raise ValueError(f"--ports must lie in 1 to 65535, not {options.ports}")
    from bluesky_gpsts.devices import stop_controller

    port, troubles = stop_controller(options.host, ports)
    for trouble in troubles:
        print(f"gpsts: {trouble}", file=sys.stderr)
    print(f"The tip is being withdrawn and everything stopped ({options.host}:{port})")
    return 1 if troubles else 0


def _limits(options: argparse.Namespace) -> int:
    from bluesky_gpsts.devices.limits import limits_example

    print(limits_example(), end="")
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"stop": _stop, "limits": _limits}
