"""The article's protocol: its curves, its table, the plain method beside it."""

import numpy as np
import pytest

from bluesky_gpsts.benchmarks.classifier_paper import paper_sessions, plain_accuracy, rows, take
from bluesky_gpsts.benchmarks.classifier_paper_figures import curves, summary, table_1
from bluesky_gpsts.benchmarks.classifier_pca import fit_plain
from bluesky_gpsts.spectra.paper import PaperCNN, build_network
from bluesky_gpsts.spectra.paper_training import Epoch, Judged, PaperTraining, split


def test_curves_by_hand():
    found = curves(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    np.testing.assert_allclose(found.recall, [0.5, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(found.precision, [1.0, 0.5, 2 / 3, 0.5])
    np.testing.assert_allclose(found.false_positive, [0.0, 0.0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(found.true_positive, [0.0, 0.5, 0.5, 1.0, 1.0])
    assert found.average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert found.area == pytest.approx(0.75)


def test_equal_scores_are_one_threshold():
    found = curves(np.zeros(4), np.array([True, False, False, True]))
    assert found.area == pytest.approx(0.5) and found.average_precision == pytest.approx(0.5)
    assert len(found.recall) == 1
    with pytest.raises(ValueError, match="0 of 3 are positive"):
        curves(np.zeros(3), np.zeros(3, bool))


def test_the_area_is_the_probability_of_the_right_order():
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.3
    scores = np.round(rng.normal(size=300) + positive, 1)
    above = scores[positive][:, None] - scores[~positive][None, :]
    expected = np.mean((above > 0) + 0.5 * (above == 0))
    assert curves(scores, positive).area == pytest.approx(expected)


def training() -> PaperTraining:
    nan = float("nan")
    epochs = tuple(
        Epoch(k, 1.0 / k, 2.0 / k, 0.5, 0.6, (0.9, 0.1 * k, 1.0), (1.0, 0.25, nan))
        for k in range(1, 9)
    )
    truth = np.array([0, 0, 1, 1, 1])
    table = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0, 1, 0], [0.2, 0.8, 0], [0.4, 0.35, 0.25]])
    judged = tuple(Judged(k, table, truth) for k in range(1, 7))
    classifier = PaperCNN(build_network(3), ("a", "b", "c"))
    return PaperTraining(classifier, 6, epochs, judged, split(20, 0), 4)


def test_table_1_has_six_epochs_of_both_parts():
    lines = table_1(training()).splitlines()
    assert lines[0] == "part,epoch,a,b,c" and len(lines) == 13
    assert lines[3] == "train,3,90.0,30.0,100.0" and lines[7] == "validation,1,100.0,25.0,nan"


def test_the_summary_holds_what_json_can():
    import json

    found = json.loads(json.dumps(summary(training()), allow_nan=False))
    assert found["chosen"] == 6 and found["parts"] == {"train": 16, "validation": 2, "test": 2}
    assert found["test"][5] == {"epoch": 6, "accuracy": 0.6}
    assert found["epochs"][0]["validation_recall"] == [1.0, 0.25, None]
    # No spectrum of the third class is in the test part: it has no curve.
    assert set(found["roc_area"]) == {"a", "b"}


def test_confusion_counts_what_is_below_the_threshold():
    from bluesky_gpsts.benchmarks.classifier_paper_figures import confusion

    first, last = confusion(training()).axes
    numbers = [int(text.get_text()) for text in last.texts]
    assert numbers == [1, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0]
    assert first.get_title(loc="left") == "Test spectra after epoch 1"


def test_the_sessions_are_as_many_as_in_the_article():
    sessions = paper_sessions(1)
    labels = np.concatenate([session.labels for session in sessions])
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    assert counts == {"Au fcc": 424, "Au hcp": 709, "V_S": 158, "WS2": 191}
    chosen = np.array([3, 1400, 20])
    part = take(sessions, chosen)
    everything = [row for session in sessions for row in session.didv]
    kept = [row for session in part for row in session.didv]
    assert len(kept) == 3
    for row, index in zip(kept, sorted(chosen), strict=True):
        np.testing.assert_array_equal(row, everything[index])


def test_the_plain_method_is_at_its_minimum():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 200)
    x = rng.normal(size=(200, 12)) + 1.5 * np.eye(3)[y] @ rng.normal(size=(3, 12))
    model = fit_plain(x, y, components=5)
    assert model.axes.shape == (12, 5) and model.weights.shape == (5, 3)
    scores = (x - model.mean) @ model.axes
    np.testing.assert_allclose(scores.T @ scores / 200, np.eye(5), atol=1e-9)
    slope = scores.T @ (model.probabilities(x) - np.eye(3)[y]) + model.weights
    assert np.abs(slope).max() < 0.05
    assert np.mean(model.probabilities(x).argmax(axis=1) == y) > 0.7


def test_the_plain_method_names_easy_spectra_too():
    sessions = paper_sessions(0, 0.3)
    parts = split(sum(map(len, sessions)), 0)
    assert plain_accuracy(sessions, parts) == 1.0


def test_quick_rows_say_what_they_leave_out(monkeypatch):
    from bluesky_gpsts.benchmarks import classifier_paper

    monkeypatch.setattr(classifier_paper, "_QUICK", 0.05)
    found = rows(True, seeds=3, progress=False)
    assert all("5% of the spectra" in row.case for row in found)
    assert {row.metric for row in found} == {
        "test accuracy, worst seed",
        "epochs to 100 % test accuracy, latest seed",
    }
    # Goals are for the whole protocol.
    assert all(row.goal is None for row in found) and len({row.method for row in found}) == 3
