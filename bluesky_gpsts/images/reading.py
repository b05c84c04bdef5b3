"""Read an image of H-Si(100): terraces, atoms, defects, or the reason why it cannot be read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.assemble import assemble, placed
from bluesky_gpsts.images.decode import decode
from bluesky_gpsts.images.pixelsize import pixel_candidates
from bluesky_gpsts.images.prepare import SMALLEST, check_image, prepare
from bluesky_gpsts.images.quality import features, judge
from bluesky_gpsts.images.sitejudges import judge_sites, site_features
from bluesky_gpsts.images.surface import Defect, SurfaceReading, Terrace, refused
from bluesky_gpsts.images.terracemap import map_terraces

if TYPE_CHECKING:
    from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["Defect", "SurfaceReading", "Terrace", "find_pixel", "read_surface"]

_SMALLEST = 2.5e-9
_COARSEST = 0.19e-9
_MISMATCH = 0.12
_ENOUGH = 1024


def read_surface(
    image: ArrayLike,
    pixel: float | Sequence[float] | None,
    *,
    model: "SurfaceModel | None" = None,
    refuse: bool = True,
    progress: Callable[[int, int], None] | None = None,
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
    refuse : bool
        Read nothing of an image that the quality gate refuses. If False, all is read whatever the
        verdict, for somebody who looks at it.
    progress : callable, optional
        Called with the tiles of the image that are done, and all of them.

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
        return _read_without_pixel(values, model, refuse, progress)
    try:
        sizes = tuple(float(size) for size in np.atleast_1d(np.asarray(pixel, float)).ravel())
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) not in (1, 2) or not all(np.isfinite(s) and s > 0.0 for s in sizes):
        raise ValueError(f"the pixel size is {pixel!r} m; give one positive number, or two")
    size = (sizes[0], sizes[-1])
    reading = _read(values, size, model, refuse, progress)
    if not refuse:
        return reading
    if reading.verdict.readable or size[0] != size[1]:
        return reading
    part = _middle(values)
    for other in pixel_candidates(part):
        if abs(np.log(other / size[0])) > _MISMATCH:
            found = _read(part, (other, other), model, refuse)
            if found.verdict.readable:
                reason = (
                    f"the pixel size is given as {1e9 * size[0]:.4g} nm, and the lattice says "
                    f"{1e9 * _refined(found):.4g} nm; give that, or None to have it found"
                )
                return refused(values.shape, size, reason)
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


def _read_without_pixel(
    values: NDArray[np.float32],
    model: "SurfaceModel",
    refuse: bool,
    progress: Callable[[int, int], None] | None,
) -> SurfaceReading:
    """Try the periods that the image has, and keep what reads best."""
    best: SurfaceReading | None = None
    part = _middle(values)
    for size in pixel_candidates(part):
        reading = _read(part, (size, size), model, refuse)
        better = best is None or reading.verdict.probability > best.verdict.probability
        if better and (reading.verdict.readable or (not refuse and len(reading.sites))):
            best = reading
    if best is None:
        reason = (
            "no pixel size was given, and the image has no lattice of dimers to tell it; give it"
        )
        return refused(values.shape, (float("nan"), float("nan")), reason)
    size = _refined(best)
    return _read(values, (size, size), model, refuse, progress)


def _middle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Part of a large image that tells the size of its pixels: the middle of what is known."""
    rows, columns = _known_box(np.isfinite(values))
    box = []
    for side in (rows, columns):
        spare = max(0, side.stop - side.start - _ENOUGH)
        box.append(slice(side.start + spare // 2, side.stop - (spare + 1) // 2))
    part = values[box[0], box[1]]
    return part if min(part.shape) >= SMALLEST and np.isfinite(part).any() else values


def _refined(reading: SurfaceReading) -> float:
    """Pixel size (m) under which the lattices found have the right length."""
    scale = reading.scale
    return reading.pixel[0] if np.isnan(scale) else reading.pixel[0] / scale


def _read(
    values: NDArray[np.float32],
    pixel: tuple[float, float],
    model: "SurfaceModel",
    refuse: bool,
    progress: Callable[[int, int], None] | None = None,
) -> SurfaceReading:
    ny, nx = values.shape
    known = np.isfinite(values)
    rows, columns = _known_box(known)
    extent = ((rows.stop - rows.start) * pixel[1], (columns.stop - columns.start) * pixel[0])
    problem = ""
    if max(pixel) > _COARSEST:
        problem = (
            f"a pixel of {1e9 * max(pixel):.3g} nm is too coarse for dimers 0.384 nm apart; scan "
            f"with {1e9 * _COARSEST:.2g} nm or less"
        )
    elif min(extent) < _SMALLEST:
        problem = (
            f"the frame of {1e9 * extent[1]:.3g} x {1e9 * extent[0]:.3g} nm is too small; scan "
            f"{1e9 * _SMALLEST:.2g} nm or more on each side"
        )
    elif float(np.nanmax(values)) == float(np.nanmin(values)):
        problem = "the image is constant; take it again, or give another channel"
    if problem:
        return refused(values.shape, pixel, problem)
    box = rows, columns
    values, known = values[box], known[box]
    prepared = prepare(values, pixel)
    maps = model.maps(prepared, progress)
    terraces = map_terraces(maps.step, maps.direction)
    decoded = decode(prepared, maps, terraces)
    verdict = judge(model.gate, features(prepared, maps, decoded), maps.quality)
    if refuse and not verdict.readable:
        return replace(refused((ny, nx), pixel, ""), verdict=verdict)
    if decoded.resolved:
        sure, doubt = judge_sites(model.judges, site_features(maps, decoded))
    else:
        # The judges know dimers; of rows, the map says where they are.
        sure, doubt = decoded.score, np.zeros(len(decoded.score))
    reading = assemble(
        values.shape, pixel, prepared, maps, terraces, decoded, verdict, known, sure, doubt
    )
    return reading if values.shape == (ny, nx) else placed(reading, box, (ny, nx))


def _known_box(known: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns from the first to the last that have a known pixel."""
    if known.all():
        return slice(0, known.shape[0]), slice(0, known.shape[1])
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
