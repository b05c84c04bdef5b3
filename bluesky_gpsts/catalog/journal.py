"""The journal: every document on disk, with a checksum, before the next spectrum starts."""

import os
import re
import threading
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import CatalogError, JournalError
from .records import MAGIC, encode, iter_records, read_records

__all__ = ["Journal", "append_record", "iter_records", "read_records", "run_lock"]

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
# What a spectrum depends on must outlive a power cut; the others are followed by one of these.
_SYNCED = frozenset({"start", "event", "event_page", "stop"})


def run_lock(journal: Path) -> FileLock:
    """Return the lock that a session holds while the run of this journal is under way.

    Parameters
    ----------
    journal : Path

    Returns
    -------
    filelock.FileLock
        Not acquired. The operating system frees it when its holder dies.
    """
    return FileLock(journal.with_suffix(".lock"), thread_local=False)


def append_record(path: Path, offset: int, name: str, doc: Mapping[str, Any]) -> None:
    """Append a record after the last intact one, cutting off a torn end.

    Parameters
    ----------
    path : Path
        A journal that nobody else writes (its `run_lock` is held by the caller).
    offset : int
        `end` of the last intact record, in bytes.
    name : str
    doc : mapping
    """
    with path.open("r+b") as stream:
        stream.truncate(offset)
        stream.seek(offset)
        stream.write(encode(name, doc))
        stream.flush()
        os.fsync(stream.fileno())


class _Run:
    """The open journal of a run under way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = run_lock(path)
        try:
            self.lock.acquire(timeout=0)
            # Unbuffered: after a failed write nothing lingers that a later flush would add.
            self.file: FileIO = path.open("xb", buffering=0)
        except (OSError, Timeout) as error:
            self.lock.release()
            raise JournalError(
                f"The journal {path} cannot be created ({error}); a run is written once only, "
                "into a writable folder.",
                path,
            ) from error
        self.size = 0
        self.write(MAGIC)

    def write(self, data: bytes, sync: bool = False) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
            if sync:
                os.fsync(self.file.fileno())
        except OSError as error:
            self.file.truncate(self.size)
            self.file.seek(self.size)
            raise JournalError(
                f"The journal {self.path} cannot be written ({error.strerror or error}); "
                "free space on that disk before measuring on.",
                self.path,
                self.size,
            ) from error
        self.size += len(data)

    def close(self) -> None:
        self.file.close()
        self.lock.release()


class Journal:
    """Bluesky callback that writes every document of every run to disk at once.

    Subscribe it to a RunEngine: ``RE.subscribe(journal)``. Runs may be nested or interleaved.

    Parameters
    ----------
    directory : str or Path
        Folder of the journals, ``<uid>.journal``; created if missing.

    Attributes
    ----------
    directory : Path
    seconds : float
        Time spent in this callback so far, in s.
    ended : str
        Uid of the run that ended last; empty if none has.

    Raises
    ------
    CatalogError
        The directory cannot be created.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.seconds = 0.0
        self.ended = ""
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        # Descriptors, resources and stream resources -> uid of their run.
        self._owners: dict[str, str] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CatalogError(
                f"The journal directory {self.directory} cannot be created "
                f"({error.strerror or error}); name a writable one."
            ) from error

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Write one document.

        Parameters
        ----------
        name : str
            Kind of the document.
        doc : mapping
            The document.

        Raises
        ------
        JournalError
            It cannot be written, or belongs to a run whose start was not seen.
        """
        began = time.perf_counter()
        # Callbacks that work beside the RunEngine file runs of their own from their own threads.
        with self._lock:
            try:
                self._write(str(name), doc)
            finally:
                self.seconds += time.perf_counter() - began

    def _write(self, name: str, doc: Mapping[str, Any]) -> None:
        uid = self._run_of(name, doc)
        try:
            data = encode(name, doc)
        except (TypeError, ValueError, OverflowError) as error:
            raise JournalError(
                f"The {name} document of run {uid} cannot be journaled: {error}; "
                "use numbers, text, lists, dictionaries and numeric arrays.",
                self.directory / f"{uid}.journal",
            ) from error
        if name == "start":
            self._runs[uid] = _Run(self.directory / f"{uid}.journal")
        try:
            self._runs[uid].write(data, sync=name in _SYNCED)
        except JournalError:
            # Without its start document the run cannot be continued.
            if name in ("start", "stop"):
                self._forget(uid)
            raise
        if name == "stop":
            self._forget(uid)
            self.ended = uid

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        if name == "start":
            uid = str(doc.get("uid", ""))
            if not _UID.fullmatch(uid):
                raise JournalError(
                    f"The run uid {uid!r} cannot name a file; use letters, digits and hyphens.",
                    self.directory,
                )
            return uid
        for field in ("run_start", "descriptor", "stream_resource", "resource"):
            if field in doc:
                uid = doc[field] if field == "run_start" else self._owners.get(doc[field], "")
                if uid in self._runs:
                    if "uid" in doc and name in ("descriptor", "resource", "stream_resource"):
                        self._owners[doc["uid"]] = uid
                    return str(uid)
        raise JournalError(
            f"A {name} document came for a run that this journal has not seen start; "
            "subscribe the journal before the run.",
            self.directory,
        )

    def _forget(self, uid: str) -> None:
        self._runs.pop(uid).close()
        self._owners = {key: owner for key, owner in self._owners.items() if owner != uid}

    def close(self) -> None:
        """Close the journals of runs that did not stop; they count as broken off from now on."""
        for uid in list(self._runs):
            self._forget(uid)
