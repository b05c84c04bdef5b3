"""What the three Nanonis file formats share: text headers, frames, errors, atomic writes."""

import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Real headers are about 6 kB; the limit keeps a wrong file from being searched to its end.
HEADER_LIMIT = 1 << 20


class FileFormatError(ValueError):
    """A file is not the Nanonis file it was read as.

    Parameters
    ----------
    path : Path
        The file.
    expected : str
        What should have been there.
    found : str
        What was there, with the line or the byte offset where known.
    kind : str, optional
        The format in words, given when the file is not of that format at all.
    """

    def __init__(self, path: Path, expected: str, found: str, kind: str = "") -> None:
        super().__init__(path, expected, found, kind)
        self.path = path
        self.expected = expected
        self.found = found
        self.kind = kind

    def __str__(self) -> str:
        """Return one sentence: the file's name, what was expected and what was found."""
        if self.kind:
            return f"{self.path.name} is not a Nanonis {self.kind}: {self.found}"
        return f"{self.path.name}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Frame:
    """A scan frame or grid frame in piezo coordinates.

    Parameters
    ----------
    x, y : float
        Centre (m).
    width, height : float
        Sides before rotation (m).
    angle : float
        Rotation about the centre (degrees, clockwise positive, as in Nanonis).
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that are no frame."""
        values = (self.x, self.y, self.width, self.height, self.angle)
        if not np.all(np.isfinite(values)) or self.width < 0 or self.height < 0:
            raise ValueError(f"a frame needs finite numbers and sides >= 0 m, not {values}")

    def absolute(self, u: ArrayLike, v: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Turn in-frame coordinates into piezo coordinates.

        Parameters
        ----------
        u, v : array_like
            Coordinates (m) from the frame's centre along its width and height, before rotation;
            they broadcast against each other.

        Returns
        -------
        x, y : ndarray
            Piezo coordinates (m), broadcast shape.
        """
        u, v = np.broadcast_arrays(np.asarray(u, float), np.asarray(v, float))
        cosine, sine = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        return self.x + u * cosine + v * sine, self.y - u * sine + v * cosine


def pixel_centres(n: int, length: float) -> FloatArray:
    """Return the centres (m) of `n` pixels that tile `length` (m) about zero, ascending."""
    return ((np.arange(n) + 0.5) / n - 0.5) * length


@dataclass(frozen=True)
class Fields:
    """A parsed header that names file, entry and line in its errors.

    Parameters
    ----------
    path : Path
        The file, for messages.
    values : dict of str to str
        Entries as text.
    lines : dict of str to int
        The line (from 1) on which each entry starts.
    """

    path: Path
    values: dict[str, str]
    lines: dict[str, int]

    def error(self, key: str, expected: str) -> FileFormatError:
        """Return the error for an entry that is not as expected."""
        found = f"{self.values[key][:80]!r} in entry {key!r} (line {self.lines[key]})"
        return FileFormatError(self.path, expected, found)

    def text(self, key: str) -> str:
        """Return an entry's text; FileFormatError where the header lacks it."""
        if key not in self.values:
            raise FileFormatError(self.path, f"a header entry {key!r}", "none")
        return self.values[key]

    def numbers(self, key: str, count: int, separator: str | None = None) -> list[float]:
        """Return an entry's `count` finite numbers, split at `separator` (None: whitespace)."""
        text = self.text(key)
        try:
            found = [number(part) for part in text.split(separator)]
        except ValueError:
            found = []
        if len(found) != count or not np.all(np.isfinite(found)):
            raise self.error(key, f"{count} finite number{'s' * (count > 1)}")
        return found

    def integers(self, key: str, pattern: str = r"(\d+)") -> list[int]:
        """Return the positive integers that the groups of `pattern` find in an entry."""
        match = re.fullmatch(pattern, self.text(key).strip(), re.ASCII)
        # Nine digits bound every product below without Python's limit on int(str).
        if not match or any(len(g) > 9 or int(g) == 0 for g in match.groups()):
            raise self.error(key, "positive integers of at most nine digits")
        return [int(g) for g in match.groups()]

    def frame(self, x: float, y: float, width: float, height: float, angle: float) -> Frame:
        """Return the frame; FileFormatError where the numbers are none."""
        try:
            return Frame(x, y, width, height, angle)
        except ValueError as error:
            raise FileFormatError(self.path, "a frame in the header", str(error)) from None


def number(text: str) -> float:
    """Return the number in `text`; a decimal comma counts as a point.

    Raises
    ------
    ValueError
        If `text` is no number.
    """
    if "_" in text:  # Python's float() would take 1_000
        raise ValueError(f"not a number: {text!r}")
    return float(text.strip().replace(",", "."))


def scientific(value: float) -> str:
    """Return `value` as Nanonis writes numbers (``-1.48519E-7``), with all its digits."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else ("Inf" if value > 0 else "-Inf")
    return np.format_float_scientific(value, trim="0", exp_digits=1).replace("e", "E")


def read_split(path: Path, end: bytes, tag: str, kind: str) -> tuple[list[str], bytes, int]:
    """Read a file and split it at the end of its text header.

    Parameters
    ----------
    path : Path
        The file.
    end : bytes
        Regular expression (multi-line) that matches from the header's end tag to the data.
    tag : str
        The end tag, for messages.
    kind : str
        The format in words, for messages.

    Returns
    -------
    lines : list of str
        The header's lines without the end tag; UTF-8, else cp1252.
    data : bytes
        Everything after the end tag.
    offset : int
        Byte offset of `data` in the file.

    Raises
    ------
    FileFormatError
        If the first `HEADER_LIMIT` bytes hold no end tag.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_LIMIT)
        match = re.search(end, head, re.MULTILINE)
        if not match:
            found = f"no {tag!r} line in the first {len(head)} bytes"
            raise FileFormatError(path, f"a {tag!r} line", found, kind)
        file.seek(match.end())
        data = file.read()
    raw = head[: match.start()]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return [line.rstrip("\r") for line in text.split("\n")], data, match.end()


def unique(names: Sequence[str]) -> list[str]:
    """Return `names` with `` #2``, `` #3`` after repeated ones: users may name inputs alike."""
    used: dict[str, int] = {}
    result = []
    for name in names:
        candidate = name
        while candidate in used:
            used[name] += 1
            candidate = f"{name} #{used[name]}"
        used[candidate] = 1
        result.append(candidate)
    return result


def check_entries(header: dict[str, str], forbidden: str) -> None:
    """Refuse header entries that would break a line-based file.

    Parameters
    ----------
    header : dict of str to str
        Entries to be written.
    forbidden : str
        Characters, beside line ends, that a key must not hold.

    Raises
    ------
    ValueError
        If a key is empty or holds a forbidden character, or a value holds a line end.
    """
    for key, value in header.items():
        if not key.strip() or any(c in key for c in "\r\n" + forbidden):
            raise ValueError(f"header key {key!r} must be text without line ends or {forbidden!r}")
        if "\n" in value or "\r" in value:
            raise ValueError(
                f"header entry {key!r} = {value!r} holds a line end; this format has one line per "
                "entry: replace it, for instance by a space"
            )


def big_endian(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """Return `values` as big-endian float32; ValueError where a finite value does not fit."""
    wide = np.asarray(values, float)
    if np.any(np.isfinite(wide) & (np.abs(wide) > np.finfo(np.float32).max)):
        raise ValueError(f"{name!r} holds a value beyond float32, the format's number type")
    return wide.astype(">f4")


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write `parts` to a new file beside `path`, then put it in its place.

    A reader sees the old file or the whole new one, never a part.

    Raises
    ------
    OSError
        If the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
