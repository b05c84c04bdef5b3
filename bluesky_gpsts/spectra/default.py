"""The default classifier: a compact residual network, a calibrated head, a reject."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.headed import Headed
from bluesky_gpsts.spectra.network import forward, tensors
from bluesky_gpsts.spectra.novelty import Head, split_logits
from bluesky_gpsts.spectra.preprocess import channels
from bluesky_gpsts.spectra.types import Array, Classes

if TYPE_CHECKING:
    import torch

__all__ = ["DefaultClassifier", "network_output"]

_BATCH = 128


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

    def classify(self, bias: Array, didv: Array) -> Classes:
        """Name spectra, many of them in pieces on as many threads as torch may use.

        Parameters
        ----------
        bias : (n,) array
            Bias axis (V), rising or falling.
        didv : (N, n) array
            Differential conductance (A/V).

        Returns
        -------
        Classes
            Bad spectra have a sentence in `problems`.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        axis, values = np.asarray(bias, float), np.asarray(didv, float)
        # A wrong number of axes is refused by the base class.
        pieces = range(0, len(values), _BATCH) if values.ndim == 2 else range(1)
        one = super().classify
        with _one_thread() as threads:
            if len(pieces) < 2:
                return one(axis, values)
            with ThreadPoolExecutor(threads, initializer=_single) as pool:
                parts = list(pool.map(lambda k: one(axis, values[k : k + _BATCH]), pieces))
        return Classes(
            self.classes,
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.novelty for part in parts]),
            tuple(problem for part in parts for problem in part.problems),
        )

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
        features, logits = network_output(self._tensors, channels(bias, didv))
        return features, *split_logits(logits, self.head.trained)


@contextmanager
def _one_thread() -> Iterator[int]:
    """Run torch on one thread, and give the number it had.

    The pieces are too small to share among threads: those would wait for each other, long on a
    busy computer. Each piece has a thread of its own instead.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _single() -> None:
    import torch

    torch.set_num_threads(1)


def network_output(
    weights: "dict[str, torch.Tensor]", prepared: NDArray[Any]
) -> tuple[Array, Array]:
    """Features (N, F) and logits (N, outputs) of prepared spectra (N, CHANNELS, GRID)."""
    import torch

    with torch.inference_mode():
        features, logits = forward(weights, torch.from_numpy(prepared))
    return features.double().numpy(), logits.double().numpy()
