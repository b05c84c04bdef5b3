"""Ways to choose where to take spectra: the ones that the acquisition benchmark compares."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_gpsts import surrogate
from bluesky_gpsts.benchmarks.maps.types import FloatArray, Truth


@dataclass(frozen=True)
class Strategy:
    """One way to choose.

    Attributes
    ----------
    name : str
        Name in tables.
    kind : str
        "blind" (this package, no prior), "prior" (one that fits), "wrong prior", "design" (fixed
        points, mapped by this package's model) or "gpCAM".
    how : str
        Acquisition function, design, or "variance" and "ucb" of gpCAM.
    structure : str
        Key of STRUCTURES, "" for none.
    """

    name: str
    kind: str
    how: str
    structure: str = ""


ACQUISITIONS = (
    "weighted",
    "variance",
    "covariance",
    "shannon information gain",
    "ucb",
    "lcb",
    "expected improvement",
    "relative information entropy",
    "total correlation",
    "gradient",
    "target probability",
)
BLIND = "weighted"
"""The acquisition function of the strategies that the goals are for."""

FARTHEST, GPCAM = "farthest point", "gpCAM variance"

_STRATEGIES = (
    *(Strategy(name, "blind", name) for name in ACQUISITIONS),
    Strategy("symmetry", "prior", BLIND, "symmetry"),
    Strategy("lattice", "prior", BLIND, "lattice"),
    Strategy("topograph", "prior", BLIND, "topograph"),
    Strategy("library", "prior", BLIND, "library"),
    Strategy("wrong symmetry (C4)", "wrong prior", BLIND, "wrong symmetry"),
    Strategy("uninformative image", "wrong prior", BLIND, "uninformative"),
    Strategy("wrong library", "wrong prior", BLIND, "wrong library"),
    Strategy(FARTHEST, "design", "farthest"),
    Strategy("Sobol", "design", "sobol"),
    Strategy("random", "design", "random"),
    Strategy("raster", "design", "raster"),
    Strategy("raster (linear)", "design", "raster linear"),
    Strategy(GPCAM, "gpCAM", "variance"),
    Strategy("gpCAM ucb", "gpCAM", "ucb"),
)
STRATEGIES = {strategy.name: strategy for strategy in _STRATEGIES}


def applies(strategy: Strategy, truth: Truth) -> bool:
    """Whether the survey image of a map gives what a strategy needs."""
    return {
        "symmetry": truth.symmetry is not None,
        "lattice": truth.vectors is not None,
        "topograph": truth.image is not None,
        "library": "right" in truth.libraries,
        "wrong library": "wrong" in truth.libraries,
        "wrong symmetry": truth.center is not None,
    }.get(strategy.structure, True)


def structure_for(name: str, truth: Truth) -> Any:
    """Prior for `MapOptimizer` by the key of a strategy; None for none.

    Raises
    ------
    ValueError
        If this version of the surrogate has no such prior, or the map's survey image cannot
        give it.
    """
    if not name:
        return None
    if name == "symmetry":
        return _prior("Symmetry")(kind=truth.symmetry, center=truth.center)
    if name == "wrong symmetry":
        return _prior("Symmetry")(kind="C4", center=truth.center)
    if name == "lattice":
        return _prior("Lattice")(vectors=truth.vectors)
    if name == "topograph":
        return _prior("Topograph")(image=truth.image)
    if name == "uninformative":
        return _prior("Topograph")(image=_unrelated(truth))
    if name == "library":
        return _prior("Library")(maps=truth.libraries["right"])
    if name == "wrong library":
        return _prior("Library")(maps=truth.libraries["wrong"])
    raise ValueError(f"no prior {name!r}")


def _prior(name: str) -> Any:
    kind = getattr(surrogate, name, None)
    if kind is None:
        raise ValueError(
            f"bluesky_gpsts.surrogate has no {name} in this version; choose strategies without it"
        )
    return kind


def _unrelated(truth: Truth) -> FloatArray:
    """Image as smooth as a topograph that knows nothing of the map."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([truth.seed, 32])
    noise = rng.standard_normal(truth.values.shape)
    return np.asarray(gaussian_filter(noise, 3.0, mode="reflect"))


_PRIORS = {
    "symmetry": "Symmetry",
    "wrong symmetry": "Symmetry",
    "lattice": "Lattice",
    "topograph": "Topograph",
    "uninformative": "Topograph",
    "library": "Library",
    "wrong library": "Library",
}


def unavailable(strategy: Strategy) -> str | None:
    """Why this version of the surrogate cannot run a strategy; None if it can."""
    ours = strategy.kind in ("blind", "prior", "wrong prior")
    if ours and strategy.how not in surrogate.ACQUISITIONS:
        return f"bluesky_gpsts.surrogate has no acquisition function {strategy.how!r}"
    prior = _PRIORS.get(strategy.structure)
    if prior is not None and not hasattr(surrogate, prior):
        return f"bluesky_gpsts.surrogate has no {prior}"
    return None
