"""Training of the three networks of Ziatdinov et al., on what they were trained on.

NN-0 learns from images whose step edges are labelled by `step_labels`, never by the truth. NN-1
learns from simulated rows with vacancies and protrusions, on terraces without steps. NN-2 learns
from a few labelled images. All are augmented.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.augment import augment
from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.edgelabels import step_labels
from bluesky_gpsts.images.networks import build_atoms, build_defects, build_terraces
from bluesky_gpsts.images.paper import PaperAtoms, PaperDefects, PaperTerraces, inputs
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.weights import check_finite

if TYPE_CHECKING:
    from torch import nn

__all__ = ["atom_labels", "fit_pixels", "train_atoms", "train_defects", "train_terraces"]

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Labelled = tuple[Float32, Bools]

_RADIUS = 0.11e-9
_SIZE, _BATCH, _RATE = 128, 8, 1e-3


def train_terraces(
    seed: int = 0,
    *,
    images: int = 120,
    steps: int = 700,
    bfloat16: bool = False,
    progress: bool = True,
) -> PaperTerraces:
    """Train NN-0 on drawn images with step edges, labelled by Canny edges.

    Parameters
    ----------
    seed : int
        Seed of images, weights and batches.
    images : int
        How many images; a third of them without a step.
    steps : int
        How many batches of eight squares of 128 pixels; about 0.5 s each on one core.
    bfloat16 : bool
        Convolve in half precision; faster on processors with AVX512-BF16 or better only.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    PaperTerraces
    """

    def labelled(rng: np.random.Generator, number: int) -> Labelled:
        drawn = draw_image(rng, snr=_snr(rng), steps=number % 3)
        return inputs(drawn.image), step_labels(drawn.image, drawn.pixel)

    pairs = _collect(labelled, [seed, 91], images, progress)
    return PaperTerraces(fit_pixels(build_terraces, pairs, seed, steps, bfloat16, progress, "NN-0"))


def train_atoms(
    seed: int = 0,
    *,
    images: int = 120,
    steps: int = 900,
    bfloat16: bool = False,
    progress: bool = True,
) -> PaperAtoms:
    """Train NN-1 on drawn terraces: rows with vacancies and protrusions.

    Parameters
    ----------
    seed, images, steps, bfloat16, progress
        As for `train_terraces`.

    Returns
    -------
    PaperAtoms
    """

    def labelled(rng: np.random.Generator, number: int) -> Labelled:
        drawn = draw_image(rng, snr=_snr(rng), steps=0)
        return inputs(drawn.image), atom_labels(drawn)

    pairs = _collect(labelled, [seed, 92], images, progress)
    return PaperAtoms(fit_pixels(build_atoms, pairs, seed, steps, bfloat16, progress, "NN-1"))


def train_defects(
    seed: int = 0,
    *,
    images: int = 16,
    steps: int = 400,
    bfloat16: bool = False,
    progress: bool = True,
) -> PaperDefects:
    """Train NN-2 on a few labelled images.

    Parameters
    ----------
    seed, images, steps, bfloat16, progress
        As for `train_terraces`; a batch takes about 1 s.

    Returns
    -------
    PaperDefects
    """

    def labelled(rng: np.random.Generator, number: int) -> Labelled:
        drawn = draw_image(rng, snr=_snr(rng), steps=number % 2)
        return inputs(drawn.image), drawn.defect_map > 0

    pairs = _collect(labelled, [seed, 93], images, progress)
    return PaperDefects(fit_pixels(build_defects, pairs, seed, steps, bfloat16, progress, "NN-2"))


def atom_labels(drawn: DrawnImage) -> Bools:
    """Discs of 0.11 nm radius around the atoms of a drawn image."""
    from scipy.spatial import cKDTree

    ny, nx = drawn.image.shape
    atoms = drawn.sites[drawn.occupied]
    if not len(atoms):
        return np.zeros((ny, nx), bool)
    pixels = np.stack(np.meshgrid(np.arange(nx), np.arange(ny)), axis=-1).reshape(-1, 2)
    apart, _ = cKDTree(atoms).query(pixels, distance_upper_bound=_RADIUS / drawn.pixel)
    return np.asarray(np.isfinite(apart).reshape(ny, nx))


def fit_pixels(
    build: "Callable[[], nn.Module]",
    pairs: Sequence[Labelled],
    seed: int,
    steps: int,
    bfloat16: bool,
    progress: bool,
    what: str,
) -> "nn.Module":
    """Train a network that labels pixels, by binary cross entropy and Adam.

    Parameters
    ----------
    build : callable
        Makes the network.
    pairs : sequence of (image, labels)
        What to learn from.
    seed : int
        Seed of weights and batches.
    steps : int
        How many batches.
    bfloat16 : bool
        Convolve in half precision.
    progress : bool
        Show a bar with the time left.
    what : str
        What the bar says.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If there are no images or no steps.
    FloatingPointError
        If the loss is not finite.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from tqdm import tqdm

    if not pairs or steps < 1:
        raise ValueError(f"{len(pairs)} images, {steps} steps; give 1 or more of both")
    rng = np.random.default_rng([seed, 94])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        net.train()
        with tqdm(total=steps, desc=what, disable=not progress, mininterval=2.0) as bar:
            for step in range(steps):
                chosen = rng.integers(0, len(pairs), _BATCH)
                cut = [
                    augment(image, labels, _SIZE, rng)
                    for image, labels in (pairs[k] for k in chosen)
                ]
                x, y = (
                    torch.from_numpy(np.stack(values)[:, None]) for values in zip(*cut, strict=True)
                )
                x = x.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    logits = net(x)
                loss = binary_cross_entropy_with_logits(logits.float(), y)
                check_finite(loss, bfloat16)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
                if step % 20 == 0:
                    bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return net.eval()


def _snr(rng: np.random.Generator) -> float:
    """Signal to noise of an image that is to be learned from."""
    return float(np.exp(rng.uniform(np.log(1.0), np.log(10.0))))


def _collect(
    labelled: Callable[[np.random.Generator, int], Labelled],
    seed: list[int],
    images: int,
    progress: bool,
) -> list[Labelled]:
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    return [
        labelled(rng, number) for number in tqdm(range(images), "drawing", disable=not progress)
    ]
