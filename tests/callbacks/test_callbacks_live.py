"""The live figure, drawn without a display."""

import logging
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

from bluesky_gpsts.callbacks import LiveMap
from bluesky_gpsts.callbacks.panels import Snapshot, preview_grid
from bluesky_gpsts.surrogate import Grid, posterior_maps

EXPERIMENT = Experiment(n_spectra=10, n_points=1000, pixels=(32, 24), sample="10 $ of gold")


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib

    matplotlib.use("Agg")


@pytest.fixture(scope="module")
def survey() -> Documents:
    return survey_run(EXPERIMENT)


@pytest.fixture(scope="module")
def documents(survey: Documents) -> Documents:
    return gp_sts_run(EXPERIMENT, survey[0][1]["uid"])[0]


def feed(live: LiveMap, documents: Documents) -> None:
    for name, doc in documents:
        live(name, doc)


def test_four_panels_show_the_run(survey: Documents, documents: Documents) -> None:
    live = LiveMap(interval=0.0)
    feed(live, [*survey, *documents])
    live.finish()
    figure = live.figure
    assert figure is not None and live.drawings >= 1
    image, mean, std, spectrum = figure.axes[:4]
    assert image.get_title() == "Survey" and len(image.images) == 1
    events = [doc["data"] for name, doc in documents if name == "event"]
    points = [data for data in events if "stm_x" in data]
    choices = [data for data in events if "hyperparameters" in data]
    x, y, merit, variance = (
        np.array([data[f"stm_{role}"] for data in points])
        for role in ("x", "y", "figure_of_merit", "figure_of_merit_variance")
    )
    expected = posterior_maps(
        preview_grid(EXPERIMENT.grid), x, y, merit, variance, choices[-1]["hyperparameters"]
    )
    for axes, values in zip((mean, std), expected, strict=True):
        assert values.shape == (48, 64)
        np.testing.assert_allclose(axes.images[0].get_array(), 1e12 * values, rtol=1e-6)
        assert len(axes.collections[0].get_offsets()) == 10
    (latest,) = spectrum.lines
    assert len(latest.get_xdata()) == 500
    np.testing.assert_allclose(latest.get_ydata(), 1e12 * points[-1]["stm_didv"][::2])
    assert len(spectrum.collections[0].get_segments()) == 9
    assert figure.get_suptitle() == r"10 \$ of gold: 10 of 10 spectra"
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 200


def test_drawing_is_left_to_another_thread_and_not_done_too_often(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_by: list[threading.Thread] = []
    original = Snapshot.maps

    def maps(self: Snapshot) -> Any:
        drawn_by.append(threading.current_thread())
        return original(self)

    monkeypatch.setattr(Snapshot, "maps", maps)
    live = LiveMap(interval=1e6)
    feed(live, documents)
    live.finish()
    # The first as soon as there is something, the last when the run ends.
    assert 1 <= live.drawings <= 2 and len(drawn_by) == live.drawings
    assert threading.current_thread() not in drawn_by
    assert not any(thread.is_alive() for thread in drawn_by)


def test_runs_follow_each_other(survey: Documents, documents: Documents) -> None:
    live = LiveMap(interval=0.0)
    feed(live, documents)
    live.finish()
    first = live.figure
    assert first is not None and first.axes[0].get_title() == "Points"
    again = gp_sts_run(Experiment(n_spectra=1, n_points=50), survey[0][1]["uid"], "abort")[0]
    feed(live, [*survey, *again])
    live.finish()
    assert live.figure is not None and live.figure is not first
    assert live.figure.axes[0].get_title() == "Survey"
    note = live.figure.axes[1].texts[0]
    assert note.get_visible() and note.get_text() == "waiting for spectra"


def test_a_long_frame_has_a_small_preview() -> None:
    grid = preview_grid(Grid(0.0, 0.0, 8e-9, 1e-9, nx=512, ny=64))
    assert (grid.nx, grid.ny) == (64, 8)


def test_an_error_never_reaches_the_run_engine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLUESKY_DEBUG_CALLBACKS", raising=False)
    signal = Signal(name="merit", value=1.0)
    metadata = {
        "plan_name": "gp_sts",
        "grid": {"nx": 4, "ny": 4},
        "frame": {"center_x": 0, "center_y": 0, "width": 1e-9, "height": 1e-9, "angle": 0},
        "columns": {"figure_of_merit": "merit"},
        "kernel": "no such kernel",
    }

    @bpp.run_decorator(md=metadata)
    def plan() -> Iterator[Any]:
        yield from bps.trigger_and_read([signal])

    engine = RunEngine(context_managers=[])
    live = LiveMap(interval=0.0)
    engine.subscribe(live)
    with caplog.at_level(logging.ERROR, logger="bluesky_gpsts.callbacks.live"):
        engine(plan())
        live.finish()
    assert engine.state == "idle" and "KeyError: 'bias'" in caplog.text


def test_an_error_while_drawing_is_told_once(
    documents: Documents, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Snapshot) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(Snapshot, "maps", broken)
    live = LiveMap(interval=0.0)
    with caplog.at_level(logging.ERROR, logger="bluesky_gpsts.callbacks.live"):
        feed(live, documents)
        live.finish()
    assert caplog.text.count("the live figure cannot be drawn") == 1


def test_the_interval_is_checked() -> None:
    with pytest.raises(ValueError, match="interval is -1 s; give 0 or more"):
        LiveMap(interval=-1)
