"""Autonomous tunnelling spectroscopy: a Gaussian process chooses where to take each spectrum."""

import math
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import Msg

from bluesky_gpsts.devices import NanonisSTM
from bluesky_gpsts.plans.checks import (
    chosen,
    plain,
    require_count,
    require_feedback,
    require_metadata,
    require_name,
    require_optimizer,
    require_pair,
    require_positive,
    require_seed,
)
from bluesky_gpsts.plans.drift import DriftWatch
from bluesky_gpsts.plans.driftchecks import DriftChecks
from bluesky_gpsts.plans.knowledge import known_prior, known_structure
from bluesky_gpsts.plans.merit import Merit, check_window, judge, own_merit
from bluesky_gpsts.plans.naming import known_classifier, record_classes
from bluesky_gpsts.plans.recording import (
    columns_of,
    record_baseline,
    record_decision,
    record_flags,
    record_map,
)
from bluesky_gpsts.plans.records import ClassRecord, DecisionRecord, MeritRecord, StructureRecord
from bluesky_gpsts.plans.stubs import in_run, off_loop, plain_errors
from bluesky_gpsts.plans.survey import frame_metadata
from bluesky_gpsts.plans.tipwatch import TipWatch, known_tip_checks, look_after

__all__ = ["gp_sts"]

# So many useless spectra in a row are no accident: something is wrong with the instrument.
_FAILURES = 5
# Seconds to wait at the end for classes that are still missing.
_PATIENCE = 10.0
# Spectra that were taken back are repeated, but a run takes no more than so many times its number.
_MOST = 2
_LARGEST = 1_000_000


