"""The subcommand ``gpsts library``: what an expert does with the defects that were found."""

import argparse
from pathlib import Path
from typing import Any

from bluesky_gpsts.cli_output import (
    check_apart,
    check_figure,
    check_output,
    whole,
    write_figure,
    write_json,
)

__all__ = ["add_command", "run_library"]

_NAMES = {"show": (0, 0), "grow": (0, 0), "rename": (2, 2), "merge": (1, 99), "split": (1, 1)}
_NAMES |= {"drop": (1, 1)}


def add_command(commands: Any) -> None:
    """Add the subcommand to the parser of ``gpsts``.

    Parameters
    ----------
    commands : argparse action
        What ``add_subparsers`` returned.
    """
    command = commands.add_parser("library", help="look after the library of named defects")
    command.add_argument(
        "action",
        choices=tuple(_NAMES),
        help="show the classes; grow it with what the catalog's runs have found; rename OLD NEW; "
        "merge NAME ... --into NAME; split NAME --count K; drop NAME",
    )
    command.add_argument("names", nargs="*", help="of classes")
    command.add_argument("--catalog", help="directory of the catalog (default: the user's)")
    command.add_argument("--folder", type=Path, help="of the library (default: in the catalog)")
    command.add_argument("--into", help="for merge: the class that they become")
    command.add_argument("--count", help="for split: number of parts (default: 2)")
    command.add_argument("--figure", type=Path, help="draw the classes to this PNG file")
    command.add_argument("--json", type=Path, help="write the classes to this file")


def run_library(options: argparse.Namespace) -> int:
    """Run the subcommand; returns its exit status."""
    check_output(options.json)
    check_figure(options.figure)
    check_apart(json=options.json, figure=options.figure)
    least, most = _NAMES[options.action]
    if not least <= len(options.names) <= most:
        raise ValueError(
            f"'gpsts library {options.action}' takes {least} names"
            f"{' or more' if most > least else ''}, not {len(options.names)}"
        )
    for option, action in (("into", "merge"), ("count", "split")):
        if getattr(options, option) is not None and options.action != action:
            raise ValueError(f"--{option} is for 'gpsts library {action}'")
    if options.action == "merge" and options.into is None:
        raise ValueError("'gpsts library merge' needs --into NAME, the class that they become")
    from bluesky_gpsts.images.library import Library

    proposed: list[str] = []
    if options.action == "grow" or options.folder is None:
        from bluesky_gpsts.analysis.defects import grown, library_folder
        from bluesky_gpsts.catalog import open_catalog

        with open_catalog(options.catalog, create=False) as catalog:
            folder = options.folder or library_folder(catalog)
            if options.action == "grow":
                library = Library.read(folder) if Library.exists(folder) else Library.empty()
                before = library
                library, runs = grown(before, catalog)
                print(f"{len(library) - len(before)} new defects of {runs} runs")
                proposed = [name for name in library.names if name not in before.names]
    else:
        folder = options.folder
    if options.action != "grow":
        library = _changed(Library.read(folder), options)
    if options.action != "show":
        library.write(folder)
    for name, count in sorted(library.counts.items(), key=lambda entry: -entry[1]):
        low = library.of(name).depression.mean()
        print(f"{count:6}  {name:24} {'depression' if low > 0.5 else 'protrusion'}")
    print(f"{len(library)} defects in {len(library.names)} classes; {folder}")
    for line in _proposals(proposed):
        print(line)
    write_json(options.json, {"folder": str(folder), "classes": library.counts})
    if options.figure is not None and len(library):
        from bluesky_gpsts.analysis.library_figure import library_figure

        write_figure(options.figure, library_figure(library))
    return 0


def _proposals(new: list[str]) -> list[str]:
    """What is to be known of classes that have come in, for the terminal."""
    from bluesky_gpsts.images.librarian import cluster_number

    named = [name for name in new if cluster_number(name) is None]
    lines = []
    if named:
        lines.append(
            f"proposed, as the runs have filed them: {', '.join(named)}; look at them with "
            '--figure, and change them with gpsts library rename "OLD" "NEW" or merge'
        )
    # What stands alone, "cluster 0", has nothing in common that could be named.
    if any(cluster_number(name) for name in new):
        lines.append('a cluster gets a name with gpsts library rename "cluster N" "NAME"')
    return lines


def _changed(library: Any, options: argparse.Namespace) -> Any:
    """The library after what was asked for."""
    if options.action == "rename":
        return library.rename(*options.names)
    if options.action == "merge":
        return library.merge(options.names, options.into)
    if options.action == "split":
        parts = 2 if options.count is None else whole("--count", options.count)
        return library.split(options.names[0], parts)
    if options.action == "drop":
        return library.drop(options.names[0])
    return library
