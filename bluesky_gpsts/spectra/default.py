"""The default classifier: a compact residual network, a calibrated head, a reject."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.headed import Headed
from bluesky_gpsts.spectra.network import forward, tensors
from bluesky_gpsts.spectra.novelty import Head
from bluesky_gpsts.spectra.preprocess import channels
from bluesky_gpsts.spectra.types import Array

if TYPE_CHECKING:
    import torch

__all__ = ["DefaultClassifier", "network_output"]

_BATCH = 256


@dataclass(frozen=True, eq=False)
class DefaultClassifier(Headed):
    """Names spectra of any length on any bias axis, and says what it does not know.

    Parameters
    ----------
    weights : dict of str to array of float32
        Folded weights, from `bluesky_gpsts.spectra.network.fold`.
    outputs : int
        Number of logits: the trained classes, materials for training, and the rest.
    head : Head
        What decides.
    """

    weights: dict[str, NDArray[Any]]
    outputs: int
    head: Head

    @property
    def name(self) -> str:
        """Name of the kind of classifier."""
        return "default"

    @cached_property
    def _tensors(self) -> "dict[str, torch.Tensor]":
        return tensors(self.weights, self.outputs)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, and settings that JSON can hold."""
        arrays, settings = self.head.to_arrays()
        return {**self.weights, **arrays}, {"outputs": self.outputs, "head": settings}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the classifier again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        try:
            outputs, of_head = int(settings["outputs"]), settings["head"]
        except KeyError as error:
            raise ValueError(f"the model holds no {error}; it is not of this kind") from None
        head = Head.from_arrays(arrays, of_head)
        weights = {name: value for name, value in arrays.items() if not name.startswith("head.")}
        result = cls(weights, outputs, head)
        features = result._tensors["feature.weight"].shape[0]
        if head.whitening.shape[0] != features:
            raise ValueError(f"the head takes other features than the network's {features}")
        return result

    def _features(self, bias: Array, didv: Array) -> tuple[Array, Array, Array]:
        """Features, logits of the trained classes, and the score of the reject."""
        parts = [
            network_output(self._tensors, channels(bias, didv[start : start + _BATCH]))
            for start in range(0, len(didv), _BATCH)
        ]
        features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return features, *split_logits(logits, self.head.trained)


def network_output(
    weights: "dict[str, torch.Tensor]", prepared: NDArray[Any]
) -> tuple[Array, Array]:
    """Features (N, F) and logits (N, outputs) of prepared spectra (N, CHANNELS, GRID)."""
    import torch

    with torch.inference_mode():
        features, logits = forward(weights, torch.from_numpy(prepared))
    return features.double().numpy(), logits.double().numpy()


def split_logits(logits: Array, trained: int) -> tuple[Array, Array]:
    """Logits (N, trained) of the classes, and how much the others are above them (N,)."""
    known, other = logits[:, :trained], logits[:, trained:]
    return known, np.logaddexp.reduce(other, axis=1) - np.logaddexp.reduce(known, axis=1)
