"""The embedded Tiled server: a process of its own over one catalog directory.

``python -m bluesky_gpsts.catalog.server DIR`` serves the catalog in DIR on the loopback
interface. The API key lies in a file that only its owner reads and is never on a command line,
where other users of the machine could see it. Nobody gets in without the key.
"""

import argparse
import asyncio
import http.client
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from .errors import CatalogError
from .layout import Layout, api_key, prepare, read_json, write_json
from .processes import end, last_line, spawn, watch_parent

HOST = "127.0.0.1"
KEY_VARIABLE = "TILED_SINGLE_USER_API_KEY"
# A cold start takes 10 s on two cores, and over a minute on a machine that is busy.
START_SECONDS = 180.0
# A server that is shutting down may need a moment to let go of the databases.
_HANDOVER_SECONDS = 60.0


def configuration(root: Path) -> dict[str, Any]:
    """Tiled configuration of an embedded catalog.

    Parameters
    ----------
    root : Path
        The catalog directory, absolute.

    Returns
    -------
    dict
        Runs in SQLite, tables in DuckDB, arrays in Zarr, external files read from ``h5``.
    """
    base = root.as_posix()
    return {
        "authentication": {"single_user_api_key": f"${{{KEY_VARIABLE}}}"},
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "uri": f"{base}/catalog.db",
                    # Tiled would start a process for it, with an import of its own; see `serve`.
                    "init_if_not_exists": False,
                    # The version tells clients that partial uids are looked up by LIKE.
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                    "writable_storage": [f"{base}/data", f"duckdb:///{base}/tables.duckdb"],
                    "readable_storage": [f"{base}/h5"],
                },
            }
        ],
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"
            }
        },
    }


