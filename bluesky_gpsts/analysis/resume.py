"""Go on where a run ended: its optimizer, rebuilt from its documents."""

from typing import Any

import numpy as np

from bluesky_gpsts.catalog import stream, structure_images
from bluesky_gpsts.surrogate import MapOptimizer

from .errors import AnalysisError
from .record import read_record


def optimizer_of(catalog: Any, uid: str, n_spectra: int | None = None) -> MapOptimizer:
    """Optimizer of a run of gp_sts with all its spectra; its next choice is the run's next.

    Parameters
    ----------
    catalog : Catalog or tiled.client.container.Container
        Where the run is.
    uid : str
        The run; it may have been broken off.
    n_spectra : int, optional
        Budget, with the spectra that the run has; the run's own unless given.

    Returns
    -------
    MapOptimizer
        For the argument ``optimizer`` of gp_sts.

    Raises
    ------
    AnalysisError
        If there is no such run, if it was steered by an optimizer that cannot be rebuilt, or if
        it went on from another run.
    """
    record = read_record(catalog, uid)
    start, decisions = record.start, record.decisions
    described = start.get("optimizer")
    if not described:
        raise AnalysisError(
            f"Run {start['uid']} does not say how its optimizer was set up; only a MapOptimizer "
            "can be rebuilt."
        )
    count = min(record.n_spectra, decisions.sizes.get("decision", 0))
    if count and decisions["n_data"].values[0] > 0:
        raise AnalysisError(
            f"Run {start['uid']} went on from the spectra of another one; rebuild the optimizer "
            "of that run and ingest these spectra."
        )
    images = structure_images(catalog[start["uid"]])
    try:
        optimizer = MapOptimizer.from_settings(described, images=images, max_points=n_spectra)
    except ValueError as error:
        raise AnalysisError(f"The optimizer of run {start['uid']}: {error}") from error
    if count:
        # The positions that were asked for: the optimizer was told of no others.
        x, y = (np.asarray(decisions[name].values[:count], dtype=float) for name in "xy")
        values, variances = record.history.values[:count], record.history.variances[:count]
        whole = record.spectra["didv"].values[:count] if optimizer.settings.components else None
        optimizer.replay(x, y, values, variances, whole)
        _inform(optimizer, catalog[start["uid"]], count)
    return optimizer


def _inform(optimizer: MapOptimizer, run: Any, count: int) -> None:
    """Tell of the classes of the first spectra; replayed points are numbered from 0."""
    columns, _ = stream(run, "classes")
    if not columns:
        return
    for number, probabilities, novelty, problem in zip(
        columns["primary_seq_num"],
        columns["probabilities"],
        columns["novelty"],
        columns["problem"],
        strict=True,
    ):
        if number <= count and not problem:
            optimizer.inform(int(number) - 1, probabilities, float(novelty))
