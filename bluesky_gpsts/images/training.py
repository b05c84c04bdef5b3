"""Training of the default model of surfaces on drawn images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bluesky_gpsts.images.lessons import Lesson, batch
from bluesky_gpsts.images.networks import OUTPUTS, build_surface
from bluesky_gpsts.images.prepare import CHANNELS

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["SIZE", "fit_network"]

SIZE, BATCH = 128, 8
_RATE = 3e-3
_WEIGHTS = {"atom": 1.0, "offset": 0.15, "defect": 1.0, "step": 0.4, "direction": 0.4}
_VERDICT = 0.1


def fit_network(
    lessons: Sequence[Lesson],
    seed: int,
    steps: int,
    *,
    progress: bool = True,
    what: str = "training",
) -> "nn.Module":
    """Train one multi-task network.

    Parameters
    ----------
    lessons : sequence of Lesson
        To learn from.
    seed : int
        Seed of weights and of the squares that are cut out.
    steps : int
        How many batches of eight squares of 128 pixels; about 0.1 s each on one core.
    progress : bool
        Show a bar with the time left.
    what : str
        What the bar says.

    Returns
    -------
    torch.nn.Module
        The network, still with its batch normalisation.

    Raises
    ------
    ValueError
        If there are no lessons or no steps.
    """
    import torch
    from tqdm import tqdm

    if not lessons or steps < 1:
        raise ValueError(f"{len(lessons)} lessons, {steps} steps; give 1 or more of both")
    rng = np.random.default_rng([seed, 81])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_surface(CHANNELS).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, steps + 1, pct_start=min(0.3, 0.1 + 10.0 / steps)
        )
        net.train()
        mean = 0.0
        with tqdm(total=steps, desc=what, disable=not progress, mininterval=5.0) as bar:
            for step in range(steps):
                losses = surface_loss(net, batch(lessons, rng, SIZE, BATCH))
                loss = sum(losses.values(), torch.zeros(()))
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                mean += (float(loss.detach()) - mean) * max(0.01, 1.0 / (step + 1))
                bar.update()
                if step % 50 == 0:
                    parts = {name: f"{float(value.detach()):.3f}" for name, value in losses.items()}
                    bar.set_postfix(loss=f"{mean:.3f}", **parts, refresh=False)
    return net.eval()


def surface_loss(
    net: "nn.Module", taught: "dict[str, np.typing.NDArray[np.float32]]"
) -> "dict[str, torch.Tensor]":
    """Weighted losses by name of one batch from `bluesky_gpsts.images.lessons.batch`."""
    import torch
    from torch.nn.functional import (
        binary_cross_entropy_with_logits,
        cross_entropy,
        pixel_shuffle,
    )

    given = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in taught.items()}
    x = given["channels"].contiguous(memory_format=torch.channels_last)
    heads, verdict = net(x)
    split = dict(zip(OUTPUTS, torch.split(heads, list(OUTPUTS.values()), dim=1), strict=True))
    good = given["taught"][:, None, None, None]
    share = good.mean().clamp_min(1e-3)
    losses = {}
    for name, shuffled in (("atom", True), ("defect", True), ("step", False)):
        logits = pixel_shuffle(split[name], 2) if shuffled else split[name]
        each = binary_cross_entropy_with_logits(logits, given[name], reduction="none")
        losses[name] = (each * good).mean() / share
    near = (given["atom"] > 0.3).float() * good
    way = (pixel_shuffle(split["offset"], 2) - given["offset"]).abs()
    losses["offset"] = (way * near).sum() / near.sum().clamp_min(1.0)
    away = (1.0 - given["step"]) * good
    turned = (split["direction"] - given["direction"]).square().sum(1, keepdim=True)
    losses["direction"] = (turned * away).sum() / away.sum().clamp_min(1.0)
    losses = {name: value * _WEIGHTS[name] for name, value in losses.items()}
    wanted = given["verdict"].long()[:, None, None].expand(-1, *verdict.shape[2:])
    losses["verdict"] = _VERDICT * cross_entropy(verdict, wanted)
    return losses
