"""Open a catalog: the embedded one, or any Tiled server."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import CatalogError
from .journal import Journal
from .layout import api_key, read_json
from .place import CLIENT_KEY_VARIABLE, Link, Place, locate
from .processes import end, last_line, spawn
from .server import START_SECONDS, serving

logger = logging.getLogger(__name__)


class Catalog:
    """A catalog that is open: a journal to write to, a Tiled client to read with.

    Use it as a context manager, or call `close`. Made by `open_catalog`.

    Parameters
    ----------
    place : Place
        Which catalog.
    deliver : bool
        Whether to start a deliverer, which hands journaled runs to Tiled.

    Attributes
    ----------
    path : Path
        The catalog directory; for a server elsewhere, the folder of its journals and logs.
    journal : Journal
        Subscribe it: ``RE.subscribe(catalog.journal)``.
    """

    def __init__(self, place: Place, deliver: bool = True) -> None:
        self.place = place
        self.path: Path = place.layout.root
        self.journal = Journal(place.layout.journals)
        self._link = Link(place)
        self._deliver = deliver
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None
        try:
            if deliver:
                self._start_deliverer()
                self._await_server(starting=True)
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
            self._connect()
        except BaseException:
            self.close(timeout=1.0)
            raise

    def __enter__(self) -> "Catalog":
        """Return the catalog itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the catalog."""
        self.close()

    def __repr__(self) -> str:
        return f"<Catalog {self.place.name}>"

    @property
    def client(self) -> Any:
        """Tiled client of the container of runs, sorted by start time where it is ours.

        ``client[-1]`` is the latest run, ``client[uid]`` the run of that uid. If the embedded
        server has gone, it is started again, which takes some 10 s.
        """
        return self._connect()

    @property
    def uri(self) -> str | None:
        """Address of the Tiled server; None for a profile."""
        if self.place.embedded:
            return serving(self.place.layout)
        return self.place.uri

    def profile(self, name: str) -> str:
        """Tiled profile by which other programs, such as databroker, open this catalog.

        Parameters
        ----------
        name : str
            Name of the profile.

        Returns
        -------
        str
            YAML for a file in a Tiled profile directory. It holds the API key: keep it private.

        Raises
        ------
        CatalogError
            The catalog was opened by a profile already, or no server answers.
        """
        import yaml

        uri = self.uri
        if uri is None:
            raise CatalogError(f"The catalog {self.place.name} has no address to put in a profile.")
        key = api_key(self.place.layout) if self.place.embedded else self.place.key
        # A profile has no field for a key; Tiled takes it from the address.
        return yaml.safe_dump({name: {"uri": f"{uri}?api_key={key}" if key else uri}})

    def _connect(self) -> Any:
        layout = self.place.layout
        if self._closing.is_set():
            raise CatalogError(f"The catalog {self.place.name} is closed; open it again.")
        if self.place.embedded and serving(layout) is None:
            self._link.drop()
            if self._deliver:
                self._await_server()
        client = self._link.client()
        return client.sort(("start.time", 1)) if self.place.embedded else client

    def _await_server(self, starting: bool = False) -> None:
        """Wait for the server that the deliverer starts."""
        layout = self.place.layout
        deadline = time.monotonic() + START_SECONDS
        while self.place.embedded and serving(layout) is None:
            log = layout.logs / "deliver.log"
            if starting and self._process is not None and self._process.poll() is not None:
                raise CatalogError(last_line(log) or f"The deliverer ended at once; see {log}.")
            if time.monotonic() > deadline:
                raise CatalogError(
                    f"The server of the catalog {layout.root} does not answer; see {layout.logs}."
                )
            time.sleep(0.1)

    def _start_deliverer(self) -> None:
        place = self.place
        arguments = ["-m", f"{__package__}.deliver", str(place.layout.root)]
        if place.uri is not None:
            arguments += ["--uri", place.uri]
        if place.profile is not None:
            arguments += ["--profile", place.profile]
        key = {CLIENT_KEY_VARIABLE: place.key} if place.key else {}
        self._process = spawn(arguments, place.layout.logs / "deliver.log", key)

    def _watch(self) -> None:
        """Start the deliverer again if something ends it."""
        pause = 1.0
        while not self._closing.wait(pause):
            if self._process is None or self._process.poll() is None:
                continue
            logger.warning(
                "the deliverer of %s ended with code %s and is started again",
                self.path,
                self._process.returncode,
            )
            pause = min(2 * pause, 30.0)
            self._start_deliverer()

    def __getitem__(self, key: Any) -> Any:
        """Find a run.

        Parameters
        ----------
        key : str or int
            A uid or its first characters (five at least), a negative number counting from the
            latest run, or a positive scan_id. The run that this session ended last is waited for.

        Returns
        -------
        tiled.client.container.Container

        Raises
        ------
        KeyError
            There is no such run, or more than one.
        CatalogError
            The latest run does not reach the catalog within a minute.
        """
        if self._deliver and self.journal.ended:
            self.wait_delivered(self.journal.ended)
        client = self.client
        if isinstance(key, str):
            return _by_uid(client, key, self.place.name)
        if isinstance(key, int) and key < 0:
            if -key > len(client):
                raise KeyError(f"There are {len(client)} runs, so none is number {key}.")
            return client.values()[key]
        return client[key]

    def __iter__(self) -> Iterator[str]:
        """Uids of all runs, oldest first."""
        return iter(self.client)

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.client)

    def runs(self) -> list[Any]:
        """All runs, oldest first."""
        return list(self.client.values())

    def wait_delivered(
        self,
        uid: str,
        timeout: float = 60.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Wait until a run that has ended is completely in the catalog.

        Parameters
        ----------
        uid : str
            The run, as returned by the RunEngine.
        timeout : float
            Seconds to wait.
        progress : callable, optional
            Called with the bytes delivered and the bytes in the journal, some times a second.

        Raises
        ------
        CatalogError
            It is not there in time; the message gives the last trouble. Or the journal is
            damaged, or no such run was journaled here.
        """
        layout, deadline = self.place.layout, time.monotonic() + timeout
        name = f"{uid}.journal"
        while True:
            if (layout.delivered / name).exists():
                if progress is not None:
                    size = (layout.delivered / name).stat().st_size
                    progress(size, size)
                return
            if (layout.damaged / name).exists():
                raise CatalogError(
                    f"The journal of run {uid} is damaged; what could be read is in the catalog. "
                    f"See {layout.damaged / name}."
                )
            state = read_json(layout.progress_file)
            if progress is not None and uid in state.get("runs", {}):
                done, size = state["runs"][uid]
                progress(done, size)
            if not (layout.journals / name).exists() and not (layout.delivered / name).exists():
                raise CatalogError(f"Run {uid} was not journaled in {layout.journals}.")
            if time.monotonic() > deadline:
                trouble = state.get("troubles", {}).get(uid) or state.get("trouble")
                raise CatalogError(
                    f"Run {uid} is not in the catalog {self.place.name} after {timeout:g} s"
                    f"{f': {trouble}' if trouble else ''}. It is safe in {layout.journals / name}; "
                    "the next start delivers it."
                )
            time.sleep(0.05)

    def close(self, timeout: float = 150.0) -> None:
        """Deliver what has ended, and stop what this catalog started. May be called twice.

        Parameters
        ----------
        timeout : float
            Seconds to wait for the deliverer before it is killed.
        """
        self._closing.set()
        self.journal.close()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join()
        self._watcher = None
        if self._process is not None:
            end(self._process, timeout)
        self._process = None
        self._link.close()


