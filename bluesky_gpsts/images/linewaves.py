"""Rows of dimers along the lines of the scan, told from the noise of the lines.

Every line of a scan has an offset of its own, and so the network looks at what a line has less its
mean. That takes the rows with it if they run along the lines: where a row crosses a few lines only,
from one side of the terrace to the other, what is left of it seems to cross them more steeply. The
direction is off by up to half a degree then, and so are the dimers where they lie along the lines.

The relief itself tells better. A wave that crosses the lines by the angle s X, X from -1/2 to 1/2
across the terrace, less its mean over each line has a size that goes with s; how large the wave is
tell the means of the lines. Both go into one fit of least squares in which the offset of a line is
a random effect: of each line the mean is not taken away whole, but as far as the offsets are larger
than what noise makes of the mean (Fuller and Battese, Econometrica 42, 67 (1974), transformed
least squares).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.rowlattice import BLOCK, RowLattice

__all__ = ["Seen", "along_lines"]

Array = NDArray[np.float64]


class Seen(NamedTuple):
    """What is to be seen of a terrace.

    Attributes
    ----------
    relief : (H, W) array
        Relief of a part of the grid, any unit, each line with an offset.
    trusted : (H, W) array of bool
        Pixels of it that belong to the terrace and show no defect.
    corner : (int, int)
        x and y of its first pixel.
    """

    relief: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    corner: tuple[int, int]


_CROSSED, _SLOPE, _NARROW = 2.2, 0.12, 3.0 * BLOCK
_FEWEST, _BIN = 16, 8
_ROUNDS, _DONE = 8, 0.01
_USUAL, _HARDER = 1.0, 3.0
"""How far (rad, from side to side) waves are off, and how much larger errors are than from white
noise; both as drawn images have them."""


def along_lines(lattice: RowLattice, look: Callable[[], Seen]) -> RowLattice:
    """Mend the waves of a lattice, of rows or of dimers, that run along the lines.

    Such a wave is made straight along the lines, in which drift and creep have no time to bend it,
    and turned to agree with the relief. The others stay.

    Parameters
    ----------
    lattice : RowLattice
        From the peaks of a terrace.
    look : callable
        Says what is to be seen of the terrace; called only if it is needed.

    Returns
    -------
    RowLattice
    """
    for which, (across, down) in enumerate(np.linalg.inv(lattice.vectors).T.tolist()):
        if abs(across) > 2.0 * _SLOPE * abs(down):
            continue
        wave = _wave(lattice, which)
        if wave.width < _NARROW or wave.crossings > _CROSSED or wave.steepness > _SLOPE:
            continue
        lattice = _with(lattice, which, wave, *_fit(wave, look()))
    return lattice


@dataclass(frozen=True, eq=False)
class _Wave:
    """A wave of a lattice, row by row of the blocks that hold its phases.

    Attributes
    ----------
    crossed, down : float
        Its mean periods per pixel along x and y.
    y, x, phase : (ny,) array
        Middles of the rows of blocks (pixels), and the phase there (periods).
    width : float
        Usual width (pixels) of the terrace along x.
    """

    crossed: float
    down: float
    y: Array
    x: Array
    phase: Array
    width: float

    @property
    def crossings(self) -> float:
        """Periods from one side of the terrace to the other."""
        return abs(self.crossed) * self.width

    @property
    def steepness(self) -> float:
        """Tangent of the angle between the crests and the lines."""
        return abs(self.crossed / self.down) if self.down else float("inf")


def _wave(lattice: RowLattice, which: int) -> _Wave:
    across, down = np.linalg.inv(lattice.vectors)[:, which]
    weight, deviation = lattice.weight, lattice.phases[which]
    rows, columns = (BLOCK * (np.arange(n) + 0.5) for n in weight.shape)
    y, x = rows + lattice.corner[1], columns + lattice.corner[0]
    sums = weight.sum(axis=1)
    middle = (weight @ x) / sums
    away = weight * (x - middle[:, None])
    inertia = max(float((away * x).sum()), 1e-12)
    x0, y0 = lattice.origin
    return _Wave(
        float(across - (away * deviation).sum() / inertia),
        float(down),
        y,
        middle,
        across * (middle - x0) + down * (y - y0) - (weight * deviation).sum(axis=1) / sums,
        float(np.sqrt(12.0 * inertia / sums.sum())),
    )


def _with(lattice: RowLattice, which: int, wave: _Wave, crossed: float, error: float) -> RowLattice:
    """Give a lattice a straight wave that crosses the lines so, about the middle of each."""
    x0, y0 = lattice.origin
    phases, errors = lattice.phases.copy(), lattice.errors.copy()
    straight = crossed * (wave.x - x0) + wave.down * (wave.y - y0) - wave.phase
    phases[which] = straight[:, None]
    waves, mean = np.linalg.inv(lattice.vectors), np.linalg.inv(lattice.mean)
    waves[0, which] = mean[0, which] = crossed
    if which == 1:
        errors[0] = np.hypot(errors[0], error / np.hypot(*mean[:, 1]))
    return replace(
        lattice,
        vectors=np.linalg.inv(waves),
        mean=np.asarray(np.linalg.inv(mean)),
        phases=phases,
        errors=errors,
    )


def _fit(wave: _Wave, seen: Seen) -> tuple[float, float]:
    """Periods per pixel along x that fit the relief, and their standard error."""
    values, count = _binned(seen)
    left_edge, first = seen.corner
    lines = np.flatnonzero(count.sum(axis=1) >= _FEWEST)
    if len(lines) < _FEWEST:
        return wave.crossed, 0.0
    values, count = values[lines], count[lines]
    pixels, weight = count.sum(axis=1), np.sqrt(count)
    y = lines + float(first)
    x = left_edge + _BIN * (np.arange(count.shape[1]) + 0.5) - 0.5
    phase = np.interp(y, wave.y, wave.phase - wave.down * wave.y) + wave.down * y
    place = (x - np.interp(y, wave.y, wave.x)[:, None]) / wave.width
    start = np.exp(2j * np.pi * (phase[:, None] + wave.crossed * wave.width * place))
    averages = (values * count).sum(axis=1) / pixels
    turn, keep = 0.0, np.ones(len(lines))
    for attempt in range(_ROUNDS):
        turned = start * np.exp(1j * turn * place)
        design = np.stack([turned.real, turned.imag, place * turned.real, place * turned.imag])
        shared = (design * count).sum(axis=2) / pixels
        less = ((design - ((1.0 - keep) * shared)[:, :, None]) * weight).reshape(4, -1)
        rest = (values - ((1.0 - keep) * averages)[:, None]) * weight
        inverse = np.linalg.pinv(less @ less.T)
        factors = inverse @ (less @ rest.ravel())
        left = values - np.tensordot(factors, design, 1)
        offsets = (left * count).sum(axis=1) / pixels
        noise = float((count * (left - offsets[:, None]) ** 2).sum() / (count > 0).sum())
        keep = np.sqrt(noise / (noise + pixels * max(float(offsets.var()), 1e-12)))
        # Only after the first time it is known how large the offsets are.
        if attempt:
            size = complex(factors[0], factors[1]) or 1e-12
            change = np.clip(-(complex(factors[2], factors[3]) / size).imag, -1.0, 1.0)
            turn += float(change)
            if abs(change) < _DONE:
                break
    error = _HARDER * np.sqrt(noise * 0.5 * (inverse[2, 2] + inverse[3, 3])) / abs(size)
    share = _USUAL**2 / (_USUAL**2 + error**2)
    unit = 2.0 * np.pi * wave.width
    return wave.crossed + share * turn / unit, float(error * np.sqrt(share)) / unit


def _binned(seen: Seen) -> tuple[Array, Array]:
    """Means of what is trusted of every few pixels of a line, and how many these are."""
    relief, trusted, _ = seen
    height, width = relief.shape
    pad, shape = ((0, 0), (0, -width % _BIN)), (height, -1, _BIN)
    count = np.pad(trusted, pad).reshape(shape).sum(axis=2).astype(float)
    sums = np.pad(np.where(trusted, relief, 0.0), pad).reshape(shape).sum(axis=2)
    return sums / np.maximum(count, 1.0), count
