"""Spectra from files and runs: to be classified, or with labels to train on.

dI/dV is the lock-in's X channel where its integral follows the current, which also calibrates it in
A/V whatever gain, phase and unit it was recorded with; otherwise the current is differentiated.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import spectra as read_run
from bluesky_gpsts.nanonis.files import FileFormatError, read_3ds, read_dat
from bluesky_gpsts.spectra import Session
from bluesky_gpsts.spectra.folders import DataError, check_classes, check_duplicates
from bluesky_gpsts.spectra.preprocess import find_problems

__all__ = [
    "FILES",
    "Labelled",
    "Measured",
    "complaint",
    "differential",
    "find_files",
    "read_file",
    "read_folder",
    "read_labelled_runs",
    "read_labels",
]

FloatArray = npt.NDArray[np.float64]

FILES = (".dat", ".3ds")
_CURRENTS = ("Current (A)", "Current [AVG] (A)", "Current (A) [filt]")
_LISTED = 5
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


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled spectra that can be trained on.

    Attributes
    ----------
    sessions : tuple of Session
        The spectra.
    left_out : tuple of str
        A sentence on each file that could not be used, or of which spectra are of no use.
    """

    sessions: tuple[Session, ...]
    left_out: tuple[str, ...]


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


def find_files(folder: Path) -> list[Path]:
    """Files of spectra in a folder and in the folders within it, in the order of their names."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in FILES and p.is_file())


def complaint(name: str, file: Path, error: Exception) -> str:
    """Say what is wrong with a file, which gets the name that it has for the user."""
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    for called in (str(file), file.name):
        if text.startswith(called):
            return name + text[len(called) :]
    return f"{name}: {text}"


def read_folder(folder: str | Path) -> Labelled:
    """Read labelled spectra: one folder for each class, named after it.

    A folder within a class folder is a session; folders of one name in several classes are one
    session, which splits keep whole. Files that lie in the class folder itself are sessions of
    their own. Files that cannot be read, files of another kind, and spectra that no classifier
    could judge are left out.

    Parameters
    ----------
    folder : str or Path
        Holds the folders of the classes, with .dat and .3ds files.

    Returns
    -------
    Labelled
        A session of spectra on several bias axes is there once for each axis, with the name
        followed by " #2" and so on.

    Raises
    ------
    DataError
        There is no such folder, a class has fewer than two files that can be used, or a spectrum
        is there twice.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give one that holds a folder for each class")
    sources: dict[str, list[str]] = {}
    left_out: list[str] = []
    parts: dict[str, list[tuple[Measured, str]]] = defaultdict(list)
    left_out += [
        f"{file.name}: lies in no class folder"
        for file in sorted(root.iterdir())
        if file.suffix.lower() in FILES and file.is_file()
    ]
    for place in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        sources[place.name] = []
        for file in sorted(p for p in place.rglob("*") if p.is_file()):
            if file.name.startswith("."):
                continue
            name = str(file.relative_to(root))
            try:
                measured = read_file(file)
            except (DataError, FileFormatError, OSError) as error:
                left_out.append(complaint(name, file, error))
                continue
            good, why = _usable(measured.bias, measured.didv)
            if why:
                left_out.append(f"{name}: {why}")
            if good.any():
                inside = file.relative_to(place).parts
                session = inside[0] if len(inside) > 1 else name
                usable = replace(measured, didv=measured.didv[good], numbers=measured.numbers[good])
                parts[session].append((usable, place.name))
                sources[place.name].append(name)
    _check(sources, left_out)
    sessions = tuple(s for name, found in parts.items() for s in _sessions(name, found))
    check_duplicates(sessions)
    return Labelled(sessions, tuple(left_out))


def read_labelled_runs(catalog: Any, rows: Sequence[tuple[str, int, str]]) -> Labelled:
    """Read labelled spectra of runs: each run is a session.

    Spectra that no classifier could judge are left out.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the runs are.
    rows : sequence of (uid, sequence number, class)
        From `read_labels`.

    Returns
    -------
    Labelled

    Raises
    ------
    DataError
        A class has fewer than two spectra that can be used, or a spectrum is there twice or is
        not in its run.
    CatalogError
        A run cannot be read.
    KeyError
        A run is not in the catalog.
    """
    sources: dict[str, list[str]] = defaultdict(list)
    by_run: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for uid, number, label in rows:
        by_run[uid].append((number, label))
        sources.setdefault(label, [])
    sessions, left_out = [], []
    for uid, labelled in by_run.items():
        data = read_run(catalog[uid])
        known = {int(number): row for row, number in enumerate(data["seq_num"].values)}
        missing = [str(number) for number, _ in labelled if number not in known]
        if missing:
            raise DataError(
                f"the run {uid[:8]} has no spectrum {', '.join(missing[:5])}; it has {len(known)}: "
                "correct seq_num in the table"
            )
        bias = data["bias"].values
        didv = data["didv"].values[[known[number] for number, _ in labelled]]
        good, why = _usable(bias, didv)
        if why:
            left_out.append(f"run {uid[:8]}: {why}")
        kept = [pair for pair, use in zip(labelled, good, strict=True) if use]
        for number, label in kept:
            sources[label].append(f"spectrum {number} of {uid[:8]}")
        if kept:
            labels = np.asarray([label for _, label in kept], str)
            sessions.append(Session(uid, bias, didv[good], labels))
    _check(sources, left_out)
    check_duplicates(sessions)
    return Labelled(tuple(sessions), tuple(left_out))


def read_labels(path: str | Path) -> list[tuple[str, int, str]]:
    """Read a table of labels.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns uid (of the run), seq_num (of the spectrum) and class.

    Returns
    -------
    list of (str, int, str)

    Raises
    ------
    DataError
        There is no such file, it lacks a column or has a wrong row.
    """
    table = Path(path)
    if not table.is_file():
        raise DataError(f"there is no file {table}; give a CSV file of uid, seq_num, class")
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
        part = name if place == 1 else f"{name} #{place}"
        sessions.append(Session(part, axis, didv, np.asarray(labels, str)))
    return sessions


def _usable(bias: FloatArray, didv: FloatArray) -> tuple[npt.NDArray[np.bool_], str]:
    """Spectra (N,) that can be judged, and what is wrong with the others."""
    problems = find_problems(bias, didv)
    good = np.array([not problem for problem in problems], dtype=bool)
    if good.all():
        return good, ""
    first = next(problem for problem in problems if problem)
    return good, first if len(good) == 1 else f"{(~good).sum()} of {len(good)} spectra: {first}"


def _check(sources: Mapping[str, Sequence[str]], left_out: Sequence[str]) -> None:
    """Refuse classes of one file, and say what was left out."""
    try:
        check_classes(sources)
    except DataError as error:
        if not left_out:
            raise
        more = f" and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
        raise DataError(f"{error}; left out: {'; '.join(left_out[:_LISTED])}{more}") from None
