"""Read each survey image as it arrives, in a thread of its own, and file what was found.

`FindDefects` reads terraces, atoms and defects, names the defects, and writes it all as a run of
its own (see `bluesky_gpsts.callbacks.surfacerun`) that refers to the survey. The survey itself is
not held up, and nothing that goes wrong here stops it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from bluesky.callbacks.core import CallbackBase, make_class_safe
from numpy.typing import NDArray

from bluesky_gpsts.callbacks.surfacerun import file_reading, to_sample
from bluesky_gpsts.images import SurfaceReading, read_surface
from bluesky_gpsts.images.features import DefectTable, measure_defects

if TYPE_CHECKING:
    from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["FindDefects", "Found", "Namer"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_KEPT = 8


class Namer(Protocol):
    """What names defects: `DefectNet`, or the classifier of a library."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names that it knows."""
        ...

    def name_defects(self, table: DefectTable) -> tuple[NDArray[np.str_], Array]:
        """Name (N,) and probability (N,) of each defect."""
        ...


@dataclass(frozen=True, eq=False)
class Found:
    """What was found on a survey image.

    Attributes
    ----------
    survey : str
        Uid of the survey.
    run : str
        Uid of the run that it was filed in; "" if it was not filed.
    frame : dict
        The scan frame (m, degrees).
    image : (ny, nx) array
        The image that was read, m.
    reading : SurfaceReading or None
        None if reading failed.
    table : DefectTable or None
        The defects; None if the image cannot be read.
    names : (N,) array of str
        Class of each defect.
    probabilities : (N,) array
        Probability of that class.
    problem : str
        Why nothing was found; "" if the image was read.
    seconds_waiting, seconds_working : float
        From the image's arrival to the start of the work, and that the work took (s).
    """

    survey: str
    run: str
    frame: dict[str, float]
    image: Array
    reading: SurfaceReading | None
    table: DefectTable | None
    names: NDArray[np.str_]
    probabilities: Array
    problem: str
    seconds_waiting: float
    seconds_working: float

    @property
    def places(self) -> Array:
        """Positions (N, 2) of the defects in the sample frame (m)."""
        places = np.zeros((0, 2)) if self.table is None else self.table.places
        return to_sample(places, self.image.shape, self.frame)


@dataclass(frozen=True, eq=False)
class _Job:
    survey: str
    frame: dict[str, float]
    image: Array
    arrived: float


