"""An optimizer that can be kept and made again: checkpoints, states, settings."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from .acquisition import Acquisition, Cost
from .checkpoint import from_state, make_model, read_json, to_state, write_json
from .model import SurfaceModel
from .records import Ledger
from .settings import Settings
from .view import MapView


class KeptOptimizer(MapView):
    """What an optimizer knows, in a form that outlives the process.

    Parameters
    ----------
    settings : Settings
        How the optimizer was set up.
    ledger : Ledger
        The points that it knows.
    model : SurfaceModel
        Its Gaussian process.
    checkpoint_path : path, optional
        JSON file that `checkpoint` writes.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        model: SurfaceModel,
        checkpoint_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(settings, ledger, model)
        self.checkpoint_path = None if checkpoint_path is None else Path(checkpoint_path)

    # ---- Checkpointable

    def checkpoint(self) -> None:
        """Write the state to ``checkpoint_path``; an older file is replaced in one step.

        Raises
        ------
        ValueError
            If no ``checkpoint_path`` was given.
        OSError
            If the file cannot be written.
        """
        if self.checkpoint_path is None:
            raise ValueError(
                "There is nowhere to write a checkpoint; give checkpoint_path to MapOptimizer."
            )
        write_json(self.checkpoint_path, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything needed to go on, as a dict that JSON can hold."""
        return to_state(self.settings, self._ledger, self._model)

    @classmethod
    def from_settings(
        cls,
        described: Mapping[str, Any],
        *,
        images: npt.ArrayLike | None = None,
        max_points: int | None = None,
    ) -> Self:
        """Make an optimizer without points from what ``settings.describe()`` returned.

        Parameters
        ----------
        described : mapping
            The settings, as the start document of a run has them.
        images : array_like, optional
            The topograph or the maps that its structure is made of.
        max_points : int, optional
            Another budget.

        Raises
        ------
        ValueError
            If the settings are damaged, or have a function without a name that can be found.
        """
        try:
            settings = Settings.from_json(described, images=images)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"The settings are damaged ({type(error).__name__}: {error})."
            ) from error
        if max_points is not None:
            settings = replace(settings, max_points=max_points)
        optimizer = cls.__new__(cls)
        KeptOptimizer.__init__(optimizer, settings, Ledger(), make_model(settings))
        return optimizer

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        *,
        acquisition: Acquisition | None = None,
        cost: Cost | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Go on from `state`.

        Points that were under way are free again; their ids are not given out twice.

        Parameters
        ----------
        state : mapping
            What `state` returned.
        acquisition : callable, optional
            The acquisition function, where it was not one of those with a name.
        cost : callable, optional
            The cost function, likewise.
        checkpoint_path : path, optional
            As for the constructor.

        Raises
        ------
        ValueError
            If the state is of another version or damaged, or its acquisition function has no
            name here and is not given.
        """
        optimizer = cls.__new__(cls)
        rebuilt = from_state(state, acquisition, cost)
        KeptOptimizer.__init__(optimizer, *rebuilt, checkpoint_path)
        return optimizer

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        acquisition: Acquisition | None = None,
        cost: Cost | None = None,
    ) -> Self:
        """Go on from a file that `checkpoint` wrote, and write further ones to it.

        Raises
        ------
        ValueError
            If the file is not a checkpoint of this version; see `from_state`.
        OSError
            If it cannot be read.
        """
        state = read_json(Path(path))
        return cls.from_state(state, acquisition=acquisition, cost=cost, checkpoint_path=path)
