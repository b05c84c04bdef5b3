"""Everything that a report says about a run that checked the tip."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_gpsts.catalog import stream

from .errors import AnalysisError

__all__ = ["PLANS", "TipRun", "read_tip_run"]

PLANS = ("check_tip", "condition_tip")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TipRun:
    """A run of one of the plans that check the tip.

    Attributes
    ----------
    start, stop : dict
        The documents; an empty stop if there is none.
    verdicts : dict of ndarray
        Columns of the stream ``tip``, one row per verdict.
    images : tuple of ndarray
        Heights (m) of the image of each check.
    width : float
        Side of the images (m).
    bias : ndarray
        Bias axis of the spectra (V).
    didv : tuple of ndarray
        dI/dV (A/V) of each check, one row a spectrum.
    """

    start: dict[str, Any]
    stop: dict[str, Any]
    verdicts: dict[str, npt.NDArray[Any]]
    images: tuple[FloatArray, ...]
    width: float
    bias: FloatArray
    didv: tuple[FloatArray, ...]


def read_tip_run(run: Any) -> TipRun:
    """Read a run of one of the plans that check the tip.

    Parameters
    ----------
    run : tiled.client.container.Container
        The run.

    Raises
    ------
    AnalysisError
        It ended before its first verdict.
    """
    start, stop = dict(run.metadata["start"]), dict(run.metadata.get("stop") or {})
    verdicts, images, spectra = (
        stream(run, name)[0] for name in ("tip", "tip_image", "tip_spectra")
    )
    if not verdicts:
        raise AnalysisError(
            f"Run {start['uid']} ended before its first verdict on the tip "
            f"({stop.get('reason') or 'no reason given'}): there is nothing to report."
        )
    columns = start["columns"]
    heights = np.asarray(images[columns["forward"]], dtype=float)
    times = np.asarray(images["time"], dtype=float)
    empty = np.zeros((0, 0))
    didv = np.asarray(spectra[columns["didv"]], dtype=float) if spectra else empty
    taken = np.asarray(spectra["time"], dtype=float) if spectra else np.zeros(0)
    # The spectra of a check follow its image.
    check = np.searchsorted(times, taken) - 1
    return TipRun(
        start,
        stop,
        verdicts,
        tuple(heights),
        float(start["plan_args"]["width"]),
        np.asarray(spectra[columns["bias"]][0], dtype=float) if spectra else np.zeros(0),
        tuple(didv[check == index] for index in range(len(heights))),
    )
