"""Au(111) with the herringbone reconstruction (22 x sqrt 3).

A surface state starts 0.48 eV below the Fermi level. Its low-energy electrons gather in the hcp
regions, where the potential is lower: there the density of states has a peak at the onset
(Chen et al., Phys. Rev. Lett. 80, 1469 (1998)). Spectra thus tell hcp from fcc.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from . import shapes
from .constants import FloatArray

ATOM_DISTANCE = 2.885e-10
"""Distance (m) between surface atoms."""

PERIOD = 6.34e-9
"""Period of the herringbone (m), across its stripes."""

HCP_SHARE = 0.40
"""Share of a period between the two ridges that enclose hcp stacking; the rest is fcc."""

STEP_HEIGHT = 2.35e-10
"""Height of a monatomic step (m)."""

ONSET = -0.48
"""Onset of the surface state (eV)."""

COMPONENTS = ("bulk", "fcc", "hcp", "ridge", "impurity")
"""Names of the K components, in order."""

_RIDGE_HEIGHT = 20e-12
_HCP_HEIGHT = 4e-12
_RIDGE_SIGMA = 0.55e-9
_BOUNDARY_SIGMA = 0.45e-9
_ATOM_HEIGHT = 1.0e-12
_RIDGE_SHARE = 0.5
# Roundness of the elbows: 1 would be a sharp zig-zag.
_ELBOW = 0.97


@dataclass(frozen=True)
class Impurity:
    """An adsorbate: position (m), height (m) and radius (m)."""

    x: float
    y: float
    height: float = 60e-12
    radius: float = 0.35e-9


@dataclass(frozen=True)
class Au111:
    """Au(111) (see `bluesky_gpsts.physics.surface.Surface`).

    Parameters
    ----------
    angle : float
        Mean direction across the stripes (rad).
    phase : float
        Position (m) of the middle of an hcp stripe along that direction.
    elbow_distance : float
        Distance (m) between elbows, along the stripes.
    elbow_phase : float
        Position (m) of the middle of a straight part, along the stripes.
    bend : float
        Angle (rad) by which the straight parts deviate from the mean, alternately; pi/6 gives
        the 120 degree elbows of the real surface.
    step_distance, step_direction : float
        The terrace ends at a straight step: its distance (m) from the origin, and the direction
        (rad) from the origin, downwards. An infinite distance leaves it out.
    impurities : tuple of Impurity
        Adsorbates.
    """

    angle: float = 0.0
    phase: float = 0.0
    elbow_distance: float = 17e-9
    elbow_phase: float = 0.0
    bend: float = np.pi / 6.0
    step_distance: float = np.inf
    step_direction: float = 0.0
    impurities: tuple[Impurity, ...] = ()
    name: str = "au111"
    work_function: float = 5.0
    bias_limits: tuple[float, float] = (-2.5, 2.5)
    sweep: tuple[float, float] = (1.0, -1.0)
    window: tuple[float, float] = (-0.50, -0.42)
    imaging: tuple[float, float] = (1.0, 30e-12)

    @cached_property
    def clean(self) -> FloatArray:
        """Amplitudes (K,) of the surface far from defects, averaged over the herringbone."""
        ridge = _RIDGE_SHARE * 2.0 * np.sqrt(2.0 * np.pi) * _RIDGE_SIGMA / PERIOD
        # A ridge lies on the boundary, half of it on either side.
        hcp = HCP_SHARE - 0.5 * ridge
        return np.array([1.0, 1.0 - ridge - hcp, hcp, ridge, 0.0])

    def hcp_share(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Degree of hcp stacking (n,) at positions (n,) in m: 1 in hcp, 0 in fcc regions."""
        position = self._across(x, y)
        half = 0.5 * HCP_SHARE * PERIOD
        return shapes.smooth_step(half - np.abs(position), _BOUNDARY_SIGMA, blur)

    def ridge_share(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Profile of the ridges (n,) at positions (n,) in m: 1 on the crest."""
        position = np.abs(self._across(x, y))
        half = 0.5 * HCP_SHARE * PERIOD
        other = shapes.gaussian_ridge(position + half, _RIDGE_SIGMA, blur)
        return shapes.gaussian_ridge(position - half, _RIDGE_SIGMA, blur) + other

    def components(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Amplitudes (n, K), in the order of COMPONENTS, at positions (n,) in m."""
        state = np.ones(x.shape)
        impurity = np.zeros(x.shape)
        for spot in self.impurities:
            profile = shapes.gaussian_spot(x, y, spot.x, spot.y, 2.0 * spot.radius, blur)
            state *= 1.0 - 0.95 * profile
            impurity += shapes.gaussian_spot(x, y, spot.x, spot.y, spot.radius, blur)
        if np.isfinite(self.step_distance):
            state *= 1.0 - 0.7 * shapes.gaussian_ridge(self._to_step(x, y), 0.6e-9, blur)
        hcp = self.hcp_share(x, y, blur)
        ridge = _RIDGE_SHARE * self.ridge_share(x, y, blur)
        flat = state * (1.0 - ridge)
        ones = np.ones(x.shape)
        return np.stack([ones, flat * (1.0 - hcp), flat * hcp, state * ridge, impurity], axis=1)

    def spectra(self, energy: FloatArray) -> FloatArray:
        """Spectra (K, m), in the order of COMPONENTS; 1 is the step of the surface state."""
        e = np.asarray(energy, float)
        # The tanh keeps the slopes bounded, and with them the density of states positive.
        bulk = 0.45 - 0.12 * np.tanh(e)
        above = 1.0 - 0.25 * np.tanh(e - ONSET)
        fcc = shapes.edge(e, ONSET + 0.006, 0.0042)
        hcp = 0.92 * shapes.edge(e, ONSET - 0.006, 0.0038)
        hcp = hcp * (1.0 + 0.95 * shapes.peak(e, ONSET + 0.016, 0.045))
        ridge = 0.96 * shapes.edge(e, ONSET + 0.002, 0.0055)
        return np.stack(
            [
                bulk,
                fcc * above,
                hcp * above,
                ridge * above,
                0.12 + 0.25 * shapes.peak(e, -0.20, 0.3),
            ]
        )

    def height(self, x: FloatArray, y: FloatArray, blur: float = 0.0) -> FloatArray:
        """Geometric height (n,) in m: ridges, hcp regions, atoms, impurities and the step."""
        total = _RIDGE_HEIGHT * self.ridge_share(x, y, blur)
        total += _HCP_HEIGHT * self.hcp_share(x, y, blur)
        total += _ATOM_HEIGHT * shapes.hexagonal_waves(
            x, y, ATOM_DISTANCE, self.angle, (0.0, 0.0), blur
        )
        for spot in self.impurities:
            total += spot.height * shapes.gaussian_spot(x, y, spot.x, spot.y, spot.radius, blur)
        if np.isfinite(self.step_distance):
            total -= STEP_HEIGHT * shapes.smooth_step(self._to_step(x, y), 0.12e-9, blur)
        return total

    def bare(self, x: float, y: float, radius: float) -> bool:
        """Whether there is neither step nor adsorbate within `radius` (m) of a position (m)."""
        if abs(float(self._to_step(np.array([x]), np.array([y]))[0])) < radius:
            return False
        return all(
            np.hypot(x - spot.x, y - spot.y) >= radius + 2.0 * spot.radius
            for spot in self.impurities
        )

    def marked(self, x: float, y: float, height: float, radius: float) -> Self:
        """Return the surface with a heap of `height` and `radius` (m) at a position (m)."""
        heap = Impurity(x, y, height, radius)
        return replace(self, impurities=(*self.impurities, heap))

    def _across(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Distance (n,) in m from the middle of the next hcp stripe, within half a period."""
        u, v = shapes.rotate(x, y, -self.angle)
        # A zig-zag with round elbows and straight parts of slope tan(bend).
        turn = np.pi * (v - self.elbow_phase) / self.elbow_distance
        slope = np.tan(self.bend) / _ELBOW
        shift = slope * self.elbow_distance / np.pi * np.arcsin(_ELBOW * np.sin(turn))
        cycles = (u - shift - self.phase) * np.cos(self.bend) / PERIOD
        return np.asarray(PERIOD * (cycles - np.round(cycles)))

    def _to_step(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Distance (n,) in m beyond the step."""
        c, s = np.cos(self.step_direction), np.sin(self.step_direction)
        return np.asarray(c * x + s * y - self.step_distance)


def build(seed: int) -> Au111:
    """Build an Au(111) surface.

    Parameters
    ----------
    seed : int
        Seed of the stripes' direction and phase, of the elbows, of the step (8.5 to 12 nm from
        the origin) and of the impurities.

    Returns
    -------
    Au111
        The first impurity is 4 to 8 nm from the origin, inside a 20 nm frame; others lie
        further out.
    """
    rng = np.random.default_rng([seed, 4])
    impurities = []
    for inner, outer in [(4e-9, 8e-9)] + [(16e-9, 60e-9)] * 8:
        radius, direction = rng.uniform(inner, outer), rng.uniform(0.0, 2.0 * np.pi)
        impurities.append(
            Impurity(
                float(radius * np.cos(direction)),
                float(radius * np.sin(direction)),
                height=float(rng.uniform(40e-12, 80e-12)),
                radius=float(rng.uniform(0.3e-9, 0.45e-9)),
            )
        )
    elbow = float(rng.uniform(15e-9, 20e-9))
    return Au111(
        angle=float(rng.uniform(0.0, 2.0 * np.pi)),
        phase=float(rng.uniform(0.0, PERIOD)),
        elbow_distance=elbow,
        elbow_phase=float(rng.uniform(0.0, 2.0 * elbow)),
        step_distance=float(rng.uniform(8.5e-9, 12e-9)),
        step_direction=float(rng.uniform(0.0, 2.0 * np.pi)),
        impurities=tuple(impurities),
    )
