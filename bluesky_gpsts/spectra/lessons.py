"""Sessions to train on: the classes under ever new tips, among kinds that are none of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.physics import Junction
from bluesky_gpsts.spectra.drawn import any_kind, near_au, near_ws2
from bluesky_gpsts.spectra.kinds import APART, CLASSES, Density, Patches, place, surface_of
from bluesky_gpsts.spectra.nuisances import disturb, draw_tip, sizes
from bluesky_gpsts.spectra.simulate import measure
from bluesky_gpsts.spectra.types import Array

__all__ = ["LIBRARY", "OTHER", "Lesson", "lessons", "spoil"]

LIBRARY = 64
"""Materials that do not exist, which the network learns to tell apart from each other.

What tells 68 kinds apart tells a new kind apart as well.
"""

OTHER = len(CLASSES) + LIBRARY
"""Index of all that has no name."""

_SEED = 61
_MATERIALS = 4242
_HARDEST = 2.0
# Spectra of a lesson: of each class, near misses and of each, spoilt ones.
_VARIANTS, _EACH, _NEAR, _STRANGE, _SPOILT, _JOINED = 2, 14, 12, 2, 5, 4
_MEMBERS, _STRANGERS, _MATERIAL = 6, 4, 5
_CROPPED = 0.08
# A sweep is cut where either side holds this share of what two classes differ by.
_APPARENT = 0.3
# Share of the range of a material, on either side, that a sweep covers.
_SEEN = (0.35, 1.0)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Spectra of one simulated session.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv : (N, n) array
        dI/dV (A/V).
    targets : (N,) array of int
        Index of a class, len(classes) + index of a material of the library, or OTHER.
    """

    bias: Array
    didv: Array
    targets: NDArray[np.int64]


