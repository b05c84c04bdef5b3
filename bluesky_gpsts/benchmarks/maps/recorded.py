"""Real maps: Nanonis grids (.3ds), WSxM ASCII images and NumPy arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_gpsts.surrogate import Grid

from .types import FloatArray, Truth

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
LARGEST = 64
"""A map of a file is averaged down to at most so many candidates along a side."""
_CROP = 40
_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "a": 1e-10, "å": 1e-10}


@dataclass(frozen=True, eq=False)
class RecordedMap:
    """A map as it lies in a file.

    Attributes
    ----------
    name : str
        Name of the file.
    values : ndarray, shape (ny, nx)
        The outcome, row 0 at the bottom, in the file's unit.
    width, height : float
        Size of the frame (m).
    image : ndarray, shape (ny, nx), or None
        Topograph of the same pixels (m).
    """

    name: str
    values: FloatArray
    width: float
    height: float
    image: FloatArray | None = None


def read_wsxm(path: str | Path) -> RecordedMap:
    """Read a WSxM ASCII image: ``# key = value`` lines, ``# Start of Data:``, rows of numbers.

    Parameters
    ----------
    path : str or Path
        The file. Lengths are in nm unless ``x-unit`` or ``y-unit`` says otherwise; the first
        line of numbers is the top of the image.

    Raises
    ------
    ValueError
        If it is no such file, its size is not the one it names, or a number is not finite.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    lines = path.read_text(encoding="latin-1").splitlines()
    header: dict[str, str] = {}
    start = None
    for number, line in enumerate(lines):
        if line.strip().lower().startswith("# start of data"):
            start = number + 1
            break
        key, equals, value = line.lstrip("# ").partition("=")
        if equals:
            header[key.strip().lower()] = value.strip()
    if start is None or header.get("file format", "").upper() != "ASCII":
        raise ValueError(
            f"{path} is not a WSxM ASCII image: it needs '# File Format = ASCII' and "
            "'# Start of Data:'; export it from WSxM as ASCII"
        )
    try:
        shape = (int(header["y-pixels"]), int(header["x-pixels"]))
        height = float(header["y-length"]) * _metres(header.get("y-unit", "nm"))
        width = float(header["x-length"]) * _metres(header.get("x-unit", "nm"))
        rows = [np.array(line.split(), dtype=float) for line in lines[start:] if line.strip()]
    except KeyError as error:
        raise ValueError(f"{path}: the header lacks {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    sizes = {row.size for row in rows}
    if len(rows) != shape[0] or sizes != {shape[1]}:
        raise ValueError(
            f"{path}: the header says {shape[0]} rows of {shape[1]} numbers; there are "
            f"{len(rows)} rows of {sorted(sizes)}"
        )
    values = np.array(rows)[::-1]
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {int((~np.isfinite(values)).sum())} numbers are not finite")
    return RecordedMap(path.name, values, width, height)


def _metres(unit: str) -> float:
    if unit.lower() not in _METRES:
        raise ValueError(f"unknown unit of length {unit!r}; known: {', '.join(_METRES)}")
    return _METRES[unit.lower()]


def read_map(path: str | Path) -> RecordedMap:
    """Read a map: a .3ds grid of bias spectra, a .npy array (ny, nx), or a WSxM ASCII image.

    Parameters
    ----------
    path : str or Path
        The file. Of a grid the map is dI/dV summed over its whole window; the array has row 0 at
        the bottom and gets a frame of 1 nm per 10 pixels, which scales nothing in the result.

    Raises
    ------
    ValueError
        If the file is none of these or the map is not two-dimensional, finite and varying.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a .3ds, .npy or WSxM ASCII map")
    suffix = path.suffix.lower()
    if suffix == ".3ds":
        return _read_grid(path)
    if suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path} holds no array of numbers ({error}); write one with numpy.save, shape "
                "(ny, nx)"
            ) from error
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
            raise ValueError(
                f"{path} holds {values.dtype} of shape {values.shape}; a map has two dimensions "
                "(ny, nx) of real numbers"
            )
        if np.iscomplexobj(values):
            raise ValueError(f"{path} holds complex numbers; a map has real ones")
        ny, nx = values.shape
        found = RecordedMap(path.name, values.astype(float), nx * 1e-10, ny * 1e-10)
    else:
        found = read_wsxm(path)
    if min(found.values.shape) < 8:
        raise ValueError(f"{path} has {found.values.shape} pixels; a map needs at least 8 x 8")
    if not np.isfinite(found.values).all() or np.ptp(found.values) == 0:
        raise ValueError(f"{path}: the map must be finite and not constant")
    return found


def _read_grid(path: Path) -> RecordedMap:
    """Map of a grid as the simulated microscope measures it, without noise."""
    from bluesky_gpsts.simulator import open_sample
    from bluesky_gpsts.simulator.recorded import RecordedSample

    sample = open_sample(str(path), 0)
    if not isinstance(sample, RecordedSample):
        raise ValueError(f"{path} is not a recorded grid")
    ny, nx = sample.currents.shape[:2]
    frame = sample.frame
    grid = Grid(frame.x, frame.y, frame.width, frame.height, frame.angle, nx=nx, ny=ny)
    conditions = sample.conditions
    values = sample.figure_of_merit(
        grid.xy[:, 0],
        grid.xy[:, 1],
        conditions.window,
        conditions.bias,
        conditions.setpoint,
    )
    heights = sample.heights.astype(float)
    image = heights if np.ptp(heights) > 0 else None
    return RecordedMap(path.name, grid.as_map(values), frame.width, frame.height, image)


def recorded_truth(recorded: RecordedMap, seed: int, name: str | None = None) -> Truth:
    """Whole map of a file, in one of eight orientations by seed.

    Parameters
    ----------
    recorded : RecordedMap
        The map; averaged over blocks of pixels where it has more than LARGEST along a side.
    seed : int
        Its rest modulo 8 chooses the orientation.
    name : str, optional
        Name of the case; the file's unless given.
    """
    block = -(-max(recorded.values.shape) // LARGEST)
    values = _orient(_average(recorded.values, block), seed)
    image = None if recorded.image is None else _orient(_average(recorded.image, block), seed)
    turned = seed % 2 == 1
    width, height = recorded.width, recorded.height
    if turned:
        width, height = height, width
    grid = Grid(0.0, 0.0, width, height, nx=values.shape[1], ny=values.shape[0])
    return Truth(name or recorded.name, seed, grid, values, image, center=(0.0, 0.0))


def _average(values: FloatArray, block: int) -> FloatArray:
    ny, nx = (size // block for size in values.shape)
    cut = values[: ny * block, : nx * block]
    return np.asarray(cut.reshape(ny, block, nx, block).mean(axis=(1, 3)))


def _orient(values: FloatArray, seed: int) -> FloatArray:
    turned = np.rot90(values, seed % 4)
    return np.ascontiguousarray(turned[:, ::-1] if seed % 8 >= 4 else turned)


RECORDED: dict[str, tuple[str, str | None]] = {
    "recorded grid": ("grids/grid-20x20-kpfm.3ds", None),
    "NbS2 a": ("maps/nbs2-dIdV-a.txt", "maps/nbs2-dIdV-b.txt"),
    "NbS2 b": ("maps/nbs2-dIdV-b.txt", "maps/nbs2-dIdV-a.txt"),
}
"""Files of the recorded cases: the map, and the map that stands for its survey image."""


def find_data(data: Path | None = None) -> Path:
    """Folder of the real measurements, which lies beside the project.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    folder = Path(data) if data is not None else DATA
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the real measurements are not at {folder.resolve()}; put the folder there, or "
            "choose synthetic maps only"
        )
    return folder.resolve()


