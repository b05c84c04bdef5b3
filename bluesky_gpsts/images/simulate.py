"""Draw images of H-Si(100) from the physics of the surface, with the truth about each.

The surface, its terraces and its defects are those of `bluesky_gpsts.physics.hsi100`; a tip sees
them at constant current while the sample drifts; then comes what a microscope adds. An image may
be ruined on purpose, in one of the ways that make real images worthless.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images import imaging
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.truths import Track, truth
from bluesky_gpsts.physics import Tip, decay
from bluesky_gpsts.physics.hsi100 import HSi100
from bluesky_gpsts.physics.hsi100_build import (
    DENSITIES,
    Ground,
    check_densities,
    random_terraces,
)
from bluesky_gpsts.physics.hsi100_defects import Spot
from bluesky_gpsts.physics.tables import STEP, cold_current
from bluesky_gpsts.physics.tunnelling import REFERENCE_GAP

__all__ = ["COARSE_PIXELS", "RUINED", "draw_blunt", "draw_image"]

Array = NDArray[np.float64]

RUINED = (
    "unresolved",
    "double tip",
    "contamination",
    "tip",
    "oscillation",
    "saturated",
    "noise",
)
"""Why an image may not be worth reading: a blunt tip, a tip with several apexes, a surface covered
with something, a tip that keeps changing, a feedback that oscillates, heights beyond the range, a
signal lost in noise."""

PIXELS = (0.07e-9, 0.115e-9)
"""Usual sizes of a pixel (m)."""

COARSE_PIXELS = (0.115e-9, 0.18e-9)
"""Sizes of a pixel (m) of large frames, in which the dimers are hardly resolved."""

_BLUNT_PIXELS = (PIXELS[0], COARSE_PIXELS[1])

SNRS = (1.5, 10.0)
"""Usual signal-to-noise ratios; see `DrawnImage.snr`."""

_GOOD, _BLUNT = (0.03e-9, 0.10e-9), (0.14e-9, 0.25e-9)
_GLOWING, _GLOW, _RISE, _UNEVEN, _WIDER = 0.4, 20.0, 40.0, 0.4, (1.0, 2.4)
_BIASES = (-2.5, -2.0, -1.8, 1.8, 2.2)
_SUPERPOSED = 0.5
_BIAS_ODDS = (0.3, 0.3, 0.15, 0.15, 0.1)
_STEP_ODDS = (0.5, 0.27, 0.15, 0.08)
_STEP_DISTANCE = 5e-9
_MARGIN = 2.5e-9
_COVER = 0.22e18


@dataclass(frozen=True)
class _Look:
    """A tip over a while: from a share `begin` of the image's time on, `raised` by m."""

    tip: Tip
    begin: float = 0.0
    raised: float = 0.0


