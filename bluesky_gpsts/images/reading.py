"""Read an image of H-Si(100): terraces, atoms, defects, or the reason why it cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.decode import Decoded, decode
from bluesky_gpsts.images.prepare import Prepared, check_image, prepare
from bluesky_gpsts.images.quality import Verdict, features, judge
from bluesky_gpsts.images.rowlattice import ALONG, ROWS, RowLattice
from bluesky_gpsts.images.terracemap import TerraceMap, map_terraces

if TYPE_CHECKING:
    from bluesky_gpsts.images.surfacemodel import Maps, SurfaceModel

__all__ = ["Defect", "SurfaceReading", "Terrace", "find_pixel", "read_surface"]

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

_SMALLEST = 2.5e-9
_COARSEST = 0.19e-9
_DEFECT, _FEWEST = 0.5, 5
_MISMATCH = 0.12


@dataclass(frozen=True, eq=False)
class Terrace:
    """A terrace and its lattice.

    Attributes
    ----------
    number : int
        Its number in `SurfaceReading.terraces`.
    area : float
        Area (m^2).
    vectors : (2, 2) array or None
        From dimer to dimer along a row, and from row to row; x and y (m), x along the lines of
        the image and y from its first line to its last. None where no lattice was found.
    origin : (2,) array
        A site (pixels, x and y) in the middle of the terrace: with the vectors, where the rows are.
    direction : float
        Direction of the rows (rad), from +x towards +y, 0 to pi; NaN without a lattice.
    direction_error : float
        Standard error of it (rad); NaN without a lattice.
    coherence : float
        1 if all peaks lie on the lattice, 0 if they lie anywhere.
    """

    number: int
    area: float
    vectors: Array | None
    origin: Array
    direction: float
    direction_error: float
    coherence: float


@dataclass(frozen=True)
class Defect:
    """A defect: a connected part of the mask.

    Attributes
    ----------
    number : int
        Its number in `SurfaceReading.defect_labels`.
    x, y : float
        Centre of mass (pixels).
    probability : float
        Highest probability of a defect in it.
    area : float
        Area (m^2).
    terrace : int
        Number of the terrace under its centre.
    """

    number: int
    x: float
    y: float
    probability: float
    area: float
    terrace: int


@dataclass(frozen=True, eq=False)
class SurfaceReading:
    """What was read of an image; nothing but the verdict if it cannot be read.

    Positions are in pixels, x the column and y the row, 0 the middle of the first pixel; times
    `pixel` they are metres.

    Attributes
    ----------
    verdict : Verdict
        Whether the image can be read, and why not.
    pixel : (float, float)
        Width and height (m) of a pixel, as given or as found.
    sites : (N, 2) array
        Every site of the lattice, with an atom (a dimer that is there to be seen) or vacant.
    occupied : (N,) array of bool
        Whether an atom is there.
    confidence : (N,) array
        Probability, from 0 to 1, that an atom is there; the members of the ensemble agree on it
        within `doubt`.
    doubt : (N,) array
        Standard deviation of the members of the ensemble.
    site_terrace : (N,) array of int
        Number of the terrace.
    on_lattice : (N,) array of bool
        Whether the position is that of a lattice, not of a single peak.
    terraces : (ny, nx) array of int
        Number of the terrace of each pixel, from 1 on.
    terrace_list : tuple of Terrace
        The terraces in this order.
    steps : (ny, nx) array of bool
        Pixels of step edges.
    defect_probability : (ny, nx) array of float32
        Probability of a defect.
    defect_labels : (ny, nx) array of int
        0, or the number of the defect of each pixel.
    defects : tuple of Defect
        The defects in this order.
    """

    verdict: Verdict
    pixel: tuple[float, float]
    sites: Array
    occupied: NDArray[np.bool_]
    confidence: Array
    doubt: Array
    site_terrace: Labels
    on_lattice: NDArray[np.bool_]
    terraces: Labels
    terrace_list: tuple[Terrace, ...]
    steps: NDArray[np.bool_]
    defect_probability: NDArray[np.float32]
    defect_labels: Labels
    defects: tuple[Defect, ...]

    @property
    def atoms(self) -> Array:
        """Positions (N, 2) of the atoms, pixels."""
        return np.asarray(self.sites[self.occupied])

    @property
    def vacancies(self) -> Array:
        """Positions (N, 2) of the vacant sites, pixels."""
        return np.asarray(self.sites[~self.occupied & self.on_lattice])


def read_surface(
    image: ArrayLike,
    pixel: float | Sequence[float] | None,
    *,
    model: "SurfaceModel | None" = None,
) -> SurfaceReading:
    """Read an image of H-Si(100) 2x1.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m) as measured, or grey values; NaN where not scanned. Needs no levelling.
    pixel : float, or two, or None
        Size of a pixel (m), or width and height; None to find it from the lattice itself.
    model : SurfaceModel, optional
        Model; the package's by default.

    Returns
    -------
    SurfaceReading
        With a verdict that says so if the image cannot be read: then nothing else is in it.

    Raises
    ------
    ValueError
        If it is no image of 16 x 16 pixels or more with a known pixel in it, or the pixel size is
        no positive number.
    """
    values = check_image(image)
    if model is None:
        from bluesky_gpsts.images.registry import load_surface

        model = load_surface()
    if pixel is None:
        return _read_without_pixel(values, model)
    sizes = tuple(float(size) for size in np.atleast_1d(np.asarray(pixel, float)).ravel())
    if len(sizes) not in (1, 2) or not all(np.isfinite(s) and s > 0.0 for s in sizes):
        raise ValueError(f"the pixel size is {pixel!r} m; give one positive number, or two")
    size = (sizes[0], sizes[-1])
    reading = _read(values, size, model)
    if reading.verdict.readable or size[0] != size[1]:
        return reading
    for other in _candidates(values):
        if abs(np.log(other / size[0])) > _MISMATCH:
            found = _read(values, (other, other), model)
            if found.verdict.readable:
                reason = (
                    f"the pixel size is given as {1e9 * size[0]:.4g} nm, and the lattice says "
                    f"{1e9 * _refined(found):.4g} nm; give that, or None to have it found"
                )
                return _refused(values.shape, size, reason)
    return reading


def find_pixel(image: ArrayLike, *, model: "SurfaceModel | None" = None) -> float:
    """Find the pixel size (m) of an image of H-Si(100) from its lattice.

    Parameters
    ----------
    image : (ny, nx) array_like
        As for `read_surface`, with square pixels.
    model : SurfaceModel, optional
        Model; the package's by default.

    Returns
    -------
    float
        Size (m) of a pixel.

    Raises
    ------
    ValueError
        If no lattice of dimers is found.
    """
    reading = read_surface(image, None, model=model)
    if not reading.verdict.readable:
        raise ValueError(f"the pixel size cannot be found: {reading.verdict.reason}; give it")
    return reading.pixel[0]


def _read_without_pixel(values: NDArray[np.float32], model: "SurfaceModel") -> SurfaceReading:
    """Try the periods that the image has, and keep what reads best."""
    best: SurfaceReading | None = None
    for size in _candidates(values):
        reading = _read(values, (size, size), model)
        if reading.verdict.readable and (
            best is None or reading.verdict.probability > best.verdict.probability
        ):
            best = reading
    if best is None:
        reason = (
            "no pixel size was given, and the image has no lattice of dimers to tell it; give it"
        )
        return _refused(values.shape, (float("nan"), float("nan")), reason)
    size = _refined(best)
    return _read(values, (size, size), model)


def _candidates(values: NDArray[np.float32]) -> list[float]:
    """Pixel sizes (m) under which a period of the image is one of the lattice's, likely first."""
    from bluesky_gpsts.images.lattice import lattice_from_image

    filled = np.nan_to_num(values, nan=float(np.nanmedian(values)))
    rows, columns = filled.shape
    # Clipped, so that what sticks out does not hide the lattice; small, because periods are fine.
    low, high = np.percentile(filled[::3, ::3], (2.0, 98.0))
    part = np.clip(filled, low, high)[: min(rows, 512), : min(columns, 512)]
    try:
        vectors = lattice_from_image(part, part.shape[1], part.shape[0])
    except ValueError:  # an image without two periods: there is nothing to try
        return []
    lengths = sorted((float(np.hypot(*vector)) for vector in vectors), reverse=True)
    found: list[float] = []
    for period in (ROWS, ALONG):
        for length in lengths:
            size = period / length
            if size < _COARSEST and all(abs(np.log(size / one)) > 0.04 for one in found):
                found.append(size)
    return found


