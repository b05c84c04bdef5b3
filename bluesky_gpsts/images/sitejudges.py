"""Whether an atom is at a site: a small ensemble of networks that look at the maps around it.

The atom map says how much a place looks like an atom. Whether the site of a lattice has one is
told better together with what is around it: the sites beside it, a defect, a step edge, the end of
the image. Each member is a perceptron that was taught with other images (drawn with replacement);
their mean is the confidence, and how far they are apart the doubt.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.decode import Decoded
from bluesky_gpsts.images.surfacemodel import Maps

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fit_judges", "judge_sites", "site_features"]

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_BATCH, _RATE = 1024, 5e-3
_LEAST = 1e-4


def site_features(maps: Maps, decoded: Decoded) -> Float32:
    """Numbers (N, SITE_FEATURES) that tell whether an atom is at each site.

    The atom map in 3 x 3 pixels, at the next sites along the row and across, and the defect map, as
    logarithms of odds; the probability of a step edge; where in a pixel the site is; whether it is
    the lattice's.
    """
    height, width = maps.atom.shape
    pixel = np.round(decoded.sites).astype(int)
    vectors = np.zeros((len(decoded.lattices) + 1, 2, 2))
    for number, lattice in enumerate(decoded.lattices, start=1):
        if lattice is not None:
            vectors[number] = lattice.vectors
    along, across = np.moveaxis(vectors[decoded.terrace], 1, 0)
    next_ones = np.stack([along, -along, across, -across]) + decoded.sites
    column, row = np.moveaxis(np.round(next_ones).astype(int), 2, 0)
    around = np.arange(-1, 2)
    # Three rows of three, one after the other.
    column, row = (
        np.concatenate([(pixel[:, axis] + steps[:, None]), far])
        for axis, steps, far in ((0, np.tile(around, 3), column), (1, np.repeat(around, 3), row))
    )
    np.clip(column, 0, width - 1, out=column)
    np.clip(row, 0, height - 1, out=row)
    atom = maps.atom[row, column]
    # A peak that belongs to no lattice has no neighbours in one.
    atom[9:, ~decoded.placed] = 0.0
    row, column = row[4], column[4]
    odds = np.concatenate([atom, maps.defect[None, row, column]]).clip(_LEAST, 1.0 - _LEAST)
    rest = np.stack([maps.step[row // 2, column // 2], decoded.placed])
    found = [np.log(odds / (1.0 - odds)), rest, (decoded.sites - pixel).T]
    return np.concatenate(found).T.astype(np.float32)


def fit_judges(
    features: Sequence[Float32],
    occupied: Sequence[NDArray[np.bool_]],
    *,
    seed: int,
    members: int,
    steps: int = 6000,
    progress: bool = True,
) -> "nn.Module":
    """Train an ensemble, each member on images drawn with replacement.

    Parameters
    ----------
    features : sequence of (N, SITE_FEATURES) array
        Of the sites of each image.
    occupied : sequence of (N,) array of bool
        Whether there is an atom.
    seed : int
        Seed of everything random.
    members : int
        Networks in the ensemble.
    steps : int
        Batches of 1024 sites for each member.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    torch.nn.Module
        From `bluesky_gpsts.images.networks.build_judges`.

    Raises
    ------
    ValueError
        If all sites are occupied or all are vacant.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from tqdm import tqdm

    from bluesky_gpsts.images.networks import build_judges

    everything, truth = np.concatenate(list(features)), np.concatenate(list(occupied))
    if truth.all() or not truth.any():
        raise ValueError(f"{int(truth.sum())} of {len(truth)} sites have an atom; give both")
    ends = np.cumsum([len(part) for part in occupied])
    starts = ends - [len(part) for part in occupied]
    rng = np.random.default_rng([seed, 85])
    own = []
    for _ in range(members):
        images = rng.integers(0, len(ends), len(ends))
        own.append(np.concatenate([np.arange(starts[i], ends[i]) for i in images]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_judges(members, everything.shape[1])
    usual = {"mean": everything.mean(axis=0), "scale": everything.std(axis=0) + 1e-6}
    net.load_state_dict({n: torch.from_numpy(v) for n, v in usual.items()}, strict=False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps + 1)
    for _ in tqdm(range(steps), "sites", disable=not progress, mininterval=5.0):
        chosen = np.stack([part[rng.integers(0, len(part), _BATCH)] for part in own])
        said = net(torch.from_numpy(everything[chosen]))
        true = torch.from_numpy(truth[chosen].astype(np.float32))
        loss = members * binary_cross_entropy_with_logits(said, true)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def judge_sites(net: "nn.Module", features: Float32) -> tuple[Array, Array]:
    """Probability (N,) of an atom at sites of these features, and doubt.

    The doubt is the standard deviation of the members.
    """
    import torch

    with torch.inference_mode():
        said = net(torch.from_numpy(features)).sigmoid().double().numpy()
    return said.mean(axis=0), said.std(axis=0)
