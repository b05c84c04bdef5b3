"""A classifier in the run: its classes are events, and whatever it does the run goes on."""

import logging
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_gpsts.callbacks import Classify
from bluesky_gpsts.plans import gp_sts
from bluesky_gpsts.spectra import Classes


class Sorter:
    """A classifier: high or low dI/dV in the middle of the spectrum."""

    name = "sorter"
    classes = ("high", "low")

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def classify(self, bias: np.ndarray, didv: np.ndarray) -> Classes:
        if self.fails:
            raise ArithmeticError("nothing can be told")
        signal = np.abs(didv[:, len(bias) // 2]) / np.abs(didv).max(axis=1)
        chance = 1.0 / (1.0 + np.exp(-20.0 * (signal - 0.1)))
        table = np.column_stack([chance, 1.0 - chance])
        return Classes(self.classes, table, np.full(len(didv), 0.1), ("",) * len(didv))


def test_classes_are_events_of_the_run(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    namer = Classify(Sorter(), "sorter@0")
    engine(gp_sts(bench.stm, **small, classifier=namer, acquisition="class"))
    namer.close()
    columns = documents.columns("classes")
    assert sorted(columns["primary_seq_num"]) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert set(columns["model"]) == {"sorter@0"} and set(columns["problem"]) == {""}
    assert set(columns["label"]) <= {"high", "low"}
    np.testing.assert_allclose(np.sum(columns["probabilities"], axis=1), 1.0)
    start = documents.of("start")[0]
    assert start["classifier"] == {"model": "sorter@0", "classes": ["high", "low"]}
    assert set(documents.columns("decisions")["reason"]) == {"initial design", "class"}


def test_a_classifier_that_fails_does_not_stop_the_run(
    engine: RunEngine,
    documents: Any,
    bench: Any,
    small: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    namer = Classify(Sorter(fails=True), "sorter@0")
    engine(gp_sts(bench.stm, **small, classifier=namer))
    namer.close()
    assert documents.of("stop")[0]["exit_status"] == "success"
    problems = documents.columns("classes")["problem"]
    assert len(problems) == 5
    assert all("ArithmeticError: nothing can be told" in text for text in problems)


def test_a_model_by_its_name(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any]
) -> None:
    engine(gp_sts(bench.stm, **{**small, "n_points": 200}, classifier="linear"))
    columns = documents.columns("classes")
    assert len(columns["label"]) == 5
    assert all(model.startswith("linear@") for model in columns["model"])


@pytest.mark.parametrize(
    ("classifier", "message"),
    [("no-such-model", "no-such-model"), (3, "has no take, finish, metadata")],
)
def test_bad_classifiers(
    engine: RunEngine, documents: Any, bench: Any, classifier: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        engine(gp_sts(bench.stm, classifier=classifier))
    assert documents.all == []


@pytest.mark.parametrize("classifier", [None, ""])
def test_the_acquisition_by_class_needs_a_classifier(
    engine: RunEngine, documents: Any, bench: Any, small: dict[str, Any], classifier: Any
) -> None:
    with pytest.raises(ValueError, match='acquisition "class" .* no classifier; give one, such as'):
        engine(gp_sts(bench.stm, **small, classifier=classifier, acquisition="class"))
    assert documents.all == []
