"""Labelled spectra from physics, session by session."""

from collections.abc import Mapping, Sequence

import numpy as np

from bluesky_gpsts.physics import Junction, Surface
from bluesky_gpsts.spectra.kinds import (
    CLASSES,
    FORMULAS,
    KINDS,
    RANGES,
    Density,
    Patches,
    place,
    surface_of,
)
from bluesky_gpsts.spectra.nuisances import disturb, draw_tip, sizes
from bluesky_gpsts.spectra.types import Array, Session

__all__ = ["PAPER_COUNTS", "measure", "simulate"]

PAPER_COUNTS = {"Au fcc": 424, "Au hcp": 709, "V_S": 158, "WS2": 191}
"""Spectra per class in Thomas et al., npj Comput. Mater. 8, 99 (2022)."""

_STREAM = 41
_SETPOINT = 30e-12


def simulate(
    seed: int,
    counts: Mapping[str, int] | None = None,
    *,
    difficulty: float = 1.0,
    sessions: int = 8,
    points: int | Sequence[int] = 1200,
    ranges: float = 0.0,
    noise: float = 1.0,
    bias_shift: float = 0.0,
    tip_changes: float = 1.0,
) -> tuple[Session, ...]:
    """Draw labelled spectra of whole sessions.

    Parameters
    ----------
    seed : int
        Seed, 0 or above; the same seed gives the same spectra.
    counts : mapping of str to int, optional
        Spectra of each kind, keys of `bluesky_gpsts.spectra.kinds.KINDS`; 150 of each of the
        four classes unless given.
    difficulty : float
        Multiplies every nuisance: tip, distance from the feature, gain, offset, bias offset,
        background, noise, tip changes. 0.3 is easy, 1 a session, 1.5 hard.
    sessions : int
        Sessions per surface, each with a tip of its own; the spectra of a kind are spread
        evenly over them.
    points : int or (int, int)
        Points of a sweep, or the range from which each session draws it.
    ranges : float
        Largest change (V) of either end of a session's bias range.
    noise, tip_changes : float
        Multiply the noise, and the share of sweeps with a change of the tip, further.
    bias_shift : float
        Constant error of the bias (V), beside that of the session.

    Returns
    -------
    tuple of Session
        dI/dV in A/V against the bias in V.

    Raises
    ------
    ValueError
        If a kind is unknown, or a number is out of range.
    """
    counts = dict.fromkeys(CLASSES, 150) if counts is None else dict(counts)
    for kind, count in counts.items():
        if kind not in KINDS:
            raise ValueError(f"no kind of spectrum {kind!r}; choose from {', '.join(KINDS)}")
        if count < 0:
            raise ValueError(f"{count} spectra of {kind} asked for; give 0 or more")
    if seed < 0 or sessions < 1:
        raise ValueError(f"seed {seed}, {sessions} sessions; give 0 or more, and 1 or more")
    if not difficulty >= 0.0 or not noise >= 0.0:
        raise ValueError(f"difficulty {difficulty}, noise {noise}; give 0 or more")
    species = {
        kind: draw(np.random.default_rng([seed, _STREAM, 9, index]))
        for index, (kind, draw) in enumerate(FORMULAS.items())
    }
    result = []
    for surface in RANGES:
        kinds = tuple(kind for kind in counts if KINDS[kind].surface == surface)
        for number in range(sessions if kinds else 0):
            rng = np.random.default_rng([seed, _STREAM, len(surface), number])
            shares = {
                kind: counts[kind] // sessions + (number < counts[kind] % sessions)
                for kind in kinds
            }
            first, last = np.array(RANGES[surface]) + ranges * rng.uniform(-1.0, 1.0, 2)
            size = points if isinstance(points, int) else int(rng.integers(points[0], points[1]))
            axis = np.linspace(first, last, size)
            didv, labels = _session(shares, species, axis, rng, difficulty, bias_shift)
            if labels:
                disturbed = disturb(
                    axis, didv, rng, difficulty, noise=noise, tip_changes=tip_changes
                )
                name = f"{surface}, seed {seed}, session {number}"
                result.append(Session(name, axis, disturbed, np.array(labels)))
    return tuple(result)


def _session(
    shares: Mapping[str, int],
    species: Mapping[str, Density],
    axis: Array,
    rng: np.random.Generator,
    d: float,
    shift: float,
) -> tuple[Array, list[str]]:
    """Noise-free spectra (N, n) in A/V of one session, and their labels."""
    tip = draw_tip(rng, d)
    size = sizes(d)
    offset = shift + size["offset"] * rng.standard_normal()
    stretch = 1.0 + size["stretch"] * rng.standard_normal()
    modulation = float(rng.uniform(4e-3, 12e-3))
    groups: list[tuple[str, Surface, Array, Array]] = []
    physical = tuple(kind for kind in shares if kind not in FORMULAS)
    if physical:
        surface = surface_of(physical, rng)
        for kind in physical:
            groups.append((kind, surface, *place(kind, shares[kind], d, rng)))
    for kind in (kind for kind in shares if kind in species):
        x = np.zeros(shares[kind])
        groups.append((kind, Patches((species[kind],)), x, x))
    junctions: dict[int, Junction] = {}
    blocks, labels = [np.zeros((0, axis.size))], []
    for kind, ground, x, y in groups:
        junction = junctions.setdefault(id(ground), Junction(ground, tip))
        jumps = size["jump"] * rng.standard_normal(x.size)
        blocks.append(measure(junction, x, y, axis * stretch + offset, jumps, modulation))
        labels += [kind] * x.size
    return np.concatenate(blocks), labels


def measure(
    junction: Junction,
    x: Array,
    y: Array,
    bias: Array,
    jumps: Array,
    modulation: float,
) -> Array:
    """Lock-in spectra (N, n) in A/V, each regulated to one current, each with a bias shift.

    Parameters
    ----------
    junction : Junction
        Surface and tip.
    x, y : (N,) arrays
        Positions (m).
    bias : (n,) array
        Bias (V) that reaches the sample.
    jumps : (N,) array
        Shift (V) of each spectrum's bias.
    modulation : float
        Peak amplitude of the modulation (V).

    Returns
    -------
    (N, n) array
    """
    if x.size == 0:
        return np.zeros((0, bias.size))
    value = junction.lockin(x, y, np.clip(bias, *junction.surface.bias_limits), modulation)
    setpoint = np.abs(junction.current(x, y, np.array([junction.surface.imaging[0]])))
    value *= _SETPOINT / (setpoint * modulation)
    position = np.arange(bias.size) + jumps[:, None] / (bias[1] - bias[0])
    position = np.clip(position, 0.0, bias.size - 1.0)
    left = np.minimum(position.astype(np.intp), bias.size - 2)
    share = position - left
    below = np.take_along_axis(value, left, axis=1)
    above = np.take_along_axis(value, left + 1, axis=1)
    return np.asarray(below * (1.0 - share) + above * share)