@make_class_safe(logger=logger)
class FindDefects(CallbackBase):
    """Read survey images beside the RunEngine; subscribe it there.

    A survey is a run whose start document has ``frame``, and ``columns`` with the role "forward"
    or "topography".

    Parameters
    ----------
    file : callable
        Takes name and document of what is found, such as ``catalog.journal``; called from the
        worker's thread.
    model : SurfaceModel, optional
        What reads images; the package's by default, loaded at the first image.
    namer : Namer, optional
        What names defects; the package's `DefectNet` by default.
    waiting : int
        Most images that wait for the worker; further ones are not read.
    clock : callable
        Returns seconds.

    Raises
    ------
    ValueError
        If `waiting` is not positive.
    """

    def __init__(
        self,
        file: Callable[[str, Mapping[str, Any]], Any],
        *,
        model: "SurfaceModel | None" = None,
        namer: Namer | None = None,
        waiting: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if isinstance(waiting, bool) or waiting < 1:
            raise ValueError(f"waiting is {waiting!r} images; give a whole number of 1 or more")
        self._file = file
        self._model = model
        self._namer = namer
        self._clock = clock
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._changed = threading.Condition()
        self._pending: set[str] = set()
        self._found: dict[str, Found] = {}
        self._latest, self._latest_frame = "", dict[str, float]()
        self._uid = ""
        self._column = ""
        self._frame: dict[str, float] = {}
        self._streams: set[str] = set()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="surface", daemon=True)
        self._worker.start()

    @property
    def latest(self) -> str:
        """Uid of the survey whose image came last; "" before the first."""
        return self._latest

    @property
    def latest_frame(self) -> dict[str, float]:
        """Scan frame (m, degrees) of that survey, as its start document has it."""
        return dict(self._latest_frame)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of defects."""
        return self._naming().classes

    def start(self, doc: Mapping[str, Any]) -> None:
        """Look whether the run is a survey."""
        columns, frame = doc.get("columns"), doc.get("frame")
        self._uid, self._streams = "", set()
        if not isinstance(columns, Mapping) or not isinstance(frame, Mapping):
            return
        column = columns.get("forward", columns.get("topography"))
        if column is None:
            return
        self._uid, self._column = str(doc["uid"]), str(column)
        self._frame = {key: float(value) for key, value in frame.items()}

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which stream holds the image."""
        if doc.get("run_start") == self._uid and doc["name"] == "survey":
            self._streams.add(doc["uid"])

    def event(self, doc: Any) -> Any:
        """Hand an image to the worker."""
        if doc["descriptor"] not in self._streams:
            return doc
        image = np.array(doc["data"][self._column], dtype=float)
        job = _Job(self._uid, dict(self._frame), image, self._clock())
        with self._changed:
            self._latest, self._latest_frame = self._uid, dict(self._frame)
            if self._closed:
                self._keep(self._failed(job, "the search for defects is closed"))
                return doc
            self._pending.add(self._uid)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            with self._changed:
                self._pending.discard(self._uid)
                problem = f"{self._jobs.maxsize} images wait to be read"
                self._keep(self._failed(job, problem))
        return doc

    def wait(self, survey: str, timeout: float) -> Found:
        """Wait until an image is read.

        Parameters
        ----------
        survey : str
            Uid of the survey; "" for the latest.
        timeout : float
            Seconds to wait at most.

        Returns
        -------
        Found

        Raises
        ------
        TimeoutError
            If it takes longer.
        LookupError
            If no such image has come.
        """
        with self._changed:
            uid = survey or self._latest
            if not uid or (uid not in self._pending and uid not in self._found):
                raise LookupError(
                    f"no image of the survey {uid!r} has come; subscribe FindDefects to the "
                    "RunEngine, then take the survey"
                )
            if not self._changed.wait_for(lambda: uid in self._found, timeout):
                raise TimeoutError(
                    f"the image of the survey {uid} was not read within {timeout:g} s; wait longer"
                )
            return self._found[uid]

    def finish(self, timeout: float) -> bool:
        """Wait until all images are read and filed; return whether they are after so many s."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout)

    def close(self) -> None:
        """End the worker after what it is doing, and wait for it: its run has to be whole."""
        with self._changed:
            self._closed = True
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            # The worker looks at _closed after each image, and there are some.
            logger.debug("the queue of images is full at its end")
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def _keep(self, found: Found) -> None:
        """Keep a result; the lock is held. Images of long ago are forgotten."""
        self._found[found.survey] = found
        while len(self._found) > _KEPT:
            self._found.pop(next(iter(self._found)))
        self._pending.discard(found.survey)
        self._changed.notify_all()

    def _failed(self, job: _Job, problem: str) -> Found:
        none = np.zeros(0)
        return Found(
            job.survey,
            "",
            job.frame,
            job.image,
            None,
            None,
            none.astype(str),
            none,
            problem,
            self._clock() - job.arrived,
            0.0,
        )

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            if self._closed:
                found = self._failed(job, "the search for defects is closed")
            else:
                found = self._judge(job)
            with self._changed:
                self._keep(found)
            if self._closed and self._jobs.empty():
                return

    def _judge(self, job: _Job) -> Found:
        begin = self._clock()
        waited = begin - job.arrived
        reading, table, problem = None, None, ""
        names, sure = np.zeros(0, str), np.zeros(0)
        try:
            ny, nx = job.image.shape
            pixel = (job.frame["width"] / nx, job.frame["height"] / ny)
            reading = read_surface(job.image, pixel, model=self._model)
            if reading.verdict.readable:
                table = measure_defects(job.image, reading)
                names, sure = self._naming().name_defects(table)
            else:
                problem = reading.verdict.reason
        except Exception as error:
            logger.exception("the survey %s could not be read; the session goes on", job.survey)
            table, problem = None, f"raised {type(error).__name__}: {error}"
        worked = self._clock() - begin
        run = ""
        try:
            run = file_reading(
                self._file,
                {
                    "survey": job.survey,
                    "frame": job.frame,
                    "classes": list(self._naming().classes),
                },
                job.frame,
                reading,
                table,
                names,
                sure,
                {
                    "problem": problem,
                    "seconds_waiting": waited,
                    "seconds_working": worked,
                },
            )
        except Exception as error:
            logger.exception("what was found on the survey %s could not be filed", job.survey)
            problem = problem or f"not filed: {type(error).__name__}: {error}"
        return Found(
            job.survey,
            run,
            job.frame,
            job.image,
            reading,
            table,
            names,
            sure,
            problem,
            waited,
            worked,
        )

    def _naming(self) -> Namer:
        if self._namer is None:
            from bluesky_gpsts.images.registry import load_classes

            self._namer = load_classes()
        return self._namer
