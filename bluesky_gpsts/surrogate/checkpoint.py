"""The state of an optimizer as JSON: everything needed to go on, and nothing to unpickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .acquisition import Acquisition, Cost
from .fit import Fit
from .loop import measured_data
from .model import SurfaceModel
from .records import Ledger
from .settings import Settings
from .threads import single_thread

VERSION = 3


def make_model(settings: Settings) -> SurfaceModel:
    """Return the model that the settings describe, without data."""
    return SurfaceModel(
        settings.grid,
        settings.kernel,
        settings.prior,
        settings.relative_noise,
        settings.structure,
        settings.components,
    )


def to_state(settings: Settings, ledger: Ledger, model: SurfaceModel) -> dict[str, Any]:
    """Return a dict that JSON can hold."""
    return {
        "version": VERSION,
        "settings": settings.to_json(),
        "points": ledger.to_json(),
        "fit": model.fit.to_json(),
        "training_due": model.training_due,
    }


def from_state(
    state: Mapping[str, Any],
    acquisition: Acquisition | None = None,
    cost: Cost | None = None,
) -> tuple[Settings, Ledger, SurfaceModel]:
    """Undo `to_state`, with the training that was under way begun again.

    Raises
    ------
    ValueError
        If the state is of another version or damaged, or its acquisition function has no name
        here and is not given.
    """
    if state.get("version") != VERSION:
        raise ValueError(
            f"The state has version {state.get('version')!r} and this release reads version "
            f"{VERSION}; ingest the measured points into a new optimizer instead."
        )
    try:
        settings = Settings.from_json(state["settings"], acquisition, cost)
        ledger = Ledger.from_json(state["points"])
        model = make_model(settings)
        if ledger.measured:
            data = measured_data(settings.grid, ledger)
            with single_thread():
                model.load(data, Fit.from_json(state["fit"]))
            if state["training_due"]:
                model.train(data, background=True)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The state is damaged ({type(error).__name__}: {error}); ingest the measured points "
            "into a new optimizer instead."
        ) from error
    return settings, ledger, model


def write_json(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file so that, whatever happens, either the old or the new one is there whole.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(state, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises
    ------
    ValueError
        If it is not JSON or not an object.
    OSError
        If it cannot be read.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint of an optimizer: {error}.") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint of an optimizer: it holds no JSON object.")
    return state