def gp_sts(
    stm: NanonisSTM,
    n_spectra: int = 60,
    window: tuple[float, float] = (0.0, 0.7),
    bias_range: tuple[float, float] = (1.4, -1.8),
    n_points: int = 1200,
    acquisition: str = "weighted",
    kernel: str = "matern-5/2",
    n_initial: Optional[int] = None,  # noqa: UP045
    grid: tuple[int, int] = (128, 128),
    cost: Optional[str] = None,  # noqa: UP045 - the queue server shows it as optional
    target_std: Optional[float] = None,  # noqa: UP045
    target_correlation: Optional[float] = None,  # noqa: UP045
    target_range: Optional[tuple[float, float]] = None,  # noqa: UP045
    structure: Any = None,
    prior: Any = None,
    components: int = 0,
    merit: str = "",
    classifier: Any = None,
    settle: float = 0.5,
    settling: float = 4e-3,
    integration: float = 20e-3,
    modulation: float = 5e-3,
    seed: int = 0,
    survey: str = "",
    drift: Optional[dict] = None,  # noqa: UP045
    tip_checks: Optional[dict] = None,  # noqa: UP045
    optimizer: Any = None,
    md: Optional[dict] = None,  # noqa: UP045
) -> Generator[Msg, Any, str]:
    """Take spectra where a Gaussian process expects to learn most.

    At each point the tip moves there, the feedback settles, the controller holds the feedback,
    ramps the bias over the range and goes back. The figure of merit, the integral of dI/dV over
    the window, goes to the Gaussian process, which chooses the next point on a grid of candidates
    over the scan frame (Thomas et al., npj Comput. Mater. 8, 99 (2022)). All settings that the
    plan changes are put back when it ends for whatever reason.

    Parameters
    ----------
    stm : NanonisSTM
        The microscope; its scan frame, bias and setpoint are used as they are.
    n_spectra : int
        Spectra to take at most.
    window : tuple of float
        Lower and upper bias (V) of the window whose dI/dV is summed.
    bias_range : tuple of float
        Start and end of the sweep (V).
    n_points : int
        Points of a spectrum.
    acquisition : str
        Acquisition function by name ("weighted", "variance", "ucb", "expected improvement" and
        others, see `bluesky_gpsts.surrogate.ACQUISITIONS`), or a function of your own as
        "module:function".
    kernel : str
        Kernel: "matern-1/2", "matern-3/2" or "matern-5/2".
    n_initial : int
        Spectra at points spread over the frame, before the Gaussian process chooses: 8 unless
        given, or 4 with a structure.
    grid : tuple of int
        Candidates across and along the frame.
    cost : str
        What a point costs: "distance" for the way to it, or a function of your own as
        "module:function".
    target_std : float
        Stop when the mean posterior standard deviation is below this fraction of the map's range.
    target_correlation : float
        Stop when the map's estimated correlation with the truth reaches this.
    target_range : tuple of float
        Lowest and highest figure of merit (A) that "target probability" looks for.
    structure : dict or object
        What the survey image tells: a `Symmetry`, `Lattice`, `Topograph` or `Library` of
        `bluesky_gpsts.surrogate`, or what its ``to_json`` returns, such as
        ``{"structure": "symmetry", "kind": "C3", "center": [1e-9, 0.0]}`` in metres.
    prior : dict or object
        Prior on the hyperparameters: a `bluesky_gpsts.surrogate.Prior` or its fields, as
        `bluesky_gpsts.analysis.learned_prior` gives them for earlier runs.
    components : int
        Principal components of whole spectra to model beside the figure of merit, at most; the
        points then serve the map at every bias.
    merit : str
        A figure of merit of your own as "module:function" of bias (V) and dI/dV (A/V), which
        returns a number, or a number and its variance; the window's integral unless given.
    classifier : str or object
        Name of a model that names each spectrum ("default"; ``gpsts models`` lists them), or a
        `bluesky_gpsts.callbacks.Classify`. What it finds goes into the stream ``classes`` and to
        the acquisition function "class"; whatever it does, the run goes on.
    settle : float
        Seconds for the feedback to settle at a new point, before it is held.
    settling : float
        Seconds to wait at each bias.
    integration : float
        Seconds to average at each bias.
    modulation : float
        Amplitude of the lock-in's modulation (V, peak); 0 leaves the lock-in as it is.
    seed : int
        Seed of the initial points and of everything random in the optimizer.
    survey : str
        Uid of the survey run that this experiment belongs to.
    drift : dict
        Drift checks: fields of `bluesky_gpsts.plans.DriftChecks`, such as ``{"every": 10}``; an
        empty dict has their defaults. Without it there are none.
    tip_checks : dict
        Repetitions of a spectrum to notice a changed tip: fields of `TipChecks`, as above. With a
        classifier they come at once where several spectra in a row are none that it knows.
    optimizer : object
        An optimizer of your own instead, with the methods ``suggest``, ``ingest`` and
        ``should_stop`` of bluesky-adaptive's protocols, parameters "x" and "y" in metres and
        outcome "figure_of_merit".
    md : dict
        More entries for the start document.

    Returns
    -------
    str
        Why the plan ended; the stop document has it as its reason.

    Raises
    ------
    ValueError
        If an argument is out of range, or the frame or the sweep outside what the instrument
        allows; the tip has not moved and nothing was written then.
    """
    given = {name: value for name, value in locals().items() if name not in ("stm", "md")}
    from bluesky_gpsts.surrogate import Grid, MapOptimizer, Settings, images_of

    seed = require_seed(seed)
    n_spectra = require_count("n_spectra", n_spectra, 1, _LARGEST)
    if n_initial is None:
        n_initial = 8 if structure is None else 4
    n_initial = require_count("n_initial", n_initial, 1)
    n_points = require_count("n_points", n_points, 8, _LARGEST)
    components = require_count("components", components, 0)
    for what, name in (
        ("acquisition", acquisition),
        ("kernel", kernel),
        ("cost", cost or ""),
        ("merit", merit),
        ("survey", survey),
    ):
        require_name(what, name)
    more = require_metadata(md)
    window = require_pair("window", window, "V")
    bias_range = require_pair("bias_range", bias_range, "V")
    limits = stm.instrument_limits
    for bias in bias_range:
        limits.check_bias(bias)
    check_window(window, bias_range, n_points)
    own = own_merit(merit) if merit else None
    namer = known_classifier(classifier, acquisition)
    checks, repeats = chosen(DriftChecks, "drift", drift), known_tip_checks(tip_checks, n_points)
    integration = require_positive("integration", integration, "s")
    settle = require_positive("settle", settle, "s")
    settling = require_positive("settling", settling, "s", or_zero=True)
    modulation = require_positive("modulation", modulation, "V", or_zero=True)
    limits.check("a modulation", modulation, "V", 0.0, limits.modulation)
    require_pair("grid", grid, "candidates across and along the frame")
    nx, ny = (require_count("grid", count, 2, 1024) for count in grid)
    start_prior = known_prior(prior)
    stm.scan.check()
    require_feedback(stm)
    frame = frame_metadata(stm)
    candidates = Grid(**frame, nx=nx, ny=ny)
    if optimizer is None:
        optimizer = MapOptimizer(
            candidates,
            kernel=kernel,
            acquisition=acquisition,
            n_initial=n_initial,
            seed=seed,
            max_points=n_spectra,
            target_std=target_std,
            target_correlation=target_correlation,
            target_range=target_range,
            cost=cost,
            structure=known_structure(structure),
            prior=start_prior,
            components=components,
        )
    require_optimizer(optimizer)
    settings = getattr(optimizer, "settings", None)
    known = getattr(settings, "structure", None)
    images = images_of(known)
    arguments = {
        **given,
        "n_initial": n_initial,
        "grid": [nx, ny],
        "structure": None if known is None else known.describe(),
        "prior": None if prior is None else asdict(start_prior),
        "classifier": None if namer is None else namer.metadata["model"],
        "drift": None if checks is None else asdict(checks),
        "tip_checks": None if repeats is None else asdict(repeats),
        "optimizer": type(optimizer).__name__,
    }
    sts, tip = stm.spectroscopy, stm.tip
    judged = MeritRecord(name="merit")
    decision = DecisionRecord(name="decision")
    if own is not None:
        # Its unit is not known here.
        for signal in (
            judged.figure_of_merit,
            judged.figure_of_merit_variance,
            decision.posterior_mean,
            decision.posterior_std,
            decision.default_noise_variance,
        ):
            signal.units = ""
    metadata: dict[str, Any] = {
        "plan_name": "gp_sts",
        "plan_args": arguments,
        "detectors": [sts.name],
        "motors": [tip.name],
        "instrument": stm.name,
        "seed": seed,
        "survey": survey,
        "frame": frame,
        "grid": {"nx": nx, "ny": ny},
        "window": list(window),
        "bias_range": list(bias_range),
        "n_points": n_points,
        "budget": n_spectra,
        "optimizer": settings.describe() if isinstance(settings, Settings) else {},
        **({} if namer is None else {"classifier": namer.metadata}),
        "merit_unit": "" if own else "A",
        "acquisition": acquisition,
        "kernel": kernel,
        "columns": columns_of(stm, judged),
        "hints": {"dimensions": [([tip.x.name, tip.y.name], "primary")]},
        **more,
    }
    class_record = ClassRecord(name="class")
    points: list[Any] = []
    useless: set[int] = set()
    flagged: set[int] = set()
    # One worker: the optimizer is not made for two threads at a time.
    executor = ThreadPoolExecutor(1, thread_name_prefix="optimizer")
    watch = None if checks is None else DriftWatch(stm, checks, executor)
    references = None if repeats is None else TipWatch(stm, repeats)

    def next_point() -> tuple[dict[str, Any] | None, str]:
        stop, reason = optimizer.should_stop()
        return (None, reason or "") if stop else (dict(optimizer.suggest(1)[0]), "")

    def learn(
        point: dict[str, Any], found: Merit, spectrum: np.ndarray
    ) -> tuple[dict[str, Any] | None, str]:
        if found.failure:
            optimizer.register_failures([point])
            return next_point()
        outcome = {"_id": point["_id"], "figure_of_merit": found.value}
        if math.isfinite(found.variance):
            outcome["figure_of_merit_variance"] = found.variance
        if components:
            outcome["spectrum"] = spectrum
        optimizer.ingest([outcome])
        return next_point()

    @bpp.stage_decorator([stm])
    def staged() -> Generator[Msg, Any, str]:
        yield from plain_errors(prepare())
        return (yield from in_run(plain_errors(loop()), plain(metadata)))

    def prepare() -> Generator[Msg, Any, None]:
        for signal, value in (
            # In this run's sample frame the sample is where the piezo sees it now.
            (tip.offset_x, 0.0),
            (tip.offset_y, 0.0),
            (sts.start, bias_range[0]),
            (sts.end, bias_range[1]),
            (sts.points, n_points),
            (sts.sweeps, 1),
            (sts.z_averaging, settle),
            (sts.settling, settling),
            (sts.integration, integration),
        ):
            yield from bps.mv(signal, value)
        if modulation:
            yield from bps.mv(stm.lock_in.amplitude, modulation)
            yield from bps.mv(stm.lock_in.on, 1)
        sts.check()

    def take_back(numbers: Iterable[int], taken: int, why: str) -> Generator[Msg, Any, None]:
        """Flag spectra, and let the optimizer have their places again."""
        usable = [n for n in numbers if n not in flagged and n not in useless]
        if usable and hasattr(optimizer, "retract") and len(usable) < optimizer.n_points:
            yield from record_flags(usable, taken, why)
            flagged.update(usable)
            ids = [points[n - 1] for n in usable]
            yield from off_loop(executor, partial(optimizer.retract, ids))

    def loop() -> Generator[Msg, Any, str]:
        yield from record_baseline(stm)
        if images is not None:
            record = StructureRecord(name="structure")
            yield from bps.mv(record.structure_images, np.asarray(images))
            yield from bps.create(name="structure")
            yield from bps.read(record)
            yield from bps.save()
        if watch is not None:
            yield from watch.begin()
        yield from bps.checkpoint()
        begin = time.monotonic()
        point, reason = yield from off_loop(executor, next_point)
        # The choice of the first point counts to the first spectrum, later ones to the spectrum
        # that they follow: the parts of a cycle then add up.
        deciding = time.monotonic() - begin
        taken = failures = 0
        yield from bps.checkpoint()
        duration = sts.check()
        while taken < _MOST * n_spectra:
            over = point is None or taken - len(flagged) >= n_spectra
            start = time.monotonic()
            doubts = yield from look_after(watch, references, taken, duration, over)
            for numbers, why in doubts:
                yield from take_back(numbers, taken, why)
            if over and doubts:
                point, reason = yield from off_loop(executor, next_point)
                continue
            if over or point is None:
                break
            yield from bps.mv(tip, (point["x"], point["y"]))
            yield from bps.trigger(sts, wait=True)
            instrument = time.monotonic() - start
            bias = yield from bps.rd(sts.bias)
            didv = yield from bps.rd(sts.didv)
            found = judge(np.asarray(bias), np.asarray(didv), window, own, components > 0)
            if found.failure and not hasattr(optimizer, "register_failures"):
                raise ValueError(
                    f"spectrum {taken + 1} cannot be used: {found.failure}; the optimizer, a "
                    f"{type(optimizer).__name__}, has no register_failures to go on without it"
                )
            failures = failures + 1 if found.failure else 0
            if found.failure:
                useless.add(taken + 1)
            yield from bps.mv(
                judged.figure_of_merit,
                found.value,
                judged.figure_of_merit_variance,
                found.variance,
            )
            yield from bps.create(name="primary")
            for device in (sts, tip, stm.z_controller, judged):
                yield from bps.read(device)
            yield from bps.save()
            taken += 1
            if references is not None:
                references.learn(taken, (point["x"], point["y"]), np.asarray(didv), found.value)
            points.append(point["_id"])
            yield from bps.checkpoint()
            yield from record_decision(decision, optimizer, point, taken)
            yield from bps.mv(decision.failure, found.failure)
            before = time.monotonic()
            spectrum = np.asarray(didv)
            point, reason = yield from off_loop(executor, partial(learn, point, found, spectrum))
            now = time.monotonic()
            yield from bps.mv(
                decision.seconds_deciding,
                deciding + now - before,
                decision.seconds_instrument,
                instrument,
                decision.seconds_cycle,
                now - begin,
            )
            begin, deciding = now, 0.0
            yield from bps.create(name="decisions")
            yield from bps.read(decision)
            yield from bps.save()
            # Directly after the event, so that going back never repeats it.
            yield from bps.checkpoint()
            if namer is not None:
                yield from record_classes(class_record, namer, optimizer, points, references)
            if failures == _FAILURES:
                raise RuntimeError(
                    f"{failures} spectra in a row cannot be used, the last because "
                    f"{found.failure}; look at the spectra of this run and at the instrument"
                )
        if namer is not None:
            yield from off_loop(executor, partial(namer.finish, _PATIENCE))
            yield from record_classes(class_record, namer, optimizer, points)
        if taken > len(useless) and hasattr(optimizer, "map_record"):
            yield from record_map(optimizer)
        yield from record_baseline(stm)
        return reason or f"{taken} spectra were taken"

    def closed() -> Generator[Msg, Any, None]:
        executor.shutdown(wait=False)
        if isinstance(classifier, str) and namer is not None:
            namer.close()
        if watch is not None:
            yield from watch.end()
        yield from bps.null()

    whole = staged() if namer is None else bpp.subs_wrapper(staged(), {"all": [namer]})
    return (yield from bpp.finalize_wrapper(whole, closed()))
