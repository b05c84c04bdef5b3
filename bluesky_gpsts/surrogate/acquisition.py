"""Acquisition functions: what makes a candidate worth measuring.

Each is a plain function of the posterior mean (M,) in the unit of the outcomes and of the
posterior variance (M,) in that unit squared, and returns one score per candidate (M,); the
candidate with the highest score is measured next. A function with a third parameter gets a
`Candidates` there: positions, noise, best outcome and so on. Any callable of either form, or the
name ``"module:function"`` of one, can take their place.

Covariance, Shannon information gain and total correlation of a single point grow with its
posterior variance and with nothing else, so that all of them choose what ``variance`` chooses
wherever prior variance and noise are the same for all candidates, as they are without a
structure. They differ in what their score means. In a batch, each point counts those before it as
measured, which makes it the greedy solution for the set: for ``covariance`` the determinant of the
posterior covariance is a product of such conditional variances.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .naming import Named

FloatArray = npt.NDArray[np.float64]
Acquisition = Callable[..., FloatArray]
Cost = Callable[[FloatArray, FloatArray], FloatArray]

# Median of the normalised signal from which on a pattern fills the frame, and how far below that
# it is localised.
_FILLED, _LOCALISED = 0.35, 0.1


@dataclass(frozen=True, eq=False)
class Candidates:
    """What an acquisition function may know beside posterior mean and variance.

    Attributes
    ----------
    grid : Grid
        The candidates.
    mean : ndarray, shape (M,)
        Posterior mean, in the unit of the outcomes.
    prior_mean : float
        Mean before any outcome (estimated), in that unit.
    prior_variance : ndarray, shape (M,)
        Variance before any outcome, in that unit squared.
    noise_variance : float
        Noise variance to expect of an outcome, in that unit squared.
    best : float
        Highest outcome so far.
    gap : ndarray, shape (M,)
        Distance to the nearest point that is measured or under way, in metres; infinite if there
        is none.
    signal : ndarray, shape (M,)
        What is looked for: the posterior mean or, where whole spectra are modelled, how far the
        expected spectrum is from the commonest (root of the summed squares over the bias axis).
    target : tuple of float or None
        Range (low, high) of outcomes that is looked for, in their unit.
    structured : bool
        Whether a structure is in use.
    named : Named or None
        Spectra whose class is known; None if there are none.
    """

    grid: Grid
    mean: FloatArray
    prior_mean: float
    prior_variance: FloatArray
    noise_variance: float
    best: float
    gap: FloatArray
    signal: FloatArray
    target: tuple[float, float] | None = None
    structured: bool = False
    named: Named | None = None

    @property
    def xy(self) -> FloatArray:
        """Positions in sample coordinates: shape (M, 2), metres."""
        return self.grid.xy

    @cached_property
    def class_uncertainty(self) -> FloatArray:
        """How uncertain or new the class is: shape (M,), 0 to 1; 1 where nothing is known."""
        if self.named is None:
            return np.ones(self.grid.size)
        return self.named.uncertainty(self.grid.unit)

    @cached_property
    def slope(self) -> FloatArray:
        """Steepness of the posterior mean: shape (M,), unit of the outcomes per metre."""
        image = self.grid.as_map(self.mean)
        squares = np.zeros_like(image)
        for axis, pitch in (
            (0, self.grid.height / self.grid.ny),
            (1, self.grid.width / self.grid.nx),
        ):
            if image.shape[axis] > 1:
                squares += np.gradient(image, pitch, axis=axis) ** 2
        return np.sqrt(squares).ravel()


def variance(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Posterior variance: measure where least is known.

    Source: Thomas et al., npj Comput. Mater. 8, 99 (2022), supplementary equation 4.
    """
    return variance


