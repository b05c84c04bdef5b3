"""Name each spectrum of a run as it arrives, in a thread of its own.

A plan that takes a `Classify` writes what `Classify.take` returns into the stream ``classes``, one
event per spectrum, from `Classified.data`:

==================  ======  =====================================================================
``primary_seq_num``  number  sequence number of the spectrum in the stream ``primary``
``label``            string  its class, "none of these", or "" if it was not judged
``probabilities``    (K,)    of each class, in the order of the start document's ``classifier``
                             entry ``classes``; NaN if it was not judged
``novelty``          number  0 to 1; above 0.5 it is none of the classes; NaN if it was not judged
``model``            string  id of the model: its name and the beginning of its weights' hash
``seconds_waiting``  number  from the spectrum's arrival to the start of the work (s)
``seconds_working``  number  that the classifier took (s); 0 if it never began
``problem``          string  why it was not judged; "" if it was
==================  ======  =====================================================================

The start document has `Classify.metadata` as its entry ``classifier``.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bluesky.callbacks.core import CallbackBase, make_class_safe

from bluesky_gpsts.spectra import Classifier

__all__ = ["Classified", "Classify"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Classified:
    """What is known of one spectrum's class.

    Attributes
    ----------
    seq_num : int
        Sequence number of the spectrum in the stream ``primary``.
    label : str
        Class, "none of these", or "" if it was not judged.
    probabilities : ndarray, shape (K,)
        Of each class; NaN if it was not judged.
    novelty : float
        0 to 1, above 0.5 for none of the classes; NaN if it was not judged.
    model : str
        Id of the model.
    seconds_waiting, seconds_working : float
        From the spectrum's arrival to the start of the work, and that the work took.
    problem : str
        Why the spectrum was not judged; "" if it was.
    """

    seq_num: int
    label: str
    probabilities: FloatArray
    novelty: float
    model: str
    seconds_waiting: float
    seconds_working: float
    problem: str

    def data(self) -> dict[str, Any]:
        """Return what an event of the stream ``classes`` holds."""
        return {
            "primary_seq_num": float(self.seq_num),
            "label": self.label,
            "probabilities": self.probabilities,
            "novelty": self.novelty,
            "model": self.model,
            "seconds_waiting": self.seconds_waiting,
            "seconds_working": self.seconds_working,
            "problem": self.problem,
        }


@dataclass(frozen=True, eq=False)
class _Job:
    run: int
    seq_num: int
    bias: FloatArray
    didv: FloatArray
    arrived: float


@make_class_safe(logger=logger)
class Classify(CallbackBase):
    """Classify the spectra of a run beside it; subscribe it to the RunEngine.

    A run is one whose start document has ``columns`` with the roles "bias" and "didv" (or
    "current", which is then differentiated). A spectrum is judged by one worker thread. Whatever
    the classifier does, each spectrum comes out of `take` once: named, or with the problem that
    kept it from being named. Nothing here waits, but for `finish`.

    Parameters
    ----------
    classifier : Classifier
        What names the spectra.
    model : str
        Id of the model for the record; the kind of the classifier if left out.
    patience : float
        After so many seconds without a result, a spectrum comes out of `take` as not ready.
    waiting : int
        Most spectra that wait for the worker; further ones come out as not judged.
    clock : callable
        Returns seconds.

    Raises
    ------
    ValueError
        If `classifier` is none, or `patience` or `waiting` is not positive.
    """

    def __init__(
        self,
        classifier: Classifier,
        model: str = "",
        *,
        patience: float = 10.0,
        waiting: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        parts = ("name", "classes", "classify")
        if isinstance(classifier, type) or not all(hasattr(classifier, part) for part in parts):
            raise ValueError(
                f"the classifier is {classifier!r}; give one, such as "
                "bluesky_gpsts.spectra.registry.load('default')"
            )
        if not patience > 0:
            raise ValueError(f"patience is {patience!r} s; give more than 0")
        if isinstance(waiting, bool) or waiting < 1:
            raise ValueError(f"waiting is {waiting!r} spectra; give a whole number of 1 or more")
        self.classifier = classifier
        self._last_error = ""
        self._died = ""
        self.model = model or classifier.name
        self.patience = float(patience)
        self._classes = len(classifier.classes)
        self._clock = clock
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._changed = threading.Condition()
        self._pending: dict[tuple[int, int], _Job] = {}
        self._finished: list[Classified] = []
        self._run = 0
        self._uid = ""
        self._columns: Mapping[str, str] = {}
        self._primary: set[str] = set()
        self._count = 0
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="classifier", daemon=True)
        self._worker.start()

    @property
    def metadata(self) -> dict[str, Any]:
        """Entry ``classifier`` of the start document: id of the model, names of its classes."""
        return {"model": self.model, "classes": list(self.classifier.classes)}

    def start(self, doc: Mapping[str, Any]) -> None:
        """Begin a run; what is left of the run before is dropped."""
        columns = doc.get("columns")
        if not isinstance(columns, Mapping) or "bias" not in columns:
            return
        if "didv" not in columns and "current" not in columns:
            return
        with self._changed:
            self._run += 1
            self._pending.clear()
            self._finished.clear()
            self._uid, self._columns, self._primary = str(doc["uid"]), columns, set()

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which stream is which."""
        if doc.get("run_start") == self._uid and doc["name"] == "primary":
            self._primary.add(doc["uid"])

    def event(self, doc: Any) -> Any:
        """Hand a spectrum to the worker."""
        if doc["descriptor"] not in self._primary:
            return doc
        now = self._clock()
        number = int(doc["seq_num"])
        try:
            bias, didv = self._spectrum(doc["data"])
        except (KeyError, TypeError, ValueError) as error:
            with self._changed:
                self._finished.append(self._unjudged(number, f"no spectrum: {error!r}", 0.0))
            return doc
        with self._changed:
            self._count += 1
            job = _Job(self._run, number, bias, didv, now)
            key = (self._run, self._count)
            if self._closed or self._died:
                problem = self._died or "the classifier is closed"
                self._finished.append(self._unjudged(number, problem, 0.0))
                return doc
            self._pending[key] = job
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            with self._changed:
                # Unless it has come out meanwhile.
                if self._pending.pop(key, None) is not None:
                    problem = f"queue full: {self._jobs.maxsize} spectra wait for the classifier"
                    self._finished.append(self._unjudged(number, problem, 0.0))
        return doc

    def take(self) -> list[Classified]:
        """Return what has been decided since the last call; never waits.

        Returns
        -------
        list of Classified
            In the order in which they were decided. Spectra of the current run only.
        """
        with self._changed:
            self._give_up(self.patience)
            done, self._finished = self._finished, []
        return done

    def finish(self, timeout: float) -> bool:
        """Wait until every spectrum is decided.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most; spectra that are not judged then come out as not ready. A
            worker that has died is not waited for.

        Returns
        -------
        bool
            Whether all were judged in time.
        """
        with self._changed:
            ready = self._changed.wait_for(lambda: not self._pending, timeout)
            self._give_up(-math.inf)
        return ready and not self._died

    def close(self) -> None:
        """End the worker after what it is doing; does not wait for it."""
        with self._changed:
            self._closed = True
            self._give_up(-math.inf)
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            # The worker looks at _closed after each spectrum, and there are some.
            logger.debug("the queue of the classifier is full at its end")

    def _spectrum(self, data: Mapping[str, Any]) -> tuple[FloatArray, FloatArray]:
        bias = np.array(data[self._columns["bias"]], dtype=float)
        if "didv" in self._columns:
            didv = np.array(data[self._columns["didv"]], dtype=float)
        else:
            didv = np.gradient(np.asarray(data[self._columns["current"]], dtype=float), bias)
        if bias.ndim != 1 or bias.shape != didv.shape:
            raise ValueError(f"bias has shape {bias.shape} and dI/dV {didv.shape}")
        return bias, didv

    def _unjudged(
        self, number: int, problem: str, waited: float, worked: float = 0.0
    ) -> Classified:
        unknown = np.full(self._classes, np.nan)
        return Classified(number, "", unknown, math.nan, self.model, waited, worked, problem)

    def _give_up(self, patience: float) -> None:
        """Decide what has waited longer than `patience`; the lock is held."""
        now = self._clock()
        for key, job in list(self._pending.items()):
            waited = now - job.arrived
            if waited > patience:
                del self._pending[key]
                problem = self._died or f"not ready after {waited:.1f} s"
                self._finished.append(self._unjudged(job.seq_num, problem, waited))
        if not self._pending:
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            # Nobody must wait for a thread that is gone.
            with self._changed:
                self._died = f"the classifier's thread died of {type(error).__name__}: {error}"
                self._give_up(-math.inf)
            logger.critical("%s; the run goes on without classes", self._died, exc_info=True)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None or self._closed:
                return
            with self._changed:
                key = next((key for key, value in self._pending.items() if value is job), None)
            if key is None:
                continue
            begin = self._clock()
            result = self._judge(job, begin)
            with self._changed:
                # Given up meanwhile, or of a run before: it has come out, or nobody asks for it.
                if self._pending.pop(key, None) is not None:
                    self._finished.append(result)
                if not self._pending:
                    self._changed.notify_all()

    def _judge(self, job: _Job, begin: float) -> Classified:
        waited = begin - job.arrived
        try:
            found = self.classifier.classify(job.bias, job.didv[None, :])
            if np.shape(found.probabilities) != (1, self._classes):
                raise ValueError(
                    f"probabilities of shape {np.shape(found.probabilities)} for one spectrum and "
                    f"{self._classes} classes; it must give (1, {self._classes})"
                )
            probabilities = np.array(found.probabilities[0], dtype=float)
            novelty, label, problem = (
                float(found.novelty[0]),
                str(found.labels[0]),
                str(found.problems[0]),
            )
        # A classifier that calls sys.exit must not end the thread either.
        except (Exception, SystemExit) as error:
            text = f"raised {type(error).__name__}: {error}"
            worked = self._clock() - begin
            # The same error again needs no second trace.
            trace = text != self._last_error
            self._last_error = text
            logger.error(
                "the classifier failed at spectrum %d, the run goes on: %s",
                job.seq_num,
                text,
                exc_info=trace,
            )
            return self._unjudged(job.seq_num, text, waited, worked)
        worked = self._clock() - begin
        if problem:
            return self._unjudged(job.seq_num, problem, waited, worked)
        return Classified(
            job.seq_num, label, probabilities, novelty, self.model, waited, worked, ""
        )
