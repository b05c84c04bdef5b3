"""Nanonis scan images (.sxm): read and write.

A text header of ``:KEY:`` lines, then one big-endian float32 plane per channel and direction.
The file holds planes as they were acquired (scan direction up: bottom row first; backward:
mirrored in x); here every plane is oriented like the frame, row 0 at the top, column 0 at the left.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_gpsts.nanonis.files.text import (
    Fields,
    FileFormatError,
    FloatArray,
    Frame,
    big_endian,
    number,
    pixel_centres,
    read_split,
    replace_file,
    scientific,
    unique,
)

_KIND = ".sxm image"
_END = rb"^:SCANIT_END:[\r\n\t ]*\x1a\x04"
_KEY = re.compile(r":([^\t]+):")
_TYPE = "FLOAT            MSBFIRST"  # with the spaces that some readers compare
_TABLES = ("Z-CONTROLLER", "Multipass-Config", "DATA_INFO")
_DIRECTIONS = {
    "both": ("forward", "backward"),
    "forward": ("forward",),
    "backward": ("backward",),
}
# Nanonis order; NaN and blank stand for what the caller does not know but readers expect.
_FIXED = {
    "NANONIS_VERSION": "2",
    "SCANIT_TYPE": _TYPE,
    "REC_DATE": "",
    "REC_TIME": "",
    "REC_TEMP": "NaN",
    "ACQ_TIME": "NaN",
    "SCAN_PIXELS": "",
    "SCAN_FILE": "",
    "SCAN_TIME": "NaN NaN",
    "SCAN_RANGE": "",
    "SCAN_OFFSET": "",
    "SCAN_ANGLE": "",
    "SCAN_DIR": "down",
    "BIAS": "NaN",
}


@dataclass(frozen=True, eq=False)
class Image:
    """A scan image.

    Parameters
    ----------
    header : dict of str to str
        Header entries as text, keys without colons; tables as lines of tab-separated cells.
    frame : Frame
        Scan frame (m, degrees).
    channels : dict of str to dict of str to ndarray
        Per channel name the planes "forward" and "backward" (either may be absent), float64
        (ny, nx), in the unit that `units` gives; row 0 is the top edge and column 0 the left edge
        of the unrotated frame for both directions; NaN where the tip has not been.
    units : dict of str to str
        Unit per channel name, for instance "m" or "A".

    Raises
    ------
    ValueError
        If there is no channel, or planes differ in shape, or a unit is missing.
    """

    header: dict[str, str]
    frame: Frame
    channels: dict[str, dict[str, FloatArray]]
    units: dict[str, str]

    def __post_init__(self) -> None:
        """Check shapes, directions and units."""
        shapes = {plane.shape for planes in self.channels.values() for plane in planes.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2 or 0 in next(iter(shapes)):
            raise ValueError(f"an image needs planes of one shape (ny, nx), not {sorted(shapes)}")
        for name, planes in self.channels.items():
            if not planes or not set(planes) <= {"forward", "backward"}:
                raise ValueError(
                    f"channel {name!r} needs 'forward' or 'backward', has {list(planes)}"
                )
            if name not in self.units:
                raise ValueError(f"channel {name!r} has no unit; known: {self.units}")

    @property
    def _shape(self) -> tuple[int, int]:
        plane = next(iter(next(iter(self.channels.values())).values()))
        return plane.shape[0], plane.shape[1]

    @property
    def nx(self) -> int:
        """Pixels per line."""
        return self._shape[1]

    @property
    def ny(self) -> int:
        """Lines."""
        return self._shape[0]

    @property
    def x(self) -> FloatArray:
        """Pixel centres (m) along the unrotated width, from the frame's centre, shape (nx,)."""
        return pixel_centres(self.nx, self.frame.width)

    @property
    def y(self) -> FloatArray:
        """Pixel centres (m) along the unrotated height, descending, shape (ny,)."""
        return pixel_centres(self.ny, self.frame.height)[::-1]

    def positions(self) -> tuple[FloatArray, FloatArray]:
        """Return the piezo coordinates x and y (m) of the pixel centres, each (ny, nx)."""
        return self.frame.absolute(self.x[None, :], self.y[:, None])


