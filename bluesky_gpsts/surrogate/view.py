"""What an optimizer knows and says, without changing it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .grid import Grid
from .loop import measured_data
from .model import SurfaceModel
from .points import ID
from .records import Decision, Ledger
from .scaling import Scaling, noise_variances
from .settings import Settings
from .stopping import estimated_correlation
from .threads import single_thread

FloatArray = npt.NDArray[np.float64]


class MapView:
    """Settings, points and model of an optimizer, to look at.

    Parameters
    ----------
    settings : Settings
        How the optimizer was set up.
    ledger : Ledger
        The points that it knows.
    model : SurfaceModel
        Its Gaussian process.
    """

    def __init__(self, settings: Settings, ledger: Ledger, model: SurfaceModel) -> None:
        self.settings = settings
        self._ledger = ledger
        self._model = model

    @property
    def grid(self) -> Grid:
        """The candidates."""
        return self.settings.grid

    def get_best_points(self) -> list[tuple[Any, dict[str, float], dict[str, float]]]:
        """Return the point with the highest outcome as ``[(id, parameters, outcomes)]``.

        The list is empty before the first outcome. Coordinates are in metres.
        """
        if not self._ledger.measured:
            return []
        best = max(self._ledger.measured, key=lambda measurement: measurement.value)
        position = dict(zip(self.settings.parameters, (best.x, best.y), strict=True))
        return [(best.id, position, {self.settings.outcome: best.value})]

    @property
    def n_points(self) -> int:
        """Number of outcomes."""
        return len(self._ledger.measured)

    @property
    def gp(self) -> Any:
        """The ``GPOptimizer`` of gpCAM, or None before the first outcome.

        Positions in fractions of the frame, outcomes standardised with ``scaling``.
        """
        return self._model.gp

    @property
    def scaling(self) -> Scaling:
        """How outcomes are standardised for the model."""
        return self._model.scaling

    @property
    def hyperparameters(self) -> FloatArray:
        """Signal variance, two lengths (metres), prior mean; unit of the outcome: shape (4,)."""
        return self._model.hyperparameters

    @property
    def noise_variances(self) -> FloatArray:
        """Noise variances that the model works with, unit of the outcome squared: shape (N,)."""
        return noise_variances(
            measured_data(self.grid, self._ledger).variances, self.scaling.default_variance
        )

    def explain(self, identifier: int) -> Decision:
        """Return why a point was suggested.

        Raises
        ------
        ValueError
            If no such point was suggested.
        """
        try:
            return self._ledger.decisions[identifier]
        except (KeyError, TypeError):
            raise ValueError(
                f"There is no decision for point {identifier!r}; give the '{ID}' of a suggestion."
            ) from None

    def map_record(self) -> dict[str, Any]:
        """Return what `posterior_maps` needs to compute the map as it is, beside the outcomes.

        Returns
        -------
        dict
            ``hyperparameters`` (4,), ``default_noise_variance``, ``n_data``, ``trained`` and
            ``structure``, as a `Decision` has them.

        Raises
        ------
        ValueError
            If there is no outcome yet.
        """
        self._require_data()
        return {
            "hyperparameters": self.hyperparameters,
            "default_noise_variance": self.scaling.default_variance,
            "n_data": float(self.n_points),
            "trained": float(self._model.trained),
            "structure": self._model.structure_document(),
        }

    def mean_map(self) -> FloatArray:
        """Posterior mean: shape (ny, nx), row 0 at the bottom, unit of the outcome.

        Raises
        ------
        ValueError
            If there is no outcome yet.
        """
        self._require_data()
        return self.grid.as_map(self._model.mean)

    def std_map(self) -> FloatArray:
        """Posterior standard deviation, like `mean_map`."""
        self._require_data()
        return self.grid.as_map(np.sqrt(self._model.variance))

    def estimated_correlation(self) -> float:
        """Pearson's r to expect between `mean_map` and the surface without noise, 0 to 1.

        From the posterior alone; see `bluesky_gpsts.surrogate.stopping`.

        Raises
        ------
        ValueError
            If there is no outcome yet.
        """
        self._require_data()
        with single_thread():
            return estimated_correlation(self._model)

    @property
    def uses_structure(self) -> bool:
        """Whether the structure that was given is in use; the outcomes can speak against it."""
        return self._model.fit.uses_structure

    def _require_data(self) -> None:
        if not self._ledger.measured:
            raise ValueError("There is no map before the first outcome; ingest one first.")
