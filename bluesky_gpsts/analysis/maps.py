"""The map that a run led to, and how good it became, from the run in the catalog alone."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import decisions as read_decisions
from bluesky_gpsts.catalog import final_model, structure_images
from bluesky_gpsts.catalog import spectra as read_spectra

from .history import MapHistory, build_history

FloatArray = npt.NDArray[np.float64]


def history_of(run: Any) -> MapHistory:
    """Read from a run what its maps depend on.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts, ended, broken off or under way.

    Returns
    -------
    MapHistory

    Raises
    ------
    AnalysisError
        The run is not one of gp_sts.
    CatalogError
        The start document does not say which column is which.
    """
    return build_history(
        run.metadata["start"],
        read_spectra(run),
        read_decisions(run),
        structure_images(run),
        final_model(run),
    )


def maps_after(run: Any, k: int) -> tuple[FloatArray, FloatArray]:
    """Map after the first k spectra of a run.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.
    k : int
        1 to the number of spectra.

    Returns
    -------
    mean, std : ndarray, shape (ny, nx)
        Posterior mean and standard deviation of the figure of merit (A); row 0 is the bottom row.

    Raises
    ------
    AnalysisError
        The run is not one of gp_sts, or has fewer spectra.
    """
    return history_of(run).after(k)


def final_maps(run: Any) -> tuple[FloatArray, FloatArray]:
    """Map after all spectra of a run; as `maps_after`, which has the details."""
    history = history_of(run)
    return history.after(len(history))


def correlations(run: Any, truth: npt.ArrayLike) -> FloatArray:
    """Pearson's r between the map and the truth after each spectrum of a run.

    Parameters
    ----------
    run : tiled.client.container.Container
        A run of the plan gp_sts.
    truth : array_like, shape (ny, nx)
        Row 0 is the bottom row, as `bluesky_gpsts.catalog.truth` returns it.

    Returns
    -------
    ndarray, shape (n,)
        NaN where the map has no contrast, as after one spectrum.

    Raises
    ------
    AnalysisError
        The run is not one of gp_sts, or the truth has another shape.
    """
    return history_of(run).correlations(truth)
