"""Synthetic maps by seed: vacancies, the herringbone, a moire; fractions of the frame throughout.

The size of the vacancy in its frame is chosen such that gpCAM's variance with its own training
needs about as many spectra as in Thomas et al., npj Comput. Mater. 8, 99 (2022), Fig. S2 (57).
"""

from collections.abc import Callable

import numpy as np

from bluesky_gpsts.surrogate import Grid

from .types import PIXEL, FloatArray, Truth

# Distance of a lobe's centre from the vacancy's, as fractions of the frame.
LARGE = (0.180, 0.210)
SMALL = (0.095, 0.125)
PAIR = (0.085, 0.115)
LIBRARY = 60


def _frame(side: int, size: float) -> tuple[Grid, FloatArray, FloatArray]:
    """Candidates of a square frame of `size` m, and u and v (M,) as fractions of it."""
    grid = Grid(0.0, 0.0, size, size, nx=side, ny=side)
    return grid, grid.unit[:, 0], grid.unit[:, 1]


def vacancy_orbital(
    u: FloatArray,
    v: FloatArray,
    center: tuple[float, float],
    size: float,
    angle: float,
    lobes: FloatArray,
) -> FloatArray:
    """In-gap state of a vacancy with three lobes: shape (M,), about 1 at a lobe's centre.

    Parameters
    ----------
    u, v : ndarray, shape (M,)
        Positions, fractions of the frame.
    center : tuple of float
        Where the vacancy is.
    size : float
        Distance of a lobe from the centre.
    angle : float
        Direction of the first lobe (rad).
    lobes : ndarray, shape (3,)
        Strength of each lobe; 1 for the perfect symmetry C3.
    """
    du, dv = u - center[0], v - center[1]
    total = 0.35 * np.exp(-(du**2 + dv**2) / (2.0 * (0.45 * size) ** 2))
    for lobe, strength in enumerate(lobes):
        direction = angle + 2.0 * np.pi * lobe / 3.0
        distance2 = (du - size * np.cos(direction)) ** 2 + (dv - size * np.sin(direction)) ** 2
        total = total + strength * np.exp(-distance2 / (2.0 * (0.5 * size) ** 2))
    return np.asarray(total)


def _draw(
    rng: np.random.Generator, sizes: tuple[float, float], room: float
) -> tuple[tuple[float, float], float, float, FloatArray]:
    """Centre, size, direction and lobes of a vacancy; lobes differ by up to 15 %."""
    center = (float(rng.uniform(-room, room)), float(rng.uniform(-room, room)))
    size = float(rng.uniform(*sizes))
    return center, size, float(rng.uniform(0, 2 * np.pi)), 1.0 + rng.uniform(-0.15, 0.15, 3)


def _height(
    rng: np.random.Generator, u: FloatArray, v: FloatArray, orbital: FloatArray
) -> FloatArray:
    """Topograph (M,): the state as the tip follows it, the atoms, a tilt and noise."""
    period, angle = 0.08, rng.uniform(0, np.pi / 3)
    atoms = np.zeros_like(u)
    for k in range(3):
        direction = angle + np.pi * k / 3
        wave = u * np.cos(direction) + v * np.sin(direction)
        atoms += np.cos(2 * np.pi * wave / period)
    tilt = rng.normal(0, 0.1, 2)
    followed = np.log1p(4.0 * orbital)
    noise = rng.normal(0, 0.05, u.size)
    return followed + 0.06 * atoms + tilt[0] * u + tilt[1] * v + noise


def _library(
    rng: np.random.Generator,
    grid: Grid,
    center: tuple[float, float],
    sizes: tuple[float, float],
) -> FloatArray:
    """Simulated vacancies (K, ny, nx) about a centre (fractions) known to 3 pixels."""
    maps = []
    for _ in range(LIBRARY):
        _, size, angle, lobes = _draw(rng, sizes, 0.0)
        shifted = (
            center[0] + float(rng.uniform(-3, 3)) * PIXEL,
            center[1] + float(rng.uniform(-3, 3)) * PIXEL,
        )
        values = vacancy_orbital(grid.unit[:, 0], grid.unit[:, 1], shifted, size, angle, lobes)
        maps.append(grid.as_map(values))
    return np.array(maps)


def _vacancy(name: str, seed: int, side: int, sizes: tuple[float, float], room: float) -> Truth:
    rng = np.random.default_rng([seed, 11])
    grid, u, v = _frame(side, 4e-9)
    center, size, angle, lobes = _draw(rng, sizes, room)
    values = vacancy_orbital(u, v, center, size, angle, lobes)
    seen = (
        center[0] + float(rng.uniform(-2, 2)) * PIXEL,
        center[1] + float(rng.uniform(-2, 2)) * PIXEL,
    )
    image = _height(rng, u, v, values)
    wide, other = (0.8 * sizes[0], 1.2 * sizes[1]), (1.8 * sizes[0], 1.9 * sizes[1])
    return Truth(
        name,
        seed,
        grid,
        grid.as_map(values),
        grid.as_map(image),
        "C3",
        (seen[0] * grid.width, seen[1] * grid.height),
        libraries={
            "right": _library(rng, grid, seen, wide),
            "wrong": _library(rng, grid, seen, other),
        },
    )


