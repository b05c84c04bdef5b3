"""Nanonis point spectra (.dat): read and write.

Lines ``key<TAB>value<TAB>``, a blank line, ``[DATA]``, column names, rows of tab-separated numbers.
"""

import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from bluesky_gpsts.nanonis.files.text import (
    FileFormatError,
    FloatArray,
    check_entries,
    number,
    read_split,
    replace_file,
    unique,
)

_KIND = ".dat spectrum"
_END = rb"^\[DATA\]\t*\r?\n"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A point spectrum.

    Parameters
    ----------
    header : dict of str to str
        Header entries as text ("X (m)", "Bias Spectroscopy>Sweep Start (V)", ...).
    columns : dict of str to ndarray
        Per column name, float64 (n,); the unit stands in the name as Nanonis writes it
        ("Bias calc (V)", "Current [bwd] (A)"). The first column is the sweep axis.

    Raises
    ------
    ValueError
        If there is no column or columns differ in length.
    """

    header: dict[str, str]
    columns: dict[str, FloatArray]

    def __post_init__(self) -> None:
        """Check shapes."""
        shapes = {name: column.shape for name, column in self.columns.items()}
        if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
            raise ValueError(f"a spectrum needs columns of one shape (n,), not {shapes}")

    @property
    def x(self) -> float:
        """Piezo x (m); NaN where the file says N/A; ValueError where it says nothing."""
        return self._position("X (m)")

    @property
    def y(self) -> float:
        """Piezo y (m); NaN where the file says N/A; ValueError where it says nothing."""
        return self._position("Y (m)")

    @property
    def z(self) -> float:
        """Piezo z (m); NaN where the file says N/A; ValueError where it says nothing."""
        return self._position("Z (m)")

    def _position(self, key: str) -> float:
        text = self.header.get(key)
        if text is None:
            raise ValueError(f"the spectrum's header has no entry {key!r}: position unknown")
        return float("nan") if text == "N/A" else number(text)


def read_dat(path: str | Path) -> Spectrum:
    """Read a Nanonis point spectrum.

    Parameters
    ----------
    path : str or Path
        The .dat file.

    Returns
    -------
    Spectrum
        Columns in the units of their names.

    Raises
    ------
    FileFormatError
        If the file is not a whole .dat spectrum.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    lines, data, _ = read_split(path, _END, "[DATA]", _KIND)
    header = {}
    for line in lines:
        if line.strip():
            key, _, value = line.partition("\t")
            header[key] = value.rstrip("\t")

    first = len(lines) + 1  # the line of the column names: lines counts [DATA]'s as its last
    names_line, end, body = data.partition(b"\n")
    names = names_line.decode("utf-8", errors="replace").rstrip("\t\r").split("\t")
    if not end or not all(name.strip() for name in names):
        found = f"{names_line[:80]!r} on line {first}"
        raise FileFormatError(path, "a line of tab-separated column names", found)
    # Without its line end a last number may have lost digits of its exponent.
    if body and not body.endswith(b"\n"):
        found = f"a last line without one ({body[-40:]!r}); was the file cut off?"
        raise FileFormatError(path, "a line end after the last row", found)
    return Spectrum(header, _columns(path, unique(names), body, first))


def write_dat(path: str | Path, spectrum: Spectrum) -> None:
    """Write a Nanonis point spectrum, as a whole or not at all.

    Numbers have nine significant digits, enough for float32; text is UTF-8.

    Parameters
    ----------
    path : str or Path
        The .dat file; an existing one is replaced.
    spectrum : Spectrum
        What to write; its header needs the entry "Experiment" ("bias spectroscopy" for instance).

    Raises
    ------
    ValueError
        If the header lacks "Experiment", or a name or an entry would break the file.
    OSError
        If the file cannot be written.
    """
    header, columns = spectrum.header, spectrum.columns
    check_entries(header, "\t")
    if "Experiment" not in header:
        raise ValueError(
            "the header needs 'Experiment', for instance 'bias spectroscopy'; "
            f"it has {list(header)[:5]}"
        )
    for name in columns:
        if not name.strip() or re.search(r"[\t\r\n]", name):
            raise ValueError(f"column name {name!r} must be text without tabs and line ends")
    for key, value in header.items():
        if "\t" in value or key.startswith("[DATA]"):
            raise ValueError(f"header entry {key!r} = {value!r} cannot be written: tab or [DATA]")
    text = StringIO(newline="")
    text.writelines(f"{key}\t{value}\t\r\n" for key, value in header.items())
    text.write("\r\n[DATA]\r\n" + "\t".join(columns) + "\r\n")
    table = np.column_stack(list(columns.values()))
    np.savetxt(text, table, fmt="%.8E", delimiter="\t", newline="\r\n")
    replace_file(Path(path), [text.getvalue().encode()])


def _columns(path: Path, names: list[str], body: bytes, first: int) -> dict[str, FloatArray]:
    # A comma between tabs can only be a decimal comma.
    text = body.decode("ascii", errors="replace").replace(",", ".")
    rows = [row.rstrip("\t\r") for row in text.split("\n")]
    kept = [row for row in rows if row]
    if not kept:
        return {name: np.empty(0) for name in names}
    try:
        table = np.loadtxt(kept, delimiter="\t", comments=None, ndmin=2)
        wrong = table.shape[1] != len(names)
    except ValueError:
        wrong = True
    if wrong:
        raise _bad_row(path, names, rows, first)
    return {name: table[:, i].copy() for i, name in enumerate(names)}


def _bad_row(path: Path, names: list[str], rows: list[str], first: int) -> FileFormatError:
    expected = f"{len(names)} tab-separated numbers in every row"
    for i, row in enumerate(rows, start=first + 1):
        cells = row.split("\t")
        if row and len(cells) != len(names):
            return FileFormatError(path, expected, f"{len(cells)} on line {i}: {row[:80]!r}")
        for cell in cells if row else []:
            try:
                number(cell)
            except ValueError:
                return FileFormatError(path, expected, f"{cell[:80]!r} on line {i}")
    return FileFormatError(path, expected, f"rows after line {first} that are not")