def draw_image(
    rng: np.random.Generator,
    *,
    pixels: int | tuple[int, int] = 256,
    pixel: float | None = None,
    snr: float | None = None,
    steps: int | None = None,
    ruined: str | None = None,
    defects: float | Mapping[str, float] | None = None,
    plain: bool = False,
    blunt: bool = False,
) -> DrawnImage:
    """Draw an image of H-Si(100), with any rotation of the lattice.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness; the same state gives the same image.
    pixels : int or (int, int)
        Pixels of each side, or lines and pixels per line.
    pixel : float, optional
        Size of a pixel (m); drawn from PIXELS unless given.
    snr : float, optional
        Signal-to-noise ratio, see `DrawnImage.snr`; drawn from SNRS unless given.
    steps : int, optional
        Step edges that cross the middle of the image; none to three unless given.
    ruined : str, optional
        One of RUINED; a good image unless given.
    defects : float or mapping, optional
        Number of defects relative to the usual one, or the number per area (1/m^2) of each kind
        (see `bluesky_gpsts.physics.hsi100_build.DENSITIES`); drawn unless given.
    plain : bool
        Leave out all that a microscope adds except white noise: no drift, no tilt, one tip.
    blunt : bool
        Take a tip that shows the rows and not the dimers in them. The signal-to-noise ratio is that
        of the rows then.

    Returns
    -------
    DrawnImage

    Raises
    ------
    ValueError
        If a size, a ratio or a number is out of range, or a name unknown; or a blunt tip is asked
        for in a ruined image.
    """
    ny, nx = (pixels, pixels) if isinstance(pixels, int | np.integer) else pixels
    if ny < 1 or nx < 1:
        raise ValueError(f"the image has {ny} x {nx} pixels; give 1 or more of each")
    pixel = float(rng.uniform(*PIXELS)) if pixel is None else pixel
    if not (0.0 < pixel < np.inf):
        raise ValueError(f"pixel is {pixel} m; give a size above 0, in metres, such as 0.09e-9")
    if ruined is not None and ruined not in RUINED:
        raise ValueError(f"ruined is {ruined!r}; give one of {', '.join(RUINED)}, or None")
    if blunt and ruined is not None:
        raise ValueError(f"a blunt tip is asked for, and an image ruined by {ruined!r}; give one")
    low, high = SNRS
    drawn = float(low * (high / low) ** rng.random())
    snr = drawn if snr is None else snr
    if not snr > 0.0:
        raise ValueError(f"snr is {snr}; give a ratio above 0")
    if ruined == "noise":
        snr = float(0.04 * 6.0 ** rng.random())
    half = 0.5 * pixel * nx + _MARGIN, 0.5 * pixel * ny + _MARGIN
    surface = _surface(rng, half, steps, _densities(rng, defects, ruined), ruined)
    track = _track(rng, (ny, nx), pixel, plain)
    looks = _looks(rng, ruined, plain, _BLUNT if blunt else _GOOD)
    bias = float(rng.choice(_BIASES, p=_BIAS_ODDS))
    corrugation = _corrugation(looks[0].tip.blur if ruined is None else 0.07e-9, bias)
    if not plain and (blunt or rng.random() < _GLOWING):
        surface = _aglow(rng, surface, corrugation)
    if ruined == "double tip" and rng.random() < _SUPERPOSED:
        clean = _superposed(surface, track, looks[0].tip, bias)
    else:
        clean = _seen(surface, track, looks, bias)
    image = _measured(rng, clean, corrugation, snr, ruined, plain)
    return truth(surface, track, image.astype(np.float32), snr, ruined or "", blunt)


def draw_blunt(rng: np.random.Generator, pixels: int = 256, snr: float | None = None) -> DrawnImage:
    """Draw an image in which rows and defects are seen, but no dimers, with any size of a pixel.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness.
    pixels : int
        Pixels of each side.
    snr : float, optional
        As for `draw_image`.

    Returns
    -------
    DrawnImage
    """
    size = float(rng.uniform(*_BLUNT_PIXELS))
    return draw_image(rng, pixels=pixels, pixel=size, snr=snr, blunt=True)


def _densities(
    rng: np.random.Generator, defects: float | Mapping[str, float] | None, ruined: str | None
) -> dict[str, float]:
    if isinstance(defects, Mapping):
        check_densities(defects)
        return dict(defects)
    if defects is None:
        few, many = (1.5, 3.0) if ruined == "double tip" else (0.3, 2.5)
        defects = float(few * (many / few) ** rng.random())
    if not 0.0 <= defects < np.inf:
        raise ValueError(f"defects is {defects} times the usual number; give 0 or more")
    uneven = rng.uniform(0.4, 1.6, len(DENSITIES))
    usual = zip(DENSITIES.items(), uneven.tolist(), strict=True)
    return {kind: defects * factor * density for (kind, density), factor in usual}


def _surface(
    rng: np.random.Generator,
    half: tuple[float, float],
    steps: int | None,
    densities: Mapping[str, float],
    ruined: str | None,
) -> HSi100:
    reach = 0.8 * (min(half) - _MARGIN)
    room = 1 + int(2.0 * reach / _STEP_DISTANCE)
    if steps is None:
        steps = min(int(rng.choice(len(_STEP_ODDS), p=_STEP_ODDS)), room)
    if not 0 <= steps <= room:
        raise ValueError(f"steps is {steps}; an image of this size has room for 0 to {room}")
    # Places with a least distance: what is left of the room is shared out at random.
    spare = 2.0 * reach - (steps - 1) * _STEP_DISTANCE
    places = np.sort(rng.uniform(0.0, spare, steps)) + _STEP_DISTANCE * np.arange(steps) - reach
    ground = Ground(random_terraces(rng, tuple(float(p) for p in places)))
    if ruined == "contamination":
        ground.cover(rng, _COVER, half)
    ground.scatter(rng, densities, half)
    return ground.surface()


def _track(rng: np.random.Generator, shape: tuple[int, int], pixel: float, plain: bool) -> Track:
    length = pixel * shape[0]
    velocity = 0.025 * length * rng.uniform(-1.0, 1.0, 2)
    creep = 0.008 * length * rng.normal(0.0, 1.0, 2) * (rng.random() < 0.5)
    if plain:
        velocity, creep = np.zeros(2), np.zeros(2)
    return Track(shape, pixel, velocity, creep)


