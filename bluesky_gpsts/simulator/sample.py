"""What lies beneath the simulated tip: a computed surface, or a recorded grid played back."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files import FileFormatError, Frame, Grid, read_3ds
from bluesky_gpsts.physics import (
    REFERENCE_GAP,
    REPORTED_DRIFT,
    SURFACES,
    Drift,
    Junction,
    Metal,
    Tip,
    build_surface,
    decay,
    random_drift,
    random_tip,
    window_sum,
)

__all__ = [
    "ComputedSample",
    "Conditions",
    "RecordedSample",
    "Sample",
    "TipSample",
    "open_sample",
]

Array = NDArray[np.float64]

_SMALLEST_BIAS = 1e-6
_BARE = 1.5e-9


@dataclass(frozen=True)
class Conditions:
    """How the sample is usually measured; also the controller's settings at the start.

    Attributes
    ----------
    frame : Frame
        Frame to image and to map.
    bias, setpoint : float
        Bias (V) and current (A) of the feedback.
    bias_range : (float, float)
        Start and end of a sweep (V).
    points : int
        Points of a sweep.
    window : (float, float)
        Bias window (V) whose summed dI/dV is mapped.
    """

    frame: Frame
    bias: float
    setpoint: float
    bias_range: tuple[float, float]
    points: int
    window: tuple[float, float]


class Sample(Protocol):
    """A sample in its own frame; positions (n,) in m, biases (m,) in V, currents in A."""

    @property
    def name(self) -> str:
        """Name, or file name, of the sample."""
        ...

    @property
    def conditions(self) -> Conditions:
        """How it is usually measured."""
        ...

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Lowest and highest bias (V) it is known at."""
        ...

    def height(self, x: Array, y: Array) -> Array:
        """Heights (n,) of the surface (m)."""
        ...

    def gap(self, x: Array, y: Array, bias: float, setpoint: float) -> Array:
        """Gaps (n,) in m at which the feedback settles."""
        ...

    def decay(self, bias: float) -> float:
        """Decay constant kappa (1/m): the current falls as exp(-2 kappa z)."""
        ...

    def current(self, x: Array, y: Array, bias: Array, gap: float | Array) -> Array:
        """Currents (n, m) at a gap, one or (n,), in m."""
        ...

    def lockin(
        self, x: Array, y: Array, bias: Array, amplitude: float, gap: float | Array
    ) -> Array:
        """First harmonics (n, m) in A under a modulation of peak `amplitude` (V)."""
        ...

    def figure_of_merit(
        self, x: Array, y: Array, window: tuple[float, float], bias: float, setpoint: float
    ) -> Array:
        """Noise-free integrals (n,) of dI/dV over the window (A), after feedback."""
        ...

    def drift(self, seed: int) -> Drift:
        """Thermal drift of the size seen on such a sample."""
        ...


