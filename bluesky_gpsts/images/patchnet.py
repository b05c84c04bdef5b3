"""A small network that turns the picture of a defect into a few numbers, and names its kind.

The numbers are what clusters and the library of defects work on: pictures of one kind have nearly
the same numbers, whatever tip and noise. For the numbers every picture is seen in all four mirror
images, so that a defect and its mirror image are the same; for the name one look is as good.
"""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.features import PATCH, DefectTable
from bluesky_gpsts.models.weights import filled

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["NUMBERS", "DefectNet", "build_patch_network", "network_input"]

Array = NDArray[np.float64]

NUMBERS = 16
"""Numbers that a picture becomes."""

_SHAPE = 6
_BATCH = 128
_SOFT = 0.1

# Axes along which pictures are flipped.
_ONCE: tuple[tuple[int, ...], ...] = ((),)
_MIRRORED = ((), (2,), (3,), (2, 3))


class DefectNet:
    """The network, and the names of the kinds that it was taught.

    Parameters
    ----------
    net : torch.nn.Module
        From `build_patch_network`, trained.
    classes : tuple of str
        Names of the kinds, in the order of its outputs.
    """

    def __init__(self, net: "nn.Module", classes: tuple[str, ...]) -> None:
        import torch

        self._net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._classes = classes

    @property
    def name(self) -> str:
        """Name of the kind of model."""
        return "defect-classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the kinds of defects that it was taught."""
        return self._classes

    def numbers(self, table: DefectTable) -> Array:
        """Return the numbers (N, NUMBERS) of each defect, each of the order of one."""
        return self._run(table, _MIRRORED)[0]

    def probabilities(self, table: DefectTable) -> Array:
        """Return the probability (N, K) of each class for each defect."""
        return self._run(table, _ONCE)[1]

    def name_defects(self, table: DefectTable) -> tuple[NDArray[np.str_], Array]:
        """Name each defect by its likeliest class, with the probability (N,) of it."""
        odds = self.probabilities(table)
        best = odds.argmax(axis=1) if len(odds) else np.zeros(0, np.intp)
        return np.array(self._classes)[best], odds[np.arange(len(odds)), best]

    def _run(self, table: DefectTable, flips: tuple[tuple[int, ...], ...]) -> tuple[Array, Array]:
        import torch

        numbers, odds = [np.zeros((0, NUMBERS))], [np.zeros((0, len(self._classes)))]
        pictures, shape = network_input(table)
        with torch.inference_mode():
            for first in range(0, len(table), _BATCH):
                part = torch.from_numpy(pictures[first : first + _BATCH])
                form = torch.from_numpy(shape[first : first + _BATCH])
                views = torch.cat([part.flip(flip) for flip in flips])
                # In this order of memory a convolution of few channels takes half the time.
                views = views.contiguous(memory_format=torch.channels_last)
                found, scores = self._net(views, form.repeat(len(flips), 1))
                middle = found.reshape(len(flips), len(part), -1).mean(0)
                chance = scores.softmax(1).reshape(len(flips), len(part), -1).mean(0)
                numbers.append(middle.double().numpy())
                odds.append(chance.double().numpy())
        return np.concatenate(numbers), np.concatenate(odds)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name in half precision, and settings that JSON can hold."""
        state = self._net.state_dict()
        arrays = {name: value.numpy().astype(np.float16) for name, value in state.items()}
        return arrays, {"classes": list(self._classes)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the model again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        classes = settings.get("classes")
        if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
            raise ValueError(f"the classes are {str(classes)[:80]}; they must be names")
        return cls(filled(build_patch_network(len(classes)), arrays), tuple(classes))


def network_input(table: DefectTable) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pictures (N, 2, 24, 32) and forms (N, 6) of defects, as the network takes them."""
    pictures = table.patches.astype(np.float32, copy=True)
    pictures[:, 0] = np.arcsinh(pictures[:, 0])
    return pictures, table.shape.astype(np.float32)


def build_patch_network(classes: int) -> "nn.Module":
    """Return an untrained network: (pictures, forms) to (numbers, scores of the classes)."""
    import torch
    from torch import nn

    class PatchNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def block(inside: int, outside: int, stride: int) -> nn.Module:
                return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.LeakyReLU(_SOFT))

            self.body = nn.Sequential(
                block(2, 16, 1), block(16, 24, 2), block(24, 32, 2), block(32, 32, 1)
            )
            size = 32 * (PATCH[0] // 4) * (PATCH[1] // 4)
            self.join = nn.Sequential(nn.Linear(size + _SHAPE, 48), nn.LeakyReLU(_SOFT))
            self.numbers = nn.Linear(48, NUMBERS)
            self.head = nn.Sequential(nn.LeakyReLU(_SOFT), nn.Linear(NUMBERS, classes))

        def forward(
            self, pictures: "torch.Tensor", form: "torch.Tensor"
        ) -> "tuple[torch.Tensor, torch.Tensor]":
            seen = self.body(pictures).flatten(1)
            numbers = self.numbers(self.join(torch.cat((seen, form), 1)))
            return numbers, self.head(numbers)

    return PatchNetwork()
