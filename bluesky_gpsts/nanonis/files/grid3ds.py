"""Nanonis spectroscopy grids (.3ds): read and write.

``key=value`` lines, ``:HEADER_END:``, then per pixel its parameters and one sweep per channel, all
big-endian float32. Pixels follow row by row from the bottom of the frame. An aborted grid is
simply a shorter file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files.sweep import LIMITS, sweep_axis
from bluesky_gpsts.nanonis.files.text import (
    Fields,
    FileFormatError,
    FloatArray,
    Frame,
    big_endian,
    check_entries,
    pixel_centres,
    read_split,
    replace_file,
    scientific,
    unique,
)

_KIND = ".3ds grid"
_END = rb"^:HEADER_END:\r?\n"
# An aborted grid is filled up with NaN; a damaged header must not fill the memory with it.
_FILL_LIMIT, _FILL_FACTOR = 1 << 30, 16


@dataclass(frozen=True, eq=False)
class Grid:
    """A spectroscopy grid, complete or aborted.

    Parameters
    ----------
    header : dict of str to str
        Header entries as text, without quotation marks.
    frame : Frame
        Grid frame (m, degrees).
    sweep_signal : str
        Name of the swept signal with its unit, for instance "Bias (V)".
    sweep : ndarray
        Sweep axis (n,) in that unit, as swept by the first recorded pixel.
    parameters : dict of str to ndarray
        Per parameter name ("Sweep Start", "X (m)", "Scan:Current (A)", ...), float64 (ny, nx),
        NaN for pixels not recorded.
    channels : dict of str to ndarray
        Per channel name with its unit, float64 (ny, nx, n), NaN for pixels not recorded. Row 0 is
        the bottom row, the first to be recorded; column 0 is the left one.
    n_recorded : int
        Pixels recorded, in the order of the rows.

    Raises
    ------
    ValueError
        If there is no channel, shapes disagree, or `n_recorded` is not in 0 .. ny*nx.
    """

    header: dict[str, str]
    frame: Frame
    sweep_signal: str
    sweep: FloatArray
    parameters: dict[str, FloatArray]
    channels: dict[str, FloatArray]
    n_recorded: int

    def __post_init__(self) -> None:
        """Check shapes."""
        shapes = {channel.shape for channel in self.channels.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3 or 0 in next(iter(shapes)):
            raise ValueError(f"a grid needs channels of one shape (ny, nx, n), not {shapes}")
        ny, nx, n = next(iter(shapes))
        if self.sweep.shape != (n,):
            raise ValueError(f"the sweep axis must have shape ({n},), not {self.sweep.shape}")
        for name, values in self.parameters.items():
            if values.shape != (ny, nx):
                raise ValueError(f"parameter {name!r} has shape {values.shape}, not ({ny}, {nx})")
        if not 0 <= self.n_recorded <= ny * nx:
            raise ValueError(f"n_recorded must be 0 .. {ny * nx}, not {self.n_recorded}")

    @property
    def _shape(self) -> tuple[int, int, int]:
        ny, nx, n = next(iter(self.channels.values())).shape
        return ny, nx, n

    @property
    def nx(self) -> int:
        """Pixels per row."""
        return self._shape[1]

    @property
    def ny(self) -> int:
        """Rows."""
        return self._shape[0]

    @property
    def complete(self) -> bool:
        """True where every pixel was recorded."""
        return self.n_recorded == self.nx * self.ny

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Mask (ny, nx) of the pixels that were recorded."""
        return (np.arange(self.ny * self.nx) < self.n_recorded).reshape(self.ny, self.nx)

    @property
    def x(self) -> FloatArray:
        """Pixel centres (m) along the unrotated width, from the frame's centre, shape (nx,)."""
        return pixel_centres(self.nx, self.frame.width)

    @property
    def y(self) -> FloatArray:
        """Pixel centres (m) along the unrotated height, ascending, shape (ny,)."""
        return pixel_centres(self.ny, self.frame.height)

    def positions(self) -> tuple[FloatArray, FloatArray]:
        """Return the piezo coordinates x and y (m) of the pixel centres, each (ny, nx)."""
        return self.frame.absolute(self.x[None, :], self.y[:, None])

    def pixel_sweep(self, row: int, column: int) -> FloatArray:
        """Return the sweep axis (n,) of one pixel, from its own sweep limits where it has them.

        Raises
        ------
        ValueError
            If the pixel was not recorded.
        """
        if not self.recorded[row, column]:
            raise ValueError(
                f"pixel (row {row}, column {column}) was not recorded: "
                f"the grid ends after {self.n_recorded} of {self.ny * self.nx} pixels"
            )
        if self.header.get("Filetype") == "MLS" or not set(LIMITS) <= set(self.parameters):
            return self.sweep
        start, end = (self.parameters[name][row, column] for name in LIMITS)
        return np.linspace(start, end, self.sweep.size)