def _aglow(rng: np.random.Generator, surface: HSi100, corrugation: float) -> HSi100:
    """Make what lacks hydrogen brighter and wider, all of it in an image by about as much.

    How far a dangling bond towers above the lattice depends on its charge, on the doping and on how
    far the tip bends the bands: from a few times the corrugation (m), a dimer wide, to more than
    forty times and over a nanometre wide, as in an image of the NIST tip detector.
    """
    bond, bare = (_GLOW ** rng.random(2)).tolist()
    bond_rise, bare_rise = (corrugation * _RISE ** rng.random(2) * (1.0, 0.4)).tolist()
    wider = float(rng.uniform(*_WIDER))

    def brighter(spot: Spot, factor: float) -> Spot:
        height = spot.height
        if spot.bond > 0.0:
            return spot._replace(
                bond=spot.bond * factor * bond,
                height=height + factor * bond_rise,
                first=spot.first * wider,
                second=spot.second * wider,
            )
        if spot.bare > 0.0:
            raised = height + factor * bare_rise
            return spot._replace(bare=spot.bare * factor * bare, height=raised)
        return spot

    changed = []
    for defect in surface.defects:
        factor = float(np.exp(rng.normal(0.0, _UNEVEN)))
        spots = [brighter(spot, factor) for spot in defect.spots]
        if defect.kind == "dangling_bond":
            core, halo = spots
            spots = [core, halo._replace(valence=halo.valence * float(np.sqrt(bond)))]
        changed.append(replace(defect, spots=tuple(spots)))
    return replace(surface, defects=tuple(changed))


def _looks(
    rng: np.random.Generator, ruined: str | None, plain: bool, blurs: tuple[float, float]
) -> list[_Look]:
    if ruined == "unresolved":
        return [_Look(Tip(blur=float(rng.uniform(0.28e-9, 0.8e-9))))]
    if ruined == "double tip":
        more = [_apex(rng, (0.6e-9, 3.0e-9), (0.5, 1.0)) for _ in range(int(rng.integers(1, 3)))]
        blur = float(rng.uniform(0.05e-9, 0.16e-9))
        return [_Look(Tip(blur=blur, apexes=((0.0, 0.0, 1.0), *more)))]
    if ruined == "tip":
        return _changing(rng)
    looks = [_Look(_good(rng, plain, blurs))]
    if not plain and rng.random() < 0.15:
        raised = float(rng.normal(0.0, 40e-12))
        looks.append(_Look(_good(rng, plain, blurs), float(rng.uniform(0.1, 0.9)), raised))
    return looks


def _good(rng: np.random.Generator, plain: bool, blurs: tuple[float, float]) -> Tip:
    blur = float(rng.uniform(*blurs))
    apexes: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0),)
    if rng.random() < 0.12 and not plain:
        apexes = (*apexes, _apex(rng, (0.3e-9, 1.2e-9), (0.04, 0.15)))
    return Tip(blur=blur, apexes=apexes)


def _apex(
    rng: np.random.Generator, distances: tuple[float, float], weights: tuple[float, float]
) -> tuple[float, float, float]:
    distance, turn = rng.uniform(*distances), rng.uniform(0.0, 2.0 * np.pi)
    x, y = distance * np.cos(turn), distance * np.sin(turn)
    return float(x), float(y), float(rng.uniform(*weights))


def _changing(rng: np.random.Generator) -> list[_Look]:
    """A tip that goes back and forth between a few ends, all over the image."""
    ends = []
    for _ in range(3):
        x, y, _ = _apex(rng, (0.2e-9, 1.5e-9), (1.0, 1.0))
        ends.append(Tip(blur=float(rng.uniform(0.05e-9, 0.6e-9)), apexes=((x, y, 1.0),)))
    raises = rng.normal(0.0, 120e-12, 3)
    looks, begin, end = [], 0.0, 0
    while begin < 1.0:
        looks.append(_Look(ends[end], begin, float(raises[end] + rng.normal(0.0, 15e-12))))
        begin += float(rng.exponential(0.012))
        end = (end + int(rng.integers(1, 3))) % 3
    return looks


