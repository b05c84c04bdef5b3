"""The command ``gpsts``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bluesky_gpsts import __version__, cli_images, cli_library, cli_models, cli_safety
from bluesky_gpsts.cli_output import (
    check_apart,
    check_figure,
    check_output,
    number,
    whole,
    write_json,
)

__all__ = ["main"]


BENCHMARKS = (
    "acquisition",
    "classifier",
    "cube",
    "decode",
    "drift",
    "drift-map",
    "images",
    "latency",
    "map",
    "safety",
    "tip",
)


_FUNCTIONS = (
    "acquisition function: weighted (default), variance, covariance, shannon information gain, "
    "ucb, lcb, expected improvement, relative information entropy, total correlation, gradient, "
    "class, or one of your own as module:function, also of a module in the current folder"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpsts",
        description="Autonomous tunnelling spectroscopy on a Nanonis STM.",
    )
    parser.add_argument("--version", action="version", version=f"gpsts {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="map a simulated or recorded sample autonomously and report on it"
    )
    demo.add_argument(
        "--sample", default="ws2", help="ws2, au111, hsi100, or a Nanonis .3ds grid (default: ws2)"
    )
    demo.add_argument("--seed", default="0", help="whole number (default: 0)")
    demo.add_argument("--spectra", default="60", help="number of spectra (default: 60)")
    demo.add_argument("--acquisition", default="weighted", help=_FUNCTIONS)
    demo.add_argument(
        "--folder", type=Path, default=Path("demo"), help="for catalog and report (default: demo)"
    )
    demo.add_argument("--json", type=Path, help="write a summary to this file")

    sim = commands.add_parser("sim", help="run the simulator until Ctrl-C")
    sim.add_argument("--sample", default="ws2", help="ws2, au111, hsi100, or a Nanonis .3ds grid")
    sim.add_argument("--seed", default="0", help="whole number (default: 0)")
    sim.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    sim.add_argument(
        "--ports", default="6501,6502,6503,6504", help="comma-separated; 0 takes a free one"
    )
    sim.add_argument(
        "--time-scale", default="1", help="1 is real time, 0 as fast as possible (default: 1)"
    )
    sim.add_argument("--drift", default="1", help="times the reported one; 0 is none (default: 1)")
    sim.add_argument("--release", default="14718", help="protocol release (default: 14718)")
    sim.add_argument(
        "--error-style",
        choices=("native", "padded"),
        default="native",
        help="shape of error replies (default: native)",
    )

    catalog = commands.add_parser("catalog", help="look after a catalog")
    catalog.add_argument(
        "action",
        choices=("list", "sync", "serve", "profile"),
        help="list the runs; deliver what is still in the journal; serve until Ctrl-C; print a "
        "Tiled profile, which holds the API key",
    )
    catalog.add_argument("where", nargs="?", help="directory of the catalog (default: the user's)")
    catalog.add_argument("--json", type=Path, help="write the result to this file")

    report = commands.add_parser("report", help="write the report of a run, from the catalog")
    report.add_argument("uid", nargs="?", help="uid or its beginning (default: the latest map)")
    report.add_argument("--catalog", help="directory, Tiled URI or profile:NAME")
    report.add_argument("--folder", type=Path, help="where it goes (default: report-UID)")

    bench = commands.add_parser("bench", help="measure, beside what others do")
    bench.add_argument(
        "name",
        choices=BENCHMARKS,
        help="which benchmark",
    )
    bench.add_argument("--sample", help="for map: a .3ds grid (default: WS2 and Au(111))")
    both = bench.add_argument_group("for acquisition and classifier")
    both.add_argument("--seeds", help="seeds of each cell (default: 10, or 3; fewer if quick)")
    both.add_argument("--data", type=Path, help="folder of the real measurements")
    only = bench.add_argument_group("for acquisition")
    only.add_argument("--map", type=Path, help="a .3ds, .npy or WSxM ASCII map of your own")
    only.add_argument("--cases", help="maps to run, comma-separated (default: all)")
    only.add_argument("--strategies", help="strategies to run, comma-separated (default: all)")
    only.add_argument("--noise", help="only this fraction of the range: 0.03 or 0.1")
    only.add_argument(
        "--results", type=Path, help="keep single runs in this file, and go on from it"
    )
    only.add_argument(
        "--report-only", action="store_true", default=None, help="report on --results as it is"
    )
    only.add_argument("--figure", type=Path, help="draw the comparison to this PNG file")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions")
    bench.add_argument("--json", type=Path, help="write the table to this file")
    cli_models.add_commands(commands)
    cli_safety.add_commands(commands)
    cli_images.add_command(commands)
    cli_library.add_command(commands)
    return parser


def _demo(options: argparse.Namespace) -> int:
    check_output(options.json)
    seed = whole("--seed", options.seed)
    spectra = whole("--spectra", options.spectra)
    from bluesky_gpsts.demo import run_demo

    summary = run_demo(
        options.sample,
        seed=seed,
        n_spectra=spectra,
        acquisition=options.acquisition,
        folder=options.folder,
    )
    write_json(options.json, summary.as_dict())
    final = summary.correlations[-1] if summary.correlations else None
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in summary.seconds.items())
    print(f"Run          {summary.uid}")
    print(f"Catalog      {summary.catalog}")
    print(f"Report       {summary.report}")
    print(f"Spectra      {summary.spectra}")
    print(f"Time         {parts}; overhead {1e3 * summary.overhead:.0f} ms per spectrum (median)")
    print(f"Correlation  {'unknown' if final is None else f'{final:.3f}'} with the sample's truth")
    return 0


def _sim(options: argparse.Namespace) -> int:
    seed = whole("--seed", options.seed)
    ports = tuple(whole("--ports", port) for port in options.ports.split(","))
    if not all(0 <= port <= 65535 for port in ports):
        raise ValueError(f"--ports must lie in 0 to 65535, not {options.ports}")
    scale = number("--time-scale", options.time_scale)
    release = whole("--release", options.release)
    import threading

    from bluesky_gpsts.plans.checks import require_seed
    from bluesky_gpsts.simulator import Simulator

    require_seed(seed)
    with Simulator(
        options.sample,
        seed=seed,
        host=options.host,
        ports=ports,
        time_scale=scale,
        protocol_release=release,
        error_style=options.error_style,
        drift=number("--drift", options.drift),
    ) as simulator:
        listed = ", ".join(map(str, simulator.ports))
        print(f"{simulator.sample.name} on {simulator.host}, ports {listed}; Ctrl-C stops it")
        sys.stdout.flush()
        threading.Event().wait()
    return 0


def _catalog(options: argparse.Namespace) -> int:
    check_output(options.json)
    from bluesky_gpsts.catalog import open_catalog, sync

    if options.action == "sync":
        outcomes = sync(options.where)
        for outcome in outcomes:
            print(outcome)
        print(f"{len(outcomes)} runs were waiting in the journal")
        write_json(options.json, [str(outcome) for outcome in outcomes])
        return 0
    with open_catalog(options.where, create=options.action == "serve") as catalog:
        if options.action == "profile":
            print(catalog.profile("gpsts"), end="")
            print(
                "The profile holds the API key: keep it private. It works while a session is open "
                f"or 'gpsts catalog serve {catalog.path}' runs.",
                file=sys.stderr,
            )
            return 0
        if options.action == "serve":
            import threading

            print(f"{catalog.path} at {catalog.uri}; Ctrl-C stops it", flush=True)
            threading.Event().wait()
        rows = []
        for run in catalog.runs():
            start, stop = run.metadata["start"], run.metadata.get("stop") or {}
            rows.append(
                {
                    "uid": start["uid"],
                    "plan": start.get("plan_name", ""),
                    "sample": start.get("sample", ""),
                    "time": start["time"],
                    "status": stop.get("exit_status", "not finished"),
                }
            )
        for row in rows:
            print(f"{row['uid']}  {row['plan']:8}  {row['status']:12}  {row['sample']}")
        write_json(options.json, rows)
    return 0


def _report(options: argparse.Namespace) -> int:
    from bluesky_gpsts.analysis import write_report
    from bluesky_gpsts.catalog import find, open_catalog

    with open_catalog(options.catalog, create=False) as catalog:
        if options.uid is None:
            runs = find(catalog, plan_name="gp_sts")
            if not runs:
                raise ValueError(f"no map has been taken in {catalog.path} yet; run gp_sts first")
            run = runs[-1]
        else:
            run = catalog[options.uid]
        uid = run.metadata["start"]["uid"]
        print(write_report(catalog, uid, options.folder or Path(f"report-{uid[:8]}")))
    return 0


def _bench(options: argparse.Namespace) -> int:
    check_output(options.json)
    from importlib import import_module

    from bluesky_gpsts.benchmarks.table import table

    benchmark = import_module(f"bluesky_gpsts.benchmarks.{options.name.replace('-', '_')}")
    _check_options(options)
    seeds = None if options.seeds is None else whole("--seeds", options.seeds)
    if options.name == "map":
        result = benchmark.run(options.quick, options.sample)
    elif options.name == "acquisition":
        check_output(options.results)
        check_figure(options.figure)
        check_apart(json=options.json, results=options.results, figure=options.figure)
        result = benchmark.run(
            options.quick,
            cases=_listed(options.cases),
            strategies=_listed(options.strategies),
            seeds=seeds,
            noise=None if options.noise is None else number("--noise", options.noise),
            map_file=options.map,
            data=options.data,
            results=options.results,
            figure=options.figure,
            report_only=bool(options.report_only),
        )
        print(benchmark.text(result))
        write_json(options.json, result)
        return 0
    elif options.name == "tip":
        result = benchmark.run(options.quick, seeds=seeds)
    elif options.name == "classifier":
        chosen = {} if seeds is None else {"seeds": seeds}
        result = benchmark.run(options.quick, data=options.data, **chosen)
    else:
        result = benchmark.run(options.quick)
    print(table(result))
    for note in result.get("notes", ()):
        print(note)
    write_json(options.json, result)
    # What must never happen is an error; how good something is, is a measurement.
    harmed = options.name == "safety" and not all(row.get("met", True) for row in result["rows"])
    return 1 if harmed else 0


_ACQUISITION = ("acquisition",)
_OWNERS = {
    "sample": ("map",),
    "seeds": ("acquisition", "classifier", "tip"),
    "data": ("acquisition", "classifier"),
    "map": _ACQUISITION,
    "cases": _ACQUISITION,
    "strategies": _ACQUISITION,
    "noise": _ACQUISITION,
    "results": _ACQUISITION,
    "report_only": _ACQUISITION,
    "figure": _ACQUISITION,
}


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options of another benchmark, which would be ignored."""
    for option, owners in _OWNERS.items():
        if getattr(options, option) is not None and options.name not in owners:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is for the benchmark {owners[0]!r}, not {options.name!r}")


