"""Monolayer WS2 with point defects.

Band edges and defects follow scanning tunnelling spectroscopy of WS2 on graphene: sulfur
vacancies with two unoccupied deep in-gap states split by spin-orbit coupling (Schuler et al.,
Phys. Rev. Lett. 123, 076801 (2019)), oxygen at a sulfur site without a state in the gap, CH at
a sulfur site, charged, with states above the valence band, a transition metal at a tungsten
site with three states below the conduction band.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import shapes
from .constants import FloatArray

LATTICE_CONSTANT = 3.15e-10
"""Distance (m) between sulfur atoms."""

CONDUCTION_EDGE = 0.90
"""Onset of the conduction band (eV)."""

VALENCE_EDGE = -1.60
"""Onset of the valence band (eV)."""

VACANCY_STATES = (0.45, 0.70)
"""Energies (eV) of the two in-gap states of a sulfur vacancy, 0.25 eV of spin-orbit splitting."""

GAP_FLOOR = 1e-4
"""Density of states in the gap, relative to that at the conduction edge."""

KINDS = ("sulfur_vacancy", "oxygen_substitution", "ch_substitution", "tungsten_site")
"""Kinds of defects."""

COMPONENTS = (
    "gap",
    "conduction",
    "valence",
    "oxygen_bands",
    "ch_bands",
    "vacancy_lower",
    "vacancy_upper",
    "ch_state",
    "tungsten_1",
    "tungsten_2",
    "tungsten_3",
)
"""Names of the K components, in order."""

_STATES = {name: index for index, name in enumerate(COMPONENTS)}
_CORRUGATION = 0.04
_HEIGHT_CORRUGATION = 1.5e-12
_FRAME = 3.0e-9


@dataclass(frozen=True)
class Defect:
    """A point defect.

    Parameters
    ----------
    kind : str
        One of KINDS.
    x, y : float
        Position (m).
    angle : float
        Direction of the lattice's close-packed row at the defect (rad), which turns its states.
    scale : float
        Lateral size of its states relative to the usual one.
    balance : (float, float, float)
        Weights of the three lobes of its states; equal for a perfect three-fold symmetry.
    """

    kind: str
    x: float
    y: float
    angle: float = 0.0
    scale: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.kind not in KINDS:
            raise ValueError(f"defect kind is {self.kind!r}; known kinds: {', '.join(KINDS)}")
        if not self.scale > 0.0:
            raise ValueError(f"defect scale is {self.scale}; give a number above 0")


@dataclass(frozen=True)
class _State:
    """Shape of a state: a Gaussian in the centre and three lobes (lengths in m)."""

    component: str
    centre: float
    centre_sigma: float
    lobe: float
    radius: float
    lobe_sigma: float
    direction: float = 90.0


# The lobes of the vacancy's states point to the three tungsten neighbours. They are as wide as
# in the published dI/dV maps, 0.5 nm, which blurs the atoms away.
_SHAPES: dict[str, tuple[_State, ...]] = {
    "sulfur_vacancy": (
        _State("vacancy_lower", 0.5, 0.24e-9, 3.0, 0.42e-9, 0.20e-9),
        _State("vacancy_upper", 1.0, 0.26e-9, 2.4, 0.45e-9, 0.22e-9),
    ),
    "oxygen_substitution": (),
    "ch_substitution": (_State("ch_state", 1.5, 0.45e-9, 0.8, 0.50e-9, 0.30e-9),),
    "tungsten_site": (
        _State("tungsten_1", 0.4, 0.25e-9, 3.0, 0.35e-9, 0.19e-9, 270.0),
        _State("tungsten_2", 3.5, 0.30e-9, 0.0, 0.35e-9, 0.20e-9),
        _State("tungsten_3", 0.3, 0.25e-9, 2.5, 0.52e-9, 0.21e-9, 90.0),
    ),
}
# Share of the band states that a defect takes away, and the radius (m): the dark halo.
_QUENCH = {
    "sulfur_vacancy": (0.45, 0.60e-9),
    "oxygen_substitution": (0.10, 0.30e-9),
    "ch_substitution": (0.15, 0.60e-9),
    "tungsten_site": (0.30, 0.50e-9),
}
# Share of the bands that a defect moves in energy, and the radius (m).
_SHIFT = {
    "oxygen_substitution": ("oxygen_bands", 0.90, 0.30e-9),
    "ch_substitution": ("ch_bands", 0.95, 0.90e-9),
}
# Height (m) and radius (m) of the relaxed atoms.
_RELAXATION = {
    "sulfur_vacancy": (-12e-12, 0.20e-9),
    "oxygen_substitution": (-15e-12, 0.22e-9),
    "ch_substitution": (10e-12, 0.25e-9),
    "tungsten_site": (8e-12, 0.30e-9),
}


@dataclass(frozen=True)
class WS2:
    """Monolayer WS2 (see `bluesky_gpsts.physics.surface.Surface`).

    Parameters
    ----------
    angle : float
        Direction of a close-packed sulfur row (rad).
    origin : (float, float)
        Position (m) of one sulfur site.
    defects : tuple of Defect
        The defects.
    """

    angle: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)
    defects: tuple[Defect, ...] = ()
    name: str = "ws2"
    work_function: float = 4.5
    bias_limits: tuple[float, float] = (-2.5, 2.5)
    sweep: tuple[float, float] = (1.4, -1.8)
    window: tuple[float, float] = (0.0, 0.7)
    imaging: tuple[float, float] = (1.2, 30e-12)

    @cached_property
    def clean(self) -> FloatArray:
        """Amplitudes (K,) of the surface far from defects, averaged over the lattice."""
        return np.array([1.0, 1.0, 1.0] + [0.0] * (len(COMPONENTS) - 3))

    def components(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Amplitudes (n, K), in the order of COMPONENTS, at positions (n,) in m."""
        waves = self._waves(x, y, blur)
        kept = np.ones(x.shape)
        unmoved = np.ones(x.shape)
        moved = {"oxygen_bands": np.ones(x.shape), "ch_bands": np.ones(x.shape)}
        result = np.zeros((x.size, len(COMPONENTS)))
        for defect in self._near(x, y):
            share, radius = _QUENCH[defect.kind]
            kept *= 1.0 - share * _spot(x, y, defect, radius, blur)
            if defect.kind in _SHIFT:
                component, share, radius = _SHIFT[defect.kind]
                left = 1.0 - share * _spot(x, y, defect, radius, blur)
                unmoved *= left
                moved[component] *= left
            for state in _SHAPES[defect.kind]:
                _add_state(result[:, _STATES[state.component]], x, y, defect, state, blur)
        bands = kept * (1.0 + _CORRUGATION * waves)
        result[:, 0] = 1.0
        result[:, 1] = bands * unmoved
        result[:, 2] = bands * unmoved
        for component, left in moved.items():
            result[:, _STATES[component]] = bands * (1.0 - left)
        return result

    def spectra(self, energy: FloatArray) -> FloatArray:
        """Spectra (K, m), in the order of COMPONENTS; 1 is the step at the conduction edge."""
        e = np.asarray(energy, float)
        lower, upper = VACANCY_STATES
        # Oxygen widens the gap; the charge of CH lifts both bands.
        return np.stack(
            [
                np.full(e.shape, GAP_FLOOR),
                _conduction(e),
                _valence(e),
                _conduction(e - 0.06) + _valence(e + 0.05),
                _conduction(e - 0.22) + 0.6 * _valence(e - 0.20),
                shapes.peak(e, lower, 0.042),
                shapes.peak(e, upper, 0.048),
                0.8 * shapes.peak(e, -1.18, 0.07) + shapes.peak(e, -1.30, 0.08),
                shapes.peak(e, 0.60, 0.040),
                shapes.peak(e, 0.72, 0.045),
                shapes.peak(e, 0.86, 0.050),
            ]
        )

    def height(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Geometric height (n,) in m: the sulfur lattice and relaxed atoms."""
        total = _HEIGHT_CORRUGATION * self._waves(x, y, blur)
        for defect in self._near(x, y):
            depth, radius = _RELAXATION[defect.kind]
            total += depth * _spot(x, y, defect, radius, blur)
        return total

    def _waves(self, x: FloatArray, y: FloatArray, blur: float) -> FloatArray:
        return shapes.hexagonal_waves(x, y, LATTICE_CONSTANT, self.angle, self.origin, blur)

    def _near(self, x: FloatArray, y: FloatArray) -> Iterator[Defect]:
        """Defects whose states can reach the positions."""
        if x.size == 0:
            return
        reach = 7e-9
        left, right, bottom, top = x.min(), x.max(), y.min(), y.max()
        for defect in self.defects:
            across = left - reach < defect.x < right + reach
            if across and bottom - reach < defect.y < top + reach:
                yield defect


def build(seed: int) -> WS2:
    """Build a WS2 monolayer with a sulfur vacancy near the origin.

    Parameters
    ----------
    seed : int
        Seed of the orientation, of the vacancy's position (within 0.45 nm of the origin in x
        and y), size (+-10 %) and lobes (+-15 %), and of the other defects.

    Returns
    -------
    WS2
        The first defect is the vacancy at the origin. One of each other kind and a second
        vacancy lie 3 to 6 nm from the origin, outside a 3 nm frame; more are scattered out to
        25 nm, at least 3 nm apart.
    """
    rng = np.random.default_rng([seed, 3])
    angle = float(rng.uniform(0.0, 2.0 * np.pi))
    x, y = (float(value) for value in 0.15 * _FRAME * rng.uniform(-1.0, 1.0, 2))
    defects = [_random_defect(rng, "sulfur_vacancy", (x, y), angle)]
    near = [str(kind) for kind in rng.permutation(KINDS)]
    far = [str(kind) for kind in rng.choice(KINDS, size=24, p=(0.4, 0.35, 0.1, 0.15))]
    for kind, inner, outer in [(k, 3.0e-9, 6.0e-9) for k in near] + [
        (k, 6.0e-9, 25e-9) for k in far
    ]:
        for _ in range(200):
            radius = np.sqrt(rng.uniform(inner**2, outer**2))
            direction = rng.uniform(0.0, 2.0 * np.pi)
            wanted = radius * np.cos(direction), radius * np.sin(direction)
            px, py = _nearest_site(wanted, kind, angle, (x, y))
            clear = all(np.hypot(px - d.x, py - d.y) > 3.0e-9 for d in defects)
            if clear and np.hypot(px, py) > 2.9e-9:
                defects.append(_random_defect(rng, kind, (px, py), angle))
                break
        else:
            raise RuntimeError(f"no room for a defect {inner:g} to {outer:g} m from the origin")
    return WS2(angle=angle, origin=(x, y), defects=tuple(defects))


def _random_defect(
    rng: np.random.Generator, kind: str, position: tuple[float, float], angle: float
) -> Defect:
    lobes = [float(value) for value in 1.0 + rng.uniform(-0.15, 0.15, 3)]
    return Defect(
        kind,
        position[0],
        position[1],
        angle,
        scale=float(rng.uniform(0.9, 1.1)),
        balance=(lobes[0], lobes[1], lobes[2]),
    )


def _nearest_site(
    position: tuple[float, float], kind: str, angle: float, origin: tuple[float, float]
) -> tuple[float, float]:
    """Site near a position: tungsten for a tungsten defect, else sulfur."""
    shift = LATTICE_CONSTANT / np.sqrt(3.0) if kind == "tungsten_site" else 0.0
    dx, dy = position[0] - origin[0], position[1] - origin[1]
    c, s = np.cos(angle), np.sin(angle)
    u, v = c * dx + s * dy, -s * dx + c * dy - shift
    row = round(v / (LATTICE_CONSTANT * np.sqrt(3.0) / 2.0))
    column = round(u / LATTICE_CONSTANT - 0.5 * row)
    u = LATTICE_CONSTANT * (column + 0.5 * row)
    v = LATTICE_CONSTANT * np.sqrt(3.0) / 2.0 * row + shift
    return float(origin[0] + c * u - s * v), float(origin[1] + s * u + c * v)


def _conduction(e: FloatArray) -> FloatArray:
    return np.asarray(
        shapes.edge(e, CONDUCTION_EDGE, 0.016)
        + 0.7 * shapes.edge(e, 1.06, 0.022)
        + 1.3 * shapes.edge(e, 1.27, 0.030)
        + 2.0 * shapes.edge(e, 1.75, 0.060)
    )


def _valence(e: FloatArray) -> FloatArray:
    return np.asarray(
        4.0 * shapes.edge(e, VALENCE_EDGE, -0.016)
        + 9.0 * shapes.edge(e, -1.72, -0.022)
        + 9.0 * shapes.edge(e, -2.05, -0.050)
    )


def _spot(x: FloatArray, y: FloatArray, defect: Defect, radius: float, blur: float) -> FloatArray:
    return shapes.gaussian_spot(x, y, defect.x, defect.y, radius, blur)


def _add_state(
    target: FloatArray, x: FloatArray, y: FloatArray, defect: Defect, state: _State, blur: float
) -> None:
    """Add the density of one state to a column of amplitudes."""
    size = defect.scale
    target += state.centre * shapes.gaussian_spot(
        x, y, defect.x, defect.y, size * state.centre_sigma, blur
    )
    for lobe, weight in enumerate(defect.balance):
        direction = defect.angle + np.deg2rad(state.direction + 120.0 * lobe)
        target += (state.lobe * weight) * shapes.gaussian_spot(
            x,
            y,
            defect.x + size * state.radius * np.cos(direction),
            defect.y + size * state.radius * np.sin(direction),
            size * state.lobe_sigma,
            blur,
        )