def lessons(seed: int, count: int) -> Iterator[Lesson]:
    """Draw sessions: half of Au(111), a quarter each of WS2 and of materials that do not exist.

    Difficulty is 0.3 to 2, the noise another factor of 0.5 to 5, the axis has 80 to 1300
    points and covers what tells the classes apart; where it does not, and where the axis is
    mirrored, the spectra count as none of the classes.

    Parameters
    ----------
    seed : int
        Seed; lessons of different seeds share no tip.
    count : int
        How many sessions.

    Yields
    ------
    Lesson
    """
    for number in range(0, count, _VARIANTS):
        rng = np.random.default_rng([seed, _SEED, number])
        # The classes of Au(111) differ by less than those of WS2.
        draw = (_ws2, _au111, _materials, _au111)[number // _VARIANTS % 4]
        yield from draw(rng, min(_VARIANTS, count - number))


def spoil(bias: Array, didv: Array, rng: np.random.Generator) -> Array:
    """Turn spectra into such as belong to no class.

    They are mirrored, warped, integrated to a current, cut off at the top as by a saturated
    amplifier, or have a state added.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv : (N, n) array
        Spectra (A/V).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (N, n) array
        Spectra (A/V).
    """
    u = (bias - bias.min()) / np.ptp(bias)
    order = np.argsort(u)
    result = np.empty_like(didv)
    for row, values in enumerate(didv):
        case = rng.integers(0, 5)
        if case == 0:
            result[row] = values[::-1]
        elif case == 1:
            power = float(np.exp(rng.uniform(0.25, 0.7) * rng.choice((-1.0, 1.0))))
            result[row] = np.interp(u**power, u[order], values[order])
        elif case == 2:
            result[row] = _integral(bias, values)
        elif case == 3:
            top = np.quantile(values, rng.uniform(0.4, 0.92))
            noise = top * np.exp(rng.uniform(np.log(1e-4), np.log(2e-2)))
            result[row] = np.minimum(values, top) + noise * rng.standard_normal(values.size)
        else:
            centre, width = rng.uniform(0.1, 0.9), np.exp(rng.uniform(np.log(0.01), np.log(0.08)))
            high = np.quantile(values, 0.95) - np.quantile(values, 0.05)
            bump = np.exp(-0.5 * ((u - centre) / width) ** 2)
            result[row] = values + rng.uniform(0.5, 2.0) * high * bump
    return result


def _joined(didv: Array, half: int, foreign: Array, rng: np.random.Generator) -> Array:
    """Spectra that are half of one kind and half of another: (_JOINED, n).

    The tip jumps in the middle of a sweep from one class (the first `half` rows) to the other, or
    a mean is taken over a class and another material (`foreign`).
    """
    rows = []
    for number in range(_JOINED):
        first = didv[rng.integers(0, half)]
        if number % 2:
            other, share = foreign[rng.integers(0, len(foreign))], rng.uniform(0.35, 0.65)
            first = didv[rng.integers(0, len(didv))]
            scale = np.ptp(first) / max(np.ptp(other), 1e-300)
            rows.append((1.0 - share) * first + share * scale * other)
            continue
        other = didv[rng.integers(half, len(didv))]
        apart = np.cumsum((didv[:half].mean(axis=0) - didv[half:].mean(axis=0)) ** 2)
        cut = int(np.searchsorted(apart, apart[-1] * rng.uniform(_APPARENT, 1.0 - _APPARENT)))
        pair = (first, other) if rng.random() < 0.5 else (other, first)
        rows.append(np.concatenate((pair[0][:cut], pair[1][cut:])))
    return np.array(rows)


def _integral(bias: Array, values: Array) -> Array:
    """Current that belongs to a spectrum, in numbers as large as those of the spectrum."""
    order = np.argsort(bias)
    total = np.empty_like(values)
    total[order] = np.append(
        0.0, np.cumsum(0.5 * np.diff(bias[order]) * (values[order][1:] + values[order][:-1]))
    )
    total -= np.interp(0.0, bias[order], total[order])
    return np.asarray(total * np.ptp(values) / np.ptp(total))


def _ws2(rng: np.random.Generator, variants: int) -> Iterator[Lesson]:
    def ends(whole: bool) -> tuple[float, float]:
        if not whole:
            return rng.uniform(-1.4, -0.4), rng.uniform(0.1, 0.35)
        if rng.random() < 0.5:
            return -1.8 + 0.1 * rng.standard_normal(), 1.4 + 0.1 * rng.standard_normal()
        return rng.uniform(-2.4, -0.6), rng.uniform(1.1, 2.3)

    return _surface(rng, ("V_S", "WS2"), near_ws2, ("Au fcc", "Au hcp"), ends, variants)


def _au111(rng: np.random.Generator, variants: int) -> Iterator[Lesson]:
    def ends(whole: bool) -> tuple[float, float]:
        if not whole:
            return rng.uniform(-0.38, -0.1), rng.uniform(0.5, 2.0)
        if rng.random() < 0.5:
            return -1.0 + 0.06 * rng.standard_normal(), 1.0 + 0.06 * rng.standard_normal()
        return rng.uniform(-2.2, -0.65), rng.uniform(0.0, 2.2)

    return _surface(rng, ("Au fcc", "Au hcp"), near_au, ("V_S", "WS2"), ends, variants)


def _surface(
    rng: np.random.Generator,
    classes: tuple[str, ...],
    near: Callable[[np.random.Generator], Density],
    others: tuple[str, ...],
    ends: Callable[[bool], tuple[float, float]],
    variants: int,
) -> Iterator[Lesson]:
    """Two classes of one surface among their near misses, under one tip, on several axes."""
    hardness = float(rng.uniform(0.3, _HARDEST))
    tip = draw_tip(rng, hardness)
    junction = Junction(surface_of(classes, rng), tip)
    strange = Junction(Patches(tuple(near(rng) for _ in range(_NEAR))), tip)
    elsewhere = Junction(surface_of(others, rng), tip)
    for _ in range(variants):
        difficulty = hardness * float(rng.uniform(0.7, 1.2))
        whole = rng.random() > _CROPPED
        axis = _axis(rng, *ends(whole))
        places = [place(kind, _EACH, difficulty, rng) for kind in classes]
        x, y = np.concatenate(places, axis=1)
        known = _measured(junction, x, y, axis, rng, difficulty)
        spoilt = spoil(axis, known[rng.permutation(x.size)[:_SPOILT]], rng)
        centres = APART * np.repeat(np.arange(_NEAR), _STRANGE).astype(float)
        near_misses = _measured(strange, centres, 0.0 * centres, axis, rng, difficulty)
        x, y = np.concatenate([place(kind, 1, difficulty, rng) for kind in others], axis=1)
        foreign = _measured(elsewhere, x, y, axis, rng, difficulty)
        joined = _joined(known, _EACH, foreign, rng)
        didv = np.concatenate((known, spoilt, joined, near_misses))
        targets = [CLASSES.index(kind) if whole else OTHER for kind in classes]
        names = np.repeat(targets + [OTHER], [_EACH, _EACH, len(didv) - 2 * _EACH])
        yield _disturbed(rng, axis, didv, names, difficulty)


def _materials(rng: np.random.Generator, variants: int) -> Iterator[Lesson]:
    """Materials of the library, and as many that appear only here."""
    wide = rng.random() < 0.3
    reach = 4.5 if wide else 2.0
    first = LIBRARY * 3 // 4
    members = np.arange(first, LIBRARY) if wide else np.arange(first)
    chosen = rng.choice(members, _MEMBERS, replace=False)
    densities = [any_kind(np.random.default_rng([_MATERIALS, int(k)]), reach) for k in chosen]
    densities += [any_kind(rng, reach) for _ in range(_STRANGERS)]
    targets = np.append(len(CLASSES) + chosen, np.full(_STRANGERS, OTHER))
    hardness = float(rng.uniform(0.3, _HARDEST))
    junction = Junction(Patches(tuple(densities), (-reach, reach)), draw_tip(rng, hardness))
    x = APART * np.repeat(np.arange(len(densities)), _MATERIAL).astype(float)
    for _ in range(variants):
        difficulty = hardness * float(rng.uniform(0.7, 1.2))
        axis = _axis(rng, -reach * rng.uniform(*_SEEN), reach * rng.uniform(*_SEEN))
        didv = _measured(junction, x, 0.0 * x, axis, rng, difficulty)
        yield _disturbed(rng, axis, didv, np.repeat(targets, _MATERIAL), difficulty)


def _axis(rng: np.random.Generator, low: float, high: float) -> Array:
    points = int(np.exp(rng.uniform(np.log(80), np.log(1300))))
    return np.linspace(low, high, points)


def _measured(
    junction: Junction,
    x: Array,
    y: Array,
    axis: Array,
    rng: np.random.Generator,
    difficulty: float,
) -> Array:
    size = sizes(difficulty)
    shift = axis * (1.0 + size["stretch"] * rng.standard_normal())
    shift = shift + size["offset"] * rng.standard_normal()
    jumps = size["jump"] * rng.standard_normal(x.size)
    return measure(junction, x, y, shift, jumps, float(rng.uniform(4e-3, 12e-3)))


def _disturbed(
    rng: np.random.Generator,
    axis: Array,
    didv: Array,
    targets: NDArray[np.int64],
    difficulty: float,
) -> Lesson:
    noise = float(np.exp(rng.uniform(np.log(0.5), np.log(5.0))))
    return Lesson(axis, disturb(axis, didv, rng, difficulty, noise=noise), targets)
