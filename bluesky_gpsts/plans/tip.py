"""A check of the tip, on Au(111)."""

from collections.abc import Generator
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.plans.checks import plain, require_feedback, require_metadata
from bluesky_gpsts.plans.inspection import (
    arguments_of,
    columns_of,
    inspect_tip,
    inspection,
    prepare_inspection,
)
from bluesky_gpsts.plans.stubs import in_run, plain_errors
from bluesky_gpsts.plans.survey import frame_metadata
from bluesky_gpsts.plans.tiprecords import TipRecord
from bluesky_gpsts.plans.verdict import TipVerdict

__all__ = ["check_tip"]


def check_tip(
    stm: NanonisSTM,
    center: Optional[tuple[float, float]] = None,  # noqa: UP045 - the queue server shows it so
    width: float = 34e-9,
    pixels: int = 288,
    lines: int = 128,
    line_time: float = 0.4,
    n_spectra: int = 5,
    n_points: int = 256,
    bias_range: tuple[float, float] = (1.0, -1.0),
    onset: float = -0.48,
    settle: float = 0.5,
    settling: float = 4e-3,
    integration: float = 20e-3,
    modulation: float = 5e-3,
    classifier: str = "",
    md: Optional[dict] = None,  # noqa: UP045
) -> Generator[Msg, Any, TipVerdict]:
    """Tell whether the tip is fit for spectroscopy, from what it shows of Au(111).

    One image, in which a step of one atom's height must be, and spectra on flat places of it. The
    tip passes if the surface state begins where it should, with the height that it should have, on
    a smooth background; if a step is sharp and nothing appears twice; and if the current is quiet.
    The verdict is an event of the stream ``tip``, with its reasons. All settings are put back, and
    the tip goes back to where it was.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its bias and setpoint are used as they are.
    center : tuple of float
        Centre of the image (m, piezo coordinates); that of the scan frame unless given.
    width : float
        Side of the image (m).
    pixels : int
        Pixels of a line; the controller takes multiples of 16.
    lines : int
        Number of lines.
    line_time : float
        Seconds for a line, forward and again backward; a fast tip smears steps out.
    n_spectra : int
        Spectra, each on another flat place.
    n_points : int
        Points of a spectrum.
    bias_range : tuple of float
        Start and end of the sweep (V).
    onset : float
        Where the surface state begins (V).
    settle : float
        Seconds for the feedback to settle before it is held.
    settling : float
        Seconds to wait at each bias.
    integration : float
        Seconds to average at each bias.
    modulation : float
        Amplitude of the lock-in's modulation (V, peak); 0 leaves the lock-in as it is.
    classifier : str
        Name of a model that names the spectra and tells their novelty ("default";
        ``gpsts models`` lists them); none if empty.
    md : dict
        More entries for the start document.

    Returns
    -------
    TipVerdict
        Whether the tip passed, the reasons, and the numbers.

    Raises
    ------
    ValueError
        If an argument is out of range, or the feedback is off; the tip has not moved then.
    """
    arguments = arguments_of(locals())
    how, more = inspection(stm, **arguments), require_metadata(md)
    require_feedback(stm)
    record = TipRecord(name="tip_record")
    verdicts: list[TipVerdict] = []
    metadata = {
        "plan_name": "check_tip",
        "plan_args": arguments,
        "detectors": [stm.scan.name, stm.spectroscopy.name],
        "instrument": stm.name,
        "frame": frame_metadata(stm),
        "columns": columns_of(stm),
        "hints": {"dimensions": [(["time"], "tip")]},
        **more,
    }

    @bpp.stage_decorator([stm])
    def staged() -> Generator[Msg, Any, TipVerdict]:
        yield from plain_errors(prepare_inspection(stm, how))
        yield from in_run(plain_errors(look()), plain(metadata))
        return verdicts[0]

    def look() -> Generator[Msg, Any, str]:
        origin = stm.tip.where()
        verdict = yield from inspect_tip(stm, how, record)
        verdicts.append(verdict)
        yield from bps.mv(stm.tip, origin)
        return "the tip is fit" if verdict.passed else "; ".join(verdict.reasons)

    return (yield from staged())
