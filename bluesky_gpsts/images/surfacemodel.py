"""The default model of surfaces: a multi-task network, run tile by tile, and judges of sites."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.networks import (
    OUTPUTS,
    QUALITIES,
    SITE_FEATURES,
    build_judges,
    build_surface,
    fold,
)
from bluesky_gpsts.images.prepare import CELL, CHANNELS, Prepared
from bluesky_gpsts.models.weights import filled

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Maps", "SurfaceModel"]

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_TILE, _OVERLAP = 768, 96
MEMBERS = 16
"""An ensemble has no more members."""

_LOWEST = 0.15
"""Peaks of the atom map below this are noise."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What the network says of an image, on the grid of `Prepared`, padding cut off.

    Attributes
    ----------
    atom : (H, W) array
        About the probability that an atom is centred on a pixel, blurred by a pixel.
    peaks : (N, 2) array
        x and y of the maxima of `atom`, moved by the predicted offset (pixels).
    heights : (N,) array
        `atom` there.
    defect : (H, W) array
        Probability of a defect.
    step : (h, w) array
        Probability of a step edge, at half resolution.
    direction : (2, h, w) array
        Cosine and sine of twice the direction of the rows, shorter where in doubt.
    quality : (QUALITIES,) array
        Mean over the image of the probability of each verdict; the first is "fine".
    """

    atom: Float32
    peaks: Array
    heights: Array
    defect: Float32
    step: Float32
    direction: Float32
    quality: Array

    @property
    def resolved(self) -> bool:
        """Whether the dimers seem resolved, not only their rows: the last of the verdicts."""
        return bool(self.quality[-1] <= self.quality[0])


class SurfaceModel:
    """A multi-task network, an ensemble that judges sites, and what the quality gate has learned.

    Parameters
    ----------
    net : torch.nn.Module
        From `build_surface`, trained.
    judges : torch.nn.Module, optional
        From `bluesky_gpsts.images.sitejudges.fit_judges`; nothing can be read without.
    gate : mapping of str to list of float, optional
        Settings of the quality gate; see `bluesky_gpsts.images.quality`.
    """

    def __init__(
        self,
        net: "nn.Module",
        judges: "nn.Module | None" = None,
        gate: dict[str, Any] | None = None,
    ) -> None:
        import torch

        self._net = fold(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._judges = judges
        self.gate = gate or {}

    def taught(self, judges: "nn.Module", gate: dict[str, Any]) -> "SurfaceModel":
        """Return the same network with these judges and this gate."""
        return SurfaceModel(self._net, judges, gate)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "surface"

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return tuple(OUTPUTS)

    @property
    def judges(self) -> "nn.Module":
        """What judges sites.

        Raises
        ------
        RuntimeError
            If it has not been taught yet.
        """
        if self._judges is None:
            raise RuntimeError("nothing judges sites yet; finish the training of this model")
        return self._judges

    def maps(self, prepared: Prepared, progress: Callable[[int, int], None] | None = None) -> Maps:
        """Run the networks over an image, in tiles if it is large.

        Parameters
        ----------
        prepared : Prepared
            The image.
        progress : callable, optional
            Called with the tiles done, and all of them.
        """
        height, width = prepared.shape
        half = (-(-height // 2), -(-width // 2))
        atom = np.zeros((height, width), np.float32)
        defect = np.zeros((height, width), np.float32)
        step, direction = np.zeros(half, np.float32), np.zeros((2, *half), np.float32)
        points, heights = [], []
        quality = np.zeros(QUALITIES)
        area = 0.0
        known = prepared.known
        with _quiet():
            tiles = list(_tiles(prepared.channels.shape[1:]))
            for done, (rows, columns, inner_rows, inner_columns) in enumerate(tiles):
                if progress is not None:
                    progress(done, len(tiles))
                part = prepared.channels[:, rows, columns]
                out = self._run(part, known[rows, columns])
                place = (
                    slice(inner_rows.start - rows.start, inner_rows.stop - rows.start),
                    slice(inner_columns.start - columns.start, inner_columns.stop - columns.start),
                )
                fine = (
                    slice(inner_rows.start, min(inner_rows.stop, height)),
                    slice(inner_columns.start, min(inner_columns.stop, width)),
                )
                coarse = tuple(slice(s.start // 2, -(-s.stop // 2)) for s in fine)
                for target, name in ((atom, "atom"), (defect, "defect")):
                    source = out[name][place]
                    target[fine] = source[: target[fine].shape[0], : target[fine].shape[1]]
                source_rows = slice(place[0].start // 2, None)
                source_columns = slice(place[1].start // 2, None)
                shape = step[coarse].shape
                step[coarse] = out["step"][source_rows, source_columns][: shape[0], : shape[1]]
                direction[:, *coarse] = out["direction"][:, source_rows, source_columns][
                    :, : shape[0], : shape[1]
                ]
                x, y = out["peaks"].T + np.array([[columns.start], [rows.start]])
                pixel_x, pixel_y = out["pixels"] + np.array([[columns.start], [rows.start]])
                own = (pixel_x >= fine[1].start) & (pixel_x < fine[1].stop)
                own &= (pixel_y >= fine[0].start) & (pixel_y < fine[0].stop)
                points.append(np.stack([x, y], axis=1)[own])
                heights.append(out["heights"][own])
                share = float(part.shape[1] * part.shape[2])
                quality += share * out["quality"]
                area += share
        if progress is not None:
            progress(len(tiles), len(tiles))
        return Maps(
            atom,
            np.concatenate(points),
            np.concatenate(heights),
            defect,
            step,
            direction,
            quality / area,
        )

    def _run(self, channels: Float32, known: NDArray[np.bool_]) -> dict[str, Any]:
        """Outputs of one tile."""
        import torch

        given = torch.from_numpy(np.ascontiguousarray(channels))[None]
        with torch.inference_mode():
            heads, verdict = self._net(given.contiguous(memory_format=torch.channels_last))
            split = torch.split(heads[0], list(OUTPUTS.values()))
            view = dict(zip(OUTPUTS, split, strict=True))
            atom, defect = (_enlarged(view[name].sigmoid()) * known for name in ("atom", "defect"))
            row, column = _maxima(atom)
            # Of each pixel's offset, the one that is wanted.
            half, which = (row // 2, column // 2), 2 * (row % 2) + column % 2
            offset = view["offset"].numpy()
            x, y = (offset[first + which, *half].clip(-1.5, 1.5) for first in (0, 4))
            return {
                "atom": atom,
                "defect": defect,
                "step": view["step"].sigmoid()[0].numpy(),
                "direction": view["direction"].numpy(),
                "peaks": np.stack([column + x, row + y], axis=1).astype(float),
                "pixels": np.stack([column, row]),
                "heights": atom[row, column].astype(float),
                "quality": verdict[0].softmax(0).mean((1, 2)).double().numpy(),
            }

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, those of the network in half precision, and settings for JSON."""
        arrays = {
            f"network.{name}": value.numpy().astype(np.float16)
            for name, value in self._net.state_dict().items()
        }
        arrays |= {
            f"judges.{name}": value.numpy() for name, value in self.judges.state_dict().items()
        }
        return arrays, {"members": self.judges.members, "gate": self.gate}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the model again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        count, gate = settings.get("members"), settings.get("gate")
        if type(count) is not int or not 1 <= count <= MEMBERS or not isinstance(gate, dict):
            raise ValueError(
                f"settings {str(settings)[:80]} are not those of a model of surfaces; train it "
                "again"
            )
        parts: dict[str, dict[str, NDArray[Any]]] = {"network": {}, "judges": {}}
        for name, value in arrays.items():
            part, _, rest = name.partition(".")
            if part not in parts:
                raise ValueError(f"weights {name[:40]!r} are none of these networks; train again")
            parts[part][rest] = value
        net = filled(fold(build_surface(CHANNELS)), parts["network"])
        judges = filled(build_judges(count, SITE_FEATURES), parts["judges"])
        return cls(net, judges.eval().requires_grad_(False), gate)


