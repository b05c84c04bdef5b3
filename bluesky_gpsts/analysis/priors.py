"""What the catalog tells the next run: its survey image, and earlier runs on such a defect."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import survey
from bluesky_gpsts.images import find_center, lattice_from_image
from bluesky_gpsts.surrogate import Grid, Lattice, Library, Prior, Symmetry, Topograph

from .errors import AnalysisError
from .record import RunRecord, read_record, require_uid


def learned_prior(catalog: Any, uids: Sequence[str], frame: Grid) -> dict[str, float]:
    """Prior on the hyperparameters from earlier runs, for the argument ``prior`` of gp_sts.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the runs are.
    uids : sequence of str
        Earlier runs of gp_sts on the same class of defect.
    frame : Grid
        Frame of the new run (its pixels do not matter).

    Returns
    -------
    dict
        Fields of `bluesky_gpsts.surrogate.Prior`; its lengths are fractions of the new frame.

    Raises
    ------
    AnalysisError
        If there is no such run, or one whose model was never trained, or an argument is of
        another kind.
    """
    _require_grid("frame", frame)
    records = _records(catalog, uids)
    for record in records:
        if not record.history.trained[-1]:
            raise AnalysisError(
                f"Run {record.start['uid']} ended before its model was trained, so that it has "
                "no lengths to learn from; leave it out."
            )
    grids = [record.history.grid for record in records]
    vectors = [record.history.hyperparameters[-1] for record in records]
    return asdict(Prior.learned(grids, vectors, frame))


def library_of(catalog: Any, uids: Sequence[str], grid: Grid) -> Library:
    """Maps of defects measured before, as the argument ``structure`` of gp_sts.

    Each map is laid with the centre of its frame on the centre of the new one, at its true size;
    where it does not reach, it goes on with its median.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the runs are.
    uids : sequence of str
        Earlier runs of gp_sts with the defect in the centre of the frame.
    grid : Grid
        Candidates of the new run.

    Raises
    ------
    AnalysisError
        If there is no such run, it has no map, or an argument is of another kind.
    """
    from scipy.ndimage import map_coordinates

    _require_grid("grid", grid)
    maps = []
    for record in _records(catalog, uids):
        mean = record.final_maps[0]
        old = record.history.grid
        shift = np.array([old.center_x - grid.center_x, old.center_y - grid.center_y])
        # The crystal's axes are those of the sample frame, not those of the scan.
        along, across = old.to_unit(grid.xy + shift).T
        columns = (along + 0.5) * old.nx - 0.5
        rows = (across + 0.5) * old.ny - 0.5
        level = float(np.median(mean))
        values = map_coordinates(mean, [rows, columns], order=1, mode="nearest")
        values[np.maximum(np.abs(along), np.abs(across)) > 0.5 + 1e-9] = level
        maps.append(grid.as_map(values / float(np.ptp(mean))))
    return Library(np.array(maps))


def symmetry_of(catalog: Any, uid: str, kind: str = "C3") -> Symmetry:
    """Symmetry about the most conspicuous feature of a survey image.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the survey is.
    uid : str
        A run of the plan survey.
    kind : str
        See `bluesky_gpsts.surrogate.Symmetry`.

    Raises
    ------
    AnalysisError
        If there is no such run, or its image has no feature.
    """
    # As scanned: levelling line by line leaves streaks beside a defect.
    frame, image = _topography(catalog, uid, "forward")
    order = int(kind[1]) if kind[:1] == "C" and kind[1:].isdigit() else 1
    try:
        u, v = find_center(image, order)
    except ValueError as error:
        raise AnalysisError(f"The survey {uid} shows no centre: {error}") from error
    x, y = frame.to_sample([(u * frame.width, v * frame.height)])[0]
    return Symmetry(kind, (float(x), float(y)))


def lattice_of(catalog: Any, uid: str) -> Lattice:
    """Lattice of a survey image, from its Fourier transform; parameters as for `symmetry_of`.

    Raises
    ------
    AnalysisError
        If there is no such run, or its image has no two periods.
    """
    frame, image = _topography(catalog, uid)
    try:
        return Lattice(lattice_from_image(image, frame.width, frame.height, angle=frame.angle))
    except ValueError as error:
        raise AnalysisError(f"The survey {uid} shows no lattice: {error}") from error


def topograph_of(catalog: Any, uid: str, grid: Grid) -> Topograph:
    """Survey image at the candidates of a run.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the survey is.
    uid : str
        A run of the plan survey.
    grid : Grid
        Candidates of the new run, within the frame of the survey.

    Raises
    ------
    AnalysisError
        If there is no such run, or the candidates reach outside its image.
    """
    from scipy.ndimage import map_coordinates

    _require_grid("grid", grid)
    frame, image = _topography(catalog, uid)
    unit = frame.to_unit(grid.xy)
    outside = float(np.max((np.abs(unit) - 0.5) * (frame.nx, frame.ny)))
    if outside > 1.0:
        raise AnalysisError(
            f"The candidates reach {outside:.0f} pixels outside the survey image {uid}; take a "
            "survey of their frame."
        )
    columns, rows = ((unit + 0.5) * (frame.nx, frame.ny) - 0.5).T
    values = map_coordinates(image, [rows, columns], order=1, mode="nearest")
    return Topograph(grid.as_map(values))


def _topography(
    catalog: Any, uid: str, which: str = "topography"
) -> tuple[Grid, npt.NDArray[np.float64]]:
    """Frame and image of a survey, plane-corrected or as scanned, row 0 at the bottom."""
    require_uid(uid)
    try:
        run = catalog[uid]
    except KeyError as error:
        raise AnalysisError(
            f"The catalog has no survey {uid!r}; list its runs for their uids."
        ) from error
    found = survey(run)
    image = found[which].values[::-1]
    if not np.isfinite(image).all():
        raise AnalysisError(f"The survey {uid} is not finished; take another one.")
    ny, nx = image.shape
    return Grid.from_metadata({**run.metadata["start"]["frame"], "nx": nx, "ny": ny}), image


def _require_grid(what: str, given: Any) -> None:
    if not isinstance(given, Grid):
        raise AnalysisError(f"{what} is {given!r}; give a bluesky_gpsts.surrogate.Grid.")


def _records(catalog: Any, uids: Sequence[str]) -> list[RunRecord]:
    if isinstance(uids, str) or not isinstance(uids, Iterable):
        raise AnalysisError(f"The uids are {uids!r}; give a list of them, such as ['3f2a9c'].")
    uids = list(uids)
    if not uids:
        raise AnalysisError("There is no earlier run to learn from; give at least one uid.")
    records = [read_record(catalog, uid) for uid in uids]
    for record in records:
        if not record.has_map:
            raise AnalysisError(
                f"Run {record.start['uid']} has no map to learn from; leave it out."
            )
    return records
