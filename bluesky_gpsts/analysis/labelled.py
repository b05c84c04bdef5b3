"""Spectra from files and runs: to be classified, or with labels to train on.

dI/dV is the lock-in's X channel where its integral follows the current, which also calibrates it in
A/V whatever gain, phase and unit it was recorded with; otherwise the current is differentiated.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import spectra as read_run
from bluesky_gpsts.nanonis.files import read_3ds, read_dat
from bluesky_gpsts.spectra import Session
from bluesky_gpsts.spectra.folders import DataError, check_classes, check_duplicates

__all__ = ["FILES", "Measured", "differential", "read_file", "read_folder", "read_labelled_runs"]

FloatArray = npt.NDArray[np.float64]

FILES = (".dat", ".3ds")
_CURRENTS = ("Current (A)", "Current [AVG] (A)", "Current (A) [filt]")
_FOLLOWS = 0.9
"""Correlation with the current from which the lock-in's integral counts as following it."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Spectra as they were measured, on one bias axis.

    Attributes
    ----------
    name : str
        Name of the file, or uid of the run.
    bias : ndarray, shape (n,)
        Bias axis (V).
    didv : ndarray, shape (N, n)
        Differential conductance (A/V).
    numbers : ndarray of int, shape (N,)
        Pixel, from 0 row by row from the bottom, or sequence number of each spectrum.
    shape : (int, int) or None
        Rows and columns of a grid, of which the first N pixels may be recorded.
    source : str
        What dI/dV was made from.
    """

    name: str
    bias: FloatArray
    didv: FloatArray
    numbers: npt.NDArray[np.int64]
    shape: tuple[int, int] | None
    source: str


def differential(
    bias: FloatArray, current: FloatArray, lockin: FloatArray | None
) -> tuple[FloatArray, str]:
    """Differential conductance from what a file holds.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V), strictly rising or falling.
    current : (N, n) array
        Current (A).
    lockin : (N, n) array or None
        The lock-in's X channel in any unit.

    Returns
    -------
    didv : (N, n) array
        A/V.
    source : str
        "lock-in" or "current".
    """
    if lockin is not None and np.isfinite(lockin).all() and np.isfinite(current).all():
        steps = 0.5 * (lockin[:, 1:] + lockin[:, :-1]) * np.diff(bias)
        integral = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
        # Row by row: the offset of the current, and where its integral began, must not count.
        a = integral - integral.mean(axis=1, keepdims=True)
        b = current - current.mean(axis=1, keepdims=True)
        sizes = float(np.sqrt((a * a).sum())) * float(np.sqrt((b * b).sum()))
        product = float((a * b).sum())
        if sizes > 0.0 and abs(product) >= _FOLLOWS * sizes:
            return lockin * (product / float((a * a).sum())), "lock-in"
    return np.asarray(np.gradient(current, bias, axis=1)), "current"


def read_file(path: str | Path) -> Measured:
    """Read the spectra of a Nanonis file.

    Parameters
    ----------
    path : str or Path
        A point spectrum (.dat) or a grid (.3ds), complete or aborted, swept in bias.

    Returns
    -------
    Measured
        Of a grid the recorded pixels.

    Raises
    ------
    DataError
        The file is neither, holds no sweep of the bias or no current, or no spectrum.
    FileFormatError
        The file is damaged.
    OSError
        The file cannot be read.
    """
    file = Path(path)
    ending = file.suffix.lower()
    if ending not in FILES:
        raise DataError(
            f"{file} is no file of spectra that can be read; give a Nanonis .dat or .3ds file"
        )
    shape = None
    if ending == ".dat":
        spectrum = read_dat(file)
        swept, bias = next(iter(spectrum.columns.items()))
        channels = {name: column[None, :] for name, column in spectrum.columns.items()}
    else:
        grid = read_3ds(file)
        swept, bias, shape = grid.sweep_signal, grid.sweep, (grid.ny, grid.nx)
        channels = {
            name: values.reshape(grid.ny * grid.nx, -1)[: grid.n_recorded]
            for name, values in grid.channels.items()
        }
    if not swept.lower().startswith("bias"):
        raise DataError(f"{file} was swept in {swept!r}; give a file that was swept in bias")
    steps = np.diff(bias)
    if len(bias) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise DataError(
            f"{file}: its {len(bias)} bias values do not rise or fall throughout; give a file of "
            "whole sweeps in one direction"
        )
    name = next((name for name in _CURRENTS if name in channels), None)
    if name is None:
        raise DataError(f"{file} has no channel 'Current (A)'; it has {', '.join(channels)}")
    current = channels[name]
    if not len(current):
        raise DataError(f"{file} holds no spectrum: the grid was aborted before its first pixel")
    didv, source = differential(bias, current, _lockin(channels))
    return Measured(file.name, bias, didv, np.arange(len(didv)), shape, source)


def read_folder(folder: str | Path) -> tuple[Session, ...]:
    """Read labelled spectra: one folder for each class, named after it.

    A folder within a class folder is a session; folders of one name in several classes are one
    session, which splits keep whole. Files that lie in the class folder itself are sessions of
    their own.

    Parameters
    ----------
    folder : str or Path
        Holds the folders of the classes, with .dat and .3ds files.

    Returns
    -------
    tuple of Session
        A session of spectra on several bias axes is there once for each axis, with the name
        followed by " #2" and so on.

    Raises
    ------
    DataError
        There is no such folder, a class has fewer than two files, a spectrum is there twice or
        holds values that are not finite, or a file cannot be used.
    FileFormatError
        A file is damaged.
    OSError
        A file cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give one that holds a folder for each class")
    sources: dict[str, list[str]] = {}
    parts: dict[str, list[tuple[Measured, str]]] = defaultdict(list)
    for place in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        files = sorted(p for p in place.rglob("*") if p.suffix.lower() in FILES)
        sources[place.name] = [str(file.relative_to(root)) for file in files]
        for file in files:
            inside = file.relative_to(place).parts
            session = inside[0] if len(inside) > 1 else str(file.relative_to(root))
            parts[session].append((read_file(file), place.name))
    check_classes(sources)
    sessions = tuple(s for name, found in parts.items() for s in _sessions(name, found))
    check_duplicates(sessions)
    return sessions