def read_sxm(path: str | Path) -> Image:
    """Read a Nanonis scan image.

    Parameters
    ----------
    path : str or Path
        The .sxm file.

    Returns
    -------
    Image
        Planes oriented (row 0 top, column 0 left), SI units as in the file.

    Raises
    ------
    FileFormatError
        If the file is not a complete .sxm image.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    lines, data, offset = read_split(path, _END, ":SCANIT_END:", _KIND)
    fields = _parse(path, lines)
    if fields.text("SCANIT_TYPE").split() != _TYPE.split():
        raise fields.error("SCANIT_TYPE", "'FLOAT MSBFIRST'")
    nx, ny = fields.integers("SCAN_PIXELS", r"(\d+)\s+(\d+)")
    direction = fields.text("SCAN_DIR")
    if direction not in ("up", "down"):
        raise fields.error("SCAN_DIR", "'up' or 'down'")
    table = _data_info(fields)

    planes = sum(len(_DIRECTIONS[row["Direction"].lower()]) for row in table)
    if len(data) != 4 * planes * nx * ny:
        raise FileFormatError(
            path,
            f"{4 * planes * nx * ny} bytes of data ({planes} planes of {nx} x {ny} float32)",
            f"{len(data)} bytes after byte {offset}",
        )
    with np.errstate(invalid="ignore"):  # any bit pattern of NaN is just NaN
        stack = np.frombuffer(data, ">f4").reshape(planes, ny, nx).astype(float)
    if direction == "up":
        stack = stack[:, ::-1]
    channels: dict[str, dict[str, FloatArray]] = {}
    units: dict[str, str] = {}
    names = unique([row["Name"] for row in table])
    k = 0
    for name, row in zip(names, table, strict=True):
        channels[name] = {}
        units[name] = row["Unit"]
        for sense in _DIRECTIONS[row["Direction"].lower()]:
            plane = stack[k] if sense == "forward" else stack[k, :, ::-1]
            channels[name][sense] = np.ascontiguousarray(plane)
            k += 1
    return Image(fields.values, _frame(fields), channels, units)


def write_sxm(path: str | Path, image: Image) -> None:
    """Write a Nanonis scan image, as a whole or not at all.

    Size, frame, number type and the table of channels come from the image, everything else from
    its header. Planes go back to acquisition order (header entry SCAN_DIR, "down" if absent).
    Spaces in channel names become underscores, as Nanonis has it. Text is UTF-8.

    Parameters
    ----------
    path : str or Path
        The .sxm file; an existing one is replaced.
    image : Image
        What to write; values are rounded to float32.

    Raises
    ------
    ValueError
        If a header entry would break the file, or a value exceeds float32.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    frame = image.frame
    header = {**_FIXED, **image.header}
    header["SCANIT_TYPE"] = _TYPE
    if "Scan>Scanfield" in header:
        field = (frame.x, frame.y, frame.width, frame.height, frame.angle)
        header["Scan>Scanfield"] = ";".join(scientific(value) for value in field)
    header["SCAN_PIXELS"] = f"{image.nx} {image.ny}"
    header["SCAN_RANGE"] = f"{scientific(frame.width)} {scientific(frame.height)}"
    header["SCAN_OFFSET"] = f"{scientific(frame.x)} {scientific(frame.y)}"
    header["SCAN_ANGLE"] = scientific(frame.angle)
    if header["SCAN_DIR"] not in ("up", "down"):
        raise ValueError(f"SCAN_DIR must be 'up' or 'down', not {header['SCAN_DIR']!r}")
    header.pop("DATA_INFO", None)
    header["DATA_INFO"] = _table(image)

    text = []
    for key, value in header.items():
        rows = value.split("\n")
        if not _KEY.fullmatch(f":{key}:") or "\n" in key or "\r" in value:
            raise ValueError(f"header entry {key!r} = {value!r} cannot be written: tab or line end")
        if any(row.startswith(":") and row.rstrip().endswith(":") for row in rows):
            raise ValueError(f"header entry {key!r} = {value!r} holds a line like ':KEY:'")
        if key in _TABLES:
            rows = ["\t" + row for row in rows]
        text += [f":{key}:", *rows]
    head = "\n".join(text) + "\n\n:SCANIT_END:\n\n\n"

    planes = []
    for name, senses in image.channels.items():
        for sense in ("forward", "backward"):
            if sense in senses:
                plane = senses[sense] if sense == "forward" else senses[sense][:, ::-1]
                plane = plane[::-1] if header["SCAN_DIR"] == "up" else plane
                planes.append(big_endian(plane, name).tobytes())
    replace_file(path, [head.encode(), b"\x1a\x04", *planes])


