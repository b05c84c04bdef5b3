"""A recorded grid beneath the tip, played back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.nanonis.files import FileFormatError, Frame, Grid
from bluesky_gpsts.physics import REFERENCE_GAP, Drift, decay
from bluesky_gpsts.simulator.sample import Conditions, regulated

__all__ = ["RecordedSample", "recorded_sample"]

Array = NDArray[np.float64]


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
        nominal = self._nominal(regulated(bias))
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


def recorded_sample(grid: Grid, path: Path) -> RecordedSample:
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
