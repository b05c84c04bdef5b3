"""Spectra are named beside the run; a classifier that fails or is slow never stops it."""

import threading
from collections.abc import Iterator
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from analysis_runs import Documents, Experiment, gp_sts_run, survey_run
from bluesky import RunEngine
from ophyd import Signal

from bluesky_gpsts.callbacks.classify import Classified, Classify
from bluesky_gpsts.spectra import Classes

COUNT = 8


class BySign:
    """Names spectra by the sign of their mean slope."""

    name = "by sign"
    classes = ("rising", "falling")

    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        bad = ~np.isfinite(didv).all(axis=1)
        rising = np.where(bad, 0.5, np.where(didv[:, -1] > didv[:, 0], 0.9, 0.2))
        problems = tuple("not finite" if b else "" for b in bad)
        table = np.column_stack([rising, 1.0 - rising])
        return Classes(self.classes, table, np.where(bad, 1.0, 0.25), problems)


class Held(BySign):
    """Works only while the gate is open, and tells when it has begun."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Event(), threading.Event()

    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        self.begun.set()
        assert self.gate.wait(30.0)
        return super().classify(bias, didv)


class Broken(BySign):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        raise self.error


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def documents() -> Documents:
    return gp_sts_run(Experiment(n_spectra=COUNT, n_points=60, pixels=(8, 8)))[0]


def spectra_of(documents: Documents) -> list[dict[str, Any]]:
    return [doc for name, doc in documents if name == "event" and "stm_didv" in doc["data"]]


def feed(callback: Classify, documents: Documents) -> None:
    for name, doc in documents:
        callback(name, doc)


def test_every_spectrum_is_named_once(documents):
    callback = Classify(BySign(), "model@123")
    feed(callback, documents)
    assert callback.finish(30.0)
    found = callback.take()
    assert [one.seq_num for one in found] == list(range(1, COUNT + 1))
    for one, event in zip(found, spectra_of(documents), strict=True):
        didv = event["data"]["stm_didv"]
        rising = didv[-1] > didv[0]
        assert one.label == ("rising" if rising else "falling") and one.problem == ""
        np.testing.assert_allclose(one.probabilities, (0.9, 0.1) if rising else (0.2, 0.8))
        assert one.novelty == 0.25 and one.model == "model@123"
        assert one.seconds_waiting >= 0.0 and one.seconds_working >= 0.0
    assert callback.take() == []
    assert callback.metadata == {"model": "model@123", "classes": ["rising", "falling"]}
    callback.close()


def test_the_record_of_an_event_has_plain_values(documents):
    callback = Classify(BySign())
    feed(callback, documents)
    callback.finish(30.0)
    data = callback.take()[2].data()
    assert set(data) == {
        *("primary_seq_num", "label", "probabilities", "novelty", "model"),
        *("seconds_waiting", "seconds_working", "problem"),
    }
    assert data["primary_seq_num"] == 3.0 and data["model"] == "by sign"
    assert data["probabilities"].shape == (2,)
    callback.close()


def test_the_work_is_done_by_another_thread_in_a_run(documents):
    threads: set[threading.Thread] = set()

    class Noting(BySign):
        def classify(self, bias, didv):
            threads.add(threading.current_thread())
            return super().classify(bias, didv)

    bias = Signal(name="bias", value=np.linspace(-1, 1, 20))
    didv = Signal(name="didv", value=np.linspace(1, 2, 20))

    @bpp.run_decorator(md={"columns": {"bias": "bias", "didv": "didv"}})
    def plan() -> Iterator[Any]:
        for _ in range(3):
            yield from bps.trigger_and_read([bias, didv])

    engine = RunEngine(context_managers=[])
    callback = Classify(Noting())
    engine.subscribe(callback)
    engine(plan())
    assert callback.finish(30.0)
    assert [one.label for one in callback.take()] == ["rising"] * 3
    assert len(threads) == 1 and threading.current_thread() not in threads
    callback.close()
    (worker,) = threads
    worker.join(30.0)
    assert not worker.is_alive()


def unjudged(one: Classified) -> bool:
    return one.label == "" and bool(np.isnan([*one.probabilities, one.novelty]).all())


@pytest.mark.parametrize("error", [ValueError("no weights"), MemoryError(), ZeroDivisionError("x")])
def test_a_classifier_that_raises_leaves_a_record(documents, error):
    callback = Classify(Broken(error))
    feed(callback, documents)
    assert callback.finish(30.0)
    found = callback.take()
    assert len(found) == COUNT and all(map(unjudged, found))
    assert {one.problem for one in found} == {f"raised {type(error).__name__}: {error}"}
    callback.close()


class TwoForOne(BySign):
    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        return super().classify(bias, np.concatenate([didv, didv]))


class OfThree(BySign):
    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        table = np.full((len(didv), 3), 1.0 / 3.0)
        return Classes(("a", "b", "c"), table, np.zeros(len(didv)), ("",) * len(didv))


class OfNone(BySign):
    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        return super().classify(bias, didv[:0])


@pytest.mark.parametrize(
    ("classifier", "shape"), [(TwoForOne(), "(2, 2)"), (OfThree(), "(1, 3)"), (OfNone(), "(0, 2)")]
)
def test_a_wrong_number_of_probabilities_is_told(documents, classifier, shape):
    callback = Classify(classifier)
    feed(callback, documents)
    assert callback.finish(30.0)
    found = callback.take()
    assert len(found) == COUNT and all(map(unjudged, found))
    assert {one.problem for one in found} == {
        f"raised ValueError: probabilities of shape {shape} for one spectrum and 2 classes; "
        "it must give (1, 2)"
    }
    callback.close()


class Killed(BaseException):
    """What no classifier should raise, such as KeyboardInterrupt."""


def test_a_worker_that_died_is_told_and_not_waited_for(documents):
    class Mortal(Held):
        def classify(self, bias, didv):
            super().classify(bias, didv)
            raise Killed("by a test")

    classifier = Mortal()
    callback = Classify(classifier, patience=1e6)
    feed(callback, documents)
    assert classifier.begun.wait(30.0)
    classifier.gate.set()
    assert not callback.finish(1e6)
    found = callback.take()
    problem = "the classifier's thread died of Killed: by a test"
    assert [one.seq_num for one in found] == list(range(1, COUNT + 1))
    assert all(map(unjudged, found)) and {one.problem for one in found} == {problem}
    # Those of the next run come out at once.
    feed(callback, documents)
    found = callback.take()
    assert len(found) == COUNT and {one.problem for one in found} == {problem}
    callback.close()


def test_a_classifier_that_is_slow_is_not_waited_for(documents):
    clock, held = Clock(), Held()
    callback = Classify(held, patience=5.0, clock=clock)
    feed(callback, documents)
    assert held.begun.wait(30.0)
    assert callback.take() == []
    clock.now += 5.5
    found = callback.take()
    assert [one.seq_num for one in found] == list(range(1, COUNT + 1))
    assert all(map(unjudged, found)) and {o.problem for o in found} == {"not ready after 5.5 s"}
    # What comes too late has come out already, and comes out once.
    held.gate.set()
    feed(callback, documents[:1])
    feed(callback, documents[1:])
    assert callback.finish(30.0)
    found = callback.take()
    assert len(found) == COUNT and not any(one.problem for one in found)
    callback.close()


def test_the_end_of_a_run_waits_no_longer_than_it_is_told(documents):
    held = Held()
    callback = Classify(held)
    feed(callback, documents)
    assert held.begun.wait(30.0)
    assert not callback.finish(0.05)
    found = callback.take()
    assert len(found) == COUNT and all("not ready after" in one.problem for one in found)
    held.gate.set()
    callback.close()


def test_a_full_queue_is_told_and_never_blocks(documents):
    held = Held()
    callback = Classify(held, waiting=2)
    events = spectra_of(documents)
    feed(callback, [d for d in documents if d[0] in ("start", "descriptor")])
    callback("event", events[0])
    assert held.begun.wait(30.0)
    for event in events[1:]:
        callback("event", event)
    found = callback.take()
    assert [one.seq_num for one in found] == list(range(4, COUNT + 1))
    problem = "queue full: 2 spectra wait for the classifier"
    assert {one.problem for one in found} == {problem} and all(map(unjudged, found))
    held.gate.set()
    assert callback.finish(30.0)
    assert [one.seq_num for one in callback.take()] == [1, 2, 3]
    callback.close()


def test_a_spectrum_with_a_problem_is_not_named(documents):
    callback = Classify(BySign())
    events = spectra_of(documents)
    feed(callback, [d for d in documents if d[0] in ("start", "descriptor")])
    data = dict(events[0]["data"])
    bad = dict(events[0], data=data | {"stm_didv": np.full(60, np.nan)})
    short = dict(events[1], data=data | {"stm_didv": np.ones(59)})
    without = dict(events[2], data={k: v for k, v in data.items() if k != "stm_bias"})
    for event in (bad, short, without):
        callback("event", event)
    assert callback.finish(30.0)
    found = {one.seq_num: one for one in callback.take()}
    assert all(map(unjudged, found.values()))
    assert found[1].problem == "not finite"
    assert "bias has shape (60,) and dI/dV (59,)" in found[2].problem
    assert "KeyError('stm_bias')" in found[3].problem
    callback.close()


def test_without_didv_the_current_is_differentiated(documents):
    callback = Classify(BySign())
    start = dict(documents[0][1])
    start["columns"] = {k: v for k, v in start["columns"].items() if k != "didv"}
    events = spectra_of(documents)
    feed(callback, [("start", start), *[d for d in documents if d[0] == "descriptor"]])
    bias = events[0]["data"]["stm_bias"]
    data = events[0]["data"] | {"stm_current": 1e-10 * bias**2, "stm_didv": -bias}
    callback("event", dict(events[0], data=data))
    assert callback.finish(30.0)
    (found,) = callback.take()
    rising = bias[-1] > bias[0]
    assert found.label == ("rising" if rising else "falling")
    callback.close()


def test_other_runs_and_streams_are_not_looked_at(documents):
    callback = Classify(BySign())
    feed(callback, survey_run(Experiment(image=(4, 4))))
    feed(callback, documents)
    # A new run drops what nobody took of the one before.
    again = gp_sts_run(Experiment(n_spectra=1, n_points=30, pixels=(4, 4)))[0]
    feed(callback, again)
    assert callback.finish(30.0)
    assert [one.seq_num for one in callback.take()] == [1]
    callback.close()


def test_after_its_end_spectra_are_told_to_be_late(documents):
    callback = Classify(BySign())
    callback.close()
    feed(callback, documents)
    found = callback.take()
    assert len(found) == COUNT and {o.problem for o in found} == {"the classifier is closed"}
    assert callback.finish(0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0.0}, "patience is 0.0 s"),
        ({"patience": float("nan")}, "patience is nan s"),
        ({"waiting": 0}, "waiting is 0 spectra"),
        ({"waiting": True}, "waiting is True spectra"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Classify(BySign(), **options)


@pytest.mark.parametrize("given", ["default", None, BySign])
def test_what_is_no_classifier_is_refused(given):
    """The name of a model, nothing, and the class in place of an object of it."""
    with pytest.raises(ValueError, match=r"the classifier is .*; give one, such as .*load\('def"):
        Classify(given)