def recorded_case(name: str, seed: int, side: int, data: Path | None) -> Truth:
    """Recorded case: a whole grid, or a part of 1.2 nm of an NbS2 map at a place by seed."""
    path, survey = RECORDED[name]
    folder = find_data(data)
    if survey is None:
        return recorded_truth(read_map(folder / path), seed, name)
    found, image = _cached(folder / path), _cached(folder / survey)
    rng = np.random.default_rng([seed, 21])
    ny, nx = found.values.shape
    row, column = (int(rng.integers(0, size - _CROP)) for size in (ny, nx))
    scale = found.width / nx

    def part(values: FloatArray) -> FloatArray:
        from scipy.ndimage import map_coordinates

        steps = (np.arange(side) + 0.5) * _CROP / side - 0.5
        rows, columns = np.meshgrid(row + steps, column + steps, indexing="ij")
        cut = map_coordinates(values, [rows, columns], order=1, mode="nearest")
        return _orient(cut, seed)

    grid = Grid(0.0, 0.0, _CROP * scale, _CROP * scale, nx=side, ny=side)
    return Truth(name, seed, grid, part(found.values), part(image.values), center=(0.0, 0.0))


_READ: dict[Path, RecordedMap] = {}


def _cached(path: Path) -> RecordedMap:
    """Read a large text file once."""
    if path not in _READ:
        _READ[path] = read_map(path)
    return _READ[path]