def read_3ds(path: str | Path) -> Grid:
    """Read a Nanonis grid; an aborted one too, whose last pixel is dropped if it is partial.

    Parameters
    ----------
    path : str or Path
        The .3ds file.

    Returns
    -------
    Grid
        Row 0 at the bottom, units as in the names.

    Raises
    ------
    FileFormatError
        If the file is not a .3ds grid, contradicts itself, or is so much shorter than its header
        says that filling it up would take more than 1 GiB.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    lines, data, offset = read_split(path, _END, ":HEADER_END:", _KIND)
    fields = _parse(path, lines)
    nx, ny = fields.integers("Grid dim", r"(\d+)\s*x\s*(\d+)")
    (points,) = fields.integers("Points")
    channels = unique([name for name in fields.text("Channels").split(";") if name.strip()])
    names = unique(_parameter_names(fields))
    _check_counts(fields, len(channels), len(names), points)

    width = len(names) + len(channels) * points
    n, rest = divmod(len(data), 4 * width)
    if (n, rest) > (nx * ny, 0):
        raise FileFormatError(
            path,
            f"at most {nx} x {ny} pixels of {4 * width} bytes",
            f"{len(data)} bytes after byte {offset}",
        )
    if 8 * nx * ny * width > max(_FILL_LIMIT, _FILL_FACTOR * len(data)):
        raise FileFormatError(
            path,
            f"data for {nx} x {ny} pixels of {4 * width} bytes, or a good part of it",
            f"{len(data)} bytes after byte {offset}; is the header damaged?",
        )
    values = np.frombuffer(data, ">f4", count=n * width).reshape(n, width)
    flat = np.full((ny * nx, width), np.nan)
    with np.errstate(invalid="ignore"):  # any bit pattern of NaN is just NaN
        flat[:n] = values
    block = flat.reshape(ny, nx, width)
    sweeps = block[:, :, len(names) :].reshape(ny, nx, len(channels), points)
    parameters = {name: block[:, :, i] for i, name in enumerate(names)}
    x, y, w, h, angle = fields.numbers("Grid settings", 5, ";")
    return Grid(
        header=fields.values,
        frame=fields.frame(x, y, w, h, angle),
        sweep_signal=fields.text("Sweep Signal"),
        sweep=sweep_axis(fields, points, parameters if n else {}),
        parameters=parameters,
        channels={name: sweeps[:, :, i] for i, name in enumerate(channels)},
        n_recorded=n,
    )


def write_3ds(path: str | Path, grid: Grid) -> None:
    """Write a Nanonis grid, as a whole or not at all; an incomplete one as a shorter file.

    Size, frame, sweep, parameters and channels come from the grid, everything else from its
    header. "Sweep Start" and "Sweep End" are made from the sweep axis where the grid has no such
    parameters. Text is UTF-8.

    Parameters
    ----------
    path : str or Path
        The .3ds file; an existing one is replaced.
    grid : Grid
        What to write; values are rounded to float32.

    Raises
    ------
    ValueError
        If a name or a header entry would break the file, a value exceeds float32, or the sweep
        axis is neither linear nor the one of the header's segments (Filetype=MLS).
    OSError
        If the file cannot be written.
    """
    n, points = grid.n_recorded, grid.sweep.size
    whole = (grid.ny, grid.nx)
    parameters = {
        name: grid.parameters.get(name, np.full(whole, end))
        for name, end in zip(LIMITS, grid.sweep[[0, -1]], strict=True)
    }
    parameters |= grid.parameters
    for name in (*parameters, *grid.channels, grid.sweep_signal):
        if not name.strip() or any(c in name for c in ';"\r\n'):
            raise ValueError(f'name {name!r} must be text without ; or " or line ends')
    header = _header(grid, list(parameters)[2:])
    check_entries(header, "=")
    _check_sweep(path, grid, header, parameters)

    block = np.empty((n, len(parameters) + len(grid.channels) * points), ">f4")
    for i, (name, values) in enumerate(parameters.items()):
        block[:, i] = big_endian(values.reshape(-1)[:n], name)
    for i, (name, sweeps) in enumerate(grid.channels.items()):
        first = len(parameters) + i * points
        block[:, first : first + points] = big_endian(sweeps.reshape(-1, points)[:n], name)
    lines = [f"{key}={_quoted(value)}" for key, value in header.items()]
    head = "\r\n".join([*lines, ":HEADER_END:\r\n"])
    replace_file(Path(path), [head.encode(), block.tobytes()])


def _parse(path: Path, lines: list[str]) -> Fields:
    values: dict[str, list[str]] = {}
    where: dict[str, int] = {}
    key = ""
    for i, line in enumerate(lines, start=1):
        if "=" in line:
            key, _, value = line.partition("=")
            values[key], where[key] = [value], i
        elif key and line:
            values[key].append(line)  # a comment of several lines
        elif line:
            raise FileFormatError(path, "a 'key=value' line first", f"{line[:80]!r} on line {i}")
    text = {key: _unquoted("\n".join(rows).strip()) for key, rows in values.items()}
    return Fields(path, text, where)


def _parameter_names(fields: Fields) -> list[str]:
    text = f"{fields.text('Fixed parameters')};{fields.text('Experiment parameters')}"
    return [name for name in text.split(";") if name.strip()]


def _check_counts(fields: Fields, channels: int, parameters: int, points: int) -> None:
    if not channels:
        raise fields.error("Channels", "at least one channel name")
    if fields.text("# Parameters (4 byte)").strip() != str(parameters):
        raise fields.error("# Parameters (4 byte)", f"{parameters}, the number of names")
    if fields.text("Experiment size (bytes)").strip() != str(4 * channels * points):
        expected = f"{4 * channels * points} (4 bytes x {channels} channels x {points} points)"
        raise fields.error("Experiment size (bytes)", expected)


def _header(grid: Grid, experiment_parameters: list[str]) -> dict[str, str]:
    """Return all entries in Nanonis order; NaN and blank for what readers expect and none knows."""
    frame, n = grid.frame, grid.sweep.size
    settings = (frame.x, frame.y, frame.width, frame.height, frame.angle)
    segments = {k: v for k, v in grid.header.items() if k.startswith("Segment Start")}
    fixed = {
        "Grid dim": f"{grid.nx} x {grid.ny}",
        "Grid settings": ";".join(scientific(value) for value in settings),
        "Filetype": grid.header.get("Filetype", "Linear"),
        "Sweep Signal": grid.sweep_signal,
        "Fixed parameters": ";".join(LIMITS),
        "Experiment parameters": ";".join(experiment_parameters),
        "# Parameters (4 byte)": str(2 + len(experiment_parameters)),
        **segments,
        "Experiment size (bytes)": str(4 * len(grid.channels) * n),
        "Points": str(n),
        "Channels": ";".join(grid.channels),
    }
    expected = {
        "Delay before measuring (s)": "NaN",
        "Experiment": "Grid Spectroscopy",
        "Start time": "",
        "End time": "",
        "User": "",
        "Comment": "",
    }
    return {**fixed, **expected, **grid.header, **fixed}


def _check_sweep(
    path: str | Path, grid: Grid, header: dict[str, str], parameters: dict[str, FloatArray]
) -> None:
    """Refuse a sweep axis that the file could not give back."""
    recorded = {k: v for k, v in parameters.items() if k in LIMITS} if grid.n_recorded else {}
    where = dict.fromkeys(header, 0)
    axis = sweep_axis(Fields(Path(path), header, where), grid.sweep.size, recorded)
    span = max(np.ptp(grid.sweep), np.abs(grid.sweep).max())
    if not np.all(np.abs(axis - grid.sweep) <= 1e-6 * span):
        raise ValueError(
            "the sweep axis is not what the file would say (Filetype=Linear: equal steps from "
            "'Sweep Start' to 'Sweep End'; Filetype=MLS: the header's segments): "
            f"{grid.sweep[:3]} ... {grid.sweep[-1]} instead of {axis[:3]} ... {axis[-1]}"
        )


def _quoted(value: str) -> str:
    return f'"{value}"' if any(c.isspace() or c == '"' for c in value) else value


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
