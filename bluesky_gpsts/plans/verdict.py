"""Whether a tip is fit for spectroscopy, judged from spectra and an image of a clean metal."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_gpsts.images import echo, step_edge
from bluesky_gpsts.spectra.surfacestate import current_noise, fit_surface_state

__all__ = ["TipCriteria", "TipVerdict", "alike", "judge_tip", "same_echo"]

Array = NDArray[np.float64]

_SAME = 0.25e-9


@dataclass(frozen=True)
class TipCriteria:
    """What a tip must show on Au(111) to pass.

    Attributes
    ----------
    onset : float
        Where the surface state begins (V).
    tolerance : float
        How far (V) from there the tip may show it.
    onset_width : float
        Largest width (V) of the onset.
    height : (float, float)
        Least and largest step of dI/dV at the onset, relative to what is below it.
    roughness : float
        Largest deviation of a spectrum from a step on a smooth background, relative to the step.
    noise : float
        Largest noise of the current at constant height, as a share of the current.
    edge : float
        Largest standard deviation (m) of the edge-spread of a step.
    second : float
        Largest share of a step's height in a second edge beside it.
    echo : float
        Largest second peak in the autocorrelation of the adsorbates.
    novelty : float
        Largest novelty of the spectra, where there is a classifier.
    step : float
        Height (m) of a step of the surface.
    """

    onset: float = -0.48
    tolerance: float = 0.04
    onset_width: float = 0.06
    height: tuple[float, float] = (0.4, 2.5)
    roughness: float = 0.17
    noise: float = 0.04
    edge: float = 0.28e-9
    second: float = 0.07
    echo: float = 0.15
    novelty: float = 0.5
    step: float = 2.355e-10


@dataclass(frozen=True)
class TipVerdict:
    """What a check of the tip found; numbers that could not be had are NaN.

    Attributes
    ----------
    passed : bool
        Whether the tip is fit.
    reasons : tuple of str
        Why it is not; empty if it is.
    onset, onset_error : float
        Onset of the surface state and its standard uncertainty (V).
    onset_width : float
        Width of the onset (V).
    height, height_error : float
        Step of dI/dV at the onset relative to what is below it, and its standard uncertainty.
    roughness : float
        Deviation of the spectrum from a step on a smooth background, relative to the step.
    noise : float
        Noise of the current at constant height, as a share of the current.
    edge : float
        Standard deviation of the edge-spread of a step (m).
    second : float
        Share of a step's height in a second edge beside it.
    echo : float
        Second peak in the autocorrelation of the adsorbates; NaN if none is in view.
    adsorbates : int
        How many adsorbates were looked at.
    spectra : int
        How many spectra were looked at.
    label : str
        Most frequent class of the spectra; "" without a classifier.
    novelty : float
        Median novelty of the spectra; NaN without a classifier.
    echo_dx, echo_dy : float
        Where the second peak is (m, along columns and against rows of the image, either sign).
    """

    passed: bool
    reasons: tuple[str, ...]
    onset: float
    onset_error: float
    onset_width: float
    height: float
    height_error: float
    roughness: float
    noise: float
    edge: float
    second: float
    echo: float
    adsorbates: int
    spectra: int
    label: str
    novelty: float
    echo_dx: float = math.nan
    echo_dy: float = math.nan

    @property
    def numbers(self) -> dict[str, float]:
        """Everything that was measured, by name."""
        values = asdict(self)
        return {
            item.name: float(values[item.name]) for item in fields(self)[2:] if item.name != "label"
        }

    @property
    def sees_step(self) -> bool:
        """Whether a step was in view; without one no tip can pass."""
        return math.isfinite(self.edge)


def judge_tip(
    bias: Array,
    didv: Array,
    current: Array,
    image: Array,
    pixel: tuple[float, float],
    criteria: TipCriteria | None = None,
    classifier: Any = None,
) -> TipVerdict:
    """Judge a tip from spectra on flat metal, and an image with a step in it.

    Parameters
    ----------
    bias : (n,) array
        Bias axis (V).
    didv, current : (m, n) arrays
        Differential conductance (A/V) and current (A) of m spectra; m may be 0.
    image : (ny, nx) array
        Heights (m), as scanned forward.
    pixel : (float, float)
        Width and height of a pixel (m).
    criteria : TipCriteria, optional
        What the tip must show; Au(111) at low temperature unless given.
    classifier : bluesky_gpsts.spectra.types.Classifier, optional
        Names the spectra.

    Returns
    -------
    TipVerdict

    Raises
    ------
    ValueError
        If the arrays do not fit together, or are unfit (see `fit_surface_state`, `step_edge`).
    """
    wanted = criteria or TipCriteria()
    nan = float("nan")
    values: dict[str, float] = dict.fromkeys(
        ("onset", "onset_error", "onset_width", "height", "height_error", "roughness", "noise"), nan
    )
    reasons: list[str] = []
    label, novelty = "", nan
    if len(didv):
        mean = np.mean(didv, axis=0)
        state = fit_surface_state(bias, mean, near=wanted.onset)
        values = {
            "onset": state.onset,
            "onset_error": state.onset_error,
            "onset_width": state.width,
            "height": state.height,
            "height_error": state.height_error,
            "roughness": state.roughness,
            "noise": float(np.median([current_noise(bias, one) for one in current])),
        }
        reasons += _reasons_of_spectra(values, wanted)
        if classifier is not None:
            found = classifier.classify(bias, np.asarray(didv, float))
            names, counts = np.unique(found.labels, return_counts=True)
            label, novelty = str(names[np.argmax(counts)]), float(np.median(found.novelty))
            if novelty > wanted.novelty:
                reasons.append(f"the classifier knows no such spectra (novelty {novelty:.2f})")
    else:
        reasons.append("no place flat enough for a spectrum is in view; choose another frame")
    edge = step_edge(image, pixel, wanted.step)
    doubled = echo(image, pixel)
    if edge is None:
        reasons.append("no step edge is in view, and the sharpness unknown; choose another frame")
    elif edge.width > wanted.edge:
        reasons.append(
            f"the tip is blunt: a step spreads over {edge.width * 1e9:.2f} nm "
            f"(at most {wanted.edge * 1e9:.2f} nm)"
        )
    if edge is not None and edge.second > wanted.second:
        reasons.append(
            f"the tip is double: {100 * edge.second:.0f} % of a step lie "
            f"{edge.separation * 1e9:.1f} nm beside it"
        )
    elif doubled.strength > wanted.echo:
        reasons.append(
            f"the tip is double: adsorbates appear again "
            f"{math.hypot(doubled.dx, doubled.dy) * 1e9:.1f} nm away (echo {doubled.strength:.2f})"
        )
    return TipVerdict(
        passed=not reasons,
        reasons=tuple(reasons),
        **values,
        edge=nan if edge is None else edge.width,
        second=nan if edge is None else edge.second,
        echo=doubled.strength,
        adsorbates=doubled.adsorbates,
        spectra=len(didv),
        label=label,
        novelty=novelty,
        echo_dx=doubled.dx,
        echo_dy=doubled.dy,
    )


def _reasons_of_spectra(values: dict[str, float], wanted: TipCriteria) -> list[str]:
    """What the spectra speak against the tip for."""
    reasons = []
    low, high = wanted.height
    if not low <= values["height"] <= high:
        reasons.append(
            f"the surface state is {values['height']:.2f} of what is below it "
            f"({low:g} to {high:g} expected)"
        )
    off = values["onset"] - wanted.onset
    if abs(off) > wanted.tolerance:
        reasons.append(
            f"the surface state begins at {1e3 * values['onset']:.0f} mV, "
            f"{1e3 * abs(off):.0f} mV off"
        )
    if values["onset_width"] > wanted.onset_width:
        reasons.append(
            f"the onset of the surface state is {1e3 * values['onset_width']:.0f} mV wide "
            f"(at most {1e3 * wanted.onset_width:.0f} mV)"
        )
    if values["roughness"] > wanted.roughness:
        reasons.append(
            f"the tip has states of its own: the spectrum deviates by "
            f"{100 * values['roughness']:.0f} % of the step "
            f"(at most {100 * wanted.roughness:.0f} %)"
        )
    if values["noise"] > wanted.noise:
        reasons.append(
            f"the tip is unstable: the current's noise is {100 * values['noise']:.1f} % "
            f"(at most {100 * wanted.noise:.1f} %)"
        )
    return reasons


def alike(before: TipVerdict, after: TipVerdict) -> bool:
    """Whether two checks found the same tip, as far as their numbers tell."""

    def ratio(name: str) -> float:
        first, second = getattr(before, name), getattr(after, name)
        if not (first > 0.0 and second > 0.0):
            return 1.0
        return float(max(first / second, second / first))

    def apart(name: str) -> float:
        first, second = getattr(before, name), getattr(after, name)
        return float(abs(first - second)) if math.isfinite(first - second) else 0.0

    error = math.hypot(before.onset_error, after.onset_error)
    return (
        ratio("edge") < 1.15
        and ratio("noise") < 1.5
        and apart("roughness") < 0.1
        and apart("height") < 0.4
        and not apart("onset") > max(0.015, 4.0 * error)
        and apart("second") < 0.08
        and apart("echo") < 0.15
    )


def same_echo(verdict: TipVerdict, earlier: list[TipVerdict], criteria: TipCriteria) -> bool:
    """Whether all that speaks against a tip is what another tip has shown at the same place.

    Two adsorbates that happen to lie side by side look like a double tip, in every image and under
    every tip. A second apex goes when the tip changes.

    Parameters
    ----------
    verdict : TipVerdict
        On the tip.
    earlier : list of TipVerdict
        What was found in images of the same frame before.
    criteria : TipCriteria
        What the verdicts went by.
    """
    if len(verdict.reasons) != 1 or not verdict.echo > criteria.echo:
        return False
    if verdict.second > criteria.second:
        # Then the one reason is the step.
        return False

    def there(other: TipVerdict) -> bool:
        return (
            not alike(other, verdict)
            and other.echo > criteria.echo
            and min(
                math.hypot(
                    other.echo_dx - sign * verdict.echo_dx, other.echo_dy - sign * verdict.echo_dy
                )
                for sign in (1.0, -1.0)
            )
            < _SAME
        )

    return any(there(other) for other in earlier)
