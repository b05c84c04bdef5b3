"""Chooses where to take the next spectrum: gpCAM over the pixels of a frame."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .acquisition import Acquisition, Cost
from .checkpoint import make_model
from .checks import require_count
from .grid import Grid
from .kept import KeptOptimizer
from .loop import choose, decide, free_candidates, learn, measured_data, stop_reason
from .points import ID, SPECTRUM, is_suggested, read_point, read_points, read_position
from .records import Ledger, Measurement
from .settings import TRAIN_AT, Settings
from .structures import Structure
from .threads import single_thread
from .training import Prior


class MapOptimizer(KeptOptimizer):
    """Maps an outcome over a frame with as few measurements as possible.

    It has the methods of bluesky-adaptive 1.0's protocols ``Optimizer``,
    ``SupportsStoppingCriteria``, ``Checkpointable``, ``TrialFaultAware`` and
    ``CanRegisterSuggestions``. One thread at a time may call it. The same seed and the same
    outcomes give the same suggestions.

    Parameters
    ----------
    grid : Grid
        The candidates.
    parameters : tuple of str
        Keys of the two coordinates in suggestions and points (sample coordinates, metres).
    outcome : str
        Key of the outcome in points, in any unit. ``"<outcome>_variance"`` is the key of its
        noise variance, in that unit squared.
    kernel : str
        ``"matern-1/2"``, ``"matern-3/2"`` or ``"matern-5/2"``.
    acquisition : str or callable
        A name of `ACQUISITIONS`, ``"module:function"``, or a function of posterior mean and
        variance, each of shape (M,), to scores of shape (M,); with a third parameter it gets a
        `Candidates` there.
    n_initial : int, optional
        Number of first points that only fill the frame; 8 unless given, and 4 with a structure.
    seed : int
        Seed of those points.
    train_at : sequence of int
        Numbers of outcomes at which the hyperparameters are trained.
    relative_noise : float
        Standard deviation of the noise as a fraction of the range of the outcomes, for outcomes
        that come without a variance.
    prior : Prior
        Prior on the hyperparameters.
    max_points : int, optional
        Budget: stop after this many points, failed ones included.
    target_std : float, optional
        Stop when the posterior standard deviation, averaged over the map, is at most this
        fraction of the range of the map.
    min_points : int, optional
        Outcomes to have before ``target_std`` can stop; ``n_initial`` unless given.
    checkpoint_path : path, optional
        JSON file that `checkpoint` writes.
    structure : Symmetry, Lattice, Topograph or Library, optional
        What is known about the surface, mostly from the survey image. It is used unless the
        outcomes speak against it.
    cost : str or callable, optional
        ``"distance"``, ``"module:function"``, or a function of the last position (2,) and all
        candidates (M, 2), in metres, to costs (M,), by which scores are divided. Those of
        candidates that may be chosen must be above zero.
    target_range : tuple of float, optional
        Range (low, high) of outcomes that ``"target probability"`` looks for, in the unit of the
        outcome.
    target_correlation : float, optional
        Stop when `estimated_correlation` is at least this, between 0 and 1.
    background : bool
        Train in a thread beside the measurement; the result is brought into use with the next
        outcome. Otherwise `ingest` waits for it.
    components : int
        Largest number of principal components of whole spectra that share the covariance with
        the outcome: the map is then good at every bias. Each point has its ``"spectrum"``; 0 for
        outcomes alone.

    Raises
    ------
    ValueError
        If an argument is not among those allowed.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        parameters: tuple[str, str] = ("x", "y"),
        outcome: str = "figure_of_merit",
        kernel: str = "matern-5/2",
        acquisition: str | Acquisition = "variance",
        n_initial: int | None = None,
        seed: int = 0,
        train_at: Sequence[int] = TRAIN_AT,
        relative_noise: float = 0.03,
        prior: Prior = Prior(),  # noqa: B008 - it is frozen
        max_points: int | None = None,
        target_std: float | None = None,
        min_points: int | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
        structure: Structure | None = None,
        cost: str | Cost | None = None,
        target_range: tuple[float, float] | None = None,
        target_correlation: float | None = None,
        background: bool = True,
        components: int = 0,
    ) -> None:
        if n_initial is None:
            n_initial = 8 if structure is None else 4
        settings = Settings(
            grid=grid,
            parameters=tuple(parameters),  # type: ignore[arg-type]
            outcome=outcome,
            kernel=kernel,
            acquisition=acquisition,
            n_initial=n_initial,
            seed=seed,
            train_at=tuple(train_at),
            relative_noise=relative_noise,
            prior=prior,
            max_points=max_points,
            target_std=target_std,
            min_points=n_initial if min_points is None else min_points,
            structure=structure,
            cost=cost,
            target_range=target_range,
            target_correlation=target_correlation,
            background=background,
            components=components,
        )
        super().__init__(settings, Ledger(), make_model(settings), checkpoint_path)

    # ---- Optimizer

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """Suggest points that are neither measured, failed nor under way.

        Parameters
        ----------
        num_points : int, optional
            How many; 1 unless given.

        Returns
        -------
        list of dict
            Each has ``"_id"`` (int) and the two coordinates in metres, sample coordinates.

        Raises
        ------
        ValueError
            If ``num_points`` is not a positive whole number, or exceeds the candidates left.
        """
        count = 1 if num_points is None else num_points
        require_count("num_points", count, 1)
        free = free_candidates(self.grid, self._ledger)
        left = int(np.count_nonzero(free))
        if count > left:
            raise ValueError(
                f"{count} points were asked for and {left} of {self.grid.size} candidates are "
                "left; should_stop() tells when to end, and a finer grid has more candidates."
            )
        suggestions = []
        with single_thread():
            for _ in range(count):
                decision = choose(self.settings, self._ledger, self._model, free)
                free[decision.index] = False
                x, y = (float(coordinate) for coordinate in self.grid.xy[decision.index])
                self._ledger.give_out(decision, x, y)
                suggestions.append({ID: decision.id, **self._named(x, y)})
        return suggestions

    def _named(self, x: float, y: float) -> dict[str, Any]:
        return dict(zip(self.settings.parameters, (x, y), strict=True))

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Take in outcomes. Either all points are taken or, on an error, none.

        Parameters
        ----------
        points : sequence of mapping
            Each has the outcome, and the whole ``"spectrum"`` where components are modelled. It may
            have the variance of the outcome and the coordinates at which it was
            measured (up to 5 % of the frame outside it). With ``"_id"`` it is the outcome of
            that suggestion, at the suggested position unless coordinates are given. Without, or
            with ``"baseline"``, it is a measurement from elsewhere and has its coordinates.

        Raises
        ------
        ValueError
            If an id is unknown or has an outcome already, if a number is missing, not finite,
            negative where it must not be or of a size that no unit explains (above 1e60), or if a
            position is outside the frame.
        """
        new_id = self._ledger.next_id
        fresh: dict[int, Measurement] = {}
        for point in read_points(points):
            measurement = read_point(point, self.settings, self._ledger, new_id)
            if self._ledger.has_outcome(measurement.id) or measurement.id in fresh:
                raise ValueError(
                    f"Point {measurement.id} has an outcome already; for a repeated measurement "
                    f"leave out '{ID}' and give the coordinates."
                )
            new_id = max(new_id, measurement.id + 1)
            fresh[measurement.id] = measurement
        for measurement in fresh.values():
            self._ledger.take(measurement)
        if fresh:
            with single_thread():
                learn(self.settings, self._ledger, self._model)

    def retract(self, identifiers: Sequence[int]) -> None:
        """Take outcomes back that turned out wrong; their places may be suggested again.

        Parameters
        ----------
        identifiers : sequence of int
            The ``"_id"`` of each.

        Raises
        ------
        ValueError
            If one has no outcome, or none would be left; nothing is taken back then.
        """
        for identifier in identifiers:
            if not self._ledger.has_outcome(identifier):
                raise ValueError(f"Point {identifier!r} has no outcome to take back.")
        if len(set(identifiers)) == len(self._ledger.measured):
            raise ValueError("All outcomes would be taken back; start a new optimizer instead.")
        self._ledger.forget(identifiers)
        with single_thread():
            self._model.reload(measured_data(self.grid, self._ledger))

    def inform(self, identifier: int, probabilities: npt.ArrayLike, novelty: float) -> None:
        """Take in the class of a spectrum, for acquisition functions that know of classes.

        Parameters
        ----------
        identifier : int
            The ``"_id"`` of the suggestion.
        probabilities : array_like, shape (K,)
            Probability of each class, always of the same ones.
        novelty : float
            0 to 1: whether it is of none of them.

        Raises
        ------
        ValueError
            If there is no such point, or a number is not between 0 and 1.
        """
        found = np.atleast_1d(np.asarray(probabilities, dtype=float))
        if identifier not in self._ledger.positions:
            raise ValueError(f"Point {identifier!r} was never suggested by this optimizer.")
        shapes = {p.shape for p, _ in self._ledger.classes.values()} or {found.shape}
        values = np.append(found, novelty)
        if found.ndim != 1 or shapes != {found.shape} or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"Point {identifier!r}: the class is {found.tolist()} with the novelty "
                f"{novelty!r}; give probabilities of the same classes as before, and a novelty, "
                "all between 0 and 1."
            )
        self._ledger.classes[identifier] = (found, float(novelty))

    # ---- CanRegisterSuggestions, TrialFaultAware, SupportsStoppingCriteria

    def register_suggestions(
        self, suggestions: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Give an id to points that somebody else chose, and expect their outcomes.

        Parameters
        ----------
        suggestions : sequence of mapping
            Each has the two coordinates in metres, inside the frame.

        Returns
        -------
        list of dict
            The same with ``"_id"``.

        Raises
        ------
        ValueError
            If a coordinate is missing, not finite or outside the frame.
        """
        suggestions = read_points(suggestions)
        positions = [read_position(point, self.settings) for point in suggestions]
        registered = []
        for point, (x, y) in zip(suggestions, positions, strict=True):
            index = self.grid.index_of(x, y)
            decision = decide(self._ledger, self._model, index, math.nan, "requested")
            self._ledger.give_out(decision, x, y)
            registered.append({**point, ID: decision.id})
        return registered

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Record that points could not be measured; they are not suggested again.

        Parameters
        ----------
        suggestions : sequence of mapping
            Each has the ``"_id"`` of a suggestion.

        Raises
        ------
        ValueError
            If an id is missing or unknown, or has an outcome.
        """
        suggestions = read_points(suggestions)
        for point in suggestions:
            if not is_suggested(point, self._ledger) or self._ledger.has_outcome(point[ID]):
                raise ValueError(
                    f"Point {dict(point)!r} cannot have failed: its '{ID}' is not that of a "
                    "suggestion without an outcome. Pass what suggest() returned."
                )
        for point in suggestions:
            self._ledger.fail(int(point[ID]))

    def should_stop(self) -> tuple[bool, str | None]:
        """Tell whether to end, and why.

        Returns
        -------
        stop : bool
            True if the budget is spent, the map is as certain as wanted or no candidate is left.
        reason : str or None
            A few words, or None if not to stop.
        """
        reason = stop_reason(self.settings, self._ledger, self._model)
        return reason is not None, reason

    def replay(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        values: npt.ArrayLike,
        variances: npt.ArrayLike,
        spectra: npt.ArrayLike | None = None,
        retracted: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Rebuild the state of a run from its documents; the next suggestion is then the same.

        Parameters
        ----------
        x, y : array_like, shape (N,)
            Positions in sample coordinates, in metres, in the order of the run.
        values : array_like, shape (N,)
            Outcomes; one that is not finite was a failed point.
        variances : array_like, shape (N,)
            Their noise variances; NaN where there was none.
        spectra : array_like, shape (N, n), optional
            The spectra, where components are modelled.
        retracted : mapping, optional
            After so many outcomes, failed ones included, those of these numbers (from 0) were
            taken back.

        Raises
        ------
        ValueError
            If this optimizer has points already, the arrays do not fit together, or a position is
            outside the frame.
        """
        table = np.array([np.atleast_1d(column) for column in (x, y, values, variances)], float)
        if self._ledger.positions:
            raise ValueError("This optimizer has points already; replay a run into a new one.")
        whole = None if spectra is None else np.asarray(spectra, dtype=float)
        if whole is not None and len(whole) != table.shape[1]:
            raise ValueError(f"There are {len(whole)} spectra for {table.shape[1]} outcomes.")
        for number, (u, v, value, variance) in enumerate(table.T.tolist()):
            if retracted and number in retracted:
                self.retract(retracted[number])
            (point,) = self.register_suggestions([self._named(u, v)])
            if not math.isfinite(value):
                self.register_failures([point])
                continue
            if math.isfinite(variance):
                point[f"{self.settings.outcome}_variance"] = variance
            if whole is not None:
                point[SPECTRUM] = whole[number]
            self.ingest([{**point, self.settings.outcome: value}])
        if retracted and table.shape[1] in retracted:
            self.retract(retracted[table.shape[1]])
