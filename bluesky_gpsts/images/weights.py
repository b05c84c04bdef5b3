"""Weights of a network that are watched while it is trained."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["check_finite"]


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