def _seen(surface: HSi100, track: Track, looks: list[_Look], bias: float) -> Array:
    """Heights (ny, nx) in m at constant current, without noise."""
    x, y = track.positions()
    starts = np.array([look.begin for look in looks])
    which = np.searchsorted(starts, track.times().ravel(), side="right") - 1
    raised = np.array([look.raised for look in looks])[which]
    # Many looks may share a tip.
    tips = list({id(look.tip): look.tip for look in looks}.values())
    own = np.array([next(i for i, t in enumerate(tips) if t is look.tip) for look in looks])[which]
    heights = np.zeros(x.size)
    for index, tip in enumerate(tips):
        pixels = np.flatnonzero(own == index)
        heights[pixels] = _topography(surface, tip, x.ravel()[pixels], y.ravel()[pixels], bias)
    return np.asarray((heights + raised).reshape(track.shape))


def _superposed(surface: HSi100, track: Track, tip: Tip, bias: float) -> Array:
    """Images (ny, nx) of all apexes added up, as where the feedback hardly follows."""
    total = np.zeros(track.shape)
    for (dx, dy, _), share in zip(tip.apexes, tip.weights, strict=True):
        alone = Tip(blur=tip.blur, apexes=((dx, dy, 1.0),))
        total += share * _seen(surface, track, [_Look(alone)], bias)
    return total


def _topography(surface: HSi100, tip: Tip, x: Array, y: Array, bias: float) -> Array:
    """Heights (n,) in m: as `bluesky_gpsts.physics.Junction`, for a tip of flat states."""
    weights = _weights(bias)
    kappa = float(decay(surface.work_function, 0.0))
    base: Array | None = None
    total = np.zeros(x.shape)
    for (dx, dy, _), share in zip(tip.apexes, tip.weights, strict=True):
        height, amplitudes = surface.relief(x + dx, y + dy, tip.blur)
        base = height if base is None else base
        total += share * (amplitudes @ weights) * np.exp(2.0 * kappa * (height - base))
    assert base is not None  # a tip has at least one apex
    return np.asarray(base + np.log(total) / (2.0 * float(decay(surface.work_function, bias))))


@lru_cache(maxsize=16)
def _weights(bias: float) -> Array:
    """Current (K,) of each component of the clean surface at a bias (V); one in all."""
    surface = HSi100()
    last = round(bias / STEP)
    table = cold_current(
        surface.spectra,
        Tip().dos,
        REFERENCE_GAP,
        surface.work_function,
        min(last, -1),
        max(last, 1),
    )
    current = np.abs(table[:, 0 if bias < 0.0 else -1])
    return np.asarray(current / float(surface.clean @ current))


def _corrugation(blur: float, bias: float) -> float:
    """Peak to valley (m) of the clean lattice under a tip of a given blur (m)."""
    side = np.linspace(0.0, 0.768e-9, 33)
    x, y = (grid.ravel() for grid in np.meshgrid(side, side))
    return float(np.ptp(_topography(HSi100(), Tip(blur=blur), x, y, bias)))


def _measured(
    rng: np.random.Generator,
    clean: Array,
    corrugation: float,
    snr: float,
    ruined: str | None,
    plain: bool,
) -> Array:
    """Image as the microscope hands it over."""
    sigma, shape = 0.33 * corrugation / snr, clean.shape
    image = clean + imaging.white(rng, clean, sigma, 0.0 if plain else float(rng.random()))
    if not plain:
        image += imaging.flicker(rng, shape, sigma * float(rng.uniform(0.0, 1.0)))
        offsets, walk = corrugation * rng.random(2) * (0.4, 0.1)
        image += imaging.line_offsets(rng, shape, float(offsets), float(walk))
        number = int(rng.poisson(0.5))
        image += imaging.height_jumps(rng, shape, number, 2.0 * corrugation)
        image += imaging.scratches(rng, shape, int(rng.poisson(1.5)), 3.0 * corrugation)
        if rng.random() < 0.3:
            share = float(10.0 ** rng.uniform(-4.0, -2.3))
            image = imaging.salt_and_pepper(rng, image, share, 4.0 * corrugation)
        image += imaging.tilt(rng, shape, 0.4e-9, 0.06e-9)
    if ruined == "tip":
        image += imaging.scratches(rng, shape, shape[0], 6.0 * corrugation)
    elif ruined == "oscillation":
        image += imaging.oscillation(rng, shape, corrugation * float(rng.uniform(1.5, 8.0)))
    elif ruined == "saturated":
        middle = float(rng.uniform(35.0, 65.0))
        low, high = np.percentile(image, [middle - 10.0, middle + 10.0])
        image = np.clip(image, low, high)
    return image