def _refined(reading: SurfaceReading) -> float:
    """Pixel size (m) under which the lattices found have the right length."""
    known = [terrace for terrace in reading.terrace_list if terrace.vectors is not None]
    ratios, weights = [], []
    for terrace in known:
        assert terrace.vectors is not None
        lengths = np.hypot(*terrace.vectors.T)
        ratios.append(0.5 * float(np.log(lengths[0] / ALONG) + np.log(lengths[1] / ROWS)))
        weights.append(terrace.area)
    return (
        reading.pixel[0] * float(np.exp(-np.average(ratios, weights=weights)))
        if known
        else (reading.pixel[0])
    )


def _read(
    values: NDArray[np.float32], pixel: tuple[float, float], model: "SurfaceModel"
) -> SurfaceReading:
    ny, nx = values.shape
    known = np.isfinite(values)
    extent = (ny * pixel[1], nx * pixel[0])
    problem = ""
    if max(pixel) > _COARSEST:
        problem = (
            f"a pixel of {1e9 * max(pixel):.3g} nm is too coarse for dimers 0.384 nm apart; scan "
            f"with {1e9 * _COARSEST:.2g} nm or less"
        )
    elif min(extent) < _SMALLEST:
        problem = (
            f"the frame of {1e9 * extent[1]:.3g} x {1e9 * extent[0]:.3g} nm is too small; scan "
            f"{1e9 * _SMALLEST:.2g} nm or more"
        )
    elif float(np.ptp(values[known])) == 0.0:
        problem = "the image is constant"
    if problem:
        return _refused(values.shape, pixel, problem)
    prepared = prepare(values, pixel)
    maps = model.maps(prepared)
    terraces = map_terraces(maps.step, maps.direction)
    decoded = decode(maps, terraces)
    verdict = judge(model.gate, features(prepared, maps, decoded), maps.quality)
    if not verdict.readable:
        return replace(_refused(values.shape, pixel, ""), verdict=verdict)
    return _assemble(values.shape, pixel, prepared, maps, terraces, decoded, verdict, known)


