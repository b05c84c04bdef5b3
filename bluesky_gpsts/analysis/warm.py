"""Start warm: what earlier runs on the same class of defect tell the next one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bluesky_gpsts.surrogate import Grid, Library, Prior

from .errors import AnalysisError
from .record import RunRecord, read_record


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
        If there is no such run, or one whose model was never trained.
    """
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
        If there is no such run, or it has no map.
    """
    from scipy.ndimage import map_coordinates

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


def _records(catalog: Any, uids: Sequence[str]) -> list[RunRecord]:
    if not uids:
        raise AnalysisError("There is no earlier run to learn from; give at least one uid.")
    records = [read_record(catalog, uid) for uid in uids]
    for record in records:
        if not record.has_map:
            raise AnalysisError(
                f"Run {record.start['uid']} has no map to learn from; leave it out."
            )
    return records