def vacancy(seed: int, side: int) -> Truth:
    """Vacancy about as large in its frame as that of the paper."""
    return _vacancy("vacancy", seed, side, LARGE, 0.10)


def small_vacancy(seed: int, side: int) -> Truth:
    """Vacancy little more than half as large, anywhere but at the border."""
    return _vacancy("small vacancy", seed, side, SMALL, 0.20)


def two_defects(seed: int, side: int) -> Truth:
    """Two smaller vacancies of their own orientation and strength, in opposite halves."""
    rng = np.random.default_rng([seed, 12])
    grid, u, v = _frame(side, 4e-9)
    direction, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.20, 0.28)
    values = np.zeros_like(u)
    for sign, strength in ((1.0, 1.0), (-1.0, float(rng.uniform(0.75, 1.0)))):
        center = (
            sign * distance * float(np.cos(direction)),
            sign * distance * float(np.sin(direction)),
        )
        _, size, angle, lobes = _draw(rng, PAIR, 0.0)
        values += strength * vacancy_orbital(u, v, center, size, angle, lobes)
    image = _height(rng, u, v, values)
    # Taken for one defect, the brighter is where somebody would put the centre.
    best = int(np.argmax(image))
    seen = (float(u[best]) * grid.width, float(v[best]) * grid.height)
    return Truth("two defects", seed, grid, grid.as_map(values), grid.as_map(image), None, seen)


def herringbone(seed: int, side: int) -> Truth:
    """Share of hcp stacking of Au(111) in a frame of 20 nm, and its topograph."""
    from bluesky_gpsts.physics import au111

    rng = np.random.default_rng([seed, 13])
    grid, u, v = _frame(side, 20e-9)
    surface = au111.Au111(
        angle=float(rng.uniform(0, np.pi)),
        phase=float(rng.uniform(0, 6e-9)),
        elbow_distance=float(rng.uniform(15e-9, 19e-9)),
        elbow_phase=float(rng.uniform(0, 17e-9)),
    )
    x, y = grid.xy.T
    values = surface.hcp_share(x, y, 0.4e-9)
    heights = surface.height(x, y, 0.4e-9)
    heights = heights + 0.03 * np.ptp(heights) * rng.normal(size=u.size)
    return Truth("herringbone", seed, grid, grid.as_map(values), grid.as_map(heights))


def moire(seed: int, side: int) -> Truth:
    """Hexagonal moire of five to six periods across the frame, with a second harmonic."""
    rng = np.random.default_rng([seed, 14])
    grid, u, v = _frame(side, 12e-9)
    period, angle = float(rng.uniform(0.155, 0.185)), float(rng.uniform(0, np.pi / 3))
    shift, harmonic = rng.uniform(0, period, 2), float(rng.uniform(0.2, 0.35))
    du, dv = u - shift[0], v - shift[1]
    values, heights = np.zeros_like(u), np.zeros_like(u)
    for k in range(3):
        direction = angle + 2 * np.pi * k / 3
        wave = (du * np.cos(direction) + dv * np.sin(direction)) * 4 * np.pi / (3**0.5 * period)
        values += np.cos(wave) + harmonic * np.sin(wave)
        heights += np.cos(wave + 0.3)
    heights += rng.normal(0, 0.2, u.size)
    length = period * grid.width
    vectors = []
    scale, turn = 1 + 0.01 * rng.normal(), np.radians(0.6) * rng.normal()
    for k in range(2):
        direction = angle + np.pi / 6 + np.pi * k / 3 + turn
        vectors.append(
            (float(scale * length * np.cos(direction)), float(scale * length * np.sin(direction)))
        )
    return Truth(
        "moire",
        seed,
        grid,
        grid.as_map(values),
        grid.as_map(heights),
        vectors=(vectors[0], vectors[1]),
        center=(0.0, 0.0),
    )


def interpolated(seed: int, side: int) -> Truth:
    """Linear interpolation of 128 points of a small vacancy: the paper's kind of truth."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.stats import qmc

    base = small_vacancy(seed, side)
    rng = np.random.default_rng([seed, 15])
    points = qmc.Sobol(2, rng=rng).random(128) - 0.5
    # The values at the points come from a finer map than that of the candidates.
    fine = small_vacancy(seed, 128)
    known = fine.values.ravel()[fine.grid.nearest(points)]
    values = LinearNDInterpolator(points, known)(base.grid.unit)
    outside = np.isnan(values)
    values[outside] = NearestNDInterpolator(points, known)(base.grid.unit[outside])
    return Truth(
        "interpolated",
        seed,
        base.grid,
        base.grid.as_map(values),
        base.image,
        base.symmetry,
        base.center,
        libraries=base.libraries,
    )


SYNTHETIC: dict[str, Callable[[int, int], Truth]] = {
    "vacancy": vacancy,
    "small vacancy": small_vacancy,
    "two defects": two_defects,
    "herringbone": herringbone,
    "moire": moire,
    "interpolated": interpolated,
}
