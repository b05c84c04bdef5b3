"""Helper processes that live as long as the pipe to their standard input."""

import os
import subprocess
import sys
import threading
from pathlib import Path


def spawn(
    arguments: list[str], log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a helper process that lives until its standard input closes.

    Parameters
    ----------
    arguments : list of str
        Arguments of the Python interpreter.
    log : Path
        File that its output is appended to.
    environment : dict, optional
        Variables to set beside those of this process.

    Returns
    -------
    subprocess.Popen
        Its `stdin` is the pipe that keeps it alive. Ctrl-C in the terminal does not reach it.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def end(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Close a helper's standard input, wait, and kill it only if it does not end.

    Parameters
    ----------
    process : subprocess.Popen
        From `spawn`.
    timeout : float
        Seconds to wait.
    """
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # It is gone already.
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """Last line with text of a log file.

    Parameters
    ----------
    log : Path

    Returns
    -------
    str
        Empty if there is none.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def watch_parent(gone: threading.Event) -> None:
    """Set an event when the standard input of this process closes: its parent has ended.

    Parameters
    ----------
    gone : threading.Event
    """

    def watch() -> None:
        # os.read, because a reader blocked in a buffered stream upsets interpreter shutdown.
        while os.read(0, 1024):
            pass
        gone.set()

    threading.Thread(target=watch, daemon=True).start()
