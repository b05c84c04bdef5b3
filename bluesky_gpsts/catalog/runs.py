"""One pass over the journals of a catalog directory: from journal to Tiled, run by run."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from filelock import Timeout

from .contents import closing_document, contents_of, differences, run_of
from .errors import CatalogError
from .journal import append_record, iter_records, run_lock
from .layout import Layout, write_json
from .place import Link
from .writing import BATCH, RunWriter

logger = logging.getLogger("bluesky_gpsts.catalog.deliver")

BROKEN_OFF = "the session ended before the run did"


@dataclass(frozen=True)
class Outcome:
    """What became of a journal.

    Attributes
    ----------
    uid : str
        Run.
    action : str
        "written", "rewritten" (an incomplete copy was replaced), "present" (it was there
        already), "damaged" (what could be read was written), "live" (a session is measuring
        it) or "failed".
    detail : str
        Why, for the last three.
    """

    uid: str
    action: str
    detail: str = ""

    def __str__(self) -> str:
        return f"run {self.uid}: {self.action}" + (f" ({self.detail})" if self.detail else "")


@dataclass
class _Run:
    path: Path
    offset: int = 0
    size: int = 0
    writer: RunWriter | None = None
    replaced: bool = False
    # Set when following the run failed for a reason of its own: wait for its end.
    wait_for_end: bool = False
    tries: int = 0
    next_try: float = 0.0
    trouble: str = ""

    @property
    def uid(self) -> str:
        return self.path.stem

    def restart(self) -> None:
        self.offset, self.writer = 0, None


class Deliverer:
    """Brings the journals of a directory into a catalog.

    Parameters
    ----------
    layout : Layout
        Where the journals are.
    link : Link
        Connection to the catalog.
    follow : bool
        Whether to write runs that are under way, too.
    """

    def __init__(self, layout: Layout, link: Link, *, follow: bool = True) -> None:
        self._layout = layout
        self._link = link
        self._follow = follow
        self._runs: dict[str, _Run] = {}
        self._trouble = ""

    def _found(self) -> Iterator[_Run]:
        paths = {path.stem: path for path in self._layout.journals.glob("*.journal")}
        self._runs = {uid: run for uid, run in self._runs.items() if uid in paths}
        for uid, path in paths.items():
            self._runs.setdefault(uid, _Run(path))
        # Runs that are being followed first: somebody is watching them.
        yield from sorted(self._runs.values(), key=lambda run: (run.writer is None, run.uid))

    def step(self, *, force: bool = False) -> list[Outcome]:
        """Write what there is to write.

        Parameters
        ----------
        force : bool
            Try runs that failed before without waiting for their turn.

        Returns
        -------
        list of Outcome
            Journals that are done with.

        Raises
        ------
        CatalogError
            The server is away. Call `reset` before the next step.
        """
        import httpx

        outcomes = []
        for run in self._found():
            if time.monotonic() < run.next_try and not force:
                continue
            try:
                outcome = self._advance(run)
            except httpx.TransportError as error:
                raise CatalogError(
                    f"The catalog {self._link.place.name} does not answer ({error!r})."
                ) from error
            except Exception as error:
                # One run that cannot be written must not hold up the others.
                logger.exception("run %s cannot be written", run.uid)
                run.restart()
                run.wait_for_end = True
                run.tries += 1
                run.next_try = time.monotonic() + min(2.0**run.tries, 300.0)
                run.trouble = f"{type(error).__name__}: {error}"
                self._report()
                continue
            if outcome is not None:
                outcomes.append(outcome)
                self._runs.pop(run.uid, None)
                self._report()
        return outcomes

    def reset(self, trouble: str) -> None:
        """Forget what was written of runs under way, after the server was lost.

        Parameters
        ----------
        trouble : str
            What happened, for those who wait.
        """
        self._link.drop()
        self._trouble = trouble
        for run in self._runs.values():
            run.restart()
        self._report()

    def pending(self) -> list[str]:
        """Uids of the runs that have ended and are not completely in the catalog."""
        return [run.uid for run in self._found() if self._ended(run)]

    def left_over(self) -> list[Outcome]:
        """Report the journals that are still to be done: live ones and failed ones."""
        return [
            Outcome(run.uid, "failed", run.trouble)
            if self._ended(run)
            else Outcome(run.uid, "live", "a session is measuring it")
            for run in self._found()
        ]

    def _ended(self, run: _Run) -> bool:
        lock = run_lock(run.path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def _advance(self, run: _Run) -> Outcome | None:
        ended = self._ended(run)
        if not ended and (run.wait_for_end or not self._follow):
            return None
        run.size = run.path.stat().st_size
        if not ended:
            if run.writer is None and run.size > 0:
                self._begin(run)
            self._feed(run)
            return None
        return self._finish(run)

    def _begin(self, run: _Run) -> None:
        client = self._link.client()
        if run_of(client, run.uid) is not None:
            client.delete_contents(run.uid, recursive=True, external_only=False)
            run.replaced = True
        run.writer = RunWriter(client)
        self._trouble = ""

    def _feed(self, run: _Run, stop: int | None = None) -> None:
        """Write what the journal holds beyond the last record written, in batches."""
        while records := list(islice(iter_records(run.path, run.offset, stop), BATCH)):
            assert run.writer is not None
            last = {record.doc.get("descriptor"): record for record in records}
            for record in records:
                more = last[record.doc.get("descriptor")] is not record
                run.writer(record.name, record.doc, more=more)
                run.offset = record.end
                run.size = max(run.size, run.offset)
                if not more:
                    self._report()

    def _finish(self, run: _Run) -> Outcome:
        contents = contents_of(run.path)
        if contents.start is None:
            return self._put_away(run, "damaged", "it holds no complete document")
        broken_off = contents.stop is None
        if contents.damage is not None:
            contents.stop = closing_document(
                contents, run.path.stat().st_mtime, f"the journal is damaged: {contents.damage}"
            )
        elif broken_off:
            contents.stop = closing_document(contents, run.path.stat().st_mtime, BROKEN_OFF)
            append_record(run.path, contents.end, "stop", contents.stop)
        client = self._link.client()
        if run.writer is None:
            if not differences(run_of(client, run.uid), contents):
                return self._put_away(run, "present")
            self._begin(run)
        self._feed(run, contents.end if contents.damage is not None else None)
        if contents.damage is not None:
            assert run.writer is not None
            run.writer("stop", dict(contents.stop or {}), more=False)
        different = differences(run_of(client, run.uid), contents)
        if different:
            raise CatalogError(f"The catalog's copy of run {run.uid} is not whole: {different}.")
        if contents.damage is not None:
            return self._put_away(run, "damaged", str(contents.damage))
        reason = BROKEN_OFF if broken_off else ""
        return self._put_away(run, "rewritten" if run.replaced else "written", reason)

    def _put_away(self, run: _Run, action: str, detail: str = "") -> Outcome:
        """Move the journal: the mark that this run is done with, atomic and durable."""
        folder = self._layout.damaged if action == "damaged" else self._layout.delivered
        folder.mkdir(exist_ok=True)
        os.replace(run.path, folder / run.path.name)
        run.path.with_suffix(".lock").unlink(missing_ok=True)
        return Outcome(run.uid, action, detail)

    def _report(self) -> None:
        runs = {run.uid: [run.offset, run.size] for run in self._runs.values()}
        troubles = {run.uid: run.trouble for run in self._runs.values() if run.trouble}
        try:
            write_json(
                self._layout.progress_file,
                {"runs": runs, "troubles": troubles, "trouble": self._trouble},
            )
        except PermissionError:
            # Windows refuses while somebody reads the old file; the next report will do.
            return
