"""The quality gate: whether an image is worth reading, before anyone believes what was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images.decode import Decoded
from bluesky_gpsts.images.ghosts import ghost
from bluesky_gpsts.images.prepare import GRID, Prepared
from bluesky_gpsts.images.rowlattice import ALONG, ROWS
from bluesky_gpsts.images.surfacemodel import Maps

__all__ = [
    "FEATURES",
    "Verdict",
    "features",
    "fit_gate",
    "judge",
]

Array = NDArray[np.float64]

_LOST = 0.015
"""Share of fine images that may be refused."""

FEATURES = (
    "verdict of the network",
    "share of the area on a lattice",
    "coherence of the lattice",
    "mean height of the peaks",
    "sites with an atom",
    "certainty of the atom map",
    "certainty of the direction",
    "strength of a second image",
)
"""What the gate looks at, each a number of the order of one."""

_COHERENCE, _GHOST = 2, 7
_CLEAR_GHOST = 0.25

SEVERAL_ENDS = "the tip has several ends, each of which images the surface"
REASONS = (
    "",
    "atoms are not resolved",
    SEVERAL_ENDS,
    "the surface is covered by contamination",
    "the tip keeps changing",
    "the feedback oscillates",
    "heights are cut off",
    "the signal is lost in noise",
)
"""What is wrong, in the order of `bluesky_gpsts.images.lessons.VERDICTS`; rows alone are not."""


@dataclass(frozen=True)
class Verdict:
    """Whether an image can be read.

    Attributes
    ----------
    readable : bool
        Whether positions and defects can be relied on.
    probability : float
        Probability that the image is fine.
    reason : str
        Why not; "" if it can be read.
    """

    readable: bool
    probability: float
    reason: str


def features(prepared: Prepared, maps: Maps, decoded: Decoded) -> Array:
    """Numbers (len(FEATURES),) that tell a readable image from a ruined one."""
    fine = float(np.clip(maps.quality[[0, -1]].sum(), 1e-4, 1.0 - 1e-4))
    area = max(1.0, float(prepared.known.sum()))
    cell = ALONG * ROWS / GRID**2
    placed = decoded.placed
    covered = float(placed.sum()) * cell / area
    found = [lattice.coherence for lattice in decoded.lattices if lattice is not None]
    sizes = [lattice.weight.sum() for lattice in decoded.lattices if lattice is not None]
    coherence = float(np.average(found, weights=sizes)) if found else 0.0
    strong = maps.heights > 0.3
    heights = float(maps.heights[strong].mean()) if strong.any() else 0.0
    occupied = float(decoded.score[placed].mean()) if placed.any() else 0.0
    p = np.clip(maps.atom[::2, ::2], 1e-4, 1.0 - 1e-4)
    entropy = -float(np.mean(p * np.log(p) + (1.0 - p) * np.log(1.0 - p)))
    direction = float(np.hypot(*maps.direction).mean())
    return np.array(
        [
            0.3 * float(np.log(fine / (1.0 - fine))),
            min(covered, 1.5),
            coherence,
            heights,
            occupied,
            1.0 - 2.0 * entropy,
            direction,
            ghost(prepared, maps),
        ]
    )


def fit_gate(values: Array, fine: NDArray[np.bool_], penalty: float = 1e-2) -> dict[str, Any]:
    """Fit the gate to images of known quality: a logistic regression.

    Parameters
    ----------
    values : (N, len(FEATURES)) array
        From `features`.
    fine : (N,) array of bool
        Which images are worth reading.
    penalty : float
        Strength of the penalty on large coefficients.

    Returns
    -------
    dict
        Settings that JSON can hold: "mean", "scale", "weights", "bias", "threshold". The threshold
        refuses 1.5 % of the fine images.

    Raises
    ------
    ValueError
        If all images are of one quality.
    """
    from scipy.optimize import minimize

    if fine.all() or not fine.any():
        raise ValueError(f"{int(fine.sum())} of {len(fine)} images are fine; give both sorts")
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    x = np.column_stack([(values - mean) / scale, np.ones(len(values))])
    sign = np.where(fine, 1.0, -1.0)
    weight = np.where(fine, 0.5 / fine.mean(), 0.5 / (1.0 - fine.mean()))

    def loss(w: Array) -> tuple[float, Array]:
        margin = sign * (x @ w)
        value = np.mean(weight * np.logaddexp(0.0, -margin)) + penalty * np.sum(w[:-1] ** 2)
        slope = -(weight * sign / (1.0 + np.exp(np.clip(margin, -500, 500)))) @ x / len(x)
        return float(value), np.asarray(slope + 2.0 * penalty * np.append(w[:-1], 0.0))

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    score = x @ found
    # A ruined image that is believed does harm; a fine one that is refused is scanned again.
    threshold = float(np.quantile(score[fine], _LOST))
    return {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "weights": found[:-1].tolist(),
        "bias": float(found[-1]),
        "threshold": threshold,
    }


def judge(gate: dict[str, Any], values: Array, quality: Sequence[float] | Array) -> Verdict:
    """Judge an image.

    Parameters
    ----------
    gate : dict
        From `fit_gate`.
    values : (len(FEATURES),) array
        From `features`.
    quality : sequence of float
        Probability of each verdict by the network.

    Returns
    -------
    Verdict
    """
    scaled = (values - np.array(gate["mean"])) / np.array(gate["scale"])
    score = float(scaled @ np.array(gate["weights"])) + gate["bias"] - gate["threshold"]
    probability = 1.0 / (1.0 + np.exp(-np.clip(score, -50.0, 50.0)))
    if score >= 0.0:
        return Verdict(True, float(probability), "")
    likely = 1 + int(np.argmax(np.asarray(quality)[1 : len(REASONS)]))
    reason = REASONS[likely]
    if values[_GHOST] > _CLEAR_GHOST and quality[likely] < 0.5:
        reason = SEVERAL_ENDS
    if quality[likely] < 0.25 and values[_COHERENCE] < 0.35:
        reason = "there is no lattice of dimers in it"
    return Verdict(False, float(probability), f"unresolved, tip or contamination: {reason}")
