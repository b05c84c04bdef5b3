"""The three networks of Ziatdinov et al. at work, decoded as they describe it.

NN-0 parts step edges from terraces, and connected components give each terrace and edge as an
image. NN-1 finds atoms and NN-2 defects: pixels above a threshold are labelled, and the centre of
mass of each blob is its position. Images of any size are padded to what the poolings need.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bluesky_gpsts.images.networks import build_atoms, build_defects, build_terraces, fold
from bluesky_gpsts.images.prepare import check_image, level
from bluesky_gpsts.models.weights import filled

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PaperAtoms", "PaperDefects", "PaperTerraces", "Piece", "centres", "inputs"]

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]
Labels = NDArray[np.int32]

THRESHOLD = 0.5
_CLIP = 4.0
_MULTIPLE = 8
_SMALLEST = 64


def inputs(image: ArrayLike) -> Float32:
    """Level an image by a plane and bring it to mean 0 and standard deviation 1.

    Parameters
    ----------
    image : (ny, nx) array_like
        Heights in any unit; NaN where unknown.

    Returns
    -------
    (ny, nx) array
        0 where unknown; clipped at 4 standard deviations.

    Raises
    ------
    ValueError
        As `bluesky_gpsts.images.prepare.check_image`.
    """
    values = check_image(image)
    known = np.isfinite(values)
    flat = level(values, bool(known.all()))
    mean, spread = float(flat[known].mean()), float(flat[known].std())
    scaled = (flat - np.float32(mean)) / np.float32(spread if spread > 1e-9 else 1.0)
    scaled[~known] = 0.0
    return np.asarray(np.clip(scaled, -_CLIP, _CLIP), np.float32)


class _PaperModel:
    """One of the networks: probabilities of each pixel."""

    kind: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    def __init__(self, network: "nn.Module") -> None:
        import torch

        self._network = fold(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return self.kind

    @staticmethod
    def build() -> "nn.Module":
        raise NotImplementedError

    def probability(self, image: ArrayLike) -> Float32:
        """Probability (ny, nx) of each pixel of an image (ny, nx) in any unit."""
        import torch

        values = inputs(image)
        ny, nx = values.shape
        padding = ((0, -ny % _MULTIPLE), (0, -nx % _MULTIPLE))
        padded = torch.from_numpy(np.pad(values, padding, mode="reflect"))[None, None]
        padded = padded.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            result: Float32 = self._network(padded)[0, 0, :ny, :nx].sigmoid().numpy()
        return result

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name in half precision, and settings that JSON can hold."""
        state = self._network.state_dict()
        return {name: value.numpy().astype(np.float16) for name, value in state.items()}, {}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the model again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array is missing or does not fit.
        """
        return cls(filled(fold(cls.build()), arrays))


@dataclass(frozen=True, eq=False)
class Piece:
    """A terrace or a step edge, cut out of an image.

    Attributes
    ----------
    step : bool
        Whether it is a step edge.
    row, column : int
        Of its first pixel in the image.
    image : (h, w) array
        The image there; NaN outside of the piece.
    """

    step: bool
    row: int
    column: int
    image: Array


class PaperTerraces(_PaperModel):
    """NN-0: step edges against terraces."""

    kind = "paper-terraces"
    classes = ("terrace", "step")

    @staticmethod
    def build() -> "nn.Module":
        """Network with random weights."""
        return build_terraces()

    def label(self, image: ArrayLike) -> Labels:
        """Number (ny, nx) of the terrace of each pixel, from 1 on; 0 on step edges."""
        from scipy.ndimage import label

        found, _ = label(self.probability(image) < THRESHOLD)
        return _without_small(found)

    def pieces(self, image: ArrayLike) -> tuple[Piece, ...]:
        """Cut an image into its terraces and step edges, terraces first."""
        from scipy.ndimage import find_objects, label

        values = np.asarray(image, float)
        terraces = self.label(image)
        steps, _ = label(terraces == 0)
        result = []
        for is_step, numbers in ((False, terraces), (True, _without_small(steps))):
            for number, box in enumerate(find_objects(numbers), start=1):
                part = np.where(numbers[box] == number, values[box], np.nan)
                result.append(Piece(is_step, box[0].start, box[1].start, part))
        return tuple(result)


class PaperAtoms(_PaperModel):
    """NN-1: atoms."""

    kind = "paper-atoms"
    classes = ("atom",)

    @staticmethod
    def build() -> "nn.Module":
        """Network with random weights."""
        return build_atoms()

    def find(self, image: ArrayLike) -> Array:
        """Positions (N, 2), x and y in pixels, of atoms: centres of mass of the blobs."""
        return centres(self.probability(image), 1)[1]


class PaperDefects(_PaperModel):
    """NN-2: defects."""

    kind = "paper-defects"
    classes = ("defect",)

    @staticmethod
    def build() -> "nn.Module":
        """Network with random weights."""
        return build_defects()

    def find(self, image: ArrayLike) -> tuple[Labels, Array]:
        """Numbers (ny, nx) of defects, 0 elsewhere, and their positions (N, 2), x and y."""
        return centres(self.probability(image), 5)


def centres(probability: Float32, smallest: int) -> tuple[Labels, Array]:
    """Label the blobs of a map above the threshold, and give their centres of mass.

    Parameters
    ----------
    probability : (ny, nx) array
        The map.
    smallest : int
        Blobs of fewer pixels are left out.

    Returns
    -------
    labels : (ny, nx) array of int
    positions : (N, 2) array
        x and y in pixels.
    """
    from scipy.ndimage import center_of_mass, label

    labels, count = label(probability > THRESHOLD)
    if smallest > 1 and count:
        labels = _without_small(labels, smallest)
        count = int(labels.max())
    if not count:
        return labels.astype(np.int32), np.zeros((0, 2))
    found = center_of_mass(probability, labels, np.arange(1, count + 1))
    return labels.astype(np.int32), np.array(found)[:, ::-1]


def _without_small(labels: NDArray[np.integer], smallest: int = _SMALLEST) -> Labels:
    """Number the labels anew, those of fewer pixels left out."""
    sizes = np.bincount(labels.ravel())
    kept = np.flatnonzero(sizes >= smallest)
    kept = kept[kept > 0]
    number = np.zeros(len(sizes), np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    return number[labels]
