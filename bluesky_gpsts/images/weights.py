"""Arrays of a file into a network."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

__all__ = ["filled"]


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