def covariance(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Root of the determinant of the set's posterior covariance; for one point its deviation.

    Monotone in the variance.
    """
    return np.sqrt(variance)


def shannon_information_gain(
    mean: FloatArray, variance: FloatArray, candidates: Candidates
) -> FloatArray:
    """Entropy that an outcome takes from the model: log(1 + variance / noise) / 2, in nats.

    Monotone in the variance.
    """
    return 0.5 * np.log1p(variance / candidates.noise_variance)


def ucb(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Upper confidence bound: mean plus three standard deviations.

    Source: Thomas et al., npj Comput. Mater. 8, 99 (2022), supplementary equation 5, with c = 3.
    """
    return mean + 3.0 * np.sqrt(variance)


def lcb(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Lower confidence bound, for a minimum: three standard deviations minus the mean."""
    return 3.0 * np.sqrt(variance) - mean


def expected_improvement(
    mean: FloatArray, variance: FloatArray, candidates: Candidates
) -> FloatArray:
    """By how much an outcome is expected to exceed the highest so far.

    Source: Jones, Schonlau and Welch, J. Global Optim. 13, 455 (1998), equation 15.
    """
    from scipy.special import ndtr

    std = np.sqrt(variance)
    gain = mean - candidates.best
    z = np.divide(gain, std, out=np.full_like(std, -np.inf), where=std > 0)
    density = np.exp(-0.5 * np.minimum(z * z, 1400.0)) / math.sqrt(2.0 * math.pi)
    improvement = np.where(std > 0, gain * ndtr(z) + std * density, gain)
    return np.maximum(improvement, 0.0)


def relative_information_entropy(
    mean: FloatArray, variance: FloatArray, candidates: Candidates
) -> FloatArray:
    """Minus the Kullback-Leibler divergence of the posterior from the prior at the point (nats).

    Highest where the data said least, as gpCAM's function of that name.
    """
    prior = candidates.prior_variance
    # Below this share of the prior the divergence is a matter of rounding.
    posterior = np.maximum(variance, 1e-9 * prior)
    shift = (mean - candidates.prior_mean) ** 2
    return -0.5 * ((prior + shift) / posterior - 1.0 + np.log(posterior / prior))


def total_correlation(mean: FloatArray, variance: FloatArray, candidates: Candidates) -> FloatArray:
    """Minus the total correlation between the point and the data: log(variance / prior) / 2.

    Monotone in the variance where the prior variance is the same everywhere. The data count with
    their noise; gpCAM's function of that name leaves it out.
    """
    prior = candidates.prior_variance
    return 0.5 * np.log(np.maximum(variance, 1e-9 * prior) / prior)


def gradient(mean: FloatArray, variance: FloatArray, candidates: Candidates) -> FloatArray:
    """Steepness of the mean times the standard deviation: measure at uncertain edges."""
    return candidates.slope * np.sqrt(variance)


def target_probability(
    mean: FloatArray, variance: FloatArray, candidates: Candidates
) -> FloatArray:
    """Probability that the surface at the point lies in the target range.

    Raises
    ------
    ValueError
        If no target range was given.
    """
    from scipy.special import ndtr

    if candidates.target is None:
        raise ValueError(
            "The acquisition function 'target probability' needs target_range=(low, high) in the "
            "unit of the outcome; give it to MapOptimizer."
        )
    low, high = candidates.target
    std = np.sqrt(np.maximum(variance, 1e-18 * candidates.prior_variance))
    return ndtr((high - mean) / std) - ndtr((low - mean) / std)


def weighted(mean: FloatArray, variance: FloatArray, candidates: Candidates) -> FloatArray:
    """Signal-weighted deviation; the more the signal fills the frame, the more space filling.

    With the signal s normalised to 0 and 1 at its lowest and highest candidate, the score is

        deviation * (0.3 + s)^c * (distance to the nearest point)^(1 - c)

    The exponent c is 1 as long as the median of s over the frame is below 0.25: for a bright
    defect on a flat background this needs the fewest spectra of the rules that know no pattern.
    It is 0 above 0.35, for a pattern all over the frame, where the deviation alone cannot tell one
    gap from another once the length scale is shorter than the gaps. With a structure in use it is
    1, because the structure tells of the gaps.
    """
    signal = _normalised(candidates.signal)
    c = 1.0
    if not candidates.structured:
        c = float(np.clip((_FILLED - np.median(signal)) / _LOCALISED, 0.0, 1.0))
    scores = np.sqrt(variance) * (0.3 + signal) ** c
    gap = candidates.gap
    if c < 1.0 and np.isfinite(gap).all() and gap.max() > 0:
        scores *= (gap / gap.max()) ** (1.0 - c)
    return scores


def class_uncertainty(mean: FloatArray, variance: FloatArray, candidates: Candidates) -> FloatArray:
    """Deviation times how uncertain or new the class of the surface is.

    It needs a classifier in the run (`MapOptimizer.inform`); without one it is the deviation.
    """
    return np.sqrt(variance) * candidates.class_uncertainty


def _normalised(values: FloatArray) -> FloatArray:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


ACQUISITIONS: dict[str, Acquisition] = {
    "variance": variance,
    "covariance": covariance,
    "shannon information gain": shannon_information_gain,
    "ucb": ucb,
    "lcb": lcb,
    "expected improvement": expected_improvement,
    "relative information entropy": relative_information_entropy,
    "total correlation": total_correlation,
    "gradient": gradient,
    "target probability": target_probability,
    "weighted": weighted,
    "class": class_uncertainty,
}


def distance(origin: FloatArray, xy: FloatArray) -> FloatArray:
    """Cost that grows with the way (m) from the last point; doubles at half the largest way."""
    way = np.hypot(*(xy - origin).T)
    longest = float(way.max())
    return 1.0 + 2.0 * way / longest if longest > 0 else np.ones(len(xy))


COSTS: dict[str, Cost] = {"distance": distance}
