"""Training of the default model of surfaces on drawn images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.decode import decode
from bluesky_gpsts.images.lessons import Lesson, batch, lesson, random_ruin, to_grid
from bluesky_gpsts.images.networks import OUTPUTS, build_surface
from bluesky_gpsts.images.prepare import CHANNELS, check_image, prepare
from bluesky_gpsts.images.quality import features, fit_gate
from bluesky_gpsts.images.simulate import COARSE_PIXELS, draw_blunt, draw_image
from bluesky_gpsts.images.sitejudges import fit_judges, site_features
from bluesky_gpsts.images.surfacemodel import MEMBERS, SurfaceModel
from bluesky_gpsts.images.terracemap import map_terraces
from bluesky_gpsts.images.weights import check_finite

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["draw_lessons", "fit_network", "taught", "train_surface"]

SIZE, BATCH = 128, 8
_RATE = 3e-3
_WEIGHTS = {"atom": 1.0, "offset": 0.15, "defect": 2.0, "step": 0.4, "direction": 0.4}
_VERDICT = 0.1
_RUINED, _STRETCH = 0.125, 0.06
_SITE = 1.5
_GATE = (20, 1200)
"""Fewest images that a gate can be fitted to, and as many as it needs."""
_SOME, _BLUNT = 6, 8


def fit_network(
    lessons: Sequence[Lesson],
    seed: int,
    steps: int,
    *,
    bfloat16: bool = False,
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
    bfloat16 : bool
        Convolve in half precision; 1.7 times faster on processors with AVX512-BF16 or better,
        slower on others.
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
    FloatingPointError
        If the loss is not finite.
    """
    import torch
    from tqdm import tqdm

    if not lessons or steps < 1:
        raise ValueError(f"{len(lessons)} lessons, {steps} steps; give 1 or more of both")
    rng = np.random.default_rng([seed, 81])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_surface(CHANNELS)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, steps + 1, pct_start=min(0.3, 0.1 + 10.0 / steps)
        )
        net.train()
        mean = 0.0
        with tqdm(total=steps, desc=what, disable=not progress, mininterval=5.0) as bar:
            for step in range(steps):
                losses = surface_loss(net, batch(lessons, rng, SIZE, BATCH), bfloat16)
                loss = sum(losses.values(), torch.zeros(()))
                check_finite(loss, bfloat16)
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
    net: "nn.Module", taught: dict[str, NDArray[np.float32]], bfloat16: bool = False
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
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        heads, verdict = net(x)
    heads, verdict = heads.float(), verdict.float()
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
    turned = (split["direction"] - given["direction"]).square().sum(1, keepdim=True)
    losses["direction"] = (turned * good).mean() / share
    losses = {name: value * _WEIGHTS[name] for name, value in losses.items()}
    wanted = given["verdict"].long()[:, None, None].expand(-1, *verdict.shape[2:])
    losses["verdict"] = _VERDICT * cross_entropy(verdict, wanted)
    return losses


