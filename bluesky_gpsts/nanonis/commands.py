"""The commands of the Nanonis TCP protocol, as data.

``commands.tsv`` has one row for each layout of a command: its name, the release of the real-time
engine that introduced the layout, and the fields of request and response with their types, order
and units. The source is the Nanonis TCP protocol document of releases R10862, R13742 and R14718.

Types: ``u16 i16 u32 i32 f32 f64`` scalars, ``f32?`` a scalar that may be NaN, ``str`` a string,
``T[]`` an array with its own count, ``T[=]`` an array that shares the count of the one before,
``T[,]`` a two-dimensional array, ``str[]`` strings with byte total and count, ``str[b]`` strings
with a byte total alone.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from bluesky_gpsts.nanonis.errors import UnsupportedCommand

__all__ = ["RELEASES", "Command", "Field", "command", "command_names", "is_idempotent"]

RELEASES = (10862, 13742, 14718)
"""Releases whose protocol documents the table was made from."""

_FIELD = re.compile(r"(?P<type>\S+) (?P<name>.*?)(?: \((?P<unit>[^()]*)\))?$")


@dataclass(frozen=True)
class Field:
    """One value of a message: its wire type, its name and its unit ("" for none)."""

    type: str
    name: str
    unit: str


@dataclass(frozen=True)
class Command:
    """One layout of a command, valid from release `since` on."""

    name: str
    since: int
    request: tuple[Field, ...]
    response: tuple[Field, ...]


def _fields(text: str) -> tuple[Field, ...]:
    fields = []
    for item in filter(None, text.split(", ")):
        match = _FIELD.match(item)
        if match is None:
            raise ValueError(f"malformed field {item!r} in the command table")
        fields.append(Field(match["type"], match["name"], match["unit"] or ""))
    return tuple(fields)


@cache
def _table() -> dict[str, tuple[Command, ...]]:
    table: dict[str, list[Command]] = {}
    text = files("bluesky_gpsts.nanonis").joinpath("commands.tsv").read_text("utf-8")
    for line in text.splitlines()[1:]:
        name, since, request, response = line.split("\t")
        table.setdefault(name, []).append(
            Command(name, int(since), _fields(request), _fields(response))
        )
    return {name: tuple(sorted(rows, key=lambda c: c.since)) for name, rows in table.items()}


@cache
def command(name: str, release: int = RELEASES[-1]) -> Command:
    """Layout of a command in a release.

    Parameters
    ----------
    name : str
        Command name, such as ``"Bias.Get"``.
    release : int
        Release of the real-time engine, such as 14718.

    Raises
    ------
    UnsupportedCommand
        If the table has no such command, or the release does not have it yet.
    """
    layouts = _table().get(name)
    if layouts is None:
        raise UnsupportedCommand(f"{name!r} is not a Nanonis command known here")
    valid = [layout for layout in layouts if layout.since <= release]
    if not valid:
        raise UnsupportedCommand(
            f"{name} came with release R{layouts[0].since}; this controller is R{release}"
        )
    return valid[-1]


def command_names() -> tuple[str, ...]:
    """Names of all commands of the table."""
    return tuple(_table())


def is_idempotent(name: str) -> bool:
    """Whether sending the command twice does no more than sending it once.

    Only reading commands are; ``Motor.StepCounterGet`` may reset the counters it reads.
    """
    return name.endswith("Get") and name != "Motor.StepCounterGet"
