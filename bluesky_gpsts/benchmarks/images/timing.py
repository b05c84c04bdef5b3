"""Time from a raw image to coordinates and classes, and that of peers, in one process."""

import contextlib
import importlib.util
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.benchmarks.images.cases import DIFFERENCE, OURS, PAPER
from bluesky_gpsts.benchmarks.images.peers import PaperNetworks, find_by_difference
from bluesky_gpsts.benchmarks.table import Row
from bluesky_gpsts.images.features import measure_defects
from bluesky_gpsts.images.networks import build_atoms
from bluesky_gpsts.images.paper import centres
from bluesky_gpsts.images.reading import read_surface
from bluesky_gpsts.images.registry import load_classes
from bluesky_gpsts.images.simulate import draw_image
from bluesky_gpsts.images.surfacemodel import SurfaceModel

__all__ = ["time_rows"]

_FASTER, _THAN_ONE, _ROUNDS = 5.0, 2.0, 5
_ONE = "NN-1 alone"
_LIKE_ATOMAI = "NN-1 as AtomAI has it (batch normalisation apart)"
_ATOMAI = "Segmentor of AtomAI"


def time_rows(model: SurfaceModel, paper: PaperNetworks, repeats: int, seed: int) -> list[Row]:
    """Processor time for an image of 256 x 256 pixels on one thread, methods by turns.

    Every method has five turns at each image; the least counts, and of the images the median.

    Parameters
    ----------
    model : SurfaceModel
        The default model.
    paper : PaperNetworks
        Its peers.
    repeats : int
        Images, half of them with steps.
    seed : int
        Seed of the images.
    """
    import torch

    rng = np.random.default_rng([seed, 13])
    unet = build_atoms().eval()

    def segment(image: NDArray[Any]) -> None:
        with torch.inference_mode():
            unet(torch.from_numpy(image)[None, None])
        # What the untrained network says has no blobs of the usual number: those of NN-1 stand in.
        centres(blobs[id(image)], 1)

    images = [draw_image(rng, snr=4.0, steps=k % 2) for k in range(repeats)]
    blobs = {id(drawn.image): paper.atoms.probability(drawn.image) for drawn in images}
    pixels = {id(drawn.image): drawn.pixel for drawn in images}
    namer = load_classes()

    def ours(image: NDArray[Any]) -> None:
        reading = read_surface(image, pixels[id(image)], model=model)
        if reading.verdict.readable:
            namer.name_defects(measure_defects(image, reading))

    methods: dict[str, Callable[[NDArray[Any]], object]] = {
        OURS: ours,
        PAPER: paper.read,
        _ONE: paper.atoms.find,
        _LIKE_ATOMAI: segment,
        DIFFERENCE: lambda image: find_by_difference(image, pixels[id(image)]),
    }
    if importlib.util.find_spec("atomai") is not None:
        methods[_ATOMAI] = _atomai()
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for method in methods.values():
            method(images[0].image)
        for drawn in images:
            rounds: dict[str, list[float]] = {name: [] for name in methods}
            for _ in range(_ROUNDS):
                for name, method in methods.items():
                    begin = time.process_time()
                    method(drawn.image)
                    rounds[name].append(time.process_time() - begin)
            # The least is what a quiet computer takes.
            for name, values in rounds.items():
                seconds[name].append(min(values))
    finally:
        torch.set_num_threads(threads)
    case = "256 x 256 pixels, raw image to coordinates and classes"
    least = {name: float(np.median(values)) for name, values in seconds.items()}
    rows = [
        Row(case, name, "CPU time", 1e3 * value, "ms", repeats) for name, value in least.items()
    ]
    goals = {PAPER: _FASTER, _ATOMAI: _THAN_ONE, _LIKE_ATOMAI: None, _ONE: None}
    for name, goal in goals.items():
        if name not in methods:
            continue
        ratio = least[name] / least[OURS]
        rows.append(Row(case, OURS, f"times faster than {name}", ratio, "", repeats, goal))
    return rows


def _atomai() -> Callable[[NDArray[Any]], object]:
    """Prediction of AtomAI's network, which is not trained: coordinates, no classes."""
    from atomai.models import Segmentor

    segmentor = Segmentor(nb_classes=1)

    def predict(image: NDArray[Any]) -> object:
        # It prints, whatever is asked of it.
        with contextlib.redirect_stdout(io.StringIO()):
            return segmentor.predict(image.astype(np.float32), verbose=False)

    return predict
