"""Soft devices that carry a plan's own results into its events."""

import math
from typing import Any

import numpy as np
from ophyd import Component as Cpt
from ophyd import Device

from bluesky_gpsts.devices.signals import ArraySignal, Quantity

__all__ = [
    "ClassRecord",
    "DecisionRecord",
    "DriftRecord",
    "FlagRecord",
    "MapRecord",
    "MeritRecord",
    "ReferenceRecord",
    "StructureRecord",
    "SurveyRecord",
]


class _Record(Device):
    """A device whose data keys are the plain names of its signals."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for attribute in self.component_names:
            getattr(self, attribute).name = attribute


class MeritRecord(_Record):
    """Figure of merit of a spectrum, and the variance of its noise."""

    figure_of_merit = Cpt(Quantity, value=0.0, units="A", precision=15, kind="hinted")
    figure_of_merit_variance = Cpt(Quantity, value=0.0, units="A^2", kind="normal")


class DecisionRecord(_Record):
    """Why a point was chosen; NaN where the optimizer does not tell."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hyperparameters.put(np.full(4, math.nan))

    decision_id = Cpt(Quantity, value=0.0)
    primary_seq_num = Cpt(Quantity, value=0.0)
    x = Cpt(Quantity, value=0.0, units="m")
    y = Cpt(Quantity, value=0.0, units="m")
    acquisition_value = Cpt(Quantity, value=math.nan)
    posterior_mean = Cpt(Quantity, value=math.nan, units="A")
    posterior_std = Cpt(Quantity, value=math.nan, units="A")
    hyperparameters = Cpt(ArraySignal)
    default_noise_variance = Cpt(Quantity, value=math.nan, units="A^2")
    n_data = Cpt(Quantity, value=math.nan)
    trained = Cpt(Quantity, value=math.nan)
    reason = Cpt(Quantity, value="")
    structure = Cpt(Quantity, value="")
    failure = Cpt(Quantity, value="")
    seconds_deciding = Cpt(Quantity, value=0.0, units="s")
    seconds_instrument = Cpt(Quantity, value=0.0, units="s")
    seconds_cycle = Cpt(Quantity, value=0.0, units="s")


class MapRecord(_Record):
    """What the map after all spectra depends on, beside the spectra."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hyperparameters.put(np.full(4, math.nan))

    hyperparameters = Cpt(ArraySignal)
    default_noise_variance = Cpt(Quantity, value=math.nan, units="A^2")
    n_data = Cpt(Quantity, value=math.nan)
    trained = Cpt(Quantity, value=math.nan)
    structure = Cpt(Quantity, value="")


class ClassRecord(_Record):
    """Class of a spectrum, as `bluesky_gpsts.callbacks.Classified` describes it."""

    primary_seq_num = Cpt(Quantity, value=0.0)
    label = Cpt(Quantity, value="")
    probabilities = Cpt(ArraySignal)
    novelty = Cpt(Quantity, value=math.nan)
    model = Cpt(Quantity, value="")
    seconds_waiting = Cpt(Quantity, value=0.0, units="s")
    seconds_working = Cpt(Quantity, value=0.0, units="s")
    problem = Cpt(Quantity, value="")


class FlagRecord(_Record):
    """A spectrum that was taken back, after how many spectra, and why."""

    primary_seq_num = Cpt(Quantity, value=0.0)
    after = Cpt(Quantity, value=0.0)
    reason = Cpt(Quantity, value="")


class ReferenceRecord(_Record):
    """A spectrum taken again: which one, after how many, why just then, and how it compares."""

    primary_seq_num = Cpt(Quantity, value=0.0)
    after = Cpt(Quantity, value=0.0)
    changed = Cpt(Quantity, value=0)
    cause = Cpt(Quantity, value="")
    probability = Cpt(Quantity, value=math.nan)
    ratio = Cpt(Quantity, value=math.nan)
    gain = Cpt(Quantity, value=math.nan)


class StructureRecord(_Record):
    """What a topograph or a library prior is made of, which decisions name by its checksum."""

    structure_images = Cpt(ArraySignal)


class DriftRecord(_Record):
    """A drift check: what was seen, where the sample is by it, and what was done."""

    image = Cpt(ArraySignal, units="m")
    primary_seq_num = Cpt(Quantity, value=0.0)
    seconds = Cpt(Quantity, value=0.0, units="s")
    center_x = Cpt(Quantity, value=0.0, units="m", precision=12)
    center_y = Cpt(Quantity, value=0.0, units="m", precision=12)
    offset_x = Cpt(Quantity, value=0.0, units="m", precision=12)
    offset_y = Cpt(Quantity, value=0.0, units="m", precision=12)
    offset_z = Cpt(Quantity, value=0.0, units="m", precision=12)
    sigma_x = Cpt(Quantity, value=math.nan, units="m", precision=12)
    sigma_y = Cpt(Quantity, value=math.nan, units="m", precision=12)
    predicted_x = Cpt(Quantity, value=0.0, units="m", precision=12)
    predicted_y = Cpt(Quantity, value=0.0, units="m", precision=12)
    velocity_x = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    velocity_y = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    velocity_z = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    compensated_x = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    compensated_y = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    compensated_z = Cpt(Quantity, value=0.0, units="m/s", precision=15)
    confidence = Cpt(Quantity, value=math.nan)
    jumps = Cpt(Quantity, value=0.0)
    ok = Cpt(Quantity, value=1)
    reason = Cpt(Quantity, value="")
    action = Cpt(Quantity, value="")


class SurveyRecord(_Record):
    """Plane-corrected topograph."""

    topography = Cpt(ArraySignal, units="m")
