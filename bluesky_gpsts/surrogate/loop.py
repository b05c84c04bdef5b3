"""The steps of the loop: learn from what was measured, choose what to measure, tell when to end."""

import math

import numpy as np
import numpy.typing as npt

from .design import space_filling
from .fit import Data
from .grid import Grid
from .model import SurfaceModel
from .naming import Named
from .records import Decision, Ledger
from .scores import get_acquisition, get_cost
from .settings import Settings
from .stopping import estimated_correlation

FloatArray = npt.NDArray[np.float64]


# Without training, the scaling is kept from so many outcomes on.
_SCALED = 50


def free_candidates(grid: Grid, ledger: Ledger) -> npt.NDArray[np.bool_]:
    """Candidates that may still be suggested: shape (M,)."""
    free = np.ones(grid.size, dtype=bool)
    if len(ledger.spots):
        free[grid.nearest(grid.to_unit(ledger.spots))] = False
    return free


def measured_data(grid: Grid, ledger: Ledger) -> Data:
    """Return all outcomes as the model takes them."""
    table = ledger.table.copy()
    return Data(grid.to_unit(table[:, :2]), table[:, 2], table[:, 3], ledger.spectra)


def learn(settings: Settings, ledger: Ledger, model: SurfaceModel) -> None:
    """Bring the model up to date with the ledger.

    It is trained if one of ``train_at`` was passed, and with the last outcome of the budget.
    """
    data = measured_data(settings.grid, ledger)
    before, now = len(model), len(data)
    if model.trained or model.training_due or before >= _SCALED:
        model.append(data)
    else:
        # Before the first training the scaling of so few outcomes is still moving.
        model.refit(data)
    passed = any(before < count <= now for count in settings.train_at)
    if passed or (model.trained and model.fit.n < now and _spent(settings, ledger)):
        # After the last outcome nothing is measured meanwhile, and no other brings the result in.
        model.train(data, background=settings.background and not _spent(settings, ledger))


def _spent(settings: Settings, ledger: Ledger) -> bool:
    """Whether the budget allows no further point."""
    taken = len(ledger.measured) + len(ledger.failed)
    return settings.max_points is not None and taken >= settings.max_points


def choose(
    settings: Settings, ledger: Ledger, model: SurfaceModel, free: npt.NDArray[np.bool_]
) -> Decision:
    """Choose the next point among the `free_candidates`.

    Raises
    ------
    ValueError
        If no candidate is left, or a function of the user misbehaves.
    """
    grid = settings.grid
    if not ledger.measured or len(ledger.measured) + len(ledger.pending) < settings.n_initial:
        if not free.any():
            raise ValueError("No candidate is left to choose from.")
        index = next(i for i in space_filling(grid, settings.seed) if free[i])
        return decide(ledger, model, index, math.nan, "initial design", with_posterior=False)
    under_way = np.array([ledger.positions[i] for i in ledger.pending]).reshape(-1, 2)
    index, score = model.best(
        get_acquisition(settings.acquisition),
        free,
        grid.to_unit(under_way),
        target=settings.target_range,
        cost=None if settings.cost is None else get_cost(settings.cost),
        origin=ledger.spots[-1].copy(),
        named=named(grid, ledger, model),
    )
    return decide(ledger, model, index, score, settings.acquisition_name)


def named(grid: Grid, ledger: Ledger, model: SurfaceModel) -> Named | None:
    """Return the spectra that a classifier has named; None if there are none."""
    if not ledger.classes:
        return None
    xy = np.array([ledger.positions[identifier] for identifier in ledger.classes])
    probabilities = np.array([p for p, _ in ledger.classes.values()])
    novelty = np.array([n for _, n in ledger.classes.values()])
    return Named(grid.to_unit(xy), probabilities, novelty, model.fit.hyperparameters[1:3])


def decide(
    ledger: Ledger,
    model: SurfaceModel,
    index: int,
    score: float,
    reason: str,
    *,
    with_posterior: bool = True,
) -> Decision:
    """Describe the choice of a candidate with the model as it is."""
    known = len(model) > 0
    mean, std = model.at(index) if known and with_posterior else (math.nan, math.nan)
    return Decision(
        id=ledger.next_id,
        index=index,
        acquisition_value=score,
        posterior_mean=mean,
        posterior_std=std,
        hyperparameters=model.hyperparameters if known else np.full(4, np.nan),
        default_noise_variance=model.scaling.default_variance if known else math.nan,
        n_data=len(model),
        trained=model.trained,
        reason=reason,
        structure=model.structure_document() if known else "",
    )


def stop_reason(settings: Settings, ledger: Ledger, model: SurfaceModel) -> str | None:
    """Why to end, in a few words, or None if not to."""
    measured, failed = len(ledger.measured), len(ledger.failed)
    budget = settings.max_points
    if budget is not None and measured + failed >= budget:
        return f"budget of {budget} points spent, {failed} of them failed"
    if not free_candidates(settings.grid, ledger).any():
        return f"all {settings.grid.size} candidates are measured, failed or under way"
    if settings.target_std is not None and measured >= settings.min_points:
        span = float(np.ptp(model.mean))
        average = float(np.sqrt(model.variance).mean())
        if average <= settings.target_std * span:
            return (
                f"mean standard deviation is {average / span:.3g} of the map's range, "
                f"wanted {settings.target_std:g}"
            )
    wanted = settings.target_correlation
    if wanted is not None and measured >= settings.min_points:
        estimate = estimated_correlation(model)
        if estimate >= wanted:
            return (
                f"estimated correlation of the map with the truth is {estimate:.3f}, "
                f"wanted {wanted:g}"
            )
    return None
