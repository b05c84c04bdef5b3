"""Bias spectroscopy: the sequence that the controller carries out at one point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import demodulate
from bluesky_gpsts.simulator.microscope import Microscope, stream
from bluesky_gpsts.simulator.signals import BIAS, CURRENT, LOCKIN_X, LOCKIN_Y, SIGNALS, X, Y, Z

__all__ = ["Lockin", "Sweep", "SweepSettings", "acquire"]


@dataclass
class Lockin:
    """Modulator 1 and demodulator 1 of the lock-in amplifier.

    The modulation `amplitude` (V) is the peak value; the outputs are the amplitude of the first
    harmonic of the current (A), so that dI/dV is X divided by the amplitude.
    """

    on: bool = False
    frequency: float = 683.0
    amplitude: float = 5e-3
    modulated: int = BIAS
    demodulated: int = CURRENT
    phase: float = 0.0
    reference_phase: float = 0.0


@dataclass
class SweepSettings:
    """What the bias spectroscopy module holds, in the units of its commands."""

    start: float
    end: float
    points: int = 256
    sweeps: int = 1
    backward: bool = False
    save_all: bool = False
    autosave: bool = False
    channels: tuple[int, ...] = (CURRENT, LOCKIN_X, LOCKIN_Y)
    z_averaging: float = 0.05
    z_offset: float = 0.0
    initial_settling: float = 0.05
    slew: float = 10.0
    settling: float = 2e-3
    integration: float = 5e-3
    end_settling: float = 0.05
    z_control: float = 0.1
    reset_bias: bool = True
    hold: bool = True
    record_final_z: bool = False
    run_lockin: bool = False

    def duration(self, bias: float) -> float:
        """Seconds of the whole sequence when it starts at `bias` (V)."""
        passes = self.sweeps * (2 if self.backward else 1)
        ramps = (abs(bias - self.start) + abs(self.end - bias)) / self.slew
        per_point = self.settling + self.integration
        fixed = self.z_averaging + self.initial_settling + self.end_settling + self.z_control
        return fixed + ramps + passes * self.points * per_point


@dataclass(frozen=True)
class Sweep:
    """Result of a sweep: column names, data (columns, points), parameters, and its time."""

    names: tuple[str, ...]
    data: NDArray[np.float64]
    parameters: tuple[float, ...]
    begin: float
    end: float


def acquire(
    microscope: Microscope, settings: SweepSettings, lockin: Lockin, begin: float, counter: int
) -> Sweep:
    """Carry out the sequence from time `begin` (s): hold, ramp, sweep, restore."""
    microscope.update(begin)
    rng = stream(microscope.seed, "sweep", counter)
    old_bias, had_feedback = microscope.bias, microscope.feedback
    # The controller averages Z before it opens the loop, so the loop's own noise averages out.
    start = begin + settings.z_averaging
    microscope.update(start)
    following = had_feedback and not settings.hold
    height = microscope.z + settings.z_offset
    start += settings.initial_settling + abs(old_bias - settings.start) / settings.slew
    step = settings.settling + settings.integration
    forward: NDArray[np.float64] = np.linspace(settings.start, settings.end, settings.points)
    directions = [False, True] if settings.backward else [False]
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for _ in range(settings.sweeps):
        for back in directions:
            axis = forward[::-1] if back else forward
            times = start + np.arange(1, settings.points + 1, dtype=np.float64) * step
            taken = _measure(microscope, settings, lockin, axis, times, height, not following, rng)
            start = float(times[-1])
            for channel, values in taken.items():
                name = SIGNALS[channel]
                if back:
                    name = name.replace(" (", " [bwd] (", 1) if " (" in name else f"{name} [bwd]"
                    values = values[::-1]
                columns.setdefault(name, []).append(values)
    names, data = ["Bias calc (V)"], [forward]
    for name, repeats in columns.items():
        names.append(name)
        data.append(np.mean(repeats, axis=0))
        if settings.save_all and len(repeats) > 1:
            for number, repeat in enumerate(repeats, 1):
                names.append(name.replace(" (", f" [{number:05d}] (", 1))
                data.append(repeat)
    last_bias = forward[0] if settings.backward else forward[-1]
    end = start + settings.end_settling + settings.z_control
    if settings.reset_bias:
        end += abs(last_bias - old_bias) / settings.slew
    else:
        microscope.bias = float(last_bias)
    here = microscope.commanded(np.array([begin]))[0]
    parameters = (
        settings.start,
        settings.end,
        float(here[0]),
        float(here[1]),
        height,
        settings.z_offset,
        settings.settling,
        settings.integration,
        float(settings.hold),
    )
    microscope.settled(start, microscope.z if following else height)
    if had_feedback:
        microscope.update(end)
    return Sweep(tuple(names), np.array(data), parameters, begin, end)


def _measure(
    microscope: Microscope,
    settings: SweepSettings,
    lockin: Lockin,
    axis: NDArray[np.float64],
    times: NDArray[np.float64],
    height: float,
    hold: bool,
    rng: np.random.Generator,
) -> dict[int, NDArray[np.float64]]:
    """One pass over the bias axis, for every channel selected."""
    modulation = lockin.amplitude if lockin.on or settings.run_lockin else 0.0
    sample = microscope.sample
    # Within one sweep the tip drifts by a picometre at most: one point of the sample serves.
    where = microscope.under(times[len(times) // 2 : len(times) // 2 + 1])
    x, y = where[:, 0], where[:, 1]
    ground = sample.height(x, y) + microscope.vertical_shift(times)
    gap = height + microscope.height_noise.series(times) - ground
    if not hold:
        # With the loop closed the gap follows the bias, down to contact at zero.
        gap = np.array([sample.gap(x, y, float(v), microscope.setpoint)[0] for v in axis])
    middle = max(float(np.mean(gap)), 0.0)
    scale = np.exp(-2 * sample.decay(microscope.bias) * (gap - middle))
    clean = sample.current(x, y, axis, middle)[0] * scale
    microscope.truth.observe(gap, clean)
    current, _ = microscope.preamplifier.measure(clean, settings.integration, rng)
    harmonic = np.zeros(axis.shape)
    if modulation and lockin.modulated == BIAS and lockin.demodulated == CURRENT:
        harmonic = sample.lockin(x, y, axis, modulation, middle)[0] * scale
    turn = np.deg2rad(lockin.phase - lockin.reference_phase)
    density = microscope.preamplifier.noise_density
    in_phase, quadrature = demodulate(harmonic, settings.integration, rng, density, turn)
    values = {
        CURRENT: current,
        BIAS: axis,
        X: np.full(axis.shape, microscope.commanded(times[:1])[0, 0]),
        Y: np.full(axis.shape, microscope.commanded(times[:1])[0, 1]),
        Z: np.full(axis.shape, height),
        LOCKIN_X: in_phase,
        LOCKIN_Y: quadrature,
    }
    return {channel: values.get(channel, np.zeros(axis.shape)) for channel in settings.channels}
