"""Weights of a network of torch, from the arrays of a file."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

__all__ = ["filled"]


def filled(net: "nn.Module", arrays: dict[str, NDArray[Any]]) -> "nn.Module":
    """Put arrays into a network, after a check of every shape.

    Parameters
    ----------
    net : torch.nn.Module
        Best built on the device "meta", so that nothing is allocated for arrays that do not fit.
    arrays : dict of str to array
        Weights by name, as `Model.to_arrays` gave them.

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    ValueError
        If an array is missing, of another shape, too many, or not finite.
    """
    import torch

    wanted = net.state_dict()
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    found = {name: tuple(np.shape(value)) for name, value in arrays.items()}
    if shapes != found:
        wrong = sorted(n for n in shapes | found if shapes.get(n) != found.get(n))
        raise ValueError(
            f"weights {', '.join(wrong[:4])} are missing, too many or of another shape; train the "
            "network again"
        )
    state = {n: torch.from_numpy(np.array(v)).to(wanted[n].dtype) for n, v in arrays.items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ValueError("some weights are not finite; train the network again")
    net.load_state_dict(state, assign=True)
    return net