def _enlarged(cells: "torch.Tensor") -> Float32:
    """Put the four pixels (4, H, W) of each cell beside each other (2 H, 2 W)."""
    _, height, width = cells.shape
    # That is how the network leaves them in memory.
    four = np.ascontiguousarray(cells.permute(1, 2, 0).numpy()).reshape(height, width, 2, 2)
    return four.swapaxes(1, 2).reshape(2 * height, 2 * width)


def _maxima(atom: Float32) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels that none of their eight neighbours exceeds."""
    height, width = atom.shape
    padded = np.zeros((height + 2, width + 2), np.float32)
    padded[1:-1, 1:-1] = atom
    top = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    top = np.maximum(np.maximum(top[:, :-2], top[:, 1:-1]), top[:, 2:])
    row, column = np.nonzero((atom == top) & (atom > _LOWEST))
    return row, column


def _tiles(
    shape: tuple[int, ...],
) -> Iterator[tuple[slice, slice, slice, slice]]:
    """Rows and columns of overlapping tiles, and the part of each that counts."""

    def cut(size: int) -> list[tuple[slice, slice]]:
        if size <= _TILE:
            return [(slice(0, size), slice(0, size))]
        count = -(-(size - _OVERLAP) // (_TILE - _OVERLAP))
        step = -(-(size - _OVERLAP) // (count * CELL)) * CELL
        edges = [(k * step, min(size, k * step + step + _OVERLAP)) for k in range(count)]
        inner = [0] + [a + _OVERLAP // 2 for a, _ in edges[1:]] + [size]
        return [(slice(a, b), slice(inner[k], inner[k + 1])) for k, (a, b) in enumerate(edges)]

    for rows, inner_rows in cut(shape[0]):
        for columns, inner_columns in cut(shape[1]):
            yield rows, columns, inner_rows, inner_columns


@contextmanager
def _quiet() -> Iterator[None]:
    """Denormal numbers as zeros: they slow convolutions down, and mean nothing here."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
