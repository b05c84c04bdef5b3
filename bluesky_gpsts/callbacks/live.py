"""A live figure: what the run has found so far, drawn beside the run and never in its way."""

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from bluesky.callbacks.core import make_class_safe
from bluesky.callbacks.mpl_plotting import QtAwareCallback

from bluesky_gpsts.surrogate import Grid

from .panels import Image, Panels, Snapshot, preview_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

_SIZE = (8.6, 6.6)
# What is drawn of the spectra: enough to see, little enough to draw within the interval.
_CURVES, _CURVE_POINTS = 100, 400
_EMPTY: FloatArray = np.empty(0)


@dataclass
class _Run:
    """A run of gp_sts as far as its documents have come in."""

    start: Mapping[str, Any]
    grid: Grid
    survey: Image | None
    streams: dict[str, str] = field(default_factory=dict)
    points: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    curves: dict[int, FloatArray] = field(default_factory=dict)
    bias: FloatArray = field(default_factory=lambda: _EMPTY)
    hyperparameters: FloatArray | None = None
    default_noise: float = np.nan
    structure: str = ""
    images: FloatArray | None = None

    def take_spectrum(self, number: int, data: Mapping[str, Any]) -> None:
        """Note a spectrum; one taken again after a pause replaces the first."""
        columns = self.start["columns"]
        roles = ("x", "y", "figure_of_merit", "figure_of_merit_variance")
        x, y, merit, variance = (float(data.get(columns.get(r), np.nan)) for r in roles)
        self.points[number] = (x, y, merit, variance)
        bias = np.asarray(data[columns["bias"]], dtype=float)
        step = max(1, len(bias) // _CURVE_POINTS)
        name = "didv" if "didv" in columns else "current"
        self.bias = bias[::step]
        self.curves.pop(number, None)
        self.curves[number] = np.asarray(data[columns[name]], dtype=float)[::step]
        if len(self.curves) > _CURVES:
            del self.curves[next(iter(self.curves))]

    def snapshot(self) -> Snapshot:
        """What is known now."""
        table = np.array(list(self.points.values()), dtype=float).reshape(-1, 4)
        window = self.start.get("window")
        budget = self.start.get("budget")
        of = f" of {budget}" if budget is not None else ""
        sample = str(self.start.get("sample") or "gp_sts").replace("$", r"\$")
        return Snapshot(
            in_ampere=self.start.get("merit_unit", "A") == "A",
            title=f"{sample}: {len(table)}{of} spectra",
            grid=self.grid,
            kernel=str(self.start.get("kernel", "matern-5/2")),
            window=None if window is None else (float(window[0]), float(window[1])),
            survey=self.survey,
            x=table[:, 0],
            y=table[:, 1],
            values=table[:, 2],
            variances=table[:, 3],
            bias=self.bias,
            curves=tuple(self.curves.values()),
            hyperparameters=self.hyperparameters,
            default_noise=self.default_noise,
            structure=self.structure,
            images=self.images,
        )


@make_class_safe(logger=logger)
class LiveMap(QtAwareCallback):
    """Show survey, posterior mean and standard deviation, and the latest spectrum of a run.

    The map is computed on a coarse preview from the documents alone. With a Qt backend (say
    ``%matplotlib qt``) a window is drawn by the main thread, which the RunEngine leaves to Qt.
    In a notebook an image below the cell is renewed, and elsewhere `figure` is drawn for nobody
    but the program; both by a thread of the callback's own. Errors are logged and never reach
    the RunEngine. Make it in the main thread.

    Parameters
    ----------
    interval : float
        Least time between two drawings, in seconds.

    Attributes
    ----------
    figure : matplotlib.figure.Figure or None
        The figure of the latest run; None before the first.
    drawings : int
        How often the figure was drawn.
    """

    def __init__(self, interval: float = 1.0) -> None:
        if not interval >= 0:
            raise ValueError(f"interval is {interval!r} s; give 0 or more.")
        super().__init__()
        import matplotlib

        self.interval = interval
        self.figure: Figure | None = None
        self.drawings = 0
        self._in_window = "qt" in matplotlib.get_backend().lower()
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._draw: Callable[[], None] | None = None
        self._surveys: dict[str, Image] = {}
        self._pending_survey: Mapping[str, Any] | None = None
        self._painter: _Painter | None = None
        self._last_drawn = -np.inf

    def start(self, doc: Mapping[str, Any]) -> None:
        """Open the figure for a run of gp_sts; remember where a survey is taken."""
        if doc.get("plan_name") == "survey" and "frame" in doc:
            self._pending_survey = doc
            return
        if "grid" not in doc or "frame" not in doc or "columns" not in doc:
            return
        self.finish(timeout=2.0)
        grid = preview_grid(Grid.from_metadata({**doc["frame"], **doc["grid"]}))
        run = _Run(doc, grid, self._surveys.get(str(doc.get("survey"))))
        self._run = run
        self.drawings = 0
        self._last_drawn = -np.inf
        self.figure, show = _open_figure(self._in_window)
        panels = Panels(self.figure, run.snapshot())
        self._draw = partial(self._show, run, panels, show)
        if not self._in_window:
            self._painter = _Painter(self._draw, self.interval)
        self._changed()

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which stream is which."""
        run = self._run
        if run is not None and doc["run_start"] == run.start["uid"]:
            run.streams[doc["uid"]] = doc["name"]

    def event(self, doc: Any) -> Any:
        """Note a spectrum, a decision or a survey image."""
        run = self._run
        stream = None if run is None else run.streams.get(doc["descriptor"])
        if run is not None and stream == "primary":
            with self._lock:
                run.take_spectrum(int(doc["seq_num"]), doc["data"])
            self._changed()
        elif run is not None and stream == "decisions":
            vector = np.asarray(doc["data"]["hyperparameters"], dtype=float)
            if np.isfinite(vector).all():
                with self._lock:
                    run.hyperparameters = vector
                    run.default_noise = float(doc["data"].get("default_noise_variance", np.nan))
                    run.structure = str(doc["data"].get("structure", ""))
        elif run is not None and stream == "structure":
            # Such a prior is known at the candidates and nowhere else, so there is no preview.
            with self._lock:
                run.images = np.asarray(doc["data"]["structure_images"], dtype=float)
                run.grid = Grid.from_metadata({**run.start["frame"], **run.start["grid"]})
        elif self._pending_survey is not None:
            self._take_survey(doc["data"])
        return doc

    def stop(self, doc: Mapping[str, Any]) -> None:
        """Draw the end of the run."""
        run = self._run
        if run is None or doc["run_start"] != run.start["uid"]:
            self._pending_survey = None
            return
        if self._painter is not None:
            self._painter.end()
        elif self._draw is not None:
            self._draw()

    def finish(self, timeout: float = 10.0) -> None:
        """Wait until the last run is drawn to its end.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.
        """
        painter, self._painter = self._painter, None
        if painter is not None:
            painter.end()
            painter.join(timeout)

    def _take_survey(self, data: Mapping[str, Any]) -> None:
        start = self._pending_survey
        columns = {} if start is None else start.get("columns", {})
        keys = [columns[role] for role in ("topography", "forward") if role in columns]
        images = [np.asarray(data[key], dtype=float) for key in keys if key in data]
        if start is None or not images:
            return
        rows, width = images[0].shape
        frame = Grid.from_metadata({**start["frame"], "nx": width, "ny": rows})
        # The latest is the one that the next run refers to.
        self._surveys = {str(start["uid"]): Image(frame, images[0])}

    def _changed(self) -> None:
        if self._painter is not None:
            self._painter.wake()
        elif self._draw is not None and time.monotonic() - self._last_drawn >= self.interval:
            self._draw()

    def _show(self, run: _Run, panels: Panels, show: Callable[["Figure"], None]) -> None:
        with self._lock:
            snapshot = run.snapshot()
        panels.update(snapshot)
        show(panels.figure)
        panels.settle()
        self._last_drawn = time.monotonic()
        self.drawings += 1


class _Painter(threading.Thread):
    """Draws when woken, not more often than every interval, and once more at the end."""

    def __init__(self, draw: Callable[[], None], interval: float) -> None:
        super().__init__(name="live figure", daemon=True)
        self._draw_now = draw
        self._interval = interval
        self._news = threading.Event()
        self._ending = threading.Event()
        self._failed = False
        self.start()

    def wake(self) -> None:
        self._news.set()

    def end(self) -> None:
        self._ending.set()
        self._news.set()

    def run(self) -> None:
        while not self._ending.is_set():
            self._news.wait()
            if self._ending.is_set():
                break
            self._news.clear()
            self._draw()
            self._ending.wait(self._interval)
        self._draw()

    def _draw(self) -> None:
        try:
            self._draw_now()
        except Exception:
            # The same trouble at every spectrum is told once.
            if not self._failed:
                logger.exception("the live figure cannot be drawn; the run goes on")
            self._failed = True


def _open_figure(in_window: bool) -> tuple["Figure", Callable[["Figure"], None]]:
    """Return an empty figure, and what shows it after a change."""
    if in_window:
        import matplotlib.pyplot as plt

        plt.ion()
        window = plt.figure("gp_sts", figsize=_SIZE)
        window.clear()
        window.show()
        return window, _refresh
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=100)
    FigureCanvasAgg(figure)
    notebook = _notebook()
    return figure, _refresh if notebook is None else notebook


def _refresh(figure: "Figure") -> None:
    figure.canvas.draw()


def _notebook() -> Callable[["Figure"], None] | None:
    """Return what renews an image below the running cell; None outside of notebooks."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    if not hasattr(get_ipython(), "kernel"):
        return None
    from IPython.display import Image as Shown
    from IPython.display import display

    handle: list[Any] = []

    def show(figure: "Figure") -> None:
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        image = Shown(data=stream.getvalue())
        if handle:
            handle[0].update(image)
        else:
            handle.append(display(image, display_id=True))

    return show
