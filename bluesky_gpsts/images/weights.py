"""Weights of a network: from the arrays of a file, and watched while it is trained."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["check_finite", "filled"]


def filled(net: "nn.Module", arrays: dict[str, NDArray[Any]]) -> "nn.Module":
    """Put arrays into a folded network, after a check of every shape.

    Raises
    ------
    ValueError
        If an array is missing, of another shape, too many, or not finite.
    """
    import torch

    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    found = {name: tuple(np.shape(value)) for name, value in arrays.items()}
    if wanted != found:
        wrong = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
        raise ValueError(
            f"weights {', '.join(wrong[:4])} are missing, too many or of another shape; train the "
            "network again"
        )
    state = {name: torch.from_numpy(np.array(v, np.float32)) for name, v in arrays.items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ValueError("some weights are not finite; train the network again")
    net.load_state_dict(state)
    return net


def check_finite(loss: "torch.Tensor", bfloat16: bool) -> None:
    """End a training that has gone wrong.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    import math

    if not math.isfinite(float(loss.detach())):
        hint = "train without half precision" if bfloat16 else "give another seed"
        raise FloatingPointError(f"the loss is {float(loss.detach())}; {hint}")
