"""The default network: a one-dimensional residual net of about 80,000 parameters.

Trained with batch normalisation (`build`), used with it folded into the convolutions (`fold`,
`forward`): fewer steps for one spectrum, and weights that are nothing but arrays.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.spectra.preprocess import CHANNELS, Float32

if TYPE_CHECKING:
    import torch

__all__ = ["FEATURES", "STAGES", "build", "fold", "forward", "tensors"]

FEATURES = 64
"""Length of the feature vector."""

PERIODS = (0.5, 1.0)
"""Periods (V) of the sines and cosines that tell the network where on the bias axis it is."""

_INPUTS = CHANNELS + 2 * len(PERIODS)

STAGES = (("stem", _INPUTS, 32, 9, 4), ("down1", 32, 56, 5, 2), ("down2", 56, 64, 3, 2))
"""Convolutions that shorten: name, channels in, channels out, kernel, stride."""

_BLOCKS = (("block1", 32, 5), ("block2", 56, 5), ("block3", 64, 3))


def build(outputs: int) -> "torch.nn.Module":
    """Build the network for training, with random weights from torch's generator.

    Parameters
    ----------
    outputs : int
        Number of logits.

    Returns
    -------
    torch.nn.Module
        From (N, CHANNELS, GRID) to features (N, FEATURES) and logits (N, outputs).
    """
    import torch
    from torch import nn

    def normed(name: str, inside: int, outside: int, kernel: int, stride: int) -> dict[str, Any]:
        conv = nn.Conv1d(inside, outside, kernel, stride, kernel // 2, bias=False)
        return {f"{name}_conv": conv, f"{name}_norm": nn.BatchNorm1d(outside)}

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts: dict[str, Any] = {}
            for stage, (block, width, kernel) in zip(STAGES, _BLOCKS, strict=True):
                parts |= normed(*stage)
                parts |= normed(f"{block}a", width, width, kernel, 1)
                parts |= normed(f"{block}b", width, width, kernel, 1)
            self.parts = nn.ModuleDict(parts)
            self.feature = nn.Linear(3 * STAGES[-1][2], FEATURES)
            self.logit = nn.Linear(FEATURES, outputs)
            self.drop = nn.Dropout(0.1)

        def step(self, name: str, x: torch.Tensor) -> torch.Tensor:
            normal: torch.Tensor = self.parts[f"{name}_norm"](self.parts[f"{name}_conv"](x))
            return normal

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = _placed(x)
            for (stage, *_), (block, *_) in zip(STAGES, _BLOCKS, strict=True):
                x = torch.relu(self.step(stage, x))
                inner = torch.relu(self.step(f"{block}a", x))
                x = torch.relu(x + self.step(f"{block}b", inner))
            features = self.feature(self.drop(_pool(x)))
            return features, self.logit(torch.relu(features))

    return Net()


def _placed(x: "torch.Tensor") -> "torch.Tensor":
    """Prepared spectra with sines and cosines of their bias: (N, _INPUTS, GRID)."""
    import torch

    bias = x[:, 3:4] * (4.0 * torch.pi)
    waves = [wave(bias / period) for period in PERIODS for wave in (torch.sin, torch.cos)]
    return torch.cat((x, *waves), 1)


def _pool(x: "torch.Tensor") -> "torch.Tensor":
    """Mean, maximum and standard deviation over the bias: (N, 3 C)."""
    import torch

    mean = x.mean(2)
    spread = ((x * x).mean(2) - mean * mean).clamp_min(1e-6).sqrt()
    return torch.cat((mean, x.amax(2), spread), 1)


def fold(net: "torch.nn.Module") -> dict[str, Float32]:
    """Weights of a trained network as arrays, batch normalisation folded in.

    Parameters
    ----------
    net : torch.nn.Module
        From `build`.

    Returns
    -------
    dict of str to array of float32
    """
    state = {name: value.detach().double().numpy() for name, value in net.state_dict().items()}
    names = [stage[0] for stage in STAGES]
    names += [f"{block[0]}{half}" for block in _BLOCKS for half in "ab"]
    arrays: dict[str, NDArray[Any]] = {}
    for name in names:
        norm = {key: state[f"parts.{name}_norm.{key}"] for key in ("weight", "bias")}
        mean, variance = (state[f"parts.{name}_norm.running_{key}"] for key in ("mean", "var"))
        gain = norm["weight"] / np.sqrt(variance + 1e-5)
        arrays[f"{name}.weight"] = state[f"parts.{name}_conv.weight"] * gain[:, None, None]
        arrays[f"{name}.bias"] = norm["bias"] - mean * gain
    for name in ("feature", "logit"):
        for key in ("weight", "bias"):
            arrays[f"{name}.{key}"] = state[f"{name}.{key}"]
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def tensors(arrays: Mapping[str, NDArray[Any]], outputs: int) -> "dict[str, torch.Tensor]":
    """Tensors of folded weights, after a check of every shape.

    Parameters
    ----------
    arrays : mapping of str to array
        From `fold`.
    outputs : int
        Number of logits expected.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    ValueError
        If an array is missing, has another shape or is not finite.
    """
    import torch

    shapes: dict[str, tuple[int, ...]] = {
        "feature.weight": (FEATURES, 3 * STAGES[-1][2]),
        "feature.bias": (FEATURES,),
        "logit.weight": (outputs, FEATURES),
        "logit.bias": (outputs,),
    }
    for name, inside, outside, kernel, _ in STAGES:
        shapes |= {f"{name}.weight": (outside, inside, kernel), f"{name}.bias": (outside,)}
    for block, width, kernel in _BLOCKS:
        for name in (f"{block}a", f"{block}b"):
            shapes |= {f"{name}.weight": (width, width, kernel), f"{name}.bias": (width,)}
    result = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"weights hold no {name!r}; they are not of this network")
        array = np.asarray(arrays[name], np.float32)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"weights {name!r} of shape {array.shape}; {shape}, finite, expected")
        result[name] = torch.from_numpy(array.copy())
    return result


def forward(
    weights: "Mapping[str, torch.Tensor]", x: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Features (N, FEATURES) and logits (N, outputs) of prepared spectra.

    Parameters
    ----------
    weights : mapping of str to torch.Tensor
        From `tensors`.
    x : (N, CHANNELS, GRID) tensor
        Prepared spectra.

    Returns
    -------
    features, logits : tensors
    """
    import torch.nn.functional as nn

    def conv(name: str, x: "torch.Tensor", stride: int = 1) -> "torch.Tensor":
        weight = weights[f"{name}.weight"]
        return nn.conv1d(x, weight, weights[f"{name}.bias"], stride, weight.shape[2] // 2)

    x = _placed(x)
    for (stage, *_, stride), (block, *_) in zip(STAGES, _BLOCKS, strict=True):
        x = conv(stage, x, stride).relu_()
        x = (x + conv(f"{block}b", conv(f"{block}a", x).relu_())).relu_()
    features = nn.linear(_pool(x), weights["feature.weight"], weights["feature.bias"])
    return features, nn.linear(features.relu(), weights["logit.weight"], weights["logit.bias"])