@runtime_checkable
class TipSample(Sample, Protocol):
    """A sample that can be seen with another tip, and bears the marks of one."""

    @property
    def tip(self) -> Tip:
        """Tip above it."""
        ...

    def under(self, tip: Tip) -> Self:
        """Same sample under another tip."""
        ...

    def bare(self, x: float, y: float) -> bool:
        """Whether there is flat, bare metal at a position (m)."""
        ...

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the sample with a heap (m) at a position (m), where a touch leaves one."""
        ...


def _regulated(bias: float) -> float:
    """Bias the feedback can hold a current at: with none, it drives the tip into the sample."""
    return bias if abs(bias) > _SMALLEST_BIAS else float(np.copysign(_SMALLEST_BIAS, bias))


@dataclass(frozen=True)
class ComputedSample:
    """A surface of `bluesky_gpsts.physics` under a tip at 4.5 K."""

    junction: Junction
    conditions: Conditions

    @property
    def name(self) -> str:
        """Name of the surface."""
        return self.junction.surface.name

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Bias range of the surface's model (V)."""
        return self.junction.surface.bias_limits

    def height(self, x: Array, y: Array) -> Array:
        """Heights (n,) of the surface (m)."""
        return self.junction.height(x, y)

    def gap(self, x: Array, y: Array, bias: float, setpoint: float) -> Array:
        """Gaps (n,) in m at which the feedback settles."""
        regulated = float(np.clip(_regulated(bias), *self.bias_limits))
        return REFERENCE_GAP + self.junction.setpoint_gap(x, y, regulated, setpoint)

    def decay(self, bias: float) -> float:
        """Decay constant kappa (1/m)."""
        return float(decay(self.junction.surface.work_function, np.clip(bias, *self.bias_limits)))

    def current(self, x: Array, y: Array, bias: Array, gap: float | Array) -> Array:
        """Currents (n, m) in A."""
        inside = np.clip(bias, *self.bias_limits)
        return self.junction.current(x, y, inside, gap - REFERENCE_GAP)

    def lockin(
        self, x: Array, y: Array, bias: Array, amplitude: float, gap: float | Array
    ) -> Array:
        """First harmonics (n, m) in A."""
        inside = np.clip(bias, *self.bias_limits)
        return self.junction.lockin(x, y, inside, amplitude, gap - REFERENCE_GAP)

    def figure_of_merit(
        self, x: Array, y: Array, window: tuple[float, float], bias: float, setpoint: float
    ) -> Array:
        """Integrals (n,) of dI/dV over the window (A)."""
        return window_sum(self.junction, x, y, window, bias, setpoint)

    @property
    def tip(self) -> Tip:
        """Tip above it."""
        return self.junction.tip

    def under(self, tip: Tip) -> Self:
        """Same sample under another tip."""
        return replace(self, junction=replace(self.junction, tip=tip))

    def bare(self, x: float, y: float) -> bool:
        """Whether there is metal, with nothing on it within 1.5 nm, at a position (m)."""
        surface = self.junction.surface
        return isinstance(surface, Metal) and surface.bare(x, y, _BARE)

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the sample with a heap (m) at a position (m); only metals keep marks."""
        surface = self.junction.surface
        if not isinstance(surface, Metal):
            return self
        heaped = surface.marked(x, y, height, radius)
        return replace(self, junction=replace(self.junction, surface=heaped))

    def drift(self, seed: int) -> Drift:
        """Drift of the size reported by Thomas et al. for this surface."""
        mean, std = REPORTED_DRIFT.get(self.name, REPORTED_DRIFT["ws2"])
        return random_drift(seed, mean, std)


@dataclass(frozen=True, eq=False)
class RecordedSample:
    """A recorded grid of bias spectra, interpolated linearly in x, y and bias.

    At the bias and setpoint of `conditions` the tip hangs where it hung when the grid was taken,
    and the recorded currents come back unchanged; another setpoint changes the gap.

    Attributes
    ----------
    name : str
        File name.
    frame : Frame
        Frame of the grid.
    bias : ndarray
        Bias axis (n,) in V, ascending.
    currents, slopes : ndarray
        Current (A) and dI/dV (A/V), each (ny, nx, n), bottom row first.
    heights : ndarray
        Heights (ny, nx) of the tip in m, as recorded.
    conditions : Conditions
        How the grid was taken.
    """

    name: str
    frame: Frame
    bias: Array
    currents: Array
    slopes: Array
    heights: Array
    conditions: Conditions

    work_function = 4.5

    @property
    def bias_limits(self) -> tuple[float, float]:
        """Recorded bias range (V)."""
        return float(self.bias[0]), float(self.bias[-1])

    def _weights(self, x: Array, y: Array) -> tuple[NDArray[np.intp], Array]:
        """Indices (4, n) into the flattened grid and weights (4, n) of bilinear interpolation.

        Beyond the outermost pixel centres the nearest pixel counts.
        """
        ny, nx = self.heights.shape
        angle = np.deg2rad(self.frame.angle)
        dx, dy = x - self.frame.x, y - self.frame.y
        u = dx * np.cos(angle) - dy * np.sin(angle)
        v = dx * np.sin(angle) + dy * np.cos(angle)
        column = np.clip((u / self.frame.width + 0.5) * nx - 0.5, 0, nx - 1)
        row = np.clip((v / self.frame.height + 0.5) * ny - 0.5, 0, ny - 1)
        c0, r0 = (
            np.minimum(column.astype(int), max(nx - 2, 0)),
            np.minimum(row.astype(int), max(ny - 2, 0)),
        )
        c1, r1 = np.minimum(c0 + 1, nx - 1), np.minimum(r0 + 1, ny - 1)
        fc, fr = column - c0, row - r0
        corners = np.stack([r0 * nx + c0, r0 * nx + c1, r1 * nx + c0, r1 * nx + c1])
        weights = np.stack([(1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc])
        return corners, weights

    def _interpolate(self, cube: Array, x: Array, y: Array, bias: Array) -> Array:
        """Values (n, m) of a cube (ny, nx, k) at positions (n,) and biases (m,)."""
        position = np.interp(bias, self.bias, np.arange(len(self.bias)))
        lower = np.minimum(position.astype(int), len(self.bias) - 2)
        share = position - lower
        flat = cube.reshape(-1, cube.shape[-1])
        corners, weights = self._weights(x, y)
        if len(x) <= 4:
            local = np.einsum("cn,cnk->nk", weights, flat[corners])
            return np.asarray(local[:, lower] * (1 - share) + local[:, lower + 1] * share)
        planes = flat[:, lower] * (1 - share) + flat[:, lower + 1] * share
        return np.asarray(np.einsum("cn,cnm->nm", weights, planes[corners]))

    def _nominal(self, bias: float) -> float:
        """Mean magnitude of the recorded current (A) at a bias."""
        at = np.array([np.clip(bias, *self.bias_limits)])
        position = float(np.interp(at, self.bias, np.arange(len(self.bias)))[0])
        index = round(position)
        recorded = max(float(np.mean(np.abs(self.currents[..., index]))), 1e-15)
        # Within a step of zero bias what is recorded is the amplifier's offset: no current flows.
        return recorded * min(1.0, abs(bias) / float(np.mean(np.diff(self.bias))))

    def height(self, x: Array, y: Array) -> Array:
        """Recorded heights (n,) in m."""
        corners, weights = self._weights(x, y)
        return np.asarray(np.sum(weights * self.heights.ravel()[corners], axis=0))

    def gap(self, x: Array, y: Array, bias: float, setpoint: float) -> Array:
        """Gaps (n,) in m: the reference gap where the setpoint is the recorded current."""
        nominal = self._nominal(_regulated(bias))
        # The controller gets its bias in 32 bits.
        if abs(bias - self.conditions.bias) < 1e-6:
            nominal = self.conditions.setpoint
        change = np.log(nominal / setpoint) / (2 * self.decay(bias))
        return np.full(len(x), REFERENCE_GAP + change)

    def decay(self, bias: float) -> float:
        """Decay constant kappa (1/m) at a work function of 4.5 eV."""
        return float(decay(self.work_function, np.clip(bias, -8.0, 8.0)))

    def _attenuation(self, gap: float | Array) -> Array:
        change = np.atleast_1d(np.asarray(gap, dtype=float)) - REFERENCE_GAP
        return np.asarray(np.exp(-2 * self.decay(self.conditions.bias) * change))[:, None]

    def current(self, x: Array, y: Array, bias: Array, gap: float | Array) -> Array:
        """Recorded currents (n, m) in A, at a gap other than recorded scaled exponentially."""
        return self._interpolate(self.currents, x, y, bias) * self._attenuation(gap)

    def lockin(
        self, x: Array, y: Array, bias: Array, amplitude: float, gap: float | Array
    ) -> Array:
        """Recorded dI/dV times the amplitude (n, m) in A."""
        slope = self._interpolate(self.slopes, x, y, bias)
        return amplitude * slope * self._attenuation(gap)

    def figure_of_merit(
        self, x: Array, y: Array, window: tuple[float, float], bias: float, setpoint: float
    ) -> Array:
        """Integrals (n,) over the window (A) of the recorded dI/dV."""
        low, high = window
        axis = np.union1d(self.bias[(self.bias > low) & (self.bias < high)], [low, high])
        values = self._interpolate(self.slopes, x, y, axis)
        scale = self._attenuation(self.gap(x, y, bias, setpoint))[:, 0]
        return np.asarray(np.trapezoid(values, axis, axis=1) * scale)

    def drift(self, seed: int) -> Drift:
        """No drift: what the sample did is in the record already."""
        return Drift()


# No scanner of a tunnelling microscope reaches further.
_LARGEST_REACH = 100e-6

_CURRENT_NAMES = ("Current (A)", "Current [AVG] (A)")


def _lockin_channel(grid: Grid) -> str | None:
    """Name of the channel that holds the first harmonic, if one does."""
    for name in grid.channels:
        plain = name.lower().replace("-", " ").replace("_", " ")
        if "bwd" in plain:
            continue
        if plain.startswith(("li", "lock in")) and (" x" in plain or "lix" in plain):
            return name
    return None


def _recorded(grid: Grid, path: Path) -> RecordedSample:
    """Sample from a complete grid of bias spectra."""
    if not grid.sweep_signal.lower().startswith("bias"):
        raise FileFormatError(
            path,
            "a grid of bias spectra",
            f"a sweep of {grid.sweep_signal!r}; choose a .3ds that was swept in bias",
        )
    if not grid.complete:
        raise FileFormatError(
            path,
            "a complete grid",
            f"{grid.n_recorded} of {grid.nx * grid.ny} pixels (the grid was aborted); "
            "choose one that was finished",
        )
    f = grid.frame
    reach = max(abs(f.x), abs(f.y), f.width, f.height)
    if not (min(f.width, f.height) > 0 and reach <= _LARGEST_REACH):
        raise FileFormatError(
            path,
            f"a frame with an area within {_LARGEST_REACH * 1e6:g} um of the piezo's centre",
            f"one of {f.width:g} x {f.height:g} m at ({f.x:g}, {f.y:g}) m",
        )
    name = next((n for n in (*_CURRENT_NAMES, *grid.channels) if n in grid.channels), "")
    if not name.startswith("Current"):
        raise FileFormatError(path, "a channel 'Current (A)'", f"channels {list(grid.channels)}")
    currents, axis = grid.channels[name], grid.sweep
    if len(axis) < 8 or np.any(np.diff(axis) == 0) or len(set(np.sign(np.diff(axis)))) != 1:
        raise FileFormatError(path, "a monotonic bias axis of 8 points or more", f"{axis!r}")
    if not np.all(np.isfinite(currents)):
        raise FileFormatError(path, "finite currents", "NaN or infinite values")
    slopes = np.gradient(currents, axis, axis=-1)
    lockin = _lockin_channel(grid)
    if lockin is not None and np.all(np.isfinite(grid.channels[lockin])):
        # The recorded amplitude is in the lock-in's own units; the currents calibrate it.
        raw = grid.channels[lockin]
        power = float(np.sum(raw * raw))
        if power > 0:
            slopes = raw * (float(np.sum(raw * slopes)) / power)
    ascending = slice(None) if axis[0] < axis[-1] else slice(None, None, -1)
    heights = grid.parameters.get("Z (m)", np.zeros(currents.shape[:2]))
    heights = np.nan_to_num(heights - np.nanmedian(heights))
    low, high = sorted((float(axis[0]), float(axis[-1])))
    # The sweep starts at the bias of the feedback, unless that is too close to zero to hold one.
    bias = float(axis[0] if abs(axis[0]) >= 0.05 * (high - low) else axis[-1])
    index = 0 if bias == float(axis[0]) else -1
    setpoint = max(float(np.mean(np.abs(currents[..., index]))), 1e-13)
    conditions = Conditions(
        frame=grid.frame,
        bias=bias,
        setpoint=setpoint,
        bias_range=(float(axis[0]), float(axis[-1])),
        points=len(axis),
        window=(low, high),
    )
    return RecordedSample(
        path.name,
        grid.frame,
        np.ascontiguousarray(axis[ascending]),
        np.ascontiguousarray(currents[..., ascending]),
        np.ascontiguousarray(slopes[..., ascending]),
        heights,
        conditions,
    )


_FRAMES = {"ws2": 3.0e-9, "au111": 12.0e-9}


def _computed(name: str, seed: int) -> ComputedSample:
    surface = build_surface(name, seed)
    size = _FRAMES.get(name, 5e-9)
    bias, setpoint = surface.imaging
    conditions = Conditions(
        Frame(0.0, 0.0, size, size),
        bias,
        setpoint,
        surface.sweep,
        1200,
        surface.window,
    )
    return ComputedSample(
        Junction(surface, random_tip(np.random.default_rng([seed, 5]), double_probability=0.0)),
        conditions,
    )


def open_sample(what: str, seed: int) -> Sample:
    """Sample by name, or from a recorded grid.

    Parameters
    ----------
    what : str
        Name of a surface ("ws2", "au111"), or the path of a .3ds file.
    seed : int
        Seed of a computed surface and its tip; a recorded grid does not depend on it.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError, FileFormatError
        If the file is not there, or is no complete grid of bias spectra.
    """
    if what in SURFACES:
        return _computed(what, seed)
    path = Path(what)
    if path.suffix.lower() != ".3ds" and not path.exists():
        known = ", ".join(sorted(SURFACES))
        raise ValueError(f"unknown sample {what!r}: give {known}, or the path of a .3ds grid")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the path of a Nanonis .3ds grid")
    return _recorded(read_3ds(path), path)
