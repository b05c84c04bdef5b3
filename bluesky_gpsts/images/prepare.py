"""From a raw image to what the networks take: one pixel size, levelled, scaled, finite."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["CELL", "CHANNELS", "GRID", "Prepared", "check_image", "plain_image", "prepare"]

GRID = 0.096e-9
"""Pixel size (m) that the multi-task network works at: four pixels per dimer, eight per row."""

CELL = 8
"""Sizes of what goes into the network are multiples of this (pixels)."""

CHANNELS = 3
"""Relief of the dimers, what the lines of the scan share of it, and height of the terraces."""

SMALLEST = 16
_LARGEST = 2**26
_SOFT = 4.0
_FLAT = 1e-9
_ROWS = 512
_SOME = 100
_FROZEN = 8

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as the multi-task network takes it.

    Attributes
    ----------
    channels : (CHANNELS, H, W) array
        Relief, shared relief of lines, height; pure numbers, 0 where nothing is known.
    known : (H, W) array of bool
        Where something was measured; the padding is unknown.
    shape : (int, int)
        Rows and columns that hold the image, without the padding.
    scale : (float, float)
        Pixels of the original per pixel here, along x and y.
    """

    channels: Float32
    known: Bools
    shape: tuple[int, int]
    scale: tuple[float, float]

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (N, 2) x and y in pixels of this grid into pixels of the original image."""
        return np.asarray((points + 0.5) * self.scale - 0.5)


def plain_image(image: ArrayLike) -> NDArray[Any]:
    """Array of an image; what was not measured becomes NaN.

    That is what a masked array hides, and lines at the beginning or the end that repeat one line to
    the last bit, as a scan that was stopped leaves them in a buffer: no two lines of a measurement
    are the same.
    """
    values = np.ma.getdata(image) if isinstance(image, np.ma.MaskedArray) else np.asarray(image)
    unknown: NDArray[np.bool_] | None = None
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        unknown = np.ma.getmaskarray(image)
    if frozen := _frozen(values):
        unknown = np.zeros(values.shape, bool) if unknown is None else unknown.copy()
        for lines in frozen:
            unknown[lines] = True
    if unknown is None:
        return values
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(float)
    return np.where(unknown, np.nan, values.astype(kind))


def _frozen(values: NDArray[Any]) -> list[slice]:
    """Lines at the beginning and at the end that only repeat their neighbour."""
    if values.ndim not in (2, 3) or len(values) <= _FROZEN or values.dtype.kind not in "iuf":
        return []
    found = []
    for lines, step in ((values[::-1], -1), (values, 1)):
        # Of nearly all images this comparison is the only one.
        if not _same(lines[-1:], lines[-2:-1])[0]:
            continue
        same = _same(lines[1:], lines[:-1])
        count = len(same) if same.all() else int(np.argmin(same[::-1]))
        # Lines without any relief may well be the same.
        seen = lines[-1][np.isfinite(lines[-1])]
        if _FROZEN <= count < len(same) and seen.size and np.ptp(seen) > 0:
            found.append(slice(len(values) - count, None) if step == 1 else slice(0, count))
    return found


def _same(lines: NDArray[Any], others: NDArray[Any]) -> Bools:
    """Whether each line is the same as the other; what is unknown in both is."""
    alike = (lines == others) | ((lines != lines) & (others != others))
    return np.asarray(alike.reshape(len(lines), -1).all(axis=1))


def check_image(image: ArrayLike) -> Float32:
    """Take an image of heights as it came from a file.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights (m) or grey values; NaN or infinite where nothing was measured. Booleans count as
        0 and 1. Three colours (ny, nx, 3 or 4) become their mean.

    Returns
    -------
    (ny, nx) array
        Heights from 0 to 1 in single precision, NaN where unknown.

    Raises
    ------
    ValueError
        If it is no image, too small or too large, or all unknown.
    """
    values = plain_image(image)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"the image holds {values.dtype}; give real numbers, heights in metres")
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = values[:, :, :3].mean(axis=2)
    if values.ndim != 2:
        raise ValueError(f"the image has shape {values.shape}; give two axes, rows and columns")
    if min(values.shape) < SMALLEST or values.size > _LARGEST:
        raise ValueError(
            f"the image has {values.shape[0]} x {values.shape[1]} pixels; give at least "
            f"{SMALLEST} x {SMALLEST}, and at most {_LARGEST} in all"
        )
    if values.dtype.kind != "f":
        # Differences of booleans are none, and those of small integers wrap round.
        values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    known = np.isfinite(values)
    if not known.any():
        raise ValueError("nothing of the image is known (no pixel is finite); take it again")
    whole = bool(known.all())
    low, high = (
        (values.min(), values.max()) if whole else (values[known].min(), values[known].max())
    )
    span = float(high) - float(low)
    result = ((values - low) * (1.0 / span if span > 0.0 else 0.0)).astype(np.float32)
    if not whole:
        result[~known] = np.nan
    return result


def prepare(image: Float32, pixel: float | tuple[float, float]) -> Prepared:
    """Bring an image to the grid of the network, level it and scale its relief.

    Parameters
    ----------
    image : (ny, nx) array
        From `check_image`.
    pixel : float, or (float, float)
        Size of a pixel (m), or its width and height.

    Returns
    -------
    Prepared
    """
    import torch
    from torch.nn.functional import interpolate, pad

    ny, nx = image.shape
    wide, high = pixel if isinstance(pixel, tuple) else (pixel, pixel)
    shape = (max(1, round(ny * high / GRID)), max(1, round(nx * wide / GRID)))
    known = np.isfinite(image)
    whole = bool(known.all())
    values = torch.from_numpy(level(image, whole))
    mask = None if whole else torch.from_numpy(known.astype(np.float32))
    size = (-shape[0] % CELL, -shape[1] % CELL)

    def fit(x: "torch.Tensor") -> "torch.Tensor":
        fitted = interpolate(
            x[None, None], shape, mode="bilinear", align_corners=False, antialias=True
        )
        return fitted[0, 0]

    values = fit(values)
    if mask is None:
        seen = torch.ones(shape)
    else:
        # What is unknown was 0: divide by how much was known.
        share = fit(mask)
        seen = (share > 0.5).float()
        values = values / share.clamp_min(1e-3) * seen
    values, seen = (pad(x, (0, size[1], 0, size[0])) for x in (values, seen))
    channels = _channels(values, seen)
    scale = (nx / shape[1], ny / shape[0])
    return Prepared(channels.numpy(), seen.numpy() > 0.5, shape, scale)


def level(image: Float32, whole: bool) -> Float32:
    """Subtract the plane of median slopes; what is unknown becomes 0."""
    flat = image.astype(np.float32, copy=True)
    median = np.median if whole else np.nanmedian
    # Some ten thousand pixels tell a median well enough.
    few = [1 + size // _SOME if whole else 1 for size in image.shape]
    for axis in (0, 1):
        size = image.shape[axis]
        lag = max(1, size // 8)
        lines = flat if axis == 0 else flat.T
        part = np.s_[:: few[axis], :: few[1 - axis]]
        step = lines[lag:][part] - lines[:-lag][part]
        slope = float(median(step)) / lag if whole or np.isfinite(step).any() else 0.0
        line = (slope * (np.arange(size) - 0.5 * size)).astype(np.float32)
        flat -= line[:, None] if axis == 0 else line[None, :]
    flat -= np.float32(median(flat[:: few[0], :: few[1]]))
    return flat if whole else np.nan_to_num(flat, copy=False)


def line_medians(values: Float32, known: Bools) -> Float32:
    """Median (ny,) of what is known of each line, the lower of two; 0 where nothing is."""
    # Numpy sorts whole lines faster than anybody finds their medians.
    ordered = np.sort(np.where(known, values, np.float32(np.nan)), axis=1)
    count = known.sum(axis=1)
    middle = ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 2]
    return np.where(count > 0, middle, np.float32(0.0))


def _channels(values: "torch.Tensor", seen: "torch.Tensor") -> "torch.Tensor":
    """Relief, the median of each line's relief, and height, in units of the usual relief."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    height, width = values.shape
    pair = torch.stack((values * seen, seen))[None]
    coarse = avg_pool2d(pair, CELL)
    # Twice as wide again, so that blocks leave no edges.
    coarse = avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    smooth = interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
    low = smooth[0].div_(smooth[1].clamp_min_(1e-3))
    # In place from here on: of a large image every copy counts.
    result = torch.empty(CHANNELS, height, width)
    relief, lines, heights = result
    torch.sub(values, low, out=relief).mul_(seen)
    few = relief[::2, ::2][seen[::2, ::2] > 0.5].abs()
    usual = 1.4826 * float(few.median()) if few.numel() else 0.0
    scale = 1.0 / usual if usual > _FLAT else 0.0
    relief.mul_(scale)
    for rows in range(0, height, _ROWS):
        part = slice(rows, rows + _ROWS)
        median = line_medians(relief[part].numpy(), seen[part].numpy() > 0.5)
        torch.mul(torch.from_numpy(median)[:, None], seen[part], out=lines[part])
    torch.mul(low, seen, out=heights).mul_(0.25 * scale)
    # Whatever sticks out is kept in bounds, and keeps its order.
    for channel in result:
        channel.div_(channel.abs().div_(_SOFT).add_(1.0))
    return result
