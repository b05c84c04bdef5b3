"""The main job on the simulator: survey, autonomous spectra, catalog, report."""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_gpsts.simulator import Sample, open_sample
from bluesky_gpsts.startup import Session, start

if TYPE_CHECKING:
    from bluesky_gpsts.catalog import Catalog

__all__ = ["Summary", "run_demo"]


@dataclass(frozen=True)
class Summary:
    """What a demo came to.

    Attributes
    ----------
    uid, catalog, report : str
        Run, directory of the catalog, file of the report.
    sample : str
        What was measured.
    seed, spectra : int
        Seed, and spectra taken.
    correlations : list of float
        Pearson correlation of the posterior mean with the sample's truth after each spectrum;
        None where it is not defined.
    seconds : dict
        Seconds of the whole run in each part: instrument, deciding, writing, the rest.
    overhead : float
        Median seconds per spectrum that were not the instrument.
    versions : dict
        Versions of the packages.
    """

    uid: str
    catalog: str
    report: str
    sample: str
    seed: int
    spectra: int
    correlations: list[float | None]
    seconds: dict[str, float]
    overhead: float
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        return asdict(self)


def _tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def run_demo(
    what: str = "ws2",
    *,
    seed: int = 0,
    n_spectra: int = 60,
    acquisition: str = "weighted",
    folder: Path = Path("demo"),
    time_scale: float = 0.0,
) -> Summary:
    """Map a simulated or recorded sample autonomously, and report on it from the catalog alone.

    Parameters
    ----------
    what : str
        "ws2", "au111", "hsi100" or the path of a Nanonis .3ds grid.
    seed : int
        Seed of sample, noise and optimizer.
    n_spectra : int
        Spectra to take.
    acquisition : str
        Acquisition function.
    folder : Path
        Where catalog and report go.
    time_scale : float
        Wall-clock seconds per second of the instrument; 0 is as fast as possible.

    Raises
    ------
    ValueError, OSError
        With one sentence about what was wrong; nothing keeps running then.
    """
    from bluesky_gpsts.plans.checks import require_count, require_seed
    from bluesky_gpsts.surrogate.scores import get_acquisition

    require_seed(seed)
    get_acquisition(acquisition)
    require_count("the number of spectra", n_spectra, 1)
    sample = open_sample(what, seed)
    if Path(what).exists():
        what = str(Path(what).resolve())
    with start(
        sample=what,
        seed=seed,
        time_scale=time_scale,
        catalog=folder / "catalog",
        tell=_tell,
    ) as session:
        return _measure(session, sample, seed, n_spectra, acquisition, folder)


def _measure(
    session: Session, sample: Sample, seed: int, n_spectra: int, acquisition: str, folder: Path
) -> Summary:
    from bluesky_gpsts.callbacks import Progress
    from bluesky_gpsts.plans import gp_sts, survey

    conditions = sample.conditions
    engine = session.RE
    engine.subscribe(Progress())
    survey_uid = str(_run(session, survey(session.stm))["uid"])
    written = session.catalog.journal.seconds
    begin = time.monotonic()
    document = _run(
        session,
        gp_sts(
            session.stm,
            n_spectra=n_spectra,
            window=conditions.window,
            bias_range=conditions.bias_range,
            n_points=conditions.points,
            acquisition=acquisition,
            classifier="default" if acquisition == "class" else None,
            seed=seed,
            survey=survey_uid,
        ),
    )
    total = time.monotonic() - begin
    uid = str(document["uid"])
    written = session.catalog.journal.seconds - written
    truth_uid = _publish_truth(session.catalog, sample, document)
    _deliver(session.catalog, [survey_uid, uid, truth_uid])
    return _summarise(session.catalog, uid, sample, seed, folder, total, written)


def _run(session: Session, plan: Any) -> dict[str, Any]:
    """Run a plan and return its start document; an interruption ends it in order."""
    from bluesky.utils import RunEngineInterrupted, SubscriberMap

    documents: list[dict[str, Any]] = []
    try:
        session.RE(
            plan, SubscriberMap(start=[lambda name, document: documents.append(dict(document))])
        )
    except RunEngineInterrupted:
        if session.RE.state == "paused":
            session.RE.abort("interrupted by the user")
        raise KeyboardInterrupt from None
    return documents[0]


def _publish_truth(catalog: "Catalog", sample: Sample, document: dict[str, Any]) -> str:
    """Write the sample's own map as a run, so that the report needs the catalog alone."""
    from event_model import compose_run

    from bluesky_gpsts.surrogate import Grid

    grid = Grid(**document["frame"], **document["grid"])
    conditions = sample.conditions
    x, y = grid.xy[:, 0], grid.xy[:, 1]
    values = sample.figure_of_merit(x, y, conditions.window, conditions.bias, conditions.setpoint)
    truth = np.ascontiguousarray(grid.as_map(values))
    bundle = compose_run(
        metadata={
            "plan_name": "truth",
            "truth_of": document["uid"],
            "sample": sample.name,
            "frame": document["frame"],
            "grid": document["grid"],
        }
    )
    journal = catalog.journal
    journal("start", bundle.start_doc)
    key = {
        "source": f"simulator:{sample.name}",
        "dtype": "array",
        "shape": list(truth.shape),
        "dtype_numpy": "<f8",
        "units": "A",
    }
    stream = bundle.compose_descriptor(name="primary", data_keys={"truth": key})
    journal("descriptor", stream.descriptor_doc)
    event = stream.compose_event(data={"truth": truth}, timestamps={"truth": time.time()})
    journal("event", event)
    journal("stop", bundle.compose_stop())
    return str(bundle.start_doc["uid"])


def _deliver(catalog: "Catalog", uids: list[str]) -> None:
    """Wait until the runs are in the catalog, and show how far they are."""
    from tqdm import tqdm

    with tqdm(total=100, desc="Filing", unit="%", file=sys.stderr) as bar:
        for number, uid in enumerate(uids):

            def show(done: int, size: int, number: int = number) -> None:
                share = (number + done / max(size, 1)) / len(uids)
                bar.update(max(0.0, round(100 * share) - bar.n))

            catalog.wait_delivered(uid, timeout=300.0, progress=show)


def _summarise(
    catalog: "Catalog",
    uid: str,
    sample: Sample,
    seed: int,
    folder: Path,
    total: float,
    written: float,
) -> Summary:
    from bluesky_gpsts.analysis import correlations, write_report
    from bluesky_gpsts.catalog import decisions, truth

    run = catalog[uid]
    known = truth(catalog, uid)
    _tell("Writing the report")
    report = write_report(catalog, uid, folder / uid[:8])
    course = correlations(run, known) if known is not None else np.zeros(0)
    chosen = decisions(run)
    instrument = np.asarray(chosen["seconds_instrument"], dtype=float)
    deciding = np.asarray(chosen["seconds_deciding"], dtype=float)
    cycle = np.asarray(chosen["seconds_cycle"], dtype=float)
    seconds = {
        "instrument": float(instrument.sum()),
        "deciding": float(deciding.sum()),
        "writing": written,
    }
    seconds["rest"] = total - sum(seconds.values())
    return Summary(
        uid=uid,
        catalog=str(catalog.path),
        report=str(report),
        sample=sample.name,
        seed=seed,
        spectra=len(cycle),
        correlations=[float(r) if np.isfinite(r) else None for r in course],
        seconds={name: round(value, 4) for name, value in seconds.items()},
        overhead=float(np.median(cycle - instrument)),
        versions=dict(run.metadata["start"].get("versions", {})),
    )
