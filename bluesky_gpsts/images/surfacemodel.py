"""The default model of surfaces: a small ensemble of multi-task networks, run tile by tile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.networks import OUTPUTS, QUALITIES, build_surface, fold
from bluesky_gpsts.images.prepare import CELL, CHANNELS, Prepared
from bluesky_gpsts.models.weights import filled

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Maps", "SurfaceModel"]

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_TILE, _OVERLAP = 768, 96
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
    doubt : (N,) array
        Standard deviation of the members of the ensemble there; 0 of a single one.
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
    doubt: Array
    defect: Float32
    step: Float32
    direction: Float32
    quality: Array

    @property
    def resolved(self) -> bool:
        """Whether the dimers are resolved, not only their rows: the last of the verdicts."""
        return bool(self.quality[-1] <= self.quality[0])


class SurfaceModel:
    """An ensemble of multi-task networks, and what its quality gate has learned.

    Parameters
    ----------
    members : sequence of torch.nn.Module
        Networks from `build_surface`, trained.
    gate : mapping of str to list of float
        Settings of the quality gate; see `bluesky_gpsts.images.quality`.
    turned : bool
        Whether each network sees the image a second time, turned by half a circle, as if it were
        another member of the ensemble. It finds 0.3 % more defects, and takes half as long again.
    """

    def __init__(
        self, members: "list[nn.Module]", gate: dict[str, Any], turned: bool = False
    ) -> None:
        import torch

        self._turned = turned

        self._members = [
            fold(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for net in members
        ]
        self.gate = gate

    def with_gate(self, gate: dict[str, Any]) -> "SurfaceModel":
        """Return the same networks with other settings of the gate."""
        return SurfaceModel(self._members, gate, self._turned)

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "surface"

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart."""
        return tuple(OUTPUTS)

    @cached_property
    def size(self) -> int:
        """Number of members."""
        return len(self._members)

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
        points, heights, doubts = [], [], []
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
                doubts.append(out["doubt"][own])
                share = float(part.shape[1] * part.shape[2])
                quality += share * out["quality"]
                area += share
        if progress is not None:
            progress(len(tiles), len(tiles))
        return Maps(
            atom,
            np.concatenate(points),
            np.concatenate(heights),
            np.concatenate(doubts),
            defect,
            step,
            direction,
            quality / area,
        )

    def _run(self, channels: Float32, known: NDArray[np.bool_]) -> dict[str, Any]:
        """Outputs of one tile; the mean over the members."""
        import torch
        from torch.nn.functional import max_pool2d

        x = torch.from_numpy(np.ascontiguousarray(channels))[None]
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            views = [_view(net(x)) for net in self._members]
            if self._turned:
                # One after the other: two at a time leave the cache and take longer.
                turned = x.flip(2, 3)
                views += [_view(net(turned), turned=True) for net in self._members]

            def mean(name: str) -> "torch.Tensor":
                values = [view[name] for view in views]
                return values[0] if len(values) == 1 else torch.stack(values).mean(0)

            atom = mean("atom")[0] * torch.from_numpy(known)
            top = max_pool2d(atom[None, None], 3, 1, 1)[0, 0]
            row, column = torch.nonzero((atom == top) & (atom > _LOWEST), as_tuple=True)
            shift = mean("offset")[:, row, column].clamp(-1.5, 1.5)
            at = torch.stack([view["atom"][0, row, column] for view in views])
            result = {
                "atom": atom.numpy(),
                "defect": (mean("defect")[0] * torch.from_numpy(known)).numpy(),
                "step": mean("step")[0].numpy(),
                "direction": mean("direction").numpy(),
                "peaks": torch.stack((column + shift[0], row + shift[1]), 1).double().numpy(),
                "pixels": torch.stack((column, row)).numpy(),
                "heights": atom[row, column].double().numpy(),
                # Of numpy: torch warns where there is no peak.
                "doubt": at.double().numpy().std(axis=0),
                "quality": mean("quality").double().numpy(),
            }
        return result

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name in half precision, and settings that JSON can hold."""
        arrays = {
            f"{number}.{name}": value.numpy().astype(np.float16)
            for number, net in enumerate(self._members)
            for name, value in net.state_dict().items()
        }
        return arrays, {
            "members": len(self._members),
            "turned": self._turned,
            "gate": self.gate,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the model again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        count, gate = settings.get("members"), settings.get("gate")
        turned = settings.get("turned") is True
        if not isinstance(count, int) or not 1 <= count <= 16 or not isinstance(gate, dict):
            raise ValueError(f"settings {str(settings)[:80]} are not those of a model of surfaces")
        members = []
        for number in range(count):
            start = f"{number}."
            part = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            members.append(filled(fold(build_surface(CHANNELS)), part))
        if len(arrays) != sum(len(net.state_dict()) for net in members):
            raise ValueError("there are more weights than the networks take; train them again")
        return cls(members, gate, turned)


def _view(
    outcome: "tuple[torch.Tensor, torch.Tensor]", *, turned: bool = False
) -> "dict[str, torch.Tensor]":
    """Outputs of a network by name, (C, H, W) each; turned back if the image was turned round."""
    import torch

    heads, verdict = outcome
    split = torch.split(heads[0], list(OUTPUTS.values()))
    view = dict(zip(OUTPUTS, split, strict=True))
    for name in ("atom", "offset", "defect"):
        view[name] = torch.pixel_shuffle(view[name], 2)
    if turned:
        view = {name: value.flip(1, 2) for name, value in view.items()}
        view["offset"] = -view["offset"]
    for name in ("atom", "defect", "step"):
        view[name] = view[name].sigmoid()
    view["quality"] = verdict[0].softmax(0).mean((1, 2))
    return view


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