def _refused(shape: tuple[int, ...], pixel: tuple[float, float], reason: str) -> SurfaceReading:
    nothing = np.zeros(0)
    return SurfaceReading(
        Verdict(False, 0.0, reason),
        pixel,
        np.zeros((0, 2)),
        nothing.astype(bool),
        nothing,
        nothing,
        nothing.astype(np.int32),
        nothing.astype(bool),
        np.zeros(shape, np.int32),
        (),
        np.zeros(shape, bool),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.int32),
        (),
    )


def _assemble(
    shape: tuple[int, ...],
    pixel: tuple[float, float],
    prepared: Prepared,
    maps: "Maps",
    terraces: TerraceMap,
    decoded: Decoded,
    verdict: Verdict,
    known: NDArray[np.bool_],
) -> SurfaceReading:
    """Bring everything from the grid of the network to the image."""
    coarse = _cells(shape, prepared.scale, terraces.labels.shape, 2)
    labels = terraces.labels[coarse]
    probability = _enlarged(maps.defect, shape)
    probability[~known] = 0.0
    defect_labels, defects = _defects(probability, labels, pixel[0] * pixel[1])
    sites = prepared.to_image(decoded.sites)
    # Half a pixel beyond the middle of the outermost pixels the image ends.
    inside = np.all((sites > -0.5) & (sites < (shape[1] - 0.5, shape[0] - 0.5)), axis=1)
    place = np.clip(np.round(sites).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    inside &= known[place[:, 1], place[:, 0]]
    counts = np.bincount(labels.ravel(), minlength=len(decoded.lattices) + 1)
    listed = tuple(
        _terrace(number, float(counts[number]) * pixel[0] * pixel[1], lattice, prepared, pixel)
        for number, lattice in enumerate(decoded.lattices, start=1)
    )
    return SurfaceReading(
        verdict,
        pixel,
        sites[inside],
        decoded.occupied[inside],
        decoded.score[inside],
        decoded.doubt[inside],
        decoded.terrace[inside],
        decoded.placed[inside],
        labels,
        listed,
        maps.step[coarse] > 0.5,
        probability,
        defect_labels,
        defects,
    )


def _terrace(
    number: int,
    area: float,
    lattice: RowLattice | None,
    prepared: Prepared,
    pixel: tuple[float, float],
) -> Terrace:
    if lattice is None:
        nan = float("nan")
        return Terrace(number, area, None, np.full(2, nan), nan, nan, 0.0)
    vectors = lattice.mean * prepared.scale * pixel
    x, y = vectors[0]
    x0, y0 = lattice.origin.tolist()
    near = lattice.sites((x0 - 12.0, y0 - 12.0), (x0 + 12.0, y0 + 12.0))
    middle = near[np.argmin(np.hypot(*(near - lattice.origin).T))] if len(near) else lattice.origin
    return Terrace(
        number,
        area,
        vectors,
        prepared.to_image(middle[None])[0],
        float(np.arctan2(y, x) % np.pi),
        float(lattice.errors[0]),
        lattice.coherence,
    )


def _defects(
    probability: NDArray[np.float32], terraces: Labels, pixel_area: float
) -> tuple[Labels, tuple[Defect, ...]]:
    from scipy.ndimage import label, maximum

    labels, count = label(probability > _DEFECT)
    if not count:
        return labels.astype(np.int32), ()
    flat = labels.ravel()
    place = np.flatnonzero(flat)
    owner = flat[place]
    size = np.bincount(owner, minlength=count + 1)
    rows, columns = np.divmod(place, probability.shape[1])
    weight = probability.ravel()[place]
    total = np.bincount(owner, weight, count + 1)
    with np.errstate(invalid="ignore"):
        x = np.bincount(owner, weight * columns, count + 1) / total
        y = np.bincount(owner, weight * rows, count + 1) / total
    highest = np.append(0.0, maximum(probability, labels, np.arange(1, count + 1)))
    kept = np.flatnonzero(size >= _FEWEST)
    kept = kept[kept > 0]
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    found = tuple(
        Defect(
            int(number[k]),
            float(x[k]),
            float(y[k]),
            float(highest[k]),
            float(size[k]) * pixel_area,
            int(terraces[round(float(y[k])), round(float(x[k]))]),
        )
        for k in kept
    )
    return number[labels], found


def _cells(
    shape: tuple[int, ...], scale: tuple[float, float], size: tuple[int, ...], step: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a grid, each cell `step` pixels of the network, under each pixel."""
    places = []
    for count, factor, limit in zip(shape, scale[::-1], size, strict=True):
        middle = (np.arange(count) + 0.5) / (factor * step)
        places.append(np.clip(middle.astype(np.intp), 0, limit - 1))
    rows, columns = np.ix_(*places)
    return rows, columns


def _enlarged(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bilinear interpolation of a map to the pixels of the image."""
    import torch
    from torch.nn.functional import interpolate

    source = torch.from_numpy(values)[None, None]
    size = (shape[0], shape[1])
    large = interpolate(source, size, mode="bilinear", align_corners=False, antialias=True)
    result: NDArray[np.float32] = large[0, 0].numpy()
    return result
