"""Tunnelling between a surface and a tip: current, dI/dV, lock-in signal and feedback gap."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import tables
from .barrier import decay
from .constants import BOLTZMANN_EV, FloatArray
from .surface import Surface
from .tip import Tip

REFERENCE_GAP = 0.6e-9
"""Gap (m) between tip and surface at which the tables hold."""

REFERENCE_CURRENT = 100e-12
"""Current (A) on the clean surface at its imaging bias and the reference gap."""

MAX_MODULATION = 0.1
"""Largest peak amplitude (V) of the lock-in modulation."""

_KEPT_AMPLITUDES = 8


@dataclass(frozen=True)
class Junction:
    """A surface and a tip at a temperature.

    Positions are in the sample frame (m). `dz` is the gap's change (m) from REFERENCE_GAP, one
    number or one per position, larger = further away; the gap is counted from the geometric
    height below the main apex. The tables are built at first use and kept.

    Parameters
    ----------
    surface : Surface
        The sample.
    tip : Tip
        The tip.
    temperature : float
        Temperature of sample and tip (K).
    """

    surface: Surface
    tip: Tip = field(default_factory=Tip)
    temperature: float = 4.5

    def __post_init__(self) -> None:
        """Check the values."""
        low, high = self.surface.bias_limits
        if not low < 0.0 < high:
            raise ValueError(f"bias limits are {low:g} to {high:g} V; they must enclose 0 V")
        if not 0.0 <= self.temperature <= 400.0:
            raise ValueError(f"temperature is {self.temperature} K; give 0 to 400 K")

    def current(
        self, x: FloatArray, y: FloatArray, bias: FloatArray, dz: FloatArray | float = 0.0
    ) -> FloatArray:
        """Tunnelling current.

        Parameters
        ----------
        x, y : (n,) arrays
            Positions (m).
        bias : (m,) array
            Sample bias (V), within the surface's bias limits.
        dz : float or (n,) array
            Change of the gap (m).

        Returns
        -------
        (n, m) array
            Current (A); it has the sign of the bias.

        Raises
        ------
        ValueError
            If the bias is outside the surface's limits or not a number.
        """
        volts = self._check_bias(bias)
        value = self.amplitudes(x, y) @ self._lookup(self._current_table, volts)
        return np.asarray(value * self._gap_factor(dz, volts))

    def conductance(
        self, x: FloatArray, y: FloatArray, bias: FloatArray, dz: FloatArray | float = 0.0
    ) -> FloatArray:
        """Differential conductance dI/dV (A/V) at constant height, thermally broadened.

        Parameters, shapes and errors as for `current`; it is the exact derivative of that.
        """
        return self._modulated(self._conductance_table, 1.0, x, y, bias, dz)

    def lockin(
        self,
        x: FloatArray,
        y: FloatArray,
        bias: FloatArray,
        amplitude: float,
        dz: FloatArray | float = 0.0,
    ) -> FloatArray:
        """First harmonic of the current under the bias V + amplitude sin(wt).

        Parameters
        ----------
        x, y, bias, dz
            As for `current`.
        amplitude : float
            Peak amplitude of the modulation (V), above 0, at most MAX_MODULATION.

        Returns
        -------
        (n, m) array
            Peak amplitude of the first harmonic (A), about amplitude times dI/dV.

        Raises
        ------
        ValueError
            If the bias or the amplitude is out of range.
        """
        if not 0.0 < amplitude <= MAX_MODULATION:
            raise ValueError(
                f"lock-in amplitude is {amplitude} V; give a peak amplitude above 0 and at most "
                f"{MAX_MODULATION:g} V"
            )
        return self._modulated(self._lockin_table(amplitude), amplitude, x, y, bias, dz)

    def setpoint_gap(
        self, x: FloatArray, y: FloatArray, bias: float, setpoint: float
    ) -> FloatArray:
        """Change of the gap that constant-current feedback settles at.

        Parameters
        ----------
        x, y : (n,) arrays
            Positions (m).
        bias : float
            Sample bias (V), not 0.
        setpoint : float
            Magnitude of the current (A), above 0.

        Returns
        -------
        (n,) array
            dz (m) with |current(x, y, bias, dz)| = setpoint.

        Raises
        ------
        ValueError
            If bias or setpoint leave nothing to regulate on.
        """
        if bias == 0.0:
            raise ValueError("feedback at a bias of 0 V has no current to hold; set a bias first")
        if not setpoint > 0.0:
            raise ValueError(f"setpoint is {setpoint} A; give the current's magnitude, above 0")
        reference = np.abs(self.current(x, y, np.array([bias]))[:, 0])
        kappa = float(decay(self.surface.work_function, bias))
        return np.asarray(np.log(reference / setpoint) / (2.0 * kappa))

    def height(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Geometric height (n,) in m below the main apex, as this tip resolves it."""
        dx, dy, _ = self.tip.apexes[0]
        px, py = _positions(x, y)
        return self.surface.height(px + dx, py + dy, self.tip.blur)

    def topography(self, x: FloatArray, y: FloatArray, bias: float, setpoint: float) -> FloatArray:
        """Constant-current height of the tip (n,) in m: surface height + gap.

        Parameters and errors as for `setpoint_gap`.
        """
        return self.height(x, y) + REFERENCE_GAP + self.setpoint_gap(x, y, bias, setpoint)

    def amplitudes(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Amplitudes (n, K) of the surface's spectra at the reference gap, over all apexes.

        An apex whose own ground is higher than the main one's carries more current: that is
        what doubles a step edge under a double tip.
        """
        px, py = _positions(x, y)
        weights = self.tip.weights
        base = self.height(px, py) if len(weights) > 1 else None
        kappa = float(decay(self.surface.work_function, 0.0))
        total: FloatArray | None = None
        for (dx, dy, _), weight in zip(self.tip.apexes, weights, strict=True):
            part = weight * self.surface.components(px + dx, py + dy, self.tip.blur)
            if base is not None and total is not None:
                rise = self.surface.height(px + dx, py + dy, self.tip.blur) - base
                part *= np.exp(2.0 * kappa * rise)[:, None]
            total = part if total is None else total + part
        assert total is not None  # a tip has at least one apex
        return total

    def _modulated(
        self,
        table: FloatArray,
        amplitude: float,
        x: FloatArray,
        y: FloatArray,
        bias: FloatArray,
        dz: FloatArray | float,
    ) -> FloatArray:
        """Response to a change of bias: the table's own, and that of the barrier at dz."""
        volts = self._check_bias(bias)
        weights = self.amplitudes(x, y)
        value = weights @ self._lookup(table, volts)
        if np.any(np.asarray(dz) != 0.0):
            # d/dV of I(V) exp(-2 kappa(V) dz): the barrier sinks with |V|
            kappa = decay(self.surface.work_function, volts)
            barrier = self.surface.work_function - 0.5 * np.abs(volts)
            slope = -np.sign(volts) * kappa / (4.0 * barrier)
            current = weights @ self._lookup(self._current_table, volts)
            value = value - 2.0 * amplitude * _column(dz) * slope * current
            value = value * self._gap_factor(dz, volts)
        return np.asarray(value)

    def _gap_factor(self, dz: FloatArray | float, bias: FloatArray) -> FloatArray:
        if np.all(np.asarray(dz) == 0.0):
            return np.ones((1, 1))
        return np.asarray(np.exp(-2.0 * _column(dz) * decay(self.surface.work_function, bias)))

    def _check_bias(self, bias: FloatArray) -> FloatArray:
        volts = np.atleast_1d(np.asarray(bias, float))
        low, high = self.surface.bias_limits
        if volts.ndim != 1:
            raise ValueError(f"bias has shape {volts.shape}; give one dimension (m,)")
        if volts.size and not (volts.min() >= low - 1e-9 and volts.max() <= high + 1e-9):
            raise ValueError(
                f"bias runs from {volts.min():g} to {volts.max():g} V; the model of "
                f"{self.surface.name} holds from {low:g} to {high:g} V, stay within"
            )
        return volts

    def _lookup(self, table: FloatArray, bias: FloatArray) -> FloatArray:
        """Interpolate a table (K, all) linearly at biases (m,): (K, m)."""
        position = bias / tables.STEP - self._first
        index = np.clip(position.astype(np.intp), 0, table.shape[1] - 2)
        fraction = position - index
        return np.asarray(table[:, index] * (1.0 - fraction) + table[:, index + 1] * fraction)

    @cached_property
    def _first(self) -> int:
        """Grid index of the lowest tabulated bias."""
        return int(np.floor(self.surface.bias_limits[0] / tables.STEP)) - 1

    @cached_property
    def _last(self) -> int:
        return int(np.ceil(self.surface.bias_limits[1] / tables.STEP)) + 1

    @cached_property
    def _padding(self) -> int:
        """Grid points beyond the limits that thermal and modulation kernels reach into."""
        reach = 16.0 * BOLTZMANN_EV * self.temperature + MAX_MODULATION
        return int(np.ceil(reach / tables.STEP)) + 6

    @cached_property
    def _thermal_table(self) -> FloatArray:
        """Thermally broadened current (K, m) in A, padded, up to a constant per spectrum."""
        pad = self._padding
        cold = tables.cold_current(
            self.surface.spectra,
            self.tip.dos,
            REFERENCE_GAP,
            self.surface.work_function,
            self._first - pad,
            self._last + pad,
        )
        kernel = tables.thermal_kernel(self.temperature)
        warm = tables.respond(cold, kernel)
        half = kernel.size // 2
        zero = warm[:, pad - half - self._first]
        imaging = round(self.surface.imaging[0] / tables.STEP)
        clean = self.surface.clean @ (warm[:, pad - half - self._first + imaging] - zero)
        return np.asarray(warm * (REFERENCE_CURRENT / abs(float(clean))))

    def _crop(self, padded: FloatArray) -> FloatArray:
        """Cut a padded table to the grid from _first to _last."""
        extra = (padded.shape[1] - (self._last - self._first + 1)) // 2
        return np.ascontiguousarray(padded[:, extra : padded.shape[1] - extra])

    @cached_property
    def _current_table(self) -> FloatArray:
        table = self._crop(self._thermal_table)
        # The two Fermi functions cancel at zero bias; the convolution knows only one of them.
        return table - table[:, [-self._first]]

    @cached_property
    def _conductance_table(self) -> FloatArray:
        return self._crop(tables.respond(self._thermal_table, tables.derivative_kernel()))

    @cached_property
    def _lockin_cache(self) -> dict[float, FloatArray]:
        return {}

    def _lockin_table(self, amplitude: float) -> FloatArray:
        cache = self._lockin_cache
        table = cache.get(amplitude)
        if table is None:
            kernel = tables.lockin_kernel(amplitude)
            table = self._crop(tables.respond(self._thermal_table, kernel))
            while len(cache) >= _KEPT_AMPLITUDES:
                cache.pop(next(iter(cache)), None)
            cache[amplitude] = table
        return table


def _positions(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions as two arrays (n,)."""
    px, py = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    return np.atleast_1d(px).ravel(), np.atleast_1d(py).ravel()


def _column(dz: FloatArray | float) -> FloatArray:
    """One gap change, or one per position, as a column (1, 1) or (n, 1)."""
    return np.atleast_1d(np.asarray(dz, float)).ravel()[:, None]