def _parse(path: Path, lines: list[str]) -> Fields:
    values: dict[str, list[str]] = {}
    where: dict[str, int] = {}
    rows: list[str] | None = None
    for i, line in enumerate(lines, start=1):
        if match := _KEY.fullmatch(line.rstrip()):
            rows = values[match[1]] = []
            where[match[1]] = i
        elif rows is not None:
            rows.append(line)
        elif line.strip():
            raise FileFormatError(path, "a ':KEY:' line first", f"{line[:80]!r} on line {i}")
    text = {
        key: "\n".join(row.lstrip("\t") if key in _TABLES else row for row in rows).strip()
        for key, rows in values.items()
    }
    return Fields(path, text, where)


def _data_info(fields: Fields) -> list[dict[str, str]]:
    columns, *rows = [row.split("\t") for row in fields.text("DATA_INFO").split("\n")]
    if not {"Name", "Unit", "Direction"} <= set(columns):
        raise fields.error("DATA_INFO", "a table with the columns Name, Unit and Direction")
    if not rows or any(len(row) != len(columns) for row in rows):
        raise fields.error("DATA_INFO", f"rows of {len(columns)} tab-separated cells")
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    if any(row["Direction"].lower() not in _DIRECTIONS for row in table):
        raise fields.error("DATA_INFO", f"a Direction among {', '.join(_DIRECTIONS)}")
    return table


def _frame(fields: Fields) -> Frame:
    x, y = fields.numbers("SCAN_OFFSET", 2)
    width, height = fields.numbers("SCAN_RANGE", 2)
    (angle,) = fields.numbers("SCAN_ANGLE", 1)
    # SCAN_ANGLE has four digits; the Scan module's entry has six where both are of one frame.
    precise = re.fullmatch(r".*;([-+\d.,Ee]+)", fields.values.get("Scan>Scanfield", ""))
    try:
        if precise and number(f"{number(precise[1]):.3E}") == angle:
            angle = number(precise[1])
    except ValueError as error:
        raise fields.error("Scan>Scanfield", "x;y;width;height;angle") from error
    return fields.frame(x, y, width, height, angle)


def _table(image: Image) -> str:
    columns = ("Channel", "Name", "Unit", "Direction", "Calibration", "Offset")
    known = {}
    if "DATA_INFO" in image.header:
        header, *rows = [row.split("\t") for row in image.header["DATA_INFO"].split("\n")]
        known = {row[1]: dict(zip(header, row, strict=False)) for row in rows if len(row) > 1}
    lines = ["\t".join(columns)]
    for i, (name, senses) in enumerate(image.channels.items()):
        written = name.replace(" ", "_")
        row = {"Channel": str(i), "Calibration": "1.000E+0", "Offset": "0.000E+0"}
        row |= known.get(written, {})
        row["Name"], row["Unit"] = written, image.units[name]
        row["Direction"] = "both" if len(senses) == 2 else next(iter(senses))
        if any(c in cell for cell in row.values() for c in "\t\r\n") or not written:
            raise ValueError(f"channel {name!r} has a tab or line end in its name or unit")
        lines.append("\t".join(row[column] for column in columns))
    return "\n".join(lines)
