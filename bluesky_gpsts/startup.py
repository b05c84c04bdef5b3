"""One place that builds a session: RunEngine, microscope, catalog and callbacks.

Scripts, IPython, Jupyter and the queue server all start here.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from bluesky import RunEngine

    from bluesky_gpsts.callbacks import FindDefects
    from bluesky_gpsts.catalog import Catalog
    from bluesky_gpsts.devices import Limits, NanonisSTM
    from bluesky_gpsts.devices.gate import Mode

__all__ = ["Session", "start", "start_from_environment"]

logger = logging.getLogger(__name__)

FAST = 0.05
_LAST_SECONDS = 15.0


@dataclass
class Session:
    """Everything that a session works with; `close` stops what it started.

    Attributes
    ----------
    RE : bluesky.RunEngine
        The RunEngine; every document goes to the catalog's journal first.
    stm : NanonisSTM
        The microscope, connected.
    catalog : Catalog
        The catalog, open.
    description : str
        Lines that say what is there.
    surface : FindDefects or None
        What reads survey images, where it was asked for.
    """

    RE: "RunEngine"
    stm: "NanonisSTM"
    catalog: "Catalog"
    description: str
    _stack: ExitStack = field(repr=False)
    surface: "FindDefects | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Deliver what is written, disconnect, and stop simulator and catalog.

        A plan that is paused is aborted first: its run is closed, and the settings put back.
        """
        try:
            if self.RE.state == "paused":
                self.RE.abort("the session was closed")
        finally:
            self._stack.close()