def train_surface(
    seed: int = 0,
    *,
    images: int = 3000,
    steps: int = 14000,
    members: int = 3,
    gate_images: int | None = None,
    bfloat16: bool = False,
    progress: bool = True,
) -> "SurfaceModel":
    """Train the default model on drawn images, and fit its quality gate to others.

    Parameters
    ----------
    seed : int
        Seed of everything random.
    images : int
        Images to learn from, about 0.5 s each to draw.
    steps : int
        Batches; about 0.1 s each on one core.
    members : int
        Members, 16 at most, of the ensemble that judges sites.
    gate_images : int, optional
        Images that the gate is fitted to, half of them ruined; by default three fifths of
        `images`, 20 at least and 1200 at most.
    bfloat16 : bool
        Convolve in half precision; see `fit_network`.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    SurfaceModel

    Raises
    ------
    ValueError
        If there are too few images, steps or members.
    """
    if gate_images is None:
        gate_images = min(_GATE[1], max(_GATE[0], 3 * images // 5))
    if images < 1 or steps < 1 or not 1 <= members <= MEMBERS or gate_images < _GATE[0]:
        raise ValueError(
            f"{images} images, {steps} steps, {members} members, {gate_images} images for the "
            f"gate; give 1 or more of each, {MEMBERS} members at most, and {_GATE[0]} or more "
            "images for the gate"
        )
    lessons = draw_lessons(seed, images, progress)
    net = fit_network(lessons, seed, steps, bfloat16=bfloat16, progress=progress)
    return taught(SurfaceModel(net), seed, members, gate_images, progress)


def draw_lessons(seed: int, count: int, progress: bool, first: int = 0) -> list[Lesson]:
    """Draw images to learn from, an eighth of them ruined.

    Parameters
    ----------
    seed : int
        Seed of the images.
    count : int
        How many.
    progress : bool
        Show a bar with the time left.
    first : int
        Number of the first image; each has a seed of its own.

    Returns
    -------
    list of Lesson
    """
    from tqdm import tqdm

    found = []
    for number in tqdm(range(first, first + count), "drawing", disable=not progress):
        rng = np.random.default_rng([seed, 82, number])
        ruined = random_ruin(rng) if rng.random() < _RUINED else None
        if number % _BLUNT == 0:
            drawn = draw_blunt(rng, 192)
        elif number % _SOME == _SOME - 1:
            # Rows are seen in coarse images too, and defects with them.
            size = float(rng.uniform(*COARSE_PIXELS))
            drawn = draw_image(rng, pixels=160, pixel=size, ruined=ruined)
        else:
            drawn = draw_image(rng, ruined=ruined)
        # A scanner that is out of calibration by a few percent must not matter, nor by another few
        # percent from line to line.
        wide, high = np.exp(rng.uniform(-_STRETCH, _STRETCH, 2)).tolist()
        found.append(lesson(drawn, (wide, high)))
    return found


def taught(
    model: SurfaceModel, seed: int, members: int, count: int, progress: bool
) -> SurfaceModel:
    """Teach a trained network's gate and judges with drawn images, half of them ruined.

    Parameters
    ----------
    model : SurfaceModel
        Trained network; its gate and its judges are replaced.
    seed : int
        Seed of everything random.
    members : int
        Members of the ensemble that judges sites.
    count : int
        Images, 20 or more, of several sizes.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    SurfaceModel

    Raises
    ------
    ValueError
        If the network has learned too little to place atoms and vacancies on any of them.
    """
    from scipy.spatial import cKDTree
    from tqdm import tqdm

    rng = np.random.default_rng([seed, 83])
    values, fine, known, occupied = [], [], [], []
    for number in tqdm(range(count), "quality gate", disable=not progress):
        ruin = random_ruin(rng) if number % 2 else None
        pixels = int(rng.choice([96, 160, 256, 256]))
        if number % _BLUNT == 0:
            drawn = draw_blunt(rng, pixels)
        else:
            drawn = draw_image(rng, pixels=pixels, ruined=ruin)
        prepared = prepare(check_image(drawn.image), drawn.pixel)
        maps = model.maps(prepared)
        decoded = decode(prepared, maps, map_terraces(maps.step, maps.direction))
        values.append(features(prepared, maps, decoded))
        fine.append(not drawn.ruined)
        if fine[-1] and not drawn.blunt and decoded.placed.any():
            true = to_grid(np.asarray(drawn.sites, float), prepared.scale)
            apart, which = cKDTree(true).query(decoded.sites)
            limits = np.array(prepared.shape[::-1]) - 0.5
            inside = np.all((decoded.sites > -0.5) & (decoded.sites < limits), axis=1)
            known.append(site_features(maps, decoded)[inside])
            occupied.append(((apart < _SITE) & drawn.occupied[which])[inside])
    if not any(part.any() for part in occupied) or all(part.all() for part in occupied):
        raise ValueError(
            f"the network has learned too little: it places no atoms, or no vacancies, on {count} "
            "drawn images; train it with more steps, such as 300, or more images"
        )
    judges = fit_judges(known, occupied, seed=seed, members=members, progress=progress)
    return model.taught(judges, fit_gate(np.array(values), np.array(fine)))