def _listed(text: str | None) -> tuple[str, ...] | None:
    """Names between commas; None for None."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


_COMMANDS = {
    "demo": _demo,
    "sim": _sim,
    "catalog": _catalog,
    "report": _report,
    "bench": _bench,
    **cli_models.COMMANDS,
    **cli_safety.COMMANDS,
    "images": cli_images.look,
    "library": cli_library.run_library,
}


def _sentence(error: BaseException) -> str:
    """What went wrong, in one sentence; a failed status carries the reason as its cause."""
    from bluesky.utils import FailedStatus

    while isinstance(error, FailedStatus) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join((text or type(error).__name__).split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    0 is success, 1 an error that is told in one sentence, 2 a wrong command line, 130 Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        # The installed command looks in its own folder instead; last, so that nothing is shadowed.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("gpsts: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What reads the output has closed it, as `head` does: there is nobody to tell. (Connections
        # raise errors of their own.)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GPSTS_DEBUG"):
            raise
        import httpx
        from bluesky.utils import FailedStatus

        from bluesky_gpsts.catalog import CatalogError, JournalError
        from bluesky_gpsts.nanonis import NanonisError

        expected = (
            ValueError,
            OSError,
            LookupError,
            RuntimeError,
            FailedStatus,
            httpx.HTTPError,
            CatalogError,
            JournalError,
            NanonisError,
        )
        if not isinstance(error, expected):
            raise
        print(f"gpsts: {_sentence(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
