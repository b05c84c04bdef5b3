"""What the subcommands of ``gpsts`` share: numbers from text, and files that hold results."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "bar",
    "check_apart",
    "check_figure",
    "check_folder",
    "check_output",
    "number",
    "whole",
    "write_figure",
    "write_json",
]


def whole(name: str, text: str, least: int | None = None) -> int:
    """Read the whole number of an option; ValueError names the option."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {text!r}") from None
    if least is not None and value < least:
        raise ValueError(f"{name} must be a whole number of {least} or above, not {value}")
    return value


def number(name: str, text: str) -> float:
    """Read the number of an option; ValueError names the option."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text!r}") from None


def check_output(path: Path | None) -> None:
    """Refuse a summary file that cannot be written, before anything is started."""
    if path is None:
        return
    parent = path.resolve().parent
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"cannot write {path}: give a file in an existing, writable folder")


def check_figure(path: Path | None) -> None:
    """Refuse a file for a figure that cannot be written, or whose name is not that of a PNG."""
    check_output(path)
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"a figure is written as PNG, not as {path.name}; give a name in .png")


def check_apart(**paths: Path | None) -> None:
    """Refuse two outputs, by the names of their options, that would be one file."""
    names: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = names.setdefault(path.resolve(), name)
        if other != name:
            raise ValueError(
                f"--{other} and --{name} would both be written to {path}; give each a file"
            )


def check_folder(path: Path | None) -> None:
    """Refuse a folder of results that cannot be made, before anything is started."""
    if path is None:
        return
    there = next(place for place in (path.resolve(), *path.resolve().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"cannot write to {path}: {there} is no folder that can be written")


def write_json(path: Path | None, data: Any) -> None:
    """Write a summary, as a whole or not at all; nothing for None."""
    from bluesky_gpsts.models.store import replace_file

    if path is not None:
        replace_file(path, (json.dumps(data, indent=2) + "\n").encode())


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG, and print where it is."""
    from bluesky_gpsts.analysis.style import png

    path.write_bytes(png(figure))
    print(path)


def bar(what: str) -> Callable[[int, int], None]:
    """Return a progress callback that shows a bar with the time left."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f} % |{bar:24}| {elapsed} < {remaining}"
    # What takes less than a second needs none.
    shown = tqdm(desc=what, bar_format=layout, file=sys.stderr, delay=1.0)

    def progress(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)
        if done >= total:
            shown.close()

    return progress
