"""Runs over a simulated sample, as the documents that the real plans emit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from event_model import compose_run

from bluesky_gpsts.physics import Junction, build_surface, sharp, window_sum
from bluesky_gpsts.surrogate import Grid, MapOptimizer

Documents = list[tuple[str, dict[str, Any]]]
Keep = Callable[[Documents], str]

POINT_ROLES = {
    "x": "m",
    "y": "m",
    "piezo_x": "m",
    "piezo_y": "m",
    "z": "m",
    "figure_of_merit": "A",
    "figure_of_merit_variance": "A^2",
}
SPECTRUM_ROLES = {"bias": "V", "current": "A", "lockin_x": "A", "lockin_y": "A", "didv": "A/V"}
COLUMNS = {role: f"stm_{role}" for role in (*SPECTRUM_ROLES, *POINT_ROLES)}
DECISION_KEYS = (
    "decision_id",
    "primary_seq_num",
    "x",
    "y",
    "acquisition_value",
    "posterior_mean",
    "posterior_std",
    "default_noise_variance",
    "n_data",
    "trained",
    "seconds_deciding",
    "seconds_instrument",
    "seconds_cycle",
)
BEGIN = 1.79e9


@dataclass(frozen=True)
class Experiment:
    """What is measured, and how much of it."""

    n_spectra: int = 14
    n_points: int = 120
    pixels: tuple[int, int] = (24, 20)
    surface: str = "ws2"
    sample: str = "WS2 <b>monolayer</b> & defects"
    seed: int = 1
    angle: float = 0.0
    noise: float = 1e-13
    known_variance: bool = True
    image: tuple[int, int] = (48, 40)
    frame_scale: float = 1.0
    side: float = 3e-9

    @property
    def grid(self) -> Grid:
        nx, ny = self.pixels
        height = self.side * ny / nx
        return Grid(0.2e-9, -0.1e-9, self.side, height, self.angle, nx, ny)

    @property
    def junction(self) -> Junction:
        return Junction(build_surface(self.surface, self.seed), sharp())

    def truth(self) -> np.ndarray:
        """Figure of merit at the candidates, in A."""
        surface, xy = self.junction.surface, self.grid.xy
        return self.grid.as_map(window_sum(self.junction, *xy.T, surface.window, *surface.imaging))


def _key(unit: str, shape: list[int]) -> dict[str, Any]:
    kind = {"dtype": "array", "dtype_numpy": "<f8"} if shape else {"dtype": "number"}
    return {"source": "test", "shape": shape, "units": unit, **kind}


def _event(bundle: Any, data: dict[str, Any], when: float) -> dict[str, Any]:
    return bundle.compose_event(data=data, timestamps=dict.fromkeys(data, when), time=when)


def survey_run(experiment: Experiment) -> Documents:
    """Survey of the frame, or of a larger one around it."""
    nx, ny = experiment.image
    grid = replace(
        experiment.grid,
        nx=nx,
        ny=ny,
        width=experiment.grid.width * experiment.frame_scale,
        height=experiment.grid.height * experiment.frame_scale,
    )
    junction = experiment.junction
    z = junction.topography(*grid.xy.T, *junction.surface.imaging)
    rng = np.random.default_rng([experiment.seed, 7])
    image = grid.as_map(z + rng.normal(0.0, 1.5e-12, z.shape))[::-1].copy()
    frame = {k: getattr(grid, k) for k in ("center_x", "center_y", "width", "height", "angle")}
    columns = {role: f"stm_{role}" for role in ("forward", "backward", "topography")}
    run = compose_run(
        metadata={
            "plan_name": "survey",
            "sample": experiment.sample,
            "frame": frame,
            "columns": columns,
        },
        time=BEGIN - 100,
    )
    stream = run.compose_descriptor(
        name="survey", data_keys={key: _key("m", [ny, nx]) for key in columns.values()}
    )
    data = {"stm_forward": image, "stm_backward": image, "stm_topography": image}
    return [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("event", _event(stream, data, BEGIN - 50)),
        ("stop", run.compose_stop(time=BEGIN - 40)),
    ]


def truth_run(experiment: Experiment, uid: str) -> Documents:
    """The truth of a run."""
    known = experiment.truth()
    run = compose_run(metadata={"plan_name": "truth", "truth_of": uid}, time=BEGIN + 1000)
    stream = run.compose_descriptor(
        name="primary", data_keys={"truth": _key("A", list(known.shape))}
    )
    return [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("event", _event(stream, {"truth": known}, BEGIN + 1001)),
        ("stop", run.compose_stop(time=BEGIN + 1002)),
    ]


def gp_sts_run(
    experiment: Experiment, survey: str = "", exit_status: str = "success"
) -> tuple[Documents, MapOptimizer]:
    """Run with a real optimizer in the loop; returns its documents and the optimizer.

    Without an exit status the run has no stop document.
    """
    steps = list(_measure(experiment, survey, exit_status))
    return [(name, doc) for _, name, doc in steps], steps[0][0]


def _measure(
    experiment: Experiment, survey: str, exit_status: str
) -> Iterator[tuple[MapOptimizer, str, dict[str, Any]]]:
    grid, junction = experiment.grid, experiment.junction
    surface, n_points = junction.surface, experiment.n_points
    optimizer = MapOptimizer(grid, n_initial=6, seed=experiment.seed)
    rng = np.random.default_rng([experiment.seed, 11])
    metadata = grid.to_metadata()
    run = compose_run(
        metadata={
            "plan_name": "gp_sts",
            "plan_args": {"budget": experiment.n_spectra, "acquisition": "variance"},
            "seed": experiment.seed,
            "sample": experiment.sample,
            "instrument": "stm",
            "versions": {"bluesky-gpsts": "0.1", "python": "3.11"},
            "frame": {k: metadata[k] for k in metadata if k not in ("nx", "ny")},
            "grid": {"nx": grid.nx, "ny": grid.ny},
            "columns": COLUMNS,
            "survey": survey,
            "window": list(surface.window),
            "bias_range": list(surface.sweep),
            "n_points": n_points,
            "budget": experiment.n_spectra,
            "acquisition": "variance",
            "kernel": "matern-5/2",
        },
        time=BEGIN,
    )
    yield optimizer, "start", run.start_doc
    baseline = run.compose_descriptor(
        name="baseline",
        data_keys={
            "stm_bias": _key("V", []),
            "stm_z_controller_setpoint": _key("A", []),
            "stm_lock_in_frequency": _key("Hz", []),
            "stm_z_controller_name": {"source": "test", "dtype": "string", "shape": []},
        },
    )
    settings = {
        "stm_bias": surface.imaging[0],
        "stm_z_controller_setpoint": surface.imaging[1],
        "stm_lock_in_frequency": 683.0,
        "stm_z_controller_name": "log <current>",
    }
    yield optimizer, "descriptor", baseline.descriptor_doc
    yield optimizer, "event", _event(baseline, settings, BEGIN + 0.1)
    primary = run.compose_descriptor(
        name="primary",
        data_keys={COLUMNS[r]: _key(u, [n_points]) for r, u in SPECTRUM_ROLES.items()}
        | {COLUMNS[r]: _key(u, []) for r, u in POINT_ROLES.items()},
    )
    decisions = run.compose_descriptor(
        name="decisions",
        data_keys={key: _key("", []) for key in DECISION_KEYS}
        | {
            "hyperparameters": _key("", [4]),
            "reason": {"source": "test", "dtype": "string", "shape": []},
        },
    )
    yield optimizer, "descriptor", primary.descriptor_doc
    yield optimizer, "descriptor", decisions.descriptor_doc
    bias = np.linspace(*surface.sweep, n_points)
    low, high = surface.window
    inside = (bias >= low) & (bias <= high)
    step = abs(bias[1] - bias[0])
    for number in range(1, experiment.n_spectra + 1):
        (suggestion,) = optimizer.suggest()
        decision = optimizer.explain(suggestion["_id"])
        x, y = np.array([suggestion["x"]]), np.array([suggestion["y"]])
        gap = junction.setpoint_gap(x, y, *surface.imaging)
        scatter = experiment.noise / step / np.sqrt(inside.sum())
        didv = junction.conductance(x, y, bias, gap)[0] + rng.normal(0.0, scatter, n_points)
        merit = float(didv[inside].sum() * step)
        variance = experiment.noise**2 if experiment.known_variance else float("nan")
        when = BEGIN + 1.1 * number
        data = {
            "bias": bias,
            "current": junction.current(x, y, bias, gap)[0],
            "lockin_x": 5e-3 * didv,
            "lockin_y": np.zeros(n_points),
            "didv": didv,
            "x": float(x[0]),
            "y": float(y[0]),
            "piezo_x": float(x[0]),
            "piezo_y": float(y[0]),
            "z": 1e-8,
            "figure_of_merit": merit,
            "figure_of_merit_variance": variance,
        }
        event = _event(primary, {COLUMNS[role]: value for role, value in data.items()}, when)
        yield optimizer, "event", event
        optimizer.ingest([{**suggestion, "figure_of_merit": merit}])
        record: dict[str, Any] = {
            "decision_id": float(decision.id),
            "primary_seq_num": float(number),
            "x": suggestion["x"],
            "y": suggestion["y"],
            "acquisition_value": decision.acquisition_value,
            "posterior_mean": decision.posterior_mean,
            "posterior_std": decision.posterior_std,
            "hyperparameters": decision.hyperparameters,
            "default_noise_variance": decision.default_noise_variance,
            "n_data": float(decision.n_data),
            "trained": float(decision.trained),
            "reason": "initial" if decision.reason == "initial design" else decision.reason,
            "seconds_deciding": 0.02 + 0.03 * (number % 7 == 0),
            "seconds_instrument": 1.0 + 0.05 * (number % 3),
            "seconds_cycle": 1.09 + 0.08 * (number % 7 == 0) + 0.05 * (number % 3),
        }
        yield optimizer, "event", _event(decisions, record, when + 0.05)
    if exit_status:
        changed = settings | {"stm_bias": settings["stm_bias"] + 0.1}
        yield optimizer, "event", _event(baseline, changed, when + 0.1)
        stop = run.compose_stop(
            exit_status=exit_status,
            reason="" if exit_status == "success" else "stopped by <hand>",
            time=BEGIN + 1.1 * experiment.n_spectra + 1.5,
        )
        yield optimizer, "stop", stop