def request(uri: str, key: str, path: str) -> int:
    """Ask a Tiled server for a page; no proxy is used.

    Parameters
    ----------
    uri : str
        Address of the server, such as ``http://127.0.0.1:8000``.
    key : str
        API key.
    path : str
        Path of the page, such as ``/healthz``.

    Returns
    -------
    int
        HTTP status; 0 if nobody answers within 5 s.
    """
    parts = urlsplit(uri)
    if parts.hostname is None:
        return 0
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5.0)
    try:
        connection.request("GET", path, headers={"Authorization": f"Apikey {key}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def serving(layout: Layout) -> str | None:
    """Address of the server that serves this very directory now.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    str or None
        The key is asked for, so another service on a reused port is not taken for ours.
    """
    uri = read_json(layout.server_file).get("uri")
    if not uri or not layout.key_file.exists():
        return None
    key = api_key(layout)
    ready = request(uri, key, "/healthz") == 200
    return uri if ready and request(uri, key, "/api/v1/metadata/") == 200 else None


@dataclass(frozen=True)
class Server:
    """A Tiled server that answers.

    Attributes
    ----------
    uri : str
        Its address.
    process : subprocess.Popen or None
        The process, if this call started it; the caller ends it with `end`.
    """

    uri: str
    process: subprocess.Popen[bytes] | None


def ensure_server(layout: Layout, timeout: float = START_SECONDS) -> Server:
    """Join the server of a catalog directory, or start one.

    Parameters
    ----------
    layout : Layout
    timeout : float
        Seconds to wait until it answers.

    Returns
    -------
    Server

    Raises
    ------
    CatalogError
        It does not start; the message names the log.
    """
    uri = serving(layout)
    if uri:
        return Server(uri, None)
    token = secrets.token_hex(8)
    log = layout.logs / "server.log"
    process = spawn(
        ["-m", f"{__package__}.server", str(layout.root), "--until-stdin-closes", "--token", token],
        log,
    )
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            uri = serving(layout)
            if uri and read_json(layout.server_file).get("token") == token:
                return Server(uri, process)
            if uri:
                # Another process started one at the same time and was first.
                end(process, 10.0)
                return Server(uri, None)
            if process.poll() is not None:
                raise CatalogError(
                    f"The catalog server of {layout.root} ended with code {process.returncode}: "
                    f"{last_line(log) or 'no message'} (see {log})."
                )
            time.sleep(0.1)
    except BaseException:
        end(process, 0.5)
        raise
    end(process, 0.5)
    raise CatalogError(
        f"The catalog server of {layout.root} did not answer within {timeout:g} s; see {log}."
    )


def _bind(previous: str | None) -> socket.socket:
    """Loopback socket, on the port of last time if it is free: then old clients still work."""
    for port in (urlsplit(previous).port if previous else None, 0):
        if port is None:
            continue
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            # Elsewhere this option would let two servers share a port.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            server.close()
            continue
        return server
    raise CatalogError(f"No free port on {HOST}; close some programs and try again.")


def _announce(layout: Layout, uri: str, key: str, token: str) -> None:
    while request(uri, key, "/healthz") != 200:
        time.sleep(0.05)
    write_json(layout.server_file, {"uri": uri, "pid": os.getpid(), "token": token})


def serve(directory: str | Path, *, until_stdin_closes: bool = False, token: str = "") -> None:
    """Serve a catalog directory until told to stop.

    Parameters
    ----------
    directory : str or Path
        The catalog directory.
    until_stdin_closes : bool
        Stop when standard input closes, which it does when the parent process dies.
    token : str
        Name of this start, written to ``server.json``.

    Raises
    ------
    CatalogError
        The directory cannot be written, or another server holds it for 60 s.
    """
    parent_gone = threading.Event()
    if until_stdin_closes:
        watch_parent(parent_gone)
    layout = prepare(directory)
    key = os.environ[KEY_VARIABLE] = api_key(layout)
    lock = FileLock(layout.lock("server"), thread_local=False)
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if parent_gone.wait(0.2):
                return
            if time.monotonic() > deadline:
                raise CatalogError(
                    f"Another server holds the catalog {layout.root}; end it, or join it by its "
                    f"address in {layout.server_file}."
                ) from error
    for name in ("data", "h5"):
        (layout.root / name).mkdir(exist_ok=True)

    import uvicorn
    import yaml
    from tiled.commandline._catalog import init
    from tiled.config import parse_configs
    from tiled.server.app import build_app_from_config

    config_file = layout.root / "config.yml"
    config_file.write_text(yaml.safe_dump(configuration(layout.root)), encoding="utf-8")
    init(f"sqlite:///{(layout.root / 'catalog.db').as_posix()}", if_not_exists=True)
    app = build_app_from_config(parse_configs(config_file))
    listener = _bind(read_json(layout.server_file).get("uri"))
    uri = f"http://{HOST}:{listener.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=5, log_level="warning")
    )
    threading.Thread(target=_announce, args=(layout, uri, key, token), daemon=True).start()
    asyncio.run(_run(server, listener, parent_gone))
    lock.release()


async def _run(server: Any, listener: socket.socket, parent_gone: threading.Event) -> None:
    import anyio.to_thread

    # Tiled 0.2.20 shares one DuckDB connection among its worker threads: a read beside an append
    # fails, rolls the append back, or ends the process. One worker thread takes them in turn.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not serving.done() and not parent_gone.is_set():
        await asyncio.sleep(0.1)
    server.should_exit = True
    await asyncio.wait_for(serving, 15.0)
    if not server.started:
        raise CatalogError("Tiled did not start; the reason stands above in this log.")


def main(arguments: list[str] | None = None) -> int:
    """Command line of the server.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of this process.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(description="Serve a catalog directory by Tiled.")
    parser.add_argument("directory", help="the catalog directory")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--token", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        serve(
            options.directory,
            until_stdin_closes=options.until_stdin_closes,
            token=options.token,
        )
    except CatalogError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    except Exception as error:
        # Whatever Tiled and its databases raise: the log keeps it, the parent shows the last line.
        traceback.print_exc()
        what = f"Tiled cannot open it ({type(error).__name__}); the reason stands above in the log"
        print(what, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