def _by_uid(client: Any, uid: str, place: str) -> Any:
    from tiled.queries import Like

    if len(uid) >= 36:
        try:
            return client[uid]
        except KeyError:
            raise KeyError(f"No run has the uid {uid!r} in the catalog {place}.") from None
    if len(uid) < 5:
        raise KeyError(f"{uid!r} is too short for a uid; give five characters or more.")
    found = client.search(Like("start.uid", f"{uid}%")).values().head(2)
    if len(found) == 1:
        return found[0]
    what = "More than one run has" if found else "No run has"
    raise KeyError(f"{what} a uid that begins with {uid!r} in the catalog {place}.")


def open_catalog(
    where: str | Path | None = None,
    *,
    deliver: bool = True,
    key: str | None = None,
    create: bool = True,
) -> Catalog:
    """Open a catalog, starting its server if it is an embedded one that nobody serves yet.

    Parameters
    ----------
    where : str or Path, optional
        A directory (embedded catalog), the address of a Tiled server (``http://...``), or
        ``profile:NAME``. Default: the directory in the environment variable
        BLUESKY_GPSTS_CATALOG, else one in the user's data folder.
    deliver : bool
        Whether to hand journaled runs to Tiled. False to read only.
    key : str, optional
        API key of a server elsewhere. Default: the environment variable TILED_API_KEY.
    create : bool
        Whether a directory without a catalog becomes a new one. False where a mistyped path
        must not.

    Returns
    -------
    Catalog

    Raises
    ------
    CatalogError
        The directory cannot be written (nothing has been started then), holds no catalog and
        `create` is False (nothing has been made then), or the server does not start or cannot
        be reached.
    """
    return Catalog(locate(where, key, create=create), deliver=deliver)
