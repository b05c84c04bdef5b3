"""The 1-D convolutional network of Thomas et al., npj Comput. Mater. 8, 99 (2022), as published.

Two convolutions (64 and 128 maps, kernel 3, stride 1, padding 1), each with batch normalisation,
ReLU and max pooling of 2 with stride 1; dropout; one linear layer: 638,724 numbers for 1200 points
and four classes, 96 % of them in the linear layer. It sees 1200 values by their index and never
the bias axis. What the article leaves open is as in the authors' published program (minimum and
maximum of each spectrum become 0 and 1; batches of five) or torch's default (half of the inputs
dropped).
"""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.models.weights import filled
from bluesky_gpsts.spectra.preprocess import find_problems
from bluesky_gpsts.spectra.types import Array, Classes

if TYPE_CHECKING:
    import torch

__all__ = ["CHANNELS", "POINTS", "PaperCNN", "build_network", "inputs"]

POINTS = 1200
CHANNELS = (64, 128)
DROPOUT = 0.5
# More spectra at a time than this are slower, because their feature maps leave the cache.
_BATCH = 64


def build_network(classes: int) -> "torch.nn.Sequential":
    """Build the network, with random weights of torch's own seed.

    Parameters
    ----------
    classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Sequential
        (N, 1, 1200) in; (N, 64, 1199) and (N, 128, 1198) after the poolings; (N, classes) out,
        before the softmax.
    """
    from torch import nn

    first, second = CHANNELS
    return nn.Sequential(
        nn.Conv1d(1, first, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm1d(first),
        nn.ReLU(),
        nn.MaxPool1d(kernel_size=2, stride=1),
        nn.Conv1d(first, second, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm1d(second),
        nn.ReLU(),
        nn.MaxPool1d(kernel_size=2, stride=1),
        nn.Dropout(DROPOUT),
        nn.Flatten(),
        nn.Linear((POINTS - 2) * second, classes),
    )


def inputs(bias: Array, didv: Array) -> NDArray[np.float32]:
    """Bring spectra to 1200 points by their index, and to 0 ... 1 one by one.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V); a falling sweep is turned round, and no more of it is looked at.
    didv : (N, n) array
        Spectra, any unit, finite; n of 2 or more.

    Returns
    -------
    (N, 1200) array
        A constant spectrum becomes 0.
    """
    values = np.asarray(didv, float)
    if bias[0] > bias[-1]:
        values = values[:, ::-1]
    place = np.linspace(0.0, values.shape[1] - 1.0, POINTS)
    left = np.minimum(place.astype(int), values.shape[1] - 2)
    low = values.min(axis=1, keepdims=True)
    span = values.max(axis=1, keepdims=True) - low
    values = (values - low) / np.where(span > 0.0, span, 1.0)
    after = values[:, left + 1]
    before = values[:, left]
    return np.asarray(before + (place - left) * (after - before), np.float32)


class PaperCNN:
    """The published network, trained.

    Parameters
    ----------
    network : torch.nn.Sequential
        From `build_network`, trained.
    classes : tuple of str
        Names of its classes.
    """

    def __init__(self, network: "torch.nn.Sequential", classes: tuple[str, ...]) -> None:
        self._network = network.eval()
        self._classes = classes

    @property
    def name(self) -> str:
        """Name of the kind of classifier."""
        return "paper"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    def classify(self, bias: Array, didv: Array) -> Classes:
        """Name spectra by their shape over the index alone.

        The network has no measure of novelty: 1 minus the highest probability stands for it.

        Parameters
        ----------
        bias : (n,) array
            Bias axis (V), rising or falling; the network does not see it.
        didv : (N, n) array
            Differential conductance (A/V), one row a spectrum.

        Returns
        -------
        Classes
            With a problem for spectra that `find_problems` refuses.

        Raises
        ------
        ValueError
            If the arrays do not have these shapes.
        """
        axis, values = np.asarray(bias, float), np.asarray(didv, float)
        problems = find_problems(axis, values)
        count, kinds = len(values), len(self._classes)
        good = np.array([not problem for problem in problems], dtype=bool)
        probabilities = np.full((count, kinds), 1.0 / kinds)
        novelty = np.ones(count)
        if good.any():
            known = self.probabilities(inputs(axis, values[good]))
            probabilities[good] = known
            novelty[good] = 1.0 - known.max(axis=1)
        return Classes(self._classes, probabilities, novelty, problems)

    def probabilities(self, prepared: NDArray[np.float32]) -> Array:
        """Softmax (N, K) of prepared spectra (N, 1200), in double precision."""
        import torch

        with torch.inference_mode():
            parts = [
                self._network(torch.from_numpy(prepared[start : start + _BATCH, None]))
                for start in range(0, len(prepared), _BATCH)
            ]
            return np.asarray(torch.softmax(torch.cat(parts).double(), dim=1).numpy(), float)

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Weights by name, and settings that JSON can hold."""
        state = self._network.state_dict()
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
        return arrays, {"classes": list(self._classes), "points": POINTS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """Build the classifier again from what `to_arrays` gave.

        Raises
        ------
        ValueError
            If an array or a setting is missing or does not fit.
        """
        import torch

        classes = settings.get("classes")
        if not isinstance(classes, list) or len(classes) < 2 or settings.get("points") != POINTS:
            raise ValueError(
                f"settings {settings} are not those of the network for {POINTS} points; train it "
                "again"
            )
        # Without memory first: weights that do not fit must not be allocated.
        with torch.device("meta"):
            network = build_network(len(classes))
        filled(network, arrays)
        return cls(network, tuple(str(name) for name in classes))
