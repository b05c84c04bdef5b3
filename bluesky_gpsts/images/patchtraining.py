"""Training of the network that looks at single defects, on drawn images read by the package."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.drawn import DrawnImage
from bluesky_gpsts.images.features import DefectTable, measure_defects
from bluesky_gpsts.images.patchnet import DefectNet, build_patch_network, network_input
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.simulate import COARSE_PIXELS, draw_blunt, draw_image
from bluesky_gpsts.images.surface import SurfaceReading
from bluesky_gpsts.physics.hsi100 import KINDS

if TYPE_CHECKING:
    from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["CLASSES", "NOTHING", "draw_defects", "kinds_of", "train_classes"]

NOTHING = "nothing"
"""Class of what was taken for a defect and is none."""

CLASSES = (*KINDS, NOTHING)

_BATCH, _RATE = 64, 2e-3
_LEAST = 0.2
_VARIED = 6
_STREAKED, _STREAKS, _CLEAR, _OUTLINE = 0.25, 4, 7.0, 0.5
_AREA, _EXTENT = 1, (4, 5)
_TOWERS = 6.0


def kinds_of(
    drawn: DrawnImage, labels: NDArray[np.integer], numbers: NDArray[np.integer]
) -> list[str]:
    """True kind of each defect that was found: of the true one that most of its pixels are in.

    Parameters
    ----------
    drawn : DrawnImage
        The truth.
    labels : (ny, nx) array of int
        0, or the number of the defect found.
    numbers : (N,) array of int
        Numbers of those to be named.

    Returns
    -------
    list of str
        Kinds, or NOTHING where less than a fifth of it is in a true defect.
    """
    names = []
    for number in numbers.tolist():
        own = drawn.defect_map[labels == number]
        real = own[own > 0]
        if real.size < max(1.0, _LEAST * own.size):
            names.append(NOTHING)
        else:
            names.append(drawn.defects[int(np.bincount(real).argmax()) - 1].kind)
    return names


def draw_defects(
    seed: int,
    images: int,
    *,
    model: "SurfaceModel | None" = None,
    snr: float | None = None,
    true_masks: bool = False,
    varied: bool = False,
    progress: bool = False,
) -> tuple[DefectTable, NDArray[np.str_], NDArray[np.int64]]:
    """Draw images, read them, and measure the defects that were found.

    Parameters
    ----------
    seed : int
        Seed of the images.
    images : int
        How many.
    model : SurfaceModel, optional
        What reads them; the package's by default.
    snr : float, optional
        Signal-to-noise ratio; drawn unless given.
    true_masks : bool
        Measure the true defects instead of those that were found.
    varied : bool
        Draw images of large pixels, and of tips that show the rows and not the dimers in them, too.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    DefectTable, (N,) array of str, (N,) array of int
        The defects, their true kinds, and the number of the image of each.

    Raises
    ------
    ValueError
        If no defect was found in any image.
    """
    from tqdm import tqdm

    tables, names, owners = [], [], []
    for number in tqdm(range(images), "defects", disable=not progress):
        rng = np.random.default_rng([seed, 86, number])
        if varied and number % _VARIED == 0:
            drawn = draw_blunt(rng, snr=snr)
        elif varied and number % _VARIED == 1:
            drawn = draw_image(rng, snr=snr, pixel=float(rng.uniform(*COARSE_PIXELS)))
        else:
            drawn = draw_image(rng, snr=snr)
        reading: SurfaceReading = read_surface(drawn.image, drawn.pixel, model=model)
        if not reading.verdict.readable:
            continue
        labels = drawn.defect_map if true_masks else reading.defect_labels
        table = measure_defects(drawn.image, reading, labels if true_masks else None)
        tables.append(table)
        names += kinds_of(drawn, labels, table.numbers)
        owners += [number] * len(table)
    if not names:
        raise ValueError(f"no defect was found in {images} images; draw more")
    return DefectTable.joined(tables), np.array(names), np.array(owners, np.int64)


def train_classes(
    seed: int = 0, images: int = 1500, steps: int = 8000, *, progress: bool = True
) -> DefectNet:
    """Train the network on defects of drawn images, as the package's model finds them.

    Parameters
    ----------
    seed : int
        Seed of images, weights and batches.
    images : int
        Images to learn from; a tenth of them with the true masks besides.
    steps : int
        Batches of 64 defects.
    progress : bool
        Show bars with the time left.

    Returns
    -------
    DefectNet

    Raises
    ------
    ValueError
        If there are too few images or steps.
    """
    if images < 10 or steps < 1:
        raise ValueError(f"{images} images and {steps} steps; give 10 or more, and 1 or more")
    found, names, _ = draw_defects(seed, images, varied=True, progress=progress)
    exact, more, _ = draw_defects(
        seed + 1, images // 10, true_masks=True, varied=True, progress=progress
    )
    table = DefectTable.joined([found, exact])
    labels = np.array([CLASSES.index(name) for name in (*names, *more)])
    # What towers and yet is none is a bond that another apex shows again, or whose middle is beyond
    # the edge: it looks like a bond, and says nothing of what is none.
    kept = (labels != CLASSES.index(NOTHING)) | (np.abs(table.height) < _TOWERS)
    return _fit(table.take(kept), labels[kept], seed, steps, progress)


def _fit(
    table: DefectTable, labels: NDArray[np.int64], seed: int, steps: int, progress: bool
) -> DefectNet:
    import torch
    from torch.nn.functional import cross_entropy
    from tqdm import tqdm

    rng = np.random.default_rng([seed, 87])
    pictures, form = network_input(table)
    count = np.bincount(labels, minlength=len(CLASSES))
    # Rare kinds come more often, though not as often as the common ones.
    chance = 1.0 / np.sqrt(np.maximum(count, 1))[labels]
    chance /= chance.sum()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_patch_network(len(CLASSES)).train()
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        for _ in tqdm(range(steps), "learning", disable=not progress):
            chosen = rng.choice(len(labels), _BATCH, p=chance)
            part, shape = _augmented(pictures[chosen], form[chosen], rng)
            optimizer.zero_grad()
            numbers, scores = net(torch.from_numpy(part), torch.from_numpy(shape))
            target = torch.from_numpy(labels[chosen])
            loss = cross_entropy(scores, target, label_smoothing=0.05)
            # Numbers stay of the order of one.
            (loss + 1e-3 * numbers.square().mean()).backward()
            optimizer.step()
            schedule.step()
    return DefectNet(net, CLASSES)


def _augmented(
    pictures: NDArray[np.float32], form: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flip, scale and roughen pictures at random."""
    pictures, form = pictures.copy(), form.copy()
    size = len(pictures)
    for axis in (2, 3):
        flipped = rng.random(size) < 0.5
        pictures[flipped] = np.flip(pictures[flipped], axis)
    gain = np.exp(rng.normal(0.0, 0.15, size)).astype(np.float32)
    pictures[:, 0] *= gain[:, None, None]
    form[:, (0, 3)] *= gain[:, None]
    noise = rng.uniform(0.0, 0.2, size).astype(np.float32)[:, None, None]
    pictures[:, 0] += noise * rng.standard_normal(pictures[:, 0].shape, np.float32)
    for number in np.flatnonzero(rng.random(size) < _STREAKED):
        _streak(pictures[number, 0], rng)
    # What disturbs an image makes the outlines of its defects larger or smaller than usual.
    more = (rng.normal(0.0, _OUTLINE, size) * (rng.random(size) < 0.5)).astype(np.float32)
    pictures[:, 1] **= np.exp(-more)[:, None, None]
    form[:, _AREA] += more
    form[:, _EXTENT] += 0.5 * more[:, None]
    form += rng.normal(0.0, 0.03, form.shape).astype(np.float32)
    return pictures, form


def _streak(picture: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draw lines past the middle: a scan has streaks, and somebody may have drawn into an image."""
    y, x = np.indices(picture.shape) - 0.5 * (np.array(picture.shape)[:, None, None] - 1.0)
    first = rng.uniform(0.0, np.pi)
    for _ in range(int(rng.integers(1, _STREAKS + 1))):
        turn = first + 0.5 * np.pi * int(rng.integers(4))
        away = rng.uniform(_CLEAR, 0.5 * max(picture.shape))
        line = np.abs(x * np.cos(turn) + y * np.sin(turn) - away) < rng.uniform(0.5, 1.5)
        picture[line] = rng.uniform(-2.0, 4.5)
