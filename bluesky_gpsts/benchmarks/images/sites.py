"""Sites for a pattern of three dimers, and rows of terraces against each other."""

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.images.cases import OURS
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.features import measure_defects
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.registry import load_classes
from bluesky_gpsts.images.relief import frame_of
from bluesky_gpsts.images.rowshifts import row_shifts
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.sites import THREE_DIMERS, WRITABLE, Site, find_sites
from bluesky_gpsts.images.surface import SurfaceReading
from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["site_rows"]

_OVERLAP = 1.0
_SURE = 0.8
_SITES = 100


def site_rows(model: SurfaceModel, count: int, seed: int) -> list[Row]:
    """Offered sites that overlap a forbidden defect or a step; shifts of rows.

    Parameters
    ----------
    model : SurfaceModel
        What reads the images.
    count : int
        Images at each noise.
    seed : int
        Seed of the images.
    """
    net = load_classes()
    rows, straight, across = [], [], []
    for snr in (2, 4, 8):
        rng = np.random.default_rng([seed, 14, snr])
        offered = forbidden = stepped = 0
        for number in range(count):
            drawn = draw_image(rng, snr=float(snr), steps=number % 3)
            reading = read_surface(drawn.image, drawn.pixel, model=model)
            if not reading.verdict.readable:
                continue
            table = measure_defects(drawn.image, reading)
            names, sure = net.name_defects(table)
            known = zip(table.numbers, names, sure, strict=True)
            classes = {int(n): str(name) for n, name, p in known if p >= _SURE}
            sites = find_sites(drawn.image, reading, THREE_DIMERS, classes, _SITES)
            offered += len(sites)
            for site in sites:
                defect, step = _overlaps(drawn, reading, site)
                forbidden += defect
                stepped += step
            for found in row_shifts(reading):
                if found.turned:
                    across.append(min(abs(found.shift), abs(abs(found.shift) - 0.25)))
                else:
                    straight.append(abs(abs(found.shift) - 0.25))
        case = f"sites for three dimers, SNR {snr}"
        share = 100.0 / max(1, offered)
        metric = "offered sites on a forbidden defect"
        rows.append(
            Row(case, OURS, metric, share * forbidden, "%", max(1, offered), _OVERLAP, True)
        )
        metric = "offered sites on a step"
        rows.append(Row(case, OURS, metric, share * stepped, "%", max(1, offered)))
        rows.append(Row(case, OURS, "sites offered per image", offered / count, "", count))
    for what, errors in (("two steps apart", straight), ("one step apart", across)):
        if errors:
            case = f"rows of terraces {what}"
            for metric, value in (
                ("shift of rows, median error", np.median(errors)),
                ("shift of rows, 90th percentile", np.quantile(errors, 0.9)),
            ):
                rows.append(Row(case, OURS, metric, float(value), "row distances", len(errors)))
    return rows


def _overlaps(drawn: DrawnImage, reading: SurfaceReading, site: Site) -> tuple[bool, bool]:
    """Whether a site of one row lies on a defect that forbids it, and across a step, in truth."""
    writable = [n for n, d in enumerate(drawn.defects, 1) if d.kind in WRITABLE]
    frame = frame_of(reading, site.terrace).vectors
    half = 0.5 * site.dimers.shape[0]
    grid = np.meshgrid(np.linspace(-half, half, 13), np.linspace(-0.5, 0.5, 7))
    places = (site.x, site.y) + np.stack(grid, axis=-1).reshape(-1, 2) @ frame
    ny, nx = drawn.image.shape
    column, row = np.round(places).astype(int).T
    pixels: tuple[NDArray[np.intp], NDArray[np.intp]] = (
        np.clip(row, 0, ny - 1),
        np.clip(column, 0, nx - 1),
    )
    defect = ~np.isin(drawn.defect_map[pixels], [0, *writable])
    return bool(defect.any()), len(np.unique(drawn.terrace[pixels])) > 1
