"""The deliverer: hands journals to Tiled, outside the process that measures.

``python -m bluesky_gpsts.catalog.deliver DIR`` follows the journals of a catalog directory and
writes every run into the catalog exactly once. Runs under way go document by document, so that
a spectrum is readable at once; runs that have ended go in one batch. A run that is in the
catalog in part, because this process, the server or the session died, is deleted there and
written again whole. A run is compared with its journal before the journal counts as delivered.
"""

import argparse
import logging
import os
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import CatalogError
from .layout import prepare
from .place import Link, Place, locate
from .processes import watch_parent
from .runs import Deliverer, Outcome

logger = logging.getLogger("bluesky_gpsts.catalog.deliver")

_POLL_SECONDS = 0.1
# After the session has gone: what is not in the catalog by then waits for the next start.
_FAREWELL_SECONDS = 120.0


def deliver(place: Place, parent_gone: threading.Event) -> None:
    """Deliver until the parent has gone and what has ended is in the catalog.

    Parameters
    ----------
    place : Place
    parent_gone : threading.Event
        Set when the session that started this process has ended.

    Raises
    ------
    CatalogError
        The catalog cannot be opened at the start. Later the deliverer waits for it.
    """
    lock = FileLock(place.layout.lock("deliver"), thread_local=False)
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            # Another session delivers for this directory; take over when it ends.
            if parent_gone.wait(0.5):
                return
    link = Link(place)
    deliverer = Deliverer(place.layout, link)
    pause, last_call = _POLL_SECONDS, None
    try:
        # A server that cannot even start is for the user to mend: no retries.
        link.client()
        while True:
            if parent_gone.is_set() and last_call is None:
                # The dying session may need a moment to let go of its locks.
                time.sleep(0.5)
                last_call = time.monotonic() + _FAREWELL_SECONDS
            try:
                if link.lost():
                    deliverer.reset(f"The server of {place.name} has gone.")
                link.client()
                for outcome in deliverer.step():
                    logger.info("%s", outcome)
                pause = _POLL_SECONDS
            except CatalogError as error:
                deliverer.reset(str(error))
                pause = min(max(2 * pause, 0.5), 30.0)
                logger.warning("%s Next try in %.1f s.", error, pause)
            if last_call is not None:
                if not deliverer.pending() or time.monotonic() > last_call:
                    return
                time.sleep(pause)
            else:
                parent_gone.wait(pause)
    finally:
        link.close()
        lock.release()


def sync(
    where: str | Path | None = None, *, key: str | None = None, attempts: int = 3
) -> tuple[Outcome, ...]:
    """Put every journal of a catalog that is not there yet into it, now and in this process.

    Parameters
    ----------
    where : str or Path, optional
        The catalog, as for `open_catalog`.
    key : str, optional
        API key of a server elsewhere. Default: the environment variable TILED_API_KEY.
    attempts : int
        Tries per run before it is reported as failed.

    Returns
    -------
    tuple of Outcome
        What became of each journal; "live" for runs that a session is measuring.

    Raises
    ------
    CatalogError
        There is no catalog, the directory cannot be written, no server answers, or a session is
        delivering.
    """
    place = locate(where, key, create=False)
    lock = FileLock(place.layout.lock("deliver"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CatalogError(
            f"A session is delivering the catalog {place.name} already; "
            "leave it to that session, or end it first."
        ) from error
    link = Link(place)
    done: list[Outcome] = []
    try:
        deliverer = Deliverer(place.layout, link, follow=False)
        for attempt in range(attempts):
            if attempt:
                time.sleep(0.5 * attempt)
            try:
                link.client()
                done += deliverer.step(force=True)
            except CatalogError as error:
                deliverer.reset(str(error))
                if attempt == attempts - 1:
                    raise
            if not deliverer.pending():
                break
        return (*done, *deliverer.left_over())
    finally:
        link.close()
        lock.release()


def main(arguments: list[str] | None = None) -> int:
    """Command line of the deliverer.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of this process.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(
        description="Hand the journals of a catalog directory to Tiled until stdin closes."
    )
    parser.add_argument("directory", help="the catalog directory")
    parser.add_argument("--uri", help="address of a Tiled server elsewhere")
    parser.add_argument("--profile", help="name of a Tiled profile")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # We retry whole runs; a server that is away should be noticed within seconds.
    os.environ.setdefault("TILED_RETRY_ATTEMPTS", "3")
    parent_gone = threading.Event()
    watch_parent(parent_gone)
    try:
        place = Place(
            prepare(options.directory),
            uri=options.uri,
            profile=options.profile,
            key=os.environ.get("TILED_API_KEY"),
        )
        deliver(place, parent_gone)
    except CatalogError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
