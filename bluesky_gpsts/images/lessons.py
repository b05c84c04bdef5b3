"""What the multi-task network is to say of a drawn image, on the grid that it works at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.networks import QUALITIES
from bluesky_gpsts.images.prepare import check_image, prepare
from bluesky_gpsts.images.rowlattice import ALONG
from bluesky_gpsts.images.simulate import RUINED

__all__ = ["SIGMA", "VERDICTS", "Lesson", "batch", "lesson", "random_ruin", "to_grid"]

SIGMA = 1.0
"""Radius (pixels of the grid) of the spot that the network is to draw for an atom."""

VERDICTS = ("fine", *RUINED, "rows")
"""What the network can say of an image, in the order of its outputs; the last is that there are
rows, and that the dimers in them are not resolved."""

_FAR = 3.0
_LEVELS = 40.0
_NOISE = 0.2
_LINE = (-0.375, -0.125, 0.125, 0.375)
assert len(VERDICTS) == QUALITIES

Bools = NDArray[np.bool_]
Bytes = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Lesson:
    """One image and its answers, kept small.

    Attributes
    ----------
    channels : (CHANNELS, H, W) array of float16
        The prepared image.
    atom : (H, W) array of uint8
        255 where an atom is centred, falling off within a pixel; where the dimers of a row are not
        resolved, all along the row.
    offset : (2, H, W) array of int8
        Way to the nearest atom, x and y, in fortieths of a pixel; cut off at 3 pixels.
    defect : (H, W) array of bool
        Pixels of defects.
    step : (H/2, W/2) array of bool
        Pixels of step edges.
    direction : (2, H/2, W/2) array of int8
        Cosine and sine of twice the direction of the rows, times 100.
    verdict : int
        Index into `VERDICTS`; of a ruined image nothing else is to be learned.
    shape : (int, int)
        Rows and columns that hold the image, without the padding.
    """

    channels: NDArray[np.float16]
    atom: NDArray[np.uint8]
    offset: Bytes
    defect: Bools
    step: Bools
    direction: Bytes
    verdict: int
    shape: tuple[int, int]


def to_grid(points: NDArray[np.float64], scale: tuple[float, float]) -> NDArray[np.float64]:
    """Turn (N, 2) x and y in pixels of the image into pixels of the grid."""
    return np.asarray((points + 0.5) / scale - 0.5)


def lesson(drawn: DrawnImage, stretch: tuple[float, float] = (1.0, 1.0)) -> Lesson:
    """Prepare a drawn image and its answers.

    Parameters
    ----------
    drawn : DrawnImage
        Image and truth.
    stretch : (float, float)
        Factors by which width and height of a pixel are told wrong, as a scanner that is out of
        calibration does.

    Returns
    -------
    Lesson
    """
    from scipy.ndimage import distance_transform_edt

    told = drawn.pixel * stretch[0], drawn.pixel * stretch[1]
    prepared = prepare(check_image(drawn.image), told)
    height, width = prepared.channels.shape[1:]
    atoms = to_grid(_atoms(drawn), prepared.scale)
    heat = np.zeros((height + 8, width + 8), np.float32)
    nearest = np.round(atoms).astype(int)
    inside = np.all((nearest >= -3) & (nearest < (width + 3, height + 3)), axis=1)
    atoms, nearest = atoms[inside], nearest[inside]
    reach = np.arange(-3, 4)
    x = nearest[:, 0, None, None] + reach[None, None, :]
    y = nearest[:, 1, None, None] + reach[None, :, None]
    square = (x - atoms[:, 0, None, None]) ** 2 + (y - atoms[:, 1, None, None]) ** 2
    inside = (x >= -4) & (x < width + 4) & (y >= -4) & (y < height + 4)
    x, y = np.broadcast_arrays(x, y)
    spot = np.exp(-0.5 * square / SIGMA**2).astype(np.float32)
    np.maximum.at(heat, (y[inside] + 4, x[inside] + 4), spot[inside])
    offset = np.zeros((2, height, width), np.float32)
    if len(atoms):
        empty = np.ones((height, width), bool)
        number = np.zeros((height, width), np.intp)
        within = np.all((nearest >= 0) & (nearest < (width, height)), axis=1)
        cells = nearest[within]
        empty[cells[:, 1], cells[:, 0]] = False
        number[cells[:, 1], cells[:, 0]] = np.flatnonzero(within)
        if not empty.all():
            i, j = distance_transform_edt(empty, return_distances=False, return_indices=True)
            own = atoms[number[i, j]]
            offset[0] = own[:, :, 0] - np.arange(width)
            offset[1] = own[:, :, 1] - np.arange(height)[:, None]
    ny, nx = drawn.image.shape

    def sampled(step: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the image under every `step`-th pixel of the grid."""
        places = []
        for size, scale, limit in (
            (height, prepared.scale[1], ny),
            (width, prepared.scale[0], nx),
        ):
            middle = (np.arange(size // step) + 0.5) * step * scale - 0.5
            places.append(np.clip(np.round(middle).astype(int), 0, limit - 1))
        return np.ix_(*places)

    wide, high = prepared.scale
    turned = np.arctan2(np.sin(drawn.rows) / high, np.cos(drawn.rows) / wide)
    rows = turned[drawn.terrace[sampled(2)] - 1]
    return Lesson(
        prepared.channels.astype(np.float16),
        np.round(255.0 * heat[4:-4, 4:-4]).astype(np.uint8),
        np.round(_LEVELS * np.clip(offset, -_FAR, _FAR)).astype(np.int8),
        drawn.defect_map[sampled(1)] > 0,
        drawn.steps[sampled(2)],
        np.round(100.0 * np.stack([np.cos(2.0 * rows), np.sin(2.0 * rows)])).astype(np.int8),
        verdict(drawn),
        prepared.shape,
    )


def _atoms(drawn: DrawnImage) -> NDArray[np.float64]:
    """Places (N, 2) of atoms, pixels; where a tip draws rows as lines, places along these."""
    atoms = np.asarray(drawn.sites[drawn.occupied], float)
    if not drawn.blunt:
        return atoms
    angle = drawn.rows[drawn.site_terrace[drawn.occupied] - 1]
    row = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (ALONG / drawn.pixel)
    return np.concatenate([atoms + share * row for share in _LINE])


def verdict(drawn: DrawnImage) -> int:
    """Index into `VERDICTS` of what there is to be said of a drawn image."""
    return VERDICTS.index(drawn.ruined or ("rows" if drawn.blunt else "fine"))


def batch(
    lessons: Sequence[Lesson], rng: np.random.Generator, size: int, count: int
) -> dict[str, NDArray[np.float32]]:
    """Cut random squares out of random lessons, flipped at random.

    Lines of the scan stay lines: nothing is turned by 90 degrees.

    Parameters
    ----------
    lessons : sequence of Lesson
        To choose from.
    rng : numpy.random.Generator
        Chooses.
    size : int
        Side of a square (pixels of the grid), a multiple of 8.
    count : int
        How many.

    Returns
    -------
    dict of str to array
        "channels", "atom", "offset", "defect", "step", "direction", "verdict" and "taught" (1
        where the image is worth learning from), float32, first axis `count`.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for chosen in rng.integers(0, len(lessons), count):
        one = lessons[chosen]
        # The padding is part of it: the network has to know the rim of an image.
        height, width = (max(full, size) for full in one.atom.shape)
        top = 8 * int(rng.integers(0, max(1, (height - size) // 8 + 1)))
        left = 8 * int(rng.integers(0, max(1, (width - size) // 8 + 1)))
        gain = np.float32(np.exp(rng.normal(0.0, 0.15)))
        flips = [axis for axis in (1, 2) if rng.random() < 0.5]
        entries: tuple[tuple[str, NDArray[Any], int, float], ...] = (
            ("channels", one.channels, 1, float(gain)),
            ("atom", one.atom[None], 1, 1.0 / 255.0),
            ("offset", one.offset, 1, 1.0 / _LEVELS),
            ("defect", one.defect[None], 1, 1.0),
            ("step", one.step[None], 2, 1.0),
            ("direction", one.direction, 2, 0.01),
        )
        for name, values, divide, factor in entries:
            side = size // divide
            low, beside = top // divide, left // divide
            square = values[:, low : low + side, beside : beside + side].astype(np.float32)
            missing = (side - square.shape[1], side - square.shape[2])
            if any(missing):
                square = np.pad(square, ((0, 0), (0, missing[0]), (0, missing[1])))
            square = np.flip(square, tuple(flips)) * np.float32(factor)
            if name == "offset":
                square[0] *= -1.0 if 2 in flips else 1.0
                square[1] *= -1.0 if 1 in flips else 1.0
            if name == "direction" and len(flips) == 1:
                square[1] *= -1.0
            parts.setdefault(name, []).append(square)
        if rng.random() < 0.5:
            relief = parts["channels"][-1][0]
            seen = relief != 0.0
            noise = rng.standard_normal(relief.shape, np.float32)
            relief += np.float32(rng.uniform(0.0, _NOISE)) * noise * seen
        parts.setdefault("verdict", []).append(np.asarray(one.verdict, np.float32))
        worth = VERDICTS[one.verdict] not in RUINED
        parts.setdefault("taught", []).append(np.asarray(worth, np.float32))
    return {name: np.stack(values) for name, values in parts.items()}


def random_ruin(rng: np.random.Generator) -> str:
    """One of the ways in which a drawn image can be ruined."""
    return RUINED[int(rng.integers(len(RUINED)))]