def read_labelled_runs(catalog: Any, table: str | Path) -> tuple[Session, ...]:
    """Read labelled spectra of runs: each run is a session.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the runs are.
    table : str or Path
        CSV file with the columns uid (of the run), seq_num (of the spectrum) and class.

    Returns
    -------
    tuple of Session

    Raises
    ------
    DataError
        The table lacks a column or has a wrong row, a class has fewer than two spectra, a
        spectrum is there twice, is not in its run or holds values that are not finite.
    CatalogError
        A run cannot be read.
    KeyError
        A run is not in the catalog.
    OSError
        The table cannot be read.
    """
    rows = _rows(Path(table))
    sources: dict[str, list[str]] = defaultdict(list)
    by_run: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for uid, number, label in rows:
        by_run[uid].append((number, label))
        sources[label].append(f"spectrum {number} of {uid[:8]}")
    check_classes(sources)
    sessions = []
    for uid, labelled in by_run.items():
        data = read_run(catalog[uid])
        known = {int(number): row for row, number in enumerate(data["seq_num"].values)}
        missing = [str(number) for number, _ in labelled if number not in known]
        if missing:
            raise DataError(
                f"the run {uid[:8]} has no spectrum {', '.join(missing[:5])}; it has {len(known)}: "
                "correct seq_num in the table"
            )
        chosen = [known[number] for number, _ in labelled]
        didv = data["didv"].values[chosen]
        sessions.append(_session(uid, data["bias"].values, didv, [label for _, label in labelled]))
    check_duplicates(sessions)
    return tuple(sessions)


def _rows(table: Path) -> list[tuple[str, int, str]]:
    columns = ("uid", "seq_num", "class")
    rows = []
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{table} lacks the column {', '.join(missing)}; it needs {', '.join(columns)}"
            )
        for line in reader:
            uid, number, label = (str(line[name] or "").strip() for name in columns)
            if not uid or not label or not number.isdecimal():
                raise DataError(
                    f"{table}, line {reader.line_num}: uid {uid!r}, seq_num {number!r}, class "
                    f"{label!r}; give a uid, a whole number and a name"
                )
            rows.append((uid, int(number), label))
    return rows


def _lockin(channels: dict[str, FloatArray]) -> FloatArray | None:
    """First X channel of a lock-in, forward."""
    for name, values in channels.items():
        plain = name.lower().replace("-", " ").replace("_", " ")
        if plain.startswith(("li ", "lix", "lock in")) and (" x" in plain or "lix" in plain):
            if "bwd" not in plain:
                return values
    return None


def _sessions(name: str, found: list[tuple[Measured, str]]) -> list[Session]:
    """One session per bias axis."""
    groups: list[tuple[FloatArray, list[tuple[Measured, str]]]] = []
    for measured, label in found:
        for axis, members in groups:
            close = 1e-6 * float(np.ptp(axis))
            if axis.shape == measured.bias.shape and np.allclose(axis, measured.bias, 0.0, close):
                members.append((measured, label))
                break
        else:
            groups.append((measured.bias, [(measured, label)]))
    sessions = []
    for place, (axis, members) in enumerate(groups, start=1):
        didv = np.concatenate([measured.didv for measured, _ in members])
        labels = [label for measured, label in members for _ in measured.didv]
        sessions.append(_session(name if place == 1 else f"{name} #{place}", axis, didv, labels))
    return sessions


def _session(name: str, bias: FloatArray, didv: FloatArray, labels: list[str]) -> Session:
    bad = int((~np.isfinite(didv)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{name}: {bad} of {len(didv)} spectra hold values that are not finite; leave them out"
        )
    return Session(name, bias, didv, np.asarray(labels, str))