def start(
    *,
    host: str | None = None,
    ports: "tuple[int, ...] | str" = (6501, 6502, 6503, 6504),
    limits: "Limits | str | Path | None" = None,
    mode: "Mode" = "normal",
    sample: str = "ws2",
    seed: int = 0,
    time_scale: float = FAST,
    catalog: str | Path | None = None,
    table: bool = False,
    live: bool = False,
    surface: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Session:
    """Start a session on a controller, or on a simulator of its own.

    Parameters
    ----------
    host : str, optional
        Computer of the controller; None starts a simulator in a process of its own.
    ports : tuple of int
        Ports of the controller; text has them between commas.
    limits : Limits, str or Path, optional
        What the instrument may be told to do, or the TOML file that says so; required for a host
        that is not loopback. ``gpsts limits`` prints a file to start from.
    mode : {"normal", "read_only", "dry_run"}
        "read_only" refuses everything that would change something; "dry_run" checks it, enters it
        in the audit log, and does not send it: plans are rehearsed, and no run is filed (see
        `bluesky_gpsts.plans.rehearse`). What stops something or withdraws the tip is sent in every
        mode; neither of the two withdraws it by itself.
    sample, seed, time_scale
        For the simulator: what it holds, its seed, wall-clock seconds per simulated second.
    catalog : str or Path, optional
        Directory, Tiled URI or ``profile:NAME``; see `bluesky_gpsts.catalog.open_catalog`.
    table : bool
        Show a table of the events while a plan runs.
    live : bool
        Show the map and the spectra while a plan runs.
    surface : bool
        Read every survey image as one of H-Si(100), and file terraces, atoms and defects as a run
        beside it; `bluesky_gpsts.plans.find_targets` takes `Session.surface`. The catalog's
        library names the defects; one that cannot be read is left out, with a warning.
    tell : callable
        Gets a sentence about each step, since a start takes some seconds.

    Raises
    ------
    NanonisError, CatalogError, ValueError, OSError
        With one sentence that says what was wrong; nothing keeps running then.
    """
    from bluesky_gpsts.catalog import open_catalog
    from bluesky_gpsts.devices import Limits, NanonisSTM, Watchdog
    from bluesky_gpsts.devices.gate import known_mode
    from bluesky_gpsts.devices.link import known_ports
    from bluesky_gpsts.devices.stm import limits_for
    from bluesky_gpsts.plans.checks import require_positive, require_seed
    from bluesky_gpsts.plans.engine import SessionEngine
    from bluesky_gpsts.plans.safety import abort_on_alarm, guard

    # Before anything is started.
    if host is not None and not (isinstance(host, str) and host.strip()):
        raise ValueError(
            f"host must be a name or an address, or None for a simulator, not {host!r}"
        )
    mode, ports = known_mode(mode), known_ports(ports)
    known = Limits.load(limits) if isinstance(limits, str | Path) else limits
    known = limits_for(host or "127.0.0.1", known)
    if host is None:
        seed = require_seed(seed)
        time_scale = require_positive("time_scale", time_scale, "s per simulated s", or_zero=True)
        from bluesky_gpsts.simulator.samples import recorded_grid

        recorded_grid(sample)
    with ExitStack() as started:
        tell("Starting the catalog")
        opened = started.enter_context(open_catalog(catalog))
        if host is None:
            from bluesky_gpsts.simulator import start_process

            tell("Starting the simulator")
            simulator = start_process(sample, seed=seed, time_scale=time_scale)
            started.enter_context(simulator)
            address, ports = simulator.host, simulator.ports
            what = f"simulated, sample {Path(sample).name}, seed {seed}, time scale {time_scale:g}"
        else:
            address, what = host, f"at {host}"
        stm = NanonisSTM(
            host=address, ports=ports, limits=known, mode=mode, audit=_audit_log(opened)
        ).connect()
        started.callback(stm.disconnect)
        if host is None and limits is None:
            _allow_own_junction(stm)
        engine = SessionEngine(stm.gate)
        watchdog = started.enter_context(Watchdog(stm, abort_on_alarm(engine)))
        engine.preprocessors.append(guard(stm, watchdog))
        engine.md["versions"] = {**engine.md.get("versions", {}), **_versions()}
        if mode != "normal":
            # Whoever reads the run must know that it could only look on.
            engine.md["mode"] = mode
        engine.md["sample"] = Path(sample).name if host is None else ""
        if host is None:
            engine.md["simulation"] = {"sample": sample, "seed": seed}
        # The journal comes first: what is shown must already be safe.
        engine.subscribe(opened.journal)
        if table:
            from bluesky.callbacks.best_effort import BestEffortCallback

            best_effort = BestEffortCallback()
            best_effort.disable_plots()
            best_effort.disable_baseline()
            engine.subscribe(best_effort)
        if live:
            from bluesky_gpsts.callbacks import LiveMap

            engine.subscribe(LiveMap())
        _withdraw_when_terminated(stm, engine, started)
        finder = None
        if surface:
            finder = _finder(opened)
            started.callback(finder.close)
            engine.subscribe(finder)
        # From here on the session closes it all; an error before has done so already.
        stack = started.pop_all()
    description = "\n".join(
        [
            f"stm      the microscope ({what})",
            f"catalog  the runs in {opened.path}; catalog[-1] is the latest",
            "RE       the RunEngine: RE(survey(stm)), RE(gp_sts(stm))",
            f"stop     gpsts stop --host {address} --ports {','.join(map(str, ports))}, anywhere",
        ]
    )
    if finder is not None:
        description += "\nsurface  what reads survey images: yield from find_targets(stm, surface)"
    return Session(engine, stm, opened, description, stack, finder)


def _finder(catalog: "Catalog") -> "FindDefects":
    """What reads survey images; the catalog's own library names defects, where it can be read."""
    from bluesky_gpsts.callbacks import FindDefects
    from bluesky_gpsts.images.library import Library, LibraryError

    folder = Path(catalog.path) / Library.FOLDER
    namer = None
    if Library.exists(folder):
        try:
            namer = Library.read(folder).classifier()
        except LibraryError as error:
            # Defects can be named without it, and the microscope may be needed now.
            logger.warning(
                "the library %s names nothing in this session, which has the built-in classes "
                "instead: %s; then start the session anew",
                Library.file(folder),
                error,
            )
    return FindDefects(catalog.journal, namer=namer)


def _withdraw_when_terminated(stm: "NanonisSTM", engine: "RunEngine", stack: ExitStack) -> None:
    """When the process is told to end during a plan, withdraw the tip and close the run first."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what becomes of a signal.
        return
    from bluesky_gpsts.plans.safety import abort_on_alarm

    # A terminal that is closed and a connection that is lost are told by SIGHUP, which not every
    # platform has.
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Whoever lets a session outlive its terminal (nohup) has SIGHUP ignored.
    before = {n: signal.getsignal(n) for n in known if signal.getsignal(n) != signal.SIG_IGN}
    reason = "the session was told to end"

    def halt() -> None:
        try:
            stm.emergency_stop(reason)
        finally:
            abort_on_alarm(engine)(reason)

    def put_back() -> None:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)

    def terminated(number: int, _: object) -> None:
        # A second one ends the process at once.
        put_back()
        if engine.state != "idle":
            # In a thread of its own: the signal may have come in the middle of anything.
            last = time.monotonic() + _LAST_SECONDS
            stop = threading.Thread(target=halt, daemon=True)
            stop.start()
            stop.join(_LAST_SECONDS)
            if engine.state == "paused":
                try:
                    engine.abort(reason)
                except Exception as error:
                    # The plan's own clean-up is refused after the alarm, and says so here.
                    logger.warning("the plan ended with: %s", error)
            while engine.state != "idle" and time.monotonic() < last:
                time.sleep(0.05)
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, terminated)
    stack.callback(put_back)


def _allow_own_junction(stm: "NanonisSTM") -> None:
    """Let a simulated sample be scanned at its own bias and setpoint.

    The simulator's limits are for semiconductors; a recorded grid may come from a metal.
    """
    own = 2.0 * stm.z_controller.setpoint.get() / abs(stm.bias.get())
    known = stm.instrument_limits
    if own > known.conductance:
        stm.instrument_limits = stm.gate.limits = replace(known, conductance=own)


def start_from_environment(*, table: bool = True, live: bool = True) -> Session:
    """Start a session as the environment says.

    Variables: ``GPSTS_HOST``, ``GPSTS_PORTS`` (comma-separated) and ``GPSTS_LIMITS`` (the
    instrument's TOML file) for a controller, and ``GPSTS_MODE`` to read only; else
    ``GPSTS_SAMPLE``, ``GPSTS_SEED`` and ``GPSTS_TIME_SCALE`` for the simulator;
    ``GPSTS_SURFACE`` is 1 to read survey images, 0 (or empty, or unset) not to;
    ``BLUESKY_GPSTS_CATALOG`` for the catalog's directory.

    Raises
    ------
    ValueError
        If a number, the mode, the file of limits or ``GPSTS_SURFACE`` is malformed.
    """
    environment = os.environ
    surface = environment.get("GPSTS_SURFACE", "")
    if surface not in ("", "0", "1"):
        raise ValueError(
            f"GPSTS_SURFACE is {surface!r}; give 1 to read survey images, or 0 (or leave it out) "
            "not to"
        )
    ports = environment.get("GPSTS_PORTS", "6501,6502,6503,6504")
    return start(
        host=environment.get("GPSTS_HOST"),
        limits=environment.get("GPSTS_LIMITS"),
        mode=cast("Mode", environment.get("GPSTS_MODE", "normal")),
        ports=ports,
        sample=environment.get("GPSTS_SAMPLE", "ws2"),
        seed=int(environment.get("GPSTS_SEED", "0")),
        time_scale=float(environment.get("GPSTS_TIME_SCALE", str(FAST))),
        table=table,
        live=live,
        surface=surface == "1",
        tell=lambda text: print(f"{text} ..."),
    )


def _audit_log(catalog: "Catalog") -> Path:
    """File for the log of every write: beside the catalog's journal, or the user's own."""
    folder = Path(catalog.path)
    return folder / "audit.jsonl"


def _versions() -> dict[str, Any]:
    """Versions of what decides about the data."""
    from importlib.metadata import version

    names = ("bluesky-gpsts", "bluesky", "ophyd", "gpcam", "fvgp", "numpy", "scipy", "tiled")
    return {name: version(name) for name in names}
